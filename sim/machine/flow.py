"""The machine that programs run on, without its numbers: loops, tokens, slots, sizes, addresses.

What a program does does not depend on the data, so this is enough to tell whether it is legal
(`lutcore.sim.machine.legal`). The instruction-set simulator is this machine with numbers added.

The units run as coroutines that meet at token counters. They are a Kahn network: as long as slots
are used in turn, of which `Clocks` make sure, the order in which they move cannot change what they
compute. Where a program stops is another matter: a unit that has found a fault stands still, but in
the core, which stops at the first fault in *time*, another unit may have been faster. So the others
go on here too, and the outcome is the set of all first faults.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lutcore.hw.contract.config import SLOTS, CoreConfig, ceil_div
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import Axis, Cause, Opcode, Token, Unit, decode
from lutcore.hw.contract.loops import Loop
from lutcore.sim.machine.base import (
    Counts,
    Fault,
    Halt,
    Layer,
    Move,
    Nest,
    Order,
    Outcome,
    Results,
    Steps,
)
from lutcore.sim.machine.chain import Chain
from lutcore.sim.machine.clocks import Clocks, Stamp
from lutcore.sim.machine.slots import Owner, Slots, buffers
from lutcore.sim.machine.transfers import load_activations, load_weights, store
from lutcore.sw.program.blocks import BlockFormat

__all__ = ["Flow"]

#: `Flow`, which to a type checker is another class here than where the units import it.
_Machine = Any


@dataclass
class _Active:
    """A unit at work: the number of its instruction and the coroutines that are left."""

    number: int
    parts: dict[str, Steps]
    halted: set[str] = field(default_factory=set)


class Flow:
    """One run of a program.

    Parameters
    ----------
    config
        The core.
    instructions
        A program without `lutcore.sim.machine.legal.check` problems.
    sizes
        Bytes of the regions; None: as many as the program asks for.
    order
        Who goes first.
    ahead
        False: a body of MMA passes through all of its units before the next one begins, and gives
        its slots back behind the last of them. True: each unit runs ahead of the next as far as
        tokens allow. The core is in between; only how a program comes to a stop can differ.
    limit
        Bodies, all units taken together, after which the run is left.
    """

    def __init__(
        self,
        config: CoreConfig,
        instructions: Sequence[int],
        sizes: Mapping[Region, int] | None = None,
        *,
        order: Order = Order.LOADERS,
        ahead: bool = False,
        limit: int | None = None,
    ) -> None:
        self.config = config
        self.instructions = instructions
        self.sizes = sizes
        self.ahead = ahead
        self.limit = limit
        self.counts = Counts()
        #: Bytes that were asked for, from the start of each region.
        self.extents = dict.fromkeys(Region, 0)
        self.tokens = dict.fromkeys(Token, 0)
        self.buffers = buffers(config)
        self.layer: Layer | None = None
        self.results: deque[Results] = deque()
        self.undefined = ""
        self.faults: list[Fault] = []
        self._loops: dict[Unit, list[Loop]] = {unit: [] for unit in Unit}
        self._active: dict[Unit, _Active] = {}
        self._names: dict[Unit, tuple[str, ...]] = {}  # coroutines of a unit's last instruction
        self._next = 0
        self._reached = 0
        self._ended = False
        self._parts = order.value
        self.clocks = Clocks(order.value)
        self._given: dict[Token, deque[Stamp]] = {token: deque() for token in Token}

    # Scheduling ------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Move units until the program ends or nothing moves any more."""
        runnable: dict[str, tuple[Unit | None, Steps]] = {"fetch": (None, self._dispatch())}
        self._runnable = runnable
        moves = 0
        while not self._ended:
            if self.limit is not None and moves > self.limit:
                return self._outcome(unfinished=True)
            for name in self._parts:
                if name in runnable and self._step(name):
                    moves += 1
                    break
            else:
                if not self.faults:
                    numbers = [self._next, *(unit.number for unit in self._active.values())]
                    self.faults.append(Fault(Cause.DEADLOCK, min(numbers), "every unit waits"))
                break
        return self._outcome()

    def _outcome(self, *, unfinished: bool = False) -> Outcome:
        return Outcome(tuple(self.faults), self.undefined, unfinished, self._reached)

    def _step(self, name: str) -> bool:
        """Let a coroutine go on; whether it moved."""
        unit, steps = self._runnable[name]
        self.clocks.now = name
        try:
            return next(steps) is Move.MOVED
        except Halt as halt:
            self.faults.append(halt.fault)
            del self._runnable[name]
            if unit is not None:
                self._active[unit].halted.add(name)
        except StopIteration:
            del self._runnable[name]
            if unit is not None:
                active = self._active[unit]
                del active.parts[name]
                if not active.parts:
                    del self._active[unit]
        return True

    def _start(self, unit: Unit, number: int, parts: dict[str, Steps]) -> None:
        self._active[unit] = _Active(number, parts)
        self._names[unit] = tuple(parts)
        self.clocks.fork(parts)
        for name, steps in parts.items():
            self._runnable[name] = unit, steps

    def _dispatch(self) -> Steps:
        for number, word in enumerate(self.instructions):
            self._next = number
            instruction, fields = decode(word)
            opcode = instruction.opcode
            if opcode in (Opcode.END, Opcode.LAYER, Opcode.TOKEN):
                while self._active:
                    yield Move.WAITS
                self.clocks.follow_all(self._parts)
                if opcode == Opcode.LAYER:
                    self.layer = Layer.of(self.config, fields)
                elif opcode == Opcode.TOKEN:
                    self._add_tokens(number, Token(fields["counter"]), fields["count"])
            else:
                unit = Unit(fields["unit"]) if opcode == Opcode.LOOP else Unit[opcode.name]
                while unit in self._active:
                    yield Move.WAITS
                self.clocks.follow_all(self._names.get(unit, ()))
                if opcode == Opcode.LOOP:
                    if unit == Unit.MMA and fields["auto"]:
                        raise Halt(Cause.OPERAND, number, "mma has no auto loops")
                    self._loops[unit].append(_loop(fields))
                else:
                    if self.layer is None and unit != Unit.LDX:
                        raise Halt(Cause.OPERAND, number, "no layer before it")
                    loops, self._loops[unit] = self._loops[unit], []
                    nest = Nest(loops, fields.get("base", 0))
                    self._start(unit, number, _PARTS[unit](self, number, fields, nest))
            self._reached = number
            yield Move.MOVED
        self._ended = True

    # Tokens ----------------------------------------------------------------------------------

    def _add_tokens(self, number: int, token: Token, count: int) -> None:
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


def _loop(fields: Mapping[str, int]) -> Loop:
    return Loop(
        axis=Axis(fields["axis"]),
        total=fields["total"],
        step=fields["step"],
        stride=fields["stride"],
        auto=bool(fields["auto"]),
    )


def _ldw(flow: _Machine, number: int, fields: dict[str, int], nest: Nest) -> dict[str, Steps]:
    return {"ldw": load_weights(flow, number, fields, nest)}


def _ldx(flow: _Machine, number: int, fields: dict[str, int], nest: Nest) -> dict[str, Steps]:
    return {"ldx": load_activations(flow, number, fields, nest)}


def _mma(flow: _Machine, number: int, fields: dict[str, int], nest: Nest) -> dict[str, Steps]:
    return Chain(flow, number, fields, nest).parts()


def _sty(flow: _Machine, number: int, fields: dict[str, int], nest: Nest) -> dict[str, Steps]:
    del fields
    return {"store": store(flow, number, nest)}


#: What each unit's instruction starts: coroutines, by name.
_PARTS: dict[Unit, Callable[[_Machine, int, dict[str, int], Nest], dict[str, Steps]]] = {
    Unit.LDW: _ldw,
    Unit.LDX: _ldx,
    Unit.MMA: _mma,
    Unit.STY: _sty,
}
