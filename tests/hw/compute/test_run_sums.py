"""Sums of the activations of runs."""

import random
from typing import Any

from stream_bench import simulate

from lutcore.hw.compute.run_sums import RunSums
from lutcore.hw.contract.config import CoreConfig

CONFIG = CoreConfig(rows=2, lanes=8, group=4, depth=2, planes=1)


def test_sums_by_row_and_their_latency() -> None:
    dut: Any = RunSums(CONFIG)
    rng = random.Random(1)
    width = CONFIG.rows * CONFIG.depth
    # Words that are no run's come before the first: the last one of the header begins a run, too.
    header = [[rng.randrange(-128, 128) for _ in range(width)] for _ in range(2)]
    runs = [
        [
            [rng.choice([-128, 127, rng.randrange(-128, 128)]) for _ in range(width)]
            for _ in range(n)
        ]
        for n in (4, 1, 3)
    ]
    ended: list[int] = []
    offered: list[int] = []

    async def feed(ctx):
        cycle = 0

        async def put(word: list[int], start: bool, end: bool, number: int) -> None:
            nonlocal cycle
            ctx.set(dut.valid, 1)
            ctx.set(dut.a, word)
            ctx.set(dut.run_start, start)
            ctx.set(dut.run_end, end)
            ctx.set(dut.tag.tiles, number)
            if end:
                ended.append(cycle)
            await ctx.tick()
            cycle += 1

        for word in header:
            await put(word, True, False, 0)
        for number, run in enumerate(runs):
            for place, word in enumerate(run):
                await put(word, place == 0, place == len(run) - 1, number)
            ctx.set(dut.valid, 0)
            for _ in range(rng.randrange(3)):
                await ctx.tick()
                cycle += 1
        ctx.set(dut.valid, 0)

    async def take(ctx):
        ctx.set(dut.o.ready, 1)
        cycle = 0
        while len(offered) < len(runs):
            _, _, valid, payload = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid:
                run = runs[len(offered)]
                sums = [
                    sum(sum(word[r * CONFIG.depth : (r + 1) * CONFIG.depth]) for word in run)
                    for r in range(CONFIG.rows)
                ]
                assert list(payload.sums) == sums
                assert payload.tag.tiles == len(offered)
                offered.append(cycle)
            cycle += 1

    simulate(dut, feed, take)
    assert [b - a for a, b in zip(ended, offered, strict=True)] == [dut.latency] * len(runs)
