"""A quantised linear layer, as every part of the tools passes it on."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lutcore.sw.base.errors import LayerError

__all__ = ["MAX_BITS", "TERNARY_BITS", "Kind", "QuantLayer", "TensorInfo"]

MAX_BITS = 8
"""Largest number of bits, or of ±1 planes, of a weight."""
TERNARY_BITS = 2
"""What a ternary weight counts as: the ±1 planes that it takes on a core without ternary tables."""

Kind = Literal["affine", "planes", "ternary"]
"""How codes become weights."""

_CODES = {
    "affine": ("[N, K]", np.dtype(np.uint8)),
    "planes": ("[P, N, K]", np.dtype(np.int8)),
    "ternary": ("[N, K]", np.dtype(np.int8)),
}

_SCALE_TYPES = (np.dtype(np.float16), np.dtype(np.float32))


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a checkpoint, as a listing shows it.

    Attributes
    ----------
    name : str
        Name in the checkpoint.
    format : str
        Storage format, for example ``Q4_1``.
    shape : tuple of int
        (N, K) of a matrix, otherwise the tensor's own dimensions, slowest first.
    compiles : bool
        Whether the format and shape are ones that a core computes.
    reason : str
        Why not, and what would work; empty if it compiles.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    compiles: bool
    reason: str = ""


@dataclass(frozen=True, eq=False)
class QuantLayer:
    """Weights of one linear layer, O[R, N] = A[R, K] · W[N, K]ᵀ, by their exact codes and scales.

    With g = k // group_size the group of an element, an affine layer means
    ``W[n, k] = codes[n, k] * scales[n, g] + offsets[n, g]``, where a missing offset is
    ``-2**(bits - 1) * scales[n, g]``, a layer of planes means
    ``W[n, k] = sum_p scales[n, g, p] * codes[p, n, k] + offsets[n, g]``, and a ternary layer
    ``W[n, k] = codes[n, k] * scales[n, g] + offsets[n, g]``, in both of which a missing offset is
    zero.

    The arrays are checked once, here, and are read-only afterwards.

    Attributes
    ----------
    name : str
        Name in the checkpoint.
    kind : {"affine", "planes", "ternary"}
        How codes become weights.
    bits : int
        Number of bits or planes P, 1 to 8. Ternary: `TERNARY_BITS`.
    codes : ndarray
        Affine: uint8 [N, K], below ``2**bits``. Planes: int8 [P, N, K] of -1 and +1.
        Ternary: int8 [N, K] of -1, 0 and +1.
    group_size : int
        Elements along K that share a scale, 1 to K. The last group may be shorter.
    scales : ndarray
        float16 or float32, finite, of any sign. [N, G], of planes [N, G, P].
        G is K / group_size, rounded up.
    offsets : ndarray or None
        float16 or float32 [N, G], finite.
    bias : ndarray or None
        float32 [N], finite.
    checkpoint_bytes : int
        Bytes that codes, scales and offsets take in the checkpoint.

    Raises
    ------
    LayerError
        If shapes disagree or a type or value is not one of the above.
    """

    name: str
    kind: Kind
    bits: int
    codes: np.ndarray
    group_size: int
    scales: np.ndarray
    offsets: np.ndarray | None
    bias: np.ndarray | None
    checkpoint_bytes: int

    def __post_init__(self):
        if self.kind not in _CODES:
            kinds = ", ".join(map(repr, _CODES))
            raise self._error(f"kind must be one of {kinds}, not {self.kind!r}")
        self._check_integer("bits", 1, MAX_BITS)
        axes, dtype = _CODES[self.kind]
        self._check_array("codes", axes, 3 if self.kind == "planes" else 2, (dtype,))
        if 0 in self.codes.shape:
            raise self._error(f"codes of shape {self.codes.shape} hold no weight")
        self._check_integer("group_size", 1, self.k)
        self._check_code_values()

        parameters = (self.n, self.groups)
        self._check_values(
            "scales", (*parameters, self.bits) if self.kind == "planes" else parameters
        )
        if self.offsets is not None:
            self._check_values("offsets", parameters)
        if self.bias is not None:
            self._check_values("bias", (self.n,), _SCALE_TYPES[1:])
        self._check_integer("checkpoint_bytes", 1, None)

        for field in ("codes", "scales", "offsets", "bias"):
            array = getattr(self, field)
            if array is not None:
                view = np.ascontiguousarray(array).view()
                view.flags.writeable = False
                object.__setattr__(self, field, view)

    @property
    def n(self) -> int:
        """Output channels."""
        return self.codes.shape[-2]

    @property
    def k(self) -> int:
        """Inputs of one output channel."""
        return self.codes.shape[-1]

    @property
    def groups(self) -> int:
        """Quantisation groups along K, the last one possibly short."""
        return -(-self.k // self.group_size)

    def dequantise(self) -> np.ndarray:
        """Weights as float64 [N, K], rounded at most once, by the addition of the offset."""
        group = np.arange(self.k) // self.group_size
        scales = self.scales.astype(np.float64)
        codes = self.codes.astype(np.float64)
        if self.kind == "planes":
            weights = np.einsum("pnk,nkp->nk", codes, scales[:, group])
        else:
            if self.kind == "affine" and self.offsets is None:
                codes -= 2 ** (self.bits - 1)
            weights = codes * scales[:, group]
        if self.offsets is not None:
            weights += self.offsets.astype(np.float64)[:, group]
        return weights

    def _error(self, message: str) -> LayerError:
        return LayerError(f"Layer {self.name!r}: {message}")

    def _check_integer(self, field: str, low: int, high: int | None) -> None:
        value: Any = getattr(self, field)
        is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not is_integer or value < low or (high is not None and value > high):
            span = f"{low} or more" if high is None else f"{low} to {high}"
            raise self._error(f"{field} must be an integer of {span}, not {value!r}")
        object.__setattr__(self, field, int(value))

    def _check_array(self, field: str, axes: str, ndim: int, types: tuple[np.dtype, ...]) -> None:
        array: Any = getattr(self, field)
        if not isinstance(array, np.ndarray) or array.dtype not in types:
            found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            wanted = " or ".join(str(dtype) for dtype in types)
            raise self._error(f"{field} must be an array of {wanted}, not {found}")
        if array.ndim != ndim:
            raise self._error(f"{field} must have the axes {axes}, not the shape {array.shape}")

    def _check_code_values(self) -> None:
        if self.kind == "affine":
            limit = 2**self.bits
            if (largest := int(self.codes.max())) >= limit:
                raise self._error(
                    f"code {largest} does not fit in {self.bits} bits: codes must be below {limit}"
                )
            return
        if self.kind == "ternary":
            if self.bits != TERNARY_BITS:
                raise self._error(f"bits must be {TERNARY_BITS} for ternary codes, not {self.bits}")
            wrong = (self.codes < -1) | (self.codes > 1)
            if wrong.any():
                value = int(self.codes[wrong][0])
                raise self._error(f"ternary code {value}: codes must be -1, 0 or +1")
            return
        if self.codes.shape[0] != self.bits:
            raise self._error(
                f"{self.codes.shape[0]} planes of codes, but bits is {self.bits}: they must agree"
            )
        # np.abs(-128) is -128 in int8, so the two values are compared one by one.
        wrong = (self.codes != 1) & (self.codes != -1)
        if wrong.any():
            value = int(self.codes[wrong][0])
            raise self._error(f"plane value {value}: planes must hold -1 and +1 only")

    def _check_values(
        self, field: str, shape: tuple[int, ...], types: tuple[np.dtype, ...] = _SCALE_TYPES
    ) -> None:
        array: Any = getattr(self, field)
        self._check_array(field, str(list(shape)), len(shape), types)
        if array.shape != shape:
            raise self._error(
                f"{field} have the shape {array.shape}, but {self.n} x {self.k} weights in groups "
                f"of {self.group_size} need {shape}"
            )
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            where = tuple(int(i) for i in bad[0])
            raise self._error(f"{field}{list(where)} is {array[where]}: every value must be finite")
