"""Golden model: the one defined result of a quantised layer, in Python integers.

It knows matrices, codes and scales, and nothing of packing, instructions or hardware widths:
those have to agree with it, to the bit.
"""

import math

import numpy as np

from lutcore.sw.base.errors import ActivationError, LayerError
from lutcore.sw.layers.layer import QuantLayer

__all__ = ["MAX_SCALE_BITS", "golden", "reference", "round_to_float32", "scale_range"]

MAX_SCALE_BITS = 40
"""Bits of a scale's magnitude over the layer's common power of two; float16 always fits."""


def scale_range(layer: QuantLayer) -> tuple[int, int]:
    """Range of the layer's stored scales and offsets as integers times one power of two.

    Returns
    -------
    exponent : int
        E, the place of the lowest set bit of all scales and offsets; 0 if all are zero.
    max_bits : int
        Bits of the largest magnitude as a multiple of ``2**E``. A layer is computed exactly if
        these are at most `MAX_SCALE_BITS`.
    """
    stored = [layer.scales] if layer.offsets is None else [layer.scales, layer.offsets]
    values = np.concatenate([array.astype(np.float64).ravel() for array in stored])
    values = values[values != 0]
    if values.size == 0:
        return 0, 0
    fraction, top = np.frexp(values)
    mantissa = np.abs(np.ldexp(fraction, 24)).astype(np.int64)
    _, above_lowest_bit = np.frexp((mantissa & -mantissa).astype(np.float64))
    exponent = int((top - 24 + above_lowest_bit - 1).min())
    return exponent, int(top.max()) - exponent


def round_to_float32(value: int, exponent: int) -> float:
    """``value * 2**exponent`` rounded to float32: to nearest, ties to even, with subnormals.

    Magnitudes that round to 2**128 or more become infinite, negative ones that round to zero
    become -0.
    """
    magnitude = abs(value)
    last = max(magnitude.bit_length() + exponent - 24, -149)
    shift = last - exponent
    if shift <= 0:
        kept = magnitude << -shift
    else:
        kept, rest = divmod(magnitude, 1 << shift)
        half = 1 << (shift - 1)
        kept += rest > half or (rest == half and kept & 1)
    result = math.inf if kept.bit_length() + last > 128 else math.ldexp(kept, last)
    return -result if value < 0 else result


def golden(layer: QuantLayer, q: np.ndarray, row_scale: np.ndarray) -> np.ndarray:
    """Compute a layer exactly, and round three times as the numeric contract says.

    With T the exact sum of all weights times activations and r the row's scale,
    ``y = RN32(RN32(RN32(T) * r) + bias)``; without a bias there is no addition.

    Parameters
    ----------
    layer : QuantLayer
        Weights and bias.
    q : ndarray
        int8 or int16 [R, K] activations.
    row_scale : ndarray
        float32 [R], positive and finite.

    Returns
    -------
    ndarray
        float32 [R, N].

    Raises
    ------
    LayerError
        If the layer's scales need more than `MAX_SCALE_BITS` bits over one power of two.
    ActivationError
        If activations and row scales do not fit the layer or are not as above.
    """
    _check_activations(layer, q, row_scale)
    exponent, max_bits = scale_range(layer)
    if max_bits > MAX_SCALE_BITS:
        raise LayerError(
            f"Layer {layer.name!r}: its scales and offsets reach from 2**{exponent} to "
            f"2**{exponent + max_bits}, {max_bits} bits, of which {MAX_SCALE_BITS} are exact: "
            "store them as float16, or requantise the layer"
        )
    total = _exact_total(layer, q, exponent)
    rounded = [round_to_float32(value, exponent) for value in total.ravel().tolist()]
    with np.errstate(over="ignore", under="ignore"):
        y = np.array(rounded, np.float32).reshape(total.shape) * row_scale[:, None]
        return y if layer.bias is None else y + layer.bias


def reference(layer: QuantLayer, q: np.ndarray, row_scale: np.ndarray) -> np.ndarray:
    """The layer in float64 [R, N], from dequantised weights: what errors are measured against."""
    _check_activations(layer, q, row_scale)
    y = (q.astype(np.float64) @ layer.dequantise().T) * row_scale.astype(np.float64)[:, None]
    return y if layer.bias is None else y + layer.bias


def _check_activations(layer: QuantLayer, q: np.ndarray, row_scale: np.ndarray) -> None:
    if q.dtype not in (np.int8, np.int16) or q.ndim != 2 or q.shape[1] != layer.k:
        raise ActivationError(
            f"Activations must be int8 or int16 [rows, {layer.k}] for layer {layer.name!r}, "
            f"not {q.dtype} {list(q.shape)}"
        )
    if row_scale.dtype != np.float32 or row_scale.shape != (len(q),):
        raise ActivationError(
            f"Row scales must be float32 [{len(q)}], not {row_scale.dtype} {list(row_scale.shape)}"
        )
    if not (np.isfinite(row_scale) & (row_scale > 0)).all():
        raise ActivationError("Row scales must be positive and finite; give a zero row the scale 1")


def _scale_integers(values: np.ndarray, exponent: int) -> np.ndarray:
    """Python integers c with ``values == c * 2**exponent``, of which `exponent` is a divisor."""
    integers = np.ldexp(values.astype(np.float64), -exponent)
    return np.array([int(c) for c in integers.ravel()], object).reshape(values.shape)


def _exact_total(layer: QuantLayer, q: np.ndarray, exponent: int) -> np.ndarray:
    """Sum over K of weights times activations as Python integers [R, N], times 2**-exponent."""
    # Every product and partial sum is an integer far below 2**53, so float64 holds it exactly.
    activations = q.astype(np.float64)
    codes = layer.codes if layer.kind == "planes" else layer.codes[None]
    scales = _scale_integers(layer.scales, exponent).reshape(layer.n, layer.groups, len(codes))
    if layer.offsets is not None:
        offsets = _scale_integers(layer.offsets, exponent)
    elif layer.kind == "affine":
        offsets = scales[:, :, 0] * -(2 ** (layer.bits - 1))
    else:
        offsets = None

    total = np.zeros((len(q), layer.n), object)
    for g in range(layer.groups):
        span = slice(g * layer.group_size, min((g + 1) * layer.group_size, layer.k))
        for p, plane in enumerate(codes):
            sums = activations[:, span] @ plane[:, span].T.astype(np.float64)
            total += sums.astype(np.int64).astype(object) * scales[:, g, p]
        if offsets is not None:
            sums = activations[:, span].sum(axis=1).astype(np.int64).astype(object)
            total += sums[:, None] * offsets[:, g]
    return total
