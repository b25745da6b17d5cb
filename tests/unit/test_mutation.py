"""The list of faults fits the tree: each can still be put in, and its tests are there."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def listed():
    spec = importlib.util.spec_from_file_location("faults", ROOT / "tests/mutation/faults.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["faults"] = module
    spec.loader.exec_module(module)
    return module.FAULTS


FAULTS = listed()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_can_be_put_in_and_names_tests_that_are_there(fault):
    text = (ROOT / fault.file).read_text()
    changed = fault.applied(text)
    assert changed != text
    if not fault.native:
        compile(changed, fault.file, "exec")
    assert fault.tests
    assert all((ROOT / test.partition("::")[0]).is_file() for test in fault.tests)


def test_names_differ():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_a_fault_that_no_longer_fits_says_so():
    with pytest.raises(ValueError, match="2 times; mend the fault"):
        type(FAULTS[0])("x", "f.py", "a", "b", ()).applied("a a")
