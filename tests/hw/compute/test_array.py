"""Tables and lanes together against the dot products that they stand for."""

import random

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.sim import Simulator

from lutcore.hw.compute.fill import TableFill
from lutcore.hw.compute.lanes import Lanes
from lutcore.hw.contract.config import CoreConfig
from lutcore.verif.oracles.table import dot_products, signs_of, weight_word


class Bench(Elaboratable):
    """Table fill and lanes wired as in the core, driven by hand."""

    def __init__(self, config: CoreConfig) -> None:
        self.fill = TableFill(config)
        self.lanes = Lanes(config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fill = self.fill
        m.submodules.lanes = self.lanes
        m.d.comb += [
            self.lanes.write_enable.eq(self.fill.write_enable),
            self.lanes.write_address.eq(self.fill.write_address),
            self.lanes.write_data.eq(self.fill.write_data),
        ]
        return m


CONFIGS = [
    CoreConfig(rows=2, lanes=8, group=4, depth=2, planes=4),
    CoreConfig(rows=1, lanes=8, group=4, depth=3, planes=3, table_form="full"),
    CoreConfig(rows=1, lanes=8, group=2, depth=5, planes=4, activation="int16"),
    CoreConfig(rows=2, lanes=8, group=3, depth=1, planes=8, table_store="register"),
    CoreConfig(rows=1, lanes=8, group=5, depth=1, planes=2, table_form="full"),
    CoreConfig(rows=1, lanes=16, group=6, depth=2, planes=2, table_store="register"),
    CoreConfig(rows=3, lanes=8, group=5, depth=4, planes=1),
    CoreConfig(rows=1, lanes=8, group=2, depth=13, planes=2),
    CoreConfig(rows=1, lanes=8, group=5, depth=11, planes=2, ternary=True),
    CoreConfig(rows=1, lanes=8, group=5, depth=8, planes=1, ternary=True),
    CoreConfig(rows=2, lanes=8, group=5, depth=1, planes=3, ternary=True),
    CoreConfig(rows=1, lanes=8, group=2, depth=13, planes=2, table_form="full"),
    CoreConfig(rows=1, lanes=8, group=3, depth=7, planes=1, table_form="full"),
]


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.table_form}-k{c.group}-G{c.depth}")
def test_run_of_steps(config: CoreConfig, extreme: bool, request) -> None:
    seed = sum(map(ord, request.node.name))
    rng = np.random.default_rng(seed)
    print("seed", seed)
    steps, tiles, planes = 3, 2, config.planes
    low, high = -(1 << config.activation_bits - 1), (1 << config.activation_bits - 1) - 1
    columns = steps * config.step
    if extreme:
        x = np.full((config.rows, columns), low)
        codes = rng.choice([0, (1 << planes) - 1], size=(tiles, config.lanes, columns))
        codes[0] = (1 << planes) - 1
        codes[1, 0] = 0
    else:
        x = rng.integers(low, high + 1, size=(config.rows, columns))
        codes = rng.integers(0, 1 << planes, size=(tiles, config.lanes, columns))
    dut = Bench(config)
    signs = signs_of(config, config.step)
    noise = random.Random(seed)
    results = []

    async def feed(ctx) -> None:
        for s in range(steps):
            part = x[:, s * config.step : (s + 1) * config.step]
            for j in range(config.group):
                for t in range(config.rows * config.depth):
                    r, g = divmod(t, config.depth)
                    ctx.set(dut.fill.i.payload.a[t], int(part[r, g * config.group + j]))
                ctx.set(dut.fill.i.valid, 1)
                await ctx.tick().until(dut.fill.i.ready)
        ctx.set(dut.fill.i.valid, 0)

    async def drive(ctx) -> None:
        step = dut.lanes.step
        for s in range(steps):
            await ctx.tick().until(dut.fill.o.valid)
            ctx.set(dut.fill.o.ready, 1)
            await ctx.tick()
            ctx.set(dut.fill.o.ready, 0)
            for t in range(tiles):
                for p in reversed(range(planes)):
                    bits = codes[t, :, s * config.step : (s + 1) * config.step] >> p & 1
                    ctx.set(dut.lanes.weights, weight_word(config, bits, signs, noise))
                    ctx.set(step.valid, 1)
                    ctx.set(step.bank, s % 2)
                    # As the unit does it: two cycles before the last lookup.
                    ctx.set(dut.fill.release, t == tiles - 1 and p == 0)
                    ctx.set(step.plane_last, p == 0)
                    ctx.set(step.run_first, s == 0)
                    ctx.set(step.run_last, s == steps - 1)
                    ctx.set(step.entry, t)
                    ctx.set(step.signs, signs)
                    await ctx.tick()
            ctx.set(step.valid, 0)
            ctx.set(dut.fill.release, 0)

    async def collect(ctx) -> None:
        for _ in range(tiles):
            (sums,) = await ctx.tick().sample(dut.lanes.o_sums).until(dut.lanes.o_write)
            results.append([sums[i] for i in range(config.lanes * config.rows)])

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(feed, background=True)
    sim.add_testbench(drive, background=True)
    sim.add_testbench(collect)
    sim.run_until(1e-8 * 5000)
    assert len(results) == tiles
    for t in range(tiles):
        want = sum(dot_products(config, codes[t] >> p & 1, x) << p for p in range(planes))
        got = np.array(results[t]).reshape(config.lanes, config.rows)
        assert np.array_equal(got, want)
