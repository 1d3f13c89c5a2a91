"""The arithmetic of the instruction-set simulator: from buffer words to exact sums, by blocks.

Everything is an integer. Matrix products are done in floating point where every partial sum is
exact (below 2^24 in float32, 2^53 in float64), because that is what BLAS is fast at.
"""

import numpy as np

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.contract.float32 import finalise_words
from lutcore.hw.contract.ternary import INDEX_BITS, triples
from lutcore.sw.program.blocks import BlockFormat

__all__ = [
    "Sums",
    "columns_of_words",
    "decode_scales",
    "decode_weights",
    "multiply",
    "words_of_codes",
]

# A sum T is kept as high * 2^20 + low, so that products with halves of a 40-bit scale fit 64 bits.
_LOW_BITS = 20
_LOW_MASK = (1 << _LOW_BITS) - 1


def words_of_codes(data: np.ndarray, form: BlockFormat, n: int, k: int) -> np.ndarray:
    """What the loader makes of a codes section: words [weight_words, step, N/8].

    Places past the end of a run are zero.
    """
    step, size = form.config.step, form.config.lanes // 8
    entries = n * form.planes
    words, start = [], 0
    for count, places in form.runs(k):
        full, rest = divmod(places, step)
        stop = start + count * places * entries * size
        runs = data[start:stop].reshape(count, -1)
        part = np.zeros((count, ceil_div(places, step), entries, step, size), np.uint8)
        bytes_full = full * step * entries * size
        part[:, :full] = runs[:, :bytes_full].reshape(count, full, entries, step, size)
        if rest:
            part[:, full, :, :rest] = runs[:, bytes_full:].reshape(count, entries, rest, size)
        words.append(part.reshape(-1, step, size))
        start = stop
    return np.concatenate(words)


def decode_weights(words: np.ndarray, form: BlockFormat, n: int, k: int) -> list[np.ndarray]:
    """Factors of the matrix product for each part (see `BlockFormat.runs`) of a block.

    Parameters
    ----------
    words
        uint8 [weight_words, step, N/8].

    Returns
    -------
    list of ndarray
        [runs, columns, n * N] codes (affine or ternary), or [runs, columns, n * P * N] bits where
        every plane has a scale of its own; columns in whole steps.
    """
    config, planes = form.config, form.planes
    if config.symmetric:
        index = words.reshape(len(words), config.depth, config.group, -1).copy()
        # In halved tables top bits are relative to another table's.
        for table in range(1, config.depth if config.halved else 1):
            index[:, table, -1] ^= index[:, table & table - 1, -1]
        if not form.ternary:  # where one is set, the others come inverted
            index[:, :, :-1] ^= index[:, :, -1:]
        words = index.reshape(words.shape)
    digits = np.unpackbits(words, axis=-1, bitorder="little")
    if form.ternary:
        digits = _trits_of_bits(digits)
    parts, start = [], 0
    for count, places in form.runs(k):
        steps = ceil_div(places, config.step)
        stop = start + count * steps * n * planes
        part = digits[start:stop].reshape(count, steps, n, planes, -1, config.lanes)
        start = stop
        exact = _product_type(config, steps * config.step, 1 if form.per_plane else planes)
        if form.per_plane:
            part = part.transpose(0, 1, 4, 2, 3, 5)
        else:
            codes = np.zeros_like(part[:, :, :, 0])
            for plane in range(planes):
                codes = codes << 1 | part[:, :, :, plane]
            part = codes.transpose(0, 1, 3, 2, 4)
        parts.append(part.astype(exact, order="C").reshape(count, steps * form.step_columns, -1))
    return parts


def _trits_of_bits(bits: np.ndarray) -> np.ndarray:
    """Trits int8 [words, columns, N] of index bits uint8 [words, places, N] with absolute signs.

    Entries that are no triple's are 0.
    """
    index = bits.reshape(len(bits), -1, INDEX_BITS, bits.shape[-1])
    weights = 1 << np.arange(INDEX_BITS - 1, dtype=np.uint8)
    entry = np.einsum("wtbn,b->wtn", index[:, :, :-1], weights)
    known = np.zeros((1 << INDEX_BITS - 1, len(triples()[0])), np.int8)
    known[: len(triples())] = triples()
    sign = 1 - 2 * index[:, :, -1].astype(np.int8)
    trits = known[entry].transpose(0, 1, 3, 2) * sign[:, :, None]
    return trits.reshape(len(bits), -1, bits.shape[-1])


def _product_type(config: CoreConfig, columns: int, planes: int) -> type:
    limit = columns * (2**planes - 1) * 2 ** (config.activation_bits - 1)
    return np.float32 if limit < 2**24 else np.float64


def columns_of_words(
    words: np.ndarray, form: BlockFormat, k: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Row scales and activations of a block.

    Parameters
    ----------
    words
        uint8 [memory words, bytes], header first.

    Returns
    -------
    rows : ndarray
        uint32 [M] row-scale codes.
    columns : list of ndarray
        For each part of the block, integers [runs, M, columns] in whole steps.
    """
    config = form.config
    data = np.ascontiguousarray(words).reshape(-1)
    word_bytes = config.x_word_bits // 8
    header = config.x_header_words * word_bytes
    rows = data[: 4 * config.rows].view("<u4").astype(np.uint32)
    parts, start = [], header
    for count, places in form.runs(k):
        steps, size = ceil_div(places, config.step), form.table_columns
        stop = start + count * steps * size * word_bytes
        values = data[start:stop].view(f"<i{config.activation_bits // 8}")
        values = values.reshape(count, steps, size, -1)[..., : config.rows * config.depth]
        values = values.reshape(count, steps, size, config.rows, config.depth)
        parts.append(values.transpose(0, 3, 1, 4, 2).reshape(count, config.rows, -1))
        start = stop
    return rows, parts


def multiply(
    weights: list[np.ndarray], columns: list[np.ndarray], form: BlockFormat, n: int
) -> np.ndarray:
    """What the scale unit multiplies with scales: int64 [groups, M, n, terms, N].

    The sum of codes times activations (affine without an offset: of centred codes), or of ±1 times
    activations for each plane; then, with an offset, the sum of the activations.
    """
    config, results = form.config, []
    for factor, x in zip(weights, columns, strict=True):
        product = (x.astype(factor.dtype) @ factor).astype(np.int64)
        product = product.reshape(len(x), config.rows, n, form.entries, config.lanes)
        total = x.sum(axis=2, dtype=np.int64)[:, :, None, None, None]
        if form.per_plane and not form.ternary:
            product = 2 * product - total
        elif not form.per_plane and not form.offset:
            product = product - (total << form.planes - 1)
        if form.offset:
            again = np.broadcast_to(total, (*product.shape[:3], 1, config.lanes))
            product = np.concatenate([product, again], axis=3)
        results.append(product)
    return np.concatenate(results)


def decode_scales(lines: np.ndarray, form: BlockFormat, n: int, k: int) -> np.ndarray:
    """Scales and offsets as integers, int64 [groups, 1, n, terms, N].

    Parameters
    ----------
    lines
        uint16 [scale_lines, S].
    """
    config, groups = form.config, form.groups(k)
    size = 2 if form.wide else 1
    lines = lines.reshape(groups, n, form.lines_per_tile, config.scale_lanes)
    alone = (form.entries - 1) * config.chunks * size
    shape = (groups, n, -1, config.chunks, size, config.scale_lanes)
    first = lines[:, :, :alone].reshape(shape)
    # The offset shares its chunk with the last scale.
    paired = lines[:, :, alone:].reshape(
        groups, n, config.chunks, 1 + form.offset, size, config.scale_lanes
    )
    words = np.concatenate([first, paired.transpose(0, 1, 3, 2, 4, 5)], axis=2).astype(np.int64)
    if form.wide:
        high, low = words[..., 0, :], words[..., 1, :]
        magnitude = ((high & 0xFF) << 16 | low) << (high >> 8 & 31)
    else:
        high = words[..., 0, :]
        field = high >> 10 & 31
        significand = high & 0x3FF | np.where(field > 0, 0x400, 0)
        magnitude = significand << np.maximum(field - 1, 0)
    values = np.where(high >> 15, -magnitude, magnitude)
    return values.reshape(groups, 1, n, -1, config.lanes)


class Sums:
    """One slot of the sum buffer: exact sums, as many as its words hold."""

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        size = config.sum_words * config.scale_lanes
        self._high = np.zeros(size, np.int64)
        self._low = np.zeros(size, np.int64)

    def _span(self, word: int, count: int) -> slice:
        start = word * self.config.scale_lanes
        return slice(start, start + count)

    def add(self, word: int, products: np.ndarray, scales: np.ndarray, *, fresh: bool) -> None:
        """Add a block's products times scales to the sums from a word on, or begin with them.

        The sums of a row tile lie as [M, n, N].
        """
        high = ((scales >> _LOW_BITS) * products).sum(axis=(0, 3)).ravel()
        low = ((scales & _LOW_MASK) * products).sum(axis=(0, 3)).ravel()
        span = self._span(word, len(high))
        if not fresh:
            high += self._high[span]
            low += self._low[span]
        self._high[span] = high + (low >> _LOW_BITS)
        self._low[span] = low & _LOW_MASK

    def finalise(
        self, word: int, n: int, exponent: int, rows: np.ndarray, bias: np.ndarray | None
    ) -> np.ndarray:
        """Bits of the float32 results of a row tile, uint32 [n, M, N].

        Parameters
        ----------
        rows
            Row-scale codes [M].
        bias
            Bits of the biases [n, 1, N].
        """
        config = self.config
        span = self._span(word, n * config.rows * config.lanes)
        shape = (config.rows, n, config.lanes)
        high = self._high[span].reshape(shape).transpose(1, 0, 2)
        low = self._low[span].reshape(shape).transpose(1, 0, 2)
        # Two words of 64 bits, cut to the width of the hardware's sums.
        lower = (high << _LOW_BITS | low).view(np.uint64)
        unused = 128 - config.sum_width
        upper = high >> (64 - _LOW_BITS) << unused >> unused
        return finalise_words(upper, lower, exponent, rows[None, :, None], bias)
