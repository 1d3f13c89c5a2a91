"""Where the work of a sweep is done: in this process, in several, or on a cluster."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from lutcore.fpga.explore.tasks import Task, TaskError, perform, source_version

__all__ = ["Runner", "on_cluster", "on_processes"]

#: Takes tasks, yields (place of a task, what `perform` returned for it) as they are done.
Runner = Callable[[Sequence[Task]], Iterator[tuple[int, dict[str, Any]]]]

#: Seconds to wait for a scheduler, and for its first worker.
_PATIENCE = 10


def on_processes(jobs: int) -> Runner:
    """A runner on this machine; with one job in this very process."""

    def run(tasks: Sequence[Task]) -> Iterator[tuple[int, dict[str, Any]]]:
        if jobs == 1 or len(tasks) < 2:
            for place, task in enumerate(tasks):
                yield place, perform(task)
            return
        # Spawned: the threads of a progress bar do not survive a fork.
        pool = ProcessPoolExecutor(
            min(jobs, len(tasks)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_end_quietly,
        )
        try:
            places = {pool.submit(perform, task): place for place, task in enumerate(tasks)}
            for future in as_completed(places):
                yield places[future], future.result()
        except BaseException as reason:
            pool.shutdown(wait=False, cancel_futures=True)
            # A task under way may be a synthesis of minutes; ended so, it stops its tools too.
            for process in multiprocessing.active_children():
                process.terminate()
            if isinstance(reason, BrokenProcessPool):
                raise TaskError(
                    "a process was ended from outside, perhaps for want of memory: what was done "
                    "is kept, go on with fewer --jobs"
                ) from None
            raise
        pool.shutdown()

    return run


def _end_quietly() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))


def on_cluster(address: str) -> Runner:
    """A runner on the workers of a Dask scheduler.

    Parameters
    ----------
    address
        For example ``tcp://host:8786``.

    Raises
    ------
    TaskError
        If Dask is not installed. The runner raises it if no scheduler or no worker answers.
    """
    try:
        import distributed
    except ImportError:
        raise TaskError(
            "--scheduler needs the package 'distributed': pip install 'lutcore[cluster]'"
        ) from None

    def run(tasks: Sequence[Task]) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            client = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise TaskError(
                f"no Dask scheduler answers at {address} ({reason}): start one with "
                "`dask scheduler`, or leave --scheduler out"
            ) from None
        with client:
            try:
                client.wait_for_workers(1, timeout=_PATIENCE)
            except TimeoutError:
                raise TaskError(
                    f"the Dask scheduler at {address} has no worker: start some with "
                    f"`dask worker {address}`"
                ) from None
            version = source_version("area"), source_version("cycles")
            # Not pure: the same task again is not to be taken from the cluster's memory.
            futures = client.map(perform, tasks, version=version, pure=False)
            places = {future.key: place for place, future in enumerate(futures)}
            try:
                for future in distributed.as_completed(futures, loop=client.loop):
                    yield places[future.key], future.result()
            except BaseException:
                client.cancel(futures)
                raise

    return run
