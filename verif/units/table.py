"""The precompute unit: whole instructions, under pressure on every side."""

import dataclasses

import cocotb
import numpy as np

from lutcore.hw.compute.table import TableUnit
from lutcore.hw.compute.walk import BodyQueue
from lutcore.hw.contract.config import COLUMNS_MAX
from lutcore.hw.contract.isa import LOOP_LEVELS
from lutcore.verif.kit import env
from lutcore.verif.oracles.nest import SHAPES, Case, body_payload, draw_case, draw_work, refused
from lutcore.verif.units.buffers import BufferModel
from lutcore.verif.units.streams import UnitBench, draw_pressure

_EDGES = "table: edges"


class TableBench(UnitBench):
    """Nest, activation buffer and takers around TABLE."""

    def __init__(self, dut, name: str) -> None:
        self.config = env.settings().config
        component = TableUnit(self.config)
        self.half = component.fill.address_width - 1
        super().__init__(dut, component, name, "table")
        self.bank = 0  # of the next set

    async def restart(self) -> None:
        """Reset: the first set is in bank 0 again."""
        await super().restart()
        self.bank = 0

    def load(self, shape: str) -> None:
        """A random instruction of a shape, with random activations."""
        self.shape = shape
        self.case = draw_case(self.random, self.config, shape)
        self.work = draw_work(self.case, self.random)
        self.buffer = BufferModel(self, "x", self.work.fillings)
        tables = self.config.rows * self.config.depth
        # What an instruction does not write is left over from another one.
        self.memory = np.full((tables, 2, 1 << self.half), 1 << 40)
        self.runs_taken = 0
        self.pressures = {
            name: draw_pressure(self.random) for name in ("bodies", "sets", "runs", "rows")
        }

    def processes(self) -> list:
        """What has to come to its end."""
        return [self.bodies, self.sets, self.runs, self.rows]

    def background(self) -> list:
        """What goes on meanwhile."""
        return [self.buffer.run, self.writes, self.no_error]

    def set_layer(self) -> None:
        """The registers that hold for the instruction."""
        case = self.case
        levels = dict(zip(("w_level", "s_level", "x_level", "t_level"), case.levels, strict=True))
        self["fields"].set(levels)
        names = ("planes", "per_plane", "ternary", "bias", "group_size", "last_rows")
        self["layer"].set({name: int(getattr(case, name)) for name in names})

    async def bodies(self) -> None:
        """Start, and offer the bodies."""
        self.set_layer()
        self["start"].set(1)
        await self.edge
        self["start"].set(0)
        for body in self.case.bodies:
            await self.stream("body").put(body_payload(body), self.pressures["bodies"])

    async def writes(self) -> None:
        """What the table memories hold."""
        while True:
            await self.edge
            if self["write_enable"].bits():
                address = self["write_address"].bits()
                bank, place = address >> self.half, address & (1 << self.half) - 1
                self.memory[:, bank, place] = self["write_data"].get()

    async def sets(self) -> None:
        """Take sets, see their tables stand until they are released."""
        pressure = self.pressures["sets"]
        finished = 0
        for number, (tag, tables) in enumerate(self.work.sets):
            got = await self.stream("o_set").get(pressure)
            for name, value in tag.items():
                env.expect(f"table: {name} of the tag", got[name], value, index=f"set {number}")
            await self.edge  # in which the last entry may be written
            await self.pause(pressure)
            stored = self.memory[:, self.bank, : self.config.entries]
            self.bank ^= 1
            # Entries that ternary tables do not have are zero.
            wanted = np.pad(tables, ((0, 0), (0, self.config.entries - tables.shape[1])))
            env.expect("table: entries [table, entry]", stored, wanted, index=f"set {number} ")
            finished += tag["run_last"]
            while finished - self.runs_taken > self.config.tiles:  # no accumulator is free
                await self.edge
            self["release"].set(1)
            await self.edge
            self["release"].set(0)

    async def runs(self) -> None:
        """Take runs; now and then only after a long time."""
        pressure = self.pressures["runs"]
        if self.random.random() < 0.2:
            await self.cycles(300)
        for number, (tag, sums) in enumerate(self.work.runs):
            got = await self.stream("o_run").get(pressure)
            for name, value in tag.items():
                what = f"table: {name} of the run's tag"
                env.expect(what, got["tag"][name], value, index=f"run {number}")
            env.expect("table: sums of activations", got["sums"], sums, index=f"run {number}")
            self.runs_taken += 1

    async def rows(self) -> None:
        """Take row scales."""
        for number, scales in enumerate(self.work.rows):
            got = await self.stream("o_rows").get(self.pressures["rows"])
            env.expect("table: row scales", got, scales, index=f"row tile {number}")

    async def no_error(self) -> None:
        """Nothing is wrong with these instructions."""
        while True:
            await self.edge
            env.expect("table: operand_error", self["operand_error"].bits(), 0)

    async def execute(self) -> None:
        """Run what is loaded and compare everything."""
        sets, size = len(self.work.sets), sum(len(words) for words in self.buffer.fillings)
        limit = 3000 + 40 * (sets * (self.config.entries + 8) + size)
        await self.run(self.processes(), self.background(), limit=limit)
        # Nothing may follow, and every slot is to be free again.
        await self.run([lambda: self.cycles(30)], [self.buffer.run, self.no_more], limit=100)
        self.buffer.verdict()
        self._cover()

    async def no_more(self) -> None:
        """No output is on offer any more."""
        while True:
            await self.edge
            for name in ("o_set", "o_run", "o_rows"):
                env.expect(f"table: {name}.valid at the end", self[f"{name}__valid"].bits(), 0)

    def _cover(self) -> None:
        case, config = self.case, self.config
        low = -(1 << config.activation_bits - 1)
        runs = [places for block in self.work.blocks for places in block.places]
        steps = [step for block in self.work.blocks for run in block.runs for step in run]
        tiles_ragged = case.last_rows < config.rows
        for name, hit in (
            ("short step", any(places % config.step for places in runs)),
            ("short run", any(places < case.group_size for places in runs)),
            ("short table", any(places % config.group for places in runs)),
            ("ragged rows", tiles_ragged or config.rows == 1),
            ("bias", case.bias),
            ("lowest values", any((step == low).all() for step in steps)),
            ("highest values", any((step == -low - 1).all() for step in steps)),
        ):
            if hit:
                env.cover(_EDGES, name)
        env.cover("table: nest", self.shape)


@cocotb.test()
async def instructions(dut):
    """Tables, tags, sums and row scales of random instructions, one after the other."""
    bench = TableBench(dut, "instructions")
    await bench.restart()
    for number in range(max(len(SHAPES), 6 * env.settings().effort)):
        bench.load(SHAPES[number % len(SHAPES)])
        await bench.execute()


@cocotb.test()
async def reset_in_flight(dut):
    """After a reset at any time, an instruction gives what it always gives."""
    bench = TableBench(dut, "reset_in_flight")
    await bench.restart()
    for _ in range(3 * env.settings().effort):
        bench.load(bench.random.choice(SHAPES))
        await bench.interrupt(bench.processes(), bench.background(), within=120)
        bench.load(bench.random.choice(SHAPES))
        await bench.execute()


@cocotb.test()
async def refusals(dut):
    """No more tiles, columns or places of a run than there is room for, and all of K in a slot."""
    bench = TableBench(dut, "refusals")
    config, source = bench.config, bench.random
    for _ in range(40 * env.settings().effort):
        await bench.restart()
        case = draw_case(source, config, "random")
        t_level = source.randint(0, LOOP_LEVELS)
        group = source.choice([case.group_size, config.run, config.run + 1])
        planes, levels = source.randint(1, config.planes), (*case.levels[:3], t_level)
        case = Case(config, case.loops, levels, group, planes=planes, per_plane=True)
        body = source.choice(case.bodies)
        n = source.choice([body.n, config.tiles // planes, config.tiles // planes + 1])
        room = config.weight_words * config.step
        k = source.choice([body.k, config.run, config.run + 1, room, room + 1, COLUMNS_MAX])
        body = dataclasses.replace(body, n=n, k=k)
        bench.case = case
        bench.set_layer()
        bench["x__available"].set(1)
        bench["body__payload"].set(body_payload(body))
        bench["body__valid"].set(1)
        await bench.edge
        bench["body__valid"].set(0)
        seen = 0
        for _ in range(BodyQueue.latency + 1):
            await bench.edge
            seen |= bench["operand_error"].bits()
        wanted = refused(case, body)
        env.expect("table: operand_error", seen, int(wanted),
                   index=f"n={n} k={k} planes={planes} group_size={group}")  # fmt: skip
        if wanted:
            env.cover(_EDGES, "operand error")
