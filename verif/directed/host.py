"""The host of directed scenarios: sets a core up, lets a job run, and checks what it can see."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lutcore.hw.contract.config import ceil_div
from lutcore.hw.contract.csr import COUNTER_UNITS, CSRS, Region, Status
from lutcore.hw.contract.isa import INSTRUCTION_BITS, Cause
from lutcore.hw.control.csr_file import EXTRA_COUNTERS
from lutcore.hw.util import State
from lutcore.sim.devices.driver import Driver
from lutcore.sim.devices.registers import RESET, START, CoreState, Setup
from lutcore.sim.devices.rtl import RtlDevice
from lutcore.sim.rtl.simulator import CsrError, RtlModel
from lutcore.verif.directed.jobs import GUARD, Job

__all__ = ["Host", "Killed", "Record", "Silence"]

#: Cycles to wait for the interrupt of a core that has no record.
_LONGEST = 5_000_000
#: Difference in cycles that `about` allows for counts near 0.
_NEAR = 16
#: With a record, a wait may take `_FACTOR` times the recorded cycles and `_GRACE` more.
_GRACE, _FACTOR = 4_000, 3

_SLVERR = 2


class Killed(AssertionError):
    """The core did what no correct core does."""


class Silence(Killed):
    """The core did not raise its interrupt in time."""


@dataclass
class Record:
    """What the core without faults did, in the order in which the scenario asked.

    Attributes
    ----------
    waits
        Cycles of each wait for an interrupt.
    facts
        What every correct core of the same timing gives again, exactly or nearly.
    timing
        Cycles that a correct core may also spend otherwise.
    """

    waits: list[int] = field(default_factory=list)
    facts: list[int] = field(default_factory=list)
    timing: list[int] = field(default_factory=list)


class Host(Driver):
    """One core with its memory, and program after program on it.

    Parameters
    ----------
    model, memory
        The compiled core; a memory of `sparse_memory`.
    record
        Filled by a core without faults; read otherwise.
    simulator
        Further arguments of `RtlSim`.
    """

    def __init__(
        self,
        model: RtlModel,
        memory: np.ndarray,
        record: Record,
        *,
        learning: bool,
        **simulator: Any,
    ) -> None:
        device = RtlDevice(model, memory, trace=True, **simulator)
        super().__init__(device)
        self.sim = device.sim
        self.memory, self.record, self.learning = memory, record, learning
        self._bus_width = model.bus_width
        # Cycles that the clock counts and CYCLES does not, between the write that starts a program
        # and the interrupt of one that ends well; None until one has.
        self._uncounted: int | None = None
        # Cycle of the job's interrupt; 0 while nobody has waited for it.
        self._ended = 0
        self._waits = 0
        self._facts = 0
        self.timing: list[int] = []
        self.job: Job | None = None

    # Observations ----------------------------------------------------------------------------

    def check(self, what: str, got: Any, expected: Any) -> None:
        """Compare with what is known beforehand."""
        if got != expected:
            raise Killed(f"{what} is {_text(got)}, expected {_text(expected)}")

    def known(self, got: int) -> int:
        """What the core without faults showed in the same place, such as a number of bursts."""
        if self.learning:
            self.record.facts.append(got)
            return got
        index, self._facts = self._facts, self._facts + 1
        if index == len(self.record.facts):
            raise Killed("the scenario went another way")
        return self.record.facts[index]

    def same(self, what: str, got: int) -> None:
        """Compare with what the core without faults showed in the same place."""
        self.check(what, got, self.known(got))

    def about(self, what: str, got: int) -> None:
        """Compare a count with the core without faults; it may be an eighth more or less."""
        expected = self.known(got)
        if abs(got - expected) > _NEAR + expected // 8:
            raise Killed(f"{what} is {got}, about {expected} expected")

    def wait(self, what: str = "the end", limit: int = _LONGEST) -> int:
        """Run until the interrupt; returns the cycles that took."""
        before = self.sim.cycle
        if not self.learning:
            limit = _FACTOR * self.record.waits[self._waits] + _GRACE
            self._waits += 1
        if not self.sim.run_until_irq(limit):
            raise Silence(f"no interrupt within {limit} cycles, waiting for {what}")
        self._ended = self.sim.cycle
        took = self._ended - before
        if self.learning:
            self.record.waits.append(took)
        return took

    # Registers -------------------------------------------------------------------------------

    def write(self, name: str, value: int, strobe: int = 0xF) -> None:
        """Write those bytes of a register whose bit of `strobe` is set."""
        self.sim.write_csr(CSRS[name].offset, value, strobe)

    def expect_status(
        self,
        bits: Sequence[Status],
        cause: Cause = Cause.NONE,
        instruction: int | None = 0,
    ) -> None:
        """Check STATUS; an instruction of None is compared with the core without faults."""
        found = CoreState(self.read("STATUS"))
        if instruction is None:
            instruction = found.instruction
            self.same("STATUS.INSTRUCTION", instruction)
        self.check("STATUS", found, CoreState.of(bits, cause, instruction))

    # Jobs ------------------------------------------------------------------------------------

    def refused(self, what: str, access: Callable[[], Any]) -> None:
        """A register access that has to be answered with SLVERR."""
        try:
            access()
        except CsrError as error:
            self.check(f"the response to {what}", error.response, _SLVERR)
            return
        raise Killed(f"{what} was accepted")

    def place(self, job: Job) -> None:
        """Put a job into memory."""
        self.job = job
        for region, content in job.before.items():
            base, _ = job.regions[region]
            self.memory[base - GUARD : base - GUARD + len(content)] = content

    def set_up_job(self, job: Job, budget: int = 0) -> None:
        """Write the registers of a job."""
        regions = {}
        for region, (base, size) in job.regions.items():
            offset = job.offsets.get(region, 0)
            regions[region] = base - offset, size + offset + job.spare.get(region, 0)
        self.set_up(Setup(regions, job.length, job.expect, budget))

    def start_job(self, job: Job, budget: int = 0) -> None:
        """Place a job, set it up and start it."""
        self.place(job)
        self.set_up_job(job, budget)
        self._begin()

    def _begin(self) -> None:
        """Start what is set up."""
        self._before = self.sim.stats
        self.write("CONTROL", START)
        self._started = self.sim.cycle
        self._ended = 0

    def run_twice(self, job: Job) -> None:
        """Run a job twice; the second start follows the interrupt of the first one at once."""
        self.start_job(job)
        limit = self.wait(job.name) // 20 + 20
        self.place(job)
        self._begin()
        for _ in range(limit):
            self.sim.step(40)
            if not self.read("STATUS") >> Status.BUSY & 1:
                break
        self.finish(job)

    def abort_and_run(self, job: Job, after: int) -> None:
        """Stop a job after some cycles, and start it again as soon as the core accepts that."""
        self.start_job(job)
        self.sim.step(after)
        self.write("CONTROL", RESET)
        for _ in range(_LONGEST):
            try:
                self._begin()
            except CsrError:
                continue
            break
        # Beats of the stopped run do not count.
        self._before = self.sim.stats
        self.acknowledge()
        self.wait(job.name)
        self.finish(job)

    def acknowledge(self) -> None:
        """Read the pending interrupt and clear it."""
        self.check("IRQ", self.read("IRQ"), 1)
        self.write("IRQ", 1)
        self.check("irq after it was acknowledged", self.sim.run_until_irq(1), False)
        self.check("IRQ after it was acknowledged", self.read("IRQ"), 0)

    def run(self, job: Job, budget: int = 0, *, counters: bool = False) -> None:
        """Run a job from start to end, and check everything; the units' counters if asked for."""
        self.start_job(job, budget)
        self.wait(job.name)
        self.finish(job, counters=counters)

    def finish(self, job: Job, *, counters: bool = False) -> None:
        """Check everything after the interrupt."""
        ended = self.sim.cycle
        after = self.sim.stats
        if job.good:
            self.expect_status([Status.DONE])
        else:
            self._expect_stop(job)
        if job.cause == Cause.DEADLOCK:
            self.same("the silence before the deadlock", self.silence(ended))
        self.acknowledge()
        self.check_memory(job)
        if job.good:
            beats = (
                after.read_beats - self._before.read_beats,
                after.write_beats - self._before.write_beats,
            )
            self.check("beats on the bus", beats, (job.counts.read_beats, job.counts.write_beats))
            for name in EXTRA_COUNTERS:
                self.check_counter(name, getattr(job.counts, name.lower()))
            if job.written >= 0:
                written = after.bytes_written - self._before.bytes_written
                self.check("bytes written", written, job.written)
            if counters:
                self.check_counters(ended)
        cycles = self.read_wide("CYCLES")
        if self._ended:
            uncounted = self._ended - self._started - cycles
            self.same("how CYCLES differs from the clock", uncounted)
            if job.good:
                self._uncounted = uncounted
            elif counters and self._uncounted is not None:
                # A stopped program's interrupt waits until the bus is silent, but its counters
                # stand still from the stop on.
                self.check_counters(self._started + self._uncounted + cycles)
        self.timing.append(cycles)

    def _expect_stop(self, job: Job) -> None:
        """One of the stops that a job can come to."""
        stop = job.cause, job.instruction
        if job.others:
            seen = CoreState(self.read("STATUS"))
            self.same("STATUS of the stop", seen.word)
            stop = next((other for other in job.others if other == seen.stop), stop)
        self.expect_status([Status.ERROR], *stop)

    def check_refused(self, job: Job) -> None:
        """A program that the decoder refuses: it was read, and nothing else has begun."""
        self.expect_status([Status.ERROR], job.cause, job.instruction)
        after = self.sim.stats
        beats = ceil_div(job.length * INSTRUCTION_BITS, self._bus_width)
        more = max(0, after.read_beats - self._before.read_beats - beats)
        self.check("beats read beyond the program", more, 0)
        self.check("beats written", after.write_beats - self._before.write_beats, 0)

    def check_counter(self, name: str, count: int) -> None:
        """One of the units' counters."""
        self.check(name, self.read_wide(name), count)

    def check_counters(self, ended: int) -> None:
        """The counters against the recorded states of the units.

        Needs the cycle of the end, or that in which it would have been if the program had not been
        stopped.
        """
        cycles = self.read_wide("CYCLES")
        # The interrupt is pending in the cycle after the last one of the run.
        last = ended - 1
        begin = last - cycles
        for index, (starts, states) in self.sim.trace().items():
            unit = COUNTER_UNITS[index].upper()
            inside = np.clip(np.append(starts, ended), begin, last)
            lengths = np.diff(inside)
            for state, suffix in enumerate(("BUSY", "WAIT_IN", "WAIT_OUT"), 1):
                count = int(lengths[states == state].sum())
                self.check_counter(f"{unit}_{suffix}", count)
                self.about(f"{unit}_{suffix}", count)
                self.timing.append(count)

    def silence(self, ended: int) -> int:
        """Cycles without any work before one in which the core has stopped."""
        last = 0
        for starts, states in self.sim.trace().values():
            ends = np.append(starts[1:], ended)
            last = max(last, int(ends[states == State.BUSY].max(initial=0)))
        return ended - last

    def _found(self, job: Job, region: Region) -> np.ndarray:
        """What lies in a region and its guards."""
        base, _ = job.regions[region]
        return self.memory[base - GUARD : base - GUARD + len(job.before[region])]

    def check_partly(self, job: Job) -> None:
        """As `check_memory`, of a good program that was stopped: results may be missing."""
        for region, content in job.before.items():
            found = self._found(job, region)
            wrong = (found != content) & (found != job.after[region])
            self.check(f"bytes of {Region(region).name} that are neither", int(wrong.sum()), 0)

    def check_memory(self, job: Job) -> None:
        """Nothing but the results has changed, and those are right."""
        for region, (_, size) in job.regions.items():
            content, found = job.before[region], self._found(job, region)
            if region in job.after:
                wrong = np.nonzero(found != job.after[region])[0]
            else:
                inside = np.zeros(len(content), bool)
                inside[GUARD : GUARD + size] = True
                wrong = np.nonzero((found != content) & ~inside)[0]
            if len(wrong):
                offset = int(wrong[0]) - GUARD
                raise Killed(
                    f"byte {offset} of {Region(region).name} is {found[wrong[0]]:#04x} after "
                    f"{job.name} ({len(wrong)} bytes are wrong)"
                )


def _text(value: Any) -> str:
    plain = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:#x}" if plain else str(value)
