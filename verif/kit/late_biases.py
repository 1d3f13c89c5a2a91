"""A layer of one block whose biases come when all else is there: FINAL waits for each of them."""

import random
from dataclasses import replace

import numpy as np

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import Opcode, Unit, decode, encode
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.program import Program
from lutcore.verif.kit.layers import Case, draw_case

__all__ = ["biased_block", "with_late_biases"]


def biased_block(
    source: random.Random,
    numbers: np.random.Generator,
    config: CoreConfig,
    tiles: int,
    columns: int = 8,
) -> tuple[Case, Program]:
    """A layer of one block and one row tile, with biases, and its program.

    Parameters
    ----------
    source, numbers, config
        As in :func:`lutcore.verif.kit.layers.draw_case`.
    tiles
        Of the block, or a half of them, or a fourth, as the compiler sees fit.
    columns
        Of the block, or fewer if a slot has not even room for a tile of so many.
    """
    channels = tiles * config.lanes
    case = draw_case(
        source, numbers, config, kind=("affine", 1), shape=(channels, columns, columns)
    )
    bias = numbers.standard_normal(channels).astype(np.float32)
    # Sums of the size of the biases, so that these count.
    ones = np.ones_like(case.layer.scales)
    layer = replace(case.layer, bias=bias, offsets=None, scales=ones)
    # More row tiles need more slots of sums than there are while FINAL waits for biases.
    q, scale = case.q[: config.rows], np.full_like(case.scale, 0.01)[: config.rows]
    program = compile_layer(layer, config, len(q))
    loops = [fields for word in program.instructions for _, fields in [decode(word)]]
    if any(loop.get("unit") == Unit.LDW and loop["total"] > loop["step"] for loop in loops):
        smaller = (tiles // 2, columns) if tiles > 1 else (tiles, columns // 2)
        return biased_block(source, numbers, config, *smaller)
    return Case(layer, q, scale, frozenset()), program


def with_late_biases(program: Program) -> Program:
    """The program of a biased block, whose results stay the same.

    The block is loaded twice: without its biases, for which LAYER says that there are none, and
    whole, last of all. As a single slot of each buffer is free, the codes come a second time when
    those that were there have been read.
    """
    form = program.tiling.format
    load: list[int] = []
    words: list[int] = []
    for word in program.instructions:
        instruction, fields = decode(word)
        if instruction.opcode == Opcode.TOKEN:
            words.append(encode(Opcode.TOKEN, **fields | {"count": 1}))
        elif instruction.opcode == Opcode.LAYER:
            with_bias = word
            words.append(encode(Opcode.LAYER, **fields | {"bias": 0}))
        elif instruction.opcode == Opcode.LOOP and fields["unit"] == Unit.LDW:
            load.append(word)
            words.append(word)
        elif instruction.opcode == Opcode.LDW:
            load.append(word)
            # Behind the biases; and LAYER waits for it.
            behind = fields["base"] + form.padded(form.bias_bytes(program.tiling.tiles))
            words += [encode(Opcode.LDW, **fields | {"base": behind}), with_bias]
        elif instruction.opcode == Opcode.END:
            words += [*load, word]
        else:
            words.append(word)
    return replace(program, instructions=tuple(words))
