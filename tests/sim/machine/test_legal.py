"""What a legal program is: the checker on programs that are nearly so."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import PRESETS
from lutcore.hw.contract.isa import Cause
from lutcore.sim.machine.legal import check_execution, execution_problems
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.asm import AssemblyError, assemble, assemble_instructions, disassemble
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.memory import MemoryMap
from lutcore.sw.program.rules import check
from lutcore.verif.kit.strategies import cases, configs

TINY = PRESETS["tiny"]

#: Three blocks, each of a tile, of eight columns.
GOOD = """
    token w_free 2
    token s_free 2
    token x_free 2
    layer planes=1 per_plane=0 ternary=0 offset=0 wide=0 bias=0 group_size=8 exponent=-24 \
        last_lanes=8 last_rows=1 row_stride=32
    loop ldx k total=12 step=12 stride=0
    ldx base=0 level=0
    loop ldw n total=3 step=1 auto
    loop ldw k total=8 step=8 stride=0
    ldw base=0 scale_level=1 bias_level=1
    loop mma n total=3 step=1 stride=0
    loop mma k total=8 step=8 stride=0
    mma w_level=1 s_level=1 x_level=0 t_level=1
    loop sty n total=3 step=1 stride=32
    sty base=0
    end
"""


def words_of(text: str) -> list[int]:
    lines = text.replace("\\\n", " ").splitlines()
    for number, line in enumerate(lines):
        if line.split()[:1] == ["token"]:
            _, counter, count = line.split()
            lines[number] = f"token counter={counter} count={count}"
    return assemble_instructions("\n".join(lines), TINY)


def problems_of(old: str, new: str) -> list[tuple[int, Cause]]:
    assert GOOD.count(old) == 1
    words = words_of(GOOD.replace(old, new))
    assert not check(words, TINY)
    return [(problem.index, problem.cause) for problem in check_execution(words, TINY)]


def test_good() -> None:
    assert problems_of("end", "end") == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("token w_free 2", "token w_free 0", (8, Cause.DEADLOCK)),
        ("token w_free 2", "token w_free 1", None),
        ("token x_free 2", "token x_full 2", (5, Cause.DEADLOCK)),
        ("loop mma n total=3", "loop mma n total=2", (13, Cause.DEADLOCK)),
        ("mma n total=3 step=1 stride=0", "mma n total=3 step=1 auto", (9, Cause.OPERAND)),
        ("mma k total=8 step=8", "mma k total=9999 step=9999", (11, Cause.OPERAND)),
        ("t_level=1", "t_level=0", (11, Cause.OPERAND)),
        ("t_level=1", "t_level=5", None),
        ("x_level=0", "x_level=1", (11, Cause.DEADLOCK)),
        ("sty n total=3 step=1 stride=32", "sty n total=3 step=1 stride=8", (13, Cause.OPERAND)),
        ("sty n total=3 step=1", "sty n total=3 step=3", (13, Cause.OPERAND)),
        ("ldw k total=8 step=8", "ldw k total=4 step=4", (14, Cause.NONE)),
        ("ldw k total=8 step=8", "ldw k total=9999 step=9999", (8, Cause.OPERAND)),
        ("ldx k total=12 step=12", "ldx k total=4 step=4", (8, Cause.DEADLOCK)),
        ("ldx k total=12 step=12", "ldx k total=9999 step=9999", (5, Cause.OPERAND)),
        ("ldx base=0", "ldx base=2", (5, Cause.BOUNDS)),
    ],
)
def test_execution(old: str, new: str, problem: tuple[int, Cause] | None) -> None:
    """The first problem found, if any; `Cause.NONE` is one that the core does not notice."""
    found = problems_of(old, new)
    assert (found[0] if found else None) == problem


def test_a_slot_that_is_loaded_again_before_it_is_read() -> None:
    """Every LDW begins with slot 0: after three blocks that is the one that is read next."""
    again = """loop ldw n total=3 step=1 auto
        loop ldw k total=8 step=8 stride=0
        ldw base=0 scale_level=1 bias_level=1
        """
    text = GOOD.replace("mma n total=3", "mma n total=6").replace("sty n total=3", "sty n total=6")
    words = words_of(text.replace("loop sty", again + "loop sty"))
    problems = check_execution(words, TINY)
    assert problems[0].cause == Cause.NONE
    assert "is loaded while it is" in problems[0].message


#: The second LDW has a token for scales from the start, and comes to slot 0, where the first MMA
#: has its own. It also waits for a slot of biases, that of the last tile but one: SCALE may be
#: done with the last one by then, or not.
RACE = """
    token w_free 2
    token s_free 2
    token x_free 2
    token b_free 2
    layer planes=1 per_plane=0 ternary=0 offset=0 wide=0 bias=1 group_size=8 exponent=-24 \
        last_lanes=8 last_rows=1 row_stride=32
    loop ldx r total=5 step=1 auto
    loop ldx k total=12 step=12 stride=0
    ldx base=0 level=1
    loop ldw n total=4 step=1 auto
    loop ldw k total=8 step=8 stride=0
    ldw base=0 scale_level=0 bias_level=1
    loop mma n total=4 step=1 stride=0
    loop mma k total=8 step=8 stride=0
    mma w_level=1 s_level=0 x_level=1 t_level=1
    loop sty n total=4 step=1 stride=32
    sty base=0
    loop ldw k total=8 step=8 stride=0
    ldw base=0 scale_level=0 bias_level=0
    loop mma k total=8 step=8 stride=0
    mma w_level=0 s_level=0 x_level=0 t_level=0
    sty base=128
    end
"""


def test_a_slot_that_might_be_loaded_before_it_is_read() -> None:
    """In one order of events, of which no run of the machine makes any."""
    messages = [problem.message for problem in check_execution(words_of(RACE), TINY)]
    assert messages == ["scale slot 0 may be loaded while it is being read"]
    # TOKEN waits for the first MMA.
    in_turn = RACE.replace("sty base=0\n", "sty base=0\n    token w_free 0\n")
    assert not check_execution(words_of(in_turn), TINY)


def test_no_layer() -> None:
    problems = check_execution(words_of("sty base=0\nend"), TINY)
    assert [(problem.index, problem.cause) for problem in problems] == [(0, Cause.OPERAND)]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_compiled_programs_are_legal(data: st.DataObject) -> None:
    """In regions of just their size."""
    config = data.draw(configs())
    case = data.draw(cases(config))
    program = compile_layer(case.layer, config, case.rows)
    sizes = {region: size for region, (_, size) in MemoryMap.for_program(program).regions.items()}
    assert not check_execution(program.instructions, config, sizes)


def test_assembler_names_the_line() -> None:
    """Of an instruction that is right by itself and wrong in its place."""
    program = compile_layer(_layer(), TINY, 1)
    text = disassemble(program)
    line = next(n for n, row in enumerate(text.splitlines(), 1) if " sty base" in row)
    broken = text.replace("sty base=0", "sty base=64")
    with pytest.raises(AssemblyError, match=rf"^x:{line}: bytes .* of the results"):
        assemble(broken, "x", examine=execution_problems)


def _layer() -> QuantLayer:
    return QuantLayer(
        name="made",
        kind="affine",
        bits=2,
        codes=np.zeros((8, 8), np.uint8),
        group_size=8,
        scales=np.ones((8, 1), np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=64,
    )
