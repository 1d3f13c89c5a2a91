"""A whole campaign: faults are drawn, built into one design, judged, and what is left is proved."""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lutcore.hw.contract.config import CoreConfig
from lutcore.sim.rtl.build import build_model
from lutcore.sim.rtl.verilog import verilog_of
from lutcore.sw.base.cache import Kept
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.executor import Finished, Runner, Task, execute, here
from lutcore.verif.directed.host import Record
from lutcore.verif.directed.scenario import Jobs
from lutcore.verif.mutation.judge import SCENARIOS, Regression, Verdict
from lutcore.verif.mutation.mutants import (
    GROUPS,
    UNITS,
    Mutant,
    Netlist,
    instrument,
    read_netlist,
    sample,
)
from lutcore.verif.mutation.proof import prove_equivalent

__all__ = ["SMALL_CORE", "Campaign", "Request", "run_campaign", "units_of"]

#: What decides the verdict on a fault, besides the design.
_SOURCES = ("lutcore.hw.contract", "lutcore.sim", "lutcore.sw.program", "lutcore.verif")
#: Seconds after which a fault has hung the simulation itself.
_PATIENCE = 900.0

#: Small, with buffers that layers of a few hundred columns overflow, so that all of the control is
#: at work; every unit is more than one wide where the configuration lets it.
SMALL_CORE = CoreConfig(
    rows=2,
    lanes=8,
    group=3,
    depth=2,
    planes=3,
    bus_width=32,
    tiles=4,
    run=64,
    weight_words=32,
    scale_words=256,
    x_words=32,
    sum_words=64,
    scale_lanes=2,
    final_lanes=1,
)


@dataclass(frozen=True)
class Request:
    """What to do.

    Attributes
    ----------
    config
        The core.
    units
        Names in `UNITS` or `GROUPS`.
    count
        Faults; shared equally by the groups, or the units.
    seed
        Of the choice of faults and of the regression.
    only
        Judge these faults alone, counted from 1; all, if there are none.
    prove
        Whether to try to prove equivalent what the first scenario does not kill.
    source
        Where the configuration is from, as on the command line; None for `SMALL_CORE`.
    """

    config: CoreConfig = SMALL_CORE
    units: tuple[str, ...] = ("datapath", "control")
    count: int = 40
    seed: int = 1
    only: tuple[int, ...] = ()
    prove: bool = True
    source: str | None = None


@dataclass(frozen=True)
class Campaign:
    """What came out.

    Attributes
    ----------
    request
        What was asked for.
    verdicts
        In the order of the faults' numbers.
    cycles
        Clock cycles of the whole regression.
    """

    request: Request
    verdicts: tuple[Verdict, ...]
    cycles: int

    @property
    def undecided(self) -> list[Verdict]:
        """Faults that nothing noticed and that are not proved to do nothing."""
        return [verdict for verdict in self.verdicts if verdict.outcome == "undecided"]


def units_of(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Units of each name, which is one of `UNITS` or `GROUPS`.

    Raises
    ------
    LutcoreError
        If it is neither.
    """
    found = []
    for name in names:
        if name not in UNITS and name not in GROUPS:
            known = ", ".join([*GROUPS, *UNITS])
            raise LutcoreError(f"there is no unit {name!r} to put faults into: take one of {known}")
        found.append(GROUPS.get(name, (name,)))
    return found


def draw(netlist: Netlist, request: Request) -> list[Mutant]:
    """The faults of a request: equal shares for what it names."""
    named = units_of(request.units)
    mutants: list[Mutant] = []
    for index, units in enumerate(named):
        share = request.count * (index + 1) // len(named) - request.count * index // len(named)
        mutants += sample(netlist, units, share, request.seed)
    return mutants


class _Workshop:
    """What the faults of a request have in common, made once in each process."""

    def __init__(self, request: Request) -> None:
        self.request = request
        with tempfile.TemporaryDirectory(prefix="lutcore-mutate-") as folder:
            self.netlist: Netlist = read_netlist(verilog_of(request.config), Path(folder))
            self.mutants = draw(self.netlist, request)
            self._verilog = instrument(self.netlist, self.mutants, Path(folder))
        self._jobs = Jobs(request.config, request.seed)

    def kept(self, *parts: str) -> Kept:
        """The place of a result that depends on the netlist and on the seed of the stimulus."""
        return Kept("mutate", *parts, self.netlist.rtlil, str(self.request.seed), sources=_SOURCES)

    def regression(self, records: dict[str, list[Record]] | None = None) -> Regression:
        """The scenarios on the compiled design with all faults."""
        model = build_model(
            self._verilog,
            bus_width=self.request.config.bus_width,
            optimise="fast",
            progress=False,
        )
        return Regression(model, self._jobs, records=records)

    def judged(self, number: int) -> Verdict:
        """What becomes of a fault; the design without one has been learnt."""
        learnt = self.kept("learnt").read()
        if learnt is None:
            learnt = learn(self)
        records = {
            name: [Record(**record) for record in found]
            for name, found in learnt["records"].items()
        }
        regression, mutant = self.regression(records), self.mutants[number - 1]
        first = regression.judge(number, mutant, SCENARIOS[:1])
        if first.outcome == "killed":
            return first
        if self.request.prove:
            # What does nothing would otherwise go through the whole regression.
            with tempfile.TemporaryDirectory(prefix="lutcore-mutate-") as folder:
                where = prove_equivalent(self.netlist, mutant, Path(folder))
            if where is not None:
                return replace(first, outcome="equivalent", by=where, detail="")
        rest = regression.judge(number, mutant, SCENARIOS[1:])
        late = first if first.outcome == "timing" and rest.outcome != "killed" else rest
        return replace(late, seconds=first.seconds + rest.seconds)


#: The workshop of a request; a campaign needs no other one at the same time.
_workshop = lru_cache(maxsize=1)(_Workshop)


def learn(
    shop: _Workshop, report: Callable[[str], None] = lambda name: None, *, fresh: bool = False
) -> dict[str, Any]:
    """What the design without a fault does in every scenario, kept by its content."""
    kept = shop.kept("learnt")
    found = None if fresh else kept.read()
    if found is None:
        learnt = shop.regression().learn(report)
        records = {
            name: [asdict(record) for record in some] for name, some in learnt["records"].items()
        }
        found = {"records": records, "cycles": learnt["cycles"]}
        kept.write(found)
    return found


@dataclass(frozen=True)
class FaultTask(Task):
    """Judge one fault of a request."""

    request: Request
    number: int
    limit = _PATIENCE

    def run(self) -> dict[str, Any]:
        # Units are also made to ask them for their sizes.
        warnings.filterwarnings("ignore", message=".*created but never used")
        verdict = _workshop(replace(self.request, only=())).judged(self.number)
        return {key: value for key, value in vars(verdict).items() if key != "mutant"}

    def kept(self) -> Kept:
        request = replace(self.request, only=())
        mutant = _workshop(request).mutants[self.number - 1]
        return _workshop(request).kept("fault", repr(mutant), str(request.prove))


def run_campaign(
    request: Request,
    progress: Callable[[str, int, int], None] = lambda step, done, of: None,
    *,
    run: Runner = here,
    fresh: bool = False,
) -> Campaign:
    """Run a campaign.

    Parameters
    ----------
    request
        What to do.
    progress
        Called with the present step, and how much of how many of it are done.
    run
        Where the faults are judged; see `lutcore.sw.base.executor.runner`.
    fresh
        Judge again what is kept.

    Raises
    ------
    LutcoreError
        If an argument is out of range, a tool is missing, or the design fails without a fault.
    """
    units_of(request.units)
    progress("building the faults into the design", 0, 0)
    shop = _workshop(replace(request, only=()))
    for number in request.only:
        if not 1 <= number <= len(shop.mutants):
            raise LutcoreError(
                f"there is no fault {number}: with this count they are 1 to {len(shop.mutants)}"
            )
    names = {scenario.name: place for place, scenario in enumerate(SCENARIOS)}
    learnt = learn(
        shop,
        lambda name: progress("without a fault", names[name], len(names)),
        fresh=fresh,
    )
    wanted = sorted(set(request.only)) or range(1, len(shop.mutants) + 1)
    tasks = [FaultTask(request, number) for number in wanted]
    done = 0

    def report(finished: Finished) -> None:
        nonlocal done
        done += 1
        progress("judging", done, len(tasks))

    progress("judging", 0, len(tasks))
    found = execute(tasks, run, fresh=fresh, report=report)
    verdicts = [_verdict(one, shop.mutants) for one in found]
    return Campaign(request, tuple(verdicts), learnt["cycles"])


def _verdict(finished: Finished, mutants: Sequence[Mutant]) -> Verdict:
    task = finished.task
    assert isinstance(task, FaultTask)
    mutant = mutants[task.number - 1]
    if finished.died:
        # A simulation that crashes or does not end is a fault that is noticed.
        return Verdict(task.number, mutant, "killed", "crash", finished.error)
    if finished.error:
        raise LutcoreError(f"fault {task.number} cannot be judged: {finished.error}")
    return Verdict(mutant=mutant, **finished.result)
