"""Random programs as a scenario, one of those that faults go through."""

from lutcore.verif.directed.host import Killed
from lutcore.verif.directed.scenario import Bench, Jobs, Scenario, scenario
from lutcore.verif.programs.bench import KINDS, case_of
from lutcore.verif.programs.case import Case
from lutcore.verif.programs.run import Expected, Host, compare, expected_of

__all__ = ["SCENARIOS"]

SCENARIOS: list[Scenario] = []

#: Programs of each kind.
_PROGRAMS = 240
#: Programs that share a core, one after the other.
_BATCH = 8


@scenario(SCENARIOS, "programs")
def _programs(bench: Bench) -> None:
    """Random programs, legal and illegal, against the instruction-set simulator."""
    for kind in KINDS:
        cases = bench.jobs.once(f"{kind} programs", lambda kind=kind: _cases(bench.jobs, kind))
        for first in range(0, len(cases), _BATCH):
            name = f"{kind} programs {first}"
            source = bench.jobs.random(name)
            host = Host(bench.config, source, bench.model)
            for number, (case, expected) in enumerate(cases[first : first + _BATCH], first):
                seen = host.run(case, expected.before, expected.budget)
                wrong = compare(case, expected, seen, host.memory)
                if wrong:
                    raise Killed(f"{kind} program {number}: {wrong}")


def _cases(jobs: Jobs, kind: str) -> list[tuple[Case, Expected]]:
    cases = [case_of(jobs.config, kind, jobs.seed, number) for number in range(_PROGRAMS)]
    return [(case, expected_of(case)) for case in cases]
