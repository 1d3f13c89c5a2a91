"""Fills the lookup tables, one entry of each per cycle.

The order is a Gray code, in which neighbours differ in one activation, so that one adder per
table does it (±1-coded tables step by two activations, {0,1}-coded and ternary ones by one).

A ±1-coded table holds the half in which the last activation counts as it is, so the negation of
what the index selects; the lanes turn the sign. In cores with ternary tables it holds the entries
themselves.

    word in   |a0|a1|a2|a3|--|--|--|--|b0|b1|b2|b3|     one word: an activation for every table
    fill         -  -  - |T0|T1|T3|T2|T6|T7|T5|T4|T0|   symmetric, group 4: 8 entries
    set out                                    |set|    to ARRAY, with its tag
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.cells.carry import add
from lutcore.hw.cells.fused import Term, fused_add, masked, plain
from lutcore.hw.compute.tags import set_tag
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.ternary import ENTRIES as TERNARY_ENTRIES
from lutcore.hw.contract.ternary import GROUP as TRITS
from lutcore.hw.contract.ternary import fill_steps
from lutcore.hw.memory.ram import lut_ram

__all__ = ["TableFill"]


class TableFill(wiring.Component):
    """Collects the activations of a step and writes its tables.

    One set takes ``entries`` cycles (14 with ternary weights), without a gap when the next step's
    words have come in the meantime and a bank is free.

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
    write_enable, write_address, write_data
        To the table memories: the address has the entry in its low bits and the bank on top; an
        entry for every table.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        tables = config.rows * config.depth
        self.word_layout = data.StructLayout(
            {
                "a": data.ArrayLayout(signed(config.activation_bits), tables),
                "tag": set_tag(config),
            }
        )
        self.address_width = (config.entries - 1).bit_length() + 1
        super().__init__(
            {
                "i": In(stream.Signature(self.word_layout)),
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
        group, entries, tables = cfg.group, cfg.entries, cfg.rows * cfg.depth
        entry = signed(cfg.entry_width)
        word = data.ArrayLayout(signed(cfg.activation_bits), tables)

        # Collection: the words of a set go into one half of a LUT RAM while the fill reads the
        # other, and for ±1 coding their sum, which is the first entry, into a register.
        place_bits = (group - 1).bit_length()
        m.submodules.operands = operands = lut_ram(platform, shape=word, depth=2 << place_bits)
        keep, fetch = operands.write_port(), operands.read_port(domain="comb")
        half = Signal()  # that is being filled
        count = Signal(range(group + 1))
        # All that decides when a fill starts is in registers: it enables every operand's memory.
        full = Signal()
        may_start = Signal(init=1)
        start = Signal()
        tag = Signal(set_tag(cfg), reset_less=True)
        ternary = self.ternary if cfg.ternary else Const(0, 1)
        words = Mux(ternary, TRITS, group)
        ready = Signal(init=1)
        accept = Signal()
        full_next = Signal()
        may_start_next = Signal()
        m.d.comb += [
            self.i.ready.eq(ready),
            accept.eq(self.i.valid & ready),
            full_next.eq(Mux(accept, ~full & (count == words - 1), full & ~start)),
        ]
        m.d.sync += [
            full.eq(full_next),
            may_start.eq(may_start_next),
            # Either way a word fits: into the half that is not full, or into the other one.
            ready.eq(~full_next | may_start_next),
        ]
        first = [Signal(entry, name=f"first_{t}", reset_less=True) for t in range(tables)]
        going = Signal()  # the next word is not the first of its set
        m.d.comb += going.eq(~full & (count != 0))
        with m.If(accept):
            m.d.sync += [
                count.eq(Mux(full, 1, count + 1)),
                tag.eq(self.i.payload.tag),
            ]
            for t in range(tables if cfg.symmetric else 0):
                a, so_far = self.i.payload.a[t], masked(first[t], going)
                if cfg.halved:
                    total = fused_add(m, platform, plain(a), so_far, cfg.entry_width)
                else:
                    minus = Term(lambda _, bit: 1 ^ bit, (a,))
                    total = fused_add(
                        m, platform, minus, so_far, cfg.entry_width, carry_in=Const(1, 1)
                    )
                m.d.sync += first[t].eq(total)
        with m.Elif(start):
            m.d.sync += count.eq(0)
        with m.If(start):
            m.d.sync += half.eq(~half)
        m.d.comb += [
            keep.en.eq(accept),
            keep.addr.eq(Cat(Mux(full, 0, count)[:place_bits], half ^ start)),
            keep.data.eq(self.i.payload.a),
        ]

        # Fill.
        filling = Signal()
        index = Signal(range(max(2, entries)))
        before_last = Signal()
        last = Signal()
        bank = Signal()
        free = Signal(range(3), init=2)
        current = [Signal(entry, name=f"current_{t}", reset_less=True) for t in range(tables)]
        fill_tag = Signal.like(tag)
        m.d.comb += [
            before_last.eq(filling & (index == Mux(ternary, TERNARY_ENTRIES, entries) - 2)),
            start.eq(full & may_start),
            self.busy.eq(filling),
            # A bank will be free, and what is filled now complete.
            may_start_next.eq(
                ((free != 0) | self.release) & ~start & (~filling | last | before_last)
            ),
        ]
        m.d.sync += [last.eq(before_last), free.eq(free + self.release - start)]

        # Two filled sets, the older one in a register that ARRAY decides by.
        newer = Signal.like(tag)
        both = Signal()
        taken = Signal()
        m.d.comb += taken.eq(self.o.valid & self.o.ready)
        with m.If(before_last):
            m.d.sync += newer.eq(fill_tag)
        with m.If(taken & both):
            m.d.sync += self.o.payload.eq(newer)
        with m.Elif(before_last & (taken | ~self.o.valid)):
            m.d.sync += self.o.payload.eq(fill_tag)
        m.d.sync += [
            self.o.valid.eq(before_last | (self.o.valid & ~taken) | both),
            both.eq(Mux(taken, both & before_last, both | (self.o.valid & before_last))),
        ]
        # A set that clears begins with the last two entries, while the sum is still that of none.
        clears = Signal(range(3))
        clearing = Signal()
        if cfg.ternary:
            m.d.comb += clearing.eq(ternary & (index > TERNARY_ENTRIES - 1))
            with m.If(start & (clears != 0)):
                m.d.sync += clears.eq(clears - 1)
            with m.If(self.begin):
                m.d.sync += clears.eq(2)

        # The operand by which the next entry differs is read a cycle ahead: the register between
        # its memory and the adder costs no LUT.
        upcoming = Signal.like(index)
        flip = Signal(range(group))
        falling = Signal()
        change = Signal(data.StructLayout({"operand": word, "subtract": 1}), reset_less=True)
        # Gray code: bit j of the index flips when the bits below it are all ones.
        rising = Signal()
        following = Signal(range(entries + 1))
        m.d.comb += [
            upcoming.eq(Mux(start, 0, index + 1)),
            following.eq(upcoming + 1),
            rising.eq((following ^ (following >> 1)).bit_select(flip, 1)),
            falling.eq(rising if cfg.halved else ~rising),
        ]
        for j in reversed(range(max(1, (entries - 1).bit_length()))):
            with m.If(upcoming[:j].all() if j else Const(1)), m.If(~upcoming[j]):
                m.d.comb += flip.eq(j)
        address = Signal(self.address_width - 1)
        m.d.comb += address.eq(index ^ (index >> 1))
        if cfg.ternary:
            with m.If(ternary):
                m.d.comb += address.eq(index)
                with m.Switch(upcoming):
                    for i, (place, sign) in enumerate(fill_steps()):
                        with m.Case(i):
                            m.d.comb += [flip.eq(place), falling.eq(sign < 0)]
        m.d.comb += [
            fetch.addr.eq(Cat(flip, ~(half ^ start))),
            self.write_enable.eq(filling),
            self.write_address.eq(Cat(address, bank)),
            *(self.write_data[t].eq(current[t]) for t in range(tables)),
        ]
        m.d.sync += [change.operand.eq(fetch.data), change.subtract.eq(falling)]
        sums = []
        for t in range(tables):
            # A signal, assigned everywhere: the carry cells take it without a LUT before them.
            step = Signal(signed(cfg.activation_bits + 1), name=f"step_{t}")
            operand = change.operand[t]
            m.d.comb += step.eq(Mux(ternary, operand, operand << int(cfg.symmetric)))
            sums.append(add(m, platform, current[t], step, cfg.entry_width, change.subtract))
        with m.If(start):
            m.d.sync += [filling.eq(1), fill_tag.eq(tag)]
            m.d.sync += index.eq(Mux(ternary & (clears != 0), TERNARY_ENTRIES, 0))
            for t in range(tables):
                begin = Mux(ternary, 0, first[t]) if cfg.symmetric else 0
                m.d.sync += current[t].eq(begin)
        with m.Else():
            with m.If(last):
                m.d.sync += filling.eq(0)
            m.d.sync += index.eq(index + 1)
            for t in range(tables):
                with m.If(~clearing):
                    m.d.sync += current[t].eq(sums[t])
        with m.If(last):
            m.d.sync += bank.eq(~bank)
        return m
