"""A process that performs one task after the other: ``python -m lutcore.sw.base.worker``."""

import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import Any

from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.tasks import Task, perform

__all__ = ["Worker"]

#: What a process says when it has started.
_READY = b"."
#: Lines and bytes of what a task has printed that tell why it has died.
_TAIL, _TAIL_BYTES = 25, 1 << 14
#: Seconds that a process has to remove its files when it is told to end.
_GRACE = 5


class Worker:
    """The process, seen from the one that gives it tasks.

    It leads a session of its own, so that what its tasks start ends with it, and Ctrl-C is heard by
    whoever gives it tasks alone. What they print is shown only if one of them dies.

    Raises
    ------
    LutcoreError
        If the process does not start.
    """

    def __init__(self) -> None:
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as this object
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lutcore.sw.base.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            # It finds the modules that are found here.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._tasks, self._outcomes = self._process.stdin, self._process.stdout
        self._begin = 0
        if not self._outcomes.read(len(_READY)):
            raise LutcoreError(f"no process for work can be started here: {self._tail()}")

    def fileno(self) -> int:
        """Readable when there is an outcome."""
        return self._outcomes.fileno()

    def give(self, task: Task) -> None:
        """Let it begin a task."""
        self._begin = os.fstat(self._printed.fileno()).st_size
        with suppress(BrokenPipeError):
            self._tasks.write(pickle.dumps(task))
            self._tasks.flush()

    def outcome(self) -> dict[str, Any]:
        """What `perform` gave for the task, when that is readable; ``died``: there is none."""
        try:
            return pickle.load(self._outcomes)
        except (EOFError, pickle.UnpicklingError):
            self._process.wait()
            self.end()
            return self._death(_reason(self._process.returncode))

    def too_late(self, limit: float) -> dict[str, Any]:
        """End it, since its task takes too long: the outcome."""
        self.end()
        return self._death(f"no end within {limit:.0f} s")

    def tell_to_end(self) -> None:
        """Let it end, and what it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGTERM)

    def end(self) -> None:
        """End it, and what it has started."""
        self.tell_to_end()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def perform(self, task: Task) -> tuple[dict[str, Any], bool]:
        """Give it a task and wait: the outcome, and whether it can do another one."""
        self.give(task)
        ready, _, _ = select.select([self], [], [], task.limit)
        outcome = self.outcome() if ready or task.limit is None else self.too_late(task.limit)
        return outcome, not outcome.get("died", False)

    def _death(self, reason: str) -> dict[str, Any]:
        return {"error": reason, "died": True, "printed": self._tail()}

    def _tail(self) -> str:
        """The last lines that the task has printed."""
        file = self._printed.fileno()
        size = os.fstat(file).st_size
        first = max(self._begin, size - _TAIL_BYTES)
        text = os.pread(file, size - first, first).decode(errors="replace")
        return "\n".join(text.splitlines()[-_TAIL:])


def _reason(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}"
    name = signal.Signals(-status).name
    memory = ", perhaps for want of memory: fewer --jobs take less" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{memory}"


def _work() -> None:
    """Perform the tasks that come on standard input, until it ends."""
    tasks, outcomes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Tasks, and the tools that they start, print to where errors go, and read nothing.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    outcomes.write(_READY)
    outcomes.flush()
    # As an exception it lets them remove their files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with suppress(EOFError, BrokenPipeError):
        while True:
            outcomes.write(pickle.dumps(perform(pickle.load(tasks))))
            outcomes.flush()


if __name__ == "__main__":
    _work()
