"""The state of a run of a program: tokens, slots, regions, the layer; numbers are added elsewhere.

The units' parts (`chain`, `transfers`) work on it, `flow` moves them.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lutcore.hw.contract.config import SLOTS, CoreConfig, ceil_div
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import Cause, Token
from lutcore.sim.machine.base import Counts, Fault, Halt, Layer, Move, Order, Results, Steps
from lutcore.sim.machine.clocks import Clocks, Stamp
from lutcore.sim.machine.slots import Owner, Slots, buffers
from lutcore.sw.program.blocks import BlockFormat

__all__ = ["Machine"]


class Machine:
    """The state of one run.

    Parameters
    ----------
    config
        The core.
    sizes
        Bytes of the regions; None: as many as the program asks for.
    order
        Who goes first.
    ahead
        False: a body of MMA passes through all of its units before the next one begins, and gives
        its slots back behind the last of them. True: each unit runs ahead of the next as far as
        tokens allow. The core is in between; only how a program comes to a stop can differ.
    """

    def __init__(
        self,
        config: CoreConfig,
        sizes: Mapping[Region, int] | None = None,
        *,
        order: Order = Order.LOADERS,
        ahead: bool = False,
    ) -> None:
        self.config = config
        self.sizes = sizes
        self.ahead = ahead
        self.counts = Counts()
        #: Bytes that were asked for, from the start of each region.
        self.extents = dict.fromkeys(Region, 0)
        self.tokens = dict.fromkeys(Token, 0)
        self.buffers = buffers(config)
        self.layer: Layer | None = None
        self.results: deque[Results] = deque()
        self.undefined = ""
        self.faults: list[Fault] = []
        self.clocks = Clocks(order.value)
        self._given: dict[Token, deque[Stamp]] = {token: deque() for token in Token}

    # Tokens ----------------------------------------------------------------------------------

    def add_tokens(self, number: int, token: Token, count: int) -> None:
        """TOKEN: every unit is idle, so that no slot is being read."""
        self.tokens[token] += count
        self._given[token] += [self.clocks.stamp()] * count
        if self.tokens[token] > SLOTS:
            raise Halt(Cause.TOKEN, number, self._too_many(token))
        slots = self.buffers[token.name[0]]
        if token.name.endswith("FULL"):
            # What a slot has held before is read once more.
            for slot in range(count):
                if slots.owner[slot] != Owner.LOADER or not slots.valid[slot].any():
                    self.unclear(f"a token for {slots.name} slot {slot}, which holds nothing")
                slots.owner[slot] = Owner.WAITING
        free = self.tokens[Token[f"{token.name[0]}_FREE"]]
        if free > slots.owner.count(Owner.LOADER):
            self.unclear(f"{free} tokens for free {slots.name} slots, more than there are")

    def _too_many(self, token: Token) -> str:
        return f"{self.tokens[token]} tokens in {token.name}, {SLOTS} at most"

    def unclear(self, why: str) -> None:
        """Results depend on the moment from here on."""
        self.undefined = self.undefined or why

    def give(self, token: Token, number: int) -> None:
        """A unit gives a token; the counter may overflow."""
        self.tokens[token] += 1
        self._given[token].append(self.clocks.stamp())
        if self.tokens[token] > SLOTS:
            raise Halt(Cause.TOKEN, number, self._too_many(token))

    def take(self, names: str, side: str) -> Steps:
        """Wait for a token of every memory named, and take them all at once."""
        tokens = [Token[f"{name}_{side}"] for name in names]
        while not all(self.tokens[token] for token in tokens):
            yield Move.WAITS
        for token in tokens:
            self.tokens[token] -= 1
            # One unit gives, and one takes: there are enough when the one that is next was given.
            self.clocks.follow(self._given[token].popleft())

    def read_slot(self, name: str, slot: int) -> None:
        """A reader has taken a slot."""
        slots = self.buffers[name]
        if slots.owner[slot] != Owner.WAITING:
            state = slots.owner[slot].value
            self.unclear(f"{slots.name} slot {slot} is taken by its reader while it is {state}")
        elif not self.clocks.follows(slots.changed[slot]):
            self.unclear(f"{slots.name} slot {slot} may be taken by its reader before it is loaded")
        slots.owner[slot] = Owner.READER

    def free_slot(self, name: str, slot: int, number: int) -> None:
        """A reader gives a slot back."""
        slots = self.buffers[name]
        slots.owner[slot], slots.changed[slot] = Owner.LOADER, self.clocks.stamp()
        self.give(Token[f"{name}_FREE"], number)

    def load_slot(self, name: str, slot: int, number: int) -> None:
        """A loader begins with a slot, and says so."""
        slots = self.buffers[name]
        if slots.owner[slot] != Owner.LOADER:
            state = slots.owner[slot].value
            self.unclear(f"{slots.name} slot {slot} is loaded while it is {state}")
        elif not self.clocks.follows(slots.changed[slot]):
            self.unclear(f"{slots.name} slot {slot} may be loaded while it is being read")
        slots.owner[slot], slots.changed[slot] = Owner.WAITING, self.clocks.stamp()
        slots.begin(slot)
        self.give(Token[f"{name}_FULL"], number)

    # Memory ----------------------------------------------------------------------------------

    @staticmethod
    def at_most(number: int, what: str, value: int, limit: int) -> None:
        """Refuse an operand."""
        if value > limit:
            raise Halt(Cause.OPERAND, number, f"{what}: {value}, but there is room for {limit}")

    def window(self, number: int, region: Region, address: int, size: int) -> None:
        """Refuse what is outside of a region."""
        end = address + size
        if self.sizes is not None and end > self.sizes[region]:
            raise Halt(
                Cause.BOUNDS,
                number,
                f"bytes {address} to {end} of the {region.name.lower()}, whose region has "
                f"{self.sizes[region]}",
            )
        self.extents[region] = max(self.extents[region], end)

    def request(self, number: int, region: Region, address: int, size: int) -> None:
        """A read of whole beats."""
        beat = self.config.beat_bytes
        if address % beat:
            raise Halt(Cause.BOUNDS, number, f"address {address} is no multiple of {beat}")
        self.window(number, region, address, size)
        self.counts.read_beats += ceil_div(size, beat)

    def wait_for(self, slots: Slots, slot: int, words: Iterable[int]) -> Steps:
        """Wait for words of a slot; indices beyond its end begin anew."""
        last = max(word % slots.size for word in words)
        while not slots.has(slot, last):
            yield Move.WAITS

    # Numbers ---------------------------------------------------------------------------------
    # What the instruction-set simulator adds; here there are none.

    def put(
        self, name: str, slot: int, word: int, address: int, size: int, codes_of: Any = None
    ) -> None:
        """Bytes of a region become words of a slot, from a word on.

        Parameters
        ----------
        name, slot, word
            Letter of the memory, and where in it.
        address, size
            Bytes in the weight region, for "X" in the activation region.
        codes_of
            For codes: format, tiles and places of the block.
        """

    def get_activations(self, slot: int, words: np.ndarray, form: BlockFormat, k: int) -> Any:
        """Row scales and activations of a body."""
        return None, None

    def lookup(self, slot: int, columns: Any, form: BlockFormat, n: int, k: int) -> Any:
        """The sums that a body's lookups give."""

    def accumulate(
        self,
        place: tuple[int, int],
        products: Any,
        slot: int,
        size: tuple[BlockFormat, int, int],
        *,
        fresh: bool,
    ) -> None:
        """Sums times scales of a slot go into a sum slot, from a word on: `place`."""

    def finalise(
        self, place: tuple[int, int], n: int, exponent: int, rows: Any, bias_slot: int | None
    ) -> Any:
        """Results of a row tile of n tiles."""

    def put_results(self, address: int, values: Any, row: int, channels: int) -> None:
        """A row of a row tile's results goes to the result region."""
