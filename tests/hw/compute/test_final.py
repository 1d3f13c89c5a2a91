"""FINAL: the right sums, rounded in the right order."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from stream_bench import Filler, get, pause, put, simulate

from lutcore.hw.compute.final import FinalUnit
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.float32 import finalise, row_scale_encode


@dataclass(frozen=True)
class Slot:
    """A finished sum slot.

    ``b_take`` and ``b_give``: a new bias block begins with it, or ends with it.
    """

    tiles: int
    row_tiles: int = 1
    n_last: bool = False
    r_last: bool = False
    b_take: bool = True
    b_give: bool = True


@dataclass(frozen=True)
class Case:
    """Slots that FINAL gets one after the other."""

    config: CoreConfig
    slots: tuple[Slot, ...]
    last_lanes: int
    last_rows: int
    bias: bool
    exponent: int


CASES = {
    "ragged": Case(
        CoreConfig(rows=2, lanes=24, group=2, depth=1, planes=2, bus_width=64, scale_lanes=8,
                   final_lanes=2),
        (Slot(2), Slot(2, r_last=True), Slot(1, n_last=True), Slot(1, n_last=True, r_last=True)),
        last_lanes=5, last_rows=1, bias=False, exponent=-24,
    ),
    # Weights held across row tiles: one bias block for two slots of two and one row tiles.
    "bias held": Case(
        CoreConfig(rows=3, lanes=8, group=2, depth=1, planes=2, bus_width=128, scale_lanes=4,
                   final_lanes=4),
        (
            Slot(2, 2, b_give=False), Slot(2, 1, r_last=True, b_take=False),
            Slot(1, 2, n_last=True, b_give=False),
            Slot(1, 1, n_last=True, r_last=True, b_take=False),
        ),
        last_lanes=7, last_rows=2, bias=True, exponent=-40,
    ),
    "one at a time": Case(
        CoreConfig(rows=1, lanes=8, group=2, depth=1, planes=2, bus_width=32, scale_lanes=2,
                   final_lanes=1),
        (Slot(1), Slot(2), Slot(3, n_last=True, r_last=True)),
        last_lanes=1, last_rows=1, bias=True, exponent=3,
    ),
    # Several groups of results in a word of the bias buffer; four row tiles in a slot.
    "wide bus": Case(
        CoreConfig(rows=2, lanes=16, group=2, depth=1, planes=2, bus_width=256, scale_lanes=16,
                   final_lanes=2),
        (Slot(1, 4, b_give=False), Slot(1, 3, n_last=True, r_last=True, b_take=False)),
        last_lanes=16, last_rows=2, bias=True, exponent=-30,
    ),
}  # fmt: skip


@pytest.mark.parametrize("pressure", [0.0, 0.6], ids=["free", "pressed"])
@pytest.mark.parametrize("name", CASES)
def test_slots(name: str, pressure: float) -> None:
    """Row by row, channels in order, each as numpy's reference has it."""
    case = CASES[name]
    config = case.config
    rng = random.Random(f"{name} {pressure}")
    dut: Any = FinalUnit(config)
    # Random sums for every word of both slots, anew for each slot of the case.
    contents, scales, blocks, expected = [], [], [], []
    ends: list[tuple[bool, bool]] = []  # of a row; in a row tile's last row
    for slot in case.slots:
        words = slot.row_tiles * slot.tiles * config.chunks * config.rows
        reach = 1 << rng.choice([10, 40, config.sum_width - 1])
        sums = [[rng.randrange(-reach, reach) for _ in range(config.scale_lanes)]
                for _ in range(words)]  # fmt: skip
        contents.append(sums)
        if slot.b_take:
            values = [rng.choice([0.0, -0.0, 1e-40, rng.gauss(0, 1e6)]) for _ in
                      range(slot.tiles * config.lanes)]  # fmt: skip
            blocks.append(np.array(values, np.float32).view(np.uint32).tolist())
        channels = slot.tiles * config.lanes
        if slot.n_last:
            channels += case.last_lanes - config.lanes
        for row_tile in range(slot.row_tiles):
            codes = [int(row_scale_encode(np.float32(rng.uniform(1e-3, 1e3))))
                     for _ in range(config.rows)]  # fmt: skip
            scales.append(codes)
            last = slot.r_last and row_tile == slot.row_tiles - 1
            for row in range(case.last_rows if last else config.rows):
                results = []
                for channel in range(channels):
                    chunk, lane = divmod(channel, config.scale_lanes)
                    tile_words = slot.tiles * config.chunks * config.rows
                    word = row_tile * tile_words + chunk * config.rows + row
                    bias = blocks[-1][channel] if case.bias else None
                    total = finalise(sums[word][lane], case.exponent, codes[row], bias)
                    results.append(int(total))
                expected.append(results)
                groups = -(-channels // config.final_lanes)
                last_row = row == (case.last_rows if last else config.rows) - 1
                ends += [(False, False)] * (groups - 1)
                ends.append((True, last_row))
    per = dut.bias_width // 32
    fillings = [
        [sum(bits << 32 * i for i, bits in enumerate(block[at : at + per]))
         for at in range(0, len(block), per)]
        for block in blocks if case.bias
    ]  # fmt: skip
    tokens = dut.b.available, dut.b.take, dut.b.give
    biases = Filler(dut.bias, tokens, fillings, rng, 1 - pressure)
    freed_slots = 0
    flags: list[tuple[bool, bool]] = []

    async def slots(ctx):
        ctx.set(dut.layer.last_lanes, case.last_lanes)
        ctx.set(dut.layer.last_rows, case.last_rows)
        ctx.set(dut.layer.exponent, case.exponent)
        ctx.set(dut.layer.bias, case.bias)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for number, slot in enumerate(case.slots):
            await pause(ctx, rng, pressure)
            tag = {
                "slot": number % 2,
                "tiles": slot.tiles,
                "row_tiles": slot.row_tiles - 1,
                "n_last": slot.n_last,
                "r_last": slot.r_last,
                "b_take": case.bias and slot.b_take,
                "b_give": case.bias and slot.b_give,
            }
            await put(ctx, dut.i, tag)

    async def rows(ctx):
        for codes in scales:
            await pause(ctx, rng, pressure)
            await put(ctx, dut.rows, codes)

    async def sum_buffer(ctx):
        """The sum buffer. A slot that has been freed is noise, whatever FINAL still does."""
        nonlocal freed_slots
        while True:
            ports = (dut.sum_enable, dut.sum_slot, dut.sum_word, dut.freed)
            _, _, enable, slot, word, freed = await ctx.tick().sample(*ports)
            if enable:
                number = freed_slots + (slot != freed_slots % 2)
                values = contents[number][word]
                ctx.set(dut.sum_data, values)
            elif freed:
                # SCALE reads through the same port, of what has just been freed.
                noise = [rng.getrandbits(20) for _ in range(config.scale_lanes)]
                ctx.set(dut.sum_data, noise)
            freed_slots += freed

    async def watch_ends(ctx):
        ports = (dut.o.valid, dut.o.ready, dut.o_row_end, dut.o_tile_end)
        while True:
            _, _, valid, ready, row_end, tile_end = await ctx.tick().sample(*ports)
            if valid and ready:
                flags.append((bool(row_end), bool(tile_end)))

    async def check(ctx):
        for number, row in enumerate(expected):
            for at in range(0, len(row), config.final_lanes):
                await pause(ctx, rng, pressure)
                got = await get(ctx, dut.o)
                part = row[at : at + config.final_lanes]
                assert [got[i] for i in range(len(part))] == part, f"row {number}, channel {at}"
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.active)

    simulate(dut, slots, rows, check, background=(watch_ends, sum_buffer, biases.run))
    assert flags == ends
    assert freed_slots == len(case.slots)
    biases.assert_all_given_back()


def test_has_a_result_in_every_cycle() -> None:
    """Within a row tile, also across its rows."""
    config = CASES["ragged"].config
    dut: Any = FinalUnit(config)
    read_at: list[int] = []
    valid_at: list[int] = []

    async def bench(ctx):
        ctx.set(dut.layer.last_lanes, config.lanes)
        ctx.set(dut.rows.valid, 1)
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.payload, {"tiles": 2, "row_tiles": 0})
        ctx.set(dut.i.valid, 1)
        for cycle in range(100):
            _, _, read, valid, ready = await ctx.tick().sample(
                dut.sum_enable, dut.o.valid, dut.i.ready
            )
            if read:
                read_at.append(cycle)
            if valid:
                valid_at.append(cycle)
            if ready:
                ctx.set(dut.i.valid, 0)

    simulate(dut, bench)
    assert len(valid_at) == config.rows * 2 * config.lanes // config.final_lanes
    assert valid_at[-1] - valid_at[0] + 1 == len(valid_at)
    assert valid_at[0] - read_at[0] == dut.latency
