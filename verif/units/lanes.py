"""Lookup lanes and adder trees, step by step, against plain dot products."""

from collections import deque

import cocotb
import numpy as np

from lutcore.hw.compute.lanes import Lanes
from lutcore.verif.kit import env
from lutcore.verif.oracles.table import (
    dot_products,
    draw_activations,
    signs_of,
    step_columns,
    tables_of,
    ternary_word,
    weight_word,
)
from lutcore.verif.units.streams import UnitBench

_STEPS = "lanes: steps"
#: Cycles from the last lookup in a bank until its next entry may be written.
_DISTANCE = 2


class LanesBench(UnitBench):
    """Writes tables into one bank while steps look up in the other.

    Attributes
    ----------
    expected
        Sums [lanes, rows] that are still to come.
    latency
        Of the lanes, in cycles.
    """

    def __init__(self, dut, name: str) -> None:
        self.config = env.settings().config
        component = Lanes(self.config)
        super().__init__(dut, component, name, "lanes")
        self.latency = component.latency
        self.expected: deque[np.ndarray] = deque()
        self.entry_bits = len(self["write_address"].handle) - 1
        self.low = -(1 << self.config.activation_bits - 1)

    def draw_step(self, ternary: bool) -> tuple[np.ndarray, int]:
        """Activations [rows, columns] of a step, zeros past the end of its run; its places."""
        config, source = self.config, self.random
        columns = step_columns(config, ternary)
        places = config.step
        if not ternary and source.random() < 0.4:
            places = source.randint(1, config.step)
            if config.symmetric and places % config.group:
                env.cover(_STEPS, "sign past the end")
        x = draw_activations(source, config, (config.rows, columns))
        if (x == self.low).all():
            env.cover(_STEPS, "lowest values")
        if not ternary:
            x = np.where(np.arange(columns) < places, x, 0)
        return x, places

    async def fill(self, bank: int, x: np.ndarray, ternary: bool) -> None:
        """Write the tables of a step into a bank, in any order and with gaps."""
        tables = tables_of(self.config, x, ternary)
        order = self.random.sample(range(tables.shape[1]), tables.shape[1])
        gaps = self.random.choice([0, 0, 0.3])
        for entry in order:
            await self.pause(gaps)
            self["write_address"].set(entry | bank << self.entry_bits)
            self["write_data"].set([int(value) for value in tables[:, entry]])
            self["write_enable"].set(1)
            await self.edge
            self["write_enable"].set(0)
            # Without the enable nothing is written.
            self["write_address"].set(self.random.getrandbits(self.entry_bits + 1))
            self["write_data"].handle.value = self.random.getrandbits(self["write_data"].width)

    async def look_up(
        self, bank: int, x: np.ndarray, places: int, count: int, ternary: bool
    ) -> None:
        """Look up random weights, of one plane or of several, each a run of its own."""
        config, source = self.config, self.random
        signs = signs_of(config, places)
        for _ in range(count):
            planes = 1 if ternary else source.choice([1, config.planes])
            env.cover(_STEPS, "single plane" if planes == 1 else "planes")
            env.cover(_STEPS, f"bank {bank}")
            gaps = source.choice([0, 0, 0.4])
            entry = source.randrange(config.tiles)
            total = np.zeros((config.lanes, config.rows), np.int64)
            for plane in reversed(range(planes)):
                word, dots = self._draw_weights(x, signs, ternary)
                total += dots << plane
                if plane < planes - 1 and source.random() < gaps:
                    env.cover(_STEPS, "gap between planes")
                    await self.cycles(source.randint(1, 4))
                await self._issue(bank, word, signs, entry, plane == 0)
            self.expected.append(total)

    def _draw_weights(self, x: np.ndarray, signs: int, ternary: bool) -> tuple[int, np.ndarray]:
        """A word of weights, and its dot products with the activations."""
        config = self.config
        if ternary:
            trits = self.numbers.integers(-1, 2, (config.lanes, x.shape[1]))
            return ternary_word(config, trits), trits @ x.T
        low = self.random.choice([0, 0, 0, 1])
        high = self.random.choice([2, 2, 2, low + 1])
        bits = self.numbers.integers(min(low, high - 1), high, (config.lanes, config.step))
        return weight_word(config, bits, signs, self.random), dot_products(config, bits, x)

    async def _issue(self, bank: int, word: int, signs: int, entry: int, last: bool) -> None:
        step = {"valid": 1, "bank": bank, "plane_last": last}
        step |= {"run_first": 1, "run_last": 1, "entry": entry, "signs": signs}
        self["step"].set(step)
        self["weights"].set(word)
        await self.edge
        # What is there without valid counts for nothing.
        self["step"].set({"bank": self.random.getrandbits(1), "plane_last": 1, "run_last": 1})
        self["weights"].set(self.random.getrandbits(self.config.weight_bits))

    async def steps(self, count: int) -> None:
        """Fill banks in turn, and look up in the one that is filled."""
        config = self.config
        ternary = config.ternary and self.random.random() < 0.6
        x, places = self.draw_step(ternary)
        await self.fill(0, x, ternary)
        for number in range(count):
            bank = number % 2
            following, more = self.draw_step(ternary)
            words = self.random.randint(1, 6)
            looking = self.fork(self.look_up(bank, x, places, words, ternary))
            if self.random.random() < 0.7:
                env.cover(_STEPS, "fill beside lookups")
                await self.fill(1 - bank, following, ternary)
                await looking
            else:
                await looking
                await self.fill(1 - bank, following, ternary)
            await self.cycles(_DISTANCE)
            x, places = following, more

    async def drain(self) -> None:
        """Wait until every sum has come, and for as long as one more could be on its way."""
        while self.expected:
            await self.edge
        await self.cycles(self.latency)

    async def results(self) -> None:
        """Compare each sum as it comes."""
        number = 0
        while True:
            await self.edge
            if not self["o_write"].bits():
                continue
            env.expect("lanes: sums that were asked for", bool(self.expected), True)
            config = self.config
            sums = np.array(self["o_sums"].get()).reshape(config.lanes, config.rows)
            wanted = self.expected.popleft()
            env.expect("lanes: sums [lane, row]", sums, wanted, index=f"step {number} ")
            number += 1

    async def execute(self, count: int) -> None:
        """Steps in a number of banks; compare all sums."""

        async def all_steps() -> None:
            await self.steps(count)
            await self.drain()

        await self.run([all_steps], [self.results], limit=count * 1000 + 1000)


@cocotb.test()
async def random_steps(dut):
    """Sums of every lane and row, in order, for tables of any content and any index."""
    bench = LanesBench(dut, "random_steps")
    await bench.restart()
    for _ in range(2 * env.settings().effort):
        await bench.execute(8)


@cocotb.test()
async def reset_in_flight(dut):
    """After a reset at any time, no sum from before comes, and none is wrong."""
    bench = LanesBench(dut, "reset_in_flight")
    await bench.restart()
    for _ in range(2 * env.settings().effort):

        async def some_steps() -> None:
            await bench.steps(8)

        await bench.interrupt([some_steps], [bench.results], within=80)
        bench.expected.clear()
        await bench.execute(3)
