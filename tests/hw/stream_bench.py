"""What the benches of the units have in common: streams, buffers, pauses, and an end."""

import random
from collections.abc import Callable
from typing import Any

from amaranth.sim import Simulator

from lutcore.hw.contract.config import SLOTS

__all__ = ["Filler", "get", "pause", "put", "signed_of", "simulate", "until"]

#: A testbench: a coroutine function of the simulator's context.
Testbench = Callable[[Any], Any]


def simulate(dut: Any, *testbenches: Testbench, background=(), limit: int = 20_000) -> None:
    """Run until all testbenches have ended; more than ``limit`` cycles count as a hang."""

    async def watchdog(ctx):
        for _ in range(limit):
            await ctx.tick()
        raise AssertionError(f"still running after {limit} cycles")

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    for process in (*background, watchdog):
        simulator.add_testbench(process, background=True)
    simulator.run()


async def pause(ctx: Any, rng: random.Random, chance: float) -> None:
    """Wait for cycles, each with the given chance of another one."""
    while rng.random() < chance:
        await ctx.tick()


async def until(ctx: Any, condition: Any, *values: Any) -> list[Any]:
    """Wait for the clock edge at which the condition holds; the values at that edge.

    Unlike ``ctx.tick().until()`` it may be abandoned, as happens when another testbench fails.
    """
    met = False
    sampled: list[Any] = []
    while not met:
        _, _, met, *sampled = await ctx.tick().sample(condition, *values)
    return sampled


async def put(ctx: Any, stream: Any, payload: Any) -> None:
    """Offer a payload until it is taken."""
    ctx.set(stream.payload, payload)
    ctx.set(stream.valid, 1)
    await until(ctx, stream.ready)
    ctx.set(stream.valid, 0)


async def get(ctx: Any, stream: Any) -> Any:
    """Wait for a payload and take it."""
    ctx.set(stream.ready, 1)
    (payload,) = await until(ctx, stream.valid, stream.payload)
    ctx.set(stream.ready, 0)
    return payload


def signed_of(value: int, width: int) -> int:
    """The two's complement number in the low bits of ``value``."""
    value &= (1 << width) - 1
    return value - (1 << width) if value >> width - 1 else value


class Filler:
    """Stands for a buffer of two slots and its loader, on the reading side of a unit.

    Fills slots as they become free, word by word, and answers the unit's reads. A word that is not
    written yet reads as noise.

    Parameters
    ----------
    port
        The unit's port to the buffer.
    tokens
        The unit's signals ``available``, ``take`` and ``give``.
    fillings
        For each time that a slot is filled, its words.
    rng
        Random numbers.
    pace
        Chance of a word in a cycle.
    """

    def __init__(
        self,
        port: Any,
        tokens: tuple[Any, Any, Any],
        fillings: list[list[int]],
        rng: random.Random,
        pace: float,
    ) -> None:
        self.port, self.tokens, self.fillings = port, tokens, fillings
        self.rng, self.pace = rng, pace
        self.taken = self.given = 0

    async def run(self, ctx: Any) -> None:
        """Testbench; goes on until the simulation ends."""
        port, (available, *strobes) = self.port, self.tokens
        memory: dict[tuple[int, int], int] = {}
        assigned = written = 0
        while True:
            done = assigned == 0 or written == len(self.fillings[assigned - 1])
            if done and assigned < len(self.fillings) and assigned - self.given < SLOTS:
                assigned, written = assigned + 1, 0
            elif not done and self.rng.random() < self.pace:
                memory[(assigned - 1) % SLOTS, written] = self.fillings[assigned - 1][written]
                written += 1
            newest = (assigned - 1) % SLOTS
            ctx.set(port.writer_slot, newest)
            ctx.set(port.writer_count, written)
            ctx.set(available, assigned > self.taken)
            _, _, enable, slot, word, take, give = await ctx.tick().sample(
                port.enable, port.slot, port.word, *strobes
            )
            self.taken += take
            self.given += give
            assert self.given <= self.taken <= assigned
            if enable:
                known = (slot, word) in memory and not (slot == newest and word >= written)
                noise = self.rng.getrandbits(len(port.data))
                ctx.set(port.data, memory[slot, word] if known else noise)

    def assert_all_given_back(self) -> None:
        """Every filling was taken and given back."""
        assert self.given == self.taken == len(self.fillings)
