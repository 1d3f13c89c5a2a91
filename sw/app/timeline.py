"""The timeline page: what every unit of the core did in a run, cycle by cycle, as one HTML file.

The page needs nothing from outside itself. Its drawing is inline SVG: each lane is a column chart
in which a column stands for some cycles and shows the *mix* of states in them as stacked heights,
so that a million cycles fit on a page without hiding a short stall.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

import jinja2
import numpy as np

__all__ = ["Run", "State", "TimelinePage", "UnitTrace", "ascii_timeline", "render", "write"]

COLUMNS = 1200
"""Most columns of the view over a whole run."""

ZOOM = 1500
"""Cycles in the views of a run's start and end; they have one column for each cycle."""

LANE_HEIGHT = 100
"""Height of a lane in drawing units: a column's mix is drawn to the percent."""


class State(IntEnum):
    """What a unit does in a cycle; the numbers are those of the core's ``trace_state``."""

    IDLE = 0
    BUSY = 1
    INPUT = 2
    OUTPUT = 3

    @property
    def label(self) -> str:
        """The state in words."""
        return ("idle", "busy", "waits for input", "waits for output")[self]


STACK = (State.BUSY, State.INPUT, State.OUTPUT, State.IDLE)
"""The states from the bottom of a column to its top."""


@dataclass(frozen=True)
class UnitTrace:
    """The states of one unit, run-length coded.

    Parameters
    ----------
    name : str
        Name of the unit.
    starts : int64 [R]
        First cycle of each run of equal states, strictly ascending from 0 or later; the unit is
        idle before the first.
    states : uint8 [R]
        The :class:`State` that holds from ``starts[i]`` up to ``starts[i + 1]`` or the end.

    Raises
    ------
    ValueError
        The arrays disagree, are out of order, or hold an unknown state.
    """

    name: str
    starts: np.ndarray
    states: np.ndarray

    def __post_init__(self):
        if self.starts.ndim != 1 or self.starts.shape != self.states.shape:
            raise ValueError(
                f"Unit {self.name!r} has starts of shape {self.starts.shape} and states of shape "
                f"{self.states.shape}; both must be the same [R]"
            )
        if len(self.starts) and (self.starts[0] < 0 or (np.diff(self.starts) <= 0).any()):
            raise ValueError(f"Unit {self.name!r} has starts that do not ascend from 0 or later")
        if len(self.states) and self.states.max() > max(State):
            raise ValueError(
                f"Unit {self.name!r} has the state {self.states.max()}, which is none of 0 to 3"
            )


@dataclass(frozen=True)
class Run:
    """One program's run.

    Parameters
    ----------
    title : str
        Heading, for instance ``"Decode, 1 row"``.
    cycles : int
        Length of the run; the page shows cycles 0 up to this.
    units : sequence of UnitTrace
        Lanes from top to bottom, in the order of the dataflow.
    facts : sequence of (str, str)
        Rows of the table beside the title.

    Raises
    ------
    ValueError
        The run has no cycle, or a unit changes its state after the end.
    """

    title: str
    cycles: int
    units: Sequence[UnitTrace]
    facts: Sequence[tuple[str, str]]

    def __post_init__(self):
        if self.cycles < 1:
            raise ValueError(f"Run {self.title!r} must have at least one cycle, not {self.cycles}")
        for unit in self.units:
            if len(unit.starts) and unit.starts[-1] >= self.cycles:
                raise ValueError(
                    f"Unit {unit.name!r} changes its state in cycle {unit.starts[-1]}, but run "
                    f"{self.title!r} ends before cycle {self.cycles}"
                )

    @cached_property
    def totals(self) -> np.ndarray:
        """int64 [units, 4], the cycles that each unit spent in each state."""
        return self.cycles_by_state(np.array([0, self.cycles]))[:, 0].astype(np.int64)

    def cycles_by_state(self, edges: np.ndarray) -> np.ndarray:
        """Return float64 [units, bins, 4], the cycles spent in each state between the edges.

        Parameters
        ----------
        edges : int64 or float64 [bins + 1]
            Ascending positions in cycles; a fraction of a cycle counts as that fraction.
        """
        result = np.zeros((len(self.units), len(edges) - 1, len(State)))
        for bins, unit in zip(result, self.units, strict=True):
            # Cumulative time in a state is piecewise linear, so its differences are the counts.
            corners = np.concatenate(([0], unit.starts, [self.cycles]))
            states = np.concatenate(([State.IDLE], unit.states))
            for state in State:
                spent = np.cumsum(np.where(states == state, np.diff(corners), 0))
                at_edges = np.interp(edges, corners, np.concatenate(([0], spent)))
                bins[:, state] = np.diff(at_edges)
        return result


@dataclass(frozen=True)
class TimelinePage:
    """Everything on the page: ``runs`` below one another, ``notes`` at the end."""

    title: str
    subtitle: str
    runs: Sequence[Run]
    notes: Sequence[str]


@dataclass(frozen=True)
class _Lane:
    name: str
    paths: list[tuple[str, str]]
    busy: str
    label: str


@dataclass(frozen=True)
class _View:
    title: str
    first: int
    last: int
    columns: int
    lanes: list[_Lane]
    ticks: list[tuple[str, str]]


@dataclass(frozen=True)
class _Row:
    name: str
    cells: list[tuple[str, str, str]]
    busiest: bool


def _number(value: int) -> str:
    return f"{value:,}"


def _ticks(first: int, last: int) -> list[tuple[str, str]]:
    """Return (position in percent, label) of round cycle numbers, about eight of them."""
    least = max((last - first) / 8, 1)
    decade = 10 ** (len(str(int(least))) - 1)
    step = next(decade * m for m in (1, 2, 5, 10) if decade * m >= least)
    cycles = range(-(-first // step) * step, last + 1, step)
    return [(f"{100 * (c - first) / (last - first):.3f}", _number(c)) for c in cycles]


def _step_path(heights: np.ndarray) -> str:
    """Return the SVG path below a staircase of one height per column; empty where all are 0."""
    if not heights.any():
        return ""
    changes = np.flatnonzero(np.diff(heights)) + 1
    corners = "".join(f"H{x}V{LANE_HEIGHT - heights[x]}" for x in changes)
    return f"M0 {LANE_HEIGHT}V{LANE_HEIGHT - heights[0]}{corners}H{len(heights)}V{LANE_HEIGHT}Z"


def _lane_paths(bins: np.ndarray) -> list[tuple[str, str]]:
    """Return (state name, path) from the back to the front for float64 [columns, 4] cycles.

    Each path covers its state and all below it, and the next one is painted over it: no seams
    where areas meet, whatever the size on the screen.
    """
    share = np.cumsum(bins[:, STACK], axis=1) / bins.sum(axis=1, keepdims=True)
    tops = np.rint(LANE_HEIGHT * share).astype(np.int64)
    paths = ((STACK[i].name.lower(), _step_path(tops[:, i])) for i in reversed(range(3)))
    return [(name, path) for name, path in paths if path]


def _view(run: Run, title: str, first: int, last: int) -> _View:
    columns = last - first if last - first <= ZOOM else COLUMNS
    bins = run.cycles_by_state(np.linspace(first, last, columns + 1))
    lanes = []
    for unit, mix in zip(run.units, bins, strict=True):
        shares = 100 * mix.sum(axis=0) / (last - first)
        words = [f"{state.label} {shares[state]:.1f} %" for state in STACK]
        label = f"{unit.name}: {', '.join(words)}"
        lanes.append(_Lane(unit.name, _lane_paths(mix), words[0], label))
    return _View(title, first, last, columns, lanes, _ticks(first, last))


def _views(run: Run) -> list[_View]:
    whole = f"The whole run, {_number(run.cycles)} cycles"
    if run.cycles <= ZOOM:
        return [_view(run, whole, 0, run.cycles)]
    return [
        _view(run, whole, 0, run.cycles),
        _view(run, f"The first {_number(ZOOM)} cycles: fill", 0, ZOOM),
        _view(run, f"The last {_number(ZOOM)} cycles: drain", run.cycles - ZOOM, run.cycles),
    ]


def _rows(run: Run) -> list[_Row]:
    most = run.totals[:, State.BUSY].max(initial=0)
    return [
        _Row(
            unit.name,
            [(s.name.lower(), _number(n[s]), f"{100 * n[s] / run.cycles:.1f} %") for s in STACK],
            bool(most) and n[State.BUSY] == most,
        )
        for unit, n in zip(run.units, run.totals, strict=True)
    ]


@cache
def _template() -> jinja2.Template:
    source = files("lutcore.sw.app").joinpath("timeline.html.j2").read_text(encoding="utf-8")
    return jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).from_string(source)


def render(page: TimelinePage) -> str:
    """Return the page as HTML.

    Each run gets its facts, a lane per unit over all its cycles, the same for its first and last
    ``ZOOM`` cycles where it is longer than that, and a table of the cycles by unit and state. The
    text depends on the input alone: no date, no random name.
    """
    runs = [(run, _views(run), _rows(run)) for run in page.runs]
    return _template().render(page=page, runs=runs, states=STACK, height=LANE_HEIGHT) + "\n"


def write(path: Path, page: TimelinePage) -> None:
    """Render the page into the file ``path``, which is replaced only when the new one is whole."""
    path = Path(path)
    text = render(page)
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        Path(scratch).chmod(0o644)  # mkstemp's 0600 would hide the page from a web server
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


SYMBOLS = {State.BUSY: "#", State.INPUT: "<", State.OUTPUT: ">", State.IDLE: "."}
"""One character per state on the terminal."""


def _dither(bins: np.ndarray) -> list[State]:
    """Return one state per bin such that the counts follow the shares.

    Of the states in a bin the one that is furthest behind its share wins, as in one-dimensional
    error diffusion; the majority of each bin would show a unit that is busy for a third of the
    time as never busy.
    """
    behind = np.zeros(len(State))
    chosen = []
    for share in bins / bins.sum(axis=1, keepdims=True):
        behind += share
        # A hair's breadth of float error must not decide between equals.
        present = [state for state in STACK if share[state] > 0]
        best = max(present, key=lambda state: round(behind[state], 6))
        behind[best] -= 1
        chosen.append(best)
    return chosen


def ascii_timeline(run: Run, width: int = 78) -> str:
    """Return the run as text: a line per unit, an axis and a legend, in plain ASCII.

    Parameters
    ----------
    run : Run
        The run to show.
    width : int
        Most characters per line, at least 40. Where a character stands for several cycles, each
        state gets as many characters, here and there, as it has time; where there are enough
        characters, each stands for its own cycle.

    Raises
    ------
    ValueError
        ``width`` leaves no room for the lanes.
    """
    names = [unit.name for unit in run.units]
    margin = max(map(len, names), default=0) + 1
    share = len(" 100.0 %")
    columns = min(width - margin - share, run.cycles)
    if width < 40 or width - margin - share < 16:
        raise ValueError(f"Width must be at least {max(40, margin + share + 16)}, not {width}")
    bins = run.cycles_by_state(np.linspace(0, run.cycles, columns + 1))
    lines = []
    for name, mix, total in zip(names, bins, run.totals, strict=True):
        bar = "".join(SYMBOLS[state] for state in _dither(mix))
        lines.append(f"{name:<{margin}}{bar} {100 * total[State.BUSY] / run.cycles:5.1f} %")
    end = _number(run.cycles)
    lines.append(f"{'':<{margin}}0{end:>{max(columns - 1, len(end) + 1)}}  busy")
    lines.append("  ".join(f"{SYMBOLS[state]} {state.label}" for state in STACK))
    return "\n".join(lines)
