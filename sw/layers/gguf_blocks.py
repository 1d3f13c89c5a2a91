"""Decoders of GGUF's block formats into the exact integer codes and scales that they hold.

Every function takes the raw blocks, uint8 [N, blocks along K, bytes of a block], and returns a
`Decoded`. Byte layouts are those of ggml's ``ggml-common.h``; block sizes are in
`BLOCK_DECODERS`. Where a format multiplies a float16 by a small integer, the product has at most
19 significant bits and is exact in float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lutcore.sw.base.errors import CheckpointError
from lutcore.sw.layers.layer import TERNARY_BITS, Kind

__all__ = ["BLOCK_DECODERS", "Decoded"]


class Decoded(NamedTuple):
    """Codes, scales and offsets as in `QuantLayer`."""

    bits: int
    codes: np.ndarray
    group_size: int
    scales: np.ndarray
    offsets: np.ndarray | None = None
    kind: Kind = "affine"


def _float16(blocks: np.ndarray, at: int) -> np.ndarray:
    """The float16 at byte `at` of every block, [N, blocks]."""
    return np.ascontiguousarray(blocks[..., at : at + 2]).view("<f2")[..., 0].astype(np.float16)


def _fields(packed: np.ndarray, bits: int) -> np.ndarray:
    """Split bytes [..., B] into their bit fields [..., 8 / bits, B], the lowest field first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return (packed[..., None, :] >> shifts[:, None]) & np.uint8(2**bits - 1)


def _flat(values: np.ndarray) -> np.ndarray:
    """Join all axes after the first: [N, ...] to [N, elements]."""
    return values.reshape(len(values), -1)


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """Low nibbles of bytes [..., B], then high nibbles, as [..., 2 * B]."""
    return _fields(packed, 4).reshape(*packed.shape[:-1], -1)


def _q4_0(blocks: np.ndarray) -> Decoded:
    return Decoded(4, _flat(_nibbles(blocks[..., 2:])), 32, _float16(blocks, 0))


def _q4_1(blocks: np.ndarray) -> Decoded:
    return Decoded(
        4, _flat(_nibbles(blocks[..., 4:])), 32, _float16(blocks, 0), _float16(blocks, 2)
    )


def _five_bit_codes(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Codes of one nibble plus one bit; bit j of the four `high` bytes belongs to element j."""
    fifth = np.unpackbits(high, axis=-1, bitorder="little")
    return _flat(_nibbles(low) | (fifth << 4))


def _q5_0(blocks: np.ndarray) -> Decoded:
    codes = _five_bit_codes(blocks[..., 2:6], blocks[..., 6:])
    return Decoded(5, codes, 32, _float16(blocks, 0))


def _q5_1(blocks: np.ndarray) -> Decoded:
    codes = _five_bit_codes(blocks[..., 4:8], blocks[..., 8:])
    return Decoded(5, codes, 32, _float16(blocks, 0), _float16(blocks, 2))


def _q8_0(blocks: np.ndarray) -> Decoded:
    # Flipping the sign bit of an int8 is adding 128.
    return Decoded(8, _flat(blocks[..., 2:] ^ 0x80), 32, _float16(blocks, 0))


def _products(scale: np.ndarray, integers: np.ndarray) -> np.ndarray:
    """A block's float16 [N, blocks] times its integers [N, blocks, S], float32 [N, blocks * S]."""
    return _flat(scale[..., None].astype(np.float32) * integers.astype(np.float32))


def _halves(packed: np.ndarray) -> np.ndarray:
    """Bytes [..., B] as two halves [..., 2, B / 2], which cover 128 elements each."""
    return packed.reshape(*packed.shape[:-1], 2, -1)


def _q2_k(blocks: np.ndarray) -> Decoded:
    scales_and_minima = blocks[..., :16]
    return Decoded(
        2,
        _flat(_fields(_halves(blocks[..., 16:80]), 2)),
        16,
        _products(_float16(blocks, 80), scales_and_minima & 15),
        -_products(_float16(blocks, 82), scales_and_minima >> 4),
    )


def _q3_k(blocks: np.ndarray) -> Decoded:
    third = _fields(blocks[..., :32], 1)
    low = _fields(_halves(blocks[..., 32:96]), 2)
    packed = blocks[..., 96:108]
    # Sixteen 6-bit scales: eight bytes of low nibbles, then four bytes of upper pairs.
    upper = _fields(packed[..., 8:], 2).reshape(*packed.shape[:-1], 16)
    scales = (_nibbles(packed[..., :8]) | (upper << 4)).astype(np.int8) - 32
    return Decoded(
        3,
        _flat(low | (third.reshape(low.shape) << 2)),
        16,
        _products(_float16(blocks, 108), scales),
    )


def _six_bit_pairs(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eight 6-bit scales and eight 6-bit minima, from the 12 bytes of Q4_K and Q5_K."""
    first, second, third = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = [first & 63, (third & 15) | (first >> 6 << 4)]
    minima = [second & 63, (third >> 4) | (second >> 6 << 4)]
    return np.concatenate(scales, axis=-1), np.concatenate(minima, axis=-1)


def _q4_k(blocks: np.ndarray) -> Decoded:
    scales, minima = _six_bit_pairs(blocks[..., 4:16])
    quarters = blocks[..., 16:].reshape(*blocks.shape[:-1], 4, 32)
    return Decoded(
        4,
        _flat(_nibbles(quarters)),
        32,
        _products(_float16(blocks, 0), scales),
        -_products(_float16(blocks, 2), minima),
    )


def _q5_k(blocks: np.ndarray) -> Decoded:
    scales, minima = _six_bit_pairs(blocks[..., 4:16])
    quarters = blocks[..., 48:].reshape(*blocks.shape[:-1], 4, 32)
    fifth = _fields(blocks[..., 16:48], 1)
    return Decoded(
        5,
        _flat(_nibbles(quarters)) | (_flat(fifth) << 4),
        32,
        _products(_float16(blocks, 0), scales),
        -_products(_float16(blocks, 2), minima),
    )


def _q6_k(blocks: np.ndarray) -> Decoded:
    low = _fields(_halves(blocks[..., :128]), 4)
    high = _fields(_halves(blocks[..., 128:192]), 2)
    scales = blocks[..., 192:208].view(np.int8)
    return Decoded(
        6,
        _flat(low) | (_flat(high) << 4),
        16,
        _products(_float16(blocks, 208), scales),
    )


def _ternary(trits: np.ndarray, scale: np.ndarray) -> Decoded:
    """Trits 0, 1, 2, which are stored for -1, 0, +1."""
    if (trits > 2).any():
        raise CheckpointError("a ternary code is 3, where only 0, 1 and 2 exist: the file is bad")
    return Decoded(TERNARY_BITS, trits.astype(np.int8) - np.int8(1), 256, scale, kind="ternary")


def _tq1_0(blocks: np.ndarray) -> Decoded:
    def trits(packed: np.ndarray, count: int) -> np.ndarray:
        # A byte is a fraction of 256 in base 3, so each digit is the carry of a multiplication.
        powers = np.array([3**i for i in range(count)], np.uint16)[:, None]
        fraction = (packed[..., None, :] * powers) & 255
        return ((fraction * 3) >> 8).reshape(*packed.shape[:-1], -1)

    parts = [trits(blocks[..., :32], 5), trits(blocks[..., 32:48], 5), trits(blocks[..., 48:52], 4)]
    return _ternary(_flat(np.concatenate(parts, axis=-1)), _float16(blocks, 52))


def _tq2_0(blocks: np.ndarray) -> Decoded:
    return _ternary(_flat(_fields(_halves(blocks[..., :64]), 2)), _float16(blocks, 64))


BLOCK_DECODERS: dict[str, Callable[[np.ndarray], Decoded]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
}
"""Decoder of each supported format, by its GGUF name."""
