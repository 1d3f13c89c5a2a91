"""The whole core: results of small layers, and how it stops, in Amaranth's simulator."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
from axi_memory import CoreBench

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import Control, Region, Status
from lutcore.hw.contract.isa import INSTRUCTION_BITS, Axis, Cause, Opcode, Token, Unit, encode
from lutcore.sim.golden import golden
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.program import Program

RESET = 1 << Control.RESET | 1 << Control.IRQ_ENABLE


def make_layer(
    n: int,
    k: int,
    bits: int,
    group_size: int,
    *,
    kind: Literal["affine", "planes"] = "affine",
    offsets: bool = True,
    bias: bool = True,
    scale_type: type = np.float16,
    seed: int = 0,
) -> QuantLayer:
    """A layer of random weights."""
    rng = np.random.default_rng(seed)
    groups = -(-k // group_size)
    if kind == "affine":
        codes = rng.integers(0, 1 << bits, size=(n, k)).astype(np.uint8)
        scales = rng.normal(size=(n, groups))
    else:
        codes = rng.choice([-1, 1], size=(bits, n, k)).astype(np.int8)
        scales = rng.normal(size=(n, groups, bits))
    if scale_type is np.float32:
        # A wide range of exponents, but one that 40 bits hold.
        scales = np.ldexp(1 + rng.random(scales.shape), rng.integers(-12, 3, scales.shape))
    return QuantLayer(
        name=kind,
        kind=kind,
        bits=bits,
        codes=codes,
        group_size=group_size,
        scales=scales.astype(scale_type),
        offsets=rng.normal(size=(n, groups)).astype(np.float16) if offsets else None,
        bias=rng.normal(size=n).astype(np.float32) if bias else None,
        checkpoint_bytes=1,
    )


def make_activations(
    config: CoreConfig, rows: int, k: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Random activations, the least number among them, and row scales."""
    rng = np.random.default_rng(seed)
    limits = np.iinfo(config.activation)
    q = rng.integers(limits.min, limits.max + 1, size=(rows, k)).astype(config.activation)
    q[0, 0] = limits.min
    return q, rng.uniform(0.01, 2, size=rows).astype(np.float32)


SMALL: dict[str, Any] = {"lanes": 8, "bus_width": 64}
# A configuration and a layer for each store and form of the tables. The buffers of some are so
# small that the layer is cut along K, or its activations are streamed.
END_TO_END = {
    "distributed symmetric": (
        CoreConfig(rows=2, group=3, depth=2, planes=4, weight_words=32, **SMALL),
        make_layer(21, 52, 4, 24),
    ),
    "distributed full": (
        CoreConfig(rows=1, group=4, depth=1, planes=3, table_form="full", **SMALL),
        make_layer(10, 37, 3, 16, offsets=False, scale_type=np.float32),
    ),
    "register symmetric": (
        CoreConfig(
            rows=2, group=2, depth=3, planes=2, table_store="register", x_words=16,
            scale_lanes=4, **SMALL,
        ),
        make_layer(12, 40, 2, 16, kind="planes", bias=False),
    ),
    "register full": (
        CoreConfig(
            rows=1, group=3, depth=2, planes=3, table_store="register", table_form="full",
            activation="int16", **SMALL,
        ),
        make_layer(9, 30, 3, 30, kind="planes", offsets=False),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", END_TO_END)
def test_a_layer_end_to_end(case: str) -> None:
    config, layer = END_TO_END[case]
    rows = config.rows + 1
    q, row_scale = make_activations(config, rows, layer.k)
    bench = CoreBench(config, pace=0.8, seed=len(case))
    bench.place(compile_layer(layer, config, rows), q, row_scale)
    outcome = bench.run()
    assert outcome.good, outcome
    assert np.array_equal(bench.results(), golden(layer, q, row_scale))


@dataclass
class Small:
    """One small core and one program for it, which every test of a stop begins with."""

    config: CoreConfig = field(
        default_factory=lambda: CoreConfig(
            rows=2, lanes=8, group=2, depth=1, planes=2, bus_width=64
        )
    )
    layer: QuantLayer = field(default_factory=lambda: make_layer(19, 20, 2, 8))

    def __post_init__(self) -> None:
        self.program: Program = compile_layer(self.layer, self.config, 3)
        self.q, self.row_scale = make_activations(self.config, 3, self.layer.k)
        self.expected = golden(self.layer, self.q, self.row_scale)
        self.bench = CoreBench(self.config)
        self.words: list[int] = []
        self.cycles = self.begin().run().cycles

    def begin(self) -> CoreBench:
        """Place the program afresh; forget faults."""
        memory = self.bench.memory
        memory.read_faults, memory.write_faults, memory.mute = set(), set(), False
        self.words = list(self.program.instructions)
        self.bench.place(self.program, self.q, self.row_scale)
        return self.bench

    def at(self, opcode: Opcode, nth: int = 0) -> int:
        """Number of the n-th instruction with an opcode."""
        return [i for i, word in enumerate(self.words) if word & 0xFF == opcode][nth]

    def address(self, region: Region, offset: int = 0) -> int:
        """Address of the beat at an offset in a region."""
        return self.bench.layout.regions[region][0] + offset

    def check_recovery(self, *, reset: bool = True) -> None:
        """The good program runs as if nothing had happened."""
        if reset:
            self.bench.write("CONTROL", RESET)
            after = self.bench.outcome()
            assert after.status == frozenset()
            assert after.cause == Cause.NONE
        bench = self.begin()
        outcome = bench.run()
        assert outcome.good, outcome
        assert np.array_equal(bench.results(), self.expected)


@pytest.fixture(scope="module")
def shared() -> Small:
    return Small()


@pytest.fixture
def small(shared: Small) -> Small:
    """The shared core; a test that has failed may leave it at work."""
    bench = shared.bench
    if Status.BUSY in bench.outcome().status or bench.memory.outstanding:
        shared.__post_init__()
    shared.begin()
    return shared


@dataclass(frozen=True)
class Stop:
    """A program with something wrong.

    Attributes
    ----------
    cause
        What the core has to say.
    spoil
        Changes ``words``, or the memory; returns the number of the instruction to be blamed, or
        None if that depends on the moment.
    settings
        Of :meth:`CoreBench.start`.
    """

    cause: Cause
    spoil: Callable[[Small], int | None] = lambda small: 0
    settings: dict[str, Any] = field(default_factory=dict)


def replace(opcode: Opcode, change: Callable[[int], int], nth: int = 0):
    """Spoil one instruction, which is blamed."""

    def spoil(small: Small) -> int:
        number = small.at(opcode, nth)
        small.words[number] = change(small.words[number])
        return number

    return spoil


def starve(token: Token, victim: Opcode):
    """Leave out a TOKEN; the instruction that waits for it is blamed."""

    def spoil(small: Small) -> int:
        number = next(
            i
            for i, word in enumerate(small.words)
            if word == encode(Opcode.TOKEN, counter=token, count=2)
        )
        small.words[number] = encode(Opcode.TOKEN, counter=token, count=0)
        return small.at(victim)

    return spoil


def blame(opcode: Opcode):
    return lambda small: small.at(opcode)


def read_fault(region: Region, offset: int, opcode: Opcode):
    def spoil(small: Small) -> int:
        small.bench.memory.read_faults.add(small.address(region, offset))
        return small.at(opcode)

    return spoil


def program_fault(offset: int):
    def spoil(small: Small) -> int:
        small.bench.memory.read_faults.add(small.address(Region.PROGRAM, offset))
        return offset // 16

    return spoil


def write_fault(small: Small) -> int:
    small.bench.memory.write_faults.add(small.address(Region.RESULTS, 256))
    return small.at(Opcode.STY)


def results_missing(small: Small) -> int:
    """MMA computes two tiles of three; STY is told at the end of the first row."""
    number = small.at(Opcode.MMA) - 3
    small.words[number] = encode(
        Opcode.LOOP, unit=Unit.MMA, axis=Axis.N, auto=0, total=2, step=2, stride=0
    )
    return small.at(Opcode.STY)


def no_layer(small: Small) -> int:
    number = small.at(Opcode.LAYER)
    small.words[number] = encode(Opcode.TOKEN, counter=0, count=0)
    return small.at(Opcode.LDW)


def mma_on_auto(small: Small) -> int:
    number = small.at(Opcode.MMA) - 1
    small.words[number] |= 1 << 12
    return number


def long_block(small: Small) -> int:
    """Codes that cannot fit the buffer are refused before they are asked for."""
    number = small.at(Opcode.LDW)
    small.words[number - 1] = encode(
        Opcode.LOOP, unit=Unit.LDW, axis=Axis.K, auto=0, total=4000, step=4000, stride=0
    )
    return number


def full_already(small: Small) -> int:
    """Both activation slots are called full, so that LDX gives one too many."""
    small.words[0] = encode(Opcode.TOKEN, counter=Token.X_FULL, count=2)
    return small.at(Opcode.LDX)


def only_column_loops(unit: Unit, count: int):
    """Too many loops before an instruction, in place of the first instructions."""

    def spoil(small: Small) -> int:
        loop = encode(Opcode.LOOP, unit=unit, axis=Axis.K, auto=0, total=1, step=1, stride=0)
        small.words[:count] = [loop] * count
        return count - 1

    return spoil


STOPS = {
    "unknown opcode": Stop(Cause.OPCODE, replace(Opcode.MMA, lambda word: 0)),
    "reserved bit": Stop(
        Cause.RESERVED, replace(Opcode.STY, lambda word: word | 1 << INSTRUCTION_BITS - 1)
    ),
    "operand": Stop(Cause.OPERAND, replace(Opcode.LAYER, lambda word: word & ~(0xF << 8))),
    "nesting": Stop(Cause.NESTING, only_column_loops(Unit.LDX, 6)),
    "no end": Stop(Cause.LENGTH, replace(Opcode.END, lambda word: encode(
        Opcode.TOKEN, counter=0, count=0))),
    "empty program": Stop(Cause.LENGTH, settings={"length": 0}),
    "too long a program": Stop(Cause.LENGTH, settings={"length": 129}),
    "fingerprint": Stop(Cause.FINGERPRINT, settings={"expect": 1}),
    "program outside": Stop(Cause.BOUNDS, settings={"sizes": {Region.PROGRAM: 64}}),
    "weights outside": Stop(
        Cause.BOUNDS, blame(Opcode.LDW), {"sizes": {Region.WEIGHTS: 448}}
    ),
    "activations outside": Stop(
        Cause.BOUNDS, blame(Opcode.LDX), {"sizes": {Region.ACTIVATIONS: 64}}
    ),
    "results outside": Stop(Cause.BOUNDS, blame(Opcode.STY), {"sizes": {Region.RESULTS: 128}}),
    "program not readable": Stop(Cause.READ_ERROR, program_fault(32)),
    "program not readable within": Stop(Cause.READ_ERROR, program_fault(56)),
    "weights not readable": Stop(Cause.READ_ERROR, read_fault(Region.WEIGHTS, 128, Opcode.LDW)),
    "activations not readable": Stop(
        Cause.READ_ERROR, read_fault(Region.ACTIVATIONS, 24, Opcode.LDX)
    ),
    "results not writable": Stop(Cause.WRITE_ERROR, write_fault),
    "no weight slot": Stop(Cause.DEADLOCK, starve(Token.W_FREE, Opcode.LDW)),
    "no activation slot": Stop(Cause.DEADLOCK, starve(Token.X_FREE, Opcode.LDX)),
    "results missing": Stop(Cause.OPERAND, results_missing),
    "no layer": Stop(Cause.OPERAND, no_layer),
    "mma on auto": Stop(Cause.OPERAND, mma_on_auto),
    "a sum slot for two blocks": Stop(
        Cause.OPERAND, replace(Opcode.MMA, lambda word: word & ~(7 << 17))
    ),
    "more codes than the buffer holds": Stop(Cause.OPERAND, long_block),
    "weights at an odd address": Stop(Cause.REGION, settings={"bases": {Region.WEIGHTS: 32}}),
    "results beyond the bus": Stop(Cause.REGION, settings={"bases": {Region.RESULTS: 1 << 40}}),
    "results that end beyond the bus": Stop(
        Cause.REGION,
        settings={"bases": {Region.RESULTS: 0xFF_FFFF_FFC0}, "sizes": {Region.RESULTS: 0x180}},
    ),
    "token overflow": Stop(Cause.TOKEN, replace(
        Opcode.TOKEN, lambda word: encode(Opcode.TOKEN, counter=Token.W_FREE, count=2), 3)),
    "slot given twice": Stop(Cause.TOKEN, full_already),
    "budget": Stop(Cause.BUDGET, lambda small: None, {"budget": 300}),
    "budget while fetching": Stop(Cause.BUDGET, lambda small: None, {"budget": 20}),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPS)
def test_stop(small: Small, name: str) -> None:
    """The first cause and its instruction are kept, nothing is written where it must not be."""
    stop = STOPS[name]
    blamed = stop.spoil(small)
    small.bench.place_instructions(small.words)
    outcome = small.bench.run(**stop.settings)
    assert outcome.cause == stop.cause
    assert outcome.status == {Status.ERROR}
    if blamed is not None:
        assert outcome.instruction == blamed
    if stop.cause == Cause.BUDGET:
        assert 0 <= outcome.cycles - stop.settings["budget"] <= 4
    assert small.bench.memory.outstanding == 0
    small.bench.assert_written_within(stop.settings.get("sizes", {}).get(Region.RESULTS))
    small.check_recovery()


def test_a_late_response_is_put_down_to_its_own_store() -> None:
    """The response to the last burst of one STY comes when the next could have begun."""
    small = Small()
    first = small.at(Opcode.LAYER) + 1
    words = [*small.words[:-1], *small.words[first:]]
    fault = write_fault(small)
    bench = small.bench
    # The longer program covers some of the weights, whatever they then say.
    content = b"".join(word.to_bytes(16, "little") for word in words)
    base = small.address(Region.PROGRAM)
    bench.memory.content[base : base + len(content)] = np.frombuffer(content, np.uint8)
    outcome = bench.run(length=len(words), sizes={Region.PROGRAM: 16 * len(words)})
    assert (outcome.cause, outcome.instruction) == (Cause.WRITE_ERROR, fault)


def test_a_stopped_core_starts_without_a_reset(small: Small) -> None:
    small.words[1] = 0
    small.bench.place_instructions(small.words)
    assert small.bench.run().cause == Cause.OPCODE
    small.check_recovery(reset=False)


def test_reset_waits_for_outstanding_reads(small: Small) -> None:
    """What was asked for before the reset must not reach the next program."""
    bench = small.bench
    bench.start()
    base, size = bench.layout.regions[Region.WEIGHTS]
    while not any(base <= address < base + size for address in bench.memory.awaited):
        bench.ticks(1)
    bench.memory.mute = True
    bench.write("CONTROL", RESET)
    bench.ticks(100)
    assert bench.outcome().status == {Status.BUSY, Status.DRAINING}
    assert bench.memory.outstanding > 0
    bench.memory.mute = False
    outcome = bench.wait()
    assert (outcome.status, outcome.cause) == (frozenset(), Cause.ABORT)
    assert bench.memory.outstanding == 0
    bench.assert_written_within()
    small.check_recovery(reset=False)


@pytest.mark.parametrize("eighth", range(8))
def test_reset_at_any_time(small: Small, eighth: int) -> None:
    bench = small.bench
    bench.start()
    bench.ticks(1 + small.cycles * eighth // 8)
    bench.write("CONTROL", RESET)
    outcome = bench.wait()
    assert (outcome.status, outcome.cause) == (frozenset(), Cause.ABORT)
    bench.assert_written_within()
    small.check_recovery(reset=False)


def test_programs_run_one_after_the_other(small: Small) -> None:
    """Two runs take the same number of cycles: nothing of the first is left."""
    cycles = []
    for _ in range(2):
        outcome = small.begin().run()
        assert outcome.good, outcome
        cycles.append(outcome.cycles)
    assert cycles[0] == cycles[1]


@pytest.mark.parametrize("depth, bus_width", [(1, 32), (4, 64)])
def test_steps_of_a_single_word(depth: int, bus_width: int) -> None:
    # One tile, one plane: every step adds to the same accumulator, and two table sets are ready
    # when the weights come.
    config = CoreConfig(rows=1, lanes=8, group=2, depth=depth, planes=1, bus_width=bus_width)
    rng = np.random.default_rng(0)
    layer = QuantLayer(
        name="single",
        kind="affine",
        bits=1,
        codes=rng.integers(0, 2, (8, 128)).astype(np.uint8),
        group_size=128,
        scales=np.ones((8, 1), np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=144,
    )
    q, scale = rng.integers(-128, 128, (1, 128)).astype(np.int8), np.ones(1, np.float32)
    bench = CoreBench(config)
    bench.place(compile_layer(layer, config, 1), q, scale)
    assert bench.run().good
    assert np.array_equal(bench.results(), golden(layer, q, scale))
