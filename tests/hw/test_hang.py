"""A bus that stops answering: whose turn it is, and what the masters say of it."""

from typing import Any

import pytest
from stream_bench import put, simulate

from lutcore.hw.memory.dma import ReadMaster, WriteMaster


def watch(ctx: Any, dut: Any) -> tuple[int, int]:
    return ctx.get(dut.owed), ctx.get(dut.moved)


async def pulse(ctx: Any, *signals: Any) -> None:
    for signal in signals:
        ctx.set(signal, 1)
    await ctx.tick()
    for signal in signals:
        ctx.set(signal, 0)


def test_a_reader_is_owed_address_and_beats() -> None:
    dut: Any = ReadMaster(32, 1)

    async def testbench(ctx):
        bus = dut.bus
        assert watch(ctx, dut) == (0, 0)
        await put(ctx, dut.commands[0], {"address": 0x100, "beats": 3})
        await ctx.tick().repeat(3)
        assert ctx.get(bus.arvalid)
        assert watch(ctx, dut) == (1, 0)  # AR is not taken
        ctx.set(bus.arready, 1)
        assert watch(ctx, dut) == (1, 1)
        await ctx.tick()
        ctx.set(bus.arready, 0)
        await ctx.tick().repeat(3)
        assert watch(ctx, dut) == (1, 0)  # R does not come
        ctx.set(bus.rvalid, 1)
        assert watch(ctx, dut) == (0, 1)
        await ctx.tick()
        # The client does not take the first beat, so the third is not taken from the bus.
        assert watch(ctx, dut) == (0, 1)
        await ctx.tick().repeat(3)
        assert watch(ctx, dut) == (0, 0)
        ctx.set(bus.rlast, 1)
        ctx.set(dut.responses[0].ready, 1)
        await ctx.tick()
        assert watch(ctx, dut) == (0, 1)
        await ctx.tick()
        ctx.set(bus.rvalid, 0)
        assert watch(ctx, dut) == (0, 0)
        assert ctx.get(dut.idle)

    simulate(dut, testbench)


@pytest.mark.parametrize("data_first", [False, True])
def test_a_writer_is_owed_address_beats_and_response(data_first: bool) -> None:
    dut: Any = WriteMaster(32)

    async def testbench(ctx):
        bus = dut.bus
        await put(ctx, dut.command, {"address": 0x100, "beats": 2})
        assert watch(ctx, dut) == (0, 0)
        await put(ctx, dut.i, {"data": 1, "strobe": 15})
        await ctx.tick().repeat(3)
        assert ctx.get(bus.awvalid)
        assert ctx.get(bus.wvalid)
        assert watch(ctx, dut) == (1, 0)
        ready = [bus.awready, bus.wready]
        for signal in reversed(ready) if data_first else ready:
            assert watch(ctx, dut) == (1, 0)  # AW or W is not taken
            ctx.set(signal, 1)
            assert watch(ctx, dut) == (1, 1)
            await pulse(ctx, signal)
        await ctx.tick().repeat(3)
        assert watch(ctx, dut) == (0, 0)  # the core's own second beat is missing
        assert not ctx.get(dut.idle)
        await put(ctx, dut.i, {"data": 2, "strobe": 15})
        assert watch(ctx, dut) == (1, 0)
        await pulse(ctx, bus.wready)
        await ctx.tick().repeat(3)
        assert watch(ctx, dut) == (1, 0)  # B does not come
        ctx.set(bus.bvalid, 1)
        assert watch(ctx, dut) == (1, 1)
        await ctx.tick()
        ctx.set(bus.bvalid, 0)
        assert watch(ctx, dut) == (0, 0)
        assert ctx.get(dut.idle)

    simulate(dut, testbench)
