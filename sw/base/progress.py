"""Progress on the screen, of anything that takes more than a moment; on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as _Bar

__all__ = ["Progress", "progress"]


class Progress:
    """How far something is; made by :func:`progress`."""

    def __init__(self, bar: _Bar, step: str, total: int | None, *, live: bool) -> None:
        self._bar, self._live = bar, live
        self._step, self._total, self._done = step, total, 0
        self._task = bar.add_task(step, total=total)

    def advance(self) -> None:
        """One more is done."""
        self.update(self._done + 1)

    def update(self, done: int, total: int | None = None, step: str | None = None) -> None:
        """So many are done: of `total`, and in `step`, if that is another one now."""
        before = None if step not in (None, self._step) else self._tenths()
        self._done = done
        self._total = self._total if total is None else total or None
        self._step = self._step if step is None else step
        self._bar.update(
            self._task,
            description=self._step,
            completed=done,
            total=self._total,
            refresh=not self._live,
        )
        # A log gets a line for every step and tenth of it, instead of a bar that moves.
        if not self._bar.console.is_terminal and self._tenths() != before:
            self.print(f"{self._step}: {done} of {self._total}" if self._total else self._step)

    def print(self, text: str) -> None:
        """A line that stays."""
        self._bar.console.print(text, highlight=False)

    def _tenths(self) -> int:
        return self._done * 10 // self._total if self._total else 0


@contextmanager
def progress(step: str, total: int | None = None, *, live: bool = True) -> Iterator[Progress]:
    """A bar while something is going on; where the output is no terminal, lines.

    Parameters
    ----------
    step
        What is going on.
    total
        How many there are of it, if that is known.
    live
        Whether a thread keeps the bar moving; none may where processes are forked.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = _Bar(
        *columns,
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=live,
    )
    with bar:
        yield Progress(bar, step, total, live=live)
