"""Baselines against numpy, by simulation."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from amaranth.hdl import Fragment
from amaranth.sim import Simulator

from lutcore.fpga.baselines.array import ArraySpec, BaselineArray, Word
from lutcore.fpga.synth.cell_models import modelled
from lutcore.hw.export import Target
from lutcore.sw.base.errors import LutcoreError

__all__ = ["BaselineError", "small", "verify"]


class BaselineError(LutcoreError):
    """A baseline computes something else than numpy."""


def small(spec: ArraySpec) -> ArraySpec:
    """A specification of the same kind that is fast to simulate, and has every part of a tree.

    The columns are a multiple of the bits, and not always a power of two times them.
    """
    columns = min(spec.columns, max(16, 2 * spec.bits))
    columns -= columns % (2 * spec.bits)
    columns = columns or spec.columns
    return replace(
        spec, rows=min(spec.rows, 2), lanes=min(spec.lanes, 2), columns=columns, run=3 * columns
    )


def verify(
    array: BaselineArray, *, family: str | None = None, runs: int = 4, seed: int = 0
) -> None:
    """Simulate a baseline: runs of random and of extreme numbers, with and without gaps.

    Parameters
    ----------
    array
        A small one: the simulator takes seconds for some hundred adders.
    family
        Whose cells are placed, and simulated by models of them; None: plain arithmetic.
    runs
        Random runs; there are six more of extreme numbers, of the longest length.
    seed
        Of the random numbers.

    Raises
    ------
    BaselineError
        If a sum differs, or comes at another time than ``latency`` says.
    """
    rng = np.random.default_rng(seed)
    schedule: list[Word | None] = []
    expected: dict[int, np.ndarray] = {}  # by the cycle of the run's last word
    for codes, x in _stimuli(array, runs, rng):
        gaps = rng.random() < 0.5
        for word in array.words(codes, x):
            while gaps and rng.random() < 0.25:
                schedule.append(None)
            schedule.append(word)
        expected[len(schedule) - 1] = array.expected(codes, x)
    found = _simulate(array, family, schedule, rng)
    name = type(array).__name__
    due = {cycle + array.latency: sums for cycle, sums in expected.items()}
    if sorted(due) != sorted(found):
        raise BaselineError(f"{name}: sums are valid in cycles {sorted(found)}, not {sorted(due)}")
    for cycle, sums in due.items():
        if not np.array_equal(found[cycle], sums):
            raise BaselineError(
                f"{name} of {array.spec}: {found[cycle].tolist()}, not {sums.tolist()}"
            )


def _stimuli(
    array: BaselineArray, runs: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    spec = array.spec
    low, high = -(1 << spec.activation_bits - 1), (1 << spec.activation_bits - 1) - 1
    code_low, code_high = (-1, 1) if spec.ternary else (0, (1 << spec.bits) - 1)
    longest = max(1, spec.run // array.step)
    for number in range(runs):
        k = array.step * (longest if number == 0 else int(rng.integers(1, longest + 1)))
        codes = rng.integers(code_low, code_high + 1, (spec.lanes, k))
        yield codes, rng.integers(low, high + 1, (spec.rows, k))
    k = array.step * longest
    for code in (code_low, code_high, None):
        for x in (low, high):
            signs = rng.integers(0, 2, (spec.lanes, k))
            codes = (
                np.where(signs, code_high, code_low) if code is None else np.full_like(signs, code)
            )
            yield codes, np.full((spec.rows, k), x)


def _simulate(
    array: BaselineArray,
    family: str | None,
    schedule: list[Word | None],
    rng: np.random.Generator,
) -> dict[int, np.ndarray]:
    """The sums by the cycle, counted as the words are, in which they are valid."""
    fragment = modelled(Fragment.get(array, Target(family)))
    found: dict[int, np.ndarray] = {}
    noise = [int(n) for n in rng.integers(0, 2, 64)]

    async def drive(ctx) -> None:
        for word in schedule:
            control = {"valid": 0, "shift": 0, "subtract": 0, "last": 0}
            if word is None:
                # What is not valid must not matter.
                control |= {"shift": noise[0], "last": noise[1], "subtract": noise[2]}
                noise.append(noise.pop(0))
            else:
                control = {
                    "valid": 1,
                    "shift": word.shift,
                    "subtract": word.subtract,
                    "last": word.last,
                }
                ctx.set(array.weights.as_value(), word.weights)
                ctx.set(array.activations.as_value(), word.activations)
            ctx.set(array.control, control)
            await ctx.tick()
        ctx.set(array.control, {"valid": 0, "shift": 0, "subtract": 0, "last": 0})
        await ctx.tick().repeat(64)

    async def watch(ctx) -> None:
        cycle = 0
        async for _, _, valid, *sums in ctx.tick().sample(array.o_valid, *array.o_sums):
            if valid:
                shape = (array.spec.lanes, array.spec.rows)
                found[cycle] = np.array(sums, dtype=np.int64).reshape(shape)
            cycle += 1

    simulator = Simulator(fragment)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    return found
