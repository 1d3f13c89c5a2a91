"""The rules of programs against those that the tests of FETCH go by."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import PROGRAM_MAX, Cause
from lutcore.sw.program.rules import check, region_problem
from lutcore.verif.kit.strategies import drawn
from lutcore.verif.oracles.fetch import END, draw_broken, draw_program, verdict_of

CONFIGS = [
    CoreConfig(rows=3, lanes=24, depth=2, planes=5),
    CoreConfig(rows=1, lanes=8, group=5, planes=3, ternary=True),
]


@settings(max_examples=100, deadline=None, print_blob=True)
@given(st.data(), st.sampled_from(CONFIGS))
def test_good_programs_have_no_problems(data, config):
    assert check(data.draw(drawn(draw_program, config, 24)), config) == []


@settings(max_examples=200, deadline=None, print_blob=True)
@given(st.data(), st.sampled_from(CONFIGS))
def test_the_first_problem_is_where_the_core_stops(data, config):
    words = data.draw(drawn(draw_broken, config))
    problem = check(words, config)[0]
    assert (problem.cause, problem.index) == verdict_of(words, config)


@pytest.mark.parametrize("length", [0, PROGRAM_MAX + 1])
def test_lengths(length: int) -> None:
    (problem,) = check([END] * length, CONFIGS[0])
    assert (problem.cause, problem.index) == (Cause.LENGTH, 0)
    assert f"not {length}" in problem.message


# Regions --------------------------------------------------------------------------------------

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
