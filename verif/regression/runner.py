"""Runs jobs side by side, and collects their verdicts."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lutcore.verif.kit.bench import Outcome
from lutcore.verif.regression.jobs import Job, read_outcomes

__all__ = ["JobResult", "run_jobs"]

#: Seconds after which a job has failed.
LIMIT = 3600
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


def run_jobs(
    jobs: Iterable[Job], parallel: int, report: Callable[[JobResult], None] = lambda result: None
) -> list[JobResult]:
    """Run jobs, each in a process of its own.

    Parameters
    ----------
    jobs
        What to run.
    parallel
        Processes at a time.
    report
        Called with each result as it comes.

    Returns
    -------
    list of JobResult
        In the order of the jobs.
    """
    jobs = list(jobs)
    results: dict[int, JobResult] = {}
    processes: set[subprocess.Popen] = set()
    with _terminating(), ThreadPoolExecutor(parallel) as pool:
        waiting = {pool.submit(_run, job, processes): n for n, job in enumerate(jobs)}
        try:
            for future in as_completed(waiting):
                result = results[waiting[future]] = future.result()
                report(result)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(processes):
                _kill(process)
            raise
    return [results[n] for n in range(len(jobs))]


@contextmanager
def _terminating() -> Iterator[None]:
    """Let a request to terminate take the jobs along, which have sessions of their own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(job: Job, processes: set[subprocess.Popen]) -> JobResult:
    job.save()
    start = time.monotonic()
    log = job.folder / "log.txt"
    # cocotb takes its path from here; an interpreter in a virtual environment has it set up.
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "lutcore.verif.regression.run_job", str(job.folder)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            # A group of its own, so that the simulator can be stopped with it.
            start_new_session=True,
        )
        processes.add(process)
        try:
            process.wait(LIMIT)
            reason = f"the process ended with status {process.returncode}"
        except subprocess.TimeoutExpired:
            reason = f"no end within {LIMIT} s"
        finally:
            _kill(process)
            processes.discard(process)
    outcomes = read_outcomes(job.folder)
    seconds = time.monotonic() - start
    if outcomes is None:
        outcomes = [Outcome("(job)", seconds, failure=f"{reason}\n{_tail(log)}")]
    return JobResult(job, outcomes, seconds)


def _kill(process: subprocess.Popen) -> None:
    """Stop what is left of a job."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_TAIL:])
