"""Assembly text: back to the same bytes, and errors with their line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import PRESETS, CoreConfig
from lutcore.hw.contract.isa import INSTRUCTIONS, Cause, Opcode, Unit, encode
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.asm import (
    AssemblyError,
    assemble,
    assemble_instructions,
    disassemble,
    format_instruction,
)
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.program import Program
from lutcore.sw.program.rules import check
from lutcore.verif.kit.strategies import cases, configs

TINY = PRESETS["tiny"]
END = encode(Opcode.END)


@settings(max_examples=40, deadline=None, print_blob=True)
@given(st.data())
def test_round_trip(data: st.DataObject) -> None:
    config = data.draw(configs())
    program = compile_layer(data.draw(cases(config)).layer, config, 3)
    assert assemble(disassemble(program)).to_bytes() == program.to_bytes()


@pytest.fixture(scope="module")
def program() -> Program:
    layer = QuantLayer(
        name='a; "quoted"\nname',
        kind="affine",
        bits=2,
        codes=np.full((9, 20), 3, np.uint8),
        group_size=8,
        scales=np.ones((9, 3), np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=99,
    )
    return compile_layer(layer, TINY, 2)


@pytest.fixture(scope="module")
def text(program: Program) -> str:
    return disassemble(program)


def test_text_shows_the_layer(program: Program, text: str) -> None:
    assert "N = 9, K = 20, affine, 2 bits, groups of 8; 2 rows" in text
    assert "   0  token counter=w_free count=2" in text
    assert "loop ldw n total=2 step=2 auto" in text
    assert "sty base=0" in text
    assert ".image" not in disassemble(program, image=False)
    assert assemble(text) == program


@st.composite
def words(draw: st.DrawFn) -> int:
    instruction = draw(st.sampled_from(list(INSTRUCTIONS.values())))
    fields = {}
    for field in instruction.fields:
        choices = st.integers(*field.limits)
        fields[field.name] = draw(st.sampled_from(field.choices) if field.choices else choices)
    return encode(instruction.opcode, **fields)


@given(words())
def test_every_instruction_can_be_written(word: int) -> None:
    try:
        again = assemble_instructions(f"{format_instruction(word)}\nend", PRESETS["default"])
    except AssemblyError:
        # Readable but not legal here: the checker and the assembler must agree.
        assert check([word, END], PRESETS["default"])
    else:
        assert again == [word, END]


@given(st.integers(0, 2**128 - 1))
def test_what_cannot_be_decoded_is_shown_as_a_word(word: int) -> None:
    shown = format_instruction(word)
    if shown.startswith("word"):
        assert int(shown.split()[1], 16) == word


def test_comments_numbers_and_spaces() -> None:
    source = """
        ; a comment
        0 token counter=x_free count=0x2 ; two
        layer planes=1 per_plane=0 ternary=0 offset=0 wide=0 bias=0 group_size=8 exponent=-24 \
            last_lanes=8 last_rows=1 row_stride=64
        loop mma k total=8 step=8 auto
        loop mma n total=1 step=1 stride=-5
        4 mma w_level=0 s_level=0 x_level=0 t_level=0
        end
    """
    found = assemble_instructions(source, TINY)
    assert found[0] == encode(Opcode.TOKEN, counter=4, count=2)
    assert found[3] == encode(
        Opcode.LOOP, unit=Unit.MMA, axis=0, auto=0, total=1, step=1, stride=-5
    )
    assert len(found) == 6


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nop\nend", r"x\.s:1: unknown instruction 'nop'; known: end, layer"),
        ("\n1 end", r"x\.s:2: address 1, but this is instruction 0"),
        ("ldx base=0\nend", r"x\.s:1: ldx: fields missing or unknown: level"),
        ("ldx base=0 level=6\nend", r"x\.s:1: ldx: level must be in 0..5, not 6"),
        ("ldx base=0 levle=6\nend", r"unknown field 'levle'; known: base, level"),
        ("ldx base=a level=0\nend", "base must be a number, not 'a'"),
        ("ldx base level=0\nend", "'base' is not of the form field=value"),
        ("token counter=y_free count=1\nend", "counter must be one of w_free, .*, not 'y_free'"),
        ("loop ldx\nend", "write loop UNIT AXIS"),
        ("loop dma n total=1 step=1 auto\nend", "unit must be one of ldw, ldx, mma, sty"),
        ("word\nend", "one number"),
        ("word 0x1ffffffffffffffffffffffffffffffffff\nend", "128 bits"),
        ("word 0\nend", r"x\.s:1: unknown opcode 0x00"),
        ("sty base=0", r"x\.s:1: the last instruction is not end"),
        ("end\nsty base=0\nend", r"x\.s:1: end before the last instruction"),
        ("", "a program has 1 to 128 instructions, not 0"),
        ("loop ldx k total=1 step=1 auto\nend", r"x\.s:2: 1 loops for a ldx that does not follow"),
    ],
)
def test_errors_name_the_line(source: str, message: str) -> None:
    with pytest.raises(AssemblyError, match=message):
        assemble_instructions(source, TINY, "x.s")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (".config ", ".confg ", r"p\.s:4: unknown directive .confg"),
        (".config rows=1", ".config rows=99", r"p\.s:4: rows must be in 1..16, not 99"),
        (".config rows=1", ".config rows=one", r"p\.s:4: rows must be a number"),
        (".config rows=1", ".config rows=1 rows=1", r"p\.s:4: rows is given twice"),
        (".config rows=1", ".config rows", r"p\.s:4: 'rows .* is not of the form key=value"),
        (" bits=2 ", " bits=3 ", r"p\.s:5: .*weight image has"),
        (" bits=2 ", " ", r"p\.s:5: program values missing or unknown: bits"),
        (".layer ", ".config ", r"p\.s:5: a second .config"),
        (".image", "; image", r"p\.s:5?\d+: unknown"),
        (".end ", '"', "no line of a weight image"),
        (".end ", ".end 0", "the weight image is damaged"),
    ],
)
def test_errors_of_directives(text: str, old: str, new: str, message: str) -> None:
    assert text.count(old) == 1
    with pytest.raises(AssemblyError, match=message):
        assemble(text.replace(old, new), "p.s")


def test_missing_parts(text: str, program: Program) -> None:
    with pytest.raises(AssemblyError, match=r"no \.image: disassemble the program with"):
        assemble(disassemble(program, image=False))
    with pytest.raises(AssemblyError, match=r"no \.layer line"):
        assemble("\n".join(line for line in text.split("\n") if not line.startswith(".layer")))
    with pytest.raises(AssemblyError, match=r"the weight image has no \.end"):
        assemble(text[: text.index(".end")])


# The static checker ----------------------------------------------------------------------------


def loop(unit: Unit) -> int:
    return encode(Opcode.LOOP, unit=unit, axis=0, auto=0, total=1, step=1, stride=0)


def layer_word(**changes: int) -> int:
    fields = {
        "planes": 1,
        "per_plane": 0,
        "ternary": 0,
        "offset": 0,
        "wide": 0,
        "bias": 0,
        "group_size": 8,
        "exponent": 0,
        "last_lanes": 1,
        "last_rows": 1,
        "row_stride": 0,
    }
    return encode(Opcode.LAYER, **{**fields, **changes})


@pytest.mark.parametrize(
    ("program", "index", "cause"),
    [
        ([], 0, Cause.LENGTH),
        ([END] * 129, 0, Cause.LENGTH),
        ([END, END], 0, Cause.LENGTH),
        ([layer_word()], 0, Cause.LENGTH),
        ([0xFF, END], 0, Cause.OPCODE),
        ([END | 1 << 8], 0, Cause.RESERVED),
        ([Opcode.LOOP | 3 << 10, END], 0, Cause.RESERVED),
        ([Opcode.TOKEN | 3 << 11, END], 0, Cause.OPERAND),
        ([layer_word(planes=5), END], 0, Cause.OPERAND),
        ([layer_word(last_lanes=9), END], 0, Cause.OPERAND),
        ([layer_word(last_rows=2), END], 0, Cause.OPERAND),
        ([layer_word(ternary=1, per_plane=1), END], 0, Cause.OPERAND),
        ([*[loop(Unit.STY)] * 6, encode(Opcode.STY, base=0), END], 5, Cause.NESTING),
        ([loop(Unit.STY), END], 1, Cause.NESTING),
        ([loop(Unit.STY), encode(Opcode.LDX, base=0, level=0), END], 2, Cause.NESTING),
    ],
)
def test_checker_finds_the_first_problem(program: list[int], index: int, cause: Cause) -> None:
    problem = check(program, TINY)[0]
    assert (problem.index, problem.cause) == (index, cause)


@pytest.mark.parametrize(
    ("planes", "per_plane", "problems"), [(1, 1, 0), (1, 0, 1), (2, 1, 1), (2, 0, 1)]
)
def test_checker_of_ternary_layers(planes: int, per_plane: int, problems: int) -> None:
    core = CoreConfig(rows=1, lanes=8, group=5, depth=2, planes=4, ternary=True)
    word = layer_word(ternary=1, planes=planes, per_plane=per_plane)
    assert [p.cause for p in check([word, END], core)] == [Cause.OPERAND] * problems


def test_checker_accepts_loops_of_several_units_mixed() -> None:
    units = [Unit.STY, Unit.LDX, Unit.STY, Unit.LDX]
    body = [encode(Opcode.STY, base=0), encode(Opcode.LDX, base=0, level=0), END]
    assert check([*map(loop, units), *body], TINY) == []
