"""Sizes of what the core's buffers hold: blocks of weights, of scales and of activations.

The packer, the compiler and the instruction-set simulator all count with these; the layouts
themselves are described in ``docs/architecture.md``.
"""

from dataclasses import dataclass

from lutcore.hw.contract import ternary
from lutcore.hw.contract.config import CoreConfig, ceil_div

__all__ = ["BlockFormat", "x_memory_words"]


def x_memory_words(config: CoreConfig, words: int) -> int:
    """Memory words that a block of `words` activation words takes, header included."""
    return ceil_div(words, config.x_items)


@dataclass(frozen=True)
class BlockFormat:
    """What the numbers of a layer (the LAYER instruction) make of a block of n tiles, k places.

    A *place* of K is one bit of a lane's indices. It stands for a column, except where the weights
    are ternary: there a table has five places and three columns, and a run ends with a table.

    Attributes
    ----------
    config
        The core.
    planes
        P, bit-planes.
    per_plane, offset, wide
        A scale for each plane; an offset beside the scales; scales of 32 instead of 16 bits.
    group_size
        Places that share a scale, which are the longest run within a block.
    ternary
        Ternary weights, three to an index.

    Raises
    ------
    ValueError
        Ternary weights on a core without tables for them.
    """

    config: CoreConfig
    planes: int
    per_plane: bool
    offset: bool
    wide: bool
    group_size: int
    ternary: bool = False

    def __post_init__(self) -> None:
        if self.ternary and not self.config.ternary:
            raise ValueError("ternary weights need a core with ternary = true")

    @classmethod
    def for_layer(
        cls, config: CoreConfig, *, kind: str, bits: int, offset: bool, wide: bool, group_size: int
    ) -> "BlockFormat":
        """The format of a layer of a kind (see `QuantLayer`), in groups of so many columns."""
        is_ternary = kind == "ternary"
        return cls(
            config,
            planes=1 if is_ternary else bits,
            per_plane=kind != "affine",
            offset=offset,
            wide=wide,
            group_size=_ternary_places(group_size) if is_ternary else group_size,
            ternary=is_ternary,
        )

    @property
    def table_columns(self) -> int:
        """Columns of a table; also the activation words of a step."""
        return ternary.GROUP if self.ternary else self.config.group

    @property
    def table_entries(self) -> int:
        """Stored entries of a table, and the cycles that filling it takes."""
        return ternary.ENTRIES if self.ternary else self.config.entries

    @property
    def step_columns(self) -> int:
        """Columns of an array step."""
        return self.config.depth * self.table_columns

    def places(self, columns: int) -> int:
        """Places of a number of columns from the start of a run."""
        return _ternary_places(columns) if self.ternary else columns

    def columns(self, places: int) -> int:
        """Columns of whole tables' places, those that pad the last table of a run included."""
        return places // ternary.INDEX_BITS * ternary.GROUP if self.ternary else places

    @property
    def entries(self) -> int:
        """Accumulators, and so scales, of a tile."""
        return self.planes if self.per_plane else 1

    @property
    def lines_per_tile(self) -> int:
        """Scale lines of one tile and one group."""
        return (self.entries + self.offset) * self.config.chunks * (2 if self.wide else 1)

    def groups(self, k: int) -> int:
        """Groups that k places from the start of a group touch; as many runs."""
        return ceil_div(k, self.group_size)

    def runs(self, k: int) -> list[tuple[int, int]]:
        """The runs of a block as (how many, places each), full ones first."""
        full, rest = divmod(k, self.group_size)
        return [
            (count, size) for count, size in ((full, self.group_size), (1, rest)) if count * size
        ]

    def steps(self, k: int) -> int:
        """Array steps of k places; a step does not span runs."""
        return sum(count * ceil_div(size, self.config.step) for count, size in self.runs(k))

    def weight_words(self, n: int, k: int) -> int:
        """Words of the weight buffer."""
        return n * self.planes * self.steps(k)

    def scale_lines(self, n: int, k: int) -> int:
        """Words of the scale buffer."""
        return n * self.groups(k) * self.lines_per_tile

    def code_bytes(self, n: int, k: int) -> int:
        """Bytes of the codes section, unpadded."""
        return n * self.planes * k * self.config.lanes // 8

    def scale_bytes(self, n: int, k: int) -> int:
        """Bytes of the scales section, unpadded."""
        return self.scale_lines(n, k) * self.config.scale_lanes * 2

    def bias_bytes(self, n: int) -> int:
        """Bytes of the bias section, unpadded."""
        return n * self.config.lanes * 4

    def padded(self, size: int) -> int:
        """Bytes of a section of `size` bytes in the image: whole beats."""
        return ceil_div(size, self.config.beat_bytes) * self.config.beat_bytes

    def x_words(self, k: int) -> int:
        """Activation words of a block for one row tile, header included."""
        return self.config.x_header_words + self.steps(k) * self.table_columns


def _ternary_places(columns: int) -> int:
    return ceil_div(columns, ternary.GROUP) * ternary.INDEX_BITS
