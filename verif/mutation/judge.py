"""What becomes of faults: the scenarios of the regression, first without a fault, then with one."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lutcore.sim.rtl.simulator import RtlModel
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.directed import bench as directed
from lutcore.verif.directed.host import Record
from lutcore.verif.directed.jobs import sparse_memory
from lutcore.verif.directed.scenario import Bench, Jobs, Scenario
from lutcore.verif.mutation import programs
from lutcore.verif.mutation.mutants import SELECT, Mutant

__all__ = ["SCENARIOS", "Outcome", "Regression", "Verdict"]

#: In the order in which they run: what takes longest comes last.
SCENARIOS: tuple[Scenario, ...] = (*directed.SCENARIOS, *programs.SCENARIOS)

#: ``"timing"``: all results are right, but a program takes another number of cycles than on the
#: core without faults. ``"undecided"``: nothing noticed it, and it is not proved to do nothing.
Outcome = Literal["killed", "timing", "equivalent", "undecided"]


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
    """All scenarios on one compiled model.

    Parameters
    ----------
    model
        Of the instrumented design.
    jobs
        What runs on it.
    scenarios
        In their order.
    records
        What `learn` gave for the same model, jobs and scenarios.
    """

    def __init__(
        self,
        model: RtlModel,
        jobs: Jobs,
        scenarios: Sequence[Scenario] = SCENARIOS,
        records: Mapping[str, Sequence[Record]] | None = None,
    ) -> None:
        self.model, self.jobs, self.scenarios = model, jobs, scenarios
        self._memory: np.ndarray = sparse_memory()
        self._records: dict[str, Sequence[Record]] = dict(records or {})

    def learn(self, report: Callable[[str], None] = lambda name: None) -> dict[str, Any]:
        """Run the design without a fault.

        Parameters
        ----------
        report
            Called with the name of each scenario.

        Returns
        -------
        dict
            ``records``: by scenario, what it showed on each core that it made; ``cycles``: of all.

        Raises
        ------
        LutcoreError
            If the design fails without a fault, or does not do the same when it runs again.
        """
        cycles = 0
        for scenario in self.scenarios:
            report(scenario.name)
            bench = Bench(self.jobs, self.model, self._memory)
            again = Bench(
                self.jobs, self.model, self._memory, records=bench.records, learning=False
            )
            try:
                scenario.run(bench)
                bench.finish()
                # What differs without a fault would kill every one.
                scenario.run(again)
                difference = again.finish()
            except directed.SIGNS as error:
                raise LutcoreError(
                    f"the design without a fault fails scenario {scenario.name!r} with seed "
                    f"{self.jobs.seed}: {error}"
                ) from error
            if difference:
                raise LutcoreError(
                    f"the design without a fault takes another time when scenario "
                    f"{scenario.name!r} runs again: {difference}"
                )
            self._records[scenario.name] = bench.records
            cycles += sum(host.sim.cycle for host in bench.hosts)
        return {"records": dict(self._records), "cycles": cycles}

    def judge(
        self, number: int, mutant: Mutant, scenarios: Sequence[Scenario] | None = None
    ) -> Verdict:
        """Run one fault through the scenarios (or some of them) until one kills it."""
        start = time.monotonic()
        late = ""
        model = self.model.holding(**{SELECT: number})
        for scenario in self.scenarios if scenarios is None else scenarios:
            records = list(self._records[scenario.name])
            bench = Bench(self.jobs, model, self._memory, records, learning=False)
            try:
                scenario.run(bench)
                difference = bench.finish()
            # On a wrong core a scenario itself may fail, as of a cause that there is not.
            except Exception as error:
                kind = "" if isinstance(error, directed.SIGNS) else f"{type(error).__name__}: "
                seconds = time.monotonic() - start
                detail = f"{kind}{error}"
                return Verdict(number, mutant, "killed", scenario.name, detail, seconds)
            if difference and not late:
                late = f"{scenario.name}: {difference}"
        by, _, detail = late.partition(": ")
        outcome: Outcome = "timing" if late else "undecided"
        return Verdict(number, mutant, outcome, by, detail, time.monotonic() - start)
