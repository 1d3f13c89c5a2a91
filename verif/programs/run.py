"""Runs a program on the RTL and on the instruction-set simulator, and compares."""

import random
from dataclasses import dataclass

import numpy as np

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import Region, Status
from lutcore.hw.contract.isa import Cause
from lutcore.sim.devices.driver import Driver
from lutcore.sim.devices.registers import CoreState, Setup
from lutcore.sim.devices.rtl import RtlDevice, model_of
from lutcore.sim.machine.base import Order
from lutcore.sim.machine.iss import Iss, IssResult
from lutcore.sim.rtl.simulator import RtlModel
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.programs.case import MEMORY_BYTES, STEPS, Case

__all__ = ["Expected", "Host", "compare", "expected_of", "judge", "outcomes_of"]

#: Cycles allowed to a program that ends or stops by itself: many times what any needs.
BUDGET = 200_000
#: Cycles allowed to an endless one: fewer than its `STEPS` take.
_ENDLESS_BUDGET = 8_000
#: Cycles that the core may need to come to rest when its budget is used up.
_GRACE = 5_000

#: How a program may end whose units take slots that no loader has filled for them. It depends on
#: the moment: a unit waits for ever (DEADLOCK), works on an earlier block (NONE, OPERAND), or gives
#: back more slots than there are (TOKEN).
_RACED = (Cause.NONE, Cause.TOKEN, Cause.OPERAND, Cause.DEADLOCK)


@dataclass(frozen=True)
class Expected:
    """What the instruction-set simulator says of a program.

    Attributes
    ----------
    result
        Of the run whose writes are the reference.
    outcomes
        Every cause and instruction with which the core may end; ``Cause.NONE`` is its END.
    undefined
        Why results depend on the moment; empty if they do not.
    budget
        Cycles to allow.
    before, after
        Memory.
    writes
        Address and bytes of what the program may write.
    """

    result: IssResult
    outcomes: frozenset[tuple[Cause, int]]
    undefined: str
    budget: int
    before: np.ndarray
    after: np.ndarray
    writes: list[tuple[int, np.ndarray]]


def expected_of(case: Case) -> Expected:
    """Run a program on the instruction-set simulator, as often as its outcome is in doubt.

    A program without a fault ends in one way. Where one stops may depend on which unit is faster:
    then it is run with units that go as far ahead as they can, and with ones that lag.
    """
    before = case.memory()
    after = before.copy()
    reference = Iss(case.config, after, case.regions)
    result = reference.run(case.program_length, case.fingerprint, limit=STEPS)
    writes = reference.writes
    outcomes = outcomes_of(result)
    undefined = result.undefined
    if result.faults or result.unfinished or undefined:
        for order in Order:
            for ahead in (False, True):
                iss = Iss(case.config, before.copy(), case.regions)
                other = iss.run(
                    case.program_length, case.fingerprint, order=order, ahead=ahead, limit=STEPS
                )
                outcomes |= outcomes_of(other)
                writes += iss.writes
                undefined = undefined or other.undefined
    budget = BUDGET
    if case.budget is not None:
        budget = case.budget
        outcomes |= _running(len(case.words) - 1)
    elif any(cause == Cause.BUDGET for cause, _ in outcomes):
        budget = _ENDLESS_BUDGET
    return Expected(result, outcomes, undefined, budget, before, after, writes)


def _running(last: int) -> frozenset[tuple[Cause, int]]:
    """The budget may end with any instruction, up to the last one."""
    return frozenset((Cause.BUDGET, number) for number in range(last + 1))


def outcomes_of(result: IssResult) -> frozenset[tuple[Cause, int]]:
    """How a run says that the core may end: causes and instructions."""
    if result.unfinished:
        return result.faults | _running(result.reached + 1)
    return result.faults or frozenset({(Cause.NONE, 0)})


class Host(Driver):
    """One simulated core with its memory, for one program after the other.

    Parameters
    ----------
    config
        The core.
    source
        Random numbers: latency, bandwidth and stalls of the memory.
    model
        A compiled core other than the generated one.
    """

    def __init__(
        self,
        config: CoreConfig,
        source: random.Random,
        model: RtlModel | None = None,
    ) -> None:
        self.memory = np.zeros(MEMORY_BYTES, np.uint8)
        super().__init__(
            RtlDevice(
                model or model_of(config),
                self.memory,
                latency=source.choice([1, 2, 7, 40, 150]),
                bandwidth=source.choice([2.0, 1.0, 0.3, 0.1]),
                stall_seed=source.getrandbits(32),
                stall_probability=source.choice([0.0, 0.2, 0.6, 0.8]),
            )
        )

    def run(self, case: Case, memory: np.ndarray, budget: int) -> CoreState | None:
        """Run a program on a copy of `memory`, which stays in :attr:`memory`.

        Returns
        -------
        CoreState or None
            What the registers say; None if there was no interrupt.
        """
        self.memory[:] = memory
        self.start(Setup(case.regions, case.program_length, case.fingerprint, budget))
        return self.state() if self.device.wait(budget + _GRACE) else None


def compare(case: Case, expected: Expected, seen: CoreState | None, memory: np.ndarray) -> str:
    """What is wrong with a run on the RTL; empty if nothing is."""
    wanted = ", ".join(sorted(_named(*outcome) for outcome in _short(expected.outcomes)))
    if seen is None:
        return f"no interrupt within {expected.budget + _GRACE} cycles, expected {wanted}"
    try:
        cause = seen.cause
    except LutcoreError as error:
        return f"{error}, expected {wanted}"
    if seen.word & 0xFF != 1 << (Status.DONE if cause == Cause.NONE else Status.ERROR):
        return f"STATUS is {seen.word:#010x}, expected {wanted}"
    # A program that has reached its END has stopped at no instruction.
    outcome = cause, 0 if cause == Cause.NONE else seen.instruction
    raced = bool(expected.undefined) and cause in _RACED
    if outcome not in expected.outcomes and not raced:
        return f"{_named(*outcome)}, expected {wanted}"
    base, size = case.regions[Region.RESULTS]
    outside = memory != expected.before
    outside[base : base + size] = False
    if outside.any():
        address = int(np.flatnonzero(outside)[0])
        return f"byte {address:#x}, outside of the results, is written"
    if expected.undefined:
        return ""
    if cause == Cause.NONE:
        return _difference(memory, expected.after, base)
    # Each byte of a stopped program's results is untouched, or as one of its stores leaves it.
    possible = memory == expected.before
    for start, data in expected.writes:
        stop = start + len(data)
        possible[start:stop] |= memory[start:stop] == data
    if not possible.all():
        address = int(np.flatnonzero(~possible)[0])
        return (
            f"byte {address - base} of the results is {memory[address]:#04x}, which no store writes"
        )
    return ""


def _difference(memory: np.ndarray, after: np.ndarray, base: int) -> str:
    wrong = np.flatnonzero(memory != after)
    if not wrong.size:
        return ""
    place = int(wrong[0] - base) // 4
    values = [int(m[base + 4 * place :][:4].view("<u4")[0]) for m in (memory, after)]
    return (
        f"result {place} is {values[0]:#010x}, expected {values[1]:#010x} "
        f"({wrong.size} bytes of memory are wrong)"
    )


def _named(cause: Cause, number: int) -> str:
    return "END" if cause == Cause.NONE else f"{cause.name} at {number}"


def _short(outcomes: frozenset[tuple[Cause, int]]) -> list[tuple[Cause, int]]:
    """Without the many instructions at which a budget may end."""
    return [entry for entry in outcomes if entry[0] != Cause.BUDGET or entry[1] == 0]


def judge(case: Case, source: random.Random, model: RtlModel | None = None) -> str:
    """Run one program on a core of its own; what is wrong, or an empty text."""
    expected = expected_of(case)
    host = Host(case.config, source, model)
    seen = host.run(case, expected.before, expected.budget)
    return compare(case, expected, seen, host.memory)
