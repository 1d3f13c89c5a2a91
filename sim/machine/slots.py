"""The double-buffered memories of a core, but for their contents: who may use a slot, and how."""

import enum
from functools import lru_cache

import numpy as np

from lutcore.hw.contract.config import SLOTS, CoreConfig
from lutcore.sim.machine.clocks import Stamp
from lutcore.sw.program.blocks import BlockFormat

__all__ = ["Owner", "Slots", "buffers", "slices"]


class Owner(enum.Enum):
    """Who has a slot."""

    LOADER = "free to be loaded"
    WAITING = "loaded and waiting to be read"
    READER = "being read"


class Slots:
    """One memory of two slots.

    As in hardware, a reader waits for words of the slot that is being written, and takes those of
    the other one as they are.

    Attributes
    ----------
    name
        For messages.
    size
        Words of a slot, a power of two.
    writer, count
        The slot that is being written, and its words so far.
    owner
        Of each slot.
    changed
        When a loader last began with each slot, or a reader gave it back.
    valid
        By slot and word, how many of its parts the current load has written: slices of a weight
        word, 1 for a word of another memory. What else a slot holds is left over from before.
    ternary
        Whether the codes of a slot were loaded for a layer with ternary weights.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size
        self.writer, self.count = 0, 0
        self.owner = [Owner.LOADER] * SLOTS
        self.changed: list[Stamp] = [()] * SLOTS
        self.valid = np.zeros((SLOTS, size), np.uint8)
        self.ternary = [False] * SLOTS

    def begin(self, slot: int) -> None:
        """A load begins."""
        self.writer, self.count = slot, 0
        self.valid[slot] = 0

    def write(self, parts: np.ndarray | int) -> None:
        """Words are loaded: so many, or with so many parts each; those beyond the slot are not."""
        if isinstance(parts, int):
            parts = np.ones(parts, np.uint8)
        parts = parts[: self.size - self.count]
        self.valid[self.writer, self.count : self.count + len(parts)] = parts
        self.count += len(parts)

    def has(self, slot: int, last: int) -> bool:
        """Whether a reader need not wait for a word."""
        return self.writer != slot or self.count > last


def buffers(config: CoreConfig) -> dict[str, Slots]:
    """The memories of a core, by the letter of their tokens."""
    return {
        "W": Slots("weight", config.weight_words),
        "S": Slots("scale", config.scale_words),
        "X": Slots("activation", config.x_slot_words),
        "B": Slots("bias", config.bias_words),
    }


@lru_cache(maxsize=256)
def slices(form: BlockFormat, n: int, k: int) -> np.ndarray:
    """Slices (places) of each weight word of a block: those of a step, or fewer at a run's end."""
    step, parts = form.config.step, []
    for count, places in form.runs(k):
        full, rest = divmod(places, step)
        run = [step] * full + [rest] * bool(rest)
        parts.append(np.tile(np.repeat(np.array(run, np.uint8), n * form.planes), count))
    return np.concatenate(parts)
