"""The weight unpacker against the image format of docs/architecture.md, section 'codes'."""

import random

import pytest
from amaranth.sim import Simulator

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.transfer.unpacker import Unpacker


def steps_of(columns: int, group_size: int, step: int) -> list[int]:
    """Columns of each step of a block."""
    sizes = []
    for run_start in range(0, columns, group_size):
        run = min(group_size, columns - run_start)
        sizes += [min(step, run - at) for at in range(0, run, step)]
    return sizes


CASES = [
    # rows, lanes, group, depth, bus, columns, group_size, words per step
    (1, 64, 4, 4, 128, 64, 32, 2),
    (1, 64, 4, 4, 512, 96, 32, 3),
    (1, 8, 4, 2, 32, 64, 64, 4),
    (1, 8, 4, 4, 512, 72, 24, 3),
    (1, 24, 3, 3, 64, 45, 40, 2),
    (1, 8, 5, 4, 128, 130, 128, 2),
    (1, 16, 6, 1, 32, 13, 65_536, 1),
    (1, 128, 2, 1, 32, 8, 8, 1),
]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_words(case: tuple, gaps: bool) -> None:
    rows, lanes, group, depth, bus, columns, group_size, words = case
    config = CoreConfig(rows=rows, lanes=lanes, group=group, depth=depth, bus_width=bus)
    rng = random.Random(str(case) + str(gaps))
    sizes = steps_of(columns, group_size, config.step)
    expected = [rng.getrandbits(size * lanes) for size in sizes for _ in range(words)]
    bits, position = 0, 0
    for index, word in enumerate(expected):
        bits |= word << position
        position += sizes[index // words] * lanes
    beats = ceil_div(position, bus)
    dut = Unpacker(config)
    piece = dut.piece
    got: dict[int, int] = {}
    cycles = 0

    async def source(ctx) -> None:
        ctx.set(dut.start, 1)
        ctx.set(dut.columns, columns)
        ctx.set(dut.group_size, group_size)
        ctx.set(dut.words, words)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.active, 1)
        for beat in range(beats):
            while gaps and rng.random() < 0.4:
                ctx.set(dut.i.valid, 0)
                await ctx.tick()
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.i.payload, bits >> (beat * bus) & (1 << bus) - 1)
            await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)

    async def sink(ctx) -> None:
        nonlocal cycles
        done = False
        ports = (dut.write_enable, dut.write_word, dut.write_data, dut.done, dut.overflow)
        while not done:
            *_, enable, word, data, done, overflow = await ctx.tick().sample(*ports)
            cycles += 1
            assert cycles < 20 * beats + 1000, "the unpacker hangs"
            assert not overflow
            for g in range(dut.groups):
                if enable >> g & 1:
                    mask = (1 << piece) - 1 << g * piece
                    got[word] = got.get(word, 0) & ~mask | data << g * piece

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(source, background=True)
    sim.add_testbench(sink)
    sim.run()
    assert len(got) == len(expected)
    for index, want in enumerate(expected):
        size = sizes[index // words] * lanes
        assert got[index] & (1 << size) - 1 == want, f"word {index}"
    if not gaps and group_size % config.step == 0 and lanes * config.step >= bus:
        assert cycles <= beats + 6, "the unpacker does not keep up with the bus"
