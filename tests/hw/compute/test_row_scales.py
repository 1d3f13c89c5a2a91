"""Row scales, from the header of a block of activations to FINAL."""

import random
from typing import Any

from stream_bench import simulate

from lutcore.hw.compute.row_scales import RowScales
from lutcore.hw.contract.config import CoreConfig

#: A header of two words.
CONFIG = CoreConfig(rows=3, lanes=8, group=4, depth=2, planes=1, bus_width=32)


def test_keeps_those_of_the_last_block_of_columns() -> None:
    dut: Any = RowScales(CONFIG)
    rng = random.Random(1)
    words, width = CONFIG.x_header_words, CONFIG.x_word_bits
    headers = [[rng.getrandbits(width) for _ in range(words)] for _ in range(8)]
    keep = [False, True, False, False, True, True, True, True]
    kept = [h for h, k in zip(headers, keep, strict=True) if k]
    ended: list[int] = []
    offered: list[int] = []

    async def feed(ctx):
        cycle = 0
        for header, keeps in zip(headers, keep, strict=True):
            for place, word in enumerate(header):
                last = place == words - 1
                ctx.set(dut.valid, 1)
                ctx.set(dut.word, word)
                ctx.set(dut.keep, keeps and last)
                if keeps and last:
                    ended.append(cycle)
                await ctx.tick()
                cycle += 1
            ctx.set(dut.valid, 0)
            for _ in range(rng.randrange(3)):
                await ctx.tick()
                cycle += 1

    async def take(ctx):
        ctx.set(dut.o.ready, 1)
        cycle = 0
        while len(offered) < len(kept):
            _, _, valid, payload = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid:
                whole = sum(word << n * width for n, word in enumerate(kept[len(offered)]))
                scales = [whole >> 32 * r & 0xFFFFFFFF for r in range(CONFIG.rows)]
                assert list(payload) == scales
                offered.append(cycle)
            cycle += 1

    simulate(dut, feed, take)
    assert [b - a for a, b in zip(ended, offered, strict=True)] == [dut.latency] * len(kept)


def test_has_no_room_when_nothing_is_taken() -> None:
    dut: Any = RowScales(CONFIG)

    async def bench(ctx):
        ctx.set(dut.valid, 1)
        ctx.set(dut.keep, 1)
        taken = 0
        # Between two headers are the activations of a block, so that `room` counts the former one.
        while ctx.get(dut.room):
            ctx.set(dut.valid, 1)
            await ctx.tick()
            ctx.set(dut.valid, 0)
            await ctx.tick().repeat(3)
            taken += 1
        ctx.set(dut.o.ready, 1)
        for _ in range(taken):
            assert ctx.get(dut.o.valid)
            await ctx.tick()
        assert not ctx.get(dut.o.valid)
        assert ctx.get(dut.room)

    simulate(dut, bench)
