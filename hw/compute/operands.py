"""The activations from which the tables of a set are computed."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.cells.fused import Term, fused_add, masked, plain
from lutcore.hw.compute.tags import set_tag
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.ternary import GROUP as TRITS
from lutcore.hw.memory.ram import lut_ram

__all__ = ["Operands", "operand_word"]


def operand_word(config: CoreConfig) -> data.StructLayout:
    """An activation for every table of a set, and the tag of the set."""
    tables = config.rows * config.depth
    return data.StructLayout(
        {
            "a": data.ArrayLayout(signed(config.activation_bits), tables),
            "tag": set_tag(config),
        }
    )


class Operands(wiring.Component):
    """Double buffer of activations: the next set is collected while one is being filled.

    Takes a word per cycle. It is full with the last word of a set, until the fill of that set
    starts: one cycle after its last word at the earliest. In the cycle of the start the first word
    of the next set is taken already.

    Members
    -------
    i
        Words of ``rows * depth`` activations, ``group`` per set (3 with ternary weights); ``tag``
        is that of the last word.
    ternary
        The layer's weights are ternary.
    may_start_next
        The fill of a set may start in the next cycle.
    start
        Pulse: a set is complete, and its fill starts.
    tag, first
        Of the set that starts, while ``start`` is 1: its tag, and the sum of the activations of
        each table (negated in cores with ternary tables), which is the first entry of a ±1-coded
        table. In cores with full tables, whose first entry is 0, it is 0.
    place, a
        Read port: activation ``place`` of every table, in the same cycle, of the set whose fill
        starts or has started last.
    """

    i: stream.Interface
    ternary: Signal
    may_start_next: Signal
    start: Signal
    tag: data.View
    first: data.View
    place: Signal
    a: data.View

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        tables = config.rows * config.depth
        word = operand_word(config)
        super().__init__(
            {
                "i": In(stream.Signature(word)),
                "ternary": In(1),
                "may_start_next": In(1),
                "start": Out(1),
                "tag": Out(set_tag(config)),
                "first": Out(data.ArrayLayout(signed(config.entry_width), tables)),
                "place": In(range(config.group)),
                "a": Out(word["a"].shape),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        m.submodules.memory = memory = lut_ram(
            platform, shape=self.a.shape(), depth=2 << len(self.place)
        )
        keep, fetch = memory.write_port(), memory.read_port(domain="comb")
        half = Signal()  # of the memory, to which words go
        count = Signal(range(cfg.group + 1))
        # All that decides when a fill starts is in registers: it enables every operand's memory.
        full = Signal()
        may_start = Signal(init=1)
        start = self.start
        tag = Signal(set_tag(cfg), reset_less=True)
        words = Mux(self.ternary, TRITS, cfg.group)
        ready = Signal(init=1)
        accept = Signal()
        full_next = Signal()
        m.d.comb += [
            self.i.ready.eq(ready),
            accept.eq(self.i.valid & ready),
            start.eq(full & may_start),
            full_next.eq(Mux(accept, ~full & (count == words - 1), full & ~start)),
            self.tag.eq(tag),
        ]
        m.d.sync += [
            full.eq(full_next),
            may_start.eq(self.may_start_next),
            # Either way a word fits: into the half that is not full, or into the other one.
            ready.eq(~full_next | self.may_start_next),
        ]
        with m.If(accept):
            m.d.sync += [count.eq(Mux(full, 1, count + 1)), tag.eq(self.i.payload.tag)]
        with m.Elif(start):
            m.d.sync += count.eq(0)
        with m.If(start):
            m.d.sync += half.eq(~half)
        m.d.comb += [
            keep.en.eq(accept),
            keep.addr.eq(Cat(Mux(full, 0, count)[: len(self.place)], half ^ start)),
            keep.data.eq(self.i.payload.a),
            fetch.addr.eq(Cat(self.place, ~(half ^ start))),
            self.a.eq(fetch.data),
        ]
        if cfg.symmetric:
            going = Signal()  # the next word is not the first of its set
            m.d.comb += going.eq(~full & (count != 0))
            self._sum(m, platform, accept, going)
        return m

    def _sum(self, m: Module, platform: object, accept: Signal, going: Signal) -> None:
        """Add up the words of a set: the first entry of a ±1-coded table, or its negation."""
        width = self.config.entry_width
        for t in range(len(self.first)):
            first = Signal(signed(width), name=f"first_{t}", reset_less=True)
            a, so_far = self.i.payload.a[t], masked(first, going)
            if self.config.halved:
                total = fused_add(m, platform, plain(a), so_far, width)
            else:
                minus = Term(lambda _, bit: 1 ^ bit, (a,))
                total = fused_add(m, platform, minus, so_far, width, carry_in=Const(1, 1))
            with m.If(accept):
                m.d.sync += first.eq(total)
            m.d.comb += self.first[t].eq(first)
