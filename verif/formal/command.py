"""``lutcore prove``: its options."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from lutcore.sw.base.options import JOBS, Jobs, Scheduler

__all__ = ["prove"]


def prove(
    unit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only this unit, or this property; may be repeated. See --list."
        ),
    ] = None,
    jobs: Jobs = JOBS,
    scheduler: Scheduler = None,
    listing: Annotated[bool, typer.Option("--list", help="List the properties and end.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only the few that `make test` runs.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Models and traces; default: a temporary folder."
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE.xml", help="Results as JUnit XML.")
    ] = None,
) -> None:
    """Prove properties of the hardware, for every input.

    \b
      lutcore prove
      lutcore prove --unit lane --jobs 2
      lutcore prove --unit decoder-tiny -o build/proof

    Every property is proved of the unit as it is generated, and must fail on a twin of the unit
    with something broken, or it says nothing. It passes only if both are so. "window": from any
    state of the unit, all runs of a bounded length, beyond which the claim does not look.
    "induction": from reset, without bound. "exhaustive": all cases, in software.

    Of a property that fails, the trace (VCD) is named. The status is 1 if any failed.
    """
    from lutcore.sw.base import executor
    from lutcore.verif.formal import run as runner

    proofs = runner.select(unit or (), quick)
    if listing:
        rows = [("property", "unit", "configuration", "claim")]
        rows += [(p.name, p.unit, p.config, p.claim) for p in proofs]
        _print(rows)
        return
    folder = output or Path(tempfile.mkdtemp(prefix="lutcore-prove-"))
    results = runner.prove(proofs, folder, executor.runner(jobs, scheduler))
    _print(runner.rows(results))
    failed = [result for result in results if not result.passed]
    for result in failed:
        typer.echo(f"{result.proof.name}: {result.problem}")
        typer.echo(f"  again: lutcore prove --unit {result.proof.name}")
    typer.echo(f"{len(results) - len(failed)} of {len(results)} properties proved")
    if junit is not None:
        runner.junit(results, junit)
    if failed:
        raise typer.Exit(1)


def _print(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
