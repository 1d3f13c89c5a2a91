"""From what the user asked for to jobs, and from their verdicts to an exit status."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.executor import Runner, runner
from lutcore.sw.base.files import OutputError
from lutcore.sw.base.options import JOBS
from lutcore.sw.base.progress import progress
from lutcore.verif.core.wrapper import read_core
from lutcore.verif.kit.bench import Bench
from lutcore.verif.kit.configurations import configuration
from lutcore.verif.kit.coverage import hits, holes
from lutcore.verif.kit.env import Settings
from lutcore.verif.regression.benches import BENCHES
from lutcore.verif.regression.jobs import Job, config_named
from lutcore.verif.regression.junit import junit_xml
from lutcore.verif.regression.plan import full_jobs
from lutcore.verif.regression.report import print_report
from lutcore.verif.regression.runner import JobResult, run_jobs

__all__ = ["Request", "VerifyError", "verify_request"]


class VerifyError(LutcoreError, ValueError):
    """Options that do not go together; the message names the remedy."""


@dataclass(frozen=True)
class Request:
    """The options of ``lutcore verify``; None is the default of each."""

    source: str | None = None
    sim: str | None = None
    seed: int = 1
    units: tuple[str, ...] = ()
    test: str | None = None
    effort: int = 1
    jobs: int = JOBS
    scheduler: str | None = None
    rtl: Path | None = None
    waves: bool = False
    full: bool = False
    output: Path = field(default_factory=lambda: Path("build/verify"))
    junit: Path | None = None


def verify_request(request: Request) -> int:
    """Run what was asked for, and report.

    Returns
    -------
    int
        Exit status: 0 if all is well, 1 if a test has failed or, in the full regression, coverage
        has a hole.

    Raises
    ------
    LutcoreError
        If it cannot be run: exit status 2.
    """
    junit = request.junit or request.output / "junit.xml"
    if request.junit is not None and not junit.absolute().parent.is_dir():
        raise VerifyError(f"the folder of {junit} does not exist: make it first")
    jobs = _plan(request)
    _check_simulators(jobs)
    _remove_old(request.output, jobs)
    results = _run(jobs, runner(request.jobs, request.scheduler))
    counted = hits(job.folder for job in jobs)
    # One configuration cannot reach what needs another: holes are for the full regression.
    missing = holes(counted, _complete_benches(results)) if request.full else []
    junit_xml(results, missing).write(junit, encoding="utf-8", xml_declaration=True)
    print_report(results, counted, missing, seed=request.seed, folder=request.output, junit=junit)
    return 1 if missing or any(result.failures for result in results) else 0


def _plan(request: Request) -> list[Job]:
    benches = _chosen_benches(request)
    if request.seed < 0:
        raise VerifyError(f"--seed must be 0 or more, not {request.seed}")
    if request.full:
        for name in ("source", "test", "rtl"):
            if getattr(request, name) is not None:
                option = "--config" if name == "source" else f"--{name}"
                raise VerifyError(f"{option} and --full exclude each other: leave one out")
        return full_jobs(
            benches,
            seed=request.seed,
            effort=request.effort,
            sim=request.sim,
            folder=request.output.absolute(),
            waves=request.waves,
        )
    source = request.source or "tiny"
    config = configuration(source)
    if request.rtl is not None:
        read_core(request.rtl, config)
    if request.test is not None and len(benches) != 1:
        raise VerifyError("--test needs --unit with the bench that the test is in")
    name = config_named(source, config)
    return [
        Job(
            Settings(
                config=config,
                seed=request.seed,
                unit=bench.name,
                sim="cxxrtl" if bench.runs else request.sim or "icarus",
                effort=request.effort,
                results=request.output.absolute() / f"{bench.name}-{name}",
            ),
            name,
            test=request.test,
            rtl=None if request.rtl is None else request.rtl.absolute(),
            waves=request.waves,
        )
        for bench in benches
        if bench.applies(config)
    ]


def _chosen_benches(request: Request) -> list[Bench]:
    for name in request.units:
        if name not in BENCHES:
            raise VerifyError(f"--unit must be one of {', '.join(BENCHES)}, not {name!r}")
    benches = [
        bench
        for name, bench in BENCHES.items()
        if (name in request.units if request.units else request.full or not bench.slow)
    ]
    if request.rtl is not None:
        for bench in benches:
            if request.units and not bench.core:
                raise VerifyError(
                    f"--rtl replaces the whole core, which bench {bench.name} does not test: take "
                    f"--unit {' or '.join(name for name, one in BENCHES.items() if one.core)}"
                )
        benches = [bench for bench in benches if bench.core]
    return benches


def _check_simulators(jobs: Iterable[Job]) -> None:
    sims = {job.settings.sim for job in jobs} - {"cxxrtl"}
    for package in ("cocotb", "cocotbext.axi") if sims else ():
        try:
            import_module(package)
        except ImportError:
            raise VerifyError(
                f"the benches need the package {package}: pip install 'lutcore[verif]'"
            ) from None
    for sim in sims:
        from lutcore.verif.regression.simulators import check_simulator

        check_simulator(sim)


def _remove_old(folder: Path, jobs: Iterable[Job]) -> None:
    """Make the folder for results; remove what the same jobs left there before."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for job in jobs:
            if job.folder.exists():
                shutil.rmtree(job.folder)
    except OSError as error:
        raise OutputError(f"cannot prepare the folder {folder}: {error.strerror}") from None


def _complete_benches(results: Iterable[JobResult]) -> set[str]:
    """Benches of which all tests have run, on all configurations."""
    results = list(results)
    partial = {result.job.settings.unit for result in results if result.job.test is not None}
    return {result.job.settings.unit for result in results} - partial


def _run(jobs: list[Job], run: Runner) -> list[JobResult]:
    with progress("Verifying", len(jobs)) as bar:

        def report(result: JobResult) -> None:
            bar.advance()
            for outcome in result.failures:
                where = f"{result.job.settings.unit} on {result.job.config_name}"
                bar.print(f"[red]FAILED[/] {where}: {outcome.name}")

        return run_jobs(jobs, run, report)
