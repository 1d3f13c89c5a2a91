"""The table unit: tables, tags, runs and row scales of whole instructions, under back-pressure."""

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
from stream_bench import Filler, get, pause, put, signed_of, simulate

from lutcore.hw.compute.fill import TableFill
from lutcore.hw.compute.table import TableUnit
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import Axis
from lutcore.hw.contract.loops import Body, Loop
from lutcore.verif.oracles.nest import Case, body_payload, draw_work, refused
from lutcore.verif.oracles.table import tables_of


def set_layer(ctx: Any, dut: Any, case: Case) -> None:
    """The registers that hold for an instruction."""
    for name, value in zip("wsxt", case.levels, strict=True):
        ctx.set(dut.fields[f"{name}_level"], value)
    for name in ("planes", "per_plane", "ternary", "bias", "group_size", "last_rows"):
        ctx.set(dut.layer[name], int(getattr(case, name)))


def flat(value, names) -> dict[str, int]:
    return {name: int(value[name]) for name in names}


N, K, R = Axis.N, Axis.K, Axis.R
SMALL = CoreConfig(rows=2, lanes=8, group=3, depth=2, planes=2, bus_width=64)
CASES = {
    # All of K at once, activations resident, ragged runs and steps.
    "resident": Case(
        SMALL, (Loop(N, 5, 2), Loop(R, 3, 1, 9), Loop(K, 19, 19)), (1, 1, 0, 2), 8, 1, bias=True,
    ),
    # K in blocks, two row tiles in a sum slot, streamed.
    "streamed": Case(
        CoreConfig(rows=3, lanes=8, group=2, depth=3, planes=2, table_form="full", bus_width=128),
        (Loop(N, 2, 1), Loop(R, 3, 2), Loop(K, 20, 8), Loop(R, 0, 1)),
        (4, 3, 4, 2), 8, 2, bias=True,
    ),
    # A group in pieces.
    "pieces": Case(
        CoreConfig(
            rows=1, lanes=8, group=4, depth=1, planes=2, activation="int16", table_store="register",
            bus_width=32,
        ),
        (Loop(N, 2, 2), Loop(R, 2, 2), Loop(K, 24, 16), Loop(K, 0, 8), Loop(R, 0, 1)),
        (5, 3, 5, 2), 16, 1,
    ),
    # Nothing but one column of one row.
    "least": Case(
        CoreConfig(rows=1, lanes=8, group=5, depth=2, planes=1, bus_width=32),
        (), (0, 0, 0, 0), 1, 1,
    ),
    # A sum slot for each row tile, although the innermost loop is over rows.
    "rows innermost": Case(
        SMALL, (Loop(N, 2, 1), Loop(K, 9, 9), Loop(R, 3, 1)), (2, 2, 3, 3), 8, 2, bias=True,
        planes=2, per_plane=True,
    ),
    # More runs than their FIFO holds.
    "short runs": Case(
        CoreConfig(rows=1, lanes=8, group=2, depth=1, planes=1, bus_width=64),
        (Loop(K, 60, 60),), (0, 0, 0, 0), 2, 1,
    ),
    "wide memory": Case(
        CoreConfig(rows=4, lanes=8, group=2, depth=4, planes=1, table_form="full", bus_width=64),
        (Loop(R, 4, 1), Loop(K, 9, 9)), (1, 1, 1, 1), 65_536, 4, bias=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("pressure", [0.0, 0.6], ids=["free", "pressed"])
@pytest.mark.parametrize("name", CASES)
def test_instruction(name: str, pressure: float) -> None:
    case = CASES[name]
    config = case.config
    rng = random.Random(f"{name} {pressure}")
    dut: Any = TableUnit(config)
    work = draw_work(case, rng)
    tokens = dut.x_available, dut.x_take, dut.x_give
    pace = 1 if pressure == 0 else 0.5
    loader = Filler(dut.buffer, tokens, work.fillings, rng, pace)
    memory = [[None] * (2 * config.entries) for _ in range(config.rows * config.depth)]
    taken = 0  # runs

    async def bodies(ctx):
        set_layer(ctx, dut, case)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for body in case.bodies:
            await pause(ctx, rng, pressure)
            await put(ctx, dut.body, body_payload(body))

    async def writes(ctx):
        """What the table memories hold."""
        half = dut.fill.address_width - 1
        ports = (dut.write_enable, dut.write_address, dut.write_data)
        while True:
            _, _, enable, address, entry = await ctx.tick().sample(*ports)
            if enable:
                bank, place = address >> half, address & (1 << half) - 1
                for table, cells in enumerate(memory):
                    cells[bank * config.entries + place] = entry[table]

    async def sets(ctx):
        finished = 0
        for number, (tag, tables) in enumerate(work.sets):
            await pause(ctx, rng, pressure)
            got = await get(ctx, dut.o_set)
            assert flat(got, tag) == tag, f"set {number}"
            await ctx.tick()  # in which the last entry may be written
            await pause(ctx, rng, pressure)
            # The tables must stand until they are released.
            start = number % 2 * config.entries
            stored = [cells[start : start + config.entries] for cells in memory]
            assert stored == tables.tolist(), number
            finished += tag["run_last"]
            while finished - taken > config.tiles:  # no accumulator is free
                await ctx.tick()
            ctx.set(dut.release, 1)
            await ctx.tick()
            ctx.set(dut.release, 0)

    async def runs(ctx):
        nonlocal taken
        if pressure:
            await ctx.tick().repeat(300)  # and sets may go on meanwhile
        for number, (tag, sums) in enumerate(work.runs):
            await pause(ctx, rng, pressure)
            got = await get(ctx, dut.o_run)
            assert flat(got.tag, tag) == tag, f"run {number}"
            assert [got.sums[row] for row in range(config.rows)] == sums, f"run {number}"
            taken += 1

    async def rows(ctx):
        for number, scales in enumerate(work.rows):
            await pause(ctx, rng, pressure)
            got = await get(ctx, dut.o_rows)
            assert [got[row] for row in range(config.rows)] == scales, f"row tile {number}"

    async def watch(ctx):
        while True:
            _, _, error = await ctx.tick().sample(dut.operand_error)
            assert not error

    simulate(dut, bodies, sets, runs, rows, background=(loader.run, writes, watch))
    loader.assert_all_given_back()


def refuses(case: Case, body: Body) -> bool:
    """Whether the unit reports a body."""
    dut: Any = TableUnit(case.config)
    error = False

    async def bench(ctx):
        nonlocal error
        set_layer(ctx, dut, case)
        ctx.set(dut.x_available, 1)
        ctx.set(dut.body.payload, body_payload(body))
        assert not ctx.get(dut.operand_error)
        ctx.set(dut.body.valid, 1)
        error = bool(ctx.get(dut.operand_error))

    simulate(dut, bench)
    return error


@pytest.mark.parametrize(
    ("n", "k", "group_size", "per_plane", "error"),
    [
        (16, 64, 100, 0, 0),
        (17, 64, 100, 0, 1),
        (8, 64, 100, 1, 0),
        (9, 64, 100, 1, 1),
        (1, 65, 100, 0, 1),
        (1, 128, 64, 0, 0),
        (1, 129, 64, 0, 1),
        (1, 1 << 19, 64, 0, 1),
    ],
)
def test_operand_limits(n: int, k: int, group_size: int, per_plane: int, error: int) -> None:
    """No more tiles than accumulators, no longer run than their width, no more than a slot."""
    config = CoreConfig(rows=1, lanes=8, group=4, depth=1, planes=2, run=64, weight_words=32)
    case = Case(config, (), (0, 0, 0, 0), group_size, planes=2, per_plane=bool(per_plane))
    (body,) = case.bodies
    body = dataclasses.replace(body, n=n, k=k)
    assert refuses(case, body) == refused(case, body) == bool(error)


@pytest.mark.parametrize("form", ["symmetric", "full"])
@pytest.mark.parametrize("group", [2, 3, 4, 5, 6])
def test_an_entry_in_every_cycle(group: int, form: str) -> None:
    """Words come in time, and banks are released at once: the fill has no gap."""
    config = CoreConfig(rows=1, lanes=8, group=group, depth=1, planes=1, table_form=form)
    dut: Any = TableFill(config)
    count = 6
    written: list[int] = []
    rng = random.Random(group)
    steps = [[rng.randint(-128, 127) for _ in range(group)] for _ in range(count)]
    memory = [0] * (2 * config.entries)

    async def words(ctx):
        for step in steps:
            for a in step:
                await put(ctx, dut.i, {"a": [a], "tag": {"last_entry": 0}})

    async def sets(ctx):
        ctx.set(dut.o.ready, 1)
        got, cycle = 0, 0
        while got < count:
            ctx.set(dut.release, ctx.get(dut.o.valid))
            ports = (dut.o.valid, dut.write_enable, dut.write_address, dut.write_data)
            _, _, valid, enable, address, entry = await ctx.tick().sample(*ports)
            if enable:
                bank, place = divmod(address, 1 << dut.address_width - 1)
                memory[bank * config.entries + place] = signed_of(entry[0], config.entry_width)
                written.append(cycle)
            if valid:
                start = got % 2 * config.entries
                # The next set may have begun in the other bank only.
                stored = [memory[start : start + config.entries]]
                assert stored == tables_of(config, np.array([steps[got]])).tolist()
                got += 1
            cycle += 1

    simulate(dut, words, sets)
    assert len(written) == count * config.entries
    assert written[-1] - written[0] + 1 == len(written), "the fill pauses"


@pytest.mark.parametrize(
    ("loops", "t_level", "error"),
    [
        ([(Axis.N, 2), (Axis.K, 2)], 1, None),
        ([(Axis.N, 2), (Axis.K, 2), (Axis.R, 2)], 1, None),
        ([(Axis.R, 2), (Axis.K, 1), (Axis.R, 2)], 1, None),
        ([(Axis.K, 1), (Axis.N, 2)], 2, None),
        ([], 0, None),
        ([(Axis.N, 2), (Axis.K, 2)], 2, 0),  # a slot for each part of K
        ([(Axis.N, 2), (Axis.K, 2)], 0, 1),  # a slot for two blocks of tiles
        ([(Axis.N, 2), (Axis.K, 2), (Axis.R, 2)], 0, 3),
        ([(Axis.R, 2), (Axis.K, 2)], 0, 1),  # row tiles, but not innermost
        ([(Axis.K, 2), (Axis.R, 2)], 1, 1),
        ([(Axis.K, 2), (Axis.R, 2)], 0, None),
    ],
)
def test_a_sum_slot_is_all_of_k(
    loops: list[tuple[Axis, int]], t_level: int, error: int | None
) -> None:
    """Loops that do not end together with a sum slot are refused at the first body that shows it.

    Parameters
    ----------
    loops
        Axis and iterations.
    t_level
        Level of the sum slots.
    error
        Number of the body that is refused.
    """
    config = CoreConfig(rows=1, lanes=8, group=4, depth=1, planes=2, run=64)
    nest = tuple(Loop(axis, total, 1) for axis, total in loops)
    case = Case(config, nest, (0, 0, 0, t_level), 100, planes=2)
    found = None
    for number, body in enumerate(case.bodies):
        wrong = refuses(case, body)
        assert wrong == refused(case, body)
        if wrong:
            found = number
            break
    assert found == error
