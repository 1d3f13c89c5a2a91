"""What the user reads after a regression."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lutcore.verif.kit.points import points
from lutcore.verif.regression.runner import JobResult

__all__ = ["print_report"]


def print_report(
    results: Sequence[JobResult],
    counted: Mapping[str, Mapping[str, int]],
    holes: Sequence[str],
    *,
    seed: int,
    folder: Path,
    junit: Path,
) -> None:
    """Print the table of jobs, the coverage, and the failures, on stdout.

    Parameters
    ----------
    results
        Of the jobs.
    counted
        Hits by coverage point and bin.
    holes
        Bins that were to be hit and were not.
    seed
        Of the regression.
    folder, junit
        Where the results are.
    """
    console = Console(highlight=False)
    console.print(_table(results))
    if any(count for bins in counted.values() for count in bins.values()):
        console.print(_coverage(counted, holes))
    for hole in holes:
        console.print(f"not covered: {hole}", markup=False, soft_wrap=True)
    for result in results:
        _print_failures(console, result)
        if result.job.waves:
            found = sorted(result.job.folder.glob("waves.*"))
            waves = ", ".join(map(str, found)) or "none were written"
            console.print(f"waveforms: {waves}", markup=False, soft_wrap=True)
    totals = Counter[str]()
    for result in results:
        for outcome in result.outcomes:
            totals.update(outcome.figures)
    console.print(", ".join(f"{name} {count:,}" for name, count in sorted(totals.items())))
    tests = sum(len(result.outcomes) for result in results)
    failed = sum(len(result.failures) for result in results)
    verdict = "[green]all passed[/]" if not failed else f"[red]{failed} failed[/]"
    console.print(f"{len(results)} jobs, {tests} tests, {verdict}; seed {seed}")
    console.print(f"logs in {folder}, JUnit XML in {junit}", markup=False, soft_wrap=True)


def _table(results: Iterable[JobResult]) -> Table:
    table = Table()
    for column in ("bench", "configuration", "simulator"):
        table.add_column(column)
    for column in ("seed", "tests", "cycles", "seconds"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for result in results:
        chosen = result.job.settings
        figures: Counter[str] = Counter()
        for outcome in result.outcomes:
            figures.update(outcome.figures)
        failed = len(result.failures)
        table.add_row(
            chosen.unit,
            result.job.config_name,
            chosen.sim,
            str(chosen.seed),
            str(len(result.outcomes)),
            f"{figures['cycles']:,}",
            f"{result.seconds:.0f}",
            f"[red]{failed} failed[/]" if failed else "[green]passed[/]",
        )
    return table


def _coverage(counted: Mapping[str, Mapping[str, int]], holes: Sequence[str]) -> Table:
    table = Table(title="functional coverage", title_justify="left")
    table.add_column("point")
    table.add_column("what")
    table.add_column("bins hit", justify="right")
    for name, bins in counted.items():
        hit = sum(count > 0 for count in bins.values())
        if not hit:
            continue
        missing = any(hole.startswith(f"{name}: ") for hole in holes)
        style = "yellow" if missing else "green"
        table.add_row(name, points()[name].summary, f"[{style}]{hit}[/] of {len(bins)}")
    return table


def _print_failures(console: Console, result: JobResult) -> None:
    job = result.job
    for outcome in result.failures:
        # Below the message there may be a traceback of the bench, which is in the log, too.
        message = (outcome.failure or "").partition("\nTraceback")[0].strip()
        console.print(f"\n[red]FAILED[/] {job.settings.unit}: {outcome.name}", soft_wrap=True)
        facts = {
            "configuration": job.config_name,
            "simulator": job.settings.sim,
            "seed": job.settings.seed,
            "what": message.replace("\n", "\n" + 17 * " "),
            "log": job.folder / "log.txt",
            "repeat with": job.repeat(outcome),
        }
        for name, value in facts.items():
            console.print(f"  {name + ':':<15}{value}", markup=False, soft_wrap=True)
