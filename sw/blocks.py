"""Sizes of what the core's buffers hold: blocks of weights, of scales and of activations.

The packer, the compiler and the instruction-set simulator all count with these; the layouts
themselves are described in ``docs/architecture.md``.
"""

from dataclasses import dataclass

from lutcore.hw.config import CoreConfig, ceil_div

__all__ = ["BlockFormat", "x_memory_bytes", "x_memory_words", "x_slot_words"]


def x_memory_bytes(config: CoreConfig) -> int:
    """Bytes of a memory word of the activation buffer: a beat, or one activation word."""
    return max(config.bus_width, config.x_word_bits) // 8


def x_memory_words(config: CoreConfig, words: int) -> int:
    """Memory words that a block of `words` activation words takes, header included."""
    return ceil_div(words * config.x_word_bits // 8, x_memory_bytes(config))


def x_slot_words(config: CoreConfig) -> int:
    """Memory words in a slot of the activation buffer, at least two."""
    return max(2, config.x_words * config.x_word_bits // 8 // x_memory_bytes(config))


@dataclass(frozen=True)
class BlockFormat:
    """What the numbers of a layer (the LAYER instruction) make of a block of n tiles, k columns.

    Attributes
    ----------
    config
        The core.
    planes
        P, bit-planes.
    per_plane, offset, wide
        A scale for each plane; an offset beside the scales; scales of 32 instead of 16 bits.
    group_size
        Columns that share a scale, which is the longest run within a block.
    """

    config: CoreConfig
    planes: int
    per_plane: bool
    offset: bool
    wide: bool
    group_size: int

    @property
    def entries(self) -> int:
        """Accumulators, and so scales, of a tile."""
        return self.planes if self.per_plane else 1

    @property
    def lines_per_tile(self) -> int:
        """Scale lines of one tile and one group."""
        return (self.entries + self.offset) * self.config.chunks * (2 if self.wide else 1)

    def groups(self, k: int) -> int:
        """Groups that k columns from the start of a group touch; as many runs."""
        return ceil_div(k, self.group_size)

    def runs(self, k: int) -> list[tuple[int, int]]:
        """The runs of a block as (how many, columns each), full ones first."""
        full, rest = divmod(k, self.group_size)
        return [
            (count, size) for count, size in ((full, self.group_size), (1, rest)) if count * size
        ]

    def steps(self, k: int) -> int:
        """Array steps of k columns; a step does not span runs."""
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
        return self.config.x_header_words + self.steps(k) * self.config.group
