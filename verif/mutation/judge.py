"""Mutation campaign: faults one by one through the regression, each in a process of its own."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Literal

import numpy as np

from lutcore.sim.rtl.simulator import RtlModel
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.directed import bench as directed
from lutcore.verif.directed.host import Record
from lutcore.verif.directed.jobs import sparse_memory
from lutcore.verif.directed.scenario import Bench, Jobs, Scenario
from lutcore.verif.mutation import programs as mutate_programs
from lutcore.verif.mutation.mutants import Mutant

__all__ = ["SCENARIOS", "Outcome", "Regression", "Verdict"]

#: In the order in which they run: what takes longest comes last.
SCENARIOS: tuple[Scenario, ...] = (*directed.SCENARIOS, *mutate_programs.SCENARIOS)

#: ``"timing"``: all results are right, but a program takes another number of cycles than on the
#: core without faults.
Outcome = Literal["killed", "timing", "equivalent", "survived"]
#: Seconds after which a fault has hung the simulation itself.
_PATIENCE = 600


@dataclass(frozen=True)
class Verdict:
    """What became of a fault.

    Attributes
    ----------
    number
        Number of the fault, from 1.
    mutant
        The fault.
    outcome
        See `Outcome`.
    by
        Scenario that killed it, or how it was proved equivalent.
    detail
        What was wrong.
    seconds
        Of simulation.
    """

    number: int
    mutant: Mutant
    outcome: Outcome
    by: str = ""
    detail: str = ""
    seconds: float = 0.0


class Regression:
    """All scenarios on one compiled model, first without a fault, then with each.

    Parameters
    ----------
    model
        Of the instrumented design.
    jobs
        What runs on it.
    scenarios
        In their order.

    Raises
    ------
    LutcoreError
        If the design fails without a fault.
    """

    def __init__(
        self,
        model: RtlModel,
        jobs: Jobs,
        scenarios: Sequence[Scenario] = SCENARIOS,
        report: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.model, self.jobs, self.scenarios = model, jobs, scenarios
        self._memory: np.ndarray = sparse_memory()
        self._records: dict[str, list[Record]] = {}
        #: Cycles of all scenarios.
        self.cycles = 0
        for scenario in scenarios:
            report(scenario.name)
            bench = Bench(jobs, model, self._memory)
            again = Bench(jobs, model, self._memory, records=bench.records, learning=False)
            try:
                scenario.run(bench)
                bench.finish()
                # What differs without a fault would kill every one.
                scenario.run(again)
                difference = again.finish()
            except directed.SIGNS as error:
                raise LutcoreError(
                    f"the design without a fault fails scenario {scenario.name!r} with seed "
                    f"{jobs.seed}: {error}"
                ) from error
            if difference:
                raise LutcoreError(
                    f"the design without a fault takes another time when scenario "
                    f"{scenario.name!r} runs again: {difference}"
                )
            self._records[scenario.name] = bench.records
            self.cycles += sum(host.sim.cycle for host in bench.hosts)

    def judge(
        self, number: int, mutant: Mutant, scenarios: Sequence[Scenario] | None = None
    ) -> Verdict:
        """Run one fault through the scenarios (or some of them) until one kills it."""
        start = time.monotonic()
        late = ""
        for scenario in self.scenarios if scenarios is None else scenarios:
            records = self._records[scenario.name]
            bench = Bench(self.jobs, self.model, self._memory, number, records, learning=False)
            try:
                scenario.run(bench)
                difference = bench.finish()
            except directed.SIGNS as error:
                seconds = time.monotonic() - start
                return Verdict(number, mutant, "killed", scenario.name, str(error), seconds)
            if difference and not late:
                late = f"{scenario.name}: {difference}"
        by, _, detail = late.partition(": ")
        outcome: Outcome = "timing" if late else "survived"
        return Verdict(number, mutant, outcome, by, detail, time.monotonic() - start)

    def judge_all(
        self,
        mutants: Sequence[tuple[int, Mutant]],
        processes: int,
        scenarios: Sequence[Scenario] | None = None,
    ) -> Iterator[Verdict]:
        """Verdicts on faults with their numbers, as they come, each from a process of its own."""
        context = multiprocessing.get_context("fork")
        waiting = list(mutants)
        running: dict[Connection, _Running] = {}
        while waiting or running:
            while waiting and len(running) < processes:
                number, mutant = waiting.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                arguments = (sender, number, mutant, scenarios)
                process = context.Process(target=self._child, args=arguments)
                process.start()
                sender.close()
                running[receiver] = process, number, mutant, time.monotonic()
            ready = wait(list(running), timeout=1.0)
            for receiver, (process, number, mutant, began) in list(running.items()):
                if receiver not in ready and time.monotonic() - began < _PATIENCE:
                    continue
                del running[receiver]
                yield self._collect(receiver, process, number, mutant, ready)

    def _child(
        self,
        sender: Connection,
        number: int,
        mutant: Mutant,
        scenarios: Sequence[Scenario] | None,
    ) -> None:
        sender.send(self.judge(number, mutant, scenarios))
        sender.close()

    @staticmethod
    def _collect(
        receiver: Connection,
        process: BaseProcess,
        number: int,
        mutant: Mutant,
        ready: Sequence[object],
    ) -> Verdict:
        if receiver not in ready:
            process.kill()
            process.join()
            return Verdict(number, mutant, "killed", "patience", f"no end in {_PATIENCE} s")
        try:
            verdict = receiver.recv()
        except EOFError:
            process.join()
            detail = f"the simulation ended with status {process.exitcode}"
            return Verdict(number, mutant, "killed", "crash", detail)
        process.join()
        return verdict


#: Process, number and fault, start.
_Running = tuple[BaseProcess, int, Mutant, float]
