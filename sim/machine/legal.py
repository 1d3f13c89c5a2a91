"""What a legal program is.

`check` finds what the core itself refuses before it executes anything (fetch reads and checks the
whole program first). `check_execution` finds what it would meet while it executes: operands,
addresses, tokens, a deadlock; and what no cause names, because the core does not notice it: words
that are read without having been loaded, or while they are loaded again. A program without
problems of either kind is legal: it ends, and its results do not depend on the moment.

The assembler, the reader of program files, the simulator and the generator of random programs all
use these two; see ``docs/programs.md``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import (
    LOOP_LEVELS,
    PROGRAM_MAX,
    UNIT_OF,
    Cause,
    EncodingError,
    Opcode,
    Unit,
    decode,
)
from lutcore.hw.memory.axi import ADDRESS_WIDTH
from lutcore.hw.memory.dma import REGION_ALIGNMENT
from lutcore.sim.machine.base import Order
from lutcore.sim.machine.flow import Flow

__all__ = ["Problem", "check", "check_execution", "region_problem"]


@dataclass(frozen=True)
class Problem:
    """What is wrong with one instruction.

    Attributes
    ----------
    index
        Number of the instruction.
    cause
        What the core reports in STATUS; NONE if it does not notice.
    message
        The field, its value and what is allowed.
    """

    index: int
    cause: Cause
    message: str

    def __str__(self) -> str:
        cause = self.cause.name if self.cause else "undefined"
        return f"instruction {self.index}: {self.message} ({cause})"


def check(instructions: Sequence[int], config: CoreConfig) -> list[Problem]:
    """All problems of a program, in the order of its instructions; the core stops at the first.

    Encodings; the limits of this core in LAYER; loops (at most `LOOP_LEVELS` for an instruction,
    and none left over); END exactly once, at the end.
    """
    if not 1 <= len(instructions) <= PROGRAM_MAX:
        message = f"a program has 1 to {PROGRAM_MAX} instructions, not {len(instructions)}"
        return [Problem(0, Cause.LENGTH, message)]
    return list(_problems(instructions, config))


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


def region_problem(bases: Mapping[Region, int]) -> Problem | None:
    """What is wrong with the base addresses of regions, if anything."""
    alignment = 1 << REGION_ALIGNMENT
    for region, base in bases.items():
        if base % alignment or base >> ADDRESS_WIDTH:
            message = (
                f"the {region.name.lower()} begin at {base:#x}, not at a multiple of "
                f"{alignment} below 2^{ADDRESS_WIDTH}"
            )
            return Problem(0, Cause.REGION, message)
    return None


def _problems(instructions: Sequence[int], config: CoreConfig) -> Iterator[Problem]:
    pending = dict.fromkeys(Unit, 0)
    last = len(instructions) - 1
    for index, word in enumerate(instructions):
        try:
            instruction, fields = decode(word)
        except EncodingError as error:
            yield Problem(index, error.cause, str(error))
            continue
        opcode = instruction.opcode
        if opcode == Opcode.LOOP:
            unit = Unit(fields["unit"])
            pending[unit] += 1
            if pending[unit] == LOOP_LEVELS + 1:
                message = f"more than {LOOP_LEVELS} loops for one {unit.name.lower()}"
                yield Problem(index, Cause.NESTING, message)
        elif opcode in UNIT_OF:
            pending[UNIT_OF[opcode]] = 0
        elif opcode == Opcode.LAYER:
            yield from _layer_problems(index, fields, config)
        elif opcode == Opcode.END:
            for unit, loops in pending.items():
                if loops:
                    message = f"{loops} loops for a {unit.name.lower()} that does not follow"
                    yield Problem(index, Cause.NESTING, message)
                    break
            if index != last:
                message = f"end before the last instruction ({last})"
                yield Problem(index, Cause.LENGTH, message)
        if index == last and opcode != Opcode.END:
            yield Problem(index, Cause.LENGTH, "the last instruction is not end")


def _layer_problems(index: int, fields: dict[str, int], config: CoreConfig) -> Iterator[Problem]:
    for field, limit in (
        ("planes", config.planes),
        ("last_lanes", config.lanes),
        ("last_rows", config.rows),
    ):
        if fields[field] > limit:
            message = f"layer: {field} must be at most {limit} on this core, not {fields[field]}"
            yield Problem(index, Cause.OPERAND, message)
    if fields["ternary"] and not config.ternary:
        message = "layer: ternary must be 0 on this core, which has no tables for ternary weights"
        yield Problem(index, Cause.OPERAND, message)
    if fields["ternary"] and (fields["planes"], fields["per_plane"]) != (1, 1):
        message = (
            f"layer: ternary=1 needs planes=1 per_plane=1, not planes={fields['planes']} "
            f"per_plane={fields['per_plane']}"
        )
        yield Problem(index, Cause.OPERAND, message)
