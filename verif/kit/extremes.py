"""Layers at the ends of all ranges, which fill accumulators and sums as far as they can be."""

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lutcore.hw.contract.config import SCALE_BITS, CoreConfig, ceil_div
from lutcore.sim.golden import golden
from lutcore.sw.layers.layer import Kind, QuantLayer
from lutcore.verif.kit.layers import Case, draw_case, kinds_of

__all__ = ["extreme_cases"]

#: The largest run to simulate in full; a longer one would take long.
_COLUMNS = 512
#: Significand of 24 bits times 2^16: the largest scale whose common power of two is 2^0.
_WIDEST = np.float32((2**24 - 1) * 2**16)
#: Bits of a float32's significand; a power of two for scales whose products are subnormal.
_SIGNIFICAND, _BELOW = 24, 60


def extreme_cases(
    source: random.Random, numbers: np.random.Generator, config: CoreConfig
) -> Iterator[Case]:
    """One layer for each kind and each end of the activations, and one for each end of float32."""
    for kind, bits in kinds_of(config):
        if kind != "ternary" and bits < config.planes:
            continue
        for end in ("lowest", "highest"):
            yield _case(source, numbers, config, kind, bits, end)
    # Too small for anything but a zero with a sign, or for all bits, and too large.
    for form, power in (("subnormal", -30), ("float16", -135), ("float16", 127)):
        yield _rounded(source, numbers, config, form, np.float32(2.0**power))
    # What is left of normal numbers, of subnormal ones, and of both.
    for power in (-5, -146, -131, -120):
        yield _cancelled(source, numbers, config, np.float32(2.0**power))
    yield from _ties(config)


def _rounded(
    source: random.Random,
    numbers: np.random.Generator,
    config: CoreConfig,
    form: str,
    row_scale: np.float32,
) -> Case:
    """A layer with results of both signs, of which rounding leaves little."""
    shape = (2 * config.lanes, config.step, config.step)
    case = draw_case(source, numbers, config, kind=("affine", 1), form=form, shape=shape)
    layer = replace(case.layer, bias=None)
    return replace(case, layer=layer, scale=np.full(case.rows, row_scale))


def _cancelled(
    source: random.Random, numbers: np.random.Generator, config: CoreConfig, row_scale: np.float32
) -> Case:
    """A layer whose biases take nearly all of the results away, or some last bits of them."""
    shape = (12 * config.lanes, config.step, config.step)
    case = draw_case(source, numbers, config, kind=("affine", 1), form="float16", shape=shape)
    layer = replace(case.layer, bias=None)
    scale = np.full(case.rows, row_scale)
    results = golden(layer, case.q, scale)[0]
    near = results.view(np.int32) + numbers.integers(-3, 4, layer.n, np.int32)
    near = near.view(np.float32)
    near = np.where(np.isfinite(near) & (results != 0), near, np.float32(1))
    # Half of them with an exponent of their own, on either side.
    places = numbers.integers(-30, 31, layer.n) * numbers.integers(0, 2, layer.n)
    signs = numbers.choice(np.array([-1, -1, -1, 1], np.float32), layer.n)
    with np.errstate(over="ignore", under="ignore"):
        bias = np.ldexp(near, places).astype(np.float32) * signs
    bias = np.where(np.isfinite(bias), bias, -near)
    return replace(case, layer=replace(layer, bias=bias), scale=scale)


def _ties(config: CoreConfig) -> Iterator[Case]:
    """Layers whose results lie a single bit above the middle of two floats: every bit counts once.

    Of the sums, whose significand is rounded first, and of products that become subnormal.
    """
    sums = [
        [2.0**top, 2.0 ** (top - _SIGNIFICAND), 2.0**bit if bit >= 0 else 0.0]
        for top in range(_SIGNIFICAND + 1, 40)
        for bit in range(-1, top - _SIGNIFICAND - 1)
    ]
    yield _exact(config, "ties of sums", np.array(sums, np.float32), np.float32(1))
    yield _large_ties(config)
    # In steps of the least subnormal number: m and a half, and a bit below.
    tiny = [
        [2.0**-_BELOW * (2.0 ** (p + 1) * (p > 0) + 1 + 2.0**-bit)]
        for p in range(15)
        for bit in range(1, _SIGNIFICAND - 1 - p)
    ]
    yield _exact(
        config, "subnormal ties", np.array(tiny, np.float32), np.float32(2.0 ** (_BELOW - 150))
    )


def _large_ties(config: CoreConfig) -> Case:
    """The same of sums larger than a scale: their top is that of several groups together."""
    group = 1 << min(config.run.bit_length() - 1, 5)
    value, tops = 64, 8  # each activation; groups of the top
    weight = (value * group * tops).bit_length() - 1
    places = [
        (top, bit)
        for top in range(40, min(config.sum_width - 2, weight + SCALE_BITS - 1))
        for bit in range(-1, top - _SIGNIFICAND - 1)
    ]
    # The scales of a layer are whole multiples of one power of two.
    scales = np.array(
        [
            [2.0 ** (top - weight)] * tops
            + [2.0 ** (top - _SIGNIFICAND), 2.0**bit if bit >= 0 else 0.0]
            for top, bit in places
        ],
        np.float32,
    )
    ones = np.zeros((2, group), np.int64)
    ones[:, 0] = 1
    row = np.concatenate([np.full(tops * group, value), ones.ravel()])
    return _exact(config, "ties of large sums", scales, np.float32(1), row)


def _exact(
    config: CoreConfig,
    name: str,
    scales: np.ndarray,
    row_scale: np.float32,
    row: np.ndarray | None = None,
) -> Case:
    """A layer whose results are, but for the row's scale, exact sums of each channel's scales.

    Each scale, one for a group, counts as often as the activations of its group add up to: once, if
    no row of them is given. The last row has the opposite signs.
    """
    n, groups = scales.shape
    row = np.ones(groups, np.int64) if row is None else row
    layer = QuantLayer(
        name=name,
        kind="planes",
        bits=1,
        codes=np.ones((1, n, len(row)), np.int8),
        group_size=len(row) // groups,
        scales=scales[:, :, None],
        offsets=None,
        bias=None,
        checkpoint_bytes=n,
    )
    q = np.tile(row, (config.rows, 1)).astype(config.activation)
    q[-1] = -q[-1]
    return Case(layer, q, np.full(config.rows, row_scale), frozenset())


def _case(
    source: random.Random,
    numbers: np.random.Generator,
    config: CoreConfig,
    kind: Kind,
    bits: int,
    end: str,
) -> Case:
    k = min(config.run, _COLUMNS)
    n, groups = config.lanes, 1
    codes_at = source.choice(["lowest", "highest"])
    if kind == "affine":
        codes = np.full((n, k), 0 if codes_at == "lowest" else 2**bits - 1, np.uint8)
    else:
        shape = (bits, n, k) if kind == "planes" else (n, k)
        codes = np.full(shape, -1 if codes_at == "lowest" else 1, np.int8)
    # The least scale keeps the common power of two where the widest one needs all its 40 bits.
    scales = np.full((n, groups, bits) if kind == "planes" else (n, groups), _WIDEST)
    scales[0] = 1
    scales[1::2] *= -1
    if kind == "ternary" and not config.ternary:
        # Such a core takes half of each scale.
        scales = (scales / 2).astype(np.float32)
        scales[0] = 1
    offsets = None
    if source.random() < 0.5:
        offsets = scales.reshape(n, groups, -1)[:, :, 0] * np.float32(-1)
    layer = QuantLayer(
        name=f"extreme {kind}",
        kind=kind,
        bits=bits,
        codes=codes,
        group_size=k,
        scales=scales.astype(np.float32),
        offsets=offsets,
        bias=None,
        checkpoint_bytes=ceil_div(n * k * bits, 8),
    )
    limits = np.iinfo(config.activation)
    value = limits.min if end == "lowest" else limits.max
    q = np.full((config.rows, k), value).astype(config.activation)
    # One row of mixed signs: ends of a table, one next to the other.
    q[-1] = numbers.choice(np.array([limits.min, limits.max]), k)
    if config.rows == 1:
        q = np.full((1, k), value).astype(config.activation)
    traits = frozenset({f"{end} / activations", f"{codes_at} / codes"})
    return Case(layer, q, np.ones(config.rows, np.float32), traits)
