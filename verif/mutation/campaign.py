"""A whole campaign: faults are drawn, built into one design, judged, and what is left is proved."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from lutcore.hw.contract.config import CoreConfig
from lutcore.sim.rtl.build import build_model
from lutcore.sim.rtl.verilog import verilog_of
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.directed.scenario import Jobs, Scenario
from lutcore.verif.mutation.claims import Claims
from lutcore.verif.mutation.judge import SCENARIOS, Outcome, Regression, Verdict
from lutcore.verif.mutation.mutants import (
    GROUPS,
    UNITS,
    Mutant,
    Netlist,
    instrument,
    read_netlist,
    sample,
)
from lutcore.verif.mutation.proof import METHODS, prove_equivalent
from lutcore.verif.mutation.reach import Fact
from lutcore.verif.mutation.scope import Scope

__all__ = ["SMALL_CORE", "Campaign", "Request", "run_campaign", "units_of"]

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
    processes
        Faults judged side by side.
    only
        Judge these faults alone, counted from 1; all, if there are none.
    prove
        Whether to try to prove survivors equivalent.
    source
        Where the configuration is from, as on the command line; None for `SMALL_CORE`.
    """

    config: CoreConfig = SMALL_CORE
    units: tuple[str, ...] = ("datapath", "control")
    count: int = 40
    seed: int = 1
    processes: int = 1
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
    def survivors(self) -> list[Verdict]:
        """Faults that nothing noticed and that are not proved to do nothing."""
        return [verdict for verdict in self.verdicts if verdict.outcome == "survived"]


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


def run_campaign(
    request: Request,
    progress: Callable[[str, int, int], None] = lambda step, done, of: None,
) -> Campaign:
    """Run a campaign.

    Parameters
    ----------
    request
        What to do.
    progress
        Called with the present step, and how much of how many of it are done.

    Raises
    ------
    LutcoreError
        If an argument is out of range, a tool is missing, or the design fails without a fault.
    """
    units_of(request.units)
    with tempfile.TemporaryDirectory(prefix="lutcore-mutate-") as temporary:
        folder = Path(temporary)
        progress("reading the design", 0, 0)
        netlist = read_netlist(verilog_of(request.config), folder)
        mutants = draw(netlist, request)
        for number in request.only:
            if not 1 <= number <= len(mutants):
                raise LutcoreError(
                    f"there is no fault {number}: with this count they are 1 to {len(mutants)}"
                )
        progress(f"building {len(mutants)} faults into the design", 0, 0)
        verilog = instrument(netlist, mutants, folder)
        model = build_model(
            verilog, bus_width=request.config.bus_width, optimise="fast", progress=False
        )
        regression = Regression(
            model,
            Jobs(request.config, request.seed),
            report=lambda name: progress(f"without a fault: {name}", 0, 0),
        )
        wanted = list(enumerate(mutants, 1))
        if request.only:
            wanted = [wanted[number - 1] for number in sorted(set(request.only))]
        verdicts: dict[int, Verdict] = {}

        def judge(step: str, scenarios: Sequence[Scenario]) -> None:
            rest = outcomes("survived", "timing") if verdicts else [number for number, _ in wanted]
            faults = [(number, mutants[number - 1]) for number in rest]
            judged = regression.judge_all(faults, request.processes, scenarios)
            for done, verdict in enumerate(judged, 1):
                verdicts[verdict.number] = verdict
                progress(step, done, len(faults))

        def prove(step: str, methods: Sequence[str]) -> None:
            unseen = [verdicts[number] for number in outcomes("survived")]
            proofs = _prove(netlist, unseen, request.processes, methods)
            for done, verdict in enumerate(proofs, 1):
                verdicts[verdict.number] = verdict
                progress(step, done, len(unseen))

        def outcomes(*wanted: Outcome) -> list[int]:
            return sorted(n for n, verdict in verdicts.items() if verdict.outcome in wanted)

        if request.prove:
            # What does nothing would otherwise go through the whole regression.
            judge("judging, first scenario", SCENARIOS[:1])
            prove("proving the others equivalent", METHODS[:-1])
        judge("judging", SCENARIOS)
        if request.prove:
            # Takes longest, so that it is for those that nothing else has settled.
            prove("proving the rest equivalent", METHODS[-1:])
            unseen = [verdicts[number] for number in outcomes("survived")]
            claims = Claims(request.config, netlist)
            for done, verdict in enumerate(_contradict(claims, unseen, request.processes), 1):
                verdicts[verdict.number] = verdict
                progress("putting the rest before claims", done, len(unseen))
    return Campaign(
        request, tuple(verdicts[number] for number in sorted(verdicts)), regression.cycles
    )


def _contradict(claims: Claims, verdicts: Sequence[Verdict], processes: int) -> Iterator[Verdict]:
    """Try to find a claim that a fault breaks."""

    def attempt(verdict: Verdict, folder: Path) -> Verdict:
        broken = claims.broken_by(verdict.mutant, folder)
        return replace(verdict, outcome="killed", by="claims", detail=broken) if broken else verdict

    return _attempts(attempt, verdicts, processes)


def _prove(
    netlist: Netlist, verdicts: Sequence[Verdict], processes: int, methods: Sequence[str]
) -> Iterator[Verdict]:
    """Try to prove faults equivalent."""
    facts: dict[Scope, list[Fact]] = {}

    def attempt(verdict: Verdict, folder: Path) -> Verdict:
        method = prove_equivalent(netlist, verdict.mutant, folder, methods, facts)
        return replace(verdict, outcome="equivalent", by=method) if method else verdict

    return _attempts(attempt, verdicts, processes)


def _attempts(
    attempt: Callable[[Verdict, Path], Verdict], verdicts: Sequence[Verdict], processes: int
) -> Iterator[Verdict]:
    """Each verdict after an attempt to change it, which gets a folder of its own."""

    def one(verdict: Verdict) -> Verdict:
        with tempfile.TemporaryDirectory(prefix="lutcore-mutate-") as folder:
            return attempt(verdict, Path(folder))

    # Yosys runs in processes of its own, so threads suffice.
    with ThreadPoolExecutor(processes) as pool:
        yield from pool.map(one, verdicts)
