"""Long work in parts, side by side: on processes of this machine or on a Dask cluster.

A part is a `Task`: data that say what to do. Its result is plain JSON and, where the task says so,
is kept, so that the same run again, or one that was broken off, takes what is there.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from lutcore.sw.base.cache import Kept, source_digest
from lutcore.sw.base.errors import LutcoreError

__all__ = ["ExecutorError", "Finished", "Runner", "Task", "execute", "here", "perform", "runner"]

#: Seconds to wait for a scheduler, and for its first worker.
_PATIENCE = 10
_PACKAGES = tuple(f"lutcore.{name}" for name in ("hw", "sim", "sw", "verif", "fpga"))


class ExecutorError(LutcoreError):
    """Work that cannot be done where it was sent to."""


class Task:
    """Work whose result depends on its attributes and on the sources alone. It can be pickled."""

    #: Seconds after which it has failed; None: any time. Kept on processes of this machine.
    limit: float | None = None

    def run(self) -> dict[str, Any]:
        """Do it: the result, of what JSON has.

        Raises
        ------
        LutcoreError
            If it cannot be done.
        """
        raise NotImplementedError

    def kept(self) -> Kept | None:
        """Where its result is kept; None if it is done anew each time."""
        return None


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
        Its process has ended or did not come to an end: nothing is known of why.
    kept
        Whether the result was there before.
    """

    task: Task
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    died: bool = False
    kept: bool = False


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
            died = outcome.get("died", False)
            finish(place, Finished(tasks[place], error=outcome["error"], died=died))
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


def perform(task: Task, version: str | None = None) -> dict[str, Any]:
    """Run a task, here or elsewhere.

    Parameters
    ----------
    task
        What to do.
    version
        Digest of the sources of who asks; a machine with others refuses.

    Returns
    -------
    dict
        ``result``, or ``error``: the reason why there is none.
    """
    if version not in (None, source_digest(*_PACKAGES)):
        return {"error": "a worker has other sources of lutcore: install the same version there"}
    try:
        return {"result": task.run()}
    except LutcoreError as error:
        return {"error": str(error)}
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error}"
        return {"error": f"{text} ({where.filename}:{where.lineno})"}


def here(tasks: Sequence[Task]) -> Iterator[tuple[int, dict[str, Any]]]:
    """A runner in this very process, one task after the other, whatever their limits."""
    for place, task in enumerate(tasks):
        yield place, perform(task)


# Processes of this machine -----------------------------------------------------------------------


@dataclass
class _Worker:
    """A process that performs one task after the other.

    Attributes
    ----------
    process, pipe
        The process, and the way to it.
    place
        Of the task that it is at; None if it waits for one.
    since
        When it took it, by the monotonic clock.
    """

    process: BaseProcess
    pipe: Connection
    place: int | None = None
    since: float = 0.0

    def end(self) -> None:
        """End it with all that it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.pipe.close()


def on_processes(jobs: int) -> Runner:
    """A runner on this machine. A task that ends its process, or takes too long, has failed."""

    def run(tasks: Sequence[Task]) -> Iterator[tuple[int, dict[str, Any]]]:
        waiting = deque(range(len(tasks)))
        workers: list[_Worker] = []
        try:
            with _terminating():
                while waiting or any(worker.place is not None for worker in workers):
                    _give(tasks, waiting, workers, jobs)
                    yield from _collect(tasks, workers)
        finally:
            for worker in workers:
                worker.end()

    return run


def _give(tasks: Sequence[Task], waiting: deque[int], workers: list[_Worker], jobs: int) -> None:
    """Give waiting tasks to idle workers, and start workers as long as there is work for them."""
    while len(workers) < min(jobs, sum(w.place is not None for w in workers) + len(waiting)):
        # Spawned: the threads of a progress bar do not survive a fork.
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there,), daemon=False)
        process.start()
        there.close()
        workers.append(_Worker(process, here))
    for worker in workers:
        if worker.place is None and waiting:
            worker.place, worker.since = waiting.popleft(), time.monotonic()
            with suppress(BrokenPipeError):
                worker.pipe.send(tasks[worker.place])


def _collect(tasks: Sequence[Task], workers: list[_Worker]) -> Iterator[tuple[int, dict[str, Any]]]:
    """What has come to an end within a second; workers that are lost leave the list."""
    ready = wait([worker.pipe for worker in workers if worker.place is not None], timeout=1.0)
    for worker in list(workers):
        place = worker.place
        if place is None:
            continue
        limit = tasks[place].limit
        if worker.pipe in ready:
            try:
                outcome = worker.pipe.recv()
            except EOFError:
                worker.process.join()
                outcome = {"error": _death(worker.process.exitcode), "died": True}
                workers.remove(worker)
                worker.end()
        elif limit is not None and time.monotonic() - worker.since > limit:
            outcome = {"error": f"no end within {limit:.0f} s", "died": True}
            workers.remove(worker)
            worker.end()
        else:
            continue
        worker.place = None
        yield place, outcome


def _death(status: int | None) -> str:
    if status is None or status >= 0:
        return f"its process ended with status {status}"
    name = signal.Signals(-status).name
    memory = ", perhaps for want of memory: fewer --jobs take less" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{memory}"


def _work(pipe: Connection) -> None:
    """What a worker does, in a process group of its own: what it starts ends with it."""
    os.setpgid(0, 0)
    # Whoever started it hears of Ctrl-C, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send(perform(pipe.recv()))


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
            version = source_digest(*_PACKAGES)
            # Not pure: the same task again is not to be taken from the cluster's memory.
            futures = client.map(perform, tasks, version=version, pure=False)
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
