"""STORE: float32 results to memory."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import INSTRUCTIONS, RESULT_ALIGNMENT, Opcode
from lutcore.hw.control.nest import body_layout
from lutcore.hw.memory.dma import OFFSET_BITS, REGION_BITS, request_layout
from lutcore.hw.util import State, last_channel_of, low_zeros

__all__ = ["StoreUnit"]


class StoreUnit(wiring.Component):
    """Packs results into beats and writes them, a burst sequence per row.

    Members
    -------
    body, next_address
        Bodies of the STY instruction, taken when they are done with; the address of the row behind
        the body's last one.
    i
        F results per transfer, in the order of FINAL.
    i_row_end, i_tile_end
        Beside ``i``: its results are the last of a row; they are the last of a row tile.
    command
        Byte offset in the result region, a multiple of `RESULT_ALIGNMENT`, and words of a row's
        part, to be checked and written.
    o
        Beats with their strobes.
    operand_error
        A body that is misaligned or too wide, or whose rows are not those that were computed.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.longest = config.tiles * config.lanes  # words of a row of a block
        super().__init__(
            {
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "body": In(stream.Signature(body_layout(OFFSET_BITS))),
                "next_address": Out(REGION_BITS + 1),
                "i": In(stream.Signature(data.ArrayLayout(32, config.final_lanes))),
                "i_row_end": In(1),
                "i_tile_end": In(1),
                "command": Out(stream.Signature(request_layout(self.longest))),
                "o": Out(
                    stream.Signature(
                        data.StructLayout(
                            {"data": config.bus_width, "strobe": config.bus_width // 8}
                        )
                    )
                ),
                "operand_error": Out(1),
                "active": Out(1),
                "state": Out(State),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        layer, body = self.layer, self.body.payload
        results = cfg.bus_width // 32  # results per beat
        groups = results // cfg.final_lanes  # transfers per beat

        row = Signal(range(max(2, cfg.rows)))  # of the block, 0 between blocks
        even = low_zeros(RESULT_ALIGNMENT)  # bits of an address that are 0
        place_in_region = Signal(OFFSET_BITS - even, reset_less=True)
        address = Cat(Const(0, even), place_in_region)
        last_channel = Signal(range(cfg.tiles * cfg.lanes), reset_less=True)
        # Channels of the row behind the first of the group to come.
        behind = Signal.like(last_channel, reset_less=True)
        tiles = Signal(range(cfg.tiles + 1))
        row_last = row + 1 == Mux(body.r_last, layer.last_rows, cfg.rows)
        place = Signal(range(groups), reset_less=True)
        beat = Signal(data.ArrayLayout(32, results), reset_less=True)
        strobe = Signal(results)
        # A beat of one group has its first result for certain.
        certain = groups == 1
        stored = Cat(Const(1, certain), strobe[certain:])
        full = Signal()
        take = Signal()
        ends = behind < cfg.final_lanes
        gathering = Signal()
        starts = (body.address, layer.row_stride)
        misaligned = Cat(start % RESULT_ALIGNMENT for start in starts).any()

        m.d.comb += [
            tiles.eq(body.n),
            self.o.valid.eq(full),
            self.o.payload.data.eq(beat),
            self.o.payload.strobe.eq(Cat(bit.replicate(4) for bit in stored)),
            self.command.payload.offset.eq(address),
            self.command.payload.length.eq(last_channel + 1),
            self.i.ready.eq(gathering & (~full | self.o.ready)),
            take.eq(self.i.valid & self.i.ready),
            self.next_address.eq(address + layer.row_stride),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    place_in_region.eq(body.address[even:]),
                    last_channel.eq(last_channel_of(cfg, tiles, body.n_last, layer.last_lanes)),
                ]
                with m.If(self.body.valid):
                    with m.If(misaligned | (body.n > cfg.tiles)):
                        m.d.comb += self.operand_error.eq(1)
                    with m.Else():
                        m.next = "COMMAND"
            with m.State("COMMAND"):
                m.d.comb += self.command.valid.eq(1)
                m.d.sync += [
                    behind.eq(last_channel),
                    place.eq(address >> (cfg.final_lanes.bit_length() + 1)),
                ]
                with m.If(self.command.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += gathering.eq(1)
                other_rows = Cat(ends, ends & row_last) != Cat(self.i_row_end, self.i_tile_end)
                m.d.comb += self.operand_error.eq(take & other_rows)
                with m.If(take & ends):
                    m.d.sync += [
                        row.eq(Mux(row_last, 0, row + 1)),
                        place_in_region.eq(self.next_address[even:]),
                    ]
                    with m.If(row_last):
                        m.d.comb += self.body.ready.eq(1)
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "COMMAND"

        # Groups gather in a beat, which leaves when it is full or the row ends.
        with m.If(full & self.o.ready):
            m.d.sync += full.eq(0)
            if groups > 1:
                m.d.sync += strobe.eq(0)
        with m.If(take):
            for index in range(results):
                group, element = divmod(index, cfg.final_lanes)
                with m.If(place == group):
                    m.d.sync += beat[index].eq(self.i.payload[element])
                    if index >= certain:
                        m.d.sync += strobe[index].eq(behind >= element)
            m.d.sync += behind.eq(behind - cfg.final_lanes)
            with m.If(ends | (place == groups - 1)):
                m.d.sync += [full.eq(1), place.eq(0)]
            with m.Else():
                m.d.sync += place.eq(place + 1)

        m.d.comb += self.active.eq(self.body.valid | full)
        with m.If(take | self.command.valid):
            m.d.comb += self.state.eq(State.BUSY)
        with m.Elif(full & ~self.o.ready):
            m.d.comb += self.state.eq(State.WAIT_OUT)
        with m.Elif(self.body.valid):
            m.d.comb += self.state.eq(State.WAIT_IN)
        return m
