"""The table precompute unit.

TABLE walks the loops of an MMA instruction, reads the activations of each step from the buffer and
fills one set of lookup tables per step: ``rows * depth`` tables in lockstep, one entry of each per
cycle::

    nest ─► BodyQueue ─► Walk ──► BufferReader ──┬─► TableFill ─► tables, ARRAY
                          word by word           ├─► RunSums ───► SCALE
                                                 └─► RowScales ─► FINAL
"""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.compute.fill import TableFill
from lutcore.hw.compute.row_scales import RowScales
from lutcore.hw.compute.run_sums import RunSums
from lutcore.hw.compute.tags import run_layout, set_tag
from lutcore.hw.compute.walk import BodyQueue, Walk, word_flags
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import INSTRUCTIONS, Opcode
from lutcore.hw.control.nest import body_layout
from lutcore.hw.control.tokens import TokenPort
from lutcore.hw.memory.buffers import BufferReader
from lutcore.hw.util import State

__all__ = ["TableUnit"]


class TableUnit(wiring.Component):
    """Walks an MMA instruction; feeds ARRAY with table sets and SCALE with runs.

    Members
    -------
    body, active
        Bodies of the instruction's nest, each taken when it is done with; the nest has bodies left.
    fields, layer, start
        Levels of the instruction; layer registers; pulse: the instruction begins.
    x
        Activation slot tokens.
    buffer
        Read port of the activation buffer.
    o_set, o_run, o_rows
        Table sets to ARRAY, runs to SCALE, row scales (of finished row tiles) to FINAL.
    release, write_enable, write_address, write_data
        Pulse: ARRAY is done with a set; entries of all tables to ARRAY.
    operand_error
        A run longer than the accumulators are wide for, too many tiles, more columns than a slot of
        weights has, or loops that do not end together with a sum slot.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.reader = BufferReader(
            width=config.x_memory_bits,
            item_bits=config.x_word_bits,
            slot_words=config.x_slot_words,
            tag=word_flags(config),
        )
        self.fill = TableFill(config)
        super().__init__(
            {
                "body": In(stream.Signature(body_layout())),
                "active": Out(1),
                "fields": In(INSTRUCTIONS[Opcode.MMA].layout),
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "start": In(1),
                "x": Out(TokenPort()),
                "buffer": Out(self.reader.port_signature),
                "o_set": Out(stream.Signature(set_tag(config))),
                "o_run": Out(stream.Signature(run_layout(config))),
                "o_rows": Out(stream.Signature(data.ArrayLayout(32, config.rows))),
                "release": In(1),
                "write_enable": Out(1),
                "write_address": Out(self.fill.address_width),
                "write_data": Out(self.fill.write_data.shape()),
                "operand_error": Out(1),
                "state": Out(State),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        m.submodules.bodies = bodies = BodyQueue(cfg)
        m.submodules.walk = walk = Walk(cfg)
        m.submodules.reader = reader = self.reader
        m.submodules.fill = fill = self.fill
        m.submodules.run_sums = sums = RunSums(cfg)
        m.submodules.row_scales = rows = RowScales(cfg)
        wiring.connect(m, wiring.flipped(self.body), bodies.body)
        wiring.connect(m, reader.port, wiring.flipped(self.buffer))
        wiring.connect(m, fill.o, wiring.flipped(self.o_set))
        wiring.connect(m, sums.o, wiring.flipped(self.o_run))
        wiring.connect(m, rows.o, wiring.flipped(self.o_rows))
        m.d.comb += [
            bodies.fields.eq(self.fields),
            bodies.layer.eq(self.layer),
            bodies.start.eq(self.start),
            bodies.x_available.eq(self.x.available),
            self.x.take.eq(bodies.x_take),
            self.operand_error.eq(bodies.operand_error),
            walk.layer.eq(self.layer),
            walk.valid.eq(bodies.valid),
            walk.plan.eq(bodies.plan),
            bodies.taken.eq(walk.taken),
            walk.issue.eq(reader.issue),
            self.x.give.eq(walk.x_give),
            reader.seek.eq(walk.seek),
            reader.seek_slot.eq(bodies.slot),
            reader.seek_word.eq(bodies.word),
            reader.request.eq(walk.request),
            reader.i_tag.eq(walk.flags),
        ]
        # A word goes to the fill or, of a header, to the row scales, and always to the sums.
        flags, words = reader.tag, fill.i.payload.a
        accepted = reader.valid & reader.ready
        m.d.comb += [
            fill.begin.eq(self.start),
            fill.ternary.eq(self.layer.ternary if cfg.ternary else 0),
            fill.release.eq(self.release),
            fill.i.valid.eq(reader.valid & ~flags.header & rows.room),
            words.eq(reader.item[: words.shape().size]),
            fill.i.payload.tag.eq(flags.tag),
            reader.ready.eq(rows.room & (flags.header | fill.i.ready)),
            rows.valid.eq(accepted & flags.header),
            rows.word.eq(reader.item),
            rows.keep.eq(flags.header_last & flags.keep_rows),
            sums.valid.eq(accepted),
            sums.a.eq(words),
            sums.run_start.eq(flags.run_start),
            sums.run_end.eq(flags.run_end),
            sums.tag.eq(flags.run),
            self.write_enable.eq(fill.write_enable),
            self.write_address.eq(fill.write_address),
            self.write_data.eq(fill.write_data),
            self.active.eq(
                bodies.pending | walk.request | reader.busy | fill.busy | sums.active | rows.active
            ),
        ]
        with m.If(fill.busy):
            m.d.comb += self.state.eq(State.BUSY)
        with m.Elif(reader.valid):
            m.d.comb += self.state.eq(State.WAIT_OUT)
        with m.Elif(walk.request | bodies.pending | self.body.valid):
            m.d.comb += self.state.eq(State.WAIT_IN)
        return m
