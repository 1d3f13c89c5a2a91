"""Quantisation of activations on the host, one float32 scale per row."""

from typing import Literal

import numpy as np

from lutcore.sw.base.errors import ActivationError

__all__ = ["quantise"]

_INTEGER_TYPE = {8: np.dtype(np.int8), 16: np.dtype(np.int16)}


def quantise(x: np.ndarray, bits: Literal[8, 16]) -> tuple[np.ndarray, np.ndarray]:
    """Quantise each row of activations symmetrically, or take integers as they are.

    A float32 row gets the scale ``s = absmax / (2**(bits - 1) - 1)``, formed in float32, and the
    codes ``rint(x / s)`` (float32 division, ties to even), clipped to ±(2**(bits - 1) - 1). A row
    whose scale is zero (all zeros, or so small that the division underflows) gets s = 1.

    Parameters
    ----------
    x : ndarray
        float32 [R, K], or integers [R, K] of exactly `bits` bits.
    bits : {8, 16}
        Width of the core's activations.

    Returns
    -------
    q : ndarray
        int8 or int16 [R, K].
    scale : ndarray
        float32 [R]; ``x ≈ q * scale[:, None]``. All ones for integer input.

    Raises
    ------
    ActivationError
        If the shape or type is another, or a value is NaN or infinite.
    """
    if bits not in _INTEGER_TYPE:
        raise ActivationError(f"Activations have 8 or 16 bits, not {bits!r}")
    wanted = _INTEGER_TYPE[bits]
    if x.ndim != 2 or 0 in x.shape:
        raise ActivationError(f"Activations must have the shape [rows, K], not {x.shape}")
    if x.dtype == wanted:
        return x, np.ones(len(x), np.float32)
    if x.dtype != np.float32:
        raise ActivationError(
            f"Activations are {x.dtype}, but this core takes float32 or {wanted}: convert them, "
            "e.g. with x.astype('float32')"
        )
    if not np.isfinite(x).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise ActivationError(
            f"Activation [{row}, {column}] is {x[row, column]}: every value must be finite"
        )

    limit = np.float32(2 ** (bits - 1) - 1)
    with np.errstate(under="ignore"):
        scale = np.abs(x).max(axis=1) / limit
        scale[scale == 0] = 1
        # Only a subnormal scale, itself coarsely rounded, makes the clip act.
        q = np.clip(np.rint(x / scale[:, None]), -limit, limit)
    return q.astype(wanted), scale
