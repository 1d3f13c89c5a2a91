"""Directed scenarios: what random layers and programs meet too seldom, on the compiled RTL.

``lutcore verify`` runs them on the generated core or on another's Verilog, ``lutcore mutate`` on
each of its faults.
"""

import random
import time
from pathlib import Path

from lutcore.sim.devices.rtl import model_of
from lutcore.sim.rtl.simulator import CsrError, RtlProtocolError
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.directed import far as directed_far
from lutcore.verif.directed import loads as directed_loads
from lutcore.verif.directed import nests as directed_nests
from lutcore.verif.directed import plain as directed_scenarios
from lutcore.verif.directed import slots as directed_slots
from lutcore.verif.directed import stops as directed_stops
from lutcore.verif.directed.host import Killed, Silence
from lutcore.verif.directed.jobs import sparse_memory
from lutcore.verif.directed.scenario import Bench, Jobs, Scenario
from lutcore.verif.kit.bench import Outcome
from lutcore.verif.kit.env import Settings
from lutcore.verif.programs.bench import model_of_file

__all__ = ["SCENARIOS", "SIGNS", "runs"]

#: In the order in which they run: what finds most comes first.
SCENARIOS: tuple[Scenario, ...] = (
    *directed_scenarios.SCENARIOS,
    *directed_far.SCENARIOS,
    *directed_nests.SCENARIOS,
    *directed_loads.SCENARIOS,
    *directed_slots.SCENARIOS,
    *directed_stops.SCENARIOS,
)
#: What shows a fault; any other exception is an error of the scenario itself.
SIGNS = (Killed, RtlProtocolError, CsrError)


def runs(settings: Settings, rtl: Path | None, test: str | None) -> list[Outcome]:
    """The bench: scenario after scenario, on the generated core or on `rtl`, or just one.

    After a core that does not come to an end, which takes long to find out, no other one runs.
    """
    chosen = [scenario for scenario in SCENARIOS if test in (None, scenario.name)]
    if not chosen:
        names = ", ".join(scenario.name for scenario in SCENARIOS)
        raise LutcoreError(f"bench directed has no test {test}: there are {names}")
    config, turns = settings.config, range(settings.effort)
    model = model_of(config) if rtl is None else model_of_file(rtl, config)
    every = [Jobs(config, _seed(settings.seed, turn)) for turn in turns]
    outcomes = []
    for scenario in chosen:
        started, cycles, failure = time.monotonic(), 0, None
        for jobs in every:
            bench = Bench(jobs, model, sparse_memory())
            error = _error(scenario, bench)
            cycles += sum(host.sim.cycle for host in bench.hosts)
            if error is not None:
                failure = _message(error, bench)
                break
        seconds = time.monotonic() - started
        outcomes.append(Outcome(scenario.name, seconds, failure, figures={"cycles": cycles}))
        if isinstance(error, Silence):
            break
    return outcomes


def _seed(seed: int, turn: int) -> int:
    """Of the first turn the seed itself, so that a failure can be repeated without effort."""
    return random.Random(f"{seed}/{turn}").getrandbits(32) if turn else seed


def _error(scenario: Scenario, bench: Bench) -> Exception | None:
    try:
        scenario.run(bench)
    except SIGNS as error:
        return error
    return None


def _message(error: Exception, bench: Bench) -> str:
    """What is wrong and when, counted on the core that it happened on."""
    host = bench.hosts[-1]
    job = "" if host.job is None else f" ({host.job.name})"
    return f"cycle {host.sim.cycle}: {error}{job}"
