"""Programs that load just what fits, or more, or not all that is read, or not in time."""

import dataclasses
import functools
import random
from collections.abc import Iterator

import numpy as np

from lutcore.hw.config import COLUMNS_MAX, CoreConfig, ceil_div
from lutcore.hw.isa import Axis, Opcode, Token, Unit, decode, encode
from lutcore.hw.loops import EXTENT_BITS
from lutcore.sw.blocks import BlockFormat
from lutcore.sw.compile import Program, compile_layer
from lutcore.verif.layers import draw_case
from lutcore.verif.mutate_bench import Bench, Jobs, Scenario, scenario
from lutcore.verif.mutate_jobs import Job, altered_job, another_program

__all__ = ["SCENARIOS", "late_scales", "to_the_limit", "without_bias"]

SCENARIOS: list[Scenario] = []


@scenario(SCENARIOS, "loads")
def _loads(bench: Bench) -> None:
    """Each bit of the extents of what is loaded or stored; late biases and long bodies."""
    host = bench.host(latency=3)
    for job in bench.jobs.once("loads", lambda: _extents(bench.jobs)):
        host.run(job)
    for latency in (60, 400):
        host = bench.host(latency=latency, bandwidth=0.2)
        for job in bench.jobs.once("late or long", lambda: _late_or_long(bench.jobs, 4)):
            host.run(job, counters=True)


def _extents(jobs: Jobs) -> list[Job]:
    source, numbers = jobs.random("extents"), jobs.numbers("extents")
    case = draw_case(source, numbers, jobs.config)
    program = compile_layer(case.layer, jobs.config, case.rows)
    x = program.pack_x(case.q, case.scale)
    return [
        another_program(program, x, source, name, words) for name, words in _bodies(jobs.config)
    ]


_LOOPS = {
    unit: functools.partial(encode, Opcode.LOOP, unit=unit, auto=1, stride=0) for unit in Unit
}


def _whole(unit: Unit, total: int, *, axis: Axis) -> int:
    """A loop of a single iteration."""
    return encode(Opcode.LOOP, unit=unit, axis=axis, auto=0, total=total, step=total, stride=0)


def _layer(config: CoreConfig) -> dict[str, int]:
    """LAYER of one plane and one group, without anything that is optional."""
    return {
        "planes": 1,
        "per_plane": 1,
        "ternary": 0,
        "offset": 0,
        "wide": 0,
        "bias": 0,
        "group_size": COLUMNS_MAX - 1,
        "exponent": -24,  # of float16
        "last_lanes": config.lanes,
        "last_rows": config.rows,
        "row_stride": 0,
    }


def _tokens(count: int = 1) -> list[int]:
    """Free slots of each buffer."""
    return [encode(Opcode.TOKEN, counter=Token[f"{name}_FREE"], count=count) for name in "WSXB"]


def _bodies(config: CoreConfig) -> Iterator[tuple[str, list[int]]]:
    """Loads and stores whose first body has each bit of each extent; most are far too large."""
    largest = (1 << EXTENT_BITS) - 1
    units = {
        Unit.LDW: (encode(Opcode.LDW, base=0, scale_level=0, bias_level=0), (Axis.N, Axis.K)),
        Unit.LDX: (encode(Opcode.LDX, base=0, level=0), (Axis.K, Axis.N)),
        Unit.STY: (encode(Opcode.STY, base=0), (Axis.N, Axis.R)),
    }
    for unit, (instruction, axes) in units.items():
        for axis, inner in (axes, axes[::-1]):
            other = _LOOPS[unit](axis=inner, total=1, step=1)
            for extent in (1 << bit for bit in range(EXTENT_BITS)):
                # Groups are counted one by one, while the other units make no progress.
                layer = _layer(config) | {"group_size": max(16, extent >> 12)}
                loop = functools.partial(_LOOPS[unit], axis=axis)
                for what, nest in {
                    "outside": [loop(total=extent, step=extent), other],
                    "inside": [other, loop(total=extent, step=largest)],
                    # The inner one splits what the outer one leaves, whatever its own total.
                    **{
                        f"by {step}": [
                            loop(total=min(extent + 1, largest), step=extent),
                            loop(total=1, step=step),
                        ]
                        for step in (largest, extent, max(1, extent - 1))
                    },
                }.items():
                    yield (
                        f"{unit.name} of {axis.name} = {extent}, {what}",
                        [
                            *_tokens(),
                            encode(Opcode.LAYER, **layer),
                            *nest,
                            instruction,
                            encode(Opcode.END),
                        ],
                    )


def to_the_limit(config: CoreConfig) -> Iterator[tuple[str, list[int]]]:
    """Loads that just fit, and that are one too many; as many results are not to be had."""
    loops = _LOOPS
    layer = _layer(config)
    tokens = _tokens()
    items = config.x_items
    for more in (0, 1):
        words = config.x_slot_words + more
        for step in (words, words - 1):
            yield (
                f"{words} words of activations, {step} at once",
                [
                    *tokens,
                    loops[Unit.LDX](axis=Axis.K, total=words * items, step=step * items),
                    encode(Opcode.LDX, base=0, level=0),
                    encode(Opcode.END),
                ],
            )
        for what, tiles, columns in (
            ("tiles", config.tiles + more, 1),
            ("words of weights", 1, config.weight_words * config.step + more),
        ):
            yield (
                f"{what}, {'one too many' if more else 'all'}",
                [
                    *tokens,
                    encode(Opcode.LAYER, **layer),
                    loops[Unit.LDW](axis=Axis.N, total=tiles, step=tiles),
                    loops[Unit.LDW](axis=Axis.K, total=columns, step=columns),
                    encode(Opcode.LDW, base=0, scale_level=0, bias_level=0),
                    encode(Opcode.END),
                ],
            )
    # As many scales as there is room for, with fewer codes than that; and those of one group more.
    wide = layer | {"group_size": config.step, "offset": 1, "wide": 1}
    groups = config.scale_words // (4 * config.chunks)
    for number in (groups, groups + 1):
        if number < config.weight_words:
            yield (
                f"scales of {number} groups",
                [
                    *tokens,
                    encode(Opcode.LAYER, **wide),
                    loops[Unit.LDW](axis=Axis.K, total=number * config.step, step=1 << 19),
                    encode(Opcode.LDW, base=0, scale_level=0, bias_level=0),
                    encode(Opcode.END),
                ],
            )
    # MMA has nothing else to wait for, and refuses what is one too many, or one bit too many.
    for extra in (1, *(1 << bit for bit in range(1, EXTENT_BITS) if 1 << bit > config.tiles)):
        yield (
            f"MMA, {extra} tiles more than there may be",
            [
                *tokens,
                encode(Opcode.LAYER, **layer),
                _whole(Unit.LDX, _places(config), axis=Axis.K),
                encode(Opcode.LDX, base=0, level=0),
                _whole(Unit.MMA, min(config.tiles + extra, (1 << EXTENT_BITS) - 1), axis=Axis.N),
                encode(Opcode.MMA, w_level=0, s_level=0, x_level=0, t_level=0),
                encode(Opcode.END),
            ],
        )
    # Without MMA, which would refuse as many itself.
    yield (
        "STY, one tile too many",
        [
            encode(Opcode.LAYER, **layer),
            loops[Unit.STY](axis=Axis.N, total=config.tiles + 1, step=config.tiles + 1),
            encode(Opcode.STY, base=0),
            encode(Opcode.END),
        ],
    )


def without_bias(jobs: Jobs) -> Job:
    """All but the biases of a layer of one block is loaded: FINAL waits for them for ever."""
    source = jobs.random("no bias")
    program, x = _biased_tile(jobs, "no bias", source)
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


def _late_or_long(jobs: Jobs, count: int) -> list[Job]:
    return [
        make(jobs, f"{make.__name__} {number}")
        for number in range(count)
        for make in (_late_bias, late_scales, _late_slots, _long_body, _row_tiles, _in_pieces)
    ]


def _late_bias(jobs: Jobs, name: str) -> Job:
    """A layer of one block whose biases come, with a second load, when FINAL waits for them.

    The codes come a second time, too, and into the same slot: not before they have been read.
    """
    source = jobs.random(name)
    program, x = _biased_tile(jobs, name, source)
    load: list[int] = []
    words: list[int] = []
    for word in program.instructions:
        instruction, fields = decode(word)
        unit = fields["unit"] if instruction.opcode == Opcode.LOOP else None
        if instruction.opcode == Opcode.LAYER:
            with_bias = word
            words.append(encode(Opcode.LAYER, **fields | {"bias": 0}))
        elif unit == Unit.LDW:
            load.append(word)
            words.append(word)
        elif instruction.opcode == Opcode.LDW:
            load.append(word)
            # Behind the biases; and LAYER waits for it.
            behind = fields["base"] + 4 * jobs.config.lanes
            words += [encode(Opcode.LDW, **fields | {"base": behind}), with_bias]
        elif instruction.opcode == Opcode.END:
            words += [*_nothing(20), *load, word]
        else:
            words.append(word)
    late = dataclasses.replace(program, instructions=tuple(words))
    job = altered_job(late, x, source, name)
    assert job.good, f"{name} must end well, not with {job.cause!r}"
    return job


def late_scales(jobs: Jobs, name: str) -> Job:
    """Two tiles with the same codes, but each with scales that come when SCALE waits for them.

    Both slots of all buffers are used, so that the second one is what is left behind.
    """
    config, source = jobs.config, jobs.random(name)
    group_size = config.step
    room = _places(config) - config.x_header_words
    groups = min(6, config.weight_words, config.scale_words // 4, room // group_size)
    columns = group_size * groups
    layer = _layer(config)
    form = BlockFormat(config, 1, True, False, False, group_size)
    block = form.bias_bytes(1), form.scale_bytes(1, columns), form.code_bytes(1, columns)
    program, x = _data(jobs, name, source)
    k = functools.partial(_whole, axis=Axis.K)
    tiles = functools.partial(encode, Opcode.LOOP, axis=Axis.N, total=2, step=1, auto=0)
    words = [
        *_tokens(2),
        encode(Opcode.LAYER, **layer | {"group_size": group_size, "last_rows": 1, "bias": 1}),
        tiles(unit=Unit.LDX, stride=config.x_slot_words * config.x_memory_bytes),
        k(Unit.LDX, _places(config)),
        encode(Opcode.LDX, base=0, level=1),
        tiles(unit=Unit.LDW, stride=sum(map(form.padded, block))),
        _LOOPS[Unit.LDW](axis=Axis.K, total=columns, step=columns),
        # The codes of the second block go to a slot that nobody reads.
        encode(Opcode.LDW, base=0, scale_level=2, bias_level=2),
        tiles(unit=Unit.MMA, stride=0),
        k(Unit.MMA, columns),
        encode(Opcode.MMA, w_level=0, s_level=1, x_level=1, t_level=1),
        tiles(unit=Unit.STY, stride=4 * config.lanes),
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]
    job = another_program(program, x, source, name, words)
    assert job.good, f"{name} must end well, not with {job.cause!r}"
    return job


def _late_slots(jobs: Jobs, name: str) -> Job:
    """Two tiles with the same codes, each with a slot full of scales, read as they come.

    Activations are read several times, as a slot has fewer of them.
    """
    config, source, numbers = jobs.config, jobs.random(name), jobs.numbers(name)
    lines = 2 * config.chunks
    columns = config.step * max(1, min(config.weight_words, config.scale_words // lines))
    layer = _layer(config) | {"group_size": config.step, "offset": 1, "last_rows": 1}
    form = BlockFormat(config, 1, True, False, True, config.step)
    block = form.scale_bytes(1, columns), form.code_bytes(1, columns)
    shape = (2 * config.lanes, columns, config.step)
    case = draw_case(source, numbers, config, kind=("affine", 1), shape=shape)
    values = numbers.uniform(0.005, 0.015, (2, *case.layer.scales.shape)).astype(np.float16)
    layer_of_slots = dataclasses.replace(case.layer, bias=None, scales=values[0], offsets=values[1])
    program = compile_layer(layer_of_slots, config, case.rows)
    x = program.pack_x(case.q, np.full_like(case.scale, 0.01))
    tiles = functools.partial(encode, Opcode.LOOP, axis=Axis.N, total=2, step=1, auto=0)
    words = [
        *_tokens(2),
        encode(Opcode.LAYER, **layer),
        _whole(Unit.LDX, _places(config), axis=Axis.K),
        encode(Opcode.LDX, base=0, level=0),
        tiles(unit=Unit.LDW, stride=sum(map(form.padded, block))),
        _LOOPS[Unit.LDW](axis=Axis.K, total=columns, step=columns),
        # The codes of the second block go to a slot that nobody reads.
        encode(Opcode.LDW, base=0, scale_level=2, bias_level=2),
        tiles(unit=Unit.MMA, stride=0),
        _whole(Unit.MMA, columns, axis=Axis.K),
        encode(Opcode.MMA, w_level=0, s_level=1, x_level=0, t_level=1),
        tiles(unit=Unit.STY, stride=4 * config.lanes),
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]
    job = another_program(program, x, source, name, words)
    assert job.good, f"{name} must end well, not with {job.cause!r}"
    return job


def _long_body(jobs: Jobs, name: str) -> Job:
    """MMA of as many columns as a slot of weights has; activations are read several times.

    Slots are full to the last word before the first one is read.
    """
    config, source = jobs.config, jobs.random(name)
    columns = config.weight_words * config.step
    # As short as the slot of the scales allows, but of whole steps.
    steps = ceil_div(config.weight_words * config.chunks, config.scale_words)
    group_size = min(config.run, steps * config.step)
    lines = ceil_div(columns, group_size) * config.chunks
    layer = _layer(config) | {"group_size": group_size, "last_rows": 1}
    layer["offset"] = int(2 * lines <= config.scale_words)
    program, x = _data(jobs, name, source)
    nests = {
        unit: [
            _whole(unit, total, axis=axis)
            for axis, total in ((Axis.N, 1), (Axis.R, 1), (Axis.K, columns))
        ]
        for unit in (Unit.LDW, Unit.MMA, Unit.STY)
    }
    words = [
        *_tokens(),
        encode(Opcode.LAYER, **layer),
        *nests[Unit.LDW],
        encode(Opcode.LDW, base=0, scale_level=0, bias_level=0),
        _whole(Unit.LDX, _places(config), axis=Axis.K),
        encode(Opcode.LDX, base=0, level=0),
        *nests[Unit.MMA],
        encode(Opcode.MMA, w_level=0, s_level=0, x_level=0, t_level=0),
        *nests[Unit.STY][:2],
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]
    return another_program(program, x, source, name, words)


def _in_pieces(jobs: Jobs, name: str) -> Job:
    """Two blocks of as many groups as fit, through which MMA goes in pieces of a few groups.

    STY goes from tile to tile by loops over K, which is an axis to a nest, but nothing to STY.
    """
    config, source = jobs.config, jobs.random(name)
    offset = source.randrange(2)
    lines = (1 + offset) * config.chunks
    columns = config.step * max(1, min(config.weight_words, config.scale_words // lines))
    # All of them meet the same activations.
    room = (_places(config) - config.x_header_words) // config.group
    piece = config.step * source.randint(1, max(1, room))
    layer = _layer(config) | {"group_size": config.step, "offset": offset, "last_rows": 1}
    form = BlockFormat(config, 1, True, False, bool(offset), config.step)
    block = form.scale_bytes(1, columns), form.code_bytes(1, columns)
    program, x = _data(jobs, name, source)
    k = functools.partial(encode, Opcode.LOOP, axis=Axis.K, auto=0)
    tiles = functools.partial(encode, Opcode.LOOP, axis=Axis.N, total=2, step=1, auto=0)
    words = [
        *_tokens(2),
        encode(Opcode.LAYER, **layer),
        _whole(Unit.LDX, _places(config), axis=Axis.K),
        encode(Opcode.LDX, base=0, level=0),
        tiles(unit=Unit.LDW, stride=sum(map(form.padded, block))),
        _LOOPS[Unit.LDW](axis=Axis.K, total=columns, step=columns),
        encode(Opcode.LDW, base=0, scale_level=2, bias_level=2),
        tiles(unit=Unit.MMA, stride=0),
        k(unit=Unit.MMA, total=columns, step=piece, stride=0),
        encode(Opcode.MMA, w_level=1, s_level=1, x_level=0, t_level=1),
        k(unit=Unit.STY, total=2, step=2, stride=0),
        k(unit=Unit.STY, total=1, step=1, stride=4 * config.lanes),
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]
    job = another_program(program, x, source, name, words)
    assert job.good, f"{name} must end well, not with {job.cause!r}"
    return job


def _row_tiles(jobs: Jobs, name: str) -> Job:
    """Sum slots full of row tiles, one more than there are: TABLE waits with the rows' scales."""
    config, source = jobs.config, jobs.random(name)
    most = config.sum_words // config.tile_sums
    tiles = 3
    program, x = _data(jobs, name, source, tiles=tiles, rows=most * config.rows)
    row_bytes = tiles * config.lanes * 4
    layer = _layer(config) | {"group_size": config.step, "row_stride": row_bytes}
    loop = functools.partial(encode, Opcode.LOOP, auto=0, step=1)
    n = functools.partial(loop, axis=Axis.N, total=tiles)
    r = functools.partial(loop, axis=Axis.R, total=most)
    words = [
        *_tokens(2),
        encode(Opcode.LAYER, **layer),
        n(unit=Unit.LDX, stride=0),
        _LOOPS[Unit.LDX](axis=Axis.R, total=most, step=1),
        _whole(Unit.LDX, config.x_header_words + config.group, axis=Axis.K),
        encode(Opcode.LDX, base=0, level=2),
        _LOOPS[Unit.LDW](axis=Axis.N, total=tiles, step=1),
        _LOOPS[Unit.LDW](axis=Axis.K, total=config.step, step=config.step),
        encode(Opcode.LDW, base=0, scale_level=2, bias_level=0),
        n(unit=Unit.MMA, stride=0),
        _whole(Unit.MMA, config.step, axis=Axis.K),
        r(unit=Unit.MMA, stride=0),
        encode(Opcode.MMA, w_level=1, s_level=1, x_level=3, t_level=1),
        n(unit=Unit.STY, stride=4 * config.lanes),
        r(unit=Unit.STY, stride=config.rows * row_bytes),
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]
    return another_program(program, x, source, name, words)


def _data(
    jobs: Jobs, name: str, source: random.Random, *, tiles: int = 2, rows: int = 1
) -> tuple[Program, bytes]:
    """A program with a lot of data, for others that take it as it comes."""
    config, numbers = jobs.config, jobs.numbers(name)
    columns = max(2000, config.weight_words * config.step, 2 * _places(config))
    shape = (tiles * config.lanes, columns, 8)
    case = draw_case(source, numbers, config, kind=("affine", 1), shape=shape)
    # Of any size the sums would be infinite, which hides most of what can be wrong with them.
    scales = numbers.uniform(0.005, 0.015, case.layer.scales.shape)
    small = dataclasses.replace(
        case.layer, bias=None, offsets=None, scales=scales.astype(case.layer.scales.dtype)
    )
    case = dataclasses.replace(case, layer=small, scale=np.full_like(case.scale, 0.01))
    program = compile_layer(case.layer, config, rows)
    q, scale = (np.resize(values, (rows, *values.shape[1:])) for values in (case.q, case.scale))
    return program, program.pack_x(q, scale)


def _places(config: CoreConfig) -> int:
    """Places of K for whose activations a slot has room."""
    return config.x_slot_words * config.x_items


def _nothing(count: int) -> list[int]:
    """Instructions that do nothing, but take a while."""
    empty = _LOOPS[Unit.LDX](axis=Axis.K, total=0, step=1)
    return [empty, encode(Opcode.LDX, base=0, level=0)] * count


def _biased_tile(jobs: Jobs, name: str, source: random.Random) -> tuple[Program, bytes]:
    """A program of one tile, one block, and biases; and its activations."""
    config, numbers = jobs.config, jobs.numbers(name)
    case = draw_case(source, numbers, config, kind=("affine", 1), shape=(config.lanes, 8, 8))
    bias = numbers.standard_normal(config.lanes).astype(np.float32)
    # Sums of the size of the biases, so that these count.
    layer = dataclasses.replace(
        case.layer, bias=bias, offsets=None, scales=np.ones_like(case.layer.scales)
    )
    case = dataclasses.replace(case, layer=layer, scale=np.full_like(case.scale, 0.01))
    program = compile_layer(case.layer, config, case.rows)
    return program, program.pack_x(case.q, case.scale)
