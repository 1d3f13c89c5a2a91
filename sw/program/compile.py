"""From a quantised layer to a program: blocks, weight image, instructions."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from lutcore.hw.contract.config import COLUMNS_MAX, CoreConfig, ceil_div
from lutcore.hw.contract.isa import INSTRUCTIONS, Axis, Opcode, Token, Unit, encode
from lutcore.sw.base.errors import LayerError, LutcoreError
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.blocks import BlockFormat, x_memory_words
from lutcore.sw.program.pack import encode_scales, pack_weights
from lutcore.sw.program.program import Program, row_stride
from lutcore.sw.program.tiling import Tiling, plan_tiling

__all__ = ["CompileError", "as_binary", "compile_layer"]

#: Bytes that a region may have: its size is a 32-bit register.
_REGION_MAX = 2**32 - 1
_EXTENT_MAX = next(f for f in INSTRUCTIONS[Opcode.LOOP].fields if f.name == "total").limits[1]


class CompileError(LutcoreError, ValueError):
    """A layer that this core does not compute; the message names the value and the remedy."""


def compile_layer(layer: QuantLayer, config: CoreConfig, rows: int) -> Program:
    """Compile a layer for a number of rows.

    Parameters
    ----------
    layer
        The weights.
    config
        The core.
    rows
        Rows of activations, at least 1. The weight image does not depend on it.

    Raises
    ------
    CompileError
        If the layer is too large for any core, or needs more planes than this one has.
    LayerError
        If its scales cannot be stored exactly.
    """
    _check_limits(layer, config, rows)
    if layer.kind == "ternary" and not config.ternary:
        layer = as_binary(layer)
    scales = encode_scales(layer)
    form = BlockFormat.for_layer(
        config,
        kind=layer.kind,
        bits=layer.bits,
        offset=layer.offsets is not None,
        wide=scales.wide,
        group_size=layer.group_size,
    )
    tiling = plan_tiling(form, layer.n, layer.k, layer.group_size)
    size = tiling.image_bytes(bias=layer.bias is not None)
    if size > _REGION_MAX:
        raise CompileError(
            f"Layer {layer.name!r}: its weight image would have {size} bytes, more than a region's "
            f"{_REGION_MAX}: split it along N"
        )
    nests = _Nests(tiling, ceil_div(rows, config.rows))
    tokens = [Token.W_FREE, Token.S_FREE, Token.X_FREE]
    if layer.bias is not None:
        tokens.append(Token.B_FREE)
    instructions = [encode(Opcode.TOKEN, counter=token, count=2) for token in tokens]
    instructions.append(
        encode(
            Opcode.LAYER,
            planes=form.planes,
            per_plane=form.per_plane,
            ternary=form.ternary,
            offset=form.offset,
            wide=form.wide,
            bias=layer.bias is not None,
            group_size=form.group_size,
            exponent=scales.exponent,
            last_lanes=layer.n - (tiling.total_tiles - 1) * config.lanes,
            last_rows=rows - (nests.row_tiles - 1) * config.rows,
            row_stride=row_stride(layer.n),
        )
    )
    # Activations first: they are small, and everything waits for them.
    instructions += nests.ldx() + nests.ldw() + nests.mma() + nests.sty()
    instructions.append(encode(Opcode.END))
    return Program(
        tiling=tiling,
        name=layer.name,
        rows=rows,
        bias=layer.bias is not None,
        checkpoint_bytes=layer.checkpoint_bytes,
        instructions=tuple(instructions),
        image=pack_weights(layer, scales, tiling),
    )


def as_binary(layer: QuantLayer) -> QuantLayer:
    """A ternary layer as one of two bits, which every core with two planes computes.

    Without offsets the affine code t + 2 is the same weight with the same scale. With them, two
    planes need half of each scale.

    Raises
    ------
    LayerError
        If there are offsets and half of a scale is no float32.
    """
    if layer.offsets is None:
        codes = (layer.codes + 2).astype(np.uint8)
        return dataclasses.replace(layer, kind="affine", codes=codes)
    planes = np.stack([np.where(layer.codes >= 0, 1, -1), np.where(layer.codes > 0, 1, -1)])
    for dtype in (layer.scales.dtype.type, np.float32):
        scales = layer.scales.astype(dtype)
        half = scales / dtype(2)
        wrong = half * dtype(2) != scales
        if not wrong.any():
            return dataclasses.replace(
                layer,
                kind="planes",
                codes=planes.astype(np.int8),
                scales=np.stack([half, half], axis=-1),
            )
    raise LayerError(
        f"Layer {layer.name!r}: half of the scale {layer.scales[wrong][0]:.2g} is no float32: "
        "compile it with a --config that has ternary = true"
    )


def _check_limits(layer: QuantLayer, config: CoreConfig, rows: int) -> None:
    name = f"Layer {layer.name!r}"
    for axis, size in (("channels", layer.n), ("columns", layer.k)):
        if size > COLUMNS_MAX:
            raise CompileError(
                f"{name}: {size} {axis} are more than {COLUMNS_MAX}, for which sums are exact: "
                "split the layer"
            )
    native = layer.kind == "ternary" and config.ternary
    if layer.bits > config.planes and not native:
        raise CompileError(
            f"{name}: {layer.bits} bits, but the core has {config.planes} planes: compile with a "
            f"--config that has planes >= {layer.bits}"
        )
    limit = _EXTENT_MAX * config.rows
    if not 1 <= rows <= limit:
        raise CompileError(f"{name}: rows must be in 1..{limit}, not {rows}")
    if rows * row_stride(layer.n) > _REGION_MAX:
        raise CompileError(
            f"{name}: the results of {rows} rows do not fit a region of {_REGION_MAX} bytes: "
            "run it on fewer rows at a time"
        )


@dataclass
class _Nest:
    """The loops of one instruction, outermost first."""

    unit: Unit
    words: list[int] = field(default_factory=list)

    def loop(self, axis: Axis, total: int, step: int, stride: int | None = 0) -> None:
        """Add a loop; `stride` None means: go on where the last body ended."""
        self.words.append(
            encode(
                Opcode.LOOP,
                unit=self.unit,
                axis=axis,
                auto=stride is None,
                total=total,
                step=step,
                stride=stride or 0,
            )
        )

    def instruction(self, **fields: int) -> list[int]:
        """The loops and the instruction that carries them."""
        return [*self.words, encode(Opcode[self.unit.name], **fields)]


class _Nests:
    """The loops of the four units for one layer.

    With all of K in one block: for each block of tiles, for each row tile. Otherwise: for each
    block of tiles, for each chunk of row tiles whose sums fit on chip, for each block of K (by
    group and then by piece, where a group does not fit), for each row tile of the chunk.

    Attributes
    ----------
    row_tiles
        Row tiles.
    row_chunk
        Row tiles that share one pass over the weights of a block of tiles.
    resident
        Whether the activations of all row tiles stay in one slot of their buffer.
    """

    def __init__(self, tiling: Tiling, row_tiles: int) -> None:
        self.tiling = tiling
        self.config = tiling.format.config
        self.row_tiles = row_tiles
        if tiling.whole_k:
            self.row_chunk = 1
        else:
            sums = tiling.tiles * self.config.chunks * self.config.rows
            chunks = ceil_div(row_tiles, self.config.sum_words // sums)
            self.row_chunk = ceil_div(row_tiles, chunks)
        self.row_tile_words = tiling.row_tile_memory_words()
        self.resident = row_tiles * self.row_tile_words <= self.config.x_slot_words

    def _k_steps(self) -> list[int]:
        """Places in the first block of each loop over K, outermost first."""
        block = next(stop for _, stop in self.tiling.k_blocks())
        return [self.tiling.format.group_size, block] if self.tiling.splits_groups else [block]

    def _blocks(self, places: int) -> list[int]:
        """Places of the blocks that the first `places` places of the layer are cut into."""
        return [stop - start for start, stop in self.tiling.k_blocks() if start < places]

    def _x_words(self, places: int) -> int:
        """Activation words for the first `places` places, headers included."""
        return sum(self.tiling.format.x_words(size) for size in self._blocks(places))

    def _x_memory_words(self, places: int) -> int:
        """The same in memory words, which is the distance to the block after them."""
        return sum(
            x_memory_words(self.config, self.tiling.format.x_words(size))
            for size in self._blocks(places)
        )

    def ldx(self) -> list[int]:
        """Load each block once (resident), or as often as MMA comes to it, in its order."""
        nest = _Nest(Unit.LDX)
        total = self._x_words(self.tiling.places)
        memory_bytes = self.config.x_memory_bytes
        row_stride = self.row_tile_words * memory_bytes
        if self.resident:
            nest.loop(Axis.R, self.row_tiles, 1, None)
            for places in self._k_steps():
                nest.loop(Axis.K, total, self._x_words(places), None)
            return nest.instruction(base=0, level=0)
        nest.loop(Axis.N, self.tiling.total_tiles, self.tiling.tiles, 0)
        if not self.tiling.whole_k:
            nest.loop(Axis.R, self.row_tiles, self.row_chunk, self.row_chunk * row_stride)
            for places in self._k_steps():
                stride = self._x_memory_words(places) * memory_bytes
                nest.loop(Axis.K, total, self._x_words(places), stride)
        nest.loop(Axis.R, self.row_tiles, 1, row_stride)
        if self.tiling.whole_k:
            nest.loop(Axis.K, total, total)
        return nest.instruction(base=0, level=len(nest.words))

    def ldw(self) -> list[int]:
        """Load the image from start to end, the blocks of a tile block again for each row chunk."""
        nest = _Nest(Unit.LDW)
        nest.loop(Axis.N, self.tiling.total_tiles, self.tiling.tiles, None)
        if not self.tiling.whole_k:
            nest.loop(Axis.R, self.row_tiles, self.row_chunk, 0)
        bias_level = len(nest.words)
        for places in self._k_steps():
            nest.loop(Axis.K, self.tiling.places, places, None)
        # Scales come with the first piece of a group; where groups are whole, with each block.
        scale_level = bias_level + 1
        return nest.instruction(base=0, scale_level=scale_level, bias_level=bias_level)

    def mma(self) -> list[int]:
        """Multiply; weights are held across row tiles."""
        nest = _Nest(Unit.MMA)
        strides = [0, 0]
        if self.resident:
            strides = [self.row_tile_words, self.row_chunk * self.row_tile_words]
        nest.loop(Axis.N, self.tiling.total_tiles, self.tiling.tiles)
        nest.loop(Axis.R, self.row_tiles, self.row_chunk, strides[1])
        sum_level = len(nest.words)
        for places in self._k_steps():
            stride = self._x_memory_words(places) if self.resident else 0
            nest.loop(Axis.K, self.tiling.places, places, stride)
        if self.tiling.whole_k:
            weight_level = scale_level = 1
        else:
            weight_level, scale_level = len(nest.words), sum_level + 1
            nest.loop(Axis.R, self.row_tiles, 1, strides[0])
        return nest.instruction(
            w_level=weight_level,
            s_level=scale_level,
            x_level=0 if self.resident else len(nest.words),
            t_level=sum_level,
        )

    def sty(self) -> list[int]:
        """Store the results in the order in which they are finished."""
        nest = _Nest(Unit.STY)
        block_bytes = self.tiling.tiles * self.config.lanes * 4
        nest.loop(Axis.N, self.tiling.total_tiles, self.tiling.tiles, block_bytes)
        nest.loop(Axis.R, self.row_tiles, 1, self.config.rows * row_stride(self.tiling.n))
        return nest.instruction(base=0)
