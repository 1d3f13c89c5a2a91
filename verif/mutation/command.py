"""``lutcore mutate``: its options."""

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["mutate"]


def mutate(
    unit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Put faults into this unit only; may be repeated. A unit of the core, such as "
            "scale or fetch, or all of the datapath, or all of the control. Default: half of the "
            "faults in the datapath, half in the control.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="CONFIG",
            help="Core: a preset, a file, or a name from the regression. Default: a small one.",
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Number of faults.")] = 40,
    seed: Annotated[
        int, typer.Option(min=0, metavar="S", help="Of the choice of faults, and of the stimulus.")
    ] = 1,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, metavar="J", help="Faults side by side.")
    ] = os.cpu_count() or 1,
    only: Annotated[
        list[int] | None,
        typer.Option(
            min=1, metavar="NUMBER", help="Of the faults drawn, judge this one; may be repeated."
        ),
    ] = None,
    prove: Annotated[bool, typer.Option(help="Try to prove that survivors change nothing.")] = True,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all verdicts.")
    ] = None,
) -> None:
    """Put single faults into the generated netlist, and see which the regression notices.

    \b
      lutcore mutate --count 400 --json mutants.json
      lutcore mutate --unit scale --count 50 --seed 7
      lutcore mutate --unit scale --count 50 --seed 7 --only 12

    A fault inverts a bit at a cell of the netlist, ties it, or inverts it while another bit has a
    value. Each runs through scenarios until one of them sees a wrong value, answer or protocol:

    \b
      killed      something was wrong, or the module broke what is claimed of it
      timing      all was right, but a program took another number of cycles
      equivalent  proved (by SAT) to change nothing
      survived    neither: a test is missing, or the proof is

    The exit status is 0 if no fault survived, 1 if one did, 2 if the campaign could not be run.
    """
    from rich.console import Console

    from lutcore.sw.base.files import write_file
    from lutcore.sw.base.progress import progress
    from lutcore.verif.kit.configurations import configuration
    from lutcore.verif.mutation import report as mutate_report
    from lutcore.verif.mutation.campaign import SMALL_CORE, Request, run_campaign

    request = Request(
        config=SMALL_CORE if source is None else configuration(source),
        units=tuple(unit or Request.units),
        count=count,
        seed=seed,
        processes=jobs,
        only=tuple(only or ()),
        prove=prove,
        source=source,
    )
    # No thread of its own may refresh it: the processes that judge are forks of this one.
    with progress("mutate", live=False) as bar:
        campaign = run_campaign(request, lambda step, done, of: bar.update(done, of, step))
    Console().print(mutate_report.table(campaign))
    for line in mutate_report.lines(campaign):
        typer.echo(line)
    if json_file is not None:
        write_file(json_file, mutate_report.json_text(campaign))
    if campaign.survivors:
        raise typer.Exit(1)
