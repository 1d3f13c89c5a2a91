"""The instruction-set simulator: what a program does to memory, without cycles.

It knows the program, the memory and the configuration, as the core does: instructions are fetched
from memory, the buffers hold the words that the hardware's hold, and the units run as coroutines
that meet at token counters (`lutcore.sim.machine.flow`). The arithmetic is done on whole blocks, in
numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import INSTRUCTION_BITS, PROGRAM_MAX, Cause
from lutcore.sim.machine.base import Counts, Fault, Order, Outcome
from lutcore.sim.machine.numbers import Contents, NumberFlow
from lutcore.sw.program.rules import check, region_problem

__all__ = ["Iss", "IssCounts", "IssResult"]

IssCounts = Counts


@dataclass(frozen=True)
class IssResult:
    """How a program ended.

    Attributes
    ----------
    cause
        ``Cause.NONE`` if it reached its END.
    instruction
        Number of the instruction that stopped the core; of END otherwise.
    counts
        Counters.
    message
        The value that was refused, in words; empty if none was.
    faults
        All causes and instructions that the core may stop with: `cause` and `instruction` are one
        of them. There are several where units that work at the same time meet faults, and the
        fastest is first.
    undefined
        Why results depend on the moment; empty if they do not, as with every legal program.
    unfinished
        The program is longer than `limit`, and was left.
    reached
        The last instruction that was handed to a unit.
    """

    cause: Cause
    instruction: int
    counts: IssCounts
    message: str = ""
    faults: frozenset[tuple[Cause, int]] = field(default=frozenset())
    undefined: str = ""
    unfinished: bool = False
    reached: int = 0


class Iss:
    """A core with its memory.

    Parameters
    ----------
    config
        The core.
    memory
        uint8; addresses count from its first byte. Results are written into it; where a program
        stops with a fault, all that the core may have written by then.
    regions
        Base address and size of each region, as the host sets them in the registers.

    Attributes
    ----------
    writes
        Address and bytes of what the last run wrote, in order.
    """

    def __init__(
        self, config: CoreConfig, memory: np.ndarray, regions: Mapping[Region, tuple[int, int]]
    ) -> None:
        self.config = config
        self.memory = memory
        self.regions = regions
        self.writes: list[tuple[int, np.ndarray]] = []
        self._contents = Contents(config)

    def run(
        self,
        length: int,
        expect: int | None = None,
        *,
        order: Order = Order.LOADERS,
        ahead: bool = False,
        limit: int | None = None,
    ) -> IssResult:
        """Execute the program in its region.

        Parameters
        ----------
        length
            Instructions in the program.
        expect
            Fingerprint that it was made for; None: this core's.
        order, ahead, limit
            See `lutcore.sim.machine.flow.Flow`.

        Returns
        -------
        IssResult
            Errors of the program are results, not exceptions.
        """
        self.writes = []
        counts = IssCounts()
        words, fault = self._fetch(length, expect, counts)
        if fault is not None:
            return _result(Outcome((fault,), "", False, 0), counts, length)
        flow = NumberFlow(
            self.config,
            words,
            {region: size for region, (_, size) in self.regions.items()},
            order=order,
            ahead=ahead,
            limit=limit,
        )
        flow.attach(self._contents, self.memory, self.regions, self.writes)
        flow.counts = counts
        return _result(flow.run(), counts, length)

    def _fetch(
        self, length: int, expect: int | None, counts: IssCounts
    ) -> tuple[list[int], Fault | None]:
        """The program, or why the core refuses it."""
        if expect is not None and expect != self.config.fingerprint:
            return [], Fault(Cause.FINGERPRINT, 0, f"the program is for {expect:#018x}")
        if not 1 <= length <= PROGRAM_MAX:
            message = f"1 to {PROGRAM_MAX} instructions, not {length}"
            return [], Fault(Cause.LENGTH, 0, message)
        problem = region_problem(self.regions)
        if problem is not None:
            return [], Fault(problem.cause, problem.index, problem.message)
        size = INSTRUCTION_BITS // 8
        base, room = self.regions[Region.PROGRAM]
        beats = ceil_div(length * size, self.config.beat_bytes)
        if beats * self.config.beat_bytes > room:
            message = f"{length} instructions, in whole beats, in a region of {room} bytes"
            return [], Fault(Cause.BOUNDS, 0, message)
        counts.read_beats += beats
        code = self.memory[base : base + length * size].tobytes()
        words = [int.from_bytes(code[i : i + size], "little") for i in range(0, len(code), size)]
        problems = check(words, self.config)
        if problems:
            first = problems[0]
            return [], Fault(first.cause, first.index, first.message)
        return words, None


def _result(outcome: Outcome, counts: IssCounts, length: int) -> IssResult:
    rest = {
        "undefined": outcome.undefined,
        "unfinished": outcome.unfinished,
        "reached": outcome.reached,
    }
    if not outcome.faults:
        return IssResult(Cause.NONE, length - 1, counts, **rest)
    first = outcome.faults[0]
    faults = frozenset((fault.cause, fault.instruction) for fault in outcome.faults)
    return IssResult(first.cause, first.instruction, counts, first.message, faults, **rest)
