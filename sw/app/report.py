"""What a run cost, counted the same way everywhere.

The figures are those of one program on one core, from start to done, with DMA, table fill and
scaling included.
"""

from typing import Any

from lutcore.sim.devices.driver import Run
from lutcore.sim.devices.registers import Counters
from lutcore.sw.program.program import Program

__all__ = ["bound", "build_report", "busy_shares", "useful_bytes"]


def useful_bytes(program: Program) -> int:
    """Bytes that must cross the bus once: the checkpoint's codes and scales, x and y.

    Padding, row scales, the program and whatever is read twice do not count; nor does what the
    weight image saves where it is smaller than the checkpoint.
    """
    x = program.rows * program.k * program.config.activation_bits // 8
    y = program.rows * program.n * 4
    return min(program.checkpoint_bytes, len(program.image)) + x + y


def busy_shares(counters: Counters, memory_bandwidth: float = 1.0) -> dict[str, float]:
    """How much of the run each candidate for the bottleneck was busy, 0 to 1.

    - ``array``: cycles in which ARRAY looked up.
    - ``fill``: cycles in which TABLE wrote table entries.
    - ``scale``: cycles in which SCALE or FINAL worked, whichever is more.
    - ``memory``: beats on the fuller of the two data channels, over those that the memory could
      have moved.
    """
    units, cycles = counters.units, max(1, counters.cycles)
    beats = max(counters.read_beats, counters.write_beats)
    return {
        "array": units["array"].busy / cycles,
        "fill": units["table"].busy / cycles,
        "scale": max(units["scale"].busy, units["final"].busy) / cycles,
        "memory": beats / (cycles * memory_bandwidth),
    }


def bound(counters: Counters, memory_bandwidth: float = 1.0) -> str:
    """What binds a run: ``array``, ``fill``, ``scale`` or ``memory``.

    The one with the highest busy share; the units form one pipeline, so that the busiest sets the
    pace and the others wait for it. Among equals it is the first in the order above: a table
    that is filled in as many cycles as it is used costs nothing.
    """
    shares = busy_shares(counters, memory_bandwidth)
    return max(shares, key=lambda name: shares[name])


def build_report(
    program: Program,
    on: str,
    run: Run,
    *,
    memory_latency: int | None = None,
    memory_bandwidth: float | None = None,
) -> dict[str, Any]:
    """The report of a run; the same run gives the same report.

    Parameters
    ----------
    program : Program
        What ran.
    on : str
        Where: ``golden``, ``iss`` or ``rtl``.
    run : Run
        Counters, where there are any. Without them, cycles and all that follows from them are None.
    memory_latency, memory_bandwidth
        Of the memory that the RTL ran against.

    Returns
    -------
    dict
        For JSON. ``utilisation`` is ``useful_macs / (cycles * peak_macs_per_cycle)``, where
        ``useful_macs`` are rows * N * K * bits, and the peak is that of weight bits. Where
        ``kind`` is ``ternary`` both count ternary weights: rows * N * K, and three for each table
        that a lane looks up. ``bus_share`` is ``useful_bytes / (cycles * bus_bytes_per_cycle)``.
    """
    counters = run.counters
    useful = useful_bytes(program)
    report: dict[str, Any] = {
        "layer": program.name,
        "on": on,
        "rows": program.rows,
        "n": program.n,
        "k": program.k,
        "kind": program.kind,
        "bits": program.bits,
        "group_size": program.group_size,
        "fingerprint": f"{program.fingerprint:#018x}",
        "instructions": len(program.instructions),
        "memory_latency": memory_latency,
        "memory_bandwidth": memory_bandwidth,
        "cycles": None,
        "peak_macs_per_cycle": program.peak,
        "useful_macs": program.macs,
        "utilisation": None,
        "useful_bytes": useful,
        "bytes_read": run.bytes_read,
        "bytes_written": run.bytes_written,
        "bus_bytes_per_cycle": program.config.beat_bytes,
        "bus_share": None,
        "bound": None,
        "busy_shares": None,
        "counters": None,
    }
    if counters is None:
        return report
    cycles, bandwidth = counters.cycles, memory_bandwidth or 1.0
    shares = busy_shares(counters, bandwidth)
    report |= {
        "cycles": cycles,
        "utilisation": program.macs / (cycles * program.peak),
        "bus_share": useful / (cycles * program.config.beat_bytes),
        "bound": bound(counters, bandwidth),
        "busy_shares": {name: round(share, 6) for name, share in shares.items()},
        "counters": {
            "lookups": counters.lookups,
            "read_beats": counters.read_beats,
            "write_beats": counters.write_beats,
            "units": {
                name: {
                    "busy": unit.busy,
                    "wait_in": unit.wait_in,
                    "wait_out": unit.wait_out,
                    "idle": cycles - unit.busy - unit.wait_in - unit.wait_out,
                }
                for name, unit in counters.units.items()
            },
        },
    }
    return report
