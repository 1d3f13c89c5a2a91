"""Steady states: what repeats itself is not counted again.

The model computes when things happen, one after the other in the order of the program. Iterations
of a loop soon differ by a constant distance in time; the rest of them is then skipped, by moving
everything that moved.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol

import numpy as np

from lutcore.hw.contract.config import SLOTS

__all__ = ["PAST", "Machine", "Timed", "repeat"]

#: A time before all others.
PAST = -(1 << 40)
#: Iterations at the end of a loop that are never skipped: the loaders run ahead by two blocks, and
#: the last iteration may be smaller.
_TAIL = SLOTS
#: Iterations that have to be alike if bursts lie differently in them.
_ALIKE = 3
#: Iterations over which a mean is taken where they differ a little, by how bursts lie.
_WINDOWS = (2, 4, 8, 16, 32, 64)
#: Cycles that they must last in all, so that a burst more or less makes no difference.
_LONG = 100_000
#: Cycles of an iteration from which on it has bursts of all kinds; the bursts of shorter ones lie
#: the same again after so many iterations at the latest.
_MANY_BURSTS = 10_000
_PERIOD = 32
#: By how much the mean of half of them, or another unit's, may differ from the mean.
_TOLERANCE = 0.001


class Timed:
    """Attributes named in ``times`` are cycles, or sequences of them."""

    times: ClassVar[tuple[str, ...]] = ()
    #: Times before which the values of an attribute make no difference, by name.
    floors: ClassVar[dict[str, str]] = {}

    def fronts(self) -> list[int]:
        """The times that tell how far this has come: the first two."""
        return [getattr(self, name) for name in self.times[:2]]

    def read(self) -> list[int]:
        """All times, in a fixed order, none below its floor."""
        values: list[int] = []
        for name in self.times:
            value = getattr(self, name)
            if isinstance(value, int):
                values.append(value)
            elif name in self.floors:
                floor = getattr(self, self.floors[name])
                values += [item if item > floor else floor for item in value]
            else:
                values += value
        return values

    def move(self, shifts: Iterator[int]) -> None:
        """Add to each time of `read` what comes next from `shifts`."""
        for name in self.times:
            value = getattr(self, name)
            if isinstance(value, int):
                setattr(self, name, value + next(shifts))
            else:
                for index, item in enumerate(value):
                    value[index] = item + next(shifts)


class Machine(Protocol):
    """What `repeat` needs of the model."""

    def settle(self, moving: bool) -> bool:
        """Let everything happen that is certain by now; whether skipping is possible."""
        ...

    def fronts(self) -> list[int]:
        """The time that each unit has reached; the first one advances with every iteration."""
        ...

    def pending(self) -> tuple[list[int], list[int]]:
        """What is no time, but the same in a steady state; and what might make a difference."""
        ...

    def read(self) -> list[int]: ...

    def move(self, shifts: Iterator[int]) -> None: ...


def repeat(machine: Machine, count: int, same: int, *, moving: bool) -> Iterator[int | slice]:
    """Iterations of a loop: their numbers, or a slice of them that was skipped.

    Parameters
    ----------
    machine
        The model; the caller advances it by the iteration yielded, or its counters by the slice.
    count
        Iterations.
    same
        The first so many do the same.
    moving
        Whether the loaders of weights move with the loop.
    """
    fronts: list[list[int]] = []
    before: tuple[np.ndarray, list[int], list[int]] | None = None
    index = alike = 0
    while index < count:
        yield index
        index += 1
        left = same - index - _TAIL
        if left < 1:
            continue
        if not machine.settle(moving):
            fronts, before, alike = [], None, 0
            continue
        fronts.append(machine.fronts())
        now = (np.array(machine.read()), *machine.pending())
        step, moved = 0.0, np.full(len(now[0]), moving)
        if before is not None and len(before[0]) == len(now[0]):
            step = fronts[-1][0] - fronts[-2][0]
            moved = now[0] != before[0]
            exact = before[1] == now[1] and bool(np.all((now[0] - before[0])[moved] == step))
            alike = alike + 1 if exact else 0
            # How bursts lie makes no difference to a unit that waits for another one; then it makes
            # none for several iterations.
            if alike < (1 if before[2] == now[2] else _ALIKE):
                step = 0.0
        if not step and (moving or (not alike and moved.any())):
            step = _mean(fronts)
        before = now
        if step:
            machine.move(iter(np.where(moved, round(step * left), 0).tolist()))
            yield slice(index, index + left)
            index += left


def _mean(fronts: Sequence[list[int]]) -> float:
    """Mean distance of the last iterations, 0 if they are not steady enough."""
    now = fronts[-1]
    for window in _WINDOWS:
        if len(fronts) <= window:
            break
        first, half = fronts[-window - 1], fronts[-window // 2 - 1]
        span = now[0] - first[0]
        if span < (_LONG if window >= _PERIOD else max(_LONG, _MANY_BURSTS * window)):
            continue
        if abs(span - 2 * (now[0] - half[0])) > _TOLERANCE * span:
            continue
        drifts = (end - start - span for start, end in zip(first, now, strict=True) if end != start)
        if all(abs(drift) <= _TOLERANCE * span for drift in drifts):
            return span / window
    return 0.0
