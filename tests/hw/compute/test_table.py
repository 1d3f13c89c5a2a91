"""The table unit: tables, tags, runs and row scales of whole instructions, under back-pressure."""

import random
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth.sim import Simulator
from stream_bench import Filler, get, pause, put, signed_of, simulate

from lutcore.hw.compute.table import TableFill, TableUnit
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import Axis
from lutcore.hw.contract.loops import Body, Loop, walk


@dataclass(frozen=True)
class Case:
    """An MMA instruction and the layer that it works on.

    Levels are those of w, s, x and t; ``entries`` are the accumulators of a tile, more than one
    with scales per plane.
    """

    config: CoreConfig
    loops: tuple[Loop, ...]
    levels: tuple[int, int, int, int]
    group_size: int
    last_rows: int
    bias: bool = False
    entries: int = 1

    @property
    def memory_bits(self) -> int:
        return max(self.config.bus_width, self.config.x_word_bits)

    @property
    def bodies(self) -> list[Body]:
        return list(walk(self.loops))


def runs_of(k: int, group_size: int) -> list[int]:
    """Columns of each run of a body."""
    return [min(group_size, k - start) for start in range(0, k, group_size)]


class Block:
    """The activations of one body, random, and its image as the loader leaves it."""

    def __init__(self, case: Case, k: int, rng: random.Random) -> None:
        config = case.config
        low = -(1 << config.activation_bits - 1)
        choices = [low, -low - 1, 0]
        self.scales = [rng.getrandbits(32) for _ in range(config.rows)]
        self.runs = [
            [
                [
                    rng.choice(choices) if rng.random() < 0.3 else rng.randint(low, -low - 1)
                    for _ in range(columns)
                ]
                for _ in range(config.rows)
            ]
            for columns in runs_of(k, case.group_size)
        ]
        items = []
        header = sum(scale << 32 * row for row, scale in enumerate(self.scales))
        mask = (1 << config.x_word_bits) - 1
        for word in range(config.x_header_words):
            items.append(header >> word * config.x_word_bits & mask)
        for run in self.runs:
            for step in self.steps(config, run):
                items += self._words(config, step)
        per_word = case.memory_bits // config.x_word_bits
        self.words = [
            sum(item << i * config.x_word_bits for i, item in enumerate(items[at : at + per_word]))
            for at in range(0, len(items), per_word)
        ]

    @staticmethod
    def steps(config: CoreConfig, run: list[list[int]]) -> list[list[list[int]]]:
        """The steps of a run, each [rows][step], zeros past its end."""
        return [
            [row[at : at + config.step] + [0] * max(0, at + config.step - len(row)) for row in run]
            for at in range(0, len(run[0]), config.step)
        ]

    @staticmethod
    def _words(config: CoreConfig, step: list[list[int]]) -> list[int]:
        mask = (1 << config.activation_bits) - 1
        return [
            sum(
                (step[row][g * config.group + j] & mask)
                << (row * config.depth + g) * config.activation_bits
                for row in range(config.rows)
                for g in range(config.depth)
            )
            for j in range(config.group)
        ]


def tables_of(config: CoreConfig, step: list[list[int]]) -> list[list[int]]:
    """Stored entries of all tables of a step: [rows * depth][entries]."""
    tables = []
    for row in step:
        for g in range(config.depth):
            a = row[g * config.group : (g + 1) * config.group]
            # Of ±1-coded tables the negation is stored.
            on, off = (1, -1) if config.symmetric else (1, 0)
            if config.halved:
                on, off = -1, 1
            tables.append(
                [
                    sum(on * x if entry >> j & 1 else off * x for j, x in enumerate(a))
                    for entry in range(config.entries)
                ]
            )
    return tables


@dataclass
class Expected:
    """What leaves the unit for a case: (tag, tables), runs, sets of row scales."""

    sets: list
    runs: list
    rows: list


def expect(case: Case, blocks: list[Block]) -> Expected:
    config, out = case.config, Expected([], [], [])
    w, s, _, t = case.levels
    for body, block in zip(case.bodies, blocks, strict=True):
        if body.k_last:
            out.rows.append(block.scales)
        for number, run in enumerate(block.runs):
            first, last = number == 0, number == len(block.runs) - 1
            steps = Block.steps(config, run)
            for index, step in enumerate(steps):
                start, end = index == 0, index == len(steps) - 1
                left = len(run[0]) - index * config.step
                signs = sum((left >= (g + 1) * config.group) << g for g in range(config.depth))
                tag = {
                    "last_entry": body.n * case.entries - 1,
                    "run_first": start,
                    "run_last": end,
                    "body_first": first and start,
                    "w_take": first and start and body.first[w],
                    "w_give": last and end and body.last[w],
                    "signs": signs,
                }
                out.sets.append((tag, tables_of(config, step)))
            inner_rows = body.inner_r and body.inner > t
            tag = {
                "tiles": body.n,
                "rows": case.last_rows if body.r_last else config.rows,
                "body_first": first,
                "s_take": first and body.first[s],
                "s_give": last and body.last[s],
                "t_take": first and body.first[t],
                "t_give": last and body.last[t],
                "t_first": first and body.k_first,
                "t_zero": not inner_rows or body.index == 0,
                "b_take": case.bias and first and body.first[t] and body.first[w],
                "b_give": case.bias and last and body.last[t] and body.last[w],
                "n_last": body.n_last,
                "r_last": body.r_last,
            }
            out.runs.append((tag, [sum(row) for row in run]))
    return out


def fillings_of(case: Case, blocks: list[Block]) -> list[list[int]]:
    """For each time that a slot of the activation buffer is filled, its words."""
    fillings: list[list[int]] = []
    for body, block in zip(case.bodies, blocks, strict=True):
        if body.first[case.levels[2]]:
            fillings.append([])
        words = fillings[-1]
        assert body.address <= len(words), f"a gap before body at {body.address}"
        if body.address == len(words):
            words += block.words
    return fillings


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
        entries=2,
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
    contents: dict[tuple[int, int], Block] = {}
    blocks, filling = [], -1
    for body in case.bodies:
        filling += body.first[case.levels[2]]
        key = (filling, body.address)
        contents.setdefault(key, Block(case, body.k, rng))
        blocks.append(contents[key])
    expected = expect(case, blocks)
    tokens = dut.x_available, dut.x_take, dut.x_give
    pace = 1 if pressure == 0 else 0.5
    loader = Filler(dut.buffer, tokens, fillings_of(case, blocks), rng, pace)
    memory = [[None] * (2 * config.entries) for _ in range(config.rows * config.depth)]
    taken = 0  # runs

    async def bodies(ctx):
        for name, value in zip("wsxt", case.levels, strict=True):
            ctx.set(dut.fields[f"{name}_level"], value)
        ctx.set(dut.layer.group_size, case.group_size)
        ctx.set(dut.layer.last_rows, case.last_rows)
        ctx.set(dut.layer.planes, case.entries)
        ctx.set(dut.layer.per_plane, case.entries > 1)
        ctx.set(dut.layer.bias, case.bias)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for body in case.bodies:
            await pause(ctx, rng, pressure)
            fields = dict(vars(body))
            for flags in ("first", "last"):
                fields[flags] = sum(flag << i for i, flag in enumerate(fields[flags]))
            await put(ctx, dut.body, fields)

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
        for number, (tag, tables) in enumerate(expected.sets):
            await pause(ctx, rng, pressure)
            got = await get(ctx, dut.o_set)
            assert flat(got, tag) == tag, f"set {number}"
            await ctx.tick()  # in which the last entry may be written
            await pause(ctx, rng, pressure)
            # The tables must stand until they are released.
            start = number % 2 * config.entries
            assert [cells[start : start + config.entries] for cells in memory] == tables, number
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
        for number, (tag, sums) in enumerate(expected.runs):
            await pause(ctx, rng, pressure)
            got = await get(ctx, dut.o_run)
            assert flat(got.tag, tag) == tag, f"run {number}"
            assert [got.sums[row] for row in range(config.rows)] == sums, f"run {number}"
            taken += 1

    async def rows(ctx):
        for number, scales in enumerate(expected.rows):
            await pause(ctx, rng, pressure)
            got = await get(ctx, dut.o_rows)
            assert [got[row] for row in range(config.rows)] == scales, f"row tile {number}"

    async def watch(ctx):
        while True:
            _, _, error = await ctx.tick().sample(dut.operand_error)
            assert not error

    simulate(dut, bodies, sets, runs, rows, background=(loader.run, writes, watch))
    loader.assert_all_given_back()


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
    dut: Any = TableUnit(config)

    async def bench(ctx):
        ctx.set(dut.layer.planes, 2)
        ctx.set(dut.layer.per_plane, per_plane)
        ctx.set(dut.layer.group_size, group_size)
        ctx.set(dut.x_available, 1)
        ctx.set(dut.body.payload, {"n": n, "k": k, "first": 63, "last": 63, "k_last": 1})
        assert not ctx.get(dut.operand_error)
        ctx.set(dut.body.valid, 1)
        assert ctx.get(dut.operand_error) == error

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("form", ["symmetric", "full"])
@pytest.mark.parametrize("group", [2, 3, 4, 5, 6])
def test_an_entry_in_every_cycle(group: int, form: str) -> None:
    """Words come in time, and banks are released at once: the fill has no gap."""
    config = CoreConfig(rows=1, lanes=8, group=group, depth=1, planes=1, table_form=form)
    dut: Any = TableFill(config)
    count = 6
    written: list[int] = []
    rng = random.Random(group)
    steps = [[[rng.randint(-128, 127) for _ in range(group)]] for _ in range(count)]
    memory = [0] * (2 * config.entries)

    async def words(ctx):
        for step in steps:
            for a in step[0]:
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
                assert [memory[start : start + config.entries]] == tables_of(config, steps[got])
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
    found = []
    for number, body in enumerate(walk([Loop(axis, total, 1) for axis, total in loops])):
        if _refuses(body, t_level):
            found.append(number)
            break
    assert found == ([] if error is None else [error])


def _refuses(body: Body, t_level: int) -> bool:
    dut: Any = TableUnit(CoreConfig(rows=1, lanes=8, group=4, depth=1, planes=2, run=64))
    refused = False

    async def bench(ctx):
        nonlocal refused
        ctx.set(dut.layer.planes, 2)
        ctx.set(dut.layer.group_size, 100)
        ctx.set(dut.fields.t_level, t_level)
        ctx.set(dut.x_available, 1)
        levels = {
            name: sum(flag << n for n, flag in enumerate(getattr(body, name)))
            for name in ("first", "last")
        }
        plain = ("n", "k", "r", "k_first", "k_last", "n_last", "r_last", "index", "inner")
        values = {name: int(getattr(body, name)) for name in (*plain, "inner_r")}
        ctx.set(dut.body.payload, {**values, **levels})
        ctx.set(dut.body.valid, 1)
        refused = bool(ctx.get(dut.operand_error))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return refused
