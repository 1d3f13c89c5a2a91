"""What the cycle model knows before it counts: a layer's shape and its blocks.

Nothing here depends on time. The cuts come from the compiler itself (`plan_tiling` and its nests of
loops), so that the model and the programs cannot drift apart.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lutcore.hw.contract.config import COLUMNS_MAX, CoreConfig, ceil_div
from lutcore.hw.contract.isa import INSTRUCTION_BITS
from lutcore.sw.layers.layer import MAX_BITS, TERNARY_BITS, QuantLayer
from lutcore.sw.program.blocks import BlockFormat, x_memory_words
from lutcore.sw.program.compile import CompileError, _Nests
from lutcore.sw.program.memory import ALIGNMENT
from lutcore.sw.program.pack import encode_scales
from lutcore.sw.program.program import row_stride
from lutcore.sw.program.tiling import plan_tiling

__all__ = ["LayerShape", "Part", "Plan"]

_INSTRUCTION_BYTES = INSTRUCTION_BITS // 8


@dataclass(frozen=True)
class LayerShape:
    """What of a layer decides its cycles; its weights do not.

    Attributes
    ----------
    n, k
        Output channels and columns.
    bits
        Bits, or planes, of a weight.
    group_size
        Columns that share a scale, at most ``k``.
    per_plane
        A scale for each plane.
    offset, wide, bias
        An offset beside the scales; scales of 32 instead of 16 bits; a bias.
    ternary
        Weights of -1, 0 and +1; then ``bits`` and ``per_plane`` do not matter.

    Raises
    ------
    CompileError
        If a number is out of range.
    """

    n: int
    k: int
    bits: int
    group_size: int
    per_plane: bool = False
    offset: bool = False
    wide: bool = False
    bias: bool = False
    ternary: bool = False

    def __post_init__(self) -> None:
        limits = {"n": COLUMNS_MAX, "k": COLUMNS_MAX, "bits": MAX_BITS, "group_size": self.k}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 1 <= value <= limit:
                raise CompileError(f"{name} must be in 1..{limit}, not {value}")

    @classmethod
    def of(cls, layer: QuantLayer) -> "LayerShape":
        """The shape of a layer; raises `LayerError` if its scales cannot be stored exactly."""
        return cls(
            n=layer.n,
            k=layer.k,
            bits=layer.bits,
            group_size=layer.group_size,
            per_plane=layer.kind == "planes",
            offset=layer.offsets is not None,
            wide=encode_scales(layer).wide,
            bias=layer.bias is not None,
            ternary=layer.kind == "ternary",
        )

    def block_format(self, config: CoreConfig) -> BlockFormat:
        """How the compiler lays the layer out for a core.

        Raises
        ------
        CompileError
            If it would refuse the layer.
        """
        kind, bits = ("planes" if self.per_plane else "affine"), self.bits
        if self.ternary and config.ternary:
            kind = "ternary"
        elif self.ternary:
            # As `as_binary` has it.
            kind, bits = ("planes" if self.offset else "affine"), TERNARY_BITS
        if kind != "ternary" and bits > config.planes:
            raise CompileError(
                f"{bits} bits, but the core has {config.planes} planes: take a configuration that "
                f"has planes >= {bits}"
            )
        return BlockFormat.for_layer(
            config,
            kind=kind,
            bits=bits,
            offset=self.offset,
            wide=self.wide,
            group_size=self.group_size,
        )


@dataclass(frozen=True)
class Part:
    """One block of K.

    Attributes
    ----------
    size
        Its places.
    opens, closes
        It holds the beginning, or the end, of a group (true of blocks of whole groups).
    inner
        Loops over K inside the one that advances after it.
    steps
        Array steps of each of its runs.
    """

    size: int
    opens: bool
    closes: bool
    inner: int
    steps: tuple[int, ...]


class Plan:
    """A layer cut into blocks for a number of rows, and where things lie in memory.

    Attributes
    ----------
    row_tiles, last_rows
        Row tiles, and rows of the last one.
    row_chunk, chunks
        Row tiles that share a pass over the weights of a block of tiles, and how many passes.
    resident
        Whether all activations stay on chip.
    blocks
        Blocks of tiles.
    parts
        Blocks of K.
    loops
        Loops of LDX, LDW, MMA and STY.
    instructions
        Length of the program.
    """

    def __init__(self, config: CoreConfig, shape: LayerShape, rows: int) -> None:
        if rows < 1:
            raise CompileError(f"rows must be at least 1, not {rows}")
        self.config, self.shape, self.rows = config, shape, rows
        self.form = shape.block_format(config)
        self.tiling = plan_tiling(self.form, shape.n, shape.k, shape.group_size)
        self.row_tiles = ceil_div(rows, config.rows)
        self.last_rows = rows - (self.row_tiles - 1) * config.rows
        nests = _Nests(self.tiling, self.row_tiles)
        self.row_chunk, self.resident = nests.row_chunk, nests.resident
        self.row_tile_words = nests.row_tile_words
        self.chunks = ceil_div(self.row_tiles, self.row_chunk)
        self.whole = self.tiling.whole_k
        self.blocks = self.tiling.blocks
        self.parts = self._parts()
        units = (nests.ldx(), nests.ldw(), nests.mma(), nests.sty())
        self.loops = tuple(len(words) - 1 for words in units)
        # A TOKEN for each buffer, LAYER, the units with their loops, END.
        self.tokens = 4 if shape.bias else 3
        self.instructions = self.tokens + 1 + sum(map(len, units)) + 1

    def _parts(self) -> tuple[Part, ...]:
        form, ranges, parts = self.form, list(self.tiling.k_blocks()), []
        for start, stop in ranges:
            closes = stop % form.group_size == 0 or stop == ranges[-1][1]
            steps = []
            for count, size in form.runs(stop - start):
                steps += [ceil_div(size, self.config.step)] * count
            parts.append(
                Part(
                    size=stop - start,
                    opens=start % form.group_size == 0,
                    closes=closes,
                    inner=int(closes and self.tiling.splits_groups),
                    steps=tuple(steps),
                )
            )
        return tuple(parts)

    def tiles(self, block: int) -> int:
        """Tiles of a block of tiles."""
        return min(self.tiling.tiles, self.tiling.total_tiles - block * self.tiling.tiles)

    def channels(self, block: int) -> int:
        """Channels of a block of tiles."""
        lanes = self.config.lanes
        return min(self.tiles(block) * lanes, self.shape.n - block * self.tiling.tiles * lanes)

    def tile_rows(self, row_tile: int) -> int:
        """Rows of a row tile."""
        return self.last_rows if row_tile == self.row_tiles - 1 else self.config.rows

    def chunk_tiles(self, chunk: int) -> int:
        """Row tiles of a chunk."""
        return min(self.row_chunk, self.row_tiles - chunk * self.row_chunk)

    @property
    def k_loops(self) -> int:
        """Loops over K."""
        return 2 if self.tiling.splits_groups else 1

    def inner_after(self, chunk: int, part: int, row: int) -> int:
        """Loops of MMA inside the one that advances after a body (of LDX, too, if it streams)."""
        rows = int(not self.whole)
        if row < self.chunk_tiles(chunk) - 1:
            return 0
        if part < len(self.parts) - 1:
            return self.parts[part].inner + rows
        return self.k_loops + rows + (chunk == self.chunks - 1)

    # Beats.

    def beats(self, size: int) -> int:
        """Beats of a section of `size` bytes."""
        return ceil_div(size, self.config.beat_bytes)

    def section_beats(self, tiles: int, part: int) -> tuple[int, int]:
        """Beats of bias and scales together, and of codes, in a block of weights."""
        form, block = self.form, self.parts[part]
        before = 0
        if self.shape.bias and part == 0:
            before += self.beats(form.bias_bytes(tiles))
        if block.opens:
            before += self.beats(form.scale_bytes(tiles, block.size))
        return before, self.beats(form.code_bytes(tiles, block.size))

    def step_places(self, part: int) -> np.ndarray:
        """Places of each array step of a block of K."""
        step, places = self.config.step, []
        for count, size in self.form.runs(self.parts[part].size):
            full, rest = divmod(size, step)
            places += ([step] * full + [rest] * (rest > 0)) * count
        return np.array(places)

    @cached_property
    def x_words(self) -> tuple[int, ...]:
        """Memory words of each block of K's activations."""
        config, form = self.config, self.form
        return tuple(x_memory_words(config, form.x_words(part.size)) for part in self.parts)

    @cached_property
    def x_beats(self) -> int:
        """Beats of a memory word of activations."""
        return self.config.x_memory_bytes // self.config.beat_bytes

    @cached_property
    def bases(self) -> tuple[int, int, int]:
        """Addresses of weights, activations and results, as `MemoryMap` lays them out."""
        weights = _aligned(self.instructions * _INSTRUCTION_BYTES)
        activations = weights + _aligned(self.tiling.image_bytes(bias=self.shape.bias))
        x_bytes = self.row_tiles * self.row_tile_words * self.config.x_memory_bytes
        return weights, activations, activations + _aligned(x_bytes)

    @property
    def program_beats(self) -> int:
        """Beats of the program."""
        return self.beats(self.instructions * _INSTRUCTION_BYTES)

    @property
    def row_stride(self) -> int:
        """Bytes from one row of results to the next."""
        return row_stride(self.shape.n)


def _aligned(size: int) -> int:
    return ceil_div(size, ALIGNMENT) * ALIGNMENT
