"""Token counters, and the supervisor: how a program ends, stops and is watched."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from stream_bench import simulate

from lutcore.hw.contract.config import SLOTS
from lutcore.hw.contract.isa import Cause, Token
from lutcore.hw.control import supervisor as module
from lutcore.hw.control.supervisor import Supervisor
from lutcore.hw.control.tokens import TokenBank

DEADLOCK, HUNG = 32, 64


def test_tokens_against_counters() -> None:
    """Random gives and takes on all counters at once, or an addition; overflows among them."""
    dut: Any = TokenBank()
    rng = random.Random(0)
    counts = dict.fromkeys(Token, 0)
    none = dict.fromkeys(Token, 0)
    seen = {"overflow": 0, "add": 0}

    async def bench(ctx):
        given, taken = none, none  # in the cycle before
        for _ in range(5000):
            available = {t: counts[t] > 0 and not taken[t] for t in Token}
            assert ctx.get(dut.available) == sum(available[t] << t for t in Token)
            # Nobody gives or takes while an instruction adds.
            quiet = not any(given.values()) and not any(taken.values())
            add, counter, count = (
                quiet and rng.random() < 0.5,
                rng.choice(list(Token)),
                rng.randrange(3),
            )
            pace = rng.random()
            give = {t: int(not add and pace < 0.7 and rng.random() < 0.3) for t in Token}
            take = {
                t: int(not add and pace < 0.7 and available[t] and rng.random() < 0.45)
                for t in Token
            }
            ctx.set(dut.give, sum(give[t] << t for t in Token))
            ctx.set(dut.take, sum(take[t] << t for t in Token))
            ctx.set(dut.add, add)
            ctx.set(dut.counter, counter)
            ctx.set(dut.count, count)
            overflow = 0
            for token in Token:
                added = count if add and counter == token else 0
                following = (counts[token] + given[token] + added - taken[token]) % 8
                # Too many are told of, and nothing is promised of the counter then.
                overflow |= (following > SLOTS) << token
                counts[token] = following & 3
            assert ctx.get(dut.overflow) == overflow
            assert ctx.get(dut.add_overflow) == (add and overflow != 0)
            seen["add" if add else "overflow"] += overflow != 0
            given, taken = give, take
            await ctx.tick()

    simulate(dut, bench)
    assert seen["overflow"] > 20
    assert seen["add"] > 2


@pytest.fixture
def watched(monkeypatch):
    """Watches that strike early; the real ones would take 65,536 cycles."""
    monkeypatch.setattr(module, "DEADLOCK_CYCLES", DEADLOCK)
    monkeypatch.setattr(module, "HUNG_CYCLES", HUNG)


Scenario = Callable[[Any, Any], Awaitable[None]]


def drive(scenario: Scenario, sources: int = 3) -> None:
    """Run a scenario on a supervisor whose units make progress and whose bus is idle."""
    dut: Any = Supervisor(sources)

    async def bench(ctx):
        ctx.set(dut.progress, 1)
        ctx.set(dut.bus_idle, 1)
        ctx.set(dut.oldest_at, 77)
        ctx.set(dut.unanswered_at, 79)
        await scenario(ctx, dut)

    simulate(dut, bench)


async def pulse(ctx, signal) -> None:
    ctx.set(signal, 1)
    await ctx.tick()
    ctx.set(signal, 0)


async def start(ctx, dut: Any) -> None:
    """Start; return in the first cycle of RUN."""
    await pulse(ctx, dut.start)
    assert ctx.get(dut.launch)
    assert ctx.get(dut.busy)
    await ctx.tick()
    assert not ctx.get(dut.launch)
    assert ctx.get(dut.run)


async def fail(ctx, dut: Any, source: int, cause: Cause, instruction: int) -> None:
    """A source reports an error for one cycle; in the next the supervisor acts upon it."""
    ctx.set(dut.errors[source], {"valid": 1, "cause": cause, "instruction": instruction})
    await ctx.tick()
    ctx.set(dut.errors[source].valid, 0)
    await ctx.tick()


def status(ctx, dut: Any) -> dict[str, int]:
    names = ("busy", "done", "error", "draining", "hung", "cause", "instruction")
    return {name: ctx.get(getattr(dut, name)) for name in names}


def stopped(cause: Cause, instruction: int) -> dict[str, int]:
    error = cause != Cause.ABORT
    return {"busy": 0, "done": 0, "error": error, "draining": 0, "hung": 0,
            "cause": cause, "instruction": instruction}  # fmt: skip


async def interrupts(ctx, dut: Any, limit: int) -> int:
    """Cycles until the interrupt."""
    for cycle in range(limit):
        if ctx.get(dut.interrupt):
            await ctx.tick()
            return cycle
        await ctx.tick()
    raise AssertionError(f"no interrupt within {limit} cycles")


def test_from_start_to_done() -> None:
    async def scenario(ctx, dut):
        assert ctx.get(dut.unit_reset)
        for _ in range(2):
            await start(ctx, dut)
            assert not ctx.get(dut.unit_reset)
            await ctx.tick().repeat(20)
            ctx.set(dut.finished, 1)
            assert ctx.get(dut.interrupt)
            await ctx.tick()
            ctx.set(dut.finished, 0)
            assert not ctx.get(dut.interrupt)
            assert ctx.get(dut.unit_reset)
            assert status(ctx, dut) == {**stopped(Cause.NONE, 0), "error": 0, "done": 1}
            assert ctx.get(dut.cycles) == 22
            await ctx.tick().repeat(3)
            assert ctx.get(dut.cycles) == 22

    drive(scenario)


def test_the_first_error_is_kept() -> None:
    async def scenario(ctx, dut):
        await start(ctx, dut)
        ctx.set(dut.bus_idle, 0)
        await fail(ctx, dut, 1, Cause.BOUNDS, 5)
        # What comes while the bus drains is a consequence.
        await fail(ctx, dut, 0, Cause.TOKEN, 6)
        await pulse(ctx, dut.soft_reset)
        await pulse(ctx, dut.finished)
        now = status(ctx, dut)
        assert (now["cause"], now["instruction"], now["draining"]) == (Cause.BOUNDS, 5, 1)
        ctx.set(dut.bus_idle, 1)
        assert await interrupts(ctx, dut, 3) == 0
        assert status(ctx, dut) == stopped(Cause.BOUNDS, 5)

    drive(scenario)


def test_of_two_errors_at_once_the_first_listed_counts() -> None:
    async def scenario(ctx, dut):
        await start(ctx, dut)
        ctx.set(dut.errors[2], {"valid": 1, "cause": Cause.TOKEN, "instruction": 9})
        ctx.set(dut.errors[1], {"valid": 1, "cause": Cause.READ_ERROR, "instruction": 4})
        await ctx.tick()
        ctx.set(dut.errors[1].valid, 0)
        ctx.set(dut.errors[2].valid, 0)
        # An error outweighs the end, which FETCH does not tell of sooner.
        await pulse(ctx, dut.finished)
        await interrupts(ctx, dut, 3)
        assert status(ctx, dut) == stopped(Cause.READ_ERROR, 4)

    drive(scenario)


def test_a_stop_drains_the_bus() -> None:
    """Units are aborted, but not reset, until nothing is outstanding.

    They have to be reset with the last cycle of the abort: a cycle later they could put a request
    on the bus that nobody waits for, and that the next program gets the data of.
    """

    async def scenario(ctx, dut):
        await start(ctx, dut)
        ctx.set(dut.bus_idle, 0)
        await fail(ctx, dut, 0, Cause.WRITE_ERROR, 3)
        for _ in range(30):
            assert ctx.get(dut.abort)
            assert ctx.get(dut.draining)
            assert ctx.get(dut.busy)
            assert not ctx.get(dut.run)
            assert not ctx.get(dut.unit_reset)
            assert not ctx.get(dut.interrupt)
            await ctx.tick()
        ctx.set(dut.bus_idle, 1)
        assert ctx.get(dut.interrupt)
        assert ctx.get(dut.abort)
        assert ctx.get(dut.unit_reset)
        await ctx.tick()
        assert not ctx.get(dut.abort)
        assert ctx.get(dut.unit_reset)
        assert status(ctx, dut) == stopped(Cause.WRITE_ERROR, 3)

    drive(scenario)


def test_errors_of_idle_units_do_not_matter() -> None:
    async def scenario(ctx, dut):
        await fail(ctx, dut, 0, Cause.TOKEN, 1)
        await ctx.tick().repeat(2)
        assert status(ctx, dut) == {**stopped(Cause.NONE, 0), "error": 0}

    drive(scenario)


def test_abort_and_restart() -> None:
    async def scenario(ctx, dut):
        await start(ctx, dut)
        await ctx.tick().repeat(4)
        await pulse(ctx, dut.soft_reset)
        await interrupts(ctx, dut, 3)
        assert status(ctx, dut) == stopped(Cause.ABORT, 77)
        # A program that stopped leaves nothing behind once the next one runs.
        await start(ctx, dut)
        assert status(ctx, dut) == {**stopped(Cause.NONE, 0), "error": 0, "busy": 1}
        await fail(ctx, dut, 0, Cause.OPERAND, 2)
        await interrupts(ctx, dut, 3)
        assert status(ctx, dut) == stopped(Cause.OPERAND, 2)
        # A reset while idle clears the status; a start with it does nothing.
        ctx.set(dut.start, 1)
        await pulse(ctx, dut.soft_reset)
        ctx.set(dut.start, 0)
        assert status(ctx, dut) == {**stopped(Cause.NONE, 0), "error": 0}
        await start(ctx, dut)

    drive(scenario)


def test_deadlock(watched) -> None:
    """Neither progress nor a debt of the bus, for all the cycles of the watch in a row.

    A burst that waits for the core's own data is no debt of the bus.
    """

    async def scenario(ctx, dut):
        await start(ctx, dut)
        ctx.set(dut.progress, 0)
        ctx.set(dut.bus_idle, 0)
        for signal in (dut.progress, dut.bus_owed, dut.bus_moved):
            await ctx.tick().repeat(DEADLOCK - 5)
            await pulse(ctx, signal)
            assert not ctx.get(dut.draining)
        ctx.set(dut.bus_idle, 1)
        assert DEADLOCK <= await interrupts(ctx, dut, DEADLOCK + 10) <= DEADLOCK + 3
        assert status(ctx, dut) == stopped(Cause.DEADLOCK, 77)

    drive(scenario)


def test_a_bus_that_waits_is_no_deadlock(watched) -> None:
    async def scenario(ctx, dut):
        await start(ctx, dut)
        ctx.set(dut.progress, 0)
        ctx.set(dut.bus_idle, 0)
        ctx.set(dut.bus_owed, 1)
        for _ in range(5):
            await ctx.tick().repeat(HUNG - 5)
            await pulse(ctx, dut.bus_moved)
            assert ctx.get(dut.run)

    drive(scenario)


@pytest.mark.parametrize("progress", [0, 1])
def test_a_bus_that_never_answers(watched, progress: int) -> None:
    """The host hears of it while the program runs, and the core stays busy."""

    async def scenario(ctx, dut):
        await start(ctx, dut)
        ctx.set(dut.progress, progress)
        ctx.set(dut.bus_idle, 0)
        ctx.set(dut.bus_owed, 1)
        assert HUNG <= await interrupts(ctx, dut, HUNG + 10) <= HUNG + 3
        hung = {**stopped(Cause.TIMEOUT, 79), "busy": 1, "draining": 1, "hung": 1}
        for _ in range(2 * HUNG):
            assert status(ctx, dut) == hung
            assert not ctx.get(dut.interrupt)
            await ctx.tick()
        # A soft reset changes nothing.
        await pulse(ctx, dut.soft_reset)
        await ctx.tick().repeat(3)
        assert status(ctx, dut) == hung

    drive(scenario)


def test_budget() -> None:
    async def scenario(ctx, dut):
        ctx.set(dut.budget, 50)
        await start(ctx, dut)
        await interrupts(ctx, dut, 60)
        assert status(ctx, dut) == stopped(Cause.BUDGET, 77)
        assert 50 <= ctx.get(dut.cycles) <= 53
        # A program that needs less is not disturbed, nor is the next one by a used up budget.
        await start(ctx, dut)
        await ctx.tick().repeat(40)
        await pulse(ctx, dut.finished)
        assert ctx.get(dut.done)
        ctx.set(dut.budget, 0)
        await start(ctx, dut)
        await ctx.tick().repeat(200)
        assert ctx.get(dut.run)

    drive(scenario)


@pytest.mark.parametrize("cleared_by", ["soft reset", "start"])
def test_a_hung_bus(watched, cleared_by: str) -> None:
    """The host hears of it once; a late answer ends it after all."""

    async def scenario(ctx, dut):
        await start(ctx, dut)
        ctx.set(dut.bus_idle, 0)
        await fail(ctx, dut, 0, Cause.READ_ERROR, 8)
        ctx.set(dut.bus_owed, 1)
        assert HUNG <= await interrupts(ctx, dut, HUNG + 10) <= HUNG + 3
        now = status(ctx, dut)
        assert (now["hung"], now["busy"], now["draining"]) == (1, 1, 1)
        for _ in range(2 * HUNG):
            assert not ctx.get(dut.interrupt)
            assert not ctx.get(dut.unit_reset)
            await ctx.tick()
        ctx.set(dut.bus_owed, 0)
        ctx.set(dut.bus_idle, 1)
        await interrupts(ctx, dut, 3)
        late = {**stopped(Cause.READ_ERROR, 8), "hung": 1}
        assert status(ctx, dut) == late
        if cleared_by == "soft reset":
            await pulse(ctx, dut.soft_reset)
            assert status(ctx, dut) == {**stopped(Cause.NONE, 0), "error": 0}
        await start(ctx, dut)
        assert not ctx.get(dut.hung)

    drive(scenario)
