"""The page for engines: its code runs, from the first block to the last."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/engines.md"


def test_all_code_of_the_page_runs_in_its_order():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 7
    told = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), told)
    assert told["sessions"].failures == {}
    assert told["keys"] == ["request-1"]
    assert told["padded"].mask.shape == (1, 17, 17)
    assert told["chains"][0][:1] == [14]
