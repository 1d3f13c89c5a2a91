"""The host's side: from a program and its activations to results, on any device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console

from lutcore.hw.contract.config import ceil_div
from lutcore.hw.contract.csr import COUNTER_UNITS, CSRS, ID_VALUE, Region, Status
from lutcore.hw.contract.isa import Cause
from lutcore.sim.devices.device import Device
from lutcore.sim.devices.registers import START, CoreState, Counters, Setup, UnitCounters
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.program.asm import format_instruction
from lutcore.sw.program.memory import ALIGNMENT, MemoryMap, contents
from lutcore.sw.program.program import Program

__all__ = ["CoreStopped", "Driver", "Run", "cycle_budget", "run_program"]

#: Cycles that the core may stay silent beyond its budget before the host gives up.
_GRACE = 10_000


class CoreStopped(LutcoreError, RuntimeError):
    """The core stopped with an error instead of reaching the program's end.

    Attributes
    ----------
    cause : Cause
        Why, as in STATUS.
    instruction : int
        Number of the instruction that it befell.
    """

    def __init__(
        self, cause: Cause, instruction: int, program: Sequence[int] = (), detail: str = ""
    ) -> None:
        where = f"instruction {instruction}"
        if instruction < len(program):
            where += f" ({format_instruction(program[instruction])})"
        super().__init__(
            f"the core stopped with {cause.name} at {where}" + (f": {detail}" if detail else "")
        )
        self.cause, self.instruction = cause, instruction


@dataclass(frozen=True)
class Run:
    """A program's run.

    Attributes
    ----------
    y
        float32 [rows, N].
    counters
        The core's own; None where nobody counts.
    bytes_read, bytes_written
        As in `Device.traffic`; None where nobody counts.
    trace
        As in `Device.trace`.
    """

    y: np.ndarray
    counters: Counters | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None
    trace: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


class Driver:
    """A device's registers by name, and the steps of the host's sequence.

    Parameters
    ----------
    device
        Whose core is used.
    """

    def __init__(self, device: Device) -> None:
        self.device = device

    def write(self, name: str, value: int) -> None:
        """Write a register of 32 bits."""
        self.device.write_register(CSRS[name].offset, value)

    def read(self, name: str) -> int:
        """Read a register of 32 bits."""
        return self.device.read_register(CSRS[name].offset)

    def read_wide(self, name: str) -> int:
        """Read a register of 64 bits."""
        return self.read(f"{name}_LO") | self.read(f"{name}_HI") << 32

    def check_identity(self, fingerprint: int) -> None:
        """Make sure that a core answers, and that it is the one with this fingerprint.

        Raises
        ------
        LutcoreError
            If not.
        """
        found = self.read("ID")
        if found != ID_VALUE:
            raise LutcoreError(f"no lutcore answers: ID is {found:#010x}, not {ID_VALUE:#010x}")
        found = self.read_wide("FINGERPRINT")
        if found != fingerprint:
            raise LutcoreError(
                f"the core's fingerprint is {found:#018x}, but the program is for "
                f"{fingerprint:#018x}: compile the layer for this core"
            )

    def set_up(self, setup: Setup) -> None:
        """Write the registers of a program."""
        for name, value in setup.registers().items():
            self.write(name, value)

    def start(self, setup: Setup) -> None:
        """Set a program up and start it, with the interrupt enabled."""
        self.set_up(setup)
        self.write("CONTROL", START)

    def state(self) -> CoreState:
        """STATUS, and CYCLES of a core that has a clock."""
        cycles = self.read_wide("CYCLES") if self.device.has_clock else 0
        return CoreState(self.read("STATUS"), cycles)

    def counters(self) -> Counters:
        """All counters of a core that has a clock."""
        return Counters(
            cycles=self.read_wide("CYCLES"),
            lookups=self.read_wide("LOOKUPS"),
            read_beats=self.read_wide("READ_BEATS"),
            write_beats=self.read_wide("WRITE_BEATS"),
            units={
                unit: UnitCounters(
                    busy=self.read_wide(f"{unit.upper()}_BUSY"),
                    wait_in=self.read_wide(f"{unit.upper()}_WAIT_IN"),
                    wait_out=self.read_wide(f"{unit.upper()}_WAIT_OUT"),
                )
                for unit in COUNTER_UNITS
            },
        )


def cycle_budget(program: Program, latency: int = 40, bandwidth: float = 1.0) -> int:
    """Cycles that no healthy run of a program comes near: what the host writes into BUDGET.

    Every row tile may read all weights again, one beat at a time, each at the full latency.

    Parameters
    ----------
    program
        What is to run.
    latency
        Cycles from a read's address to its first beat.
    bandwidth
        Beats per cycle that the memory moves.
    """
    config = program.config
    beats = ceil_div(len(program.image) + program.x_bytes, config.beat_bytes)
    rereads = program.row_tiles * (beats + ceil_div(program.y_bytes, config.beat_bytes))
    computing = ceil_div(program.macs, config.rows * config.lanes) * config.entries
    return 100_000 + 8 * computing + int((latency + 16) * rereads / bandwidth)


def run_program(
    device: Device,
    program: Program,
    q: np.ndarray,
    row_scale: np.ndarray,
    *,
    budget: int | None = None,
) -> Run:
    """Run a program on activations.

    Parameters
    ----------
    device
        Its core has to be the program's, and idle; its memory is used from the start.
    program
        From the compiler, the assembler or a file.
    q, row_scale
        int8 or int16 [rows, K] and float32 [rows].
    budget
        Cycles after which the core stops itself. Default: `cycle_budget`.

    Raises
    ------
    CoreStopped
        If the core stops with an error.
    LutcoreError
        If the core is not the program's, does not answer, or breaks a rule of its bus, or if the
        memory is too small.
    """
    driver = Driver(device)
    driver.check_identity(program.fingerprint)
    layout = _place(device, program, program.pack_x(q, row_scale))
    budget = cycle_budget(program) if budget is None else budget
    with Console(stderr=True).status(f"Running {program.name}"):
        driver.start(Setup.of(program, layout, budget=budget))
        answered = device.wait(budget + _GRACE)
    state = driver.state()
    if not answered:
        raise LutcoreError(
            f"the core did not raise its interrupt within {budget + _GRACE} cycles "
            f"(STATUS {state.word:#010x})"
        )
    driver.write("IRQ", 1)
    if Status.ERROR in state.status:
        raise CoreStopped(state.cause, state.instruction, program.instructions, device.explanation)
    counters = driver.counters() if device.has_clock else None
    base, _ = layout.regions[Region.RESULTS]
    read, written = device.traffic or (None, None)
    return Run(
        y=program.unpack_y(device.read_memory(base, program.y_bytes)),
        counters=counters,
        bytes_read=read,
        bytes_written=written,
        trace=device.trace(state.cycles),
    )


def _place(device: Device, program: Program, x_image: bytes) -> MemoryMap:
    """Put a program and its data into a device's memory."""
    layout = MemoryMap.for_program(program, ceil_div(device.memory.start, ALIGNMENT) * ALIGNMENT)
    if layout.size > device.memory.stop:
        raise LutcoreError(
            f"program {program.name!r} needs memory up to {layout.size:#x}, but the device's ends "
            f"at {device.memory.stop:#x}"
        )
    for region, content in contents(program, x_image).items():
        device.write_memory(layout.regions[region][0], content)
    return layout
