"""``lutcore bench``: comparisons that are measured, not quoted."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.options import JOBS, Jobs, Scheduler

__all__ = ["app"]

app = typer.Typer(
    name="bench",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure the hardware against what it replaces.",
)


class DensityTarget(StrEnum):
    """What is synthesised for."""

    XC7 = "xc7"
    ECP5 = "ecp5"
    ICE40 = "ice40"
    CELLS = "cells"


class BenchError(LutcoreError, ValueError):
    """An argument of a bench that cannot be; the message names it and the remedy."""


@app.callback()
def _main() -> None:
    """Measure the hardware against what it replaces."""


@app.command()
def density(
    target: Annotated[
        DensityTarget, typer.Option(help="Device family, or standard cells.")
    ] = DensityTarget.XC7,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures.")
    ] = None,
    plot_file: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the comparison (.svg, .png, .pdf)."),
    ] = None,
    workload: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this one, e.g. w4-int8 or ternary-int8; may be repeated. Default: W1, W2, "
            "W4, W8 and ternary, each with INT8 and INT16.",
        ),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, max=16, help="Rows of every array.")] = None,
    lanes: Annotated[int | None, typer.Option(min=8, max=128, help="Lanes of every array.")] = None,
    columns: Annotated[
        int | None,
        typer.Option(
            min=8,
            max=128,
            help="Products per row, lane and cycle. Default: half as many with INT16 as with INT8 "
            "on xc7 and ecp5.",
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all-forms",
            help="Count every form at full size. Default: the one or two of each kind that are "
            "best in a small size.",
        ),
    ] = False,
    route: Annotated[
        bool,
        typer.Option(
            "--route/--no-route",
            help="ecp5: place and route small arrays of the best forms, for TRELLIS_COMB and Fmax.",
        ),
    ] = True,
    core: Annotated[
        bool,
        typer.Option(
            "--core/--no-core",
            help="Also count the whole core, by unit; cells: also measure the paper's claims.",
        ),
    ] = True,
    liberty: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="cells: the library; default: osu018 of Debian's qflow-tech-osu018.",
        ),
    ] = None,
    jobs: Jobs = JOBS,
    scheduler: Scheduler = None,
) -> None:
    """LUTs (or area) per multiply-accumulate, of tables and of what they replace.

    \b
      lutcore bench density --target xc7 --plot xc7.svg
      lutcore bench density --target ecp5 --workload w4-int8 --json ecp5.json

    Synthesises, in one run and with one flow, the LUT array in its stores and forms and the
    baselines: (a) multipliers, (b) add/sub trees, bit-serial, (c) multiplexers as in the paper,
    (d) bit-serial on both sides. All have the same rows, lanes and products per cycle, and their
    accumulators are counted. Results are kept: a run that is broken off goes on where it stopped.
    """
    from lutcore.fpga.density.run import run
    from lutcore.sw.base.executor import runner

    if liberty is not None and target is not DensityTarget.CELLS:
        raise BenchError("--liberty is for --target cells alone")
    for file in (json_file, plot_file):
        if file is not None and not file.absolute().parent.is_dir():
            raise BenchError(f"the folder of {file} does not exist: make it first")
    if plot_file is not None and plot_file.suffix not in (".svg", ".png", ".pdf"):
        raise BenchError(f"--plot must end in .svg, .png or .pdf, not {plot_file.name!r}")
    run(
        target.value,
        workloads=_workloads(workload),
        size=(rows, lanes, columns),
        every=every,
        route=route,
        core=core,
        liberty=liberty,
        runner=runner(jobs, scheduler),
        json_file=json_file,
        plot_file=plot_file,
    )


def _workloads(names: Sequence[str] | None):
    from lutcore.fpga.density.compare import WORKLOADS

    known = {work.name.lower().replace(" ", "-"): work for work in WORKLOADS}
    if not names:
        return list(WORKLOADS)
    for name in names:
        if name.lower() not in known:
            raise BenchError(f"--workload must be one of {', '.join(known)}, not {name!r}")
    return [work for key, work in known.items() if key in {name.lower() for name in names}]
