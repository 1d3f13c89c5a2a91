"""``lutcore bench timing``."""

from pathlib import Path
from typing import Annotated

import typer

from lutcore.fpga.synth.route import DEVICES, ROUTERS, SPEEDS
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.options import JOBS, Jobs, Scheduler

__all__ = ["TimingError", "timing"]

#: MHz by which slack is counted if none is asked for.
USUAL_MHZ = 100.0


class TimingError(LutcoreError, ValueError):
    """An argument that cannot be, or a design that cannot be routed; the message names it."""


def timing(
    config: Annotated[str, typer.Option(metavar="PRESET|FILE.toml", help="The core.")] = "default",
    unit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A unit of it alone, e.g. fetch, or a part of one, e.g. final.lane_0; may be "
            "repeated. all: each of them. Default: the whole core.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help=f"One of {', '.join(DEVICES)}.")
    ] = "LFE5U-85F",
    speed: Annotated[
        int, typer.Option(min=min(SPEEDS), max=max(SPEEDS), help="Grade; 6 is the slowest.")
    ] = min(SPEEDS),
    seed: Annotated[
        list[int] | None,
        typer.Option(metavar="N", min=0, help="Of the placer; may be repeated. Default: 1."),
    ] = None,
    router: Annotated[
        str, typer.Option(metavar="NAME", help=f"Of nextpnr-ecp5: {' or '.join(ROUTERS)}.")
    ] = ROUTERS[0],
    frequency: Annotated[
        float | None,
        typer.Option(
            metavar="MHZ",
            help="What must be reached, or the exit status is 1. Default: nothing must; slack is "
            f"counted at {USUAL_MHZ:g}.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE|-", help="Write everything; -: to standard output, alone."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="REPORT", help="Write the text.")
    ] = None,
    jobs: Jobs = JOBS,
    scheduler: Scheduler = None,
) -> None:
    """The clock that a core or its units reach on ECP5, and the paths that limit it.

    \b
      lutcore bench timing --config tiny --unit fetch
      lutcore bench timing --config my.toml --seed 1 --seed 2 --frequency 60 --json timing.json
      lutcore bench timing --config tiny --unit all -o units.txt

    Synthesises, places and routes with registers at every port, and says how fast the result is,
    which paths are the longest, in the names of the design, and how much time each unit has left.
    A unit alone takes seconds to a minute, a core several minutes for each seed. Results are kept.

    The exit status is 0; 1 if no seed reaches --frequency; 2 if something cannot be done.
    """
    from lutcore.fpga.timing.run import run
    from lutcore.sw.base.executor import runner

    to_screen = json_file is not None and str(json_file) == "-"
    for file in (json_file, output):
        if file is not None and not file.absolute().parent.is_dir():
            raise TimingError(f"the folder of {file} does not exist: make it first")
    for number in seed or ():
        if (seed or []).count(number) > 1:
            raise TimingError(f"--seed {number} is there twice")
    met = run(
        config,
        units=unit or (),
        device=device,
        speed=speed,
        seeds=seed or [1],
        router=router,
        frequency=frequency,
        usual=USUAL_MHZ,
        runner=None if jobs == 1 and scheduler is None else runner(jobs, scheduler),
        json_file=None if to_screen else json_file,
        json_to_screen=to_screen,
        output=output,
    )
    if not met:
        raise typer.Exit(1)
