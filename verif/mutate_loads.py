"""Programs that load just what fits, or more, or not all that is read, or not in time."""

import dataclasses
import functools
import random
from collections.abc import Iterator

import numpy as np

from lutcore.hw.config import COLUMNS_MAX, CoreConfig
from lutcore.hw.isa import Axis, Opcode, Token, Unit, decode, encode
from lutcore.hw.loops import EXTENT_BITS
from lutcore.sw.blocks import x_memory_bytes, x_slot_words
from lutcore.sw.compile import Program, compile_layer
from lutcore.verif.layers import draw_case
from lutcore.verif.mutate_bench import Jobs
from lutcore.verif.mutate_jobs import Job, altered_job

__all__ = ["bodies_of_all_extents", "late_bias", "to_the_limit", "without_bias"]


_LOOPS = {
    unit: functools.partial(encode, Opcode.LOOP, unit=unit, auto=1, stride=0) for unit in Unit
}


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
        "exponent": 0,
        "last_lanes": config.lanes,
        "last_rows": config.rows,
        "row_stride": 0,
    }


def _tokens() -> list[int]:
    """A free slot of each buffer."""
    return [encode(Opcode.TOKEN, counter=Token[f"{name}_FREE"], count=1) for name in "WSXB"]


def bodies_of_all_extents(config: CoreConfig) -> Iterator[tuple[str, list[int]]]:
    """A load or a store of a single body, with each bit of each extent; most are far too large."""
    instructions = {
        Unit.LDW: encode(Opcode.LDW, base=0, scale_level=0, bias_level=0),
        Unit.LDX: encode(Opcode.LDX, base=0, level=0),
        Unit.STY: encode(Opcode.STY, base=0),
    }
    axes = {Unit.LDW: (Axis.N, Axis.K), Unit.LDX: (Axis.K,), Unit.STY: (Axis.N,)}
    for unit, instruction in instructions.items():
        for axis in axes[unit]:
            for bit in range(EXTENT_BITS):
                extent = 1 << bit
                # Without results a row that is legal waits for ever.
                if unit == Unit.STY and extent <= config.tiles:
                    continue
                # Groups are counted one by one: no progress for the other units meanwhile.
                short = unit == Unit.LDW and axis == Axis.K and bit > 10
                for group_size in {COLUMNS_MAX - 1, max(16, extent >> 12)} if short else (0,):
                    layer = _layer(config) | ({"group_size": group_size} if group_size else {})
                    yield (
                        f"{unit.name} of {axis.name} = {extent}, groups of {group_size}",
                        [
                            *_tokens(),
                            encode(Opcode.LAYER, **layer),
                            _LOOPS[unit](axis=axis, total=extent, step=extent),
                            instruction,
                            encode(Opcode.END),
                        ],
                    )


def to_the_limit(config: CoreConfig) -> Iterator[tuple[str, list[int]]]:
    """Loads that just fit, and that are one too many; as many results are not to be had."""
    loops = _LOOPS
    layer = _layer(config)
    tokens = _tokens()
    items = x_memory_bytes(config) * 8 // config.x_word_bits
    for more in (0, 1):
        words = x_slot_words(config) + more
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


def late_bias(jobs: Jobs, name: str) -> Job:
    """A layer of one block whose biases come, with a second load, when FINAL waits for them."""
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
            words += [*load, word]
        else:
            words.append(word)
    late = dataclasses.replace(program, instructions=tuple(words))
    job = altered_job(late, x, source, name)
    assert job.good, f"{name} must end well, not with {job.cause!r}"
    return job


def _biased_tile(jobs: Jobs, name: str, source: random.Random) -> tuple[Program, bytes]:
    """A program of one tile, one block, and biases; and its activations."""
    config, numbers = jobs.config, jobs.numbers(name)
    case = draw_case(source, numbers, config, kind=("affine", 1), shape=(config.lanes, 8, 8))
    bias = numbers.standard_normal(config.lanes).astype(np.float32)
    case = dataclasses.replace(case, layer=dataclasses.replace(case.layer, bias=bias))
    program = compile_layer(case.layer, config, case.rows)
    return program, program.pack_x(case.q, case.scale)
