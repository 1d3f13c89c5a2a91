"""LDX: activations, from memory to the activation buffer."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import INSTRUCTIONS, Opcode
from lutcore.hw.contract.loops import EXTENT_BITS
from lutcore.hw.control.nest import body_layout
from lutcore.hw.control.tokens import TokenPort
from lutcore.hw.memory.dma import OFFSET_BITS, REGION_BITS, request_layout
from lutcore.hw.memory.queue import Queue
from lutcore.hw.transfer.slot_writer import SlotWriter
from lutcore.hw.util import State, first_at

__all__ = ["ActivationLoader"]


class ActivationLoader(wiring.Component):
    """LDX: blocks of activations, as they will be read.

    A block is requested two cycles after its body is there, if there is a free slot for it; a block
    that shares the slot of the one before it goes behind it. Beats are written in the cycle in
    which they come, one per cycle.

    Parameters
    ----------
    config
        The core.
    write
        Signature of the buffer, see `lutcore.hw.transfer.slot_writer.write_signature`.

    Members
    -------
    fields
        Of the instruction: the level whose iterations each take a slot.
    start
        Strobe: an instruction begins; its first slot is slot 0.
    body, next_address
        Bodies of the instruction, taken when they have been requested; the address behind the
        block.
    command
        To the read master: a request per block.
    i
        The beats of the requests, in their order.
    x
        Tokens: a free slot is taken before the block is requested, and given when it begins to be
        filled, so that its reader may follow.
    buffer
        To the activation buffer.
    operand_error
        A body of more activations than there is room for in what is left of the slot.
    active
        A body is being requested, or beats are to come.
    state
        For the counters of busy and waiting cycles.
    """

    def __init__(self, config: CoreConfig, *, write: wiring.Signature) -> None:
        self.config, self.write = config, write
        self.pieces = config.x_memory_bits // config.bus_width  # beats per memory word
        self.longest = config.x_slot_words * self.pieces  # a slot
        super().__init__(
            {
                "fields": In(INSTRUCTIONS[Opcode.LDX].layout),
                "start": In(1),
                "body": In(stream.Signature(body_layout(OFFSET_BITS))),
                "next_address": Out(REGION_BITS + 1),
                "command": Out(stream.Signature(request_layout(self.longest))),
                "i": In(stream.Signature(config.bus_width)),
                "x": Out(TokenPort()),
                "buffer": Out(write),
                "operand_error": Out(1),
                "active": Out(1),
                "state": Out(State),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        body = self.body.payload
        items, pieces, slot_words = cfg.x_items, self.pieces, cfg.x_slot_words

        # Requester.
        words = Signal(EXTENT_BITS)  # memory words
        beats = Signal(range(self.longest + 1), reset_less=True)
        fill = Signal(range(slot_words + 1), reset_less=True)  # memory words in the slot
        filling = Signal(len(fill) + 1)
        too_many = Signal(reset_less=True)
        fresh = first_at(body.first, self.fields.level)
        layout = data.StructLayout({"beats": len(beats), "fresh": 1})
        tags = Queue(width=layout.size, depth=4)
        m.submodules.tags = tags
        head = Signal(layout)
        waiting = Signal()
        m.d.comb += [
            filling.eq(Mux(fresh, 0, fill) + words[: len(fill)]),
            words.eq((body.k + (items - 1)) >> (items - 1).bit_length()),
            tags.w_data.eq(Cat(beats, fresh)),
            head.eq(tags.r_data),
            self.command.payload.offset.eq(body.address),
            self.command.payload.length.eq(beats),
            self.next_address.eq(body.address + (beats << cfg.beat_shift)),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    beats.eq(words << (pieces - 1).bit_length()),
                    too_many.eq(words[len(fill) :].any() | (filling > slot_words)),
                ]
                with m.If(self.body.valid):
                    m.d.sync += fill.eq(filling)
                    m.next = "SLOT"
            with m.State("SLOT"):
                m.d.comb += waiting.eq(1)
                # The core stops then, whatever becomes of the block.
                m.d.comb += self.operand_error.eq(too_many)
                with m.If((~fresh | self.x.available) & tags.w_rdy):
                    m.d.comb += [tags.w_en.eq(1), self.x.take.eq(fresh)]
                    m.next = "REQUEST"
            with m.State("REQUEST"):
                m.d.comb += self.command.valid.eq(1)
                with m.If(self.command.ready):
                    m.d.comb += self.body.ready.eq(1)
                    m.next = "IDLE"

        # Sink.
        m.submodules.writer = writer = SlotWriter(self.write)
        wiring.connect(m, writer.port, wiring.flipped(self.buffer))
        got = Signal.like(beats, reset_less=True)
        sinking = Signal()
        begins = Signal()
        m.d.comb += [
            writer.start.eq(self.start),
            writer.begin.eq(begins),
            writer.rewind.eq(begins),
            writer.write.eq(sinking & self.i.valid),
            writer.beat.eq(self.i.payload),
            self.x.give.eq(begins),
        ]
        with m.FSM() as sink:
            with m.State("IDLE"):
                m.d.sync += got.eq(1)
                with m.If(tags.r_rdy):
                    m.d.comb += begins.eq(head.fresh)
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += got.eq(got + 1)
                    with m.If(got == head.beats):
                        m.d.comb += tags.r_en.eq(1)
                        m.next = "IDLE"
        m.d.comb += sinking.eq(sink.ongoing("DATA"))
        m.d.comb += self.active.eq(self.body.valid | tags.r_rdy)
        with m.If(sinking & self.i.valid):
            m.d.comb += self.state.eq(State.BUSY)
        with m.Elif(sinking):
            m.d.comb += self.state.eq(State.WAIT_IN)
        with m.Elif(waiting):
            m.d.comb += self.state.eq(State.WAIT_OUT)
        return m
