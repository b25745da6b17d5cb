"""`import draftwood` stays light."""

import subprocess
import sys

HEAVY = ["torch", "transformers", "tokenizers", "fastapi", "rich", "typer", "matplotlib"]


def test_importing_the_library_loads_numpy_and_nothing_heavier():
    code = (
        "import sys, draftwood; "
        f"print([name for name in {HEAVY!r} if name in sys.modules], 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"
