"""Hypothesis strategies: configurations, layers and activations, extremes included."""

from collections.abc import Sequence
from typing import get_args

import numpy as np
from hypothesis import strategies as st

from lutcore.hw.contract.config import CoreConfig, ceil_div, ceil_pow2
from lutcore.hw.contract.ternary import INDEX_BITS
from lutcore.sw.layers.layer import TERNARY_BITS, Kind, QuantLayer

__all__ = ["activations", "configs", "layers"]


@st.composite
def configs(draw: st.DrawFn, depth_max: int = 32, ternary: bool | None = None) -> CoreConfig:
    """Small cores, with buffers from the least that is allowed upwards, deep ones among them.

    Parameters
    ----------
    draw
        Given by hypothesis.
    depth_max
        The largest depth.
    ternary
        Whether the cores have tables for ternary weights; None: some have.
    """
    if ternary is None:
        ternary = draw(st.sampled_from([False, False, True]))
    group = INDEX_BITS if ternary else draw(st.integers(2, 6))
    depth = draw(st.integers(1, min(5, depth_max)) | st.integers(1, depth_max))
    rows, lanes = draw(st.integers(1, 3)), 8 * draw(st.integers(1, 3))
    planes = draw(st.integers(1, 8))
    bus_width = draw(st.sampled_from([32, 64, 128, 512]))
    tiles = draw(st.integers(planes, planes + 3))
    run = draw(st.sampled_from([max(8, group * depth), 40, 512]))
    base = CoreConfig(
        rows=rows,
        lanes=lanes,
        group=group,
        depth=depth,
        activation=draw(st.sampled_from(["int8", "int16"])),
        planes=planes,
        table_form="symmetric" if ternary else draw(st.sampled_from(["symmetric", "full"])),
        ternary=ternary,
        bus_width=bus_width,
        tiles=tiles,
        run=max(run, group * depth),
    )
    least = {
        "weight_words": planes,
        "scale_words": 8 * planes * base.chunks,
        "x_words": base.x_header_words + group,
        "sum_words": base.chunks * rows,
    }
    values = base.as_dict()
    for name, words in least.items():
        values[name] = ceil_pow2(words) << draw(st.integers(0, 4))
    return CoreConfig.from_dict(values)


def _scales(
    draw: st.DrawFn, rng: np.random.Generator, shape: tuple[int, ...], *, halves: bool
) -> np.ndarray:
    """Scales; with `halves` there is room for half of each beside them."""
    kind = draw(st.sampled_from(["float16", "narrow", "float32", "subnormal", "extreme"]))
    least = 1 + halves
    if kind == "subnormal":
        return (rng.integers(-3, 4, shape) * np.float32(least * 2.0**-149)).astype(np.float32)
    if kind == "extreme":
        return rng.choice(np.array([65504, -65504, least * 2.0**-24, -0.0], np.float16), shape)
    values = rng.standard_normal(shape).astype(np.float32)
    if kind == "narrow":
        return values.astype(np.float16).astype(np.float32)
    if kind == "float16":
        return values.astype(np.float16)
    # 24 significant bits over 16 powers of two are the 40 bits that are exact.
    exponents = rng.integers(0, 17 - halves, shape)
    integers = rng.integers(-(2**23), 2**23, shape) * 2 + 1
    return np.ldexp(integers.astype(np.float32), exponents - 30).astype(np.float32)


@st.composite
def layers(
    draw: st.DrawFn, bits_max: int = 8, kinds: Sequence[Kind] = get_args(Kind)
) -> QuantLayer:
    """Layers from 1 x 1 up, scales and codes at their extremes included.

    Parameters
    ----------
    draw
        Given by hypothesis.
    bits_max
        The most bits or planes; where it is 1 there are no ternary layers, unless only those are
        asked for.
    kinds
        Kinds of layers.
    """
    n, k = draw(st.integers(1, 70)), draw(st.integers(1, 150))
    groups = [size for size in (1, 8, 16, 24, 32, 40, 64, 128) if size <= k]
    group_size = draw(st.sampled_from([k, *groups]))
    count = ceil_div(k, group_size)
    possible: list[Kind] = [one for one in kinds if one != "ternary" or bits_max >= TERNARY_BITS]
    kind = draw(st.sampled_from(possible or list(kinds)))
    bits = TERNARY_BITS if kind == "ternary" else draw(st.integers(1, bits_max))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    codes = draw(st.sampled_from(["random", "lowest", "highest"]))
    if kind == "affine":
        low, high = {"random": (0, 2**bits), "lowest": (0, 1), "highest": (2**bits - 1, 2**bits)}[
            codes
        ]
        values = rng.integers(low, high, (n, k)).astype(np.uint8)
    else:
        choices = {"random": [-1, 1], "lowest": [-1], "highest": [1]}[codes]
        if kind == "ternary" and codes == "random":
            choices.append(0)
        values = rng.choice(
            np.array(choices, np.int8), (bits, n, k) if kind == "planes" else (n, k)
        )
    shape = (n, count, bits) if kind == "planes" else (n, count)
    scales = _scales(draw, rng, shape, halves=kind == "ternary")
    offsets = None
    if draw(st.booleans()):
        offsets = rng.permutation(scales.reshape(n, count, -1)[:, :, 0])
    bias = rng.standard_normal(n).astype(np.float32) if draw(st.booleans()) else None
    stored = ceil_div(n * k * bits, 8) + scales.nbytes + (0 if offsets is None else offsets.nbytes)
    return QuantLayer(
        name="drawn",
        kind=kind,
        bits=bits,
        codes=values,
        group_size=group_size,
        scales=scales,
        offsets=offsets,
        bias=bias,
        checkpoint_bytes=stored,
    )


@st.composite
def activations(draw: st.DrawFn, config: CoreConfig, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and row scales for a few rows, extremes included."""
    rows = draw(st.integers(1, 4 * config.rows + 1))
    kind = np.dtype(config.activation)
    limits = np.iinfo(kind)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    choice = draw(st.sampled_from(["random", "lowest", "highest", "either"]))
    if choice == "random":
        q = rng.integers(limits.min, limits.max, (rows, k), endpoint=True)
    else:
        ends = {"lowest": [limits.min], "highest": [limits.max], "either": [*_ends(limits)]}
        q = rng.choice(np.array(ends[choice]), (rows, k))
    low, high = draw(st.sampled_from([(-30, 10), (-148, -120), (120, 127)]))
    scale = np.ldexp(1 + rng.random(rows), rng.integers(low, high, rows)).astype(np.float32)
    return q.astype(kind), scale


def _ends(limits: np.iinfo) -> tuple[int, int]:
    return int(limits.min), int(limits.max)
