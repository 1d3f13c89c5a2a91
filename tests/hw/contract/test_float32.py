"""The reference of the finaliser against exact rationals and against the host's float32 unit."""

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.float32 import (
    EXPONENT_MAX,
    EXPONENT_MIN,
    NO_BIAS,
    finalise,
    finalise_words,
    row_scale_decode,
    row_scale_encode,
)

ONE = int(row_scale_encode(np.float32(1)))
INFINITY = 0x7F80_0000
SIGN = 0x8000_0000


def power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


def round_bits(x: Fraction, zero_sign: int = 0) -> int:
    """Bits of RN32(x), straight from the definition: the nearest multiple of the spacing."""
    if x == 0:
        return zero_sign
    sign = SIGN if x < 0 else 0
    exponent = abs(x).numerator.bit_length() - abs(x).denominator.bit_length()
    exponent -= abs(x) < power(exponent)
    spacing = power(max(exponent, -126) - 23)
    units = round(abs(x) / spacing)  # ties to even, exactly
    if units * spacing >= power(128):
        return sign | INFINITY
    if units < 1 << 23:
        return sign | units
    carried = units == 1 << 24
    return sign | (max(exponent, -126) + carried + 127) << 23 | (0 if carried else units & 0x7FFFFF)


def value(bits: int) -> Fraction:
    """Value of a float32; all-ones exponent bits count as an ordinary exponent."""
    field = bits >> 23 & 255
    magnitude = Fraction(bits & 0x7FFFFF | (field > 0) << 23) * power(max(field, 1) - 150)
    return -magnitude if bits & SIGN else magnitude


def row_value(code: int) -> Fraction:
    return Fraction((code & 0x7FFFFF) + 0x800000, 0x800000) * power((code >> 23) - 149)


def expected(total: int, exponent: int, row: int, bias: int | None) -> int:
    bits = round_bits(total * power(exponent))
    if bits & ~SIGN == INFINITY:
        return bits
    bits = round_bits(value(bits) * row_value(row), bits & SIGN)
    if bits & ~SIGN == INFINITY or bias is None:
        return bits
    both_negative = bits & bias & SIGN
    return round_bits(value(bits) + value(bias), both_negative)


def float32(bits: np.ndarray) -> np.ndarray:
    return np.asarray(bits, dtype=np.uint32).view(np.float32)


bits32 = st.integers(0, 0xFFFF_FFFF)
exponents = st.integers(EXPONENT_MIN, EXPONENT_MAX)
sums = st.integers(0, 126).flatmap(lambda width: st.integers(-(1 << width), 1 << width))
rows = bits32 | st.integers(0, 276 << 23 | 0x7FFFFF)


@settings(max_examples=1000, print_blob=True, deadline=None)
@given(sums, exponents, rows, st.none() | bits32)
def test_against_rationals(total, exponent, row, bias):
    result = int(finalise(total, exponent, row, bias))
    assert result == expected(total, exponent, row, bias)


@settings(max_examples=500, print_blob=True, deadline=None)
@given(sums, exponents, rows, st.integers(-4, 4), st.sampled_from([0, 10, 22, 23]))
def test_against_rationals_near_cancellation(total, exponent, row, units, place):
    bias = ((int(finalise(total, exponent, row)) ^ SIGN) + (units << place)) & 0xFFFF_FFFF
    result = int(finalise(total, exponent, row, bias))
    assert result == expected(total, exponent, row, bias)


@settings(max_examples=500, print_blob=True, deadline=None)
@given(
    st.integers(0, 0xFFFFFF),
    st.sampled_from([-1, 1]),
    st.integers(0, 100),
    st.integers(-1, 1),
    st.integers(-20, 0),
)
def test_against_rationals_near_ties(significand, sign, place, off, exponent):
    total = sign * (((2 * significand + 1) << place) + off)
    result = int(finalise(total, exponent, ONE))
    assert result == expected(total, exponent, ONE, None)


def test_against_numpy():
    seed = np.random.SeedSequence().entropy
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    count = 100_000
    total = rng.integers(-(2**53), 2**53, count) >> rng.integers(0, 54, count)
    exponent = rng.integers(-149, 128, count)
    row = float32(rng.integers(1, INFINITY, count))
    bias = float32(rng.integers(0, INFINITY, count) | rng.integers(0, 2, count) << 31)
    with np.errstate(all="ignore"):
        scaled = np.ldexp(total.astype(np.float64), exponent).astype(np.float32) * row
        # The product is close to the bias far too rarely: replace half of the biases.
        factor = np.where(scaled == 0, 1, rng.choice([-1, -0.75, -1e-7, 3e6], count))
        near = (scaled * factor).astype(np.float32)
        bias = np.where(np.isfinite(near) & (rng.random(count) < 0.5), near, bias)
        biased = scaled + bias
    code = row_scale_encode(row)
    np.testing.assert_array_equal(finalise(total, exponent, code), scaled.view(np.uint32))
    np.testing.assert_array_equal(
        finalise(total, exponent, code, bias.view(np.uint32)), biased.view(np.uint32)
    )


@pytest.mark.parametrize(
    ("total", "exponent", "row", "bias", "bits"),
    [
        (0, 127, 0xFFFF_FFFF, None, 0),
        (0, 0, ONE, SIGN, 0),
        (1, -149, ONE, None, 1),
        (-1, 127, ONE, None, 0xFF00_0000),
        # Ties go to even: 2^24 + 1 down, 2^24 + 3 up, and a bit far below decides.
        ((1 << 24) + 1, 0, ONE, None, 0x4B80_0000),
        ((1 << 24) + 3, 0, ONE, None, 0x4B80_0002),
        (((1 << 24) + 1 << 80) + 1, 0, ONE, None, 0x7380_0001),
        # The largest number, the tie above it, and just less than the tie.
        ((1 << 24) - 1, 104, ONE, None, 0x7F7F_FFFF),
        ((1 << 25) - 1, 103, ONE, None, INFINITY),
        (((1 << 25) - 1 << 40) - 1, 63, ONE, None, 0x7F7F_FFFF),
        # Infinity from the first rounding survives a tiny scale, and any bias.
        (-1 << 100, 28, 0, 0x7F7F_FFFF, 0xFF80_0000),
        (-1 << 100, 28, 0, 0x7F80_0000, 0xFF80_0000),
        # Products: half of the least subnormal goes to zero of the same sign, more does not.
        (-1, -149, 148 << 23, None, SIGN),
        (-1, -149, 148 << 23 | 1, None, SIGN | 1),
        (3, -149, 148 << 23, None, 2),
        # -0 + 0 is +0, -0 + -0 is -0, and equal numbers cancel to +0.
        (-1, -149, 0, 0, 0),
        (-1, -149, 0, SIGN, SIGN),
        (-5, 0, ONE, 0x40A0_0000, 0),
        # Rounded three times: 2^24 + 1 is lost at once and a bias of 1 does not bring it back.
        ((1 << 24) + 1, 0, ONE, 0x3F80_0000, 0x4B80_0000),
        # Exponent bits all set are an ordinary exponent.
        (-((1 << 24) - 1), 104, ONE, 0x7F80_0000, 0x7380_0000),
        # The extremes of 128 bits.
        (-(1 << 127), -127, ONE, None, 0xBF80_0000),
        ((1 << 127) - 1, -127, ONE, None, 0x3F80_0000),
    ],
)
def test_defined_values(total, exponent, row, bias, bits):
    assert int(finalise(total, exponent, row, bias)) == bits
    assert expected(total, exponent, row, bias) == bits


def test_no_bias_changes_nothing():
    total = np.array([-1, 0, 1, -7, 3])
    row = np.array([0, 0, 0, ONE, ONE])
    np.testing.assert_array_equal(
        finalise(total, -149, row, NO_BIAS), finalise(total, -149, row, None)
    )


def test_forms_of_the_sum_agree():
    totals = [0, 1, -1, 12345, -(1 << 63), (1 << 63) - 1]
    words = np.array(totals, dtype=np.int64)
    from_list = finalise(totals, 0, ONE)
    np.testing.assert_array_equal(from_list, finalise(words, 0, ONE))
    np.testing.assert_array_equal(
        from_list, finalise_words(words >> 63, words.view(np.uint64), 0, ONE)
    )
    assert finalise(np.array([1 << 63], dtype=np.uint64), 0, ONE) == finalise([1 << 63], 0, ONE)
    assert finalise(np.array([-128], dtype=np.int8), 0, ONE) == finalise([-128], 0, ONE)
    assert (
        finalise(np.int64(-5), 0, ONE) == finalise([np.int64(-5)], 0, ONE) == finalise(-5, 0, ONE)
    )


def test_shapes_broadcast():
    total = np.arange(6).reshape(2, 3)
    result = finalise(total, 0, np.full((2, 1), ONE), np.full(3, NO_BIAS))
    assert result.shape == (2, 3) and result.dtype == np.uint32
    np.testing.assert_array_equal(result.view(np.float32), total)
    assert finalise(1, 0, ONE).shape == ()


def test_fast():
    """One layer's results must not hold up the instruction-set simulator."""
    rng = np.random.default_rng(1)
    high = rng.integers(-(1 << 20), 1 << 20, 100_000)
    low = rng.integers(0, 1 << 64, 100_000, dtype=np.uint64)
    start = time.process_time()
    finalise_words(high, low, -80, ONE, 0x3F80_0000)
    assert time.process_time() - start < 0.3


@settings(print_blob=True)
@given(st.integers(1, INFINITY - 1))
def test_row_scale(bits):
    scale = float32(np.array([bits]))
    code = row_scale_encode(scale)
    assert row_value(int(code[0])) == value(bits)
    np.testing.assert_array_equal(row_scale_decode(code), scale)


def test_row_scale_extremes():
    scale = float32(np.array([1, 0x007F_FFFF, 0x0080_0000, 0x3F80_0000, 0x7F7F_FFFF]))
    code = row_scale_encode(scale)
    assert [int(c) >> 23 for c in code] == [0, 22, 23, 149, 276]
    np.testing.assert_array_equal(row_scale_decode(code), scale)


@pytest.mark.parametrize("scale", [0.0, -0.0, -1.0, np.inf, -np.inf, np.nan])
def test_row_scale_refused(scale):
    with pytest.raises(ValueError, match="Row scales must be positive and finite, not"):
        row_scale_encode(np.array([1, scale], dtype=np.float32))


def test_row_scale_of_another_type():
    with pytest.raises(TypeError, match="Row scales must be float32, not float64; round them"):
        row_scale_encode(np.array([1.0]))


@pytest.mark.parametrize("code", [277 << 23, 0xFFFF_FFFF, 1, 22 << 23 | 1])
def test_row_scale_without_float32(code):
    with pytest.raises(ValueError, match=f"Row-scale code {code:#010x} is not that of a float32"):
        row_scale_decode(code)


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (TypeError, (1.5, 0, ONE), "Sums must be integers: 'float' object"),
        (TypeError, (np.array([1.5]), 0, ONE), "Sums must be integers, not float64"),
        (ValueError, (1 << 127, 0, ONE), "does not fit a signed integer of 128 bits"),
        (TypeError, (1, 0.0, ONE), "Exponents must be integers, not float64"),
        (ValueError, (1, -150, ONE), "Exponents must be from -149 to 127, not -150"),
        (ValueError, (1, 128, ONE), "Exponents must be from -149 to 127, not 128"),
        (TypeError, (1, 0, 1.0), "Row scales must be given as 32-bit integers, not float64"),
        (ValueError, (1, 0, 1 << 32), "Row scales must fit 32 bits, not 4294967296"),
        (TypeError, (1, 0, ONE, np.float32(1)), "Biases must be given as 32-bit integers"),
        (ValueError, (1, 0, ONE, -1), "Biases must fit 32 bits, not -1"),
    ],
)
def test_refused(error, arguments, message):
    with pytest.raises(error, match=message):
        finalise(*arguments)
