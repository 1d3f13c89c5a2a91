"""The queue against a list, with writers and readers that come at random."""

import random
from collections import deque
from typing import Any

import pytest
from amaranth.sim import Simulator

from lutcore.hw.memory.queue import Queue


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
def test_in_order(depth: int, buffered: bool, bounded: bool) -> None:
    depth += buffered
    dut = Queue(width=16, depth=depth, buffered=buffered, bounded=bounded)
    rng = random.Random(depth)
    most = 0

    async def bench(ctx: Any) -> None:
        nonlocal most
        held: deque[tuple[int, int]] = deque()
        for cycle in range(4000):
            # By turns the writer is faster, and the reader.
            busy = 0.9 if cycle // 100 % 2 else 0.3
            room = ctx.get(dut.w_rdy) if bounded else len(held) < depth
            assert not (bounded and room and len(held) == depth)
            assert bounded or ctx.get(dut.w_rdy)
            write = bool(room) and rng.random() < busy
            read = rng.random() < 1.2 - busy
            word = rng.getrandbits(16)
            ctx.set(dut.w_en, write)
            # What is not written is of no account.
            ctx.set(dut.w_data, word)
            ctx.set(dut.r_en, read)
            valid = ctx.get(dut.r_rdy)
            # An entry is there a cycle after it was written, two if there is a register.
            assert valid or not held or cycle - held[0][1] <= buffered
            if valid:
                assert ctx.get(dut.r_data) == held[0][0]
                if read:
                    held.popleft()
            if write:
                held.append((word, cycle))
            most = max(most, len(held))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert most == depth


def test_refused() -> None:
    with pytest.raises(TypeError, match="above 0: 0"):
        Queue(width=8, depth=0)
    with pytest.raises(TypeError, match="above 1: 1"):
        Queue(width=8, depth=1, buffered=True)
