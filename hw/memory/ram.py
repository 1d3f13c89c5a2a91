"""Memories that are to become LUT RAM."""

from typing import Any

from amaranth.lib.memory import Memory

from lutcore.hw.cells.placed import family

__all__ = ["lut_ram"]

#: Families whose LUTs can be memories.
_LUT_RAM = ("ecp5", "xc7")


def lut_ram(platform: object, *, shape: Any, depth: int) -> Memory:
    """A memory for LUT RAM: small, and read in the same cycle.

    Parameters
    ----------
    platform
        The target. The attribute ``ram_style`` is set where its family has LUT RAM; elsewhere
        synthesis would stop at it, and takes flip-flops or what else there is.
    shape, depth
        Of a word, and how many there are. They begin with zero.
    """
    attributes = {"ram_style": "distributed"} if family(platform) in _LUT_RAM else {}
    return Memory(shape=shape, depth=depth, init=[], attrs=attributes)
