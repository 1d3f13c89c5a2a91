"""The numbers of the instruction-set simulator: what the buffers hold, and what comes of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lutcore.hw.contract.config import SLOTS, CoreConfig
from lutcore.hw.contract.csr import Region
from lutcore.sim.machine.arithmetic import (
    Sums,
    columns_of_words,
    decode_scales,
    decode_weights,
    multiply,
    words_of_codes,
)
from lutcore.sim.machine.flow import Flow
from lutcore.sim.machine.slots import slices
from lutcore.sw.program.blocks import BlockFormat

__all__ = ["Contents", "NumberFlow"]


class Contents:
    """What the memories of a core hold; it outlives a program.

    Attributes
    ----------
    weights, scales, biases, activations
        By slot and word.
    sums
        The two slots of the sum buffer.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.weights = np.zeros(
            (SLOTS, config.weight_words, config.step, config.lanes // 8), np.uint8
        )
        self.scales = np.zeros((SLOTS, config.scale_words, config.scale_lanes), np.uint16)
        self.biases = np.zeros((SLOTS, config.bias_words), np.uint32)
        self.activations = np.zeros((SLOTS, config.x_slot_words, config.x_memory_bytes), np.uint8)
        self.sums = [Sums(config) for _ in range(SLOTS)]


class NumberFlow(Flow):
    """The machine with numbers; see `Flow`."""

    def attach(
        self,
        contents: Contents,
        memory: np.ndarray,
        regions: Mapping[Region, tuple[int, int]],
        writes: list[tuple[int, np.ndarray]],
    ) -> None:
        """Give it its buffers, its memory, and a list for what it writes there."""
        self._contents, self._memory = contents, memory
        self._bases = {region: base for region, (base, _) in regions.items()}
        self._writes = writes
        # Decoded weights and scales, for the row tiles that come to the same block.
        self._loads = {"W": [0] * SLOTS, "S": [0] * SLOTS}
        self._weight_cache: tuple[tuple, list[np.ndarray]] | None = None
        self._scale_cache: tuple[tuple, np.ndarray] | None = None

    def put(
        self, name: str, slot: int, word: int, address: int, size: int, codes_of: Any = None
    ) -> None:
        """See `Flow.put`."""
        region = Region.ACTIVATIONS if name == "X" else Region.WEIGHTS
        start = self._bases[region] + address
        data = self._memory[start : start + size]
        contents = self._contents
        if name == "X":
            target, words = contents.activations, data.reshape(-1, contents.activations.shape[2])
        elif name == "B":
            target, words = contents.biases, data.view("<u4")
        elif name == "S":
            target, words = contents.scales, data.view("<u2")
            words = words[: len(words) // target.shape[2] * target.shape[2]]
            words = words.reshape(-1, target.shape[2])
        else:
            form, n, k = codes_of
            words = words_of_codes(data[: form.code_bytes(n, k)], form, n, k)
            target = contents.weights
        words = words[: target.shape[1] - word]
        target[slot, word : word + len(words)] = words
        if name in self._loads:
            self._loads[name][slot] += 1

    def get_activations(self, slot: int, words: np.ndarray, form: BlockFormat, k: int) -> Any:
        """See `Flow.get_activations`."""
        rows, columns = columns_of_words(self._contents.activations[slot, words], form, k)
        for values, (_, places) in zip(columns, form.runs(k), strict=True):
            if values[..., form.columns(places) :].any():
                self.unclear("activations behind the end of a run, which are not zero")
        return rows, columns

    def lookup(self, slot: int, columns: Any, form: BlockFormat, n: int, k: int) -> Any:
        """See `Flow.lookup`."""
        key = form, slot, self._loads["W"][slot], n, k
        if self._weight_cache is None or self._weight_cache[0] != key:
            needed = slices(form, n, k)
            stored = self._contents.weights[slot]
            words = stored[np.arange(len(needed)) % len(stored)]
            # Slices past the end of a run count as zeros, whatever the word holds there.
            words[np.arange(self.config.step) >= needed[:, None]] = 0
            self._weight_cache = key, decode_weights(words, form, n, k)
        return multiply(self._weight_cache[1], columns, form, n)

    def accumulate(
        self,
        place: tuple[int, int],
        products: Any,
        slot: int,
        size: tuple[BlockFormat, int, int],
        *,
        fresh: bool,
    ) -> None:
        """See `Flow.accumulate`."""
        form, n, k = size
        key = form, slot, self._loads["S"][slot], n, k
        if self._scale_cache is None or self._scale_cache[0] != key:
            stored = self._contents.scales[slot]
            lines = stored[np.arange(form.scale_lines(n, k)) % len(stored)]
            self._scale_cache = key, decode_scales(lines, form, n, k)
        sum_slot, word = place
        self._contents.sums[sum_slot].add(word, products, self._scale_cache[1], fresh=fresh)

    def finalise(
        self, place: tuple[int, int], n: int, exponent: int, rows: Any, bias_slot: int | None
    ) -> Any:
        """See `Flow.finalise`."""
        lanes, bias = self.config.lanes, None
        if bias_slot is not None:
            bias = self._contents.biases[bias_slot, : n * lanes].reshape(n, 1, lanes)
        sum_slot, word = place
        y = self._contents.sums[sum_slot].finalise(word, n, exponent, rows, bias)
        return np.ascontiguousarray(y.transpose(1, 0, 2).reshape(self.config.rows, -1), "<u4")

    def put_results(self, address: int, values: Any, row: int, channels: int) -> None:
        """See `Flow.put_results`."""
        start = self._bases[Region.RESULTS] + address
        data = values[row, :channels].view(np.uint8)
        self._memory[start : start + len(data)] = data
        self._writes.append((start, data))
