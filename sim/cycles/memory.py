"""What the memory has for reads and for writes, beat by beat.

Mirrors the bandwidth of the memory in `sim/rtl/harness.cpp`.
"""

from collections import deque
from dataclasses import dataclass

from lutcore.sim.cycles.steady import PAST

__all__ = ["Memory"]

#: Beats that the memory may be ahead: what an idle cycle saves, and the cycle's own.
_CREDIT = 2
#: Changes of what write beats are late by that are kept.
_DELAYS = 256
#: A time after all others.
_NEVER = 1 << 60


@dataclass
class _Writes:
    """Planned write beats at a constant distance.

    Attributes
    ----------
    first, count, distance
        Cycles of those that are still to be counted.
    slack
        What the first of them makes up for, of what the one before was late.
    begin
        Cycle from which on that is made up for.
    """

    first: int
    count: int
    distance: int
    slack: int
    begin: int


class Memory:
    """What read and write beats share: one beat a cycle, and one to spare after an idle cycle.

    Both may take the last one in the same cycle; then there is none for either in the next. Read
    beats are scheduled one after the other; write beats are entered when they are planned, and
    what reads take from them makes them late.

    Attributes
    ----------
    late
        Cycles by which the last write beat was behind its plan.
    """

    def __init__(self) -> None:
        self._writes: deque[_Writes] = deque()
        self._cycle = PAST
        self._credit = _CREDIT
        self._offers = True  # there was a beat to spend when the cycle began
        self._refused = PAST  # the next write beat was, up to this cycle
        self.late = 0
        # Planned cycles from which on beats were late, and by how much.
        self._delays = deque([(PAST, 0)], _DELAYS)

    def write(self, first: int, count: int, distance: int = 1) -> None:
        """Plan write beats, at a constant distance; later than those before.

        Where one is late, they come closer to each other.
        """
        if count:
            self._writes.append(_Writes(first, count, distance, distance - 1, first))

    def write_after(self, begin: int, slack: int, first: int) -> None:
        """Plan a write beat that stays where it is if those before are late by `slack`.

        Parameters
        ----------
        begin
            Cycle in which FINAL begins with what it brings.
        """
        self._writes.append(_Writes(first, 1, 1, slack, begin))

    def delayed(self, plan: int) -> int:
        """When FINAL does what it would do in cycle `plan` if no write beat were late.

        What is known by now counts, as if there were no further read beats.
        """
        late = self.late
        if not self._writes or self._writes[0].begin > plan:
            late = next((late for first, late in reversed(self._delays) if first <= plan), 0)
        for writes in self._writes:
            if writes.begin > plan or not late:
                break
            late = max(0, late - writes.slack - (writes.count - 1) * (writes.distance - 1))
        return plan + late

    def move(self, distance: int) -> None:
        """Move the write beats that are still to be counted."""
        for writes in self._writes:
            writes.first += distance
            writes.begin += distance
        self._delays = deque([(time + distance, late) for time, late in self._delays], _DELAYS)

    def idle(self, until: int) -> None:
        """There is no read beat before cycle `until`."""
        while self._next_write() < until:
            self._pass(self._next_write())
            if self._offers:
                self._write()
            else:
                self._refused = self._cycle
        self._pass(until)

    def offer(self, first: int) -> int:
        """Cycle in which a read beat is offered, `first` at the earliest."""
        self.idle(first)
        while not self._offers:
            self.idle(self._cycle + 1)
        return self._cycle

    def read(self, cycle: int) -> None:
        """A read beat is transferred."""
        self.idle(cycle)
        self._credit -= 1

    def stream(self, first: int, count: int) -> list[tuple[int, int]]:
        """Transfer read beats as they are offered: first cycles and numbers of beats in a row."""
        spans = []
        while count:
            start = self.offer(first)
            write = self._next_write()
            if write >= start + count:
                self._cycle = start + count
                spans.append((start, count))
                break
            # Both are transferred.
            first = write + 1
            self._cycle = write
            self._write()
            self._credit -= 1
            self._pass(first)
            spans.append((start, first - start))
            count -= first - start
        return spans

    def _next_write(self) -> int:
        """When the next write beat is transferred if it can be."""
        if not self._writes:
            return _NEVER
        writes = self._writes[0]
        return max(writes.first + max(0, self.late - writes.slack), self._refused + 1)

    def _write(self) -> None:
        """A write beat is transferred."""
        writes = self._writes[0]
        late = self._cycle - writes.first
        if late != self.late:
            self._delays.append((writes.begin, late))
        self.late = late
        self._credit -= 1
        writes.count -= 1
        writes.first += writes.distance
        writes.begin, writes.slack = writes.first, writes.distance - 1
        if not writes.count:
            self._writes.popleft()

    def _pass(self, cycle: int) -> None:
        if cycle > self._cycle:
            self._credit = min(self._credit + cycle - self._cycle, _CREDIT)
            self._cycle = cycle
            self._offers = self._credit >= 1
