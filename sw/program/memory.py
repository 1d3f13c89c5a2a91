"""Where a program, its data and its results lie in the core's memory."""

from dataclasses import dataclass

import numpy as np

from lutcore.hw.contract.config import ceil_div
from lutcore.hw.contract.csr import Region
from lutcore.sw.program.program import Program

__all__ = ["ALIGNMENT", "MemoryMap", "contents", "load"]

#: Regions start at, and are padded to, multiples of this many bytes.
ALIGNMENT = 64


def _aligned(size: int) -> int:
    return ceil_div(size, ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class MemoryMap:
    """The four regions that the host opens to the core.

    Attributes
    ----------
    regions
        Base address and size in bytes of each region.
    size
        Bytes of the whole memory, from address 0.
    """

    regions: dict[Region, tuple[int, int]]
    size: int

    @classmethod
    def for_program(cls, program: Program, base: int = 0) -> "MemoryMap":
        """Lay the regions out one after the other from `base`, a multiple of `ALIGNMENT`."""
        if base % ALIGNMENT:
            raise ValueError(f"regions start at multiples of {ALIGNMENT}, not at {base}")
        sizes = {
            Region.PROGRAM: len(program.instruction_bytes),
            Region.WEIGHTS: len(program.image),
            Region.ACTIVATIONS: program.x_bytes,
            Region.RESULTS: program.y_bytes,
        }
        regions, address = {}, base
        for region, size in sizes.items():
            regions[region] = (address, _aligned(size))
            address += _aligned(size)
        return cls(regions, address)

    def allocate(self) -> np.ndarray:
        """A memory of zeros, uint8."""
        return np.zeros(self.size, np.uint8)


def contents(program: Program, x_image: bytes) -> dict[Region, bytes]:
    """What the host puts into each region before a start."""
    return {
        Region.PROGRAM: program.instruction_bytes,
        Region.WEIGHTS: program.image,
        Region.ACTIVATIONS: x_image,
    }


def load(memory: np.ndarray, layout: MemoryMap, program: Program, x_image: bytes) -> None:
    """Put a program, its weights and its activations into memory, uint8 from address 0."""
    for region, content in contents(program, x_image).items():
        base, _ = layout.regions[region]
        memory[base : base + len(content)] = np.frombuffer(content, np.uint8)
