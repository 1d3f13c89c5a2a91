"""Runs ``lutcore bench timing``: routes everything that is asked for, prints and writes it."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from lutcore.fpga.synth.route import RouteOptions, route_tools
from lutcore.fpga.synth.yosys import SynthesisError
from lutcore.fpga.timing.measure import TimingTask
from lutcore.fpga.timing.report import Result, report, verdict
from lutcore.fpga.timing.units import WHOLE, Units
from lutcore.hw.contract.config import load_config
from lutcore.hw.export import generate_verilog
from lutcore.sw.base.executor import Finished, Runner, execute
from lutcore.sw.base.files import write_file
from lutcore.sw.base.progress import Progress, progress
from lutcore.sw.base.tasks import Task, perform

__all__ = ["run"]

#: All units, one after the other.
ALL = "all"


def run(
    config: str,
    *,
    units: Sequence[str],
    device: str,
    speed: int,
    seeds: Sequence[int],
    router: str,
    frequency: float | None,
    usual: float,
    runner: Runner | None,
    json_file: Path | None,
    json_to_screen: bool,
    output: Path | None,
) -> bool:
    """Route, print and write; see ``lutcore bench timing --help``.

    Returns
    -------
    bool
        Whether every design reaches `frequency`, with one seed at least.
    """
    core = load_config(config)
    options = RouteOptions(
        device=device,
        speed=speed,
        router=router,
        frequency=usual if frequency is None else frequency,
        dsp=True,
    )
    # Whatever is missing is missed now.
    route_tools()
    with progress("Writing Verilog"):
        parts = Units(generate_verilog(core, "ecp5"))
    names = list(units or (WHOLE,))
    if ALL in names:
        names = list(parts.leaves)
    designs = [parts.design(name) for name in dict.fromkeys(names)]
    of_module = tuple((module, name) for name, module in parts.modules.items())
    tasks = [
        TimingTask(design, of_module, replace(options, seed=seed))
        for design in designs
        for seed in seeds
    ]
    finished = _execute(tasks, runner)
    of_design: dict[str, list[dict[str, Any]]] = {design.name: [] for design in designs}
    for task, one in zip(tasks, finished, strict=True):
        if not one.error:
            of_design[task.design.name].append(one.result)
    results = [Result(name, found) for name, found in of_design.items() if found]
    text = report(config, results, options.frequency or usual)
    if output is not None:
        write_file(output, text)
    found = {
        "config": core.as_dict(),
        "frequency_mhz": options.frequency,
        "designs": [result.as_dict() for result in results],
    }
    # What is kept comes back with its keys sorted.
    data = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if json_file is not None:
        write_file(json_file, data)
    typer.echo(data if json_to_screen else text, nl=False)
    failures = [one for one in finished if one.error]
    if failures:
        raise SynthesisError("; ".join(dict.fromkeys(one.error for one in failures)))
    if frequency is None:
        return True
    missed = verdict(results, frequency)
    for line in missed:
        typer.echo(line, err=True)
    return not missed


def _execute(tasks: Sequence[TimingTask], runner: Runner | None) -> list[Finished]:
    with progress("Placing and routing", len(tasks)) as bar:

        def done(one: Finished) -> None:
            bar.advance()
            assert isinstance(one.task, TimingTask)
            if not one.kept:
                clock = one.error or f"{one.result['fmax_mhz']} MHz"
                bar.print(f"{_name(one.task)}: {clock}")

        return execute(tasks, runner or _here(bar), report=done)


def _name(task: TimingTask) -> str:
    return f"{task.design.name}, seed {task.options.seed}"


def _here(bar: Progress) -> Runner:
    """One after the other in this process, with every stage on the screen."""

    def run(tasks: Sequence[Task]) -> Iterator[tuple[int, dict[str, Any]]]:
        for place, task in enumerate(tasks):
            assert isinstance(task, TimingTask)
            yield place, perform(replace(task, report=_stages(bar, _name(task))))

    return run


def _stages(bar: Progress, name: str) -> Callable[[str], None]:
    return lambda line: bar.describe(f"{name}: {line}")
