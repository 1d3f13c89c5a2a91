"""The adders that fill a set of lookup tables, and the queue of filled sets.

The order is a Gray code, in which neighbours differ in one activation, so that one adder per table
does it (±1-coded tables step by two activations, {0,1}-coded and ternary ones by one).

A ±1-coded table holds the half in which the last activation counts as it is, so the negation of
what the index selects; the lanes turn the sign. In cores with ternary tables it holds the entries
themselves.

    word in   |a0|a1|a2|a3|--|--|--|--|b0|b1|b2|b3|
    fill                     |T0|T1|T3|T2|T6|T7|T5|T4|T0|T1…
    set out                                       |set

A word has an activation for every table. The example is of symmetric tables of group 4, which have
8 entries; the set goes to ARRAY with its tag.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.cells.carry import add
from lutcore.hw.compute.operands import Operands, operand_word
from lutcore.hw.compute.tags import set_tag
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.ternary import ENTRIES as TERNARY_ENTRIES
from lutcore.hw.contract.ternary import fill_steps

__all__ = ["SetQueue", "TableFill"]


class SetQueue(wiring.Component):
    """Two tags of filled sets, the older one in the register that ARRAY decides by.

    A tag is offered in the cycle after it has been pushed, if none is before it.

    Members
    -------
    push, tag
        Pulse: ``tag`` goes into the queue, which the user knows to have room.
    o
        The older tag.
    """

    push: Signal
    tag: data.View
    o: stream.Interface

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__(
            {
                "push": In(1),
                "tag": In(set_tag(config)),
                "o": Out(stream.Signature(set_tag(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        newer = Signal(set_tag(self.config), reset_less=True)
        both = Signal()
        taken = Signal()
        m.d.comb += taken.eq(self.o.valid & self.o.ready)
        with m.If(self.push):
            m.d.sync += newer.eq(self.tag)
        with m.If(taken & both):
            m.d.sync += self.o.payload.eq(newer)
        with m.Elif(self.push & (taken | ~self.o.valid)):
            m.d.sync += self.o.payload.eq(self.tag)
        m.d.sync += [
            self.o.valid.eq(self.push | (self.o.valid & ~taken) | both),
            both.eq(Mux(taken, both & self.push, both | (self.o.valid & self.push))),
        ]
        return m


class TableFill(wiring.Component):
    """Collects the activations of a step and writes its tables.

    One set takes ``entries`` cycles (14 with ternary weights), without a gap when the next step's
    words have come in the meantime and a bank is free. The first entry is written two cycles after
    the last word of the set at the earliest.

    Members
    -------
    begin
        Pulse: an instruction begins. With ternary weights, the entries that their tables do not
        have become zero with the next set of each bank, which takes two cycles more: tables past
        the end of a run are looked up by what lies in the weight buffer, which may name them.
    ternary
        The layer's weights are ternary.
    i
        Words of ``rows * depth`` activations, ``group`` per set (3 with ternary weights); ``tag``
        is that of the last word.
    o
        Tags of filled sets, in order; valid from the cycle in which the last entry is written,
        since the first lookup is two cycles behind its transfer.
    release
        The last lookup in the older set is at most two cycles away. The next set's first entry is
        written two cycles later at the earliest.
    busy
        A set is being filled.
    write_enable, write_address, write_data
        To the table memories: the address has the entry in its low bits and the bank on top; an
        entry for every table.
    """

    begin: Signal
    ternary: Signal
    i: stream.Interface
    o: stream.Interface
    release: Signal
    busy: Signal
    write_enable: Signal
    write_address: Signal
    write_data: data.View

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        tables = config.rows * config.depth
        self.address_width = (config.entries - 1).bit_length() + 1
        super().__init__(
            {
                "i": In(stream.Signature(operand_word(config))),
                "o": Out(stream.Signature(set_tag(config))),
                "begin": In(1),
                "ternary": In(1),
                "release": In(1),
                "busy": Out(1),
                "write_enable": Out(1),
                "write_address": Out(self.address_width),
                "write_data": Out(data.ArrayLayout(signed(config.entry_width), tables)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        m.submodules.operands = operands = Operands(cfg)
        m.submodules.sets = sets = SetQueue(cfg)
        wiring.connect(m, wiring.flipped(self.i), operands.i)
        wiring.connect(m, sets.o, wiring.flipped(self.o))
        ternary = self.ternary if cfg.ternary else Const(0, 1)
        start = operands.start

        filling = Signal()
        index = Signal(range(max(2, cfg.entries)))
        before_last = Signal()
        last = Signal()
        bank = Signal()
        free = Signal(range(3), init=2)
        tag = Signal(set_tag(cfg), reset_less=True)
        m.d.comb += [
            operands.ternary.eq(ternary),
            before_last.eq(filling & (index == Mux(ternary, TERNARY_ENTRIES, cfg.entries) - 2)),
            # A bank will be free, and what is filled now complete.
            operands.may_start_next.eq(
                ((free != 0) | self.release) & ~start & (~filling | last | before_last)
            ),
            sets.push.eq(before_last),
            sets.tag.eq(tag),
            self.busy.eq(filling),
        ]
        m.d.sync += [last.eq(before_last), free.eq(free + self.release - start)]
        # A set that clears begins with the last two entries, while the sum is still that of none.
        clears = Signal(range(3))
        if cfg.ternary:
            with m.If(start & (clears != 0)):
                m.d.sync += clears.eq(clears - 1)
            with m.If(self.begin):
                m.d.sync += clears.eq(2)
        with m.If(start):
            m.d.sync += [filling.eq(1), tag.eq(operands.tag)]
            m.d.sync += index.eq(Mux(ternary & (clears != 0), TERNARY_ENTRIES, 0))
        with m.Else():
            with m.If(last):
                m.d.sync += filling.eq(0)
            m.d.sync += index.eq(index + 1)
        with m.If(last):
            m.d.sync += bank.eq(~bank)

        # The operand by which the next entry differs is read a cycle ahead: the register between
        # its memory and the adder costs no LUT.
        upcoming = Signal.like(index)
        falling = Signal()  # that operand is subtracted
        m.d.comb += upcoming.eq(Mux(start, 0, index + 1))
        self._step(m, upcoming, operands.place, falling)
        address = Signal(self.address_width - 1)
        m.d.comb += [
            address.eq(index ^ (index >> 1)),
            self.write_enable.eq(filling),
            self.write_address.eq(Cat(address, bank)),
        ]
        clearing = Signal()
        if cfg.ternary:
            m.d.comb += clearing.eq(ternary & (index > TERNARY_ENTRIES - 1))
            with m.If(ternary):
                m.d.comb += address.eq(index)
        self._add(m, platform, operands, falling, clearing)
        return m

    def _step(self, m: Module, upcoming: Signal, place: Signal, falling: Signal) -> None:
        """By which operand, and its sign, entry ``upcoming`` of the order and the next differ."""
        cfg = self.config
        # Gray code: bit j of the index flips when the bits below it are all ones.
        rising = Signal()
        following = Signal(range(cfg.entries + 1))
        m.d.comb += [
            following.eq(upcoming + 1),
            rising.eq((following ^ (following >> 1)).bit_select(place, 1)),
            falling.eq(rising if cfg.halved else ~rising),
        ]
        for j in reversed(range(max(1, (cfg.entries - 1).bit_length()))):
            with m.If(upcoming[:j].all() if j else Const(1)), m.If(~upcoming[j]):
                m.d.comb += place.eq(j)
        if cfg.ternary:
            with m.If(self.ternary):
                with m.Switch(upcoming):
                    for i, (operand, sign) in enumerate(fill_steps()):
                        with m.Case(i):
                            m.d.comb += [place.eq(operand), falling.eq(sign < 0)]

    def _add(
        self, m: Module, platform: object, operands: Operands, falling: Signal, clearing: Signal
    ) -> None:
        """An accumulator per table, from its first entry on; it stands still while ``clearing``."""
        cfg = self.config
        ternary = self.ternary if cfg.ternary else Const(0, 1)
        layout = {"operand": operands.a.shape(), "subtract": 1}
        change = Signal(data.StructLayout(layout), reset_less=True)
        m.d.sync += [change.operand.eq(operands.a), change.subtract.eq(falling)]
        for t in range(cfg.rows * cfg.depth):
            current = Signal(signed(cfg.entry_width), name=f"current_{t}", reset_less=True)
            # A signal, assigned everywhere: the carry cells take it without a LUT before them.
            step = Signal(signed(cfg.activation_bits + 1), name=f"step_{t}")
            operand = change.operand[t]
            m.d.comb += step.eq(Mux(ternary, operand, operand << int(cfg.symmetric)))
            total = add(m, platform, current, step, cfg.entry_width, change.subtract)
            with m.If(operands.start):
                first = Mux(ternary, 0, operands.first[t]) if cfg.symmetric else 0
                m.d.sync += current.eq(first)
            with m.Elif(~clearing):
                m.d.sync += current.eq(total)
            m.d.comb += self.write_data[t].eq(current)
