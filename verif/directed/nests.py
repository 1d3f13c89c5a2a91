"""Scenario of nests deeper, and of a program longer, than any that the compiler makes."""

import dataclasses
import functools
import random
from collections.abc import Callable, Sequence

from lutcore.hw.contract.config import COLUMNS_MAX, ceil_div
from lutcore.hw.contract.isa import (
    LOOP_LEVELS,
    PROGRAM_MAX,
    UNIT_OF,
    Axis,
    Opcode,
    Unit,
    decode,
    encode,
)
from lutcore.sw.program.compile import compile_layer
from lutcore.verif.directed.jobs import Job, altered_job, another_program, ending_well
from lutcore.verif.directed.scenario import Bench, Jobs, Scenario, scenario
from lutcore.verif.directed.words import LOOPS, bare_layer, free_slots, plain_data, whole
from lutcore.verif.kit.layers import draw_case

__all__ = ["SCENARIOS", "deepened", "halved", "innermost_tiles", "longest_job", "nest_jobs"]

SCENARIOS: list[Scenario] = []

#: Tiles or row tiles of the longest layers. The more of them, the longer it takes: some 16 cycles
#: for a tile of one step and the rows of a small core.
_LONG = 1 << 13


@scenario(SCENARIOS, "nests")
def _nests(bench: Bench) -> None:
    """Compiled programs with loops of one iteration around theirs, up to all five levels.

    Then tiles as the innermost of five, and a program of as many instructions as there may be.
    """
    host = bench.host(latency=6)
    for job in bench.jobs.once("nests", lambda: nest_jobs(bench.jobs, 12)):
        host.run(job)
    host.run(bench.jobs.once("innermost", lambda: innermost_tiles(bench.jobs)))
    host.run(bench.jobs.once("longest", lambda: longest_job(bench.jobs, late=False)))


@scenario(SCENARIOS, "long")
def _long(bench: Bench) -> None:
    """Layers of thousands of tiles, columns or row tiles, the upper bits of whose extents count.

    The loops around them hold the whole extent, or half of it, which those inside split.
    """
    host = bench.host(latency=6)
    for job in bench.jobs.once("long", lambda: _long_jobs(bench.jobs)):
        host.run(job)


def _long_jobs(jobs: Jobs) -> list[Job]:
    config, source, numbers = jobs.config, jobs.random("long"), jobs.numbers("long")
    step, found = config.step, []
    tiles = min(_LONG, COLUMNS_MAX // config.lanes)
    for axis, n, columns, rows in (
        (Axis.N, tiles, step, 1),
        (Axis.K, 1, COLUMNS_MAX, 1),
        (Axis.R, 1, step, _LONG),
    ):
        shape = n * config.lanes, columns, min(columns, config.run)
        case = draw_case(source, numbers, config, kind=("affine", 1), shape=shape)
        picked = numbers.integers(case.rows, size=(rows - 1) * config.rows + 1)
        case = dataclasses.replace(case, q=case.q[picked], scale=case.scale[picked])
        program = compile_layer(case.layer, config, case.rows)
        words = deepened(halved(program.instructions, axis), source, [axis])
        deep = dataclasses.replace(program, instructions=tuple(words))
        name = f"{n} tiles, {columns} columns, {rows} row tiles"
        job = altered_job(deep, program.pack_x(case.q, case.scale), source, name)
        found.append(ending_well(job))
    return found


def nest_jobs(jobs: Jobs, count: int) -> list[Job]:
    """Compiled programs, with nests as deep as they may be."""
    source, numbers = jobs.random("nests"), jobs.numbers("nests")
    found = []
    for index in range(count):
        case = draw_case(source, numbers, jobs.config)
        program = compile_layer(case.layer, jobs.config, case.rows)
        words = deepened(program.instructions, source)
        x = program.pack_x(case.q, case.scale)
        deep = dataclasses.replace(program, instructions=tuple(words))
        found.append(ending_well(altered_job(deep, x, source, f"nest {index}")))
    return found


def innermost_tiles(jobs: Jobs) -> Job:
    """Tiles by the innermost of five loops, the last of them with a single channel."""
    config, source = jobs.config, jobs.random("innermost")
    tiles, k = 3, config.step
    layer = bare_layer(config) | {"last_lanes": 1, "last_rows": 1}
    program, x = plain_data(jobs, "innermost", source, tiles=tiles)
    n = functools.partial(encode, Opcode.LOOP, axis=Axis.N, total=tiles, step=1, auto=0)
    words = [
        *free_slots(2),
        encode(Opcode.LAYER, **layer),
        whole(Unit.LDX, config.x_header_words + config.group, axis=Axis.K),
        encode(Opcode.LDX, base=0, level=0),
        LOOPS[Unit.LDW](axis=Axis.N, total=tiles, step=1),
        whole(Unit.LDW, k, axis=Axis.K),
        encode(Opcode.LDW, base=0, scale_level=2, bias_level=0),
        whole(Unit.MMA, 1, axis=Axis.R),
        whole(Unit.MMA, tiles, axis=Axis.N),
        whole(Unit.MMA, k, axis=Axis.K),
        whole(Unit.MMA, 1, axis=Axis.R),
        n(unit=Unit.MMA, stride=0),
        encode(
            Opcode.MMA, w_level=LOOP_LEVELS, s_level=LOOP_LEVELS, x_level=0, t_level=LOOP_LEVELS
        ),
        n(unit=Unit.STY, stride=4 * config.lanes),
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]
    return ending_well(another_program(program, x, source, "innermost", words))


def longest_job(jobs: Jobs, *, late: bool) -> Job:
    """A program of `PROGRAM_MAX` instructions, most of them copies of its LAYER.

    They stand at its end, or (``late``) behind the first LAYER, so that the loads come last.
    """
    source, numbers = jobs.random("longest"), jobs.numbers("longest")
    case = draw_case(source, numbers, jobs.config)
    program = compile_layer(case.layer, jobs.config, case.rows)
    *words, end = program.instructions
    first = next(i for i, word in enumerate(words) if decode(word)[0].opcode == Opcode.LAYER)
    place = first if late else len(words)
    words[place:place] = [words[first]] * (PROGRAM_MAX - len(program.instructions))
    longest = dataclasses.replace(program, instructions=(*words, end))
    job = altered_job(longest, program.pack_x(case.q, case.scale), source, "longest")
    return ending_well(job)


def halved(words: Sequence[int], axis: Axis) -> list[int]:
    """A program that does the same, but goes over an axis in two parts of about the same size.

    Loops over a size of 1 are left out where the nest needs their level.
    """

    def halve(_: Unit, loops: list[int], fields: dict[str, int]) -> list[int]:
        kept = [decode(word)[1] for word in loops]
        for place in reversed(range(len(kept))):
            if kept[place]["total"] == 1:
                del kept[place]
                _raise_levels(fields, -1, above=place)
        for place, loop in enumerate(kept):
            part = ceil_div(ceil_div(loop["total"], loop["step"]), 2)
            if loop["axis"] == axis and part > 1 and len(kept) < LOOP_LEVELS:
                outer = {"step": part * loop["step"], "stride": part * loop["stride"]}
                kept.insert(place, loop | outer)
                # A level is the number of loops outside of it: the new loop raises the inner ones.
                _raise_levels(fields, 1, above=place)
                break
        return [encode(Opcode.LOOP, **loop) for loop in kept]

    return _changed(words, halve)


def deepened(
    words: Sequence[int], source: random.Random, axes: Sequence[Axis] = tuple(Axis)
) -> list[int]:
    """A program that does the same, with every nest as deep as it may be.

    Each loop that is added has one iteration, which takes all of its axis, one of those given; its
    stride counts for nothing. Levels are numbers of loops, so they grow with the loops outside.
    """

    def deepen(unit: Unit, loops: list[int], fields: dict[str, int]) -> list[int]:
        more = LOOP_LEVELS - len(loops)
        _raise_levels(fields, more)
        return [_single(unit, loops, source.choice(axes), source) for _ in range(more)] + loops

    return _changed(words, deepen)


def _changed(
    words: Sequence[int], change: Callable[[Unit, list[int], dict[str, int]], list[int]]
) -> list[int]:
    """Other loops in place of those of each nest; fields of its instruction change in place."""
    result: list[int] = []
    waiting: dict[Unit, list[int]] = {unit: [] for unit in Unit}
    for word in words:
        instruction, fields = decode(word)
        if instruction.opcode == Opcode.LOOP:
            waiting[Unit(fields["unit"])].append(word)
        elif instruction.opcode in UNIT_OF:
            unit = UNIT_OF[instruction.opcode]
            loops, waiting[unit] = waiting[unit], []
            result += change(unit, loops, fields)
            result.append(encode(instruction.opcode, **fields))
        else:
            result.append(word)
    return result


def _raise_levels(fields: dict[str, int], more: int, *, above: int = -1) -> None:
    for name, value in fields.items():
        if name.endswith("level") and value > above:
            fields[name] = value + more


def _single(unit: Unit, loops: Sequence[int], axis: Axis, source: random.Random) -> int:
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
