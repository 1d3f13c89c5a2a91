"""The elongated LUT array: lookups, adder trees, bit-serial accumulators.

One word of the weight buffer per cycle holds a plane of one step for all lanes. Every lane looks
its ``depth`` indices up in every row's tables (the index is shared between rows, the table between
lanes), adds the results in a tree, shifts the planes together (most significant first) and adds the
whole to the accumulator of its tile. At the end of a run the sum leaves through a FIFO to the scale
unit.

    cycle   0        1        2       3        4 …      t      t+1
            issue    buffer   index   lookup   tree     h      accumulator / FIFO
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.compute.lanes import Lanes, step_layout
from lutcore.hw.compute.tags import set_tag
from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.contract.isa import INSTRUCTIONS, Opcode
from lutcore.hw.control.tokens import TokenPort
from lutcore.hw.memory.buffers import read_signature
from lutcore.hw.memory.ram import lut_ram
from lutcore.hw.util import State

__all__ = ["ArrayUnit"]


class ArrayUnit(wiring.Component):
    """Lanes with their control and the FIFO to the scale unit.

    Attributes
    ----------
    latency
        Cycles from the issue of a tile's last word to its sums at ``o_sums``, if no others are
        before them.

    settles
        Cycles that the layer registers stand before the first set; an MMA takes longer.

    Members
    -------
    layer, start
        Layer registers; pulse: an MMA instruction begins.
    i, release
        Table sets, bank 0 first, then alternately; pulse: the bank may be filled again.
    write_enable, write_address, write_data
        An entry of all tables, from TABLE.
    buffer
        Read port of the weight buffer.
    o_valid, o_sums, o_pop
        ``o_sums`` holds the oldest finished tile while ``o_valid`` is 1; ``o_pop`` removes it.
    w
        Weight slot tokens.
    expecting
        TABLE is at work on an instruction, so that having nothing to do is waiting.
    """

    settles = 3

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.latency = self.latency_of(config)
        self.lanes = Lanes(config)
        super().__init__(
            {
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "start": In(1),
                "i": In(stream.Signature(set_tag(config))),
                "release": Out(1),
                "write_enable": In(1),
                "write_address": In(self.lanes.index_bits + 1),
                "write_data": In(self.lanes.write_data.shape()),
                "w": Out(TokenPort()),
                "buffer": Out(read_signature(self.stored_bits, config.weight_words)),
                "o_valid": Out(1),
                "o_pop": In(1),
                "o_sums": Out(self.lanes.o_sums.shape()),
                "expecting": In(1),
                "active": Out(1),
                "issue": Out(1),
                "state": Out(State),
            }
        )

    @staticmethod
    def latency_of(config: CoreConfig) -> int:
        """``latency``, without making the unit."""
        # The buffer's read before the lanes, and the FIFO behind them.
        return 1 + Lanes.latency_of(config) + 1

    @property
    def stored_bits(self) -> int:
        """Bits of a word of the weight buffer, in whole groups of slices."""
        cfg = self.config
        return ceil_div(cfg.step, cfg.slice_group) * cfg.slice_group * cfg.lanes

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        m.submodules.lanes = lanes = self.lanes
        m.d.comb += [
            lanes.write_enable.eq(self.write_enable),
            lanes.write_address.eq(self.write_address),
            lanes.write_data.eq(self.write_data),
            # Two cycles before the last lookup, which is as long as the fill takes to begin.
            self.release.eq(self.i.ready),
        ]

        tag = self.i.payload
        entry = Signal(range(max(2, cfg.tiles)))
        plane = Signal(3)
        bank = Signal()
        taken = Signal()
        slot = Signal(init=1, reset_less=True)
        word = Signal(range(cfg.weight_words), reset_less=True)
        fresh = Signal(init=1)  # the first step of a set is still to come
        credit = Signal(range(cfg.tiles + 1), init=cfg.tiles)
        # Accumulators free, and more than one, a cycle ago; one was taken then.
        some, some_more, spent = (
            Signal(name=name, reset_less=True) for name in ("some", "some_more", "spent")
        )

        # All that decides on an issue is known a cycle ahead: it is in every unit's way.
        last_plane = Signal.like(plane, reset_less=True)
        one_plane = Signal(reset_less=True)
        plane_last = Signal()
        first_entry = Signal(init=1)
        entry_last = Signal(reset_less=True)  # unless it is the first
        m.d.sync += [
            last_plane.eq(Mux(self.layer.per_plane, 0, self.layer.planes - 1)),
            one_plane.eq(last_plane == 0),
        ]
        set_last = Signal()
        finishing = Signal()
        rewind = Signal()
        has_slot = Signal()
        has_word = Signal()
        has_room = Signal()
        # An accumulator is read while the step before is being added: a set of a single word must
        # not be followed at once by another word for the same accumulator.
        single = Signal(reset_less=True)
        read_word = Signal.like(word)
        # Compared a cycle ahead: what is complete stays so until the slot is given back.
        has_first = Signal(reset_less=True)
        has_next = Signal(reset_less=True)
        count = self.buffer.writer_count
        m.d.sync += [
            has_first.eq(count > 0),
            has_next.eq(Mux(self.issue, Mux(rewind, count > 1, count > word + 1), count > word)),
        ]
        m.d.comb += [
            set_last.eq(plane_last & Mux(first_entry, tag.one_entry, entry_last)),
            finishing.eq(tag.run_last & plane_last),
            rewind.eq(fresh & tag.body_first),
            has_slot.eq(~tag.w_take | taken),
            read_word.eq(Mux(rewind, 0, word)),
            has_word.eq((self.buffer.writer_slot != slot) | Mux(rewind, has_first, has_next)),
            has_room.eq(~finishing | Mux(spent, some_more, some)),
            self.issue.eq(self.i.valid & has_slot & has_word & has_room & ~single),
            self.w.take.eq(self.i.valid & ~has_slot & self.w.available),
            self.i.ready.eq(self.issue & set_last),
            self.w.give.eq(self.i.ready & tag.w_give),
            self.buffer.slot.eq(slot),
            self.buffer.word.eq(read_word),
            self.buffer.enable.eq(1),
        ]
        with m.If(self.start):
            m.d.sync += slot.eq(1)  # the first take turns it to slot 0
        with m.If(self.w.take):
            m.d.sync += [taken.eq(1), slot.eq(~slot)]
        with m.If(self.issue):
            m.d.sync += [
                word.eq(read_word + 1),
                fresh.eq(set_last),
                plane.eq(Mux(plane_last, 0, plane + 1)),
                plane_last.eq(Mux(plane_last, one_plane, plane + 1 == last_plane)),
            ]
            with m.If(set_last):
                m.d.sync += [entry.eq(0), first_entry.eq(1), bank.eq(~bank), taken.eq(0)]
            with m.Elif(plane_last):
                m.d.sync += [
                    entry.eq(entry + 1),
                    first_entry.eq(0),
                    entry_last.eq(entry + 1 == tag.last_entry),
                ]
        with m.Elif(~self.i.valid):
            m.d.sync += plane_last.eq(one_plane)
        m.d.sync += [
            single.eq(self.issue & set_last & first_entry & one_plane),
            credit.eq(credit + self.o_pop - (self.issue & finishing)),
            some.eq(credit != 0),
            some_more.eq(credit > 1),
            spent.eq(self.issue & finishing),
        ]

        issued = Signal(step_layout(cfg), reset_less=True)
        valid = Signal()
        m.d.sync += [
            valid.eq(self.issue),
            issued.bank.eq(bank),
            issued.plane_last.eq(plane_last),
            issued.run_first.eq(tag.run_first),
            issued.run_last.eq(tag.run_last),
            issued.entry.eq(entry),
            issued.signs.eq(tag.signs),
        ]
        m.d.comb += [
            lanes.step.eq(issued),
            lanes.step.valid.eq(valid),
            lanes.weights.eq(self.buffer.data[: cfg.weight_bits]),
        ]

        self._finish(m, platform)
        with m.If(self.issue):
            m.d.comb += self.state.eq(State.BUSY)
        with m.Elif(self.i.valid & has_slot & has_word):
            m.d.comb += self.state.eq(State.WAIT_OUT)
        with m.Elif(self.expecting | self.i.valid):
            m.d.comb += self.state.eq(State.WAIT_IN)
        m.d.comb += self.active.eq(self.i.valid | valid | (credit != cfg.tiles))
        return m

    def _finish(self, m: Module, platform: object) -> None:
        """Finished tiles, in the order in which the scale unit takes them."""
        cfg, lanes = self.config, self.lanes
        head = Signal(range(max(2, cfg.tiles)))
        tail = Signal(range(max(2, cfg.tiles)))
        level = Signal(range(cfg.tiles + 1))
        wide = lanes.o_sums.as_value()
        m.submodules.finished = finished = lut_ram(platform, shape=len(wide), depth=cfg.tiles)
        write, read = finished.write_port(), finished.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(lanes.o_write),
            write.addr.eq(tail),
            write.data.eq(wide),
            read.addr.eq(head),
            self.o_sums.as_value().eq(read.data),
            self.o_valid.eq(level != 0),
        ]
        with m.If(lanes.o_write):
            m.d.sync += tail.eq(Mux(tail == cfg.tiles - 1, 0, tail + 1))
        with m.If(self.o_pop):
            m.d.sync += head.eq(Mux(head == cfg.tiles - 1, 0, head + 1))
        m.d.sync += level.eq(level + lanes.o_write - self.o_pop)
