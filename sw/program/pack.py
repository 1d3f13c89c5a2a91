"""Memory images: weights, scales and activations as the core's loaders expect them.

The layouts are those of ``docs/architecture.md``; everything is done on whole arrays.
"""

from dataclasses import dataclass

import numpy as np

from lutcore.hw.contract.config import ceil_div
from lutcore.hw.contract.float32 import row_scale_encode
from lutcore.hw.contract.ternary import GROUP, INDEX_BITS, index_of
from lutcore.sw.base.errors import LayerError
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.blocks import BlockFormat, x_memory_words
from lutcore.sw.program.tiling import Tiling

__all__ = ["EncodedScales", "encode_scales", "pack_activations", "pack_weights"]

# Scales are integers of at most this many bits, of which a stored one keeps the leading 24.
_SCALE_BITS = 40
_SIGNIFICAND_BITS = 24
#: The unit of float16 numbers taken as integers.
_FLOAT16_EXPONENT = -24


@dataclass(frozen=True, eq=False)
class EncodedScales:
    """Scales and offsets of a layer as stored.

    Attributes
    ----------
    wide
        Two 16-bit words each (high, low) instead of one float16.
    exponent
        E: values are integers times 2^E.
    words
        uint16 [G, N, T, 2 or 1]: for each group and channel its T scales, the offset last.
    """

    wide: bool
    exponent: int
    words: np.ndarray


def encode_scales(layer: QuantLayer) -> EncodedScales:
    """Encode scales as float16 if that holds every one of them, otherwise in 32 bits.

    Raises
    ------
    LayerError
        If the values do not fit integers of 40 bits times one power of two.
    """
    scales = layer.scales.reshape(layer.n, layer.groups, -1).astype(np.float32)
    if layer.offsets is not None:
        offsets = layer.offsets.astype(np.float32)[:, :, None]
        scales = np.concatenate([scales, offsets], axis=2)
    # Adding +0 turns -0, which the fixed-point sum does not know, into +0.
    values = scales.transpose(1, 0, 2) + np.float32(0)
    with np.errstate(over="ignore", under="ignore"):
        halves = values.astype(np.float16)
    if (halves.astype(np.float32) == values).all():
        return EncodedScales(False, _FLOAT16_EXPONENT, halves.view(np.uint16)[..., None])

    # Every non-zero value is an odd integer times a power of two; E is the least of these powers.
    fraction, top = np.frexp(values.astype(np.float64))
    integer = np.ldexp(fraction, _SIGNIFICAND_BITS).astype(np.int64)
    magnitude = np.abs(integer)
    nonzero = magnitude > 0
    lowest = np.frexp((magnitude & -magnitude).astype(np.float64))[1] - 1
    exponent = int((top - _SIGNIFICAND_BITS + lowest)[nonzero].min())
    bits = int(top[nonzero].max()) - exponent
    if bits > _SCALE_BITS:
        raise LayerError(
            f"Layer {layer.name!r}: its scales and offsets reach from 2**{exponent} to "
            f"2**{exponent + bits}, {bits} bits, of which {_SCALE_BITS} are exact: "
            "store them as float16, or requantise the layer"
        )
    # value = significand * 2^shift * 2^E, with no shift where 24 bits reach down to 2^E.
    places = top - _SIGNIFICAND_BITS - exponent
    shift = np.where(nonzero, np.maximum(places, 0), 0)
    significand = np.where(nonzero, magnitude >> np.maximum(-places, 0), 0)
    high = significand >> 16 | shift << 8 | (integer < 0).astype(np.int64) << 15
    words = np.stack([high, significand & 0xFFFF], axis=-1).astype(np.uint16)
    return EncodedScales(True, exponent, words)


def pack_weights(layer: QuantLayer, scales: EncodedScales, tiling: Tiling) -> bytes:
    """The weight image: blocks in the order in which they are loaded.

    Parameters
    ----------
    layer
        Codes and bias.
    scales
        The layer's scales, from `encode_scales`.
    tiling
        Blocks, planned for the same layer.

    Returns
    -------
    bytes
        Whole beats.
    """
    form = tiling.format
    planes = _index_bytes(layer, tiling)
    lines = _scale_lines(scales, tiling)
    bias = None
    if layer.bias is not None:
        padding = tiling.total_tiles * form.config.lanes - layer.n
        bias = np.pad(layer.bias, (0, padding)).reshape(tiling.total_tiles, -1).astype("<f4")

    sections: list[bytes] = []

    def add(section: bytes) -> None:
        sections.append(section)
        sections.append(bytes(form.padded(len(section)) - len(section)))

    for first, last in tiling.tile_blocks():
        for start, stop in tiling.k_blocks():
            if bias is not None and start == 0:
                add(bias[first:last].tobytes())
            group, within = divmod(start, form.group_size)
            if within == 0:
                groups = form.groups(stop - start)
                add(lines[group : group + groups, first:last].tobytes())
            add(_codes_section(planes[:, start:stop, first:last], form))
    return b"".join(sections)


def _index_bytes(layer: QuantLayer, tiling: Tiling) -> np.ndarray:
    """Index bits as uint8 [P, places, tiles, N/8], planes in their order of storage."""
    config = tiling.format.config
    padding = tiling.total_tiles * config.lanes - layer.n
    if layer.kind == "planes":
        bits = [plane > 0 for plane in layer.codes]
    elif layer.kind == "affine":
        bits = [layer.codes >> p & 1 for p in reversed(range(layer.bits))]
    else:
        bits = [_ternary_bits(layer, tiling)]
    packed = [
        np.packbits(np.pad(plane.T, ((0, 0), (0, padding))), axis=1, bitorder="little")
        for plane in bits
    ]
    planes = np.stack(packed).reshape(
        len(bits), tiling.places, tiling.total_tiles, config.lanes // 8
    )
    return _with_signs(planes, tiling.format) if config.symmetric else planes


def _ternary_bits(layer: QuantLayer, tiling: Tiling) -> np.ndarray:
    """Index bits of ternary codes as uint8 [N, places], the sign on top of each five."""
    digits = 3 ** np.arange(GROUP)
    indices = np.zeros(3**GROUP, np.uint8)
    for triple, (entry, sign) in index_of().items():
        indices[np.dot(triple, digits) + len(indices) // 2] = entry | sign << INDEX_BITS - 1
    trits = np.zeros((layer.n, tiling.format.columns(tiling.places)), np.int8)
    trits[:, tiling.padded_columns()] = layer.codes
    numbers = trits.reshape(layer.n, -1, GROUP) @ digits.astype(np.int8) + len(indices) // 2
    bits = indices[numbers][..., None] >> np.arange(INDEX_BITS, dtype=np.uint8) & 1
    return bits.reshape(layer.n, -1)


def _with_signs(planes: np.ndarray, form: BlockFormat) -> np.ndarray:
    """Symmetric coding of index bits uint8 [P, places, tiles, N/8].

    The top bit of an index is its sign s. Where it is set, the other bits, if they are those of
    ±1 weights, are inverted. Stored is the sign, or for halved tables the sign relative to that of
    the table with which the adder tree joins this one.
    """
    config, total = form.config, planes.shape[1]
    # Places within a step are counted from the start of a group: its pieces are whole steps.
    position = np.arange(total)
    within = position % form.group_size
    place = within % config.step
    table, bit = np.divmod(place, config.group)
    top = position - bit + config.group - 1
    joined_top = position - place + (table & table - 1) * config.group + config.group - 1
    result = planes.copy()
    relative = (top == position) & (table > 0) & config.halved
    result[:, relative] ^= planes[:, joined_top[relative]]
    if not form.ternary:
        # The last table of a run may lack its top column: then what is stored counts as 0.
        cut = top >= np.minimum(position - within + form.group_size, total)
        sign = np.where(cut, joined_top, top)
        inverts = (bit < config.group - 1) & ~(cut & ((table == 0) | (not config.halved)))
        result[:, inverts] ^= planes[:, sign[inverts]]
    return result


def _scale_lines(scales: EncodedScales, tiling: Tiling) -> np.ndarray:
    """Scale lines as uint16 [G, tiles, lines_per_tile, S]."""
    form, config = tiling.format, tiling.format.config
    groups, n, terms, size = scales.words.shape
    padding = tiling.total_tiles * config.lanes - n
    words = np.pad(scales.words, ((0, 0), (0, padding), (0, 0), (0, 0)))
    words = words.reshape(
        groups, tiling.total_tiles, config.chunks, config.scale_lanes, terms, size
    )
    # [G, tile, term, chunk, word, lane]; the offset shares its chunk with the last scale.
    words = words.transpose(0, 1, 4, 2, 5, 3)
    last = form.entries - 1
    alone = words[:, :, :last].reshape(groups, tiling.total_tiles, -1, config.scale_lanes)
    paired = words[:, :, last:].transpose(0, 1, 3, 2, 4, 5)
    paired = paired.reshape(groups, tiling.total_tiles, -1, config.scale_lanes)
    return np.concatenate([alone, paired], axis=2).astype("<u2")


def _codes_section(planes: np.ndarray, form: BlockFormat) -> bytes:
    """The codes of one block, from uint8 [P, places, tiles, N/8]."""
    step = form.config.step
    by_place = planes.transpose(1, 2, 0, 3)  # place, tile, plane, byte
    parts, start = [], 0
    for count, size in form.runs(len(by_place)):
        stop = start + count * size
        runs = by_place[start:stop].reshape(count, size, *by_place.shape[1:])
        full = size - size % step
        steps = runs[:, :full].reshape(count, full // step, step, *by_place.shape[1:])
        rest = runs[:, full:]
        sections = [
            steps.transpose(0, 1, 3, 4, 2, 5).reshape(count, -1),
            rest.transpose(0, 2, 3, 1, 4).reshape(count, -1),
        ]
        parts.append(np.concatenate(sections, axis=1).tobytes())
        start = stop
    return b"".join(parts)


def pack_activations(q: np.ndarray, row_scale: np.ndarray, tiling: Tiling) -> bytes:
    """The activation image: for each row tile its blocks of K, each behind the rows' scales.

    Parameters
    ----------
    q
        int8 or int16 [R, K], of the core's activation type.
    row_scale
        float32 [R], positive and finite.
    tiling
        Blocks, planned for the layer.
    """
    form, config = tiling.format, tiling.format.config
    row_tiles = ceil_div(len(q), config.rows)
    padding = row_tiles * config.rows - len(q)
    tiles = np.zeros((row_tiles * config.rows, form.columns(tiling.places)), q.dtype)
    tiles[: len(q), tiling.padded_columns()] = q
    tiles = tiles.reshape(row_tiles, config.rows, -1)

    header = np.zeros((row_tiles, config.x_header_words * config.x_word_bits // 32), "<u4")
    codes = np.pad(row_scale_encode(row_scale), (0, padding))
    header[:, : config.rows] = codes.reshape(row_tiles, config.rows)
    header_bytes = header.view(np.uint8)

    blocks = []
    for start, stop in tiling.k_blocks():
        words = _activation_words(tiles[:, :, form.columns(start) : form.columns(stop)], form)
        block = np.concatenate([header_bytes, words], axis=1)
        size = x_memory_words(config, form.x_words(stop - start)) * config.x_memory_bytes
        blocks.append(np.pad(block, ((0, 0), (0, size - block.shape[1]))))
    return np.concatenate(blocks, axis=1).tobytes()


def _activation_words(tiles: np.ndarray, form: BlockFormat) -> np.ndarray:
    """Words of one block of K as uint8 [row tile, bytes], from [row tile, M, columns]."""
    config = form.config
    row_tiles, rows, columns = tiles.shape
    per_word = config.x_word_bits // config.activation_bits
    parts, start = [], 0
    for count, places in form.runs(form.places(columns)):
        size = form.columns(places)
        stop = start + count * size
        steps = ceil_div(places, config.step)
        runs = tiles[:, :, start:stop].reshape(row_tiles, rows, count, size)
        runs = np.pad(runs, ((0, 0), (0, 0), (0, 0), (0, steps * form.step_columns - size)))
        runs = runs.reshape(row_tiles, rows, count * steps, config.depth, form.table_columns)
        words = runs.transpose(0, 2, 4, 1, 3).reshape(
            row_tiles, count * steps * form.table_columns, rows * config.depth
        )
        words = np.pad(words, ((0, 0), (0, 0), (0, per_word - rows * config.depth)))
        parts.append(words.reshape(row_tiles, -1))
        start = stop
    words = np.ascontiguousarray(np.concatenate(parts, axis=1))
    return words.astype(words.dtype.newbyteorder("<")).view(np.uint8)
