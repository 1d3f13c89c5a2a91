"""Progress on the screen, of anything that takes more than a moment; on standard error."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as _Bar

__all__ = ["Progress", "progress"]

#: Seconds in which what is done was kept from an earlier run, and says nothing of the rest.
_INSTANT = 1.0


class Progress:
    """How far something is; made by :func:`progress`."""

    def __init__(self, bar: _Bar, step: str, total: int | None) -> None:
        self._bar = bar
        self._step, self._total, self._done = step, total, 0
        self._task = bar.add_task(step, total=total, left="")
        self._began, self._first = time.monotonic(), 0

    def advance(self) -> None:
        """One more is done."""
        self.update(self._done + 1)

    def update(self, done: int, total: int | None = None, step: str | None = None) -> None:
        """So many are done: of `total`, and in `step`, if that is another one now."""
        again = step not in (None, self._step)
        if again:
            self._began, self._first = time.monotonic(), done
            self._bar.reset(self._task)
        before = None if again else self._tenths()
        self._done = done
        self._total = self._total if total is None else total or None
        self._step = self._step if step is None else step
        self._bar.update(
            self._task,
            description=self._step,
            completed=done,
            total=self._total,
            left=self._left(),
        )
        # A log gets a line for every step and tenth of it, instead of a bar that moves.
        if not self._bar.console.is_terminal and self._tenths() != before:
            count = f": {done} of {self._total}" if self._total else ""
            self.print(", ".join(filter(None, (f"{self._step}{count}", self._left()))))

    def describe(self, text: str) -> None:
        """What is going on within this step; a log gets a line of it."""
        self._bar.update(self._task, description=text)
        if not self._bar.console.is_terminal:
            self.print(text)

    def print(self, text: str) -> None:
        """A line that stays."""
        self._bar.console.print(text, highlight=False)

    def _left(self) -> str:
        """An estimate of the time left, from what this step has taken so far."""
        took = time.monotonic() - self._began
        if took < _INSTANT:
            self._first = self._done
        done, rest = self._done - self._first, (self._total or 0) - self._done
        if done < 1 or rest < 1:
            return ""
        return f"about {_duration(took * rest / done)} left"

    def _tenths(self) -> int:
        return self._done * 10 // self._total if self._total else 0


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


@contextmanager
def progress(step: str, total: int | None = None) -> Iterator[Progress]:
    """A bar while something is going on; where the output is no terminal, lines.

    Parameters
    ----------
    step
        What is going on.
    total
        How many there are of it, if that is known.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = _Bar(
        *columns,
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        yield Progress(bar, step, total)
