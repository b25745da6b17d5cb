"""The native tests, built and run under AddressSanitizer and UndefinedBehaviorSanitizer."""

import subprocess
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def test_native_tests_pass_under_address_and_undefined_sanitizers(tmp_path: Path) -> None:
    run(
        *("cmake", "-S", str(REPO), "-B", str(tmp_path), "-G", "Ninja"),
        *("-DDRAFTWOOD_PYTHON=OFF", "-DDRAFTWOOD_TESTS=ON", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"),
        "-DDRAFTWOOD_SANITIZE=address,undefined",
    )
    run("cmake", "--build", str(tmp_path))
    report = run("ctest", "--test-dir", str(tmp_path), "--output-on-failure", "--no-tests=error")
    assert "100% tests passed" in report
