"""The array: bit-serial accumulation over planes, steps and runs, for several tiles at once."""

from collections import deque
from dataclasses import dataclass, field

import cocotb
import numpy as np

from lutcore.hw.compute.array import ArrayUnit
from lutcore.hw.contract.config import ceil_div
from lutcore.verif.kit import env
from lutcore.verif.oracles.table import (
    dot_products,
    draw_activations,
    signs_of,
    tables_of,
    weight_word,
)
from lutcore.verif.units.buffers import BufferModel
from lutcore.verif.units.streams import UnitBench, draw_pressure

_JOB = "accumulators: job"


@dataclass
class TableSet:
    """A table set for the array: its tag, and what is written before it comes."""

    tag: dict[str, int]
    tables: np.ndarray


@dataclass
class Job:
    """Work for one instruction.

    Attributes
    ----------
    layer
        Fields of LAYER.
    sets
        Table sets in order.
    slots
        Words of each weight slot, in the order in which they are taken.
    sums
        What comes out: for every run and accumulator, [lanes, rows].
    """

    layer: dict[str, int]
    sets: list[TableSet] = field(default_factory=list)
    slots: list[list[int]] = field(default_factory=list)
    sums: list[np.ndarray] = field(default_factory=list)


class ArrayBench(UnitBench):
    """TABLE, weight buffer and scale unit around ARRAY."""

    def __init__(self, dut, name: str) -> None:
        self.config = env.settings().config
        component = ArrayUnit(self.config)
        super().__init__(dut, component, name, "accumulators")
        self.entry_bits = component.lanes.index_bits
        self.stream("o", "o_valid", "o_pop", "o_sums")
        self.bank = 0
        self.free = [True, True]

    async def restart(self) -> None:
        """Reset: bank 0 is the first again, and both are free."""
        await super().restart()
        self.bank = 0
        self.free = [True, True]

    # Stimulus ---------------------------------------------------------------------------------

    def draw(self) -> Job:
        """Weight slots, each used by several bodies of several runs."""
        config, source = self.config, self.random
        per_plane = source.random() < 0.4
        planes = source.choice([1, config.planes, source.randint(1, config.planes)])
        most = config.tiles // planes if per_plane else config.tiles
        # LDW refuses more than a slot holds: all planes of a step have to fit.
        most = min(most, config.weight_words // planes)
        tiles = source.choice([1, most, source.randint(1, most)])
        job = Job({"planes": planes, "per_plane": int(per_plane)})
        entries = tiles * planes if per_plane else tiles
        words = tiles * planes
        steps_max = min(4, config.weight_words // words)
        for _ in range(source.randint(1, 3)):
            self._draw_slot(job, entries, words, source.randint(1, steps_max))
        env.cover(_JOB, "per plane" if per_plane else "weighted planes")
        for name, hit in (
            ("single word", words == 1),
            ("all tiles", entries > config.tiles - planes),
            ("slots in turn", len(job.slots) > 1),
        ):
            if hit:
                env.cover(_JOB, name)
        return job

    def draw_single(self) -> Job:
        """Steps of one word, all for the same accumulator."""
        job = Job({"planes": 1, "per_plane": 0})
        steps = min(6, self.config.weight_words, max(1, self.config.run // self.config.step))
        self._draw_slot(job, 1, 1, steps, whole=True)
        return job

    def _draw_slot(
        self, job: Job, entries: int, words: int, steps: int, *, whole: bool = False
    ) -> None:
        """A slot of the weights of some steps, cut into runs, for one or more row tiles."""
        config, source = self.config, self.random
        sizes = []
        while sum(sizes) < steps:
            limit = min(steps - sum(sizes), max(1, config.run // config.step))
            sizes.append(limit if whole else source.randint(1, limit))
        # Places of each run; its last step may be short.
        runs = [
            min(config.run, size * config.step - source.choice([0, source.randrange(config.step)]))
            for size in sizes
        ]
        weights = [self._draw_weights(words) for _ in range(steps)]
        slot: list[int] = []
        step = 0
        for run in runs:
            for index in range(ceil_div(run, config.step)):
                signs = signs_of(config, run - index * config.step)
                slot += [weight_word(config, bits, signs, source) for bits in weights[step]]
                step += 1
        job.slots.append(slot)
        bodies = source.randint(1, 3)
        for body in range(bodies):
            self._draw_body(job, entries, weights, runs, (body == 0, body == bodies - 1))
        for name, hit in (
            ("slot reused", bodies > 1),
            ("several runs", len(runs) > 1),
            ("several steps", any(run > config.step for run in runs)),
            ("short step", any(run % config.step for run in runs)),
        ):
            if hit:
                env.cover(_JOB, name)

    def _draw_weights(self, words: int) -> list[np.ndarray]:
        """Weight bits of each word of a step: random, all 0 or all 1."""
        shape = self.config.lanes, self.config.step
        manner = self.random.choice(["random", "random", "zeros", "ones"])
        if manner == "random":
            return [self.numbers.integers(0, 2, shape) for _ in range(words)]
        return [np.full(shape, int(manner == "ones")) for _ in range(words)]

    def _draw_body(
        self,
        job: Job,
        entries: int,
        weights: list[list[np.ndarray]],
        runs: list[int],
        edge: tuple[bool, bool],
    ) -> None:
        """The table sets of one pass through a slot, and the sums that come of them."""
        config = self.config
        planes = len(weights[0]) // entries
        step = 0
        for number, run in enumerate(runs):
            steps = ceil_div(run, config.step)
            totals = np.zeros((entries, config.lanes, config.rows), np.int64)
            x = np.zeros((config.rows, steps * config.step), np.int64)
            x[:, :run] = draw_activations(self.random, config, (config.rows, run))
            if (x[:, :run] == -(1 << config.activation_bits - 1)).all():
                env.cover(_JOB, "lowest values")
            for index in range(steps):
                part = x[:, index * config.step : (index + 1) * config.step]
                first = number == 0 and index == 0
                last = number == len(runs) - 1 and index == steps - 1
                tag = {
                    "last_entry": entries - 1,
                    "one_entry": entries == 1,
                    "run_first": index == 0,
                    "run_last": index == steps - 1,
                    "body_first": first,
                    "w_take": first and edge[0],
                    "w_give": last and edge[1],
                    "signs": signs_of(config, run - index * config.step),
                }
                tag = {key: int(value) for key, value in tag.items()}
                job.sets.append(TableSet(tag, tables_of(config, part)))
                for word, bits in enumerate(weights[step]):
                    entry, plane = divmod(word, planes)
                    # The most significant plane comes first.
                    totals[entry] += dot_products(config, bits, part) << planes - 1 - plane
                step += 1
            job.sums += list(totals)

    def load(self, job: Job) -> None:
        """Take a job on."""
        self.job = job
        self.buffer = BufferModel(self, "w", job.slots)
        self.ready: deque[TableSet] = deque()
        self.pressures = {name: draw_pressure(self.random) for name in ("fill", "sets", "pop")}
        self.filled = 0

    # What is around the unit ------------------------------------------------------------------

    async def fill(self) -> None:
        """Write the tables of each set into its bank, once that is released."""
        self["layer"].set(self.job.layer)
        self["start"].set(1)
        await self.edge
        self["start"].set(0)
        self["expecting"].set(1)
        await self.cycles(ArrayUnit.settles)
        for table_set in self.job.sets:
            bank = self.bank
            while not self.free[bank]:
                await self.edge
            self.free[bank] = False
            for entry in range(table_set.tables.shape[1]):
                await self.pause(self.pressures["fill"] / 4)
                self["write_enable"].set(1)
                self["write_address"].set(entry | bank << self.entry_bits)
                self["write_data"].set([int(v) for v in table_set.tables[:, entry]])
                if entry == table_set.tables.shape[1] - 1:
                    self.ready.append(table_set)  # valid with the last entry at the earliest
                await self.edge
                self["write_enable"].set(0)
            self.filled += 1
            self.bank = 1 - bank

    async def sets(self) -> None:
        """Offer the sets whose tables are written."""
        for _ in self.job.sets:
            while not self.ready:
                await self.edge
            await self.stream("i").put(self.ready.popleft().tag, self.pressures["sets"])

    async def releases(self) -> None:
        """A bank may be written again two cycles after its release."""
        oldest = self.bank
        while True:
            await self.edge
            if self["release"].bits():
                self.fork(self._release(oldest))
                oldest = 1 - oldest

    async def _release(self, bank: int) -> None:
        await self.edge
        self.free[bank] = True

    async def sums(self) -> None:
        """Take the sums and compare them."""
        config = self.config
        for number, wanted in enumerate(self.job.sums):
            await self.until("o_valid")
            await self.pause(self.pressures["pop"])
            # Only what is there may be popped.
            self["o_pop"].set(1)
            await self.edge
            self["o_pop"].set(0)
            sums = np.array(self["o_sums"].get()).reshape(config.lanes, config.rows)
            env.expect("accumulators: sums [lane, row]", sums, wanted, index=f"tile {number} ")
        for _ in range(20):
            await self.edge
            env.expect("accumulators: more sums than asked for", self["o_valid"].bits(), 0)

    def processes(self) -> list:
        """What has to come to its end."""
        return [self.fill, self.sets, self.sums]

    def background(self) -> list:
        """What goes on meanwhile."""
        return [self.releases, self.buffer.run]

    async def execute(self) -> None:
        """Do the job and compare everything."""
        job, config = self.job, self.config
        words = sum(len(slot) for slot in job.slots)
        limit = 3000 + 20 * (len(job.sets) * (config.entries + 80) + 4 * words)
        await self.run(self.processes(), self.background(), limit=limit)
        self.buffer.verdict()
        env.expect("accumulators: active at the end", self["active"].bits(), 0)


@cocotb.test()
async def random_jobs(dut):
    """Sums of random jobs, one after the other, of different kinds."""
    bench = ArrayBench(dut, "random_jobs")
    await bench.restart()
    for _ in range(5 * env.settings().effort):
        bench.load(bench.draw())
        await bench.execute()


@cocotb.test()
async def single_words(dut):
    """The sum of a step of one word is not ready in time for the next, which is there at once."""
    bench = ArrayBench(dut, "single_words")
    await bench.restart()
    for _ in range(2 * env.settings().effort):
        bench.load(bench.draw_single())
        bench.pressures = dict.fromkeys(bench.pressures, 0.0)
        bench.buffer.pressure = 0.0
        # Two sets are waiting for the first weights.
        bench.buffer.gate = lambda: bench.filled >= min(2, len(bench.job.sets))
        await bench.execute()


@cocotb.test()
async def reset_in_flight(dut):
    """After a reset at any time, nothing is left in accumulators, FIFO or slots."""
    bench = ArrayBench(dut, "reset_in_flight")
    await bench.restart()
    for _ in range(3 * env.settings().effort):
        bench.load(bench.draw())
        await bench.interrupt(bench.processes(), bench.background(), within=150)
        bench.load(bench.draw())
        await bench.execute()
