"""Devices by their names."""

from typing import Any

import numpy as np

from lutcore.sim.devices.device import Device
from lutcore.sim.devices.driver import Run, cycle_budget, run_program
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.program.memory import MemoryMap
from lutcore.sw.program.program import Program

__all__ = ["DEVICES", "device_for", "run_on"]

DEVICES = ("golden", "iss", "rtl")


def device_for(
    name: str,
    program: Program,
    *,
    latency: int = 40,
    bandwidth: float = 1.0,
    **simulator: Any,
) -> Device:
    """A device for a program: with its core, and with memory enough.

    Parameters
    ----------
    name
        One of `DEVICES`.
    program
        What is to run.
    latency, bandwidth
        Of the memory of a device with a clock: cycles from a read's address to its first beat, and
        beats per cycle, above 0 and at most 2.
    simulator
        Further arguments of `RtlSim`, for ``rtl``: a trace, random stalls, injected faults.

    Raises
    ------
    LutcoreError
        If there is no such device, or an argument is out of range.
    """
    size = MemoryMap.for_program(program).size
    # Each is loaded only when it is asked for.
    if name == "golden":
        from lutcore.sim.devices.models import GoldenDevice

        return GoldenDevice(program, size)
    if name == "iss":
        from lutcore.sim.devices.models import IssDevice

        return IssDevice(program.config, size)
    if name == "rtl":
        from lutcore.sim.devices.rtl import RtlDevice, model_of

        return RtlDevice(
            model_of(program.config),
            np.zeros(size, np.uint8),
            latency=latency,
            bandwidth=bandwidth,
            **simulator,
        )
    raise LutcoreError(f"a program runs on {', '.join(DEVICES)}, not on {name!r}")


def run_on(
    name: str,
    program: Program,
    q: np.ndarray,
    row_scale: np.ndarray,
    *,
    latency: int = 40,
    bandwidth: float = 1.0,
    budget: int | None = None,
    **simulator: Any,
) -> Run:
    """Run a program on a device of its own: `device_for` and `run_program`.

    Parameters
    ----------
    name, program, latency, bandwidth, simulator
        As in `device_for`.
    q, row_scale
        int8 or int16 [rows, K] and float32 [rows].
    budget
        Cycles after which the core stops itself. Default: `cycle_budget` for this memory.
    """
    device = device_for(name, program, latency=latency, bandwidth=bandwidth, **simulator)
    budget = cycle_budget(program, latency, bandwidth) if budget is None else budget
    return run_program(device, program, q, row_scale, budget=budget)
