"""Settings that hold for every test: offline, one thread, reproducible examples."""

import os
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session", autouse=True)
def one_seed():
    """Recall's random seeds are one and the same in a run: equal histories draft alike."""
    with pytest.MonkeyPatch.context() as patch:
        same = SimpleNamespace(randbits=lambda bits: 20_111)
        patch.setattr("draftwood.index.recall_ring.secrets", same)
        yield
