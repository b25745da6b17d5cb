"""The native code: its tests under sanitizers, and that other compilers and systems take it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
NATIVE = REPO / "native"
STRICT = ("-std=c++20", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
HEADERS = (f"-I{NATIVE / 'include'}", f"-I{NATIVE}", f"-I{NATIVE / 'src'}")


def run(*command: str, folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def test_native_tests_pass_under_address_and_undefined_sanitizers(tmp_path: Path) -> None:
    run(
        *("cmake", "-S", str(REPO), "-B", str(tmp_path), "-G", "Ninja"),
        *("-DDRAFTWOOD_PYTHON=OFF", "-DDRAFTWOOD_TESTS=ON", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"),
        *("-DDRAFTWOOD_SANITIZE=address,undefined", "-DDRAFTWOOD_WERROR=ON"),
    )
    run("cmake", "--build", str(tmp_path))
    report = run("ctest", "--test-dir", str(tmp_path), "--output-on-failure", "--no-tests=error")
    assert "100% tests passed" in report


def run_each(compile_one: tuple[str, ...], files: list[Path], folder: Path | None = None) -> None:
    assert files
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(lambda file: run(*compile_one, str(file), folder=folder), files))


@pytest.mark.skipif(shutil.which("clang++") is None, reason="clang++ is not installed")
def test_clang_takes_all_native_code_without_a_warning() -> None:
    found = find_spec("nanobind")
    if found is None or found.origin is None:
        folders = ("src", "tests", "fuzz")
        system: tuple[str, ...] = ()
    else:
        folders = ("src", "tests", "fuzz", "binding")
        nanobind = Path(found.origin).parent / "include"
        system = ("-isystem", str(nanobind), "-isystem", sysconfig.get_path("include"))
    files = [file for folder in folders for file in sorted((NATIVE / folder).glob("*.cpp"))]
    clang = ("clang++", "-fsyntax-only", "-fvisibility=hidden", *STRICT, *HEADERS, *system)
    run_each(clang, files)


@pytest.mark.skipif(find_spec("ziglang") is None, reason="the ziglang wheel is not installed")
@pytest.mark.parametrize("system", ["aarch64-linux-gnu", "aarch64-macos"])
def test_the_core_compiles_for_other_machines(system: str, tmp_path: Path) -> None:
    zig = (sys.executable, "-m", "ziglang", "c++", "-target", system, "-c", "-O0")
    sources = sorted((NATIVE / "src").glob("*.cpp"))
    run_each((*zig, *STRICT, *HEADERS), sources, tmp_path)
    assert len(list(tmp_path.glob("*.o"))) == len(sources)


def test_windows_is_refused_with_the_reason(tmp_path: Path) -> None:
    script = tmp_path / "windows.cmake"
    text = (REPO / "CMakeLists.txt").read_text()
    begin = text.index("if(WIN32)")
    script.write_text("set(WIN32 TRUE)\n" + text[begin : text.index("endif()", begin) + 8])
    done = subprocess.run(["cmake", "-P", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "does not build on Windows" in done.stderr
    assert "mmap" in done.stderr


def test_warnings_are_errors_in_the_gate_only(tmp_path: Path) -> None:
    run("cmake", "-S", str(REPO), "-B", str(tmp_path), "-G", "Ninja", "-DDRAFTWOOD_PYTHON=OFF")
    rules = (tmp_path / "build.ninja").read_text()
    assert "-Wconversion" in rules
    assert "-Werror" not in rules
