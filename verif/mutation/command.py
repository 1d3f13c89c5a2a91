"""``lutcore mutate``: its options."""

from pathlib import Path
from typing import Annotated

import typer

from lutcore.sw.base.options import JOBS, Jobs, Scheduler

__all__ = ["QUICK", "mutate"]

#: Faults of ``--quick``.
QUICK = 20


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
    quick: Annotated[
        bool,
        typer.Option("--quick", help="20 faults instead of --count: an answer within minutes."),
    ] = False,
    jobs: Jobs = JOBS,
    scheduler: Scheduler = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Judge again what an earlier run has judged.")
    ] = False,
    only: Annotated[
        list[int] | None,
        typer.Option(
            min=1, metavar="NUMBER", help="Of the faults drawn, judge this one; may be repeated."
        ),
    ] = None,
    prove: Annotated[bool, typer.Option(help="Try to prove that a fault changes nothing.")] = True,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all verdicts.")
    ] = None,
) -> None:
    """Put single faults into the generated netlist, and see which the regression notices.

    \b
      lutcore mutate --quick
      lutcore mutate --count 400 --json mutants.json
      lutcore mutate --unit scale --count 50 --seed 7 --only 12

    A fault inverts a bit at a cell of the netlist, ties it, or inverts it while another bit has a
    value. Each runs through scenarios until one of them sees a wrong value, answer or protocol:

    \b
      killed      something was wrong
      timing      all was right, but a program took another number of cycles
      equivalent  proved (by SAT) to change nothing
      undecided   neither: a test is missing, or the proof is

    Verdicts are kept: a campaign that is broken off goes on where it stopped. The exit status is 0
    if every fault is decided, 1 if one is not, 2 if the campaign could not be run.
    """
    from rich.console import Console

    from lutcore.sw.base.executor import runner
    from lutcore.sw.base.files import write_file
    from lutcore.sw.base.progress import progress
    from lutcore.verif.kit.configurations import configuration
    from lutcore.verif.mutation import report
    from lutcore.verif.mutation.campaign import SMALL_CORE, Request, run_campaign

    request = Request(
        config=SMALL_CORE if source is None else configuration(source),
        units=tuple(unit or Request.units),
        count=QUICK if quick else count,
        seed=seed,
        only=tuple(only or ()),
        prove=prove,
        source=source,
    )
    with progress("mutate") as bar:
        campaign = run_campaign(
            request,
            lambda step, done, of: bar.update(done, of, step),
            run=runner(jobs, scheduler),
            fresh=fresh,
        )
    Console().print(report.table(campaign))
    for line in report.lines(campaign):
        typer.echo(line)
    if json_file is not None:
        write_file(json_file, report.json_text(campaign))
    if campaign.undecided:
        raise typer.Exit(1)
