"""Table entries that ternary weights do not have."""

import random
from typing import Any

from stream_bench import put, simulate

from lutcore.hw.compute.fill import TableFill
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.ternary import ENTRIES, GROUP


def test_unknown_entries_are_zero() -> None:
    """Also after sums of binary weights; the first set of each bank of an instruction sees to it.

    A table past the end of a run is looked up by bits that are left over in the weight buffer.
    """
    config = CoreConfig(rows=1, lanes=8, group=5, depth=1, planes=2, ternary=True)
    dut: Any = TableFill(config)
    rng = random.Random(1)
    written: dict[int, int] = {}
    lengths: list[int] = []

    async def fill(ctx, ternary: bool, sets: int) -> None:
        ctx.set(dut.ternary, ternary)
        ctx.set(dut.begin, 1)
        await ctx.tick()
        ctx.set(dut.begin, 0)
        for _ in range(sets):
            for _ in range(GROUP if ternary else config.group):
                await put(ctx, dut.i, {"a": [rng.randint(1, 20)], "tag": {}})
        await ctx.tick().repeat(40)

    async def bench(ctx):
        ctx.set(dut.o.ready, 1)
        await fill(ctx, ternary=False, sets=2)
        unknown = [bank * config.entries + entry for bank in (0, 1) for entry in (14, 15)]
        assert all(written[address] for address in unknown)
        for sets in (1, 3):  # an instruction of one set leaves the other bank to the next one
            lengths.clear()
            await fill(ctx, ternary=True, sets=sets)
            assert lengths == [ENTRIES + 2] * min(2, sets) + [ENTRIES] * (sets - 2)
        assert not any(written[address] for address in unknown)
        assert all(written[bank * config.entries + 1] for bank in (0, 1))

    async def memory(ctx):
        before = 0
        while True:
            _, _, enable, address, values, valid = await ctx.tick().sample(
                dut.write_enable, dut.write_address, dut.write_data, dut.o.valid
            )
            if enable:
                written[address] = values[0]
                before += 1
            if valid:
                # The tag leaves with the last entry.
                lengths.append(before)
                before = 0
            ctx.set(dut.release, valid)

    simulate(dut, bench, background=(memory,))
