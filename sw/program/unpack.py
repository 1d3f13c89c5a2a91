"""The layer inside a program and its activations, recovered from their images.

What the golden model needs to judge a program file for which the checkpoint is not at hand. The
images' layouts are read from ``docs/architecture.md`` anew; nothing here is shared with the packer.
"""

from collections.abc import Iterator

import numpy as np

from lutcore.hw.contract.float32 import row_scale_decode
from lutcore.hw.contract.isa import Opcode, decode
from lutcore.hw.contract.ternary import INDEX_BITS, triples
from lutcore.sw.base.errors import ActivationError, LayerError
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.program import Program

__all__ = ["unpack_activations", "unpack_layer"]


class _Image:
    """Reads an image's sections one after the other, each of whole beats."""

    def __init__(self, program: Program) -> None:
        self._bytes = np.frombuffer(program.image, np.uint8)
        self._beat = program.config.beat_bytes
        self._position = 0

    def section(self, size: int) -> np.ndarray:
        start = self._position
        self._position += -(-size // self._beat) * self._beat
        return self._bytes[start : start + size]


def unpack_layer(program: Program) -> QuantLayer:
    """Decode the weight image of a program into codes, scales, offsets and bias.

    Every value is the checkpoint's own, but for the sign of a zero scale; scales are float16 or
    float32 as the image stores them.

    Parameters
    ----------
    program : Program
        Its LAYER instruction gives the exponent of 32-bit scales.

    Raises
    ------
    LayerError
        If the image holds values that no layer has, such as a scale that is not finite.
    """
    form, tiling = program.tiling.format, program.tiling
    lanes = form.config.lanes
    channels = tiling.total_tiles * lanes
    groups = form.groups(tiling.places)
    bits = np.zeros((form.planes, channels, tiling.places), np.uint8)
    terms = np.zeros((groups, channels, form.entries + form.offset))
    bias = np.zeros(channels, np.float32)

    image = _Image(program)
    exponent = _exponent(program)
    for first, last in tiling.tile_blocks():
        block = slice(first * lanes, last * lanes)
        for start, stop in tiling.k_blocks():
            if program.bias and start == 0:
                bias[block] = image.section((last - first) * lanes * 4).view("<f4")
            if start % form.group_size == 0:
                count = -(-(stop - start) // form.group_size)
                lines = image.section(form.scale_bytes(last - first, stop - start)).view("<u2")
                begin = start // form.group_size
                terms[begin : begin + count, block] = _terms(
                    lines.reshape(count, last - first, -1, form.config.scale_lanes),
                    program,
                    exponent,
                )
            section = np.unpackbits(
                image.section(form.code_bytes(last - first, stop - start)), bitorder="little"
            )
            position = 0
            for place, width in _steps(start, stop, form.group_size, form.config.step):
                size = form.planes * (last - first) * width * lanes
                step = section[position : position + size]
                position += size
                step = step.reshape(last - first, form.planes, width, lanes)
                plain = _without_signs(step, program) if form.config.symmetric else step
                bits[:, block, place : place + width] = plain.transpose(1, 0, 3, 2).reshape(
                    form.planes, -1, width
                )

    dtype = np.float32 if form.wide else np.float16
    values = terms[:, : program.n].transpose(1, 0, 2).astype(dtype)
    bits = bits[:, : program.n]
    if form.ternary:
        codes, scales = _trits(bits[0], program), values[:, :, 0]
    elif form.per_plane:
        codes, scales = bits.astype(np.int8) * 2 - 1, values[:, :, : form.planes]
    else:
        weights = (1 << np.arange(form.planes)[::-1]).astype(np.uint8)
        codes, scales = np.einsum("pnk,p->nk", bits, weights, dtype=np.uint8), values[:, :, 0]
    return QuantLayer(
        name=program.name,
        kind=program.kind,
        bits=program.bits,
        codes=codes,
        group_size=min(program.group_size, program.k),
        scales=scales,
        offsets=values[:, :, -1] if form.offset else None,
        bias=bias[: program.n] if program.bias else None,
        checkpoint_bytes=program.checkpoint_bytes,
    )


def unpack_activations(program: Program, image: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Decode the activation image of a program.

    Parameters
    ----------
    program : Program
        Tells the layout.
    image : bytes
        `Program.x_bytes` of them.

    Returns
    -------
    q : ndarray
        int8 or int16 [rows, K].
    row_scale : ndarray
        float32 [rows].

    Raises
    ------
    ActivationError
        If a row's scale is not the code of a float32 number.
    """
    form, tiling = program.tiling.format, program.tiling
    config = form.config
    row_tiles, size = program.row_tiles, config.activation_bits // 8
    tiles = np.frombuffer(image, np.uint8).reshape(row_tiles, -1)
    codes = np.ascontiguousarray(tiles[:, : 4 * config.rows]).view("<u4")
    try:
        scale = row_scale_decode(codes.reshape(-1)[: program.rows])
    except ValueError as error:
        raise ActivationError(f"Activations of {program.name!r}: {error}") from None

    q = np.zeros((row_tiles, config.rows, form.columns(tiling.places)), config.activation)
    width, used = config.x_word_bits // 8, config.rows * config.depth * size
    position = 0
    for start, stop in tiling.k_blocks():
        at = position + config.x_header_words * width
        for place, places in _steps(start, stop, form.group_size, config.step):
            step = tiles[:, at : at + form.table_columns * width]
            at += form.table_columns * width
            words = step.reshape(row_tiles, form.table_columns, width)[:, :, :used]
            values = np.ascontiguousarray(words).view(f"<i{size}")
            values = values.reshape(row_tiles, form.table_columns, config.rows, config.depth)
            values = values.transpose(0, 2, 3, 1).reshape(row_tiles, config.rows, -1)
            first, count = form.columns(place), form.columns(places)
            q[:, :, first : first + count] = values[:, :, :count]
        position += -(-(at - position) // config.x_memory_bytes) * config.x_memory_bytes
    q = q.reshape(row_tiles * config.rows, -1)[: program.rows]
    return q[:, tiling.padded_columns()], scale


def _exponent(program: Program) -> int:
    for word in program.instructions:
        instruction, fields = decode(word)
        if instruction.opcode == Opcode.LAYER:
            return fields["exponent"]
    return 0


def _steps(start: int, stop: int, group_size: int, step: int) -> Iterator[tuple[int, int]]:
    """First place and width of each step of a block; none reaches into the next run."""
    for run in range(start, stop, group_size):
        end = min(run + group_size, stop)
        for place in range(run, end, step):
            yield place, min(step, end - place)


def _without_signs(step: np.ndarray, program: Program) -> np.ndarray:
    """Undo the symmetric coding of uint8 [tile, plane, place, lane].

    The top bit of an index, in halved tables relative to another table's, is its sign, which
    inverts the others of ±1 weights.
    """
    config = program.config
    width = step.shape[2]
    full = np.zeros((*step.shape[:2], config.step, step.shape[3]), np.uint8)
    full[:, :, :width] = step
    index = full.reshape(*step.shape[:2], config.depth, config.group, -1)
    for table in range(1, config.depth if config.halved else 1):
        index[:, :, table, -1] ^= index[:, :, table & table - 1, -1]
    if not program.tiling.format.ternary:
        index[:, :, :, :-1] ^= index[:, :, :, -1:]
    return full[:, :, :width]


def _trits(bits: np.ndarray, program: Program) -> np.ndarray:
    """Ternary codes int8 [N, K] of index bits uint8 [N, places]."""
    index = bits.reshape(len(bits), -1, INDEX_BITS)
    entry = index[..., :-1] @ (1 << np.arange(INDEX_BITS - 1, dtype=np.uint8))
    known = np.array(triples(), np.int8)
    if (entry >= len(known)).any():
        raise LayerError(
            f"Layer {program.name!r}: its weight image holds the ternary index {entry.max()}, "
            f"where 0 to {len(known) - 1} exist: compile it again"
        )
    trits = known[entry] * (1 - 2 * index[..., -1:].astype(np.int8))
    return trits.reshape(len(bits), -1)[:, program.tiling.padded_columns()]


def _terms(lines: np.ndarray, program: Program, exponent: int) -> np.ndarray:
    """Values float64 [group, channel, term] of uint16 lines [group, tile, line, S]."""
    form = program.tiling.format
    groups, tiles, _, width = lines.shape
    result = np.empty((groups, tiles, form.config.lanes, form.entries + form.offset))
    words = 2 if form.wide else 1
    line = 0
    for entry in range(form.entries):
        last = entry == form.entries - 1
        for chunk in range(form.config.chunks):
            channels = slice(chunk * width, (chunk + 1) * width)
            for term in [entry, form.entries] if last and form.offset else [entry]:
                stored = lines[:, :, line : line + words]
                line += words
                result[:, :, channels, term] = _values(stored, exponent)
    return result.reshape(groups, -1, form.entries + form.offset)


def _values(stored: np.ndarray, exponent: int) -> np.ndarray:
    """Float64 values of one term: float16, or high and low halves in units of 2^exponent."""
    if stored.shape[2] == 1:
        return stored[:, :, 0].view("<f2").astype(np.float64)
    high, low = stored[:, :, 0].astype(np.int64), stored[:, :, 1].astype(np.int64)
    significand = (high & 0xFF) << 16 | low
    shift = high >> 8 & 0x1F
    sign = 1 - 2 * (high >> 15)
    return np.ldexp((sign * significand).astype(np.float64), shift + exponent)
