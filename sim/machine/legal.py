"""What a program meets while it executes.

`check_execution` finds what stops the core in mid-program: operands, addresses, tokens, a deadlock;
and what no cause names, because the core does not notice it: words that are read without having
been loaded, or while they are loaded again. A program that keeps the rules of
`lutcore.sw.program.rules` and has no problem of these either is legal: it ends, and its results do
not depend on the moment. See ``docs/programs.md``.
"""

from collections.abc import Mapping, Sequence

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import Cause
from lutcore.sim.machine.base import Order
from lutcore.sim.machine.flow import Flow
from lutcore.sw.program.memory import MemoryMap
from lutcore.sw.program.program import Program
from lutcore.sw.program.rules import Problem

__all__ = ["check_execution", "execution_problems"]

#: Steps of a program that are checked as if it ran; more are a matter of seconds.
_STEPS = 100_000


def execution_problems(program: Program) -> list[Problem]:
    """What a program meets in regions of just its size, within its first steps."""
    regions = MemoryMap.for_program(program).regions
    sizes = {region: size for region, (_, size) in regions.items()}
    return check_execution(program.instructions, program.config, sizes, limit=_STEPS)


def check_execution(
    instructions: Sequence[int],
    config: CoreConfig,
    sizes: Mapping[Region, int] | None = None,
    *,
    limit: int | None = None,
) -> list[Problem]:
    """What a program that passes `check` meets when it is executed.

    Parameters
    ----------
    instructions, config
        The program and its core.
    sizes
        Bytes of the regions; None: as many as the program asks for.
    limit
        Steps after which to give up, with what was found until then. Default: none.

    Returns
    -------
    list of Problem
        The faults that the core may stop with, in the order in which they are found; then, if
        the order in which units move matters, how that shows. Empty for a legal program.
    """
    problems: list[Problem] = []
    # If a slot can be loaded too early, it is when loaders go first; if read too early, when
    # readers do.
    for order in Order:
        outcome = Flow(config, instructions, sizes, order=order, limit=limit).run()
        found = [Problem(f.instruction, f.cause, f.message) for f in outcome.faults]
        if outcome.undefined:
            found.append(Problem(outcome.reached, Cause.NONE, outcome.undefined))
        known = {(problem.index, problem.cause) for problem in problems}
        problems += [problem for problem in found if (problem.index, problem.cause) not in known]
    return problems
