"""Where regions of memory may lie."""

import pytest

from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import Cause
from lutcore.sw.program.rules import region_problem

GOOD = {region: (64 * region, 64) for region in Region}


def test_regions_that_fit() -> None:
    assert region_problem(GOOD) is None
    assert region_problem(GOOD | {Region.RESULTS: ((1 << 40) - 64, 64)}) is None


@pytest.mark.parametrize("region", Region)
@pytest.mark.parametrize(
    ("base", "size", "text"),
    [
        (32, 64, "begin at 0x20, not at a multiple of 64 below 2^40"),
        (1 << 40, 64, "begin at 0x10000000000, not at a multiple"),
        (0xFF_FFFF_FFC0, 0x180, "end at 0x10000000140, beyond 2^40"),
        ((1 << 40) - 64, 65, "end at 0x10000000001, beyond 2^40"),
    ],
)
def test_regions_that_do_not(region: Region, base: int, size: int, text: str) -> None:
    problem = region_problem(GOOD | {region: (base, size)})
    assert problem is not None and problem.cause is Cause.REGION
    assert text in problem.message and region.name.lower() in problem.message
