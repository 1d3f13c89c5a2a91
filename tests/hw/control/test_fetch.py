"""Fetch: what it refuses, against the instruction table; what it dispatches, and when."""

import random

import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import (
    INSTRUCTION_BITS,
    INSTRUCTIONS,
    PROGRAM_MAX,
    Axis,
    Cause,
    Opcode,
    Unit,
    encode,
)
from lutcore.hw.control.fetch import Checker, Fetch
from lutcore.hw.util import State
from lutcore.verif.kit.strategies import drawn
from lutcore.verif.oracles.fetch import (
    END,
    cause_of,
    dispatched,
    draw_broken,
    draw_program,
    limits_of,
    verdict_of,
)

BUSES = {
    width: CoreConfig(rows=3, lanes=24, depth=2, planes=5, bus_width=width)
    for width in (32, 64, 128, 256, 512)
}
CONFIG = BUSES[128]


class Machine:
    """What surrounds Fetch: memory, and units that work for a while."""

    def __init__(self, config: CoreConfig, words: list[int], seed: int, longest: int = 12):
        self.dut = Fetch(config)
        self.words = words
        self.random = random.Random(seed)
        self.longest = longest
        self.events: list[tuple] = []
        self.error: tuple[Cause, int] | None = None
        self.states: list[int] = []

    async def memory(self, ctx):
        dut = self.dut
        width = dut.config.bus_width
        image = sum(word << n * INSTRUCTION_BITS for n, word in enumerate(self.words))
        size = len(self.words) * INSTRUCTION_BITS
        ctx.set(dut.command.ready, 1)
        _, _, valid, command = await ctx.tick().sample(dut.command.valid, dut.command.payload)
        while not valid:
            _, _, valid, command = await ctx.tick().sample(dut.command.valid, dut.command.payload)
        assert command.offset == 0
        assert command.length == -(-size // width)
        # What lies behind the program in its last beat is nobody's business.
        image |= self.random.getrandbits(512) << size
        for beat in range(command.length):
            while self.random.random() < 0.2:
                ctx.set(dut.i.valid, 0)
                await ctx.tick()
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.i.payload, image >> beat * width & (1 << width) - 1)
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            while not ready:
                _, _, ready = await ctx.tick().sample(dut.i.ready)
        ctx.set(dut.i.valid, 0)
        while True:
            _, _, again = await ctx.tick().sample(dut.command.valid)
            assert not again

    async def run(self, ctx):
        dut = self.dut
        work = [0] * len(Unit)
        writes = 0
        layer = ctx.get(dut.layer.as_value())
        for _ in range(6000):
            busy = [left > 0 for left in work]
            quiet = not any(busy) and not writes
            ctx.set(dut.unit_busy, sum(bit << unit for unit, bit in enumerate(busy)))
            ctx.set(dut.all_idle, quiet)
            work = [max(0, left - 1) for left in work]
            writes = max(0, writes - 1)
            _, _, *seen = await ctx.tick().sample(
                dut.loop_valid,
                dut.loop,
                dut.start,
                dut.word,
                dut.instruction,
                dut.token_add,
                dut.finished,
                dut.error,
                dut.state,
            )
            loop_valid, loop, start, word, number, token, finished, error, state = seen
            self.states.append(state)
            for unit in Unit:
                if loop_valid >> unit & 1:
                    assert not busy[unit], "a loop for a busy unit"
                    fields = {
                        name: loop[name] for name in ("axis", "auto", "total", "step", "stride")
                    }
                    self.events.append(("loop", unit, tuple(sorted(fields.items()))))
                if start >> unit & 1:
                    assert not busy[unit], "an instruction for a busy unit"
                    self.events.append(("start", unit, word, number))
                    work[unit] = self.random.randrange(1, self.longest + 1)
                    writes = self.random.randrange(2 * self.longest)
            if token:
                assert quiet, "TOKEN while something is under way"
                self.events.append(("token", word))
            following = ctx.get(dut.layer.as_value())
            if following != layer:
                assert quiet, "LAYER while something is under way"
                layer = following
                self.events.append(("layer", following))
            if error.valid:
                self.error = Cause(error.cause), error.instruction
            if finished:
                assert quiet, "END while something is under way"
                self.events.append(("finished", number))
            if finished or error.valid:
                break
        else:
            raise AssertionError("neither an end nor an error")
        for _ in range(20):
            _, _, start, loop_valid = await ctx.tick().sample(dut.start, dut.loop_valid)
            assert not start and not loop_valid


def execute(config, words, *, seed=0, length=None, expect=None, longest=12) -> Machine:
    machine = Machine(config, words, seed, longest)
    dut = machine.dut

    async def host(ctx):
        ctx.set(dut.length, len(words) if length is None else length)
        ctx.set(dut.expect, config.fingerprint if expect is None else expect)
        ctx.set(dut.launch, 1)
        await ctx.tick()
        ctx.set(dut.launch, 0)
        await machine.run(ctx)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(host)
    simulator.add_testbench(machine.memory, background=True)
    simulator.run()
    return machine


@settings(max_examples=30, deadline=None, print_blob=True)
@given(st.data(), st.sampled_from(sorted(BUSES)), st.integers(0, 2**32 - 1))
def test_good_programs_are_dispatched_in_order(data, width, seed):
    config = BUSES[width]
    words = data.draw(drawn(draw_program, config, 24))
    assert verdict_of(words, config) == (Cause.NONE, 0)
    machine = execute(config, words, seed=seed)
    assert machine.error is None
    assert machine.events == dispatched(words)


@settings(max_examples=60, deadline=None, print_blob=True)
@given(st.data(), st.sampled_from(sorted(BUSES)), st.integers(0, 2**32 - 1))
def test_bad_programs_run_nothing(data, width, seed):
    """Changes somewhere; the verdict is the reference's, and nothing is dispatched."""
    config = BUSES[width]
    words = data.draw(drawn(draw_broken, config))
    machine = execute(config, words, seed=seed)
    assert machine.error == verdict_of(words, config)
    assert machine.events == []


LOOP = encode(Opcode.LOOP, unit=Unit.LDX, axis=Axis.K, auto=0, total=9, step=2, stride=-5)
LDX = encode(Opcode.LDX, base=64, level=1)
MMA = encode(Opcode.MMA, w_level=0, s_level=0, x_level=0, t_level=0)


@pytest.mark.parametrize(
    ("words", "cause", "number"),
    [
        ([0], Cause.OPCODE, 0),
        ([LDX, 9, END], Cause.OPCODE, 1),
        ([END | 1 << 127], Cause.RESERVED, 0),
        ([LOOP | 3 << 10, END], Cause.RESERVED, 0),
        ([LDX | 7 << 48, END], Cause.OPERAND, 0),
        ([LDX], Cause.LENGTH, 0),
        ([LDX, END, LDX, END], Cause.LENGTH, 1),
        ([LDX, END, END], Cause.LENGTH, 1),
        ([LOOP, END], Cause.NESTING, 1),
        ([LOOP, MMA, END], Cause.NESTING, 2),
        ([*[LOOP] * 5, LDX, *[LOOP] * 6, LDX, END], Cause.NESTING, 11),
        ([LDX] * PROGRAM_MAX, Cause.LENGTH, PROGRAM_MAX - 1),
        ([0, 1 << 127 | END], Cause.OPCODE, 0),
    ],
)
def test_refusals(words, cause, number):
    assert verdict_of(words, CONFIG) == (cause, number)
    machine = execute(CONFIG, words)
    assert machine.error == (cause, number)
    assert machine.events == []


@pytest.mark.parametrize("width", sorted(BUSES))
def test_longest_program(width):
    words = [MMA, LDX] * (PROGRAM_MAX // 2 - 1) + [MMA, END]
    machine = execute(BUSES[width], words, longest=2)
    assert machine.error is None
    assert machine.events == dispatched(words)


def test_other_fingerprint_and_lengths():
    other = CONFIG.fingerprint ^ 1 << 63
    assert execute(CONFIG, [END], expect=other).error == (Cause.FINGERPRINT, 0)
    for length in (0, PROGRAM_MAX + 1, 1 << 31, PROGRAM_MAX * 2 + 1):
        assert execute(CONFIG, [END], length=length).error == (Cause.LENGTH, 0)
    # Both wrong: the fingerprint tells more.
    assert execute(CONFIG, [END], length=0, expect=other).error == (Cause.FINGERPRINT, 0)


def test_state_tells_waiting_from_work():
    machine = execute(CONFIG, [MMA, MMA, END], longest=30)
    assert {State.BUSY, State.WAIT_IN, State.WAIT_OUT} <= {State(s) for s in machine.states}


def edges(config: CoreConfig) -> list[int]:
    """Words in which each field is at, and one beyond, its limits."""
    words = []
    for opcode, instruction in INSTRUCTIONS.items():
        tight = limits_of(config)
        plain = {f.name: max(f.limits[0], 0) if not f.signed else 0 for f in instruction.fields}
        good = encode(opcode, **plain)
        words += [good, good | 1 << instruction.width, good | 1 << INSTRUCTION_BITS - 1]
        position = 8
        for field in instruction.fields:
            top = (1 << field.width) - 1
            low, high = field.limits
            high = min(high, tight.get(field.name, high))
            for value in {0, 1, low, high, high + 1, top}:
                if 0 <= value <= top:
                    words.append(good & ~(top << position) | value << position)
            position += field.width
    layer = {"ternary": 1, "per_plane": 1, "planes": 1, "last_lanes": 1, "last_rows": 1}
    layer = {f.name: 0 for f in INSTRUCTIONS[Opcode.LAYER].fields} | {"group_size": 1} | layer
    words += [encode(Opcode.LAYER, **layer | change) for change in ({}, {"planes": 2})]
    words += [encode(Opcode.LAYER, **layer | {"per_plane": 0})]
    return words


@pytest.mark.parametrize("number", range(3))
def test_checker_agrees_with_the_table(number):
    config = (
        CONFIG,
        CoreConfig(rows=16, lanes=128, planes=8),
        CoreConfig(rows=1, lanes=8, group=5, planes=3, ternary=True),
    )[number]
    dut = Checker(config)
    chance = random.Random(number)
    words = edges(config) + list(range(256))
    words += [chance.choice(words) ^ 1 << chance.randrange(INSTRUCTION_BITS) for _ in range(500)]

    async def testbench(ctx):
        for word in words:
            ctx.set(dut.word, word)
            await ctx.tick().repeat(Checker.latency)
            assert Cause(ctx.get(dut.cause)) == cause_of(word, config), f"{word:#034x}"

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
