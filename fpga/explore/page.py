"""The page of a sweep: area against time with the front, as one HTML file.

The page needs nothing from outside itself, and depends on the report alone: no date, no random
name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import ceil, floor, log10

import jinja2

from lutcore.fpga.explore.report import Report, Row, short_form, verified_text

__all__ = ["render"]

#: Size of the drawing area, in units of the drawing.
WIDTH, HEIGHT = 900, 480


@dataclass(frozen=True)
class _Axis:
    """A logarithmic axis."""

    low: float
    high: float
    length: int

    @classmethod
    def over(cls, values: Sequence[float], length: int) -> "_Axis":
        """An axis with a margin on both sides of the values."""
        low, high = log10(min(values)), log10(max(values))
        margin = max(0.02, 0.04 * (high - low))
        return cls(low - margin, high + margin, length)

    def at(self, value: float) -> float:
        """Place of a value."""
        return round(self.length * (log10(value) - self.low) / (self.high - self.low), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels of round values: 1, 2 and 5 of each decade, or finer."""
        for steps in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(n / 10 for n in range(10, 100))):
            decades = range(floor(self.low), ceil(self.high) + 1)
            values = [step * 10**decade for decade in decades for step in steps]
            inside = [value for value in values if self.low <= log10(value) <= self.high]
            if len(inside) >= 3:
                break
        # No more than there is room for.
        inside = inside[:: max(1, len(inside) // 8)]
        return [(self.at(value), f"{value:,.10g}") for value in inside]


@dataclass(frozen=True)
class _Dot:
    x: float
    y: float
    kind: str
    number: int
    label: str


def _label(report: Report, row: Row) -> str:
    point, area = row.point, row.point.area
    parts = [
        f"{row.size:,.0f} {report.unit}",
        f"{row.milliseconds:,.4g} ms, {point.cycles:,} cycles",
        f"{point.utilisation:.1%} of peak, {point.bound} binds for {point.bound_share:.0%}",
    ]
    if report.settings.target != "cells":
        parts.insert(1, f"{area.block_rams:,.0f} block RAMs, {area.dsps:,.0f} DSPs")
    if row.exceeded:
        parts.append(f"does not fit: {', '.join(row.exceeded)}")
    return "; ".join((short_form(point.config), *parts))


def _kind(row: Row) -> str:
    return "front" if row.number else "over" if row.exceeded else "other"


def render(report: Report, notes: Sequence[str] = ()) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    report
        At least one point.
    notes
        Lines below the table: what was skipped, and why.
    """
    settings, rows, best = report.settings, report.rows, report.best
    x = _Axis.over([max(1.0, row.size) for row in rows], WIDTH)
    y = _Axis.over([row.milliseconds for row in rows], HEIGHT)
    dots = [
        _Dot(
            x.at(max(1.0, row.size)),
            round(HEIGHT - y.at(row.milliseconds), 2),
            _kind(row),
            row.number,
            _label(report, row),
        )
        # The front is drawn last, and walked through in its order by the keyboard.
        for row in sorted(rows, key=lambda row: row.number)
    ]
    stairs = ""
    for dot in (dot for dot in dots if dot.number):
        # To the right of a point nothing is faster before the next one.
        stairs += f"H{dot.x}V{dot.y}" if stairs else f"M{dot.x} {dot.y}"
    return (
        _template().render(
            report=report,
            settings=settings,
            best=best,
            total=len(rows),
            dots=dots,
            stairs=stairs and f"{stairs}H{WIDTH}",
            x_ticks=x.ticks(),
            y_ticks=[(round(HEIGHT - place, 2), label) for place, label in y.ticks()],
            width=WIDTH,
            height=HEIGHT,
            short_form=short_form,
            verified_text=verified_text,
            verified=any(row.verified is not None for row in best),
            notes=notes,
        )
        + "\n"
    )


@cache
def _template() -> jinja2.Template:
    source = files("lutcore.fpga.explore").joinpath("page.html.j2").read_text(encoding="utf-8")
    return jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).from_string(source)
