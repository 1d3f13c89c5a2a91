"""A program with everything that it runs on: memory, regions, settings of the host."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import words_to_bytes
from lutcore.hw.contract.ternary import INDEX_BITS
from lutcore.sim.machine.flow import Flow
from lutcore.sw.program.blocks import BlockFormat
from lutcore.sw.program.rules import check, region_problem

__all__ = ["MEMORY_BYTES", "STEPS", "Case"]

#: Memory of the simulated system; addresses beyond answer DECERR.
MEMORY_BYTES = 1 << 17
#: Steps of the machine after which a program counts as endless.
STEPS = 40_000


@dataclass(frozen=True)
class Case:
    """A program and what it runs on.

    Attributes
    ----------
    config
        The core.
    words
        Instructions.
    regions
        Base and size of each region.
    seed
        Of the bytes in memory.
    length, expect
        Settings of the host; None: the program's own.
    budget
        Cycles that the host allows; None: more than enough.
    note
        How the program was made.
    """

    config: CoreConfig
    words: tuple[int, ...]
    regions: Mapping[Region, tuple[int, int]]
    seed: int
    length: int | None = None
    expect: int | None = None
    budget: int | None = None
    note: str = field(default="", compare=False)

    @property
    def program_length(self) -> int:
        """What the host calls the length of the program."""
        return len(self.words) if self.length is None else self.length

    @property
    def fingerprint(self) -> int:
        """What the host expects the core to be."""
        return self.config.fingerprint if self.expect is None else self.expect

    def with_words(self, words: tuple[int, ...]) -> "Case":
        """The same with another program."""
        return replace(self, words=words)

    def memory(self) -> np.ndarray:
        """Random bytes, the program, and data that mean something to it.

        Scales and biases are finite, ternary indices exist, and activations behind the end of a
        run are zero, wherever the program takes bytes for such.
        """
        memory = np.random.default_rng(self.seed).integers(0, 256, MEMORY_BYTES, np.uint8)
        code = words_to_bytes(self.words)
        base, _ = self.regions[Region.PROGRAM]
        room = memory[base : base + len(code)]
        room[:] = np.frombuffer(code, np.uint8)[: len(room)]
        bases = {region: base for region, (base, _) in self.regions.items()}
        if not check(self.words, self.config) and region_problem(self.regions) is None:
            sizes = {region: size for region, (_, size) in self.regions.items()}
            flow = _Data(self.config, self.words, sizes, limit=STEPS)
            flow.attach(memory, bases)
            flow.run()
        return memory


class _Data(Flow):
    """Finds out what the bytes in memory are taken for, and makes them that.

    Bits are cleared and never set, so that bytes that are taken for several things suit all.
    """

    def attach(self, memory: np.ndarray, bases: Mapping[Region, int]) -> None:
        self._memory, self._bases = memory, bases
        self._origin = np.zeros((2, self.config.x_slot_words), np.int64)

    def put(
        self, name: str, slot: int, word: int, address: int, size: int, codes_of: Any = None
    ) -> None:
        region = Region.ACTIVATIONS if name == "X" else Region.WEIGHTS
        start = self._bases[region] + address
        data = self._memory[start : start + size]
        if name == "X":
            width = self.config.x_memory_bytes
            count = min(size // width, self._origin.shape[1] - word)
            self._origin[slot, word : word + count] = start + width * np.arange(count)
        elif name == "W":
            form, n, k = codes_of
            if form.ternary and k % INDEX_BITS == 0:
                _clear_unknown_trits(data[: form.code_bytes(n, k)], self.config)
        elif name == "S" and self.layer is not None and self.layer.format.wide:
            lines, pair = data.view("<u2"), 2 * self.config.scale_lanes
            lines = lines[: len(lines) // pair * pair]
            high = lines.reshape(-1, 2, self.config.scale_lanes)[:, 0]
            high &= 0x9FFF
            high[(high >> 8 & 31) > 16] &= 0xEFFF
        else:
            # Exponents of float16, and of float32, without all their bits set.
            halves = data.view("<u2")
            halves[(halves >> 10 & 31) == 31] &= 0xBFFF

    def get_activations(self, slot: int, words: np.ndarray, form: BlockFormat, k: int) -> Any:
        width = self.config.x_memory_bytes
        padding = _padding(form, k)
        self._memory[self._origin[slot, words[padding // width]] + padding % width] = 0
        return None, None


def _clear_unknown_trits(codes: np.ndarray, config: CoreConfig) -> None:
    tables = codes.reshape(-1, INDEX_BITS, config.lanes // 8)
    tables[:, 1] &= ~(tables[:, 2] & tables[:, 3])


def _padding(form: BlockFormat, k: int) -> np.ndarray:
    """Bytes of a block of activations that lie behind the end of a run."""
    config = form.config
    size, item = config.activation_bits // 8, config.x_word_bits // 8
    result, at = [], config.x_header_words * item
    for count, places in form.runs(k):
        columns = form.columns(places)
        for _ in range(count):
            for step in range(-(-places // config.step)):
                for j in range(form.table_columns):
                    for g in range(config.depth):
                        column = step * form.step_columns + g * form.table_columns + j
                        if column >= columns:
                            for row in range(config.rows):
                                start = at + (row * config.depth + g) * size
                                result += range(start, start + size)
                    at += item
    return np.array(result, np.int64)
