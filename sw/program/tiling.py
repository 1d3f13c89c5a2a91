"""How a layer is cut into the blocks that the core's buffers hold.

The choice depends on the layer and the configuration alone, never on the number of rows, so that
programs for any number of rows share one weight image.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lutcore.hw.contract.config import ceil_div
from lutcore.sw.program.blocks import BlockFormat, x_memory_words

__all__ = ["Tiling", "plan_tiling"]

# A block of tiles may lose this much to ragged or narrow blocks before a larger one is taken.
_TOLERANCE = 1.02
# Sections are padded to whole beats. Blocks that this makes larger than the content times this are
# avoided: an image should not exceed the checkpoint's bytes by 2 %.
_PADDING = 1.005
# Activations should take no more than this share of the bus while they are streamed.
_X_SHARE = 0.75


@dataclass(frozen=True)
class Tiling:
    """The blocks of a layer.

    Attributes
    ----------
    format
        Sizes that follow from the layer's kind and the core.
    n, k
        Output channels and columns.
    group_columns
        Columns that share a scale.
    tiles
        Output tiles (of ``lanes`` channels) in one block; the last block may have fewer.
    chunk
        Columns in one block: whole groups, or, if less than ``group_columns``, whole steps of one
        group. The last block of K, or of a group, may have fewer.

    Raises
    ------
    ValueError
        If groups of so many columns are not those of the format.
    """

    format: BlockFormat
    n: int
    k: int
    group_columns: int
    tiles: int
    chunk: int

    def __post_init__(self) -> None:
        if self.format.places(self.group_columns) != self.format.group_size:
            raise ValueError(
                f"groups of {self.group_columns} columns do not have {self.format.group_size} "
                "places"
            )

    @property
    def places(self) -> int:
        """Places of all columns."""
        return self._places(self.k)

    def _places(self, columns: int) -> int:
        groups, rest = divmod(columns, self.group_columns)
        return groups * self.format.group_size + self.format.places(rest)

    def padded_columns(self) -> np.ndarray:
        """Where each column lies when every group is padded to whole tables."""
        group, within = np.divmod(np.arange(self.k), self.group_columns)
        return group * self.format.columns(self.format.group_size) + within

    @property
    def total_tiles(self) -> int:
        """Output tiles of the layer."""
        return ceil_div(self.n, self.format.config.lanes)

    @property
    def blocks(self) -> int:
        """Blocks of tiles."""
        return ceil_div(self.total_tiles, self.tiles)

    @property
    def splits_groups(self) -> bool:
        """Whether a block of columns is a piece of one group."""
        return self.chunk < min(self.group_columns, self.k)

    @property
    def whole_k(self) -> bool:
        """Whether all columns are in one block."""
        return self.chunk >= self.k

    @property
    def step_fill(self) -> float:
        """Columns over those for which the array's steps have room, at most 1."""
        return self.k / (self.format.steps(self.places) * self.format.step_columns)

    def tile_blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of tiles, one for each block."""
        for start in range(0, self.total_tiles, self.tiles):
            yield start, min(start + self.tiles, self.total_tiles)

    def k_blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of places, one for each block."""
        total, chunk = self.places, self._places(self.chunk)
        outer = self.format.group_size if self.splits_groups else chunk
        for start in range(0, total, outer):
            stop = min(start + outer, total)
            for first in range(start, stop, chunk):
                yield first, min(first + chunk, stop)

    @property
    def content_bytes(self) -> int:
        """Bytes of codes and scales, those of the last tile's missing channels included."""
        form, tiles, places = self.format, self.total_tiles, self.places
        return form.code_bytes(tiles, places) + form.scale_bytes(tiles, places)

    def image_bytes(self, *, bias: bool) -> int:
        """Bytes of the weight image, by counting."""
        form, total = self.format, 0
        last = self.total_tiles - (self.blocks - 1) * self.tiles
        for n, times in ((self.tiles, self.blocks - 1), (last, 1)):
            block = form.padded(form.bias_bytes(n)) if bias else 0
            for start, stop in self.k_blocks():
                block += form.padded(form.code_bytes(n, stop - start))
                if start % form.group_size == 0:
                    block += form.padded(form.scale_bytes(n, stop - start))
            total += times * block
        return total

    def row_tile_memory_words(self) -> int:
        """Memory words of the activations of one row tile."""
        config = self.format.config
        return sum(
            x_memory_words(config, self.format.x_words(stop - start))
            for start, stop in self.k_blocks()
        )


def plan_tiling(form: BlockFormat, n: int, k: int, group_columns: int) -> Tiling:
    """Choose the blocks of a layer of n channels and k columns in groups of `group_columns`.

    The block of tiles is as small as hides the fill of the tables (and the streaming of
    activations) behind the lookups of all planes of its tiles, because the first block's load is
    hidden by nothing and K needs the room; larger only where that saves padding. The columns are as
    many as fit, balanced.

    Every layer with no more planes than the core fits: `CoreConfig` guarantees room for one step
    and one group's scales of a tile.
    """
    config = form.config
    total = ceil_div(n, config.lanes)
    limit = min(
        total,
        config.tiles // form.entries,
        config.weight_words // form.planes,
        config.scale_words // form.lines_per_tile,
        config.sum_words // config.tile_sums,
        config.bias_words // config.lanes,
    )
    x_cycles = form.table_columns * config.x_word_bits / config.bus_width
    hidden = max(form.table_entries + 2, x_cycles / _X_SHARE)

    def cost(tiles: int) -> float:
        full, rest = divmod(total, tiles)
        last = max(rest * form.planes, hidden) if rest else 0
        return full * max(tiles * form.planes, hidden) + last

    enough = _TOLERANCE * min(cost(tiles) for tiles in range(1, limit + 1))
    candidates = [tiles for tiles in range(1, limit + 1) if cost(tiles) <= enough]
    best, least = None, 0
    for tiles in candidates:
        chunk = _plan_chunk(form, k, group_columns, tiles)
        tiling = Tiling(form, n, k, group_columns, tiles, chunk)
        size = tiling.image_bytes(bias=False)
        if best is None or size < least:
            best, least = tiling, size
        if least <= _PADDING * tiling.content_bytes:
            break
    assert best is not None
    return best


def _plan_chunk(form: BlockFormat, k: int, group_columns: int, tiles: int) -> int:
    """Columns of a block."""
    config = form.config
    size = form.group_size
    x_words = config.x_slot_words * config.x_items
    # The room in steps: words of weights, and activations behind their header.
    room = min(
        config.weight_words // (tiles * form.planes),
        (x_words - config.x_header_words) // form.table_columns,
    )
    group_steps = ceil_div(size, config.step)
    if group_steps <= room and size <= config.run:
        fitting = min(room // group_steps, config.scale_words // (tiles * form.lines_per_tile))
        groups = ceil_div(k, group_columns)
        return min(ceil_div(groups, ceil_div(groups, fitting)) * group_columns, k)
    fitting = min(room, config.run // config.step)
    return ceil_div(group_steps, ceil_div(group_steps, fitting)) * form.step_columns
