"""Parts of programs that the scenarios write by hand, and data for them."""

import dataclasses
import functools
import random

import numpy as np

from lutcore.hw.contract.config import COLUMNS_MAX, CoreConfig
from lutcore.hw.contract.isa import Axis, Opcode, Token, Unit, encode
from lutcore.sw.program.compile import Program, compile_layer
from lutcore.verif.directed.scenario import Jobs
from lutcore.verif.kit.late_biases import biased_block
from lutcore.verif.kit.layers import draw_case

__all__ = [
    "LOOPS",
    "bare_layer",
    "biased_program",
    "free_slots",
    "places",
    "plain_data",
    "slot_columns",
    "whole",
]

#: Of each unit, a loop that goes on where the last iteration ended.
LOOPS = {unit: functools.partial(encode, Opcode.LOOP, unit=unit, auto=1, stride=0) for unit in Unit}


def whole(unit: Unit, total: int, *, axis: Axis) -> int:
    """A loop of a single iteration."""
    return encode(Opcode.LOOP, unit=unit, axis=axis, auto=0, total=total, step=total, stride=0)


def bare_layer(config: CoreConfig) -> dict[str, int]:
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


def free_slots(count: int = 1) -> list[int]:
    """Free slots of each buffer."""
    return [encode(Opcode.TOKEN, counter=Token[f"{name}_FREE"], count=count) for name in "WSXB"]


def plain_data(
    jobs: Jobs, name: str, source: random.Random, *, tiles: int = 2, rows: int = 1
) -> tuple[Program, bytes]:
    """A program with a lot of data, for others that take it as it comes."""
    config, numbers = jobs.config, jobs.numbers(name)
    columns = max(2000, config.weight_words * config.step, 2 * slot_columns(config))
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


def slot_columns(config: CoreConfig) -> int:
    """Columns whose activations are as long, in memory, as a slot; of one row tile."""
    return config.depth * places(config)


def places(config: CoreConfig) -> int:
    """Places of K for whose activations a slot has room."""
    return config.x_slot_words * config.x_items


def biased_program(
    jobs: Jobs, name: str, source: random.Random, tiles: int = 1
) -> tuple[Program, bytes]:
    """The program of a biased block, and its activations."""
    case, program = biased_block(source, jobs.numbers(name), jobs.config, tiles)
    return program, program.pack_x(case.q, case.scale)
