"""Programs whose slots fill to the last word, or late, or are read in other pieces than written."""

import dataclasses
import functools

import numpy as np

from lutcore.hw.contract.config import ceil_div
from lutcore.hw.contract.isa import Axis, Opcode, Token, Unit, decode, encode
from lutcore.sw.program.blocks import BlockFormat
from lutcore.sw.program.compile import compile_layer
from lutcore.verif.directed.jobs import Job, altered_job, another_program, ending_well
from lutcore.verif.directed.scenario import Bench, Jobs, Scenario, scenario
from lutcore.verif.directed.words import (
    LOOPS,
    bare_layer,
    biased_program,
    free_slots,
    places,
    plain_data,
    slot_columns,
    whole,
)
from lutcore.verif.kit.late_biases import with_late_biases
from lutcore.verif.kit.layers import draw_case

__all__ = ["SCENARIOS", "late_or_long", "late_scales", "without_bias"]

SCENARIOS: list[Scenario] = []


@scenario(SCENARIOS, "slots")
def _slots(bench: Bench) -> None:
    """Late biases and scales, full slots, long bodies, many row tiles; on slow memories.

    And on one that takes results faster than it gives what they are made of, now and then.
    """
    slow = [{"latency": latency, "bandwidth": 0.2} for latency in (60, 400)]
    for bus in (*slow, {"stall_probability": 0.6, "stall_seed": 7}):
        host = bench.host(**bus)
        for job in bench.jobs.once("late or long", lambda: late_or_long(bench.jobs, 4)):
            host.run(job, counters=True)


def without_bias(jobs: Jobs) -> Job:
    """All but the biases of a layer of one block is loaded: FINAL waits for them for ever."""
    source = jobs.random("no bias")
    program, x = biased_program(jobs, "no bias", source)
    words: list[int] = []
    for word in program.instructions:
        instruction, fields = decode(word)
        if instruction.opcode == Opcode.LAYER:
            words.append(encode(Opcode.LAYER, **fields | {"bias": 0}))
            with_bias = word
        else:
            words.append(word)
        if instruction.opcode == Opcode.LDW:
            words += [with_bias, encode(Opcode.TOKEN, counter=Token.B_FULL, count=1)]
    # A program of its own, with room for all of its instructions before the weights.
    waiting = dataclasses.replace(program, instructions=tuple(words))
    return altered_job(waiting, x, source, "no bias")


def late_or_long(jobs: Jobs, count: int) -> list[Job]:
    """Programs of each kind."""
    return [
        make(jobs, f"{make.__name__} {number}")
        for number in range(count)
        for make in (
            _late_bias,
            late_scales,
            _late_slots,
            _long_body,
            _followed_body,
            _round_and_round,
            _row_tiles,
            _in_pieces,
        )
    ]


def _late_bias(jobs: Jobs, name: str) -> Job:
    """A layer of one block whose biases come, with a second load, while FINAL waits for them."""
    source = jobs.random(name)
    # The biases of one tile, or as many as the core has room for.
    tiles = source.choice([1, jobs.config.tiles])
    program, x = biased_program(jobs, name, source, tiles)
    return ending_well(altered_job(with_late_biases(program), x, source, name))


def late_scales(jobs: Jobs, name: str) -> Job:
    """Two tiles with the same codes, but each with scales that come when SCALE waits for them.

    Both slots of all buffers are used, so that later programs find data in each of them.
    """
    config, source = jobs.config, jobs.random(name)
    group_size = config.step
    room = places(config) - config.x_header_words
    groups = min(6, config.weight_words, config.scale_words // 4, max(1, room // group_size))
    columns = group_size * groups
    layer = bare_layer(config)
    form = BlockFormat(config, 1, True, False, False, group_size)
    block = form.bias_bytes(1), form.scale_bytes(1, columns), form.code_bytes(1, columns)
    program, x = plain_data(jobs, name, source)
    k = functools.partial(whole, axis=Axis.K)
    tiles = functools.partial(encode, Opcode.LOOP, axis=Axis.N, total=2, step=1, auto=0)
    words = [
        *free_slots(2),
        encode(Opcode.LAYER, **layer | {"group_size": group_size, "last_rows": 1, "bias": 1}),
        tiles(unit=Unit.LDX, stride=config.x_slot_words * config.x_memory_bytes),
        k(Unit.LDX, places(config)),
        encode(Opcode.LDX, base=0, level=1),
        tiles(unit=Unit.LDW, stride=sum(map(form.padded, block))),
        LOOPS[Unit.LDW](axis=Axis.K, total=columns, step=columns),
        # The codes of the second block go to a slot that nobody reads.
        encode(Opcode.LDW, base=0, scale_level=2, bias_level=2),
        tiles(unit=Unit.MMA, stride=0),
        k(Unit.MMA, columns),
        encode(Opcode.MMA, w_level=0, s_level=1, x_level=1, t_level=1),
        tiles(unit=Unit.STY, stride=4 * config.lanes),
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]
    return ending_well(another_program(program, x, source, name, words))


def _late_slots(jobs: Jobs, name: str) -> Job:
    """Two tiles with the same codes, each with a slot full of scales, read as they come.

    Activations are read several times, as a slot has fewer of them. Where scales are wide, a half
    of one may come long before the other.
    """
    config, source, numbers = jobs.config, jobs.random(name), jobs.numbers(name)
    wide = source.randrange(2)
    lines = (2 << wide) * config.chunks
    columns = config.step * max(1, min(config.weight_words, config.scale_words // lines))
    layer = bare_layer(config)
    layer |= {"group_size": config.step, "offset": 1, "wide": wide, "last_rows": 1}
    form = BlockFormat(config, 1, True, True, bool(wide), config.step)
    block = form.scale_bytes(1, columns), form.code_bytes(1, columns)
    # Blocks like these, and activations for a slot.
    shape = (2 * config.lanes, max(2 * columns, slot_columns(config)), config.step)
    case = draw_case(source, numbers, config, kind=("affine", 1), shape=shape)
    values = numbers.uniform(0.005, 0.015, (2, *case.layer.scales.shape)).astype(np.float16)
    layer_of_slots = dataclasses.replace(case.layer, bias=None, scales=values[0], offsets=values[1])
    program = compile_layer(layer_of_slots, config, case.rows)
    x = program.pack_x(case.q, np.full_like(case.scale, 0.01))
    tiles = functools.partial(encode, Opcode.LOOP, axis=Axis.N, total=2, step=1, auto=0)
    words = [
        *free_slots(2),
        encode(Opcode.LAYER, **layer),
        whole(Unit.LDX, places(config), axis=Axis.K),
        encode(Opcode.LDX, base=0, level=0),
        tiles(unit=Unit.LDW, stride=sum(map(form.padded, block))),
        LOOPS[Unit.LDW](axis=Axis.K, total=columns, step=columns),
        # The codes of the second block go to a slot that nobody reads.
        encode(Opcode.LDW, base=0, scale_level=2, bias_level=2),
        tiles(unit=Unit.MMA, stride=0),
        whole(Unit.MMA, columns, axis=Axis.K),
        encode(Opcode.MMA, w_level=0, s_level=1, x_level=0, t_level=1),
        tiles(unit=Unit.STY, stride=4 * config.lanes),
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]
    return ending_well(another_program(program, x, source, name, words))


def _long_body(jobs: Jobs, name: str) -> Job:
    """MMA of as many columns as a slot of weights has; activations are read several times.

    Slots are full to the last word before the first one is read.
    """
    return _full_slot(jobs, name, last=Unit.LDX)


def _followed_body(jobs: Jobs, name: str) -> Job:
    """MMA of as many columns as a slot of weights has; it reads each word as soon as it is there.

    LDW comes last. Runs are long, so that SCALE does not hold up ARRAY.
    """
    return _full_slot(jobs, name, last=Unit.LDW)


def _full_slot(jobs: Jobs, name: str, *, last: Unit) -> Job:
    config, source = jobs.config, jobs.random(name)
    columns = config.weight_words * config.step
    # The fewest whole steps per group with which the scales fit their slot.
    steps = ceil_div(config.weight_words * config.chunks, config.scale_words)
    group_size = min(config.run, steps * config.step)
    if last == Unit.LDW:
        group_size = max(group_size, config.run // config.step * config.step)
    lines = ceil_div(columns, group_size) * config.chunks
    layer = bare_layer(config) | {"group_size": group_size, "last_rows": 1}
    layer["offset"] = int(2 * lines <= config.scale_words)
    program, x = plain_data(jobs, name, source)
    nests = {
        unit: [
            whole(unit, total, axis=axis)
            for axis, total in ((Axis.N, 1), (Axis.R, 1), (Axis.K, columns))
        ]
        for unit in (Unit.LDW, Unit.MMA, Unit.STY)
    }
    loads = {
        Unit.LDW: [*nests[Unit.LDW], encode(Opcode.LDW, base=0, scale_level=0, bias_level=0)],
        Unit.LDX: [
            whole(Unit.LDX, places(config), axis=Axis.K),
            encode(Opcode.LDX, base=0, level=0),
        ],
    }
    words = [
        *free_slots(),
        encode(Opcode.LAYER, **layer),
        *(word for unit in sorted(loads, key=lambda unit: unit == last) for word in loads[unit]),
        *nests[Unit.MMA],
        encode(Opcode.MMA, w_level=0, s_level=0, x_level=0, t_level=0),
        *nests[Unit.STY][:2],
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]
    return another_program(program, x, source, name, words)


def _round_and_round(jobs: Jobs, name: str) -> Job:
    """MMA of about as many columns as a slot of weights has, in runs as long as they may be.

    Activations are read again from the start of their slot. Scales were loaded for shorter runs, so
    there are more of them than MMA needs.
    """
    config, source = jobs.config, jobs.random(name)
    loaded = config.weight_words * config.step
    steps = ceil_div(config.weight_words * config.chunks, config.scale_words)
    run = source.choice([config.run, max(1, config.run // config.step) * config.step])
    per_run = ceil_div(run, config.step)
    used = config.weight_words - source.randrange(min(per_run, config.weight_words))
    columns = used // per_run * run + used % per_run * config.step
    layer = bare_layer(config) | {"last_rows": 1}
    program, x = plain_data(jobs, name, source)
    if run % config.step:
        # A run ends within a step, whose other activations have to be zero.
        x = bytes(len(x))
    words = [
        *free_slots(),
        encode(Opcode.LAYER, **layer | {"group_size": steps * config.step}),
        whole(Unit.LDW, loaded, axis=Axis.K),
        encode(Opcode.LDW, base=0, scale_level=0, bias_level=0),
        whole(Unit.LDX, places(config), axis=Axis.K),
        encode(Opcode.LDX, base=0, level=0),
        encode(Opcode.LAYER, **layer | {"group_size": run}),
        whole(Unit.MMA, columns, axis=Axis.K),
        encode(Opcode.MMA, w_level=0, s_level=0, x_level=0, t_level=0),
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]
    return ending_well(another_program(program, x, source, name, words))


def _in_pieces(jobs: Jobs, name: str) -> Job:
    """Three blocks of as many groups as fit, through which MMA goes in pieces of a few groups.

    STY goes from tile to tile by two loops over K, an axis that only its addresses depend on: two
    tiles first, then one.
    """
    config, source = jobs.config, jobs.random(name)
    offset = source.randrange(2)
    lines = (1 + offset) * config.chunks
    columns = config.step * max(1, min(config.weight_words, config.scale_words // lines))
    # Each piece is multiplied with the same activations.
    room = (places(config) - config.x_header_words) // config.group
    piece = config.step * source.randint(1, max(1, room))
    layer = bare_layer(config) | {"group_size": config.step, "offset": offset, "last_rows": 1}
    form = BlockFormat(config, 1, True, False, bool(offset), config.step)
    block = form.scale_bytes(1, columns), form.code_bytes(1, columns)
    program, x = plain_data(jobs, name, source, tiles=3)
    k = functools.partial(encode, Opcode.LOOP, axis=Axis.K, auto=0)
    tiles = functools.partial(encode, Opcode.LOOP, axis=Axis.N, total=3, step=1, auto=0)
    words = [
        *free_slots(2),
        encode(Opcode.LAYER, **layer),
        whole(Unit.LDX, places(config), axis=Axis.K),
        encode(Opcode.LDX, base=0, level=0),
        tiles(unit=Unit.LDW, stride=sum(map(form.padded, block))),
        LOOPS[Unit.LDW](axis=Axis.K, total=columns, step=columns),
        encode(Opcode.LDW, base=0, scale_level=2, bias_level=2),
        tiles(unit=Unit.MMA, stride=0),
        k(unit=Unit.MMA, total=columns, step=piece, stride=0),
        encode(Opcode.MMA, w_level=1, s_level=1, x_level=0, t_level=1),
        k(unit=Unit.STY, total=3, step=2, stride=2 * 4 * config.lanes),
        k(unit=Unit.STY, total=1, step=1, stride=4 * config.lanes),
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]
    return ending_well(another_program(program, x, source, name, words))


def _row_tiles(jobs: Jobs, name: str) -> Job:
    """More row tiles than the sum slots hold: TABLE waits with the scales of the last rows."""
    config, source = jobs.config, jobs.random(name)
    most = config.sum_words // config.tile_sums
    tiles = 3
    program, x = plain_data(jobs, name, source, tiles=tiles, rows=most * config.rows)
    row_bytes = tiles * config.lanes * 4
    layer = bare_layer(config) | {"group_size": config.step, "row_stride": row_bytes}
    loop = functools.partial(encode, Opcode.LOOP, auto=0, step=1)
    n = functools.partial(loop, axis=Axis.N, total=tiles)
    r = functools.partial(loop, axis=Axis.R, total=most)
    words = [
        *free_slots(2),
        encode(Opcode.LAYER, **layer),
        n(unit=Unit.LDX, stride=0),
        LOOPS[Unit.LDX](axis=Axis.R, total=most, step=1),
        whole(Unit.LDX, config.x_header_words + config.group, axis=Axis.K),
        encode(Opcode.LDX, base=0, level=2),
        LOOPS[Unit.LDW](axis=Axis.N, total=tiles, step=1),
        LOOPS[Unit.LDW](axis=Axis.K, total=config.step, step=config.step),
        encode(Opcode.LDW, base=0, scale_level=2, bias_level=0),
        n(unit=Unit.MMA, stride=0),
        whole(Unit.MMA, config.step, axis=Axis.K),
        r(unit=Unit.MMA, stride=0),
        encode(Opcode.MMA, w_level=1, s_level=1, x_level=3, t_level=1),
        n(unit=Unit.STY, stride=4 * config.lanes),
        r(unit=Unit.STY, stride=config.rows * row_bytes),
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]
    return another_program(program, x, source, name, words)
