"""Float32 results of exact fixed-point sums, in integer arithmetic: the reference of the finaliser.

The result that a layer is defined to have is

    y = RN32( RN32( RN32(T * 2^E) * r ) + bias )

where T is an exact integer, r the row's scale, and RN32 rounds to the nearest float32, ties to
even, with subnormals and with overflow to infinity. Everything here is numpy on whole arrays and
uses integers only, so that no setting of the host's floating-point unit can change a bit.

**Row-scale format.** A row scale is positive and finite, and the hardware wants it normalised even
where the float32 is subnormal. Its 32-bit code holds the fraction f in bits 22..0 and a biased
exponent e in bits 31..23, and stands for (1 + f / 2^23) * 2^(e - 149). Every positive finite
float32 has exactly one such code, with e from 0 (2^-149) to 276. The other codes stand for numbers
that no float32 has; the arithmetic takes them at their value all the same.
"""

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "EXPONENT_MAX",
    "EXPONENT_MIN",
    "NO_BIAS",
    "ROW_SCALE_BIAS",
    "finalise",
    "finalise_words",
    "row_scale_decode",
    "row_scale_encode",
]

EXPONENT_MIN = -149
"""Least E: below it T * 2^E could need rounding to a subnormal, which the hardware leaves out."""

EXPONENT_MAX = 127
"""Greatest E: from 2^128 on even T = 1 would overflow."""

ROW_SCALE_BIAS = 149
"""What is added to the exponent of a row scale to make the exponent field of its code."""

NO_BIAS = 0x8000_0000
"""The bits of -0, the bias that changes nothing: x + (-0) is x, also where x is a zero."""

_INFINITY = 0x7F80_0000
_FRACTION = 0x007F_FFFF
_HIDDEN = 0x0080_0000
_SIGN = 0x8000_0000
_EXPONENT_BITS_MAX = 254
_LEAST_NORMAL = -126

_Words = NDArray[np.uint64]
_Ints = NDArray[np.int64]
_Bits = NDArray[np.uint32]


def row_scale_encode(scale: ArrayLike) -> _Bits:
    """Row-scale codes of float32 numbers.

    Parameters
    ----------
    scale : array_like of float32
        Positive and finite. Subnormals are allowed.

    Returns
    -------
    ndarray of uint32
        The codes, in the shape of `scale`.

    Raises
    ------
    TypeError
        If `scale` is not of type float32: rounding it is the caller's decision.
    ValueError
        If a scale is zero, negative, infinite or not a number.
    """
    scale = np.asarray(scale)
    if scale.dtype != np.float32:
        raise TypeError(f"Row scales must be float32, not {scale.dtype}; round them first")
    bits = scale.view(np.uint32)
    bad = (bits == 0) | (bits >= _INFINITY)
    if bad.any():
        raise ValueError(f"Row scales must be positive and finite, not {scale[bad].flat[0]}")
    significand, exponent = _unpack(bits)
    significand, exponent = _normalise(significand, exponent)
    field = (exponent + 63 + ROW_SCALE_BIAS).astype(np.uint32)
    fraction = (significand >> np.uint64(40)).astype(np.uint32) & np.uint32(_FRACTION)
    return (field << np.uint32(23)) | fraction


def row_scale_decode(code: ArrayLike) -> NDArray[np.float32]:
    """Float32 numbers of row-scale codes: the inverse of `row_scale_encode`.

    Parameters
    ----------
    code : array_like of uint32

    Returns
    -------
    ndarray of float32
        In the shape of `code`.

    Raises
    ------
    ValueError
        If a code stands for a number that is not a float32.
    """
    code = _bits(code, "Row-scale codes")
    significand, exponent = _row_scale_unpack(code)
    bits = _round_pack(significand, exponent)
    back, back_exponent = _unpack(bits)
    same = _normalise(back, back_exponent)[0] == _normalise(significand, exponent)[0]
    bad = (bits >= _INFINITY) | ~same
    if bad.any():
        raise ValueError(f"Row-scale code {code[bad].flat[0]:#010x} is not that of a float32")
    return bits.view(np.float32)


def finalise(
    total: Any, exponent: ArrayLike, row: ArrayLike, bias: ArrayLike | None = None
) -> _Bits:
    """Bits of RN32( RN32( RN32(total * 2^exponent) * row ) + bias ).

    Parameters
    ----------
    total : int, sequence of int, or ndarray
        Exact sums T, from -2^127 to 2^127 - 1. Integer arrays take the fast path; Python integers
        are split into words first (see `finalise_words`).
    exponent : array_like of int
        E, from -149 to 127.
    row : array_like of uint32
        Row scales in the row-scale format; any code.
    bias : array_like of uint32, optional
        Bits of float32 biases. Finite ones are meant. One whose exponent bits are all set is
        taken as if they were an ordinary exponent, as the finite number +-(1 + f / 2^23) * 2^128.
        `NO_BIAS` (and None, for all) leaves the scaled sum as it is, -0 included.

    Returns
    -------
    ndarray of uint32
        Bits of the float32 results, in the common shape of the arguments. T = 0 gives +0 from the
        first rounding. Infinity from any rounding remains, with its sign, to the end. There is
        no NaN.

    Raises
    ------
    TypeError
        If `total`, `exponent` or a code is not made of integers.
    ValueError
        If `total` does not fit 128 bits, or `exponent` or a code is out of range.
    """
    numpy_made = isinstance(total, np.ndarray | np.generic)
    words = np.asarray(total, dtype=None if numpy_made else object)
    if words.dtype.kind == "i":
        low = words.astype(np.int64)
        return finalise_words(low >> 63, low.view(np.uint64), exponent, row, bias)
    if words.dtype.kind == "u":
        return finalise_words(np.int64(0), words.astype(np.uint64), exponent, row, bias)
    if words.dtype.kind != "O":
        raise TypeError(f"Sums must be integers, not {words.dtype}")
    try:
        words = np.asarray(np.frompyfunc(operator.index, 1, 1)(words), dtype=object)
        low = np.asarray(words & 0xFFFF_FFFF_FFFF_FFFF, dtype=np.uint64)
        high = np.asarray(words >> 64, dtype=np.int64)
    except TypeError as error:
        raise TypeError(f"Sums must be integers: {error}") from None
    except OverflowError:
        raise ValueError("A sum does not fit a signed integer of 128 bits") from None
    return finalise_words(high, low, exponent, row, bias)


def finalise_words(
    high: ArrayLike,
    low: ArrayLike,
    exponent: ArrayLike,
    row: ArrayLike,
    bias: ArrayLike | None = None,
) -> _Bits:
    """As `finalise`, with the sums as pairs of words: T = high * 2^64 + low.

    Parameters
    ----------
    high : array_like of int64
        Upper half of the sum in two's complement.
    low : array_like of uint64
        Lower half.
    exponent, row, bias
        As for `finalise`.

    Returns
    -------
    ndarray of uint32
        Bits of the float32 results, in the common shape of the arguments.
    """
    exponent = np.asarray(exponent)
    if exponent.dtype.kind not in "iu":
        raise TypeError(f"Exponents must be integers, not {exponent.dtype}")
    bad = (exponent < EXPONENT_MIN) | (exponent > EXPONENT_MAX)
    if bad.any():
        raise ValueError(
            f"Exponents must be from {EXPONENT_MIN} to {EXPONENT_MAX}, "
            f"not {exponent[bad].flat[0]}; move powers of two into the row scale"
        )
    row = _bits(row, "Row scales")
    with np.errstate(over="ignore"):  # numpy warns of the carry out of a negated scalar 2^64
        y = _round_sum(high, low, exponent)
    y = _multiply(y, row)
    return y if bias is None else _add(y, _bits(bias, "Biases"))


def _bits(value: ArrayLike, what: str) -> _Bits:
    value = np.asarray(value)
    if value.dtype.kind not in "iu":
        raise TypeError(f"{what} must be given as 32-bit integers, not {value.dtype}")
    if value.dtype != np.uint32:
        bad = (value < 0) | (value > 0xFFFF_FFFF)
        if bad.any():
            raise ValueError(f"{what} must fit 32 bits, not {value[bad].flat[0]}")
    return value.astype(np.uint32)


def _unpack(bits: _Bits) -> tuple[_Words, _Ints]:
    """Significand and exponent of its lowest bit; all-ones exponents count as ordinary ones."""
    magnitude = bits & ~np.uint32(_SIGN)
    field = magnitude >> np.uint32(23)
    significand = (magnitude & _FRACTION) | np.where(field > 0, _HIDDEN, 0).astype(np.uint32)
    return significand.astype(np.uint64), np.maximum(field, 1).astype(np.int64) - 150


def _row_scale_unpack(code: _Bits) -> tuple[_Words, _Ints]:
    """Significand and exponent of its lowest bit."""
    significand = (code & _FRACTION) | _HIDDEN
    exponent = (code >> np.uint32(23)).astype(np.int64) - ROW_SCALE_BIAS - 23
    return significand.astype(np.uint64), exponent


def _normalise(significand: _Words, exponent: _Ints) -> tuple[_Words, _Ints]:
    """The same numbers with bit 63 set, zeros apart."""
    for step in (32, 16, 8, 4, 2, 1):
        short = significand < np.uint64(1 << (64 - step))
        significand = np.where(short, significand << np.uint64(step), significand)
        exponent = np.where(short, exponent - step, exponent)
    return significand, exponent


def _shift_right_sticky(value: _Words, count: _Ints | int) -> _Words:
    """`value >> count`, with bit 0 set if any one was lost. Counts from 0 on; 63 and more agree."""
    places = np.minimum(count, 63).astype(np.uint64)
    shifted = value >> places
    return shifted | (shifted << places != value).astype(np.uint64)


def _round_pack(significand: _Words, exponent: _Ints) -> _Bits:
    """Bits of RN32(significand * 2^exponent); bit 0 of a significand >= 2^26 may be sticky."""
    significand, exponent = _normalise(significand, exponent)
    # Two spare bits on top: the longest shift below, 63 places, then leaves less than a half.
    significand = _shift_right_sticky(significand, 2)
    top = exponent + 63
    places = np.minimum(38 + np.maximum(_LEAST_NORMAL - top, 0), 63).astype(np.uint64)
    kept = significand >> places
    lost = significand - (kept << places)
    half = np.uint64(1) << (places - np.uint64(1))
    up = (lost > half) | ((lost == half) & (kept & np.uint64(1) == 1))
    # `kept` holds the leading one of a normal number, which adds one to the exponent field; so
    # does a carry out of the rounding.
    field = np.clip(top - _LEAST_NORMAL, 0, _EXPONENT_BITS_MAX).astype(np.uint64)
    packed = (field << np.uint64(23)) + kept + up
    packed = np.where(significand == 0, 0, np.minimum(packed, _INFINITY))
    return packed.astype(np.uint32)


def _round_sum(high: ArrayLike, low: ArrayLike, exponent: NDArray[Any]) -> _Bits:
    """RN32(T * 2^E)."""
    upper, lower = np.broadcast_arrays(
        np.asarray(high, dtype=np.int64).view(np.uint64), np.asarray(low, dtype=np.uint64)
    )
    negative = upper >> np.uint64(63) == 1
    upper = np.where(negative, ~upper + (lower == 0), upper)
    lower = np.where(negative, ~lower + np.uint64(1), lower)
    lowest = exponent.astype(np.int64) + 64
    upper, lower, lowest = np.broadcast_arrays(upper, lower, lowest)
    for step in (64, 32, 16, 8, 4, 2, 1):
        if step == 64:
            short = upper == 0
            shifted, rest = lower, np.zeros_like(lower)
        else:
            short = upper < np.uint64(1 << (64 - step))
            shifted = (upper << np.uint64(step)) | (lower >> np.uint64(64 - step))
            rest = lower << np.uint64(step)
        upper, lower = np.where(short, shifted, upper), np.where(short, rest, lower)
        lowest = np.where(short, lowest - step, lowest)
    bits = _round_pack(upper | (lower != 0), lowest)
    return bits | np.where(negative, _SIGN, 0).astype(np.uint32)


def _multiply(x: _Bits, row: _Bits) -> _Bits:
    """RN32(x * r), r in the row-scale format; infinities stay."""
    significand, exponent = _unpack(x)
    scale, scale_exponent = _row_scale_unpack(row)
    bits = _round_pack(significand * scale, exponent + scale_exponent) | (x & _SIGN)
    return np.where(x & ~np.uint32(_SIGN) == _INFINITY, x, bits)


def _add(x: _Bits, bias: _Bits) -> _Bits:
    """RN32(x + bias); an infinite x stays."""
    x, bias = np.broadcast_arrays(x, bias)
    swap = (x & ~np.uint32(_SIGN)) < (bias & ~np.uint32(_SIGN))
    greater, lesser = np.where(swap, bias, x), np.where(swap, x, bias)
    big, exponent = _unpack(greater)
    small, small_exponent = _unpack(lesser)
    # 38 places below the lowest bit: more than enough for the sticky bit to decide nothing else.
    big = big << np.uint64(38)
    small = _shift_right_sticky(small << np.uint64(38), exponent - small_exponent)
    opposed = (greater ^ lesser) >> np.uint32(31) == 1
    total = np.where(opposed, big - small, big + small)
    sign = np.where(opposed & (total == 0), 0, greater & _SIGN).astype(np.uint32)
    bits = _round_pack(total, exponent - 38) | sign
    return np.where(x & ~np.uint32(_SIGN) == _INFINITY, x, bits)
