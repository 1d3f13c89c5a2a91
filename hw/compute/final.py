"""FINAL: complete sums to float32."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.compute.rounding import Finaliser
from lutcore.hw.compute.scale import final_tag
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import INSTRUCTIONS, Opcode
from lutcore.hw.control.tokens import TokenPort
from lutcore.hw.memory.buffers import read_signature
from lutcore.hw.util import State, last_channel_of, low_zeros

__all__ = ["FinalUnit"]


class FinalUnit(wiring.Component):
    """Reads the sums of a finished slot and rounds them, F results per cycle.

    Results leave row by row: for each row tile of the slot, each row, the channels of the block in
    order; rows and channels past the end of the layer are left out.

    Attributes
    ----------
    latency
        Cycles from the read of sums to their results, while those are taken at once.

    Members
    -------
    i, freed
        Finished sum slots from SCALE; a strobe when all of a slot has been read.
    rows
        Row scales, a set per row tile.
    sum_slot, sum_word, sum_enable, sum_data
        Read port of the sum buffer; data a cycle later.
    bias
        Read port of the bias buffer.
    b
        Bias slot tokens.
    o
        F float32; those past the end of a row are undefined.
    o_row_end, o_tile_end
        Beside ``o``: its results are the last of a row; they are the last of a row tile.
    """

    # The read, and a register behind the choice of its part.
    latency = 2 + Finaliser.latency

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.bias_width = max(config.bus_width, 32 * config.final_lanes)
        self.bias_slot_words = max(2, config.bias_words * 32 // self.bias_width)
        #: Groups of F biases in a word of their buffer.
        self.bias_items = self.bias_width // (32 * config.final_lanes)
        self.sum_address = (config.sum_words - 1).bit_length()
        super().__init__(
            {
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "start": In(1),
                "i": In(stream.Signature(final_tag(config))),
                "freed": Out(1),
                "rows": In(stream.Signature(data.ArrayLayout(32, config.rows))),
                "sum_slot": Out(1),
                "sum_word": Out(self.sum_address),
                "sum_enable": Out(1),
                "sum_data": In(data.ArrayLayout(signed(config.sum_width), config.scale_lanes)),
                "bias": Out(read_signature(self.bias_width, self.bias_slot_words)),
                "b": Out(TokenPort()),
                "o": Out(stream.Signature(data.ArrayLayout(32, config.final_lanes))),
                "o_row_end": Out(1),
                "o_tile_end": Out(1),
                "active": Out(1),
                "state": Out(State),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        layer, tag = self.layer, self.i.payload
        parts = cfg.scale_lanes // cfg.final_lanes

        last_channel = Signal(range(cfg.tiles * cfg.lanes), reset_less=True)
        # Channels of the row behind the first of this group of F.
        behind = Signal.like(last_channel, reset_less=True)
        row_tile = Signal.like(tag.row_tiles, reset_less=True)
        row = Signal(range(max(2, cfg.rows)), reset_less=True)
        part = Signal(range(parts), reset_less=True)
        # Sum words of a row tile, and where it begins, of which the low bits are 0.
        even = low_zeros(cfg.tile_sums)
        words = Signal(self.sum_address + 1 - even, reset_less=True)
        tile_base = Signal(self.sum_address - even, reset_less=True)
        following = Signal.like(tile_base)
        m.d.sync += words.eq(tag.tiles * (cfg.tile_sums >> even))
        m.d.comb += following.eq(tile_base + words)
        word = Signal(self.sum_address, reset_less=True)
        b_slot = Signal(reset_less=True)
        bias_items = self.bias_items
        bias_item = Signal(range(cfg.bias_words // cfg.final_lanes + 1), reset_less=True)
        scales = Signal(data.ArrayLayout(32, cfg.rows), reset_less=True)

        en = Signal()
        issue = Signal()
        # The last group of a row and the last row of a tile, known with the group.
        last_tile = Signal(reset_less=True)
        rows = Signal(range(cfg.rows + 1), reset_less=True)
        row_end = Signal(reset_less=True)
        row_last = Signal(reset_less=True)
        tile_end = Signal()
        m.d.comb += tile_end.eq(row_end & row_last)
        short_row = last_channel < cfg.final_lanes
        at_last_tile = row_tile == tag.row_tiles
        rows_now = Mux(at_last_tile & tag.r_last, layer.last_rows, cfg.rows)

        # Whether a word of bias is there, by what was known a cycle ago: of this word, of the one
        # behind it, and of the first one.
        bias_word = bias_item >> (bias_items.bit_length() - 1)
        bias_part = bias_item[: bias_items.bit_length() - 1]
        other_slot = self.bias.writer_slot != b_slot
        has_this, has_following, has_first, no_bias = (
            Signal(name=name, reset_less=True)
            for name in ("has_this", "has_following", "has_first", "no_bias")
        )
        wrapped, rewound = (Signal(name=name, reset_less=True) for name in ("wrapped", "rewound"))
        m.d.sync += [
            has_this.eq(other_slot | (self.bias.writer_count > bias_word)),
            has_following.eq(other_slot | (self.bias.writer_count > bias_word + 1)),
            has_first.eq(other_slot | (self.bias.writer_count != 0)),
            no_bias.eq(~layer.bias),
            wrapped.eq(issue & (bias_part.all() if bias_items > 1 else 1)),
            rewound.eq(issue & row_end),
        ]
        has_bias = no_bias | Mux(rewound, has_first, Mux(wrapped, has_following, has_this))
        m.d.comb += [
            self.sum_slot.eq(tag.slot),
            self.sum_word.eq(word),
            self.sum_enable.eq(issue),
            self.bias.slot.eq(b_slot),
            self.bias.word.eq(bias_word),
            self.bias.enable.eq(issue),
        ]
        with m.If(self.start):
            m.d.sync += b_slot.eq(1)

        busy = Signal()
        with m.FSM():
            with m.State("IDLE"), m.If(self.i.valid & (~tag.b_take | self.b.available)):
                m.d.comb += self.b.take.eq(tag.b_take)
                m.d.sync += [
                    b_slot.eq(b_slot ^ tag.b_take),
                    row_tile.eq(0),
                    tile_base.eq(0),
                    word.eq(0),
                    last_channel.eq(last_channel_of(cfg, tag.tiles, tag.n_last, layer.last_lanes)),
                ]
                m.next = "ROW_TILE"
            with m.State("ROW_TILE"):
                m.d.comb += self.rows.ready.eq(1)
                m.d.sync += [
                    scales.eq(self.rows.payload),
                    row.eq(0),
                    behind.eq(last_channel),
                    part.eq(0),
                    bias_item.eq(0),
                    rewound.eq(1),
                    last_tile.eq(at_last_tile),
                    rows.eq(rows_now),
                    row_last.eq(rows_now == 1),
                    row_end.eq(short_row),
                ]
                with m.If(self.rows.valid):
                    m.next = "ROWS"
            with m.State("ROWS"):
                m.d.comb += [busy.eq(1), issue.eq(en & has_bias)]
                with m.If(issue):
                    m.d.sync += [
                        behind.eq(behind - cfg.final_lanes),
                        row_end.eq(behind < 2 * cfg.final_lanes),
                        part.eq(part + 1),
                        bias_item.eq(bias_item + 1),
                    ]
                    with m.If(part == parts - 1):
                        m.d.sync += [part.eq(0), word.eq(word + cfg.rows)]
                    with m.If(row_end):
                        m.d.sync += [
                            row.eq(row + 1),
                            row_last.eq(row + 2 == rows),
                            row_end.eq(short_row),
                            behind.eq(last_channel),
                            part.eq(0),
                            bias_item.eq(0),
                            word.eq(Cat(Const(0, even), tile_base) + row + 1),
                        ]
                        with m.If(tile_end):
                            m.d.sync += [
                                row_tile.eq(row_tile + 1),
                                tile_base.eq(following),
                                word.eq(Cat(Const(0, even), following)),
                            ]
                            with m.If(last_tile):
                                m.d.comb += [
                                    self.i.ready.eq(1),
                                    self.b.give.eq(tag.b_give),
                                ]
                                m.next = "IDLE"
                            with m.Else():
                                m.next = "ROW_TILE"
        valid = self._round(
            m,
            en,
            issue,
            ends=Cat(row_end, tile_end),
            part=part,
            item=bias_item[: (bias_items - 1).bit_length()],
            scale=scales[row],
        )
        in_flight = Signal(range(64))
        m.d.sync += in_flight.eq(in_flight + issue - (self.o.valid & self.o.ready))
        m.d.comb += [
            self.o.valid.eq(valid),
            en.eq(~self.o.valid | self.o.ready),
            self.active.eq(self.i.valid | (in_flight != 0)),
        ]
        with m.If(issue):
            m.d.comb += self.state.eq(State.BUSY)
        with m.Elif(self.o.valid & ~self.o.ready):
            m.d.comb += self.state.eq(State.WAIT_OUT)
        with m.Elif(self.i.valid & ~busy):
            m.d.comb += self.state.eq(State.WAIT_IN)
        return m

    def _round(
        self, m: Module, en: Signal, issue: Signal, *, ends: Value, part: Signal, item: Value,
        scale: Value,
    ) -> Value:  # fmt: skip
        """The pipeline behind the read of sums and bias; whether a result is at its end."""
        cfg, layer = self.config, self.layer
        # Cycle 1: sums and bias arrive; everything behind moves with `en`.
        valid_1 = Signal()
        ends_1 = Signal(2, reset_less=True)
        part_1 = Signal.like(part, reset_less=True)
        item_1 = Signal(range(max(2, self.bias_items)), reset_less=True)
        scale_1 = Signal(32, reset_less=True)
        last_1 = Signal()
        # The slot is free only when its last word has left the read port, which is SCALE's too.
        m.d.comb += self.freed.eq(en & last_1)
        with m.If(en):
            m.d.sync += [
                last_1.eq(self.i.ready),
                valid_1.eq(issue),
                ends_1.eq(ends),
                part_1.eq(part),
                item_1.eq(item),
                scale_1.eq(scale),
            ]
        sums = self.sum_data.as_value().word_select(part_1, cfg.final_lanes * cfg.sum_width)
        biases = self.bias.data.word_select(item_1, 32 * cfg.final_lanes)
        sums_2 = Signal(cfg.final_lanes * cfg.sum_width, reset_less=True)
        biases_2 = Signal(32 * cfg.final_lanes, reset_less=True)
        valid_2 = Signal()
        ends_2 = Signal(2, reset_less=True)
        scale_2 = Signal(32, reset_less=True)
        with m.If(en):
            m.d.sync += [
                sums_2.eq(sums),
                biases_2.eq(biases),
                valid_2.eq(valid_1),
                ends_2.eq(ends_1),
                scale_2.eq(scale_1),
            ]
        lanes = []
        for lane in range(cfg.final_lanes):
            tag_width = 2 if lane == 0 else 0
            final = Finaliser(sum_width=cfg.sum_width, tag_width=tag_width)
            m.submodules[f"lane_{lane}"] = final
            m.d.comb += [
                final.en.eq(en),
                final.i_valid.eq(valid_2),
                final.i_sum.eq(sums_2.word_select(lane, cfg.sum_width).as_signed()),
                final.i_exp.eq(layer.exponent),
                final.i_row.eq(scale_2),
                final.i_bias.eq(biases_2.word_select(lane, 32)),
                final.i_use_bias.eq(layer.bias),
                self.o.payload[lane].eq(final.o_y),
            ]
            lanes.append(final)
        m.d.comb += [
            lanes[0].i_tag.eq(ends_2),
            Cat(self.o_row_end, self.o_tile_end).eq(lanes[0].o_tag),
        ]
        return lanes[0].o_valid
