"""Long work in parts, side by side: on processes of this machine or on a Dask cluster.

A part is a `Task`: data that say what to do. Its result is plain JSON and, where the task says so,
is kept, so that the same run again, or one that was broken off, takes what is there.
"""

import json
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.tasks import Task, perform, sources
from lutcore.sw.base.worker import Worker

__all__ = ["ExecutorError", "Finished", "Runner", "Task", "execute", "here", "perform", "runner"]

#: Seconds to wait for a scheduler, and for its first worker.
_PATIENCE = 10


class ExecutorError(LutcoreError):
    """Work that cannot be done where it was sent to."""


@dataclass(frozen=True)
class Finished:
    """What became of a task.

    Attributes
    ----------
    task
        The task.
    result
        Empty if there is an error.
    error
        Why there is no result, in a line; "" if there is one.
    died
        Its process has ended or did not come to an end.
    printed
        The last lines that it has printed, if it died.
    kept
        Whether the result was there before.
    """

    task: Task
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    died: bool = False
    printed: str = ""
    kept: bool = False

    @property
    def failure(self) -> str:
        """The error and what was printed before it, line by line."""
        return "\n".join(filter(None, (self.error, self.printed)))


#: Takes tasks, yields (place of a task, what `perform` gave for it) as they are done.
Runner = Callable[[Sequence[Task]], Iterator[tuple[int, dict[str, Any]]]]


def execute(
    tasks: Sequence[Task],
    run: Runner,
    *,
    fresh: bool = False,
    report: Callable[[Finished], None] = lambda finished: None,
) -> list[Finished]:
    """Do all tasks.

    Parameters
    ----------
    tasks
        What to do. Of equal ones that are kept, the first is done.
    run
        Where: see `runner`.
    fresh
        Do again what is kept.
    report
        Called with each as it is finished; first with those whose results are kept.

    Returns
    -------
    list of Finished
        In the order of the tasks.

    Raises
    ------
    ExecutorError
        If the work cannot be done there.
    OutputError
        If the cache folder cannot be written.
    """
    places = [task.kept() for task in tasks]
    finished: dict[int, Finished] = {}

    def finish(place: int, one: Finished) -> None:
        finished[place] = one
        report(one)

    for place, (task, kept) in enumerate(zip(tasks, places, strict=True)):
        found = None if kept is None or fresh else kept.read()
        if found is not None:
            finish(place, Finished(task, found, kept=True))
    missing = [place for place in range(len(tasks)) if place not in finished]
    for number, outcome in run([tasks[place] for place in missing]) if missing else ():
        place = missing[number]
        kept = places[place]
        if "error" in outcome:
            finish(place, Finished(tasks[place], **outcome))
            continue
        # As it will be read, so that the first run gives what later ones give.
        result = json.loads(json.dumps(outcome["result"]))
        if kept is not None:
            kept.write(result)
        finish(place, Finished(tasks[place], result))
    return [finished[place] for place in range(len(tasks))]


def runner(jobs: int = 1, scheduler: str | None = None) -> Runner:
    """Where work is done: `jobs` processes of this machine, or the workers of a Dask scheduler.

    Parameters
    ----------
    jobs
        Processes at a time.
    scheduler
        Address of a scheduler, such as ``tcp://host:8786``, instead.

    Raises
    ------
    ExecutorError
        If Dask is wanted and not installed. A runner raises it if no scheduler or worker answers.
    """
    return on_processes(jobs) if scheduler is None else on_cluster(scheduler)


def here(tasks: Sequence[Task]) -> Iterator[tuple[int, dict[str, Any]]]:
    """A runner in this very process, one task after the other, whatever their limits."""
    for place, task in enumerate(tasks):
        yield place, perform(task)


# Processes of this machine -----------------------------------------------------------------------


@dataclass
class _Place:
    """A worker, the task that it is at, and when it took it by the monotonic clock."""

    worker: Worker
    task: int | None = None
    since: float = 0.0


def on_processes(jobs: int) -> Runner:
    """A runner on this machine. A task that ends its process, or takes too long, has failed."""

    def run(tasks: Sequence[Task]) -> Iterator[tuple[int, dict[str, Any]]]:
        waiting = deque(range(len(tasks)))
        places: list[_Place] = []
        try:
            with _terminating():
                while waiting or any(place.task is not None for place in places):
                    _give(tasks, waiting, places, jobs)
                    yield from _collect(tasks, places)
        finally:
            for place in places:
                place.worker.tell_to_end()
            for place in places:
                place.worker.end()

    return run


def _give(tasks: Sequence[Task], waiting: deque[int], places: list[_Place], jobs: int) -> None:
    """Give waiting tasks to idle workers, and start workers as long as there is work for them."""
    while len(places) < min(jobs, sum(p.task is not None for p in places) + len(waiting)):
        places.append(_Place(Worker()))
    for place in places:
        if place.task is None and waiting:
            place.task, place.since = waiting.popleft(), time.monotonic()
            place.worker.give(tasks[place.task])


def _collect(tasks: Sequence[Task], places: list[_Place]) -> Iterator[tuple[int, dict[str, Any]]]:
    """What has come to an end within a second; workers that are lost leave the list."""
    ready, _, _ = select.select([p.worker for p in places if p.task is not None], [], [], 1.0)
    for place in list(places):
        task = place.task
        if task is None:
            continue
        limit = tasks[task].limit
        if place.worker in ready:
            outcome = place.worker.outcome()
        elif limit is not None and time.monotonic() - place.since > limit:
            outcome = place.worker.too_late(limit)
        else:
            continue
        place.task = None
        if outcome.get("died", False):
            places.remove(place)
        yield task, outcome


@contextmanager
def _terminating() -> Iterator[None]:
    """A request to terminate is an exception, so that the workers are ended, too."""
    try:
        before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# A cluster ---------------------------------------------------------------------------------------


def on_cluster(address: str) -> Runner:
    """A runner on the workers of a Dask scheduler; see `runner`."""
    try:
        import distributed
    except ImportError:
        raise ExecutorError(
            "--scheduler needs the package 'distributed': pip install 'lutcore[cluster]'"
        ) from None

    def run(tasks: Sequence[Task]) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            client = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ExecutorError(
                f"no Dask scheduler answers at {address} ({reason}): start one with "
                "`dask scheduler`, or leave --scheduler out"
            ) from None
        with client:
            try:
                client.wait_for_workers(1, timeout=_PATIENCE)
            except TimeoutError:
                raise ExecutorError(
                    f"the Dask scheduler at {address} has no worker: start some with "
                    f"`dask worker {address}`"
                ) from None
            # Not pure: the same task again is not to be taken from the cluster's memory.
            futures = client.map(perform_there, tasks, version=sources(), pure=False)
            places = {future.key: place for place, future in enumerate(futures)}
            try:
                for future in distributed.as_completed(futures, loop=client.loop):
                    error = future.exception()
                    outcome = future.result() if error is None else {"error": f"a worker: {error}"}
                    yield places[future.key], outcome
            except BaseException:
                client.cancel(futures)
                raise

    return run


_there = threading.local()


def perform_there(task: Task, version: str) -> dict[str, Any]:
    """Run a task on a machine of a cluster, in a process beside each thread of its worker.

    Parameters
    ----------
    task
        What to do.
    version
        Digest of the sources of who asks; a machine with others refuses.

    Returns
    -------
    dict
        As `perform`.
    """
    if version != sources():
        return {"error": "a worker has other sources of lutcore: install the same version there"}
    worker = getattr(_there, "worker", None) or Worker()
    outcome, usable = worker.perform(task)
    _there.worker = worker if usable else None
    return outcome
