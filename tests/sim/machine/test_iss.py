"""The instruction-set simulator against the golden model, and its error stops."""

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import PRESETS, CoreConfig
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import Axis, Cause, Opcode, Token, Unit, decode, encode
from lutcore.sim.devices.choice import run_on
from lutcore.sim.golden import golden
from lutcore.sim.machine.iss import Iss, IssResult
from lutcore.sw.layers.layer import TERNARY_BITS, QuantLayer
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.memory import ALIGNMENT, MemoryMap, load
from lutcore.sw.program.program import Program
from lutcore.verif.kit.layers import Case
from lutcore.verif.kit.strategies import cases, configs

TINY = PRESETS["tiny"]
TERNARY = CoreConfig(rows=1, lanes=8, group=5, depth=2, planes=4, bus_width=32, ternary=True)


def bits_of(y: np.ndarray) -> list[list[int]]:
    return y.view(np.uint32).tolist()


def check_against_golden(case: Case, config: CoreConfig) -> Program:
    program = compile_layer(case.layer, config, case.rows)
    with np.errstate(over="ignore"):
        expected = golden(case.layer, case.q, case.scale)
    assert bits_of(run_on("iss", program, case.q, case.scale).y) == bits_of(expected)
    return program


@settings(max_examples=150, deadline=None, print_blob=True)
@given(st.data())
def test_equals_golden(data: st.DataObject) -> None:
    config = data.draw(configs())
    check_against_golden(data.draw(cases(config)), config)


@settings(max_examples=100, deadline=None, print_blob=True)
@given(st.data())
def test_ternary_equals_golden(data: st.DataObject) -> None:
    config = data.draw(configs(ternary=True))
    program = check_against_golden(data.draw(cases(config, kind=("ternary", TERNARY_BITS))), config)
    assert program.kind == "ternary"


def make_layer(n: int, k: int, group_size: int, bits: int = 4, *, bias: bool = False) -> QuantLayer:
    rng = np.random.default_rng([n, k, group_size, bits])
    groups = -(-k // group_size)
    return QuantLayer(
        name="made",
        kind="affine",
        bits=bits,
        codes=rng.integers(0, 2**bits, (n, k)).astype(np.uint8),
        group_size=group_size,
        scales=rng.standard_normal((n, groups)).astype(np.float16),
        offsets=rng.standard_normal((n, groups)).astype(np.float16),
        bias=rng.standard_normal(n).astype(np.float32) if bias else None,
        checkpoint_bytes=-(-n * k * bits // 8) + 4 * n * groups,
    )


def make_ternary(n: int, k: int, group_size: int) -> QuantLayer:
    made = make_layer(n, k, group_size, bits=2)
    codes = np.minimum(made.codes, 2).astype(np.int8) - np.int8(1)
    return dataclasses.replace(made, kind="ternary", codes=codes, offsets=None)


def make_activations(rows: int, k: int, dtype: str = "int8") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([rows, k])
    limits = np.iinfo(dtype)
    q = rng.integers(limits.min, limits.max, (rows, k), endpoint=True).astype(dtype)
    return q, (1 + rng.random(rows)).astype(np.float32)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("n", "k", "group_size", "rows"),
    [
        (192, 576, 32, 1),
        (1, 1, 1, 1),
        (200, 1536, 128, 5),
        (65, 1100, 1100, 33),  # one group, longer than a run
        (8, 3000, 1024, 40),
    ],
)
def test_presets(preset: str, n: int, k: int, group_size: int, rows: int) -> None:
    config = PRESETS[preset]
    layer = make_layer(n, k, group_size, bias=True)
    q, scale = make_activations(rows, k)
    program = compile_layer(layer, config, rows)
    assert bits_of(run_on("iss", program, q, scale).y) == bits_of(golden(layer, q, scale))


@pytest.mark.parametrize("group", range(2, 7))
@pytest.mark.parametrize("depth", [13, 32])
def test_deep_cores(group: int, depth: int) -> None:
    config = CoreConfig(lanes=16, group=group, depth=depth)
    for group_size in (300, 700, 77):
        layer = make_layer(20, 700, group_size, bits=3)
        q, scale = make_activations(3, 700)
        program = compile_layer(layer, config, 3)
        assert bits_of(run_on("iss", program, q, scale).y) == bits_of(golden(layer, q, scale))


@pytest.mark.parametrize(
    ("n", "k", "group_size", "rows"),
    [
        (192, 768, 256, 1),
        (1, 1, 1, 1),
        (72, 200, 32, 5),  # groups whose last table has two columns
        (40, 1000, 1000, 3),  # one group, longer than a run
        (8, 3001, 1024, 40),
    ],
)
@pytest.mark.parametrize("depth", [1, 7, 32])
def test_ternary_shapes(depth: int, n: int, k: int, group_size: int, rows: int) -> None:
    config = CoreConfig(lanes=16, group=5, depth=depth, ternary=True)
    layer = make_ternary(n, k, group_size)
    q, scale = make_activations(rows, k)
    expected = bits_of(golden(layer, q, scale))
    for core in (config, PRESETS["default"]):
        program = compile_layer(layer, core, rows)
        assert program.kind == ("ternary" if core.ternary else "affine")
        assert bits_of(run_on("iss", program, q, scale).y) == expected


@pytest.mark.parametrize(("rows", "limit"), [(1, 0.5), (16, 2.0)])
def test_speed(rows: int, limit: float) -> None:
    layer = make_layer(1536, 576, 32)
    q, scale = make_activations(rows, 576)
    program = compile_layer(layer, PRESETS["default"], rows)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run_on("iss", program, q, scale)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < limit


def test_counts() -> None:
    config = PRESETS["default"]
    layer = make_layer(128, 64, 32)
    program = compile_layer(layer, config, 3)
    _, result = run(program)
    assert result.counts.lookups == 2 * 2 * 4 * (64 // config.step)
    moved = len(program.instruction_bytes) + len(program.image) + program.x_bytes
    assert result.counts.read_beats == moved // config.beat_bytes
    assert result.counts.write_beats == 3 * 128 * 4 // config.beat_bytes


# Error stops ---------------------------------------------------------------------------------


def run(
    program: Program,
    words: list[int] | None = None,
    *,
    expect: int | None = None,
    sizes: dict[Region, int] | None = None,
) -> tuple[np.ndarray, IssResult]:
    """Run a program with its instructions replaced; regions may be made smaller."""
    layout = MemoryMap.for_program(program)
    memory = layout.allocate()
    q, scale = make_activations(program.rows, program.k, program.config.activation)
    load(memory, layout, program, program.pack_x(q, scale))
    regions = dict(layout.regions)
    length = len(program.instructions)
    if words is not None:
        code = b"".join(word.to_bytes(16, "little") for word in words)
        memory = np.append(memory, np.frombuffer(code, np.uint8))
        regions[Region.PROGRAM] = layout.size, len(code)
        length = len(words)
    for region, size in (sizes or {}).items():
        regions[region] = regions[region][0], size
    memory_before = memory.copy()
    result = Iss(program.config, memory, regions).run(length, expect)
    base, size = regions[Region.RESULTS]
    memory_before[base : base + size] = memory[base : base + size]
    assert (memory_before == memory).all(), "written outside the result region"
    return memory, result


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_layer(make_layer(20, 100, 40, bits=3, bias=True), TINY, 3)


def index_of(program: Program, opcode: Opcode) -> int:
    return [decode(word)[0].opcode for word in program.instructions].index(opcode)


def changed(program: Program, opcode: Opcode, **fields: int) -> list[int]:
    """The program's words with fields of its first instruction of a kind changed."""
    index = index_of(program, opcode)
    words = list(program.instructions)
    words[index] = encode(opcode, **{**decode(words[index])[1], **fields})
    return words


def is_loop(word: int, unit: Unit, axis: Axis) -> bool:
    instruction, fields = decode(word)
    return instruction.opcode == Opcode.LOOP and (fields["unit"], fields["axis"]) == (unit, axis)


def without(program: Program, opcode: Opcode) -> list[int]:
    """The program's words without an instruction and the loops before it."""
    index = index_of(program, opcode)
    unit = Unit[opcode.name]
    return [
        word
        for number, word in enumerate(program.instructions)
        if number != index
        and not (decode(word)[0].opcode == Opcode.LOOP and decode(word)[1]["unit"] == unit)
    ]


def test_good_program(program: Program) -> None:
    _, result = run(program, list(program.instructions), expect=TINY.fingerprint)
    assert (result.cause, result.instruction) == (Cause.NONE, len(program.instructions) - 1)


def test_fingerprint(program: Program) -> None:
    _, result = run(program, expect=TINY.fingerprint ^ 1)
    assert (result.cause, result.instruction) == (Cause.FINGERPRINT, 0)


def test_nothing_runs_before_all_is_checked(program: Program) -> None:
    words = list(program.instructions)
    words[-1] = 0
    _, result = run(program, words)
    assert (result.cause, result.instruction) == (Cause.OPCODE, len(words) - 1)
    assert result.counts.lookups == 0


@pytest.mark.parametrize(
    ("region", "opcode"),
    [
        (Region.WEIGHTS, Opcode.LDW),
        (Region.ACTIVATIONS, Opcode.LDX),
        (Region.RESULTS, Opcode.STY),
    ],
)
def test_bounds(program: Program, region: Region, opcode: Opcode) -> None:
    size = MemoryMap.for_program(program).regions[region][1]
    _, result = run(program, sizes={region: size - 64})
    assert (result.cause, result.instruction) == (Cause.BOUNDS, index_of(program, opcode))


def test_program_beyond_its_region(program: Program) -> None:
    _, result = run(program, sizes={Region.PROGRAM: 64})
    assert (result.cause, result.instruction) == (Cause.BOUNDS, 0)


def test_too_many_tokens(program: Program) -> None:
    words = [encode(Opcode.TOKEN, counter=Token.X_FULL, count=2)] * 2
    _, result = run(program, words + list(program.instructions))
    assert (result.cause, result.instruction) == (Cause.TOKEN, 1)


def test_token_given_by_a_unit_above_its_limit(program: Program) -> None:
    words = [encode(Opcode.TOKEN, counter=Token.W_FULL, count=2), *program.instructions]
    _, result = run(program, words)
    assert result.cause == Cause.TOKEN
    assert result.instruction == 1 + index_of(program, Opcode.LDW)


def test_deadlock_names_the_first_unfinished(program: Program) -> None:
    words = list(program.instructions)[3:]  # no free slots but those for the bias
    _, result = run(program, words)
    assert (result.cause, result.instruction) == (
        Cause.DEADLOCK,
        index_of(program, Opcode.LDX) - 3,
    )


def test_results_that_nobody_stores_are_a_deadlock(program: Program) -> None:
    _, result = run(program, without(program, Opcode.STY))
    assert result.cause == Cause.DEADLOCK
    assert result.instruction < index_of(program, Opcode.MMA) + 1


def test_operand_of_the_weight_buffer(program: Program) -> None:
    loops = [
        encode(Opcode.LOOP, unit=Unit.LDW, axis=axis, auto=0, total=size, step=size, stride=0)
        for axis, size in ((Axis.N, 50), (Axis.K, 4000))
    ]
    index = index_of(program, Opcode.LAYER) + 1
    rest = without(program, Opcode.LDW)
    words = [*rest[:index], *loops, program.instructions[index_of(program, Opcode.LDW)]]
    _, result = run(program, [*words, *rest[index:]])
    assert (result.cause, result.instruction) == (Cause.OPERAND, index + 2)


def test_operand_of_the_accumulators(program: Program) -> None:
    n = TINY.tiles + 1
    loop = encode(Opcode.LOOP, unit=Unit.MMA, axis=Axis.N, auto=0, total=n, step=n, stride=0)
    index = index_of(program, Opcode.MMA)
    words = list(program.instructions)
    first = next(i for i, word in enumerate(words) if is_loop(word, Unit.MMA, Axis.N))
    words[first] = loop
    _, result = run(program, words)
    assert (result.cause, result.instruction) == (Cause.OPERAND, index)


@pytest.mark.parametrize(
    ("core", "fields", "message"),
    [
        (TINY, {"planes": 1, "per_plane": 1}, "no tables for ternary weights"),
        (TERNARY, {"planes": 2, "per_plane": 1}, "needs planes=1 per_plane=1, not planes=2"),
        (TERNARY, {"planes": 1, "per_plane": 0}, "not planes=1 per_plane=0"),
    ],
)
def test_operand_of_ternary(core: CoreConfig, fields: dict[str, int], message: str) -> None:
    program = compile_layer(make_layer(8, 8, 8), core, 1)
    words = changed(program, Opcode.LAYER, ternary=1, **fields)
    _, result = run(program, words)
    assert (result.cause, result.instruction) == (Cause.OPERAND, index_of(program, Opcode.LAYER))
    assert message in result.message
    assert result.counts.lookups == 0


def test_empty_nest_does_nothing() -> None:
    layer = make_layer(8, 8, 8)
    program = compile_layer(layer, TINY, 1)
    words = []
    for word in program.instructions:
        instruction, fields = decode(word)
        if instruction.opcode == Opcode.LOOP and fields["axis"] == Axis.N:
            word = encode(Opcode.LOOP, **{**fields, "total": 0})
        words.append(word)
    memory, result = run(program, words)
    base, size = MemoryMap.for_program(program).regions[Region.RESULTS]
    assert result.cause == Cause.NONE
    assert result.counts.lookups == 0
    assert not memory[base : base + size].any()


def test_two_layers_in_one_program(program: Program) -> None:
    """Tokens are back where they were when a layer ends, so the next one needs no new ones."""
    body = [word for word in program.instructions if decode(word)[0].opcode != Opcode.TOKEN]
    memory, result = run(program, [*program.instructions[:-1], *body])
    assert result.cause == Cause.NONE
    q, scale = make_activations(program.rows, program.k)
    base, size = MemoryMap.for_program(program).regions[Region.RESULTS]
    y = program.unpack_y(memory[base : base + size])
    assert bits_of(y) == bits_of(run_on("iss", program, q, scale).y)


def test_a_slot_that_is_filled_again() -> None:
    """Two layers of one block each use the same slots with different weights."""
    first, second = (make_layer(8, 40, 40, bits=bits) for bits in (3, 4))
    second = dataclasses.replace(second, codes=second.codes % 8, bits=3)
    programs = [compile_layer(layer, TINY, 1) for layer in (first, second)]
    assert [program.tiling.blocks for program in programs] == [1, 1]
    again = [
        encode(Opcode.LDW, **{**decode(word)[1], "base": len(programs[0].image)})
        if decode(word)[0].opcode == Opcode.LDW
        else word
        for word in programs[1].instructions
        if decode(word)[0].opcode != Opcode.TOKEN
    ]
    words = [*programs[0].instructions[:-1], *again]
    q, scale = make_activations(1, 40)
    x_image = programs[0].pack_x(q, scale)
    parts = {
        Region.PROGRAM: b"".join(word.to_bytes(16, "little") for word in words),
        Region.WEIGHTS: programs[0].image + programs[1].image,
        Region.ACTIVATIONS: x_image,
        Region.RESULTS: bytes(programs[0].y_bytes),
    }
    regions, memory = {}, b""
    for region, part in parts.items():
        regions[region] = len(memory), len(part)
        memory += part + bytes(-len(part) % ALIGNMENT)
    cells = np.frombuffer(memory, np.uint8).copy()
    assert Iss(TINY, cells, regions).run(len(words)).cause == Cause.NONE
    y = programs[1].unpack_y(cells[regions[Region.RESULTS][0] :])
    assert bits_of(y) == bits_of(golden(second, q, scale))


def test_sums_beyond_24_bits() -> None:
    config = CoreConfig.from_dict({**PRESETS["default"].as_dict(), "run": 1024})
    layer = dataclasses.replace(
        make_layer(8, 600, 600, bits=8),
        codes=np.full((8, 600), 255, np.uint8),
        scales=np.ones((8, 1), np.float16),
        offsets=np.full((8, 1), -255, np.float16),  # cancels to 0, unless the sum was rounded
    )
    q = np.full((1, 600), 127, np.int8)
    q[0, 0] = 126  # makes the sum odd
    scale = np.ones(1, np.float32)
    y = run_on("iss", compile_layer(layer, config, 1), q, scale).y
    assert bits_of(y) == bits_of(golden(layer, q, scale))


def test_table_form_changes_nothing() -> None:
    layer = make_layer(20, 100, 40)
    q, scale = make_activations(2, 100)
    results = []
    for form in ("symmetric", "full"):
        config = CoreConfig.from_dict({**TINY.as_dict(), "table_form": form})
        results.append(bits_of(run_on("iss", compile_layer(layer, config, 2), q, scale).y))
    assert results[0] == results[1]
