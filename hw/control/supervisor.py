"""The supervisor: what starts, stops and watches a core."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.isa import PROGRAM_MAX, Cause

__all__ = ["ErrorPort", "Supervisor"]

#: Cycles without any progress, and without a debt of the bus, after which the core counts as
#: deadlocked.
DEADLOCK_CYCLES = 1024
#: Cycles without any transfer after which a bus that owes one counts as hung.
HUNG_CYCLES = 65_536


def _lasts(m: Module, name: str, cycles: int, *, clear: Value) -> Value:
    """Whether ``clear`` has been 0 for ``cycles`` cycles; it stays so until the next.

    A shift register that feeds back two of its bits counts as well as an adder, and for less. Its
    taps are the first ones with which it takes that many steps without coming back to the start.
    """
    width = (cycles + 1).bit_length()
    for tap in reversed(range(width - 1)):
        value, steps = 0, 0
        while steps < cycles and (value != 0 or steps == 0):
            value = (value << 1 & (1 << width) - 1) | (~(value >> width - 1 ^ value >> tap) & 1)
            steps += 1
        if steps == cycles and value != 0:
            break
    passed = Signal(width, name=name)
    lasted = passed == value
    with m.If(clear):
        m.d.sync += passed.eq(0)
    with m.Elif(~lasted):
        m.d.sync += passed.eq(Cat(~(passed[-1] ^ passed[tap]), passed[:-1]))
    return lasted


class ErrorPort(data.Struct):
    """A reason to stop, and the number of the instruction."""

    valid: unsigned(1)
    cause: range(max(Cause) + 1)
    instruction: range(PROGRAM_MAX)


class Supervisor(wiring.Component):
    """Runs a program from start to done or stop.

    The first error is kept, with its instruction; then nothing new is put on the bus, what is
    outstanding drains, the units are reset, and only then does the status say so. A bus that
    does not answer is an error too; the host hears of it at once, as there is nothing to wait for.

    Members
    -------
    start, soft_reset
        Pulses from CONTROL.
    finished
        The program has ended; only while one runs.
    errors
        Reasons to stop, the first in the list wins.
    bus_idle
        Nothing is outstanding.
    progress, bus_owed, bus_moved
        For the watches: a unit worked; it is the memory's turn; a channel of the bus transferred.
    oldest_at, unanswered_at
        Oldest instruction at work, and the one to blame for a bus that does not answer.
    budget
        Cycles allowed, 0 for any number.
    run, abort, unit_reset
        To the units: a program runs; put nothing new on the bus; synchronous reset.
    launch
        Pulse: begin to fetch.
    busy, done, error, draining, hung, cause, instruction
        STATUS.
    cycles
        From start to done.
    interrupt
        Pulse.
    """

    def __init__(self, sources: int) -> None:
        instruction = ErrorPort.as_shape()["instruction"].shape
        super().__init__(
            {
                "start": In(1),
                "soft_reset": In(1),
                "finished": In(1),
                "errors": In(data.ArrayLayout(ErrorPort, sources)),
                "progress": In(1),
                "bus_idle": In(1),
                "bus_owed": In(1),
                "bus_moved": In(1),
                "oldest_at": In(instruction),
                "unanswered_at": In(instruction),
                "budget": In(64),
                "run": Out(1),
                "launch": Out(1),
                "abort": Out(1),
                "unit_reset": Out(1),
                "busy": Out(1),
                "done": Out(1),
                "error": Out(1),
                "draining": Out(1),
                "hung": Out(1),
                "cause": Out(ErrorPort.as_shape()["cause"].shape),
                "instruction": Out(instruction),
                "cycles": Out(48),
                "interrupt": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        runs = Signal()
        over_budget = Signal(reset_less=True)
        # Registers in the path: the comparison may be a cycle late, and the budget stands.
        limited = Signal(reset_less=True)
        m.d.sync += [
            limited.eq(self.budget != 0),
            over_budget.eq(limited & (self.cycles >= self.budget)),
        ]
        stop = Signal(ErrorPort)
        works = self.progress | self.bus_owed | self.bus_moved
        deadlock = Signal(reset_less=True)
        hung = Signal(reset_less=True)
        silent = ~self.bus_owed | self.bus_moved
        m.d.sync += [
            deadlock.eq(_lasts(m, "idle_for", DEADLOCK_CYCLES, clear=~runs | works)),
            hung.eq(_lasts(m, "silent_for", HUNG_CYCLES, clear=silent) & ~silent),
        ]
        reason = Signal(ErrorPort)
        with m.If(over_budget):
            m.d.comb += [reason.valid.eq(1), reason.cause.eq(Cause.BUDGET)]
            m.d.comb += reason.instruction.eq(self.oldest_at)
        with m.If(deadlock):
            m.d.comb += [reason.valid.eq(1), reason.cause.eq(Cause.DEADLOCK)]
            m.d.comb += reason.instruction.eq(self.oldest_at)
        with m.If(hung):
            m.d.comb += [reason.valid.eq(1), reason.cause.eq(Cause.TIMEOUT)]
            m.d.comb += reason.instruction.eq(self.unanswered_at)
        for source in reversed(list(self.errors)):
            with m.If(source.valid):
                m.d.comb += reason.eq(source)
        with m.If(self.soft_reset):
            m.d.comb += [reason.valid.eq(1), reason.cause.eq(Cause.ABORT)]
            m.d.comb += reason.instruction.eq(self.oldest_at)
        # The choice among so many takes a cycle; FETCH's end takes longer.
        m.d.sync += stop.eq(reason)
        with m.If(~runs):
            m.d.sync += stop.eq(0)

        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If(self.start | self.soft_reset):
                    m.d.sync += [
                        self.done.eq(0),
                        self.error.eq(0),
                        self.hung.eq(0),
                        self.cause.eq(Cause.NONE),
                        self.instruction.eq(0),
                    ]
                with m.If(self.start & ~self.soft_reset):
                    m.d.sync += self.cycles.eq(0)
                    m.next = "LAUNCH"
            with m.State("LAUNCH"):
                m.d.sync += self.cycles.eq(self.cycles + 1)
                m.next = "RUN"
            with m.State("RUN"):
                m.d.sync += self.cycles.eq(self.cycles + 1)
                # All of them zero while there is no reason to stop.
                m.d.sync += [
                    self.error.eq(stop.valid & (stop.cause != Cause.ABORT)),
                    self.cause.eq(stop.cause),
                    self.instruction.eq(stop.instruction),
                ]
                with m.If(stop.valid):
                    m.next = "DRAIN"
                with m.Elif(self.finished):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
            with m.State("DRAIN"):
                # Only aresetn helps against a hung bus; the host hears of it.
                m.d.sync += self.hung.eq(self.hung | hung)
                with m.If(self.bus_idle):
                    m.next = "IDLE"
        idle, drains = fsm.ongoing("IDLE"), fsm.ongoing("DRAIN")
        m.d.comb += [
            runs.eq(fsm.ongoing("RUN")),
            self.busy.eq(~idle),
            self.launch.eq(fsm.ongoing("LAUNCH")),
            self.run.eq(~idle & ~drains),
            self.abort.eq(drains),
            self.draining.eq(drains),
            self.interrupt.eq(
                Mux(drains, self.bus_idle | (hung & ~self.hung), self.finished & ~stop.valid)
            ),
            # Reset in the last cycle of the abort: a cycle later a unit could already have put a
            # request on the bus, which nobody would own.
            self.unit_reset.eq(idle | (drains & self.bus_idle)),
        ]
        return m
