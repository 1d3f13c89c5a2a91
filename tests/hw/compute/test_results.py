"""FINAL and STORE: the right sums rounded in the right order, and every byte to its place."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from stream_bench import get, pause, put, simulate

from lutcore.hw.compute.final import FinalUnit
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.float32 import finalise, row_scale_encode
from lutcore.hw.contract.isa import Axis
from lutcore.hw.contract.loops import Loop, walk
from lutcore.hw.transfer.store import StoreUnit


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
class FinalCase:
    """Slots that FINAL gets one after the other."""

    config: CoreConfig
    slots: tuple[Slot, ...]
    last_lanes: int
    last_rows: int
    bias: bool
    exponent: int


FINAL_CASES = {
    "ragged": FinalCase(
        CoreConfig(rows=2, lanes=24, group=2, depth=1, planes=2, bus_width=64, scale_lanes=8,
                   final_lanes=2),
        (Slot(2), Slot(2, r_last=True), Slot(1, n_last=True), Slot(1, n_last=True, r_last=True)),
        last_lanes=5, last_rows=1, bias=False, exponent=-24,
    ),
    # Weights held across row tiles: one bias block for two slots of two and one row tiles.
    "bias held": FinalCase(
        CoreConfig(rows=3, lanes=8, group=2, depth=1, planes=2, bus_width=128, scale_lanes=4,
                   final_lanes=4),
        (
            Slot(2, 2, b_give=False), Slot(2, 1, r_last=True, b_take=False),
            Slot(1, 2, n_last=True, b_give=False),
            Slot(1, 1, n_last=True, r_last=True, b_take=False),
        ),
        last_lanes=7, last_rows=2, bias=True, exponent=-40,
    ),
    "one at a time": FinalCase(
        CoreConfig(rows=1, lanes=8, group=2, depth=1, planes=2, bus_width=32, scale_lanes=2,
                   final_lanes=1),
        (Slot(1), Slot(2), Slot(3, n_last=True, r_last=True)),
        last_lanes=1, last_rows=1, bias=True, exponent=3,
    ),
    # Several groups of results in a word of the bias buffer; four row tiles in a slot.
    "wide bus": FinalCase(
        CoreConfig(rows=2, lanes=16, group=2, depth=1, planes=2, bus_width=256, scale_lanes=16,
                   final_lanes=2),
        (Slot(1, 4, b_give=False), Slot(1, 3, n_last=True, r_last=True, b_take=False)),
        last_lanes=16, last_rows=2, bias=True, exponent=-30,
    ),
}  # fmt: skip


@pytest.mark.parametrize("pressure", [0.0, 0.6], ids=["free", "pressed"])
@pytest.mark.parametrize("name", FINAL_CASES)
def test_final(name: str, pressure: float) -> None:
    """Row by row, channels in order, each as numpy's reference has it."""
    case = FINAL_CASES[name]
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
    counts = {"taken": 0, "given": 0, "freed": 0}
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
        while True:
            ports = (dut.sum_enable, dut.sum_slot, dut.sum_word, dut.freed)
            _, _, enable, slot, word, freed = await ctx.tick().sample(*ports)
            if enable:
                number = counts["freed"] + (slot != counts["freed"] % 2)
                values = contents[number][word]
                ctx.set(dut.sum_data, values)
            elif freed:
                # SCALE reads through the same port, of what has just been freed.
                noise = [rng.getrandbits(20) for _ in range(config.scale_lanes)]
                ctx.set(dut.sum_data, noise)
            counts["freed"] += freed

    async def biases(ctx):
        """The bias buffer and its loader, which may be slower than FINAL."""
        port, memory, per = dut.bias, {}, dut.bias_width // 32
        fillings = [
            [sum(bits << 32 * i for i, bits in enumerate(block[at : at + per]))
             for at in range(0, len(block), per)]
            for block in blocks
        ]  # fmt: skip
        assigned, written = 0, 0
        while True:
            done = assigned == 0 or written == len(fillings[assigned - 1])
            if done and assigned < len(fillings) and assigned - counts["given"] < 2:
                assigned, written = assigned + 1, 0
            elif not done and rng.random() >= pressure:
                memory[(assigned - 1) % 2, written] = fillings[assigned - 1][written]
                written += 1
            ctx.set(port.writer_slot, (assigned - 1) % 2)
            ctx.set(port.writer_count, written)
            ctx.set(dut.b_available, assigned > counts["taken"])
            _, _, enable, slot, word, take, give = await ctx.tick().sample(
                port.enable, port.slot, port.word, dut.b_take, dut.b_give
            )
            counts["taken"] += take
            counts["given"] += give
            if enable:
                newer = (assigned - 1) % 2 == slot and word >= written
                known = (slot, word) in memory and not newer
                noise = rng.getrandbits(dut.bias_width)
                ctx.set(port.data, memory[slot, word] if known else noise)

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

    background = (watch_ends, sum_buffer, *([biases] if case.bias else []))
    simulate(dut, slots, rows, check, background=background)
    assert flags == ends
    assert counts["freed"] == len(case.slots)
    assert counts["taken"] == counts["given"] == (len(blocks) if case.bias else 0)


def test_final_has_a_result_in_every_cycle() -> None:
    """Within a row tile, also across its rows."""
    config = FINAL_CASES["ragged"].config
    dut: Any = FinalUnit(config)
    valid_at: list[int] = []

    async def bench(ctx):
        ctx.set(dut.layer.last_lanes, config.lanes)
        ctx.set(dut.rows.valid, 1)
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.payload, {"tiles": 2, "row_tiles": 0})
        ctx.set(dut.i.valid, 1)
        for cycle in range(100):
            _, _, valid, ready = await ctx.tick().sample(dut.o.valid, dut.i.ready)
            if valid:
                valid_at.append(cycle)
            if ready:
                ctx.set(dut.i.valid, 0)

    simulate(dut, bench)
    assert len(valid_at) == config.rows * 2 * config.lanes // config.final_lanes
    assert valid_at[-1] - valid_at[0] + 1 == len(valid_at)


@dataclass(frozen=True)
class StoreCase:
    """A STY instruction."""

    config: CoreConfig
    tiles: int
    step: int  # tiles per body
    row_tiles: int
    last_lanes: int
    last_rows: int
    row_stride: int
    base: int = 0


def store_config(**keys: Any) -> CoreConfig:
    return CoreConfig(rows=2, group=2, depth=1, planes=2, **keys)


STORE_CASES = {
    # Parts of rows begin within a beat of 64 bytes, and end anywhere.
    "beats of 64 bytes": StoreCase(
        store_config(lanes=8, bus_width=512, scale_lanes=4, final_lanes=4), 5, 1, 2, 3, 1, 192, 32
    ),
    "a result per beat": StoreCase(
        store_config(lanes=8, bus_width=32, scale_lanes=1, final_lanes=1), 3, 2, 1, 1, 2, 96
    ),
    "two of four": StoreCase(
        store_config(lanes=24, bus_width=128, scale_lanes=8, final_lanes=2), 3, 2, 2, 23, 2, 320
    ),
    "whole beats": StoreCase(
        store_config(lanes=16, bus_width=256, scale_lanes=8, final_lanes=8), 2, 1, 2, 9, 1, 128, 64
    ),
}


@pytest.mark.parametrize("pressure", [0.0, 0.6], ids=["free", "pressed"])
@pytest.mark.parametrize("name", STORE_CASES)
def test_store(name: str, pressure: float) -> None:
    """Each result lies at base + r·stride + 4n, and no other byte is written."""
    case = STORE_CASES[name]
    config = case.config
    rng = random.Random(f"{name} {pressure}")
    dut: Any = StoreUnit(config)
    loops = [
        Loop(Axis.N, case.tiles, case.step, case.step * config.lanes * 4),
        Loop(Axis.R, case.row_tiles, 1, config.rows * case.row_stride),
    ]
    bodies = list(walk(loops, case.base))
    inputs: list[tuple[list[int], bool, bool]] = []  # with the ends of rows and of row tiles
    expected: dict[int, int] = {}  # byte address: byte
    requests: list[tuple[int, int]] = []
    n = (case.tiles - 1) * config.lanes + case.last_lanes
    for number, body in enumerate(bodies):
        first = number // case.row_tiles * case.step * config.lanes
        channels = range(first, min(first + body.n * config.lanes, n))
        first_row = number % case.row_tiles * config.rows
        rows = case.last_rows if body.r_last else config.rows
        for row in range(first_row, first_row + rows):
            values = [rng.getrandbits(32) for _ in channels]
            start = case.base + row * case.row_stride + 4 * first
            requests.append((start, 4 * len(values)))
            for i, value in enumerate(values):
                expected.update({start + 4 * i + b: value >> 8 * b & 255 for b in range(4)})
            # What stands past the end of a row is undefined.
            values += [rng.getrandbits(32) for _ in range(-len(values) % config.final_lanes)]
            starts = range(0, len(values), config.final_lanes)
            for at in starts:
                group = values[at : at + config.final_lanes]
                row_end = at == starts[-1]
                inputs.append((group, row_end, row_end and row == first_row + rows - 1))
    written: dict[int, int] = {}
    granted: list[int] = []  # addresses of the beats that commands have asked for
    taken = 0

    async def walker(ctx):
        ctx.set(dut.layer.last_lanes, case.last_lanes)
        ctx.set(dut.layer.last_rows, case.last_rows)
        ctx.set(dut.layer.row_stride, case.row_stride)
        for body in bodies:
            await pause(ctx, rng, pressure)
            names = ("n", "k", "r", "address", "n_last", "r_last")
            await put(ctx, dut.body, {name: int(getattr(body, name)) for name in names})

    async def groups(ctx):
        for group, row_end, tile_end in inputs:
            await pause(ctx, rng, pressure)
            ctx.set(dut.i_row_end, row_end)
            ctx.set(dut.i_tile_end, tile_end)
            await put(ctx, dut.i, group)

    async def commands(ctx):
        for number, request in enumerate(requests):
            await pause(ctx, rng, pressure)
            got = await get(ctx, dut.command)
            assert (got.offset, 4 * got.length) == request, f"row {number}"
            start, size = request
            first = start // config.beat_bytes * config.beat_bytes
            granted.extend(range(first, start + size, config.beat_bytes))

    async def beats(ctx):
        while len(written) < len(expected):
            await pause(ctx, rng, pressure)
            got = await get(ctx, dut.o)
            address = granted.pop(0)
            for byte in range(config.beat_bytes):
                if got.strobe >> byte & 1:
                    assert address + byte not in written, "written twice"
                    written[address + byte] = got.data >> 8 * byte & 255
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.active)

    async def watch(ctx):
        nonlocal taken
        while True:
            _, _, ready, error = await ctx.tick().sample(dut.body.ready, dut.operand_error)
            taken += ready
            assert not error

    simulate(dut, walker, groups, commands, beats, background=(watch,))
    assert written == expected
    assert not granted
    assert taken == len(bodies)


@pytest.mark.parametrize(
    ("address", "stride", "n", "error"),
    [(32, 64, 16, 0), (16, 64, 16, 1), (32, 48, 16, 1), (4, 64, 1, 1), (0, 32, 17, 1)],
)
def test_store_operands(address: int, stride: int, n: int, error: int) -> None:
    """Rows start on 32 bytes; a body has no more tiles than the core; else no command is given."""
    dut: Any = StoreUnit(store_config(lanes=8, bus_width=64, scale_lanes=2, final_lanes=2))

    async def bench(ctx):
        ctx.set(dut.layer.row_stride, stride)
        ctx.set(dut.layer.last_lanes, 8)
        ctx.set(dut.layer.last_rows, 1)
        ctx.set(dut.body.payload, {"n": n, "address": address})
        ctx.set(dut.body.valid, 1)
        errors = commands = 0
        for _ in range(5):
            _, _, wrong, command = await ctx.tick().sample(dut.operand_error, dut.command.valid)
            errors += wrong
            commands += command
        assert (errors > 0) == error
        assert (commands > 0) == (not error)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("fault", ["row short", "row long", "tile short", "tile long"])
def test_store_of_other_rows_than_were_computed(fault: str) -> None:
    """Rows of two groups of results, two to a row tile."""
    dut: Any = StoreUnit(store_config(lanes=8, bus_width=64, scale_lanes=2, final_lanes=2))
    ends = [(0, 0), (0, 0), (0, 0), (1, 0), (0, 0), (0, 0), (0, 0), (1, 1)]
    place, flags = {
        "row short": (1, (1, 0)),
        "row long": (3, (0, 0)),
        "tile short": (3, (1, 1)),
        "tile long": (7, (1, 0)),
    }[fault]
    ends[place] = flags

    async def bench(ctx):
        ctx.set(dut.layer.row_stride, 32)
        ctx.set(dut.layer.last_lanes, 8)
        ctx.set(dut.layer.last_rows, 2)
        ctx.set(dut.body.payload, {"n": 1, "n_last": 1, "r_last": 1})
        ctx.set(dut.body.valid, 1)
        ctx.set(dut.command.ready, 1)
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.valid, 1)
        taken = 0
        for _ in range(40):
            ctx.set(dut.i_row_end, ends[taken][0])
            ctx.set(dut.i_tile_end, ends[taken][1])
            _, _, wrong, took = await ctx.tick().sample(dut.operand_error, dut.i.ready)
            assert wrong == (took and taken == place)
            if wrong:
                return
            taken += took
        raise AssertionError("no error")

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
