"""Work side by side: on processes of this machine, and on a cluster of this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lutcore.sw.base import executor
from lutcore.sw.base.cache import Kept
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.executor import ExecutorError, Task, execute, here, perform, runner


@dataclass(frozen=True)
class Square(Task):
    """Squares a number."""

    number: int

    def run(self) -> dict[str, Any]:
        if self.number < 0:
            raise LutcoreError(f"{self.number} is negative")
        return {"square": self.number**2, "process": os.getpid()}


@dataclass(frozen=True)
class Remembered(Square):
    """The same, kept."""

    def kept(self) -> Kept:
        return Kept("test", str(self.number))


@dataclass(frozen=True)
class Dies(Task):
    """Ends its process."""

    how: int

    def run(self) -> dict[str, Any]:
        print("going", flush=True)
        os.system("echo with a tool")
        os.kill(os.getpid(), self.how)
        return {}


@dataclass(frozen=True)
class Sleeps(Task):
    """Starts a child that leaves a file if it lives for three seconds, and does not come back."""

    file: str
    limit = 1.0

    def run(self) -> dict[str, Any]:
        code = f"import time; time.sleep(3); open({self.file!r}, 'w').close()"
        os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code])
        time.sleep(60)
        return {}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTCORE_CACHE", str(tmp_path / "cache"))


def soon(happens: Callable[[], object]) -> bool:
    """Whether something happens within 20 s."""
    for _ in range(400):
        if happens():
            return True
        time.sleep(0.05)
    return False


def squares(found: list[executor.Finished]) -> list[int | None]:
    return [one.result.get("square") for one in found]


@pytest.mark.parametrize("run", [here, runner(1), runner(3)])
def test_results_come_in_the_order_of_the_tasks(run: executor.Runner) -> None:
    found = execute([Square(n) for n in range(7)], run)
    assert squares(found) == [n**2 for n in range(7)]
    assert not any(one.error or one.died or one.kept for one in found)


def test_work_is_shared_among_processes() -> None:
    found = execute([Square(n) for n in range(40)], runner(2))
    processes = {one.result["process"] for one in found}
    assert os.getpid() not in processes and len(processes) == 2


def test_an_error_is_that_of_its_task() -> None:
    found = execute([Square(2), Square(-1), Square(3)], runner(2))
    assert [one.error for one in found] == ["", "-1 is negative", ""]
    assert squares(found) == [4, None, 9]


def test_a_task_that_ends_its_process_has_failed_and_the_rest_goes_on() -> None:
    tasks = [Square(1), Dies(signal.SIGSEGV), Square(2), Dies(signal.SIGKILL), Square(3)]
    found = execute(tasks, runner(2))
    assert squares(found) == [1, None, 4, None, 9]
    assert [one.died for one in found] == [False, True, False, True, False]
    assert found[1].failure == "its process was ended by SIGSEGV\ngoing\nwith a tool"
    assert found[3].error.startswith("its process was ended by SIGKILL, perhaps for want of memory")


def test_a_task_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    file = tmp_path / "lived"
    began = time.monotonic()
    (found,) = execute([Sleeps(str(file))], runner(1))
    assert (found.error, found.died) == ("no end within 1 s", True)
    time.sleep(max(0.0, 4.5 - (time.monotonic() - began)))
    assert not file.exists()


def test_a_process_that_does_not_start_is_no_verdict_on_a_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LutcoreError, match="no process for work can be started here"):
        execute([Square(1)], runner(1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(tmp_path: Path, number: int) -> None:
    """The tasks' own children, too; and tasks may remove their files."""
    begun, held = tmp_path / "begun", tmp_path / "held"
    (tmp_path / "holds.py").write_text(f"""
import pathlib, subprocess
from lutcore.sw.base.executor import Task
class Holds(Task):
    def run(self):
        held = pathlib.Path({str(held)!r})
        held.touch()
        try:
            subprocess.run(["sh", "-c", "echo $$ > {begun}; exec sleep 600"])
        finally:
            held.unlink()
""")
    code = (
        "from holds import Holds; from lutcore.sw.base.executor import execute, runner; "
        "execute([Holds()], runner(2))"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    assert soon(lambda: begun.exists() and begun.read_text())
    process.send_signal(number)
    assert process.wait(20) != 0
    child = Path("/proc", begun.read_text().strip())
    assert soon(lambda: not child.exists() or "Z" in (child / "stat").read_text())
    assert not held.exists()


def test_what_is_kept_is_not_done_again() -> None:
    tasks = [Remembered(n) for n in range(4)]
    reported: list[bool] = []
    first = execute(tasks[:3], here)
    second = execute(tasks, here, report=lambda one: reported.append(one.kept))
    assert squares(second) == [0, 1, 4, 9]
    assert [one.kept for one in first] == [False] * 3
    assert reported == [True, True, True, False]
    assert not any(one.kept for one in execute(tasks, here, fresh=True))


def test_errors_are_not_kept() -> None:
    for _ in range(2):
        (found,) = execute([Remembered(-2)], here)
        assert found.error == "-2 is negative" and not found.kept


def test_a_broken_off_run_goes_on_where_it_stopped() -> None:
    def breaks(tasks: Any) -> Any:
        for place, task in enumerate(tasks):
            if place == 2:
                raise KeyboardInterrupt
            yield place, perform(task)

    tasks = [Remembered(n) for n in range(5)]
    with pytest.raises(KeyboardInterrupt):
        execute(tasks, breaks)
    assert [one.kept for one in execute(tasks, here)] == [True, True, False, False, False]


def test_an_unexpected_error_names_its_place() -> None:
    found = perform(Square("two"))  # type: ignore[arg-type]
    assert found["error"].startswith("TypeError: ") and "test_executor.py:" in found["error"]


def test_a_worker_with_other_sources_refuses() -> None:
    assert "other sources" in executor.perform_there(Square(2), "another digest")["error"]
    found = executor.perform_there(Square(2), executor.sources())["result"]
    assert found["square"] == 4 and found["process"] != os.getpid()


# Dask ----------------------------------------------------------------------------------------


def test_a_cluster_gives_the_same_as_this_machine() -> None:
    distributed = pytest.importorskip("distributed", reason="needs lutcore[cluster]")
    tasks = [Square(1), Dies(signal.SIGSEGV), Square(2), Square(-3)]
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        found = execute(tasks, runner(scheduler=cluster.scheduler_address))
    assert squares(found) == [1, None, 4, None]
    assert found[3].error == "-3 is negative"
    # No worker of the cluster dies with a task.
    assert found[1].died and found[1].error == "its process was ended by SIGSEGV"


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="needs lutcore[cluster]")
    monkeypatch.setattr(executor, "_PATIENCE", 1)
    with pytest.raises(ExecutorError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"):
        execute([Square(1)], runner(scheduler="tcp://127.0.0.1:9"))


def test_without_dask_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExecutorError, match=r"pip install 'lutcore\[cluster\]'"):
        runner(scheduler="tcp://127.0.0.1:9")
