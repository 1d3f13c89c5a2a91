"""STORE: every byte of the results to its place."""

import random
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth.sim import Simulator
from stream_bench import get, pause, put, simulate

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import Axis
from lutcore.hw.contract.loops import Loop, walk
from lutcore.hw.transfer.store import StoreUnit


@dataclass(frozen=True)
class Case:
    """A STY instruction."""

    config: CoreConfig
    tiles: int
    step: int  # tiles per body
    row_tiles: int
    last_lanes: int
    last_rows: int
    row_stride: int
    base: int = 0


def config_of(**keys: Any) -> CoreConfig:
    return CoreConfig(rows=2, group=2, depth=1, planes=2, **keys)


CASES = {
    # Parts of rows begin within a beat of 64 bytes, and end anywhere.
    "beats of 64 bytes": Case(
        config_of(lanes=8, bus_width=512, scale_lanes=4, final_lanes=4), 5, 1, 2, 3, 1, 192, 32
    ),
    "a result per beat": Case(
        config_of(lanes=8, bus_width=32, scale_lanes=1, final_lanes=1), 3, 2, 1, 1, 2, 96
    ),
    "two of four": Case(
        config_of(lanes=24, bus_width=128, scale_lanes=8, final_lanes=2), 3, 2, 2, 23, 2, 320
    ),
    "whole beats": Case(
        config_of(lanes=16, bus_width=256, scale_lanes=8, final_lanes=8), 2, 1, 2, 9, 1, 128, 64
    ),
}


@pytest.mark.parametrize("pressure", [0.0, 0.6], ids=["free", "pressed"])
@pytest.mark.parametrize("name", CASES)
def test_instruction(name: str, pressure: float) -> None:
    """Each result lies at base + r·stride + 4n, and no other byte is written."""
    case = CASES[name]
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
def test_operands(address: int, stride: int, n: int, error: int) -> None:
    """Rows start on 32 bytes; a body has no more tiles than the core; else no command is given."""
    dut: Any = StoreUnit(config_of(lanes=8, bus_width=64, scale_lanes=2, final_lanes=2))

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
def test_other_rows_than_were_computed(fault: str) -> None:
    """Rows of two groups of results, two to a row tile."""
    dut: Any = StoreUnit(config_of(lanes=8, bus_width=64, scale_lanes=2, final_lanes=2))
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
