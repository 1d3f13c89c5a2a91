"""Programs of the stops that load just what fits, one too many, or not all that is read."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from lutcore.hw.config import COLUMNS_MAX, CoreConfig
from lutcore.hw.isa import Axis, Opcode, Token, Unit, decode, encode
from lutcore.sw.blocks import x_memory_bytes, x_slot_words
from lutcore.sw.compile import compile_layer
from lutcore.verif.layers import draw_case
from lutcore.verif.mutate_bench import Jobs
from lutcore.verif.mutate_jobs import Job, altered_job

__all__ = ["to_the_limit", "without_bias"]


def to_the_limit(config: CoreConfig) -> Iterator[tuple[str, list[int]]]:
    """Loads that just fit, and that are one too many; as many results are not to be had."""
    loops = {
        unit: functools.partial(encode, Opcode.LOOP, unit=unit, auto=1, stride=0) for unit in Unit
    }
    layer = {
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
    tokens = [encode(Opcode.TOKEN, counter=Token[f"{name}_FREE"], count=1) for name in "WSXB"]
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
    source, numbers, config = jobs.random("no bias"), jobs.numbers("no bias"), jobs.config
    case = draw_case(source, numbers, config, kind=("affine", 1), shape=(config.lanes, 8, 8))
    bias = np.ones(config.lanes, np.float32)
    case = dataclasses.replace(case, layer=dataclasses.replace(case.layer, bias=bias))
    program = compile_layer(case.layer, config, case.rows)
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
    x = program.pack_x(case.q, case.scale)
    # A program of its own, with room for all of its instructions before the weights.
    waiting = dataclasses.replace(program, instructions=tuple(words))
    return altered_job(waiting, x, source, "no bias")
