"""One sweep from the command line: from names and files to tables and files."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import typer

from lutcore.fpga.explore import sweep as explore
from lutcore.fpga.explore.budget import Budget, device
from lutcore.fpga.explore.page import render
from lutcore.fpga.explore.report import as_csv, as_plot, as_table, make_report
from lutcore.fpga.explore.space import candidates, default_space, load_space, parse_sweep
from lutcore.fpga.explore.workload import load_workload
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.executor import Runner, runner
from lutcore.sw.base.files import write_file
from lutcore.sw.base.progress import progress

__all__ = ["EmptyError", "Session"]


class EmptyError(LutcoreError):
    """There is nothing to show: no configuration could be built, scored, or fits."""


class Session:
    """See ``lutcore explore --help`` for the parameters.

    Raises
    ------
    LutcoreError
        If a name or file is not what it should be.
    """

    def __init__(
        self,
        *,
        target: str,
        workload: str,
        space: Path | None,
        axes: Sequence[str],
        device_name: str | None,
        max_luts: int | None,
        clock: float,
        latency: int,
        exact: bool,
        liberty: Path | None,
        jobs: int,
        scheduler: str | None,
    ) -> None:
        work = load_workload(workload)
        self._settings = explore.Settings(target, work, latency, exact, liberty)
        self._clock = clock
        wanted = load_space(space) if space else default_space(target)
        self._points = candidates(wanted.replaced(parse_sweep(axes)))
        if not self._points.configs:
            reason = next(iter(self._points.refused))
            raise EmptyError(f"no configuration of the space can be built: {reason}")
        self._budget: Budget | None = device(device_name, target) if device_name else None
        if max_luts is not None:
            self._budget = (self._budget or Budget(target=target)).with_luts(max_luts)
        self._runner: Runner = runner(jobs, scheduler)

    def score(self) -> None:
        """Do or find all the work."""
        configs = self._points.configs
        with progress(f"Scoring {len(configs)} configurations") as bar:
            self._sweep = explore.sweep(configs, self._settings, self._runner, bar.update)
        if not self._sweep.points:
            reason = next(iter(self._sweep.failed))
            raise EmptyError(f"no configuration can be scored: {reason}")
        self._report = make_report(
            self._sweep.points, self._settings, clock=self._clock, budget=self._budget
        )

    def verify(self) -> None:
        """Synthesise the front whole."""
        best = self._report.best
        with progress(f"Synthesising {len(best)} whole cores") as bar:
            found = explore.verify(
                [row.point for row in best], self._settings, self._runner, bar.update
            )
        verified = {row.number: area for row, area in zip(best, found, strict=True)}
        rows = (replace(row, verified=verified.get(row.number)) for row in self._report.rows)
        self._report = replace(self._report, rows=tuple(rows))

    def text(self) -> str:
        """What is printed."""
        report = self._report
        lines = "".join(f"{note}\n" for note in self._notes())
        if not report.best:
            return f"{as_plot(report)}\n{lines}No configuration fits.\n"
        return f"{as_table(report)}\n{as_plot(report)}\n{lines}"

    def write(
        self, csv_file: Path | None, html_file: Path | None, chosen: tuple[int, Path] | None
    ) -> None:
        """Write what was asked for, and name it.

        Raises
        ------
        EmptyError
            If the front has no such number.
        OutputError
            If a file cannot be written.
        """
        if csv_file is not None:
            write_file(csv_file, as_csv(self._report))
        if html_file is not None:
            write_file(html_file, render(self._report, list(self._notes(cache=False))))
        if chosen is not None:
            number, file = chosen
            best = {row.number: row for row in self._report.best}
            if number not in best:
                raise EmptyError(
                    f"--write-config {number}: the front has the numbers 1 to {len(best)}"
                    if best
                    else f"--write-config {number}: the front is empty, since nothing fits"
                )
            write_file(file, best[number].point.config.to_toml())
        for written in (csv_file, html_file, chosen and chosen[1]):
            if written is not None:
                typer.echo(written)

    def _notes(self, *, cache: bool = True) -> Iterator[str]:
        points, found = self._points, self._sweep
        if cache:
            yield f"{len(points.configs)} configurations, {found.from_cache} from the cache"
        over = Counter(name for row in self._report.rows for name in row.exceeded)
        if over:
            count = sum(bool(row.exceeded) for row in self._report.rows)
            names = ", ".join(f"{name} {times}" for name, times in over.items())
            yield f"{count} do not fit: {names}"
        for reason, times in points.refused.items():
            yield f"{times} cannot be built: {reason}"
        for reason, times in found.failed.items():
            yield f"{times} cannot be scored: {reason}"
