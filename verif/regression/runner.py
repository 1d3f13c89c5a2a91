"""Runs jobs, each in a process of its own, and collects their verdicts."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lutcore.sw.base.executor import Finished, Runner, Task, execute, here
from lutcore.verif.kit.bench import Outcome
from lutcore.verif.kit.env import COVERAGE_FILE
from lutcore.verif.regression.jobs import Job, read_outcomes

__all__ = ["JobResult", "JobTask", "run_jobs"]

#: Seconds after which a job has failed.
LIMIT = 3600.0
_LOG = "log.txt"
_TAIL = 25


@dataclass(frozen=True)
class JobResult:
    """A job with what came of it."""

    job: Job
    outcomes: list[Outcome]
    seconds: float

    @property
    def failures(self) -> list[Outcome]:
        """Tests that have not passed."""
        return [outcome for outcome in self.outcomes if outcome.failure is not None]


@dataclass(frozen=True)
class JobTask(Task):
    """Run one job in its folder, and bring what it has left there.

    The job has a process of its own: a simulator can crash, and cocotb sets up its interpreter.
    """

    job: Job
    limit = LIMIT

    def run(self) -> dict[str, Any]:
        job = self.job
        job.save()
        begin = time.monotonic()
        with (job.folder / _LOG).open("w", encoding="utf-8") as log:
            done = subprocess.run(
                [sys.executable, "-m", "lutcore.verif.regression.run_job", str(job.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # cocotb takes its path from here; a virtual environment's interpreter has it.
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                check=False,
            )
        seconds = time.monotonic() - begin
        outcomes = read_outcomes(job.folder)
        if outcomes is None:
            outcomes = [_died(job, seconds, f"the process ended with status {done.returncode}")]
        files = {
            name: (job.folder / name).read_text(encoding="utf-8", errors="replace")
            for name in (COVERAGE_FILE, _LOG)
            if (job.folder / name).is_file()
        }
        return {
            "outcomes": [asdict(outcome) for outcome in outcomes],
            "seconds": seconds,
            "files": files,
        }


def run_jobs(
    jobs: Iterable[Job],
    run: Runner = here,
    report: Callable[[JobResult], None] = lambda result: None,
) -> list[JobResult]:
    """Run jobs.

    Parameters
    ----------
    jobs
        What to run.
    run
        Where: see `lutcore.sw.base.executor.runner`. Coverage and log of what ran on another
        machine are written to the job's folder here.
    report
        Called with each result as it comes.

    Returns
    -------
    list of JobResult
        In the order of the jobs.
    """
    results: dict[str, JobResult] = {}

    def finish(finished: Finished) -> None:
        task = finished.task
        assert isinstance(task, JobTask)
        result = results[str(task.job.folder)] = _result(task.job, finished)
        report(result)

    jobs = list(jobs)
    execute([JobTask(job) for job in jobs], run, report=finish)
    return [results[str(job.folder)] for job in jobs]


def _result(job: Job, finished: Finished) -> JobResult:
    if finished.error:
        return JobResult(job, [_died(job, 0.0, finished.error)], 0.0)
    found = finished.result
    for name, content in found["files"].items():
        if not (job.folder / name).exists():
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / name).write_text(content, encoding="utf-8")
    outcomes = [Outcome(**outcome) for outcome in found["outcomes"]]
    return JobResult(job, outcomes, found["seconds"])


def _died(job: Job, seconds: float, reason: str) -> Outcome:
    """The verdict on a job that has come to none, with the end of its log."""
    return Outcome("(job)", seconds, failure=f"{reason}\n{_tail(job.folder / _LOG)}")


def _tail(log: Path) -> str:
    if not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_TAIL:])
