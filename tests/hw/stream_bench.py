"""What the benches of the units have in common: streams, pauses, and an end to every simulation."""

import random
from collections.abc import Callable
from typing import Any

from amaranth.sim import Simulator

__all__ = ["get", "pause", "put", "signed_of", "simulate", "until"]

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
