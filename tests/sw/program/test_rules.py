"""The rules of programs against those that the tests of FETCH go by."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import PROGRAM_MAX, Cause
from lutcore.sw.program.rules import check
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
