"""Constrained-random layers with activations: small, of every kind, extremes among them."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.sw.layers.layer import TERNARY_BITS, Kind, QuantLayer

__all__ = ["SCALES", "Case", "draw_case", "draw_layer", "kinds_of"]

#: Kinds of scales; see `_scales`.
SCALES = ("float16", "narrow", "float32", "subnormal", "largest", "tiny", "huge")
_TRAITS = {"subnormal": "subnormal scales", "largest": "largest scales"}


@dataclass(frozen=True)
class Case:
    """A layer and activations for it.

    Attributes
    ----------
    layer
        The weights.
    q, scale
        int8 or int16 [rows, K], and float32 [rows].
    traits
        Bins of the coverage point "extremes" that were drawn on purpose.
    """

    layer: QuantLayer
    q: np.ndarray
    scale: np.ndarray
    traits: frozenset[str]

    @property
    def rows(self) -> int:
        """Rows of activations."""
        return len(self.q)


def draw_case(
    source: random.Random, numbers: np.random.Generator, config: CoreConfig, **wanted: Any
) -> Case:
    """A layer that a core computes, and activations.

    Parameters
    ----------
    source, numbers
        Random numbers: for choices, and for arrays.
    config
        The core.
    wanted
        As in :func:`draw_layer`.
    """
    layer, traits = draw_layer(source, numbers, config, **wanted)
    rows = source.choice([1, config.rows, config.rows + 1, source.randint(1, 3 * config.rows)])
    limits = np.iinfo(config.activation)
    ends = {"lowest": [limits.min], "highest": [limits.max], "either": [limits.min, limits.max]}
    choice = source.choice(["random", "random", *ends])
    if choice == "random":
        q = numbers.integers(limits.min, limits.max, (rows, layer.k), endpoint=True)
    else:
        q = numbers.choice(np.array(ends[choice]), (rows, layer.k))
        traits |= {f"{choice} / activations"} - {"either / activations"}
    low, high = source.choice([(-20, 5), (-20, 5), (-148, -120), (110, 127)])
    scale = np.ldexp(1 + numbers.random(rows), numbers.integers(low, high, rows))
    return Case(layer, q.astype(config.activation), scale.astype(np.float32), frozenset(traits))


def kinds_of(config: CoreConfig) -> list[tuple[Kind, int]]:
    """Every kind and number of bits that a core computes."""
    counts = range(1, config.planes + 1)
    found: list[tuple[Kind, int]] = [("affine", bits) for bits in counts]
    found.extend(("planes", bits) for bits in counts)
    if config.ternary or config.planes >= TERNARY_BITS:
        found.append(("ternary", TERNARY_BITS))
    return found


def draw_layer(
    source: random.Random,
    numbers: np.random.Generator,
    config: CoreConfig,
    *,
    kind: tuple[Kind, int] | None = None,
    form: str | None = None,
    offsets: bool | None = None,
    shape: tuple[int, int, int] | None = None,
    longest: int = 0,
) -> tuple[QuantLayer, set[str]]:
    """A layer of at most three tiles and a few steps, and its traits.

    Parameters
    ----------
    source, numbers, config
        As in :func:`draw_case`.
    kind
        Kind and bits.
    form
        One of `SCALES`.
    offsets
        Whether there are any.
    shape
        Channels, columns, columns per group.
    longest
        Columns that a layer without a given shape may have, where that is more than three steps.
    """
    if kind is None:
        possible = kinds_of(config)
        name = source.choice(sorted({name for name, _ in possible}))
        kind = source.choice([one for one in possible if one[0] == name])
    if form is None:
        form = source.choice(["float16", "float16", *SCALES])
    if offsets is None:
        offsets = source.random() < 0.5
    n, k, group_size = shape or _shape(source, config, longest)
    codes, traits = _codes(source, numbers, *kind, n, k)
    groups = ceil_div(k, group_size)
    size = (n, groups, kind[1]) if kind[0] == "planes" else (n, groups)
    scales = _scales(source, numbers, form, size, halves=kind[0] == "ternary")
    if form in _TRAITS:
        traits.add(_TRAITS[form])
    bias = numbers.standard_normal(n).astype(np.float32) if source.random() < 0.5 else None
    layer = QuantLayer(
        name="random",
        kind=kind[0],
        bits=kind[1],
        codes=codes,
        group_size=group_size,
        scales=scales,
        offsets=numbers.permutation(scales.reshape(n, groups, -1)[:, :, 0]) if offsets else None,
        bias=bias,
        checkpoint_bytes=ceil_div(n * k * kind[1], 8) + scales.nbytes,
    )
    return layer, traits


def _shape(source: random.Random, config: CoreConfig, longest: int) -> tuple[int, int, int]:
    """Channels, columns and group size, ends of ranges and multiples more often than not."""
    lanes, step = config.lanes, config.step
    n = source.choice(
        [lanes, 2 * lanes, source.randint(1, lanes - 1), source.randint(1, 3 * lanes)]
    )
    longest = max(3 * step, 40, longest)
    k = source.choice([step, 2 * step, source.randint(1, longest), source.randint(1, longest)])
    sizes = [k, step, 2 * step, max(1, step - 1), step + 1, source.choice([1, 8, 16, 32, 64])]
    group_size = min(k, config.run if source.random() < 0.1 else source.choice(sizes))
    return n, k, group_size


def _codes(
    source: random.Random,
    numbers: np.random.Generator,
    kind: Kind,
    bits: int,
    n: int,
    k: int,
) -> tuple[np.ndarray, set[str]]:
    choice = source.choice(["random", "random", "random", "lowest", "highest"])
    traits = {f"{choice} / codes"} - {"random / codes"}
    if kind == "affine":
        low, high = {
            "random": (0, 2**bits),
            "lowest": (0, 1),
            "highest": (2**bits - 1, 2**bits),
        }[choice]
        return numbers.integers(low, high, (n, k)).astype(np.uint8), traits
    values = {"random": [-1, 1], "lowest": [-1], "highest": [1]}[choice]
    if kind == "ternary" and choice == "random":
        values.append(0)
    shape = (bits, n, k) if kind == "planes" else (n, k)
    return numbers.choice(np.array(values, np.int8), shape), traits


def _scales(
    source: random.Random,
    numbers: np.random.Generator,
    form: str,
    shape: tuple[int, ...],
    *,
    halves: bool,
) -> np.ndarray:
    """Scales of a form; with `halves`, half of each is one too, with room to spare.

    float16: ordinary ones. narrow: those as float32. float32: 40 bits, of which 24 are
    significant, the widest there is. subnormal: next to the least float32. largest: ends of the
    range of float16. tiny, huge: near the ends of the range of float32.
    """
    least = 1 + halves
    if form == "subnormal":
        return (numbers.integers(-3, 4, shape) * np.float32(least * 2.0**-149)).astype(np.float32)
    if form == "largest":
        ends = np.array([65504, -65504, least * 2.0**-24, -0.0], np.float16)
        return numbers.choice(ends, shape)
    if form in ("float16", "narrow"):
        scales = numbers.standard_normal(shape).astype(np.float16)
        return scales.astype(np.float32) if form == "narrow" else scales
    exponents = numbers.integers(0, 17 - halves, shape)
    integers = numbers.integers(-(2**23), 2**23, shape) * 2 + 1
    base = {"float32": source.randint(-40, 10), "tiny": -148, "huge": 127 - 41}[form]
    if halves and form == "tiny":
        base += 1
    return np.ldexp(integers.astype(np.float32), exponents + base).astype(np.float32)
