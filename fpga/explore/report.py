"""What a sweep found, for people and for programs: tables, a plot in text, CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import log
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lutcore.fpga.area.estimate import Area
from lutcore.fpga.explore.budget import Budget
from lutcore.fpga.explore.sweep import Point, Settings, front
from lutcore.hw.contract.config import CoreConfig

__all__ = [
    "Report",
    "Row",
    "as_csv",
    "as_plot",
    "as_table",
    "make_report",
    "short_form",
    "verified_text",
]

_KEYS = tuple(field.name for field in fields(CoreConfig))
_SHAPE = ("rows", "lanes", "group", "depth")
#: Keys that may follow from others, each behind those that it follows from.
_DERIVED = (
    *("tiles", "run", "scale_lanes", "final_lanes"),
    *(f"{memory}_words" for memory in ("weight", "scale", "x", "sum")),
)


@dataclass(frozen=True)
class Row:
    """A point as it is reported.

    Attributes
    ----------
    point
        Its scores.
    size
        LUT sites, or area of cells.
    milliseconds
        For the workload, at the clock that is assumed.
    exceeded
        What the device has not enough of.
    number
        Place on the front, from 1; 0 if it is not on it.
    verified
        What the whole core takes, or why that is not known; None: not asked for.
    """

    point: Point
    size: float
    milliseconds: float
    exceeded: tuple[str, ...]
    number: int
    verified: Area | str | None = None


@dataclass(frozen=True)
class Report:
    """All points of a sweep.

    Attributes
    ----------
    settings
        What it was for.
    clock
        MHz that are assumed.
    rows
        In the order of the space.
    """

    settings: Settings
    clock: float
    rows: tuple[Row, ...]

    @property
    def best(self) -> list[Row]:
        """The front, in ascending order of area."""
        return sorted((row for row in self.rows if row.number), key=lambda row: row.number)

    @property
    def unit(self) -> str:
        """What `Row.size` counts."""
        return "cell area" if self.settings.target == "cells" else "LUTs"


def make_report(
    points: Sequence[Point], settings: Settings, *, clock: float, budget: Budget | None
) -> Report:
    """Number the front, which is that of the points which fit the budget."""
    target = settings.target
    exceeded = [budget.exceeded(point.area) if budget else () for point in points]
    fitting = [i for i in range(len(points)) if not exceeded[i]]
    sizes = [(points[i].area.size(target), float(points[i].cycles)) for i in fitting]
    numbers = {fitting[place]: number for number, place in enumerate(front(sizes), start=1)}
    rows = tuple(
        Row(
            point,
            size=point.area.size(target),
            milliseconds=point.cycles / clock / 1e3,
            exceeded=exceeded[i],
            number=numbers.get(i, 0),
        )
        for i, point in enumerate(points)
    )
    return Report(settings, clock, rows)


def short_form(config: CoreConfig) -> str:
    """The shape of a configuration, and the keys in which it differs from `default`, as in TOML.

    Sizes that follow from the other keys are left out.
    """
    given, usual = config.as_dict(), CoreConfig().as_dict()
    said: dict[str, Any] = {
        key: given[key]
        for key in _KEYS
        if key in _SHAPE or (key not in _DERIVED and given[key] != usual[key])
    }
    for key in _DERIVED:
        if getattr(CoreConfig(**said), key) != given[key]:
            said[key] = given[key]
    return ", ".join(f"{key} = {_toml(value)}" for key, value in said.items())


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def as_csv(report: Report) -> str:
    """All points: scores, then every key of the configuration."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    verified = any(row.verified is not None for row in report.rows)
    for i, row in enumerate(report.rows):
        point = row.point
        cells: dict[str, object] = {
            "front": row.number or "",
            "fits": "no: " + " ".join(row.exceeded) if row.exceeded else "yes",
            **point.area.as_dict(),
        }
        if verified:
            cells["verified_luts"] = row.verified.luts if isinstance(row.verified, Area) else ""
        cells |= {
            "cycles": point.cycles,
            "assumed_clock_mhz": report.clock,
            "milliseconds": f"{row.milliseconds:.6g}",
            "utilisation": f"{point.utilisation:.4f}",
            "bound": point.bound,
            "bound_share": f"{point.bound_share:.4f}",
            **point.config.as_dict(),
        }
        if i == 0:
            writer.writerow(cells)
        writer.writerow(_plain(cell) for cell in cells.values())
    return out.getvalue()


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return int(value) if isinstance(value, float) and value == int(value) else value


def as_table(report: Report) -> str:
    """The front."""
    settings, best = report.settings, report.best
    how = "synthesised whole" if settings.exact else "estimated from synthesised units"
    grid = Table(
        title=f"Nothing is both smaller and faster: {settings.workload.name} on {settings.target}",
        caption=f"area {how}; time at an assumed {report.clock:g} MHz, "
        f"memory latency {settings.latency} cycles",
        box=box.SIMPLE_HEAD,
    )
    grid.add_column("", justify="right")
    for title in (report.unit, "block RAMs", "DSPs", "cycles", "ms", "use"):
        grid.add_column(title, justify="right", no_wrap=True)
    grid.add_column("bound")
    verified = any(row.verified is not None for row in best)
    if verified:
        grid.add_column("whole core", justify="right")
    grid.add_column("configuration", overflow="fold")
    for row in best:
        point = row.point
        grid.add_row(
            str(row.number),
            f"{row.size:,.0f}",
            f"{point.area.block_rams:,.0f}",
            f"{point.area.dsps:,.0f}",
            f"{point.cycles:,}",
            f"{row.milliseconds:,.4g}",
            f"{point.utilisation:.1%}",
            point.bound,
            *([verified_text(row, settings.target)] if verified else []),
            short_form(point.config),
        )
    console = Console(file=io.StringIO(), width=120)
    console.print(grid)
    return console.file.getvalue()  # type: ignore[attr-defined]


def verified_text(row: Row, target: str) -> str:
    """What the whole core takes, and how far the estimate is off."""
    if not isinstance(row.verified, Area):
        return row.verified or ""
    size = row.verified.size(target)
    return f"{size:,.0f} ({row.size / size - 1:+.1%})"


def as_plot(report: Report, width: int = 76, height: int = 18) -> str:
    """Area against time as text, both axes logarithmic: o on the front, x too large, . the rest."""

    def place(value: float, low: float, high: float, steps: int) -> int:
        return 0 if high <= low else round((steps - 1) * log(value / low) / log(high / low))

    sizes = [max(1.0, row.size) for row in report.rows]
    times = [row.milliseconds for row in report.rows]
    grid = [[" "] * width for _ in range(height)]
    # The front last, on top of the others.
    for i in sorted(range(len(sizes)), key=lambda i: report.rows[i].number):
        row = report.rows[i]
        column = place(sizes[i], min(sizes), max(sizes), width)
        line = height - 1 - place(times[i], min(times), max(times), height)
        grid[line][column] = "o" if row.number else "x" if row.exceeded else "."
    labels = {0: f"{max(times):.3g} ms", height - 1: f"{min(times):.3g} ms"}
    lines = [f"{labels.get(i, ''):>11} |{''.join(cells)}" for i, cells in enumerate(grid)]
    left, right = f"{min(sizes):,.0f}", f"{max(sizes):,.0f} {report.unit}"
    lines.append(" " * 12 + "+" + "-" * width)
    lines.append(" " * 13 + left + right.rjust(width - len(left)))
    lines.append(" " * 13 + "o on the front   . not   x does not fit")
    return "\n".join(line.rstrip() for line in lines) + "\n"
