"""What every testbench has in common: its settings, its random numbers, its verdict.

Used inside a cocotb simulation as well as by benches that are none; cocotb is imported only where
it is needed.
"""

import hashlib
import json
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lutcore.hw.contract.config import CoreConfig
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.files import write_file
from lutcore.verif.kit.points import check_declared

if TYPE_CHECKING:
    from cocotb.handle import SimHandleBase

__all__ = [
    "COVERAGE_FILE",
    "PERIOD_NS",
    "SETTINGS_VARIABLE",
    "Mismatch",
    "Settings",
    "cover",
    "cycle_of",
    "expect",
    "np_rng",
    "reset",
    "rng",
    "settings",
    "start_clock",
]

#: Environment variable that names the file with the settings of a job.
SETTINGS_VARIABLE = "LUTCORE_VERIFY"
#: In the folder of a job: one line "point<TAB>bin" for each bin that was hit.
COVERAGE_FILE = "coverage.txt"
#: Clock period of all benches.
PERIOD_NS = 10


class Mismatch(AssertionError):
    """The design gave another value than the model."""


@dataclass(frozen=True)
class Settings:
    """What one job of the regression runs with.

    Attributes
    ----------
    config
        The core, or the core that the unit under test is from.
    seed
        All random numbers derive from it.
    unit
        Name of the bench.
    sim
        ``"icarus"``, ``"verilator"`` or ``"cxxrtl"``.
    effort
        How much stimulus: 1 is short, more is more.
    results
        Folder of this job, in which it may leave files.
    """

    config: CoreConfig
    seed: int
    unit: str
    sim: str
    effort: int
    results: Path

    def save(self, path: Path) -> None:
        """Write them where :func:`settings` finds them."""
        values = vars(self) | {"config": self.config.as_dict(), "results": str(self.results)}
        write_file(path, json.dumps(values, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Settings":
        """Read what :meth:`save` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        config = CoreConfig.from_dict(values.pop("config"))
        return cls(config=config, results=Path(values.pop("results")), **values)


@cache
def settings() -> Settings:
    """The settings of this job.

    Raises
    ------
    LutcoreError
        Outside of a job.
    """
    if SETTINGS_VARIABLE not in os.environ:
        raise LutcoreError(
            f"the environment variable {SETTINGS_VARIABLE} names no settings: benches are run by "
            "`lutcore verify`"
        )
    return Settings.load(Path(os.environ[SETTINGS_VARIABLE]))


# Random numbers ------------------------------------------------------------------------------


def _key(name: str) -> str:
    return f"{settings().seed}/{settings().unit}/{name}"


def rng(name: str) -> random.Random:
    """Random numbers of one test or stream: the same ones whatever else runs beside it."""
    return random.Random(_key(name))


def np_rng(name: str) -> np.random.Generator:
    """The same for arrays."""
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256(_key(name).encode()).digest()[:16], "little")
    )


# Verdicts ------------------------------------------------------------------------------------


def expect(
    what: str,
    got: Any,
    expected: Any,
    *,
    cycle: int | None = None,
    index: Any = None,
) -> None:
    """Compare what the design gave with what the model says, bit for bit.

    Parameters
    ----------
    what
        Name of the value, for the message.
    got, expected
        Two scalars, or two arrays of one shape and type. NaN is equal to NaN with the same bits,
        and -0 is not equal to 0.
    cycle
        When; default: now, if in a simulation.
    index
        Where, in addition to the place within the array.

    Raises
    ------
    Mismatch
        Naming what, the cycle, the place of the first wrong value, and both values.
    """
    left, right = np.asarray(got), np.asarray(expected)
    if cycle is None:
        cycle = _now()
    where = "" if index is None else f" at {index}"
    when = "" if cycle is None else f"cycle {cycle}: "
    if left.shape != right.shape:
        raise Mismatch(
            f"{when}{what}{where} has the shape {list(left.shape)}, expected {list(right.shape)}"
        )
    wrong = np.atleast_1d(_differ(left, right))
    if not wrong.any():
        return
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    if left.ndim:
        where += str(list(first))
    count = f" ({int(wrong.sum())} of {wrong.size} are wrong)" if wrong.size > 1 else ""
    values = (np.atleast_1d(side)[first] for side in (left, right))
    found, wanted = map(_show, values)
    raise Mismatch(f"{when}{what}{where} is {found}, expected {wanted}{count}")


def _differ(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    if left.dtype.kind == "f" and left.dtype == right.dtype:
        unsigned = np.dtype(f"u{left.dtype.itemsize}")
        return left.copy().view(unsigned) != right.copy().view(unsigned)
    return left != right


def _show(value: Any) -> str:
    if isinstance(value, np.floating):
        unsigned = np.dtype(f"u{value.dtype.itemsize}")
        bits = int(np.asarray(value).view(unsigned))
        return f"{value!s} ({bits:#0{2 + 2 * value.dtype.itemsize}x})"
    if isinstance(value, int | np.integer) and not isinstance(value, bool | np.bool):
        return f"{int(value)} ({int(value):#x})"
    return str(value)


def _now() -> int | None:
    try:
        return cycle_of()
    except (ImportError, RuntimeError):
        return None


_seen: set[tuple[str, str]] = set()


def cover(point: str, bin: str) -> None:
    """Count a bin of functional coverage as hit.

    Raises
    ------
    LutcoreError
        If `lutcore.verif.kit.points` declares no such point or bin.
    """
    if (point, bin) in _seen:
        return
    check_declared(point, bin)
    _seen.add((point, bin))
    # Written at once: a simulator that is killed has still covered what it came to.
    with (settings().results / COVERAGE_FILE).open("a", encoding="utf-8") as file:
        file.write(f"{point}\t{bin}\n")


# Clock and reset, in cocotb only -------------------------------------------------------------


def _port(dut: "SimHandleBase", names: Iterable[str]) -> Any:
    for name in names:
        if hasattr(dut, name):
            return getattr(dut, name)
    raise LutcoreError(f"the design has none of the ports {', '.join(names)}")


def start_clock(dut: "SimHandleBase") -> None:
    """Start the clock of a core (``aclk``) or of a unit (``clk``)."""
    from cocotb.clock import Clock

    Clock(_port(dut, ("aclk", "clk")), PERIOD_NS, unit="ns").start()


async def reset(dut: "SimHandleBase", cycles: int = 4) -> None:
    """Reset a core (``aresetn``, active low) or a unit (``rst``, active high).

    Returns just after the edge of the clock before the first one out of reset, so that what is
    driven next is sampled without a reset.
    """
    from cocotb.triggers import ClockCycles

    clock = _port(dut, ("aclk", "clk"))
    signal = _port(dut, ("aresetn", "rst"))
    active = 1 if hasattr(dut, "rst") else 0
    signal.value = active
    await ClockCycles(clock, cycles)
    signal.value = 1 - active


def cycle_of(dut: "SimHandleBase | None" = None) -> int:
    """Number of the current clock cycle, counted from the start of the simulation."""
    from cocotb.simtime import get_sim_time

    return int(get_sim_time("ns") // PERIOD_NS)
