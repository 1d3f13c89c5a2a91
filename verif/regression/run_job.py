"""Runs one job: ``python -m lutcore.verif.regression.run_job FOLDER``."""

import os
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.verilog_text import scrambled, without_initial_values
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.kit.bench import Bench, Outcome
from lutcore.verif.kit.env import SETTINGS_VARIABLE
from lutcore.verif.regression.benches import BENCHES
from lutcore.verif.regression.jobs import Job, write_outcomes

__all__ = ["main"]


def main(folder: Path) -> None:
    """Run a job and leave its verdicts in its folder."""
    job = Job.load(folder)
    bench = BENCHES[job.settings.unit]
    os.environ[SETTINGS_VARIABLE] = str(folder / "settings.json")
    start = time.monotonic()
    try:
        run = bench.runs
        outcomes = _run_cocotb(job, bench) if run is None else run(job.settings, job.rtl, job.test)
    except LutcoreError as error:
        outcomes = [Outcome("(build)", time.monotonic() - start, failure=str(error))]
    write_outcomes(folder, outcomes)


def _run_cocotb(job: Job, bench: Bench) -> list[Outcome]:
    # Imported here: cocotb takes a while, and not every bench needs it.
    from lutcore.verif.core.wrapper import WRAPPER, wrapper_verilog
    from lutcore.verif.regression.simulators import SimulationDied, build, simulate

    settings = job.settings
    verilog, top = _design(job, bench, settings.config), bench.top
    if bench.core:
        verilog, top = f"{verilog}\n{wrapper_verilog(settings.config)}", WRAPPER
    design = build(settings.sim, verilog, top, waves=job.waves)
    results = simulate(
        design,
        bench.module,
        job.folder,
        environment={SETTINGS_VARIABLE: os.environ[SETTINGS_VARIABLE]},
        seed=settings.seed,
        test=job.test,
    )
    if not results.is_file():
        raise SimulationDied(f"the simulator died: see {job.folder / 'log.txt'}")
    outcomes = _read_results(results)
    if not outcomes:
        raise LutcoreError(f"bench {settings.unit} has no test {job.test}")
    return outcomes


def _design(job: Job, bench: Bench, config: CoreConfig) -> str:
    from lutcore.verif.core.wrapper import read_core

    if bench.core and job.rtl is not None:
        return bench.prepare(read_core(job.rtl, config))
    verilog = scrambled(bench.prepare(bench.verilog(config)))
    # A unit's ports are looked at during its reset, before registers without one have a value.
    return without_initial_values(verilog) if bench.core else verilog


def _read_results(file: Path) -> list[Outcome]:
    """The verdicts in cocotb's own JUnit file."""
    outcomes = []
    for case in ElementTree.parse(file).getroot().iter("testcase"):
        failure = None
        for element in [*case.findall("failure"), *case.findall("error")]:
            kind, message = element.get("type", ""), element.get("message") or ""
            if kind not in ("Mismatch", "AssertionError"):
                message = f"{kind}: {message}"
            failure = f"{message}\n{element.text or ''}".strip()
        outcomes.append(
            Outcome(
                name=case.get("name", "?"),
                seconds=float(case.get("time", 0)),
                failure=failure,
                skipped=case.find("skipped") is not None,
                figures={"cycles": _cycles(case)},
            )
        )
    return outcomes


def _cycles(case: ElementTree.Element) -> int:
    from lutcore.verif.kit.env import PERIOD_NS

    for entry in case.iter("property"):
        if entry.get("name") == "sim_time_duration":
            return int(float(entry.get("value", 0)) // PERIOD_NS)
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
