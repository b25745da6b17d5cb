"""Every drafter that a spec can name is in one of the ratchets."""

from pair_ratchet import SIDES
from ratchet import DRAFTERS

from draftwood.drafters.catalog import DRAFTERS as CATALOG


def test_every_drafter_of_the_catalog_is_in_a_ratchet():
    held = {spec.partition(":")[0] for spec in DRAFTERS} | {side.spec for side in SIDES.values()}
    assert held | {"none"} == set(CATALOG)
