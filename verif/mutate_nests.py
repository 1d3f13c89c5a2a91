"""Scenario of nests deeper, and of a program longer, than any that the compiler makes."""

import dataclasses
import random
from collections.abc import Sequence

from lutcore.hw.isa import LOOP_LEVELS, PROGRAM_MAX, UNIT_OF, Axis, Opcode, Unit, decode, encode
from lutcore.sw.compile import compile_layer
from lutcore.verif.layers import draw_case
from lutcore.verif.mutate_bench import Bench, Jobs, Scenario, scenario
from lutcore.verif.mutate_jobs import Job, altered_job

__all__ = ["SCENARIOS", "deepened"]

SCENARIOS: list[Scenario] = []


@scenario(SCENARIOS, "nests")
def _nests(bench: Bench) -> None:
    """Compiled programs with loops of one iteration around theirs, up to all five levels.

    And one of as many instructions as there may be.
    """
    host = bench.host(latency=6)
    for job in bench.jobs.once("nests", lambda: _jobs(bench.jobs, 12)):
        host.run(job)


def _jobs(jobs: Jobs, count: int) -> list[Job]:
    source, numbers = jobs.random("nests"), jobs.numbers("nests")
    found = []
    for index in range(count):
        case = draw_case(source, numbers, jobs.config)
        program = compile_layer(case.layer, jobs.config, case.rows)
        words = deepened(program.instructions, source)
        x = program.pack_x(case.q, case.scale)
        deep = dataclasses.replace(program, instructions=tuple(words))
        found.append(altered_job(deep, x, source, f"nest {index}"))
    words = lengthened(program.instructions)
    longest = dataclasses.replace(program, instructions=tuple(words))
    found.append(altered_job(longest, x, source, "longest"))
    assert all(job.good for job in found), "programs that do the same must end as well"
    return found


def lengthened(words: Sequence[int]) -> list[int]:
    """A program that does the same in `PROGRAM_MAX` instructions: LAYER comes again at the end."""
    layer = next(word for word in words if decode(word)[0].opcode == Opcode.LAYER)
    return [*words[:-1], *[layer] * (PROGRAM_MAX - len(words)), words[-1]]


def deepened(words: Sequence[int], source: random.Random) -> list[int]:
    """A program that does the same, with every nest as deep as it may be.

    Each loop that is added has one iteration, which takes all of its axis; its stride counts for
    nothing. Levels are numbers of loops, so they grow with the loops outside of them.
    """
    result: list[int] = []
    waiting: dict[Unit, list[int]] = {unit: [] for unit in Unit}
    for word in words:
        instruction, fields = decode(word)
        if instruction.opcode == Opcode.LOOP:
            waiting[Unit(fields["unit"])].append(word)
        elif instruction.opcode in UNIT_OF:
            unit = UNIT_OF[instruction.opcode]
            loops, waiting[unit] = waiting[unit], []
            more = LOOP_LEVELS - len(loops)
            result += [_single(unit, loops, source) for _ in range(more)] + loops
            for name in fields:
                if name.endswith("level"):
                    fields[name] += more
            result.append(encode(instruction.opcode, **fields))
        else:
            result.append(word)
    return result


def _single(unit: Unit, loops: Sequence[int], source: random.Random) -> int:
    axis = source.choice(list(Axis))
    extents = [decode(word)[1]["total"] for word in loops if decode(word)[1]["axis"] == axis]
    extent = extents[0] if extents else 1
    return encode(
        Opcode.LOOP,
        unit=unit,
        axis=axis,
        auto=0,
        total=extent,
        step=max(1, extent),
        stride=source.randrange(-(2**39), 2**39),
    )
