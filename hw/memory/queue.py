"""A queue in LUT RAM, with no more gates than its users need.

Unlike Amaranth's it trusts its writer: what is written to a full queue is lost, and the queue with
it. So a writer that cannot overtake costs neither a count nor a comparison.
"""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import ceil_pow2

__all__ = ["Queue"]


class Queue(wiring.Component):
    """First in, first out.

    Parameters
    ----------
    width
        Bits of an entry.
    depth
        Entries, one at least besides the register.
    buffered
        Whether entries go out through a register: a cycle later, but without the RAM in the path.
        That register is one of the entries.
    bounded
        Whether the writer has to look at ``w_rdy``. If not, never more than `depth` entries are in
        the queue for some other reason, and ``w_rdy`` is always 1.

    Members
    -------
    w_rdy, w_en, w_data
        An entry is written when ``w_en`` is 1, which is allowed while ``w_rdy`` is.
    r_rdy, r_en, r_data
        The oldest entry; it goes when both ``r_rdy`` and ``r_en`` are 1.
    """

    def __init__(
        self, *, width: int, depth: int, buffered: bool = False, bounded: bool = True
    ) -> None:
        if not isinstance(depth, int) or depth <= buffered:
            raise TypeError(f"Depth of a queue must be an integer above {int(buffered)}: {depth!r}")
        self.width, self.depth, self.buffered, self.bounded = width, depth, buffered, bounded
        super().__init__(
            {
                "w_rdy": Out(1),
                "w_en": In(1),
                "w_data": In(width),
                "r_rdy": Out(1),
                "r_en": In(1),
                "r_data": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inside = self.depth - self.buffered
        # Without a count, pointers that are the same mean that nothing is inside.
        places = ceil_pow2(inside if self.bounded else inside + 1)
        memory = Memory(shape=self.width, depth=places, init=[])
        m.submodules.memory = memory
        write = memory.write_port()
        read = memory.read_port(domain="sync" if self.buffered else "comb")
        produce = Signal(range(places))
        consume = Signal(range(places))
        some = Signal()
        pop = Signal()
        m.d.comb += [
            # A place that is free may hold anything, and there may always be one.
            write.en.eq(1 if places > inside else self.w_rdy),
            write.addr.eq(produce),
            write.data.eq(self.w_data),
            read.addr.eq(consume),
            self.r_data.eq(read.data),
        ]
        m.d.sync += [produce.eq(produce + self.w_en), consume.eq(consume + pop)]
        if self.bounded:
            count = Signal(range(inside + 1))
            m.d.sync += count.eq(count + self.w_en - pop)
            m.d.comb += [some.eq(count != 0), self.w_rdy.eq(count != inside)]
        else:
            m.d.comb += [some.eq(produce != consume), self.w_rdy.eq(1)]
        if self.buffered:
            room: Value = ~self.r_rdy | self.r_en
            m.d.comb += [read.en.eq(room), pop.eq(some & room)]
            with m.If(room):
                m.d.sync += self.r_rdy.eq(some)
        else:
            m.d.comb += [self.r_rdy.eq(some), pop.eq(some & self.r_en)]
        return m
