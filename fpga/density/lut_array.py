"""The LUT array alone: what its density is counted of, and how much of its peak it uses."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from lutcore.hw.compute.array import ArrayUnit
from lutcore.hw.compute.fill import TableFill
from lutcore.hw.compute.tags import set_tag
from lutcore.hw.contract import ternary
from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.export import component_verilog
from lutcore.verif.oracles.table import signs_of, ternary_word, weight_word

__all__ = ["LutArray", "Use", "array_verilog", "measure_use"]


class LutArray(Elaboratable):
    """Table fill, tables, lanes, trees, planes, accumulators, finished sums, and their control.

    Everything between the activation buffer, the weight buffer and the scale unit.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        # Their members are made from signatures, which a type checker does not see.
        self.fill: Any = TableFill(config)
        self.array: Any = ArrayUnit(config)

    def ports(self) -> list[Any]:
        """Inputs and outputs."""
        fill, array = self.fill, self.array
        buffer = array.buffer
        return (
            [fill.i.valid, fill.i.ready, fill.i.payload, fill.ternary, fill.busy]
            + [array.layer, array.start, array.expecting, array.active, array.issue, array.state]
            + [array.w_available, array.w_take, array.w_give]
            + [array.o_valid, array.o_pop, array.o_sums]
            + [value for _, _, value in buffer.signature.flatten(buffer)]
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fill = fill = self.fill
        m.submodules.array = array = self.array
        wiring.connect(m, fill.o, array.i)
        m.d.comb += [
            array.write_enable.eq(fill.write_enable),
            array.write_address.eq(fill.write_address),
            array.write_data.eq(fill.write_data),
            fill.release.eq(array.release),
        ]
        return m


def array_verilog(config: CoreConfig, family: str | None) -> str:
    """Verilog of the array, module ``lut_array``; ``family`` as for `generate_verilog`."""
    array = LutArray(config)
    return component_verilog(array, "lut_array", array.ports(), family)


@dataclass(frozen=True)
class Use:
    """Measured use of an array.

    Attributes
    ----------
    cycles
        From the first lookup of a group to the first of the group after the next two.
    columns
        Columns of weights in these groups.
    steps
        Table sets that they took.
    share
        Useful products over the array's peak in these cycles: weight bits (or trits) of columns
        that exist, over ``depth * group`` (``depth * 3``) per cycle.
    """

    cycles: int
    columns: int
    steps: int
    share: float


def measure_use(config: CoreConfig, planes: int, group_size: int, *, trits: bool = False) -> Use:
    """Simulate the array with weights and activations always there and sums always taken.

    A table set serves as many output tiles as the array has accumulators.

    One row of eight lanes is simulated: control does not depend on their number. All results are
    compared with numpy.

    Parameters
    ----------
    config
        The array.
    planes
        Bit-planes of the weights; 1 for trits.
    group_size
        Columns of a run.
    trits
        Ternary weights, on a core that has tables for them.

    Raises
    ------
    AssertionError
        If a sum is wrong.
    """
    small = config.with_derived(rows=1, lanes=8, tiles=config.tiles, run=config.run)
    return _Run(small, planes, group_size, trits).run()


class _Run:
    """Three groups, of which the cycles from the first to the third are counted."""

    groups = 3

    def __init__(self, config: CoreConfig, planes: int, group_size: int, trits: bool) -> None:
        self.config, self.planes, self.size, self.trits = config, planes, group_size, trits
        self.table_columns = ternary.GROUP if trits else config.group
        self.step = config.depth * self.table_columns
        self.steps = ceil_div(group_size, self.step)
        rng = np.random.default_rng(1)
        shape = (self.groups, self.steps * self.step)
        high = 1 << config.activation_bits - 1
        self.x = rng.integers(-high, high, shape)
        self.x[:, group_size:] = 0
        codes = (-1, 2) if trits else (0, 1 << planes)
        self.codes = rng.integers(*codes, (self.groups, self.config.tiles, config.lanes, shape[1]))

    def run(self) -> Use:
        self.dut = LutArray(self.config)
        self.issued: list[int] = []
        self.sums: list[np.ndarray] = []
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)
        sim.add_testbench(self._feed, background=True)
        sim.add_testbench(self._weights, background=True)
        sim.add_testbench(self._collect)
        sim.run()
        self._check()
        words = self.steps * self.config.tiles * self.planes
        cycles = self.issued[2 * words] - self.issued[0]
        columns = 2 * self.size
        useful = columns * self.config.tiles * self.planes
        return Use(cycles, columns, 2 * self.steps, useful / (cycles * self.step))

    async def _feed(self, ctx) -> None:
        """Activations, a word after the other."""
        fill = self.dut.fill
        ctx.set(fill.ternary, self.trits)
        for group in range(self.groups):
            for step in range(self.steps):
                left = self.size - step * self.step
                places = self.config.group * ceil_div(left, ternary.GROUP) if self.trits else left
                tag: dict[int | str, int] = {
                    "last_entry": self.config.tiles - 1,
                    "run_first": step == 0,
                    "run_last": step == self.steps - 1,
                    "body_first": 0,
                    "w_take": 0,
                    "w_give": 0,
                    "signs": signs_of(self.config, places),
                }
                x = self.x[group, step * self.step :][: self.step]
                for j in range(self.table_columns):
                    ctx.set(fill.i.payload.tag, set_tag(self.config).const(tag))
                    for g in range(self.config.depth):
                        ctx.set(fill.i.payload.a[g], int(x[g * self.table_columns + j]))
                    ctx.set(fill.i.valid, 1)
                    await ctx.tick().until(fill.i.ready)
        ctx.set(fill.i.valid, 0)

    async def _weights(self, ctx) -> None:
        """The weight buffer: the next word a cycle after it is asked for."""
        array = self.dut.array
        ctx.set(array.layer.planes, self.planes)
        ctx.set(array.layer.per_plane, self.trits)
        ctx.set(array.buffer.writer_slot, 0)  # the other one: its words are all there
        cycle = 0
        words = self._words()
        word = next(words)
        async for _, _, asked in ctx.tick().sample(array.issue):
            cycle += 1
            if asked:
                self.issued.append(cycle)
                ctx.set(array.buffer.data, word)
                word = next(words, 0)

    def _words(self):
        noise = random.Random(1)
        for group in range(self.groups):
            for step in range(self.steps):
                for tile in range(self.config.tiles):
                    codes = self.codes[group, tile, :, step * self.step :][:, : self.step]
                    if self.trits:
                        yield ternary_word(self.config, codes)
                        continue
                    signs = signs_of(self.config, self.size - step * self.step)
                    for plane in reversed(range(self.planes)):
                        yield weight_word(self.config, codes >> plane & 1, signs, noise)

    async def _collect(self, ctx) -> None:
        """Sums, taken as soon as they are there."""
        array = self.dut.array
        ctx.set(array.o_pop, 0)
        while len(self.sums) < self.groups * self.config.tiles:
            ctx.set(array.o_pop, ctx.get(array.o_valid))
            if ctx.get(array.o_valid):
                self.sums.append(np.array([ctx.get(v) for v in array.o_sums]))
            await ctx.tick()

    def _check(self) -> None:
        factors = self.codes
        if not self.trits and self.config.symmetric:
            factors = 2 * factors - ((1 << self.planes) - 1)
        expected = np.einsum("gtnk,gk->gtn", factors, self.x).reshape(len(self.sums), -1)
        assert np.array_equal(np.array(self.sums), expected), "the array's sums are wrong"
