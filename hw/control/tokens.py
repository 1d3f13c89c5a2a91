"""Tokens: who may use which slot of a buffer.

Every buffer has two counters, of its free slots and of its full ones. Its loader takes a token of
the one and gives one to the other, its reader the other way round::

    loader ── take ◄── FREE ◄── give ── reader
           ── give ──► FULL ──► take ──
"""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import SLOTS
from lutcore.hw.contract.isa import INSTRUCTIONS, Opcode, Token

__all__ = ["TokenBank", "TokenPort"]


class TokenPort(wiring.Signature):
    """One end of a buffer's hand-over, seen from the unit that uses the slots.

    Members
    -------
    available
        The counter that the unit takes from is not zero.
    take
        Strobe: one less; only while ``available``.
    give
        Strobe: one more in the other counter.
    """

    def __init__(self) -> None:
        super().__init__({"available": In(1), "take": Out(1), "give": Out(1)})


class TokenBank(wiring.Component):
    """The eight counters; ``give`` above the number of slots is an error.

    Members
    -------
    give, take
        One bit per counter; a taker checks ``available`` first.
    add, counter, count
        TOKEN instruction.
    available
        Counters that are not zero; all are zero in the cycle after a take. What is given is seen
        two cycles later.
    overflow, add_overflow
        Counters that go above the limit, a cycle after it is given; by the instruction, at once.
        What they count then means nothing: the core stops, and is reset.
    """

    def __init__(self) -> None:
        fields = INSTRUCTIONS[Opcode.TOKEN].layout
        super().__init__(
            {
                "give": In(len(Token)),
                "take": In(len(Token)),
                "add": In(1),
                "counter": In(fields["counter"].shape),
                "count": In(fields["count"].shape),
                "available": Out(len(Token)),
                "overflow": Out(len(Token)),
                "add_overflow": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Strobes come late in their cycle.
        take = Signal(len(Token))
        give = Signal(len(Token))
        m.d.sync += [take.eq(self.take), give.eq(self.give)]
        for token in Token:
            value = Signal(range(SLOTS + 1), name=token.name.lower())
            some = Signal(name=f"{token.name.lower()}_some")
            following = Signal(range(2 * SLOTS + 1), name=f"{token.name.lower()}_next")
            # TOKEN waits for all units, so that nobody gives or takes while it adds.
            mine = self.add & (self.counter == token)
            given = Mux(mine, self.count, give[token])
            m.d.comb += [
                following.eq(value + given - take[token]),
                # What has just been taken is not counted yet.
                self.available[token].eq(some & ~take[token]),
                self.overflow[token].eq(following > SLOTS),
            ]
            m.d.sync += [value.eq(following), some.eq(following[: len(value)] != 0)]
        m.d.comb += self.add_overflow.eq(self.add & self.overflow.any())
        return m

    def connect(self, m: Module, kind: str, loader: Any, reader: Any) -> None:
        """Join both ends of the buffer whose tokens' names begin with ``kind``."""
        free, full = Token[f"{kind}_FREE"], Token[f"{kind}_FULL"]
        for unit, taken, given in ((loader, free, full), (reader, full, free)):
            m.d.comb += [
                unit.available.eq(self.available[taken]),
                self.take[taken].eq(unit.take),
                self.give[given].eq(unit.give),
            ]
