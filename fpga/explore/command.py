"""``lutcore explore``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.options import JOBS, Jobs, Scheduler

__all__ = ["ExploreError", "explore"]


class ExploreError(LutcoreError, ValueError):
    """An argument that cannot be; the message names it and the remedy."""


class Target(StrEnum):
    """What cores are synthesised for."""

    XC7 = "xc7"
    ECP5 = "ecp5"
    ICE40 = "ice40"
    CELLS = "cells"


def explore(
    target: Annotated[Target, typer.Option(help="Device family, or standard cells.")],
    workload: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="smollm2 (a prompt of 64 tokens, an answer of 16), smollm2-prefill (64), "
            "smollm2-decode (1), bitnet, w4-prefill, w4-decode, or a .toml or .csv file.",
        ),
    ] = "smollm2",
    space: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Configurations, .toml; default: a space per target."),
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY=V,V,...",
            help="Values of one key instead of those of the space; may be repeated.",
        ),
    ] = None,
    device_name: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="What must fit, e.g. ecp5-85F, xc7a100t."),
    ] = None,
    max_luts: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="LUTs that a core may take.")
    ] = None,
    clock: Annotated[
        float, typer.Option(metavar="MHZ", help="Assumed for every core, to turn cycles into time.")
    ] = 100.0,
    latency: Annotated[
        int,
        typer.Option(
            "--memory-latency", metavar="CYCLES", min=0, help="From an address to its first beat."
        ),
    ] = 40,
    exact: Annotated[
        bool, typer.Option("--exact", help="Synthesise every core whole: minutes for each.")
    ] = False,
    verified: Annotated[
        bool, typer.Option("--verify", help="Synthesise the cores of the front whole.")
    ] = False,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write all points.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Draw all points.")
    ] = None,
    chosen: Annotated[
        tuple[int, Path] | None,
        typer.Option(
            "--write-config", metavar="N FILE", help="Write configuration N of the front, .toml."
        ),
    ] = None,
    liberty: Annotated[
        Path | None, typer.Option(metavar="FILE", help="cells: the library; default: osu018.")
    ] = None,
    jobs: Jobs = JOBS,
    scheduler: Scheduler = None,
) -> None:
    """Sweep configurations for a target and a workload: which are the smallest and the fastest?

    \b
      lutcore explore --target ecp5 --device ecp5-85F --html ecp5.html
      lutcore explore --target xc7 --workload layers.csv --sweep lanes=16,32 --sweep depth=4,8 \\
          --csv all.csv --write-config 3 my.toml

    Every configuration is scored by its area, from synthesised units, and by the cycles of the
    workload, from a model of the core that is checked against the RTL. Those are printed of which
    none is both smaller and faster; --verify then synthesises these whole.

    Results are kept as they come: a sweep that is broken off goes on where it stopped, with the
    same command.

    \b
    A workload is a list of layers, with a line for each:
      name,n,k,bits,group_size,rows,count,kind,offset
      ffn_up,1536,576,4,32,64,30,affine,true
    A space is a TOML file of configuration keys with lists of values:
      lanes = [16, 32]
      depth = [4, 8]
    """
    from lutcore.fpga.explore.session import Session

    if not 0 < clock < 1e6:
        raise ExploreError(f"--clock must be in MHz, above 0 and below 1,000,000, not {clock:g}")
    if target is Target.CELLS and (exact or verified):
        raise ExploreError(
            "--exact and --verify are not for cells, which have no memory for a whole core: "
            "leave them out"
        )
    if liberty is not None:
        if target is not Target.CELLS:
            raise ExploreError("--liberty is for --target cells alone")
        if not liberty.is_file():
            raise ExploreError(f"--liberty {liberty} is no file")
    for file in (csv_file, html_file, chosen and chosen[1]):
        if file is not None and not file.absolute().parent.is_dir():
            raise ExploreError(f"the folder of {file} does not exist: make it first")
    session = Session(
        target=target.value,
        workload=workload,
        space=space,
        axes=axes or (),
        device_name=device_name,
        max_luts=max_luts,
        clock=clock,
        latency=latency,
        exact=exact,
        liberty=liberty,
        jobs=jobs,
        scheduler=scheduler,
    )
    try:
        session.score()
        if verified:
            session.verify()
    except KeyboardInterrupt:
        typer.echo(
            "lutcore: stopped; what was done is kept, the same command goes on from there", err=True
        )
        raise typer.Exit(130) from None
    typer.echo(session.text(), nl=False)
    session.write(csv_file, html_file, chosen)
