"""The table precompute unit.

TABLE walks the loops of an MMA instruction, reads the activations of each step from the buffer and
fills one set of lookup tables per step: ``rows * depth`` tables in lockstep, one entry of each per
cycle. Beside them it adds up the activations of each run, for SCALE, and passes the row scales that
come before the activations to FINAL.

                     ┌──────────┐  seek   ┌────────┐  word   ┌──────┐
    bodies ─────────▶│   walk   │────────▶│ reader │────┬───▶│ fill │───▶ entries, table sets
                     └──────────┘         └────────┘    │    └──────┘
                           │                            │    ┌──────────┐
                           └─ what the word is ─────────┼───▶│ run_sums │───▶ runs
                                                        │    └──────────┘
                                                        │    ┌────────────┐
                                                        └───▶│ row_scales │───▶ row scales
                                                             └────────────┘
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.compute.fill import TableFill
from lutcore.hw.compute.row_scales import RowScales
from lutcore.hw.compute.run_sums import RunSums
from lutcore.hw.compute.tags import run_layout, set_tag
from lutcore.hw.compute.walk import BodyWalk
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import INSTRUCTIONS, Opcode
from lutcore.hw.control.nest import body_layout
from lutcore.hw.memory.buffers import BufferReader
from lutcore.hw.util import State

__all__ = ["TableUnit"]


class TableUnit(wiring.Component):
    """Walks an MMA instruction; feeds ARRAY with table sets and SCALE with runs.

    Members
    -------
    body, active
        Bodies of the instruction's nest, each taken when it is done with; one is at work on.
    fields, layer, start
        Levels of the instruction; layer registers; pulse: the instruction begins.
    x_take, x_available, x_give
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
    state
        What the unit does, for the counters.
    """

    body: stream.Interface
    active: Signal
    fields: data.View
    layer: data.View
    start: Signal
    x_available: Signal
    x_take: Signal
    x_give: Signal
    buffer: wiring.PureInterface
    o_set: stream.Interface
    o_run: stream.Interface
    o_rows: stream.Interface
    release: Signal
    write_enable: Signal
    write_address: Signal
    write_data: data.View
    operand_error: Signal
    state: Signal

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.reader = BufferReader(
            width=config.x_memory_bits,
            item_bits=config.x_word_bits,
            slot_words=config.x_slot_words,
        )
        self.fill = TableFill(config)
        super().__init__(
            {
                "body": In(stream.Signature(body_layout())),
                "active": Out(1),
                "fields": In(INSTRUCTIONS[Opcode.MMA].layout),
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "start": In(1),
                "x_available": In(1),
                "x_take": Out(1),
                "x_give": Out(1),
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
        m.submodules.walk = walk = BodyWalk(cfg)
        m.submodules.reader = reader = self.reader
        m.submodules.fill = fill = self.fill
        m.submodules.run_sums = run_sums = RunSums(cfg)
        m.submodules.row_scales = row_scales = RowScales(cfg)
        wiring.connect(m, wiring.flipped(self.body), walk.body)
        wiring.connect(m, reader.port, wiring.flipped(self.buffer))
        wiring.connect(m, fill.o, wiring.flipped(self.o_set))
        wiring.connect(m, run_sums.o, wiring.flipped(self.o_run))
        wiring.connect(m, row_scales.o, wiring.flipped(self.o_rows))
        m.d.comb += [
            walk.fields.eq(self.fields),
            walk.layer.eq(self.layer),
            walk.start.eq(self.start),
            walk.x_available.eq(self.x_available),
            self.x_take.eq(walk.x_take),
            self.x_give.eq(walk.x_give),
            self.operand_error.eq(walk.operand_error),
            walk.issue.eq(reader.issue),
            reader.request.eq(walk.request),
            reader.seek.eq(walk.seek),
            reader.seek_slot.eq(walk.seek_slot),
            reader.seek_word.eq(walk.seek_word),
            fill.begin.eq(self.start),
            fill.ternary.eq(self.layer.ternary if cfg.ternary else 0),
            fill.release.eq(self.release),
            self.write_enable.eq(fill.write_enable),
            self.write_address.eq(fill.write_address),
            self.write_data.eq(fill.write_data),
        ]

        # The word that was read goes to the fill or, if it is part of a header, to the row scales;
        # all words go to the sums, which forget those of a header.
        word = walk.word
        activations = fill.i.payload.a
        accepted = Signal()
        m.d.comb += [
            fill.i.valid.eq(reader.valid & ~word.header & row_scales.room),
            activations.eq(reader.item[: len(activations.as_value())]),
            fill.i.payload.tag.eq(word.set),
            reader.ready.eq(row_scales.room & (word.header | fill.i.ready)),
            accepted.eq(reader.valid & reader.ready),
            row_scales.valid.eq(accepted & word.header),
            row_scales.word.eq(reader.item),
            row_scales.keep.eq(word.header_last & word.keep_rows),
            run_sums.valid.eq(accepted),
            run_sums.a.eq(activations),
            run_sums.run_start.eq(word.run_start),
            run_sums.run_end.eq(word.run_end),
            run_sums.tag.eq(word.run),
        ]

        with m.If(fill.busy):
            m.d.comb += self.state.eq(State.BUSY)
        with m.Elif(reader.valid):
            m.d.comb += self.state.eq(State.WAIT_OUT)
        with m.Elif(walk.request | self.body.valid):
            m.d.comb += self.state.eq(State.WAIT_IN)
        m.d.comb += self.active.eq(
            walk.request | reader.valid | fill.busy | run_sums.active | row_scales.active
        )
        return m
