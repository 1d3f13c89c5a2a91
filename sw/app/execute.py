"""Run a compiled layer on activations, and count what it cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lutcore.sim.devices.choice import run_on
from lutcore.sw.app.report import build_report
from lutcore.sw.base.errors import ActivationError, LutcoreError
from lutcore.sw.layers.activations import quantise
from lutcore.sw.program.program import Program

__all__ = ["Result", "quantise_for", "run"]


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes
    ----------
    y
        float32 [rows, N]; the same bits on every device.
    report
        Figures, as `build_report` counts them.
    trace
        States of the units by name, as in `Device.trace`; empty unless asked for.
    """

    y: np.ndarray
    report: dict[str, Any]
    trace: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def run(
    program: Program,
    x: np.ndarray,
    on: Literal["golden", "iss", "rtl"] = "rtl",
    *,
    memory_latency: int = 40,
    memory_bandwidth: float = 1.0,
    trace: bool = False,
) -> Result:
    """Run a program.

    Parameters
    ----------
    program : Program
        A compiled layer.
    x : ndarray
        float32 [rows, K], quantised per row; or int8 or int16 [rows, K], taken as it is.
    on : {"golden", "iss", "rtl"}
        The golden model judges the layer that the program's weight image holds.
    memory_latency : int
        RTL only: cycles from a read address to its first beat.
    memory_bandwidth : float
        RTL only: beats per cycle, above 0 and at most 1.
    trace : bool
        RTL only: record the states of the units.

    Raises
    ------
    LutcoreError
        If x does not fit the program, or the core stops with an error.
    """
    q, scale = quantise_for(program, x)
    if on != "rtl":
        done = run_on(on, program, q, scale)
        return Result(done.y, build_report(program, on, done))
    if memory_latency < 1:
        raise LutcoreError(f"the memory's latency must be at least 1 cycle, not {memory_latency}")
    if not 0 < memory_bandwidth <= 1:
        raise LutcoreError(
            f"the memory's bandwidth must be above 0 and at most 1 beat per cycle, "
            f"not {memory_bandwidth}"
        )
    done = run_on(
        on, program, q, scale, latency=memory_latency, bandwidth=memory_bandwidth, trace=trace
    )
    report = build_report(
        program, on, done, memory_latency=memory_latency, memory_bandwidth=memory_bandwidth
    )
    return Result(done.y, report, done.trace)


def quantise_for(program: Program, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations and row scales as the program's core takes them.

    Raises
    ------
    ActivationError
        If x has another shape than the program, or a type or value that cannot be quantised.
    """
    if x.ndim != 2 or x.shape[1] != program.k:
        raise ActivationError(
            f"Activations have the shape {list(x.shape)}, but layer {program.name!r} takes "
            f"[rows, {program.k}]"
        )
    if len(x) != program.rows:
        raise ActivationError(
            f"Activations have {len(x)} rows, but the program is for {program.rows}: compile it "
            f"with --rows {len(x)}"
        )
    if x.dtype == np.int8 and program.config.activation_bits == 16:
        x = x.astype(np.int16)
    return quantise(x, 16 if program.config.activation_bits == 16 else 8)
