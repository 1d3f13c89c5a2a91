"""What the core refuses before it executes anything: the rules that FETCH checks.

The assembler, the reader of program files, the instruction-set simulator and the generator of
random programs use them; see ``docs/programs.md``. What a program meets while it executes is a
matter of `lutcore.sim.machine.legal`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import ADDRESS_WIDTH, REGION_ALIGNMENT, Region
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

__all__ = ["Problem", "check", "region_problem"]


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


def region_problem(regions: Mapping[Region, tuple[int, int]]) -> Problem | None:
    """What is wrong with the base addresses and sizes of regions, if anything."""
    alignment = 1 << REGION_ALIGNMENT
    for region, (base, size) in regions.items():
        message = ""
        if base % alignment or base >> ADDRESS_WIDTH:
            message = (
                f"the {region.name.lower()} begin at {base:#x}, not at a multiple of "
                f"{alignment} below 2^{ADDRESS_WIDTH}"
            )
        elif base + size > 1 << ADDRESS_WIDTH:
            message = f"the {region.name.lower()} end at {base + size:#x}, beyond 2^{ADDRESS_WIDTH}"
        if message:
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
