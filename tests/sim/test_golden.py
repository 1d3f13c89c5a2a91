"""The golden model against rational arithmetic and an independent rounding."""

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lutcore.sim.golden import golden, reference, round_to_float32, scale_range
from lutcore.sw.base.errors import ActivationError, LayerError
from lutcore.sw.layers.layer import QuantLayer

TOP = Fraction(2) ** 128
"""What infinity counts as when a result is rounded to the nearest float32."""


def nearest_float32(value: Fraction) -> np.float32:
    """Round by comparing distances to neighbouring float32 numbers, ties to the even one."""
    with np.errstate(over="ignore", under="ignore"):
        try:
            near = np.float32(float(value))
        except OverflowError:
            near = np.float32(np.inf if value > 0 else -np.inf)
        around = [
            near,
            np.nextafter(near, np.float32(-np.inf)),
            np.nextafter(near, np.float32(np.inf)),
        ]

    def as_fraction(x: np.float32) -> Fraction:
        return Fraction(float(x)) if np.isfinite(x) else (TOP if x > 0 else -TOP)

    best = min(around, key=lambda x: (abs(as_fraction(x) - value), int(x.view(np.uint32)) & 1))
    if best == 0:
        return np.float32(-0.0 if value < 0 else 0.0)
    return np.float32(best)


def float32_product(x: np.float32, y: np.float32) -> np.float32:
    if np.isinf(x):
        return x
    product = nearest_float32(Fraction(float(x)) * Fraction(float(y)))
    return np.copysign(product, x) if product == 0 else product


def float32_sum(x: np.float32, y: np.float32) -> np.float32:
    if np.isinf(x):
        return x
    total = Fraction(float(x)) + Fraction(float(y))
    if total == 0:
        return np.float32(-0.0 if np.signbit(x) and np.signbit(y) else 0.0)
    return nearest_float32(total)


def brute_force(layer: QuantLayer, q: np.ndarray, row_scale: np.ndarray) -> np.ndarray:
    y = np.empty((len(q), layer.n), np.float32)
    for row in range(len(q)):
        for n in range(layer.n):
            total = Fraction(0)
            for k in range(layer.k):
                g = k // layer.group_size
                if layer.kind == "affine":
                    scale = Fraction(float(layer.scales[n, g]))
                    weight = int(layer.codes[n, k]) * scale
                    if layer.offsets is None:
                        weight -= scale * 2 ** (layer.bits - 1)
                elif layer.kind == "ternary":
                    weight = int(layer.codes[n, k]) * Fraction(float(layer.scales[n, g]))
                else:
                    weight = sum(
                        Fraction(float(layer.scales[n, g, p])) * int(layer.codes[p, n, k])
                        for p in range(layer.bits)
                    )
                if layer.offsets is not None:
                    weight += Fraction(float(layer.offsets[n, g]))
                total += weight * int(q[row, k])
            value = float32_product(nearest_float32(total), row_scale[row])
            y[row, n] = value if layer.bias is None else float32_sum(value, layer.bias[n])
    return y


def same_bits(x: np.ndarray, y: np.ndarray) -> bool:
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


def finite(dtype, shape, magnitude=None):
    width = 16 if dtype == np.float16 else 32
    bounds = {} if magnitude is None else {"min_value": -magnitude, "max_value": magnitude}
    elements = st.floats(width=width, allow_nan=False, allow_infinity=False, **bounds)
    return hnp.arrays(dtype, shape, elements=elements)


@st.composite
def problems(draw):
    kind = draw(st.sampled_from(["affine", "planes", "ternary"]))
    bits = 2 if kind == "ternary" else draw(st.integers(1, 8))
    n, k, rows = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    group_size = draw(st.integers(1, k))
    groups = -(-k // group_size)
    if kind == "affine":
        codes = draw(hnp.arrays(np.uint8, (n, k), elements=st.integers(0, 2**bits - 1)))
        scale_shape = (n, groups)
    elif kind == "ternary":
        codes = draw(hnp.arrays(np.int8, (n, k), elements=st.sampled_from([-1, 0, 1])))
        scale_shape = (n, groups)
    else:
        codes = draw(hnp.arrays(np.int8, (bits, n, k), elements=st.sampled_from([-1, 1])))
        scale_shape = (n, groups, bits)
    if draw(st.booleans()):
        scales = draw(finite(np.float16, scale_shape))
        offsets = draw(st.none() | finite(np.float16, (n, groups)))
    else:
        # Float32 with 12 bits over a shared power of two, anywhere in its range.
        power = draw(st.integers(-149, 104))

        def shifted(shape):
            integers = draw(hnp.arrays(np.int64, shape, elements=st.integers(-4095, 4095)))
            return np.ldexp(integers.astype(np.float64), power).astype(np.float32)

        scales = shifted(scale_shape)
        offsets = shifted((n, groups)) if draw(st.booleans()) else None
    bias = draw(st.none() | finite(np.float32, (n,)))
    dtype = draw(st.sampled_from([np.int8, np.int16]))
    q = draw(hnp.arrays(dtype, (rows, k)))
    row_scale = draw(
        hnp.arrays(
            np.float32,
            (rows,),
            elements=st.floats(2.0**-149, 2.0**127, width=32) | st.just(1.0),
        )
    )
    layer = QuantLayer("drawn", kind, bits, codes, group_size, scales, offsets, bias, 1)
    return layer, q, row_scale


@settings(max_examples=300, deadline=None, print_blob=True)
@given(problems())
def test_golden_equals_rational_arithmetic(problem):
    assert same_bits(golden(*problem), brute_force(*problem))


@settings(max_examples=500, print_blob=True)
@given(st.integers(-(2**90), 2**90), st.integers(-200, 130))
@example(1, -150)  # half of the smallest subnormal: the tie goes to zero
@example(-1, -150)  # and a negative one to -0
@example(3, -150)  # one and a half: to even
@example(2**24 + 1, 0)  # tie to even, down
@example(2**24 + 3, 0)  # tie to even, up
@example(2**25 - 1, 103)  # rounds up past the largest number
@example(2**24 - 1, 104)  # the largest number
@example(2**25 - 1, 0)  # carries into the next power of two
@example((2**24 + 1) * 2**60 + 1, -60)  # sticky bit far below a tie
@example(2**30 + 1, -180)  # just above that tie: 24 bits first would lose it
@example(0, 5)
def test_rounding(value, exponent):
    ours = np.array([round_to_float32(value, exponent)])
    theirs = np.array([nearest_float32(value * Fraction(2) ** exponent)])
    # Widened, so that a result with more than float32's bits is seen.
    assert same_bits(ours, theirs.astype(np.float64))


def small_layer(**changes) -> QuantLayer:
    fields = {
        "name": "small",
        "kind": "affine",
        "bits": 4,
        "codes": np.array([[0, 15, 7, 8]], np.uint8),
        "group_size": 4,
        "scales": np.array([[0.5]], np.float16),
        "offsets": None,
        "bias": None,
        "checkpoint_bytes": 4,
    }
    return QuantLayer(**(fields | changes))


ONE = np.ones(1, np.float32)


def test_by_hand():
    # Weights are (-8, 7, -1, 0) / 2.
    q = np.array([[1, 2, 3, 4]], np.int8)
    assert golden(small_layer(), q, ONE).tolist() == [[1.5]]
    offsets = np.array([[-1.0]], np.float16)
    assert golden(small_layer(offsets=offsets), q, ONE).tolist() == [[41.5 - 10]]


def test_rounds_before_the_row_scale_and_before_the_bias():
    # 2**24 + 1 is a tie that goes down; with one rounding at the end the 1 would survive.
    layer = small_layer(
        kind="planes",
        bits=1,
        codes=np.ones((1, 1, 2), np.int8),
        group_size=1,
        scales=np.array([[[2.0**24], [1.0]]], np.float32),
        bias=np.array([-(2.0**24)], np.float32),
    )
    assert golden(layer, np.ones((1, 2), np.int8), ONE).tolist() == [[0.0]]


def test_without_bias_minus_zero_survives_and_plus_zero_bias_clears_it():
    fields = {"scales": np.array([[2.0**-149]], np.float32)}
    q, half = np.array([[1, 0, 0, 0]], np.int8), np.array([2.0**-20], np.float32)
    assert np.signbit(golden(small_layer(**fields), q, half)[0, 0])
    with_bias = small_layer(**fields, bias=np.zeros(1, np.float32))
    assert not np.signbit(golden(with_bias, q, half)[0, 0])


def test_overflow_is_infinite():
    layer = small_layer(scales=np.array([[3e38]], np.float32))
    assert golden(layer, np.array([[-128, 0, 0, 0]], np.int8), ONE).tolist() == [[np.inf]]
    assert golden(layer, np.array([[127, 0, 0, 0]], np.int8), ONE).tolist() == [[-np.inf]]


@pytest.mark.parametrize(
    ("scales", "offsets", "expected"),
    [
        ([[0.0]], None, (0, 0)),
        ([[1.0]], None, (0, 1)),
        ([[-0.75]], None, (-2, 2)),
        ([[0.5]], [[6.0]], (-1, 4)),
        ([[2.0**-149]], None, (-149, 1)),
    ],
)
def test_scale_range(scales, offsets, expected):
    offsets = None if offsets is None else np.array(offsets, np.float32)
    assert (
        scale_range(small_layer(scales=np.array(scales, np.float32), offsets=offsets)) == expected
    )


def test_float16_always_fits():
    extremes = np.array([[2.0**-24]], np.float16), np.array([[65504.0]], np.float16)
    assert scale_range(small_layer(scales=extremes[0], offsets=extremes[1])) == (-24, 40)


def test_too_wide_a_range_is_refused():
    q = np.zeros((1, 4), np.int8)
    scales, offsets = np.array([[1.0]], np.float32), np.array([[2.0**39]], np.float32)
    golden(small_layer(scales=scales, offsets=offsets), q, ONE)
    with pytest.raises(LayerError, match=r"'small': .* from 2\*\*0 to 2\*\*41, 41 bits, .*float16"):
        golden(small_layer(scales=scales, offsets=offsets * 2), q, ONE)


@pytest.mark.parametrize(
    ("q", "row_scale", "text"),
    [
        (np.zeros((1, 4), np.int32), ONE, "int8 or int16"),
        (np.zeros((1, 5), np.int8), ONE, r"\[rows, 4\]"),
        (np.zeros((2, 4), np.int8), ONE, r"float32 \[2\]"),
        (np.zeros((1, 4), np.int8), np.zeros(1, np.float32), "positive and finite"),
        (np.zeros((1, 4), np.int8), np.full(1, np.inf, np.float32), "positive and finite"),
    ],
)
def test_wrong_activations_are_refused(q, row_scale, text):
    with pytest.raises(ActivationError, match=text):
        golden(small_layer(), q, row_scale)


def test_a_real_shape_is_quick_and_near_float64():
    rng = np.random.default_rng(1)
    layer = QuantLayer(
        "ffn_up",
        "affine",
        4,
        rng.integers(0, 16, (1536, 576), dtype=np.uint8),
        32,
        rng.normal(size=(1536, 18)).astype(np.float16),
        rng.normal(size=(1536, 18)).astype(np.float16),
        rng.normal(size=1536).astype(np.float32),
        1,
    )
    q = rng.integers(-128, 128, (16, 576)).astype(np.int8)
    row_scale = rng.uniform(0.01, 1, 16).astype(np.float32)
    began = time.process_time()
    y = golden(layer, q, row_scale)
    assert time.process_time() - began < 2
    expected = reference(layer, q, row_scale)
    assert np.abs(y - expected).max() < 1e-6 * np.abs(expected).max()
