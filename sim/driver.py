"""The host's side: a program, its data and its results, on the RTL or on the ISS.

What a driver for a real system does, in the same order: lay out memory, open the regions, start,
wait for the interrupt, read status and counters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from rich.console import Console

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.contract.csr import COUNTER_UNITS, CSRS, ID_VALUE, Control, Status
from lutcore.hw.contract.isa import Cause
from lutcore.sim.machine.iss import Iss
from lutcore.sim.rtl.simulator import RtlModel, RtlSim
from lutcore.sim.rtl.verilog import verilog_of
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.program.asm import format_instruction
from lutcore.sw.program.memory import MemoryMap, load, read_y
from lutcore.sw.program.program import Program

__all__ = [
    "CoreStopped",
    "Counters",
    "RtlRun",
    "UnitCounters",
    "cycle_budget",
    "model_of",
    "run_on_iss",
    "run_on_rtl",
]

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
class UnitCounters:
    """Cycles in which one unit worked, waited for input, waited for room or a slot."""

    busy: int
    wait_in: int
    wait_out: int


@dataclass(frozen=True)
class Counters:
    """The core's counters after a run.

    Attributes
    ----------
    cycles
        From start to done.
    lookups
        Array steps: one plane of one step of one tile.
    read_beats, write_beats
        Beats on the bus.
    units
        By unit name, in the order of `COUNTER_UNITS`.
    """

    cycles: int
    lookups: int
    read_beats: int
    write_beats: int
    units: Mapping[str, UnitCounters]


@dataclass(frozen=True)
class RtlRun:
    """A run on the RTL.

    Attributes
    ----------
    y
        float32 [rows, N].
    counters
        The core's own.
    bytes_read, bytes_written
        What the memory model saw; written bytes are those whose strobe was set.
    trace
        For each unit of `COUNTER_UNITS` the cycles, from the start of the run, at which its state
        changed, int64, and the states (0 idle, 1 busy, 2 waits for input, 3 waits for output),
        uint8. Empty unless asked for.
    """

    y: np.ndarray
    counters: Counters
    bytes_read: int
    bytes_written: int
    trace: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def cycles(self) -> int:
        """Cycles from start to done."""
        return self.counters.cycles


@lru_cache(maxsize=4)
def model_of(config: CoreConfig) -> RtlModel:
    """The compiled RTL of a configuration; built once, then kept on disk."""
    return RtlSim.build(verilog_of(config), bus_width=config.bus_width)


def cycle_budget(program: Program, latency: int = 40, bandwidth: float = 1.0) -> int:
    """Cycles that no healthy run of a program comes near: what the driver writes into BUDGET.

    Every row tile may read all weights again, one beat at a time, each at the full latency.
    """
    config = program.config
    beats = ceil_div(len(program.image) + program.x_bytes, config.beat_bytes)
    rereads = program.row_tiles * (beats + ceil_div(program.y_bytes, config.beat_bytes))
    computing = ceil_div(program.macs, config.rows * config.lanes) * config.entries
    return 100_000 + 8 * computing + int((latency + 16) * rereads / bandwidth)


def run_on_rtl(
    program: Program,
    q: np.ndarray,
    row_scale: np.ndarray,
    *,
    latency: int = 40,
    bandwidth: float = 1.0,
    trace: bool = False,
    budget: int | None = None,
    **simulator: Any,
) -> RtlRun:
    """Run a program on the generated RTL.

    Parameters
    ----------
    program
        From the compiler, the assembler or a file.
    q, row_scale
        int8 or int16 [rows, K] and float32 [rows].
    latency
        Cycles from a read address to its first beat, and from the last beat of a write to its
        acknowledgement.
    bandwidth
        Beats per cycle that the memory moves, above 0 and at most 1.
    trace
        Record what every unit does in every cycle.
    budget
        Cycles after which the core stops itself. Default: `cycle_budget`.
    simulator
        Further arguments of `RtlSim`: random stalls, injected faults.

    Raises
    ------
    CoreStopped
        If the core stops with an error.
    LutcoreError
        If the core is not the program's, never answers, or breaks a rule of the bus.
    """
    layout = MemoryMap.for_program(program)
    memory = layout.allocate()
    load(memory, layout, program, program.pack_x(q, row_scale))
    if budget is None:
        budget = cycle_budget(program, latency, bandwidth)
    sim = RtlSim(
        model_of(program.config),
        memory,
        latency=latency,
        bandwidth=bandwidth,
        trace=trace,
        **simulator,
    )
    sim.reset()
    _check_identity(sim, program)
    _write_registers(sim, program, layout, budget)
    sim.write_csr(CSRS["CONTROL"].offset, 1 << Control.START | 1 << Control.IRQ_ENABLE)
    started = sim.cycle
    with Console(stderr=True).status(f"Simulating {program.name}"):
        answered = sim.run_until_irq(budget + _GRACE)
    status = sim.read_csr(CSRS["STATUS"].offset)
    if not answered:
        raise LutcoreError(
            f"the core did not raise its interrupt within {budget + _GRACE} cycles "
            f"(STATUS {status:#010x})"
        )
    if status >> Status.ERROR & 1:
        raise CoreStopped(Cause(status >> 8 & 0xFF), status >> 16, program.instructions)
    counters = _read_counters(sim)
    return RtlRun(
        y=read_y(memory, layout, program),
        counters=counters,
        bytes_read=sim.stats.bytes_read,
        bytes_written=sim.stats.bytes_written,
        trace=_trace(sim, started, counters.cycles) if trace else {},
    )


def run_on_iss(program: Program, q: np.ndarray, row_scale: np.ndarray) -> np.ndarray:
    """Run a program on the instruction-set simulator: float32 [rows, N].

    Raises
    ------
    CoreStopped
        If the program stops with an error.
    """
    layout = MemoryMap.for_program(program)
    memory = layout.allocate()
    load(memory, layout, program, program.pack_x(q, row_scale))
    result = Iss(program.config, memory, layout.regions).run(
        len(program.instructions), program.fingerprint
    )
    if result.cause != Cause.NONE:
        raise CoreStopped(result.cause, result.instruction, program.instructions, result.message)
    return read_y(memory, layout, program)


def _check_identity(sim: RtlSim, program: Program) -> None:
    found = sim.read_csr(CSRS["ID"].offset)
    if found != ID_VALUE:
        raise LutcoreError(f"no lutcore answers: ID is {found:#010x}, not {ID_VALUE:#010x}")
    fingerprint = _read_wide(sim, "FINGERPRINT")
    if fingerprint != program.fingerprint:
        raise LutcoreError(
            f"the core's fingerprint is {fingerprint:#018x}, but the program is for "
            f"{program.fingerprint:#018x}: compile the layer for this core"
        )


def _write_registers(sim: RtlSim, program: Program, layout: MemoryMap, budget: int) -> None:
    for region, (base, size) in layout.regions.items():
        _write_wide(sim, f"{region.name}_BASE", base)
        sim.write_csr(CSRS[f"{region.name}_SIZE"].offset, size)
    sim.write_csr(CSRS["PROGRAM_LENGTH"].offset, len(program.instructions))
    _write_wide(sim, "EXPECT", program.fingerprint)
    _write_wide(sim, "BUDGET", budget)


def _write_wide(sim: RtlSim, name: str, value: int) -> None:
    sim.write_csr(CSRS[f"{name}_LO"].offset, value & 0xFFFF_FFFF)
    sim.write_csr(CSRS[f"{name}_HI"].offset, value >> 32)


def _read_wide(sim: RtlSim, name: str) -> int:
    low = sim.read_csr(CSRS[f"{name}_LO"].offset)
    return sim.read_csr(CSRS[f"{name}_HI"].offset) << 32 | low


def _read_counters(sim: RtlSim) -> Counters:
    return Counters(
        cycles=_read_wide(sim, "CYCLES"),
        lookups=_read_wide(sim, "LOOKUPS"),
        read_beats=_read_wide(sim, "READ_BEATS"),
        write_beats=_read_wide(sim, "WRITE_BEATS"),
        units={
            unit: UnitCounters(
                busy=_read_wide(sim, f"{unit.upper()}_BUSY"),
                wait_in=_read_wide(sim, f"{unit.upper()}_WAIT_IN"),
                wait_out=_read_wide(sim, f"{unit.upper()}_WAIT_OUT"),
            )
            for unit in COUNTER_UNITS
        },
    )


def _trace(sim: RtlSim, started: int, cycles: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The recorded states of the run, counted from its first cycle as the counters do."""
    result = {}
    for index, (starts, states) in sim.trace().items():
        since = starts - started
        first = max(0, int(np.searchsorted(since, 0, side="right")) - 1)
        end = int(np.searchsorted(since, cycles))
        result[COUNTER_UNITS[index]] = np.maximum(since[first:end], 0), states[first:end]
    return result
