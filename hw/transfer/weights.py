"""LDW: bias, scales and codes, from memory to their three buffers.

A block is requested as a whole, and its sections come one after the other::

    body ─► WeightRequester ─ command ─► read master
                  │ blocks                    │ beats
                  └──────────────────► WeightSink ─► bias buffer
                                              ├────► scale buffer
                                              └─► Unpacker ─► weight buffer

The requester takes the slots that a block needs before it asks for its bytes, so that beats on the
bus always have a place to go and neither loader can block the other.
"""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import SLOTS, CoreConfig, ceil_div
from lutcore.hw.contract.isa import INSTRUCTIONS, Opcode
from lutcore.hw.contract.loops import EXTENT_BITS
from lutcore.hw.control.nest import body_layout
from lutcore.hw.control.tokens import TokenPort
from lutcore.hw.memory.dma import OFFSET_BITS, REGION_BITS, request_layout
from lutcore.hw.memory.queue import Queue
from lutcore.hw.transfer.slot_writer import SlotWriter, write_signature
from lutcore.hw.transfer.unpacker import Unpacker
from lutcore.hw.util import State, first_at

__all__ = ["WeightLoader", "WeightRequester", "WeightSink", "block_layout"]


def _most_beats(config: CoreConfig) -> dict[str, int]:
    """Beats of the sections of a block, the last of which may be filled in part."""
    bits = {
        "bias_beats": config.bias_words * 32,
        "scale_beats": config.scale_words * config.scale_lanes * 16,
        "code_beats": config.weight_words * config.weight_bits,
    }
    return {name: ceil_div(size, config.bus_width) for name, size in bits.items()}


def _size_layout(config: CoreConfig) -> data.StructLayout:
    """Sizes of a block: beats of its sections, its columns, and words of a step."""
    return data.StructLayout(
        {
            **{name: range(most + 1) for name, most in _most_beats(config).items()},
            "columns": range(config.weight_words * config.step + 1),
            "words": range(config.tiles * config.planes + 1),
        }
    )


def block_layout(config: CoreConfig) -> data.StructLayout:
    """A block that was requested: its sizes, and which sections come before the codes."""
    return data.StructLayout({"sizes": _size_layout(config), "has_scales": 1, "has_bias": 1})


class WeightRequester(wiring.Component):
    """Measures the blocks of LDW, takes their slots and requests them.

    A block of ``g`` groups is requested ``5 + g`` cycles after its body is there, if its slots are
    free.

    Members
    -------
    fields, layer
        Of the instruction: the levels whose iterations have scales and a bias; layer registers.
    body, next_address
        Bodies of the instruction, taken when they have been requested; the address behind the
        block.
    command
        To the read master: a request per block.
    w_available, w_take
        There is a free slot for codes; strobe: it is taken.
    s_available, s_take
        The same for scales.
    b_available, b_take
        The same for the bias.
    pending, block
        There is a block of which beats are to come; the oldest one.
    done
        Strobe: the last beat of that block was used.
    operand_error
        A block of more tiles, scales or codes than there is room for.
    counting
        The groups of a block are being counted, which takes a cycle for each of them.
    waiting
        A block waits for its slots.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.longest = sum(_most_beats(config).values())  # a block
        super().__init__(
            {
                "fields": In(INSTRUCTIONS[Opcode.LDW].layout),
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "body": In(stream.Signature(body_layout(OFFSET_BITS))),
                "next_address": Out(REGION_BITS + 1),
                "command": Out(stream.Signature(request_layout(self.longest))),
                "w_available": In(1),
                "w_take": Out(1),
                "s_available": In(1),
                "s_take": Out(1),
                "b_available": In(1),
                "b_take": Out(1),
                "pending": Out(1),
                "block": Out(block_layout(config)),
                "done": In(1),
                "operand_error": Out(1),
                "counting": Out(1),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        layer, body, fields = self.layer, self.body.payload, self.fields

        def beats_of(byte_count: Value) -> Value:
            return (byte_count + (cfg.beat_bytes - 1)) >> cfg.beat_shift

        groups = Signal(range(cfg.scale_words + 1), reset_less=True)
        counted = Signal(EXTENT_BITS, reset_less=True)
        tiles = Signal(range(cfg.tiles + 1))
        planes_total = Signal(range(cfg.tiles * cfg.planes + 1), reset_less=True)
        lines = Signal(range(2 * (cfg.planes + 1) + 1))  # of a chunk and a group
        group_lines = Signal(
            range(cfg.tiles * 2 * (cfg.planes + 1) * cfg.chunks + 1), reset_less=True
        )
        # Of all the words of a step, over all steps.
        places = Signal(len(planes_total) + EXTENT_BITS, reset_less=True)
        lines_most = (1 << len(groups)) * cfg.tiles * 2 * (cfg.planes + 1) * cfg.chunks
        scale_lines = Signal(range(lines_most), reset_less=True)
        sizes = Signal(_size_layout(cfg), reset_less=True)
        with_scales = Signal()
        with_bias = Signal()
        total = Signal(range(self.longest + 1), reset_less=True)
        m.d.comb += [
            with_scales.eq(first_at(body.first, fields.scale_level)),
            with_bias.eq(layer.bias & first_at(body.first, fields.bias_level)),
            tiles.eq(body.n),
            lines.eq((Mux(layer.per_plane, layer.planes, 1) + layer.offset) << layer.wide),
        ]
        # Every block in the queue holds a token, and at most 2 * SLOTS + 1 tokens exist: SLOTS in
        # each of the two counters and one with the reader, whatever tokens a program adds.
        layout = block_layout(cfg)
        m.submodules.blocks = blocks = Queue(width=layout.size, depth=2 * SLOTS + 1, bounded=False)
        requested = data.View(layout, blocks.w_data)
        m.d.comb += [
            requested.sizes.eq(sizes),
            requested.has_scales.eq(with_scales),
            requested.has_bias.eq(with_bias),
            self.pending.eq(blocks.r_rdy),
            self.block.eq(blocks.r_data),
            blocks.r_en.eq(self.done),
            self.command.payload.offset.eq(body.address),
            self.command.payload.length.eq(total),
            self.next_address.eq(body.address + (total << cfg.beat_shift)),
        ]
        # COUNT goes on from here; it takes a cycle at least, in which lines of a group are known.
        m.d.sync += [
            groups.eq(0),
            counted.eq(body.k),
            group_lines.eq(tiles * lines * cfg.chunks),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += planes_total.eq(tiles * layer.planes)
                with m.If(self.body.valid):
                    with m.If(body.n > cfg.tiles):
                        m.d.comb += self.operand_error.eq(1)
                    with m.Else():
                        m.next = "COUNT"
            with m.State("COUNT"):
                # Groups of the block, by subtraction: their division would cost a divider.
                # Where they are too many for their counter, they are for the buffer.
                m.d.sync += groups.eq(Mux(groups.all(), groups, groups + 1))
                m.d.comb += self.counting.eq(1)
                with m.If(counted > layer.group_size):
                    m.d.sync += counted.eq(counted - layer.group_size)
                with m.Else():
                    m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.sync += [
                    places.eq(planes_total * body.k),
                    scale_lines.eq(groups * group_lines),
                ]
                m.next = "SECTIONS"
            with m.State("SECTIONS"):
                m.d.sync += [
                    sizes.bias_beats.eq(Mux(with_bias, beats_of(tiles * (cfg.lanes * 4)), 0)),
                    sizes.scale_beats.eq(
                        Mux(with_scales, beats_of(scale_lines * (2 * cfg.scale_lanes)), 0)
                    ),
                    sizes.code_beats.eq(beats_of(places * (cfg.lanes // 8))),
                    sizes.columns.eq(body.k),
                    sizes.words.eq(planes_total),
                ]
                # Codes that would not even fit if all steps were full: their beats may be too many
                # for a request. The unpacker finds the others.
                with m.If(
                    (with_scales & (scale_lines > cfg.scale_words))
                    | (places > cfg.weight_words * cfg.step)
                ):
                    m.d.comb += self.operand_error.eq(1)
                with m.Else():
                    m.next = "TOTAL"
            with m.State("TOTAL"):
                m.d.sync += total.eq(sizes.bias_beats + sizes.scale_beats + sizes.code_beats)
                m.next = "SLOTS"
            with m.State("SLOTS"):
                m.d.comb += self.waiting.eq(1)
                with m.If(
                    self.w_available
                    & (~with_scales | self.s_available)
                    & (~with_bias | self.b_available)
                ):
                    m.d.comb += [
                        blocks.w_en.eq(1),
                        self.w_take.eq(1),
                        self.s_take.eq(with_scales),
                        self.b_take.eq(with_bias),
                    ]
                    m.next = "REQUEST"
            with m.State("REQUEST"):
                m.d.comb += self.command.valid.eq(1)
                with m.If(self.command.ready):
                    m.d.comb += self.body.ready.eq(1)
                    m.next = "IDLE"
        return m


class WeightSink(wiring.Component):
    """Writes the beats of requested blocks into the buffers of bias, scales and codes.

    Bias and scales are written in the cycle in which they come, one beat per cycle; codes by an
    :class:`lutcore.hw.transfer.unpacker.Unpacker`. Between the last word of a block and the first
    beat of the next one there is a cycle.

    Parameters
    ----------
    config
        The core.
    scale_write, bias_write
        Signatures of the buffers, see `write_signature`.

    Members
    -------
    start
        Strobe: an instruction begins; its first slots are slots 0.
    group_size
        Columns of a run, from the layer registers.
    pending, block
        There is a block of which beats are to come; the oldest one, of `block_layout`.
    done
        Strobe: the last word of that block is written.
    i
        Beats of the blocks, in their order.
    w_give, s_give, b_give
        Strobes: a slot for codes, for scales, for a bias begins to be filled, and its reader may
        follow.
    weights, scales, biases
        To the buffers.
    overflow
        Strobe: codes are written beyond the end of the slot.
    busy
        From the cycle after the slots begin to that of ``done``.
    """

    def __init__(
        self, config: CoreConfig, *, scale_write: wiring.Signature, bias_write: wiring.Signature
    ) -> None:
        self.config, self.scale_write, self.bias_write = config, scale_write, bias_write
        self.unpacker = Unpacker(config)
        self.weight_write = write_signature(
            self.unpacker.piece * self.unpacker.groups, self.unpacker.piece, config.weight_words
        )
        super().__init__(
            {
                "start": In(1),
                "group_size": In(17),
                "pending": In(1),
                "block": In(block_layout(config)),
                "done": Out(1),
                "i": In(stream.Signature(config.bus_width)),
                "w_give": Out(1),
                "s_give": Out(1),
                "b_give": Out(1),
                "weights": Out(self.weight_write),
                "scales": Out(scale_write),
                "biases": Out(bias_write),
                "overflow": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        block, sizes = self.block, self.block.sizes
        m.submodules.unpacker = unpacker = self.unpacker
        m.submodules.scale_writer = scale_writer = SlotWriter(self.scale_write)
        m.submodules.bias_writer = bias_writer = SlotWriter(self.bias_write)
        wiring.connect(m, scale_writer.port, wiring.flipped(self.scales))
        wiring.connect(m, bias_writer.port, wiring.flipped(self.biases))
        # One more than the last of the codes.
        beats = Signal(range(max(_most_beats(self.config).values()) + 2), reset_less=True)
        slot = Signal(reset_less=True)  # of the codes
        with m.If(self.start):
            m.d.sync += slot.eq(1)
        codes = Signal()  # the next beat is one of them
        begins = Signal()
        m.d.comb += [
            self.w_give.eq(begins),
            self.s_give.eq(begins & block.has_scales),
            self.b_give.eq(begins & block.has_bias),
            unpacker.start.eq(begins),
            unpacker.columns.eq(sizes.columns),
            unpacker.group_size.eq(self.group_size),
            unpacker.words.eq(sizes.words),
            unpacker.active.eq(self.busy),
            unpacker.i.payload.eq(self.i.payload),
            unpacker.i.valid.eq(self.i.valid & codes),
            self.weights.begin.eq(begins),
            self.weights.write_enable.eq(unpacker.write_enable),
            self.weights.write_word.eq(unpacker.write_word),
            self.weights.write_data.eq(unpacker.write_data),
            self.weights.done.eq(unpacker.word_done),
            self.overflow.eq(unpacker.overflow),
        ]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += beats.eq(1)
                with m.If(self.pending):
                    # The slots are assigned now; their readers may follow.
                    m.d.comb += [begins.eq(1), self.weights.write_slot.eq(~slot)]
                    m.d.sync += slot.eq(~slot)
                    with m.If(block.has_bias):
                        m.next = "BIAS"
                    with m.Elif(block.has_scales):
                        m.next = "SCALES"
                    with m.Else():
                        m.next = "CODES"
            with m.State("BIAS"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += beats.eq(beats + 1)
                    with m.If(beats == sizes.bias_beats):
                        m.d.sync += beats.eq(1)
                        with m.If(block.has_scales):
                            m.next = "SCALES"
                        with m.Else():
                            m.next = "CODES"
            with m.State("SCALES"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += beats.eq(beats + 1)
                    with m.If(beats == sizes.scale_beats):
                        m.d.sync += beats.eq(1)
                        m.next = "CODES"
            with m.State("CODES"):
                m.d.comb += [
                    self.weights.write_slot.eq(slot),
                    # The unpacker may be ready for more than the block has.
                    codes.eq(beats <= sizes.code_beats),
                    self.i.ready.eq(codes & unpacker.i.ready),
                ]
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += beats.eq(beats + 1)
                with m.If(unpacker.done):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
        for state, writer, begin in (
            ("BIAS", bias_writer, self.b_give),
            ("SCALES", scale_writer, self.s_give),
        ):
            m.d.comb += [
                writer.start.eq(self.start),
                writer.begin.eq(begin),
                writer.write.eq(fsm.ongoing(state) & self.i.valid),
                writer.beat.eq(self.i.payload),
                # Its counters matter in that state alone, so no further condition is needed.
                writer.rewind.eq(~fsm.ongoing(state)),
            ]
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m


class WeightLoader(wiring.Component):
    """LDW: blocks of bias, scales and codes.

    Parameters
    ----------
    config
        The core.
    scale_write, bias_write
        Signatures of the buffers, see `lutcore.hw.transfer.slot_writer.write_signature`.

    Members
    -------
    fields, layer
        Of the instruction: the levels whose iterations have scales and a bias; layer registers.
    start
        Strobe: an instruction begins; its first slots are slots 0.
    body, next_address
        Bodies of the instruction, taken when they have been requested; the address behind the
        block.
    command
        To the read master: a request per block.
    i
        The beats of the requests, in their order.
    w, s, b
        Tokens of slots of codes, scales and biases: a free one is taken before the block is
        requested, and given when it begins to be filled, so that its reader may follow.
    weights, scales, biases
        To the buffers.
    operand_error
        A block of more tiles, scales or codes than there is room for. Codes in short runs, which
        fill words in part, are found too many only when the last word is full.
    counting
        A block is being measured, which takes a cycle for each of its groups.
    active
        A body is being requested, or beats are to come.
    state
        For the counters of busy and waiting cycles.
    """

    def __init__(
        self, config: CoreConfig, *, scale_write: wiring.Signature, bias_write: wiring.Signature
    ) -> None:
        self.config = config
        self.requester = WeightRequester(config)
        self.sink = WeightSink(config, scale_write=scale_write, bias_write=bias_write)
        self.unpacker = self.sink.unpacker
        self.longest = self.requester.longest  # a block
        super().__init__(
            {
                "fields": In(INSTRUCTIONS[Opcode.LDW].layout),
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "start": In(1),
                "body": In(stream.Signature(body_layout(OFFSET_BITS))),
                "next_address": Out(REGION_BITS + 1),
                "command": Out(stream.Signature(request_layout(self.longest))),
                "i": In(stream.Signature(config.bus_width)),
                "w": Out(TokenPort()),
                "s": Out(TokenPort()),
                "b": Out(TokenPort()),
                "weights": Out(self.sink.weight_write),
                "scales": Out(scale_write),
                "biases": Out(bias_write),
                "operand_error": Out(1),
                "counting": Out(1),
                "active": Out(1),
                "state": Out(State),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.requester = requester = self.requester
        m.submodules.sink = sink = self.sink
        wiring.connect(m, wiring.flipped(self.body), requester.body)
        wiring.connect(m, requester.command, wiring.flipped(self.command))
        wiring.connect(m, wiring.flipped(self.i), sink.i)
        for name in ("weights", "scales", "biases"):
            wiring.connect(m, getattr(sink, name), wiring.flipped(getattr(self, name)))
        for name in "wsb":
            tokens = getattr(self, name)
            m.d.comb += [
                getattr(requester, f"{name}_available").eq(tokens.available),
                tokens.take.eq(getattr(requester, f"{name}_take")),
                tokens.give.eq(getattr(sink, f"{name}_give")),
            ]
        m.d.comb += [
            requester.fields.eq(self.fields),
            requester.layer.eq(self.layer),
            sink.start.eq(self.start),
            sink.group_size.eq(self.layer.group_size),
            sink.pending.eq(requester.pending),
            sink.block.eq(requester.block),
            requester.done.eq(sink.done),
            self.next_address.eq(requester.next_address),
            self.counting.eq(requester.counting),
            self.operand_error.eq(requester.operand_error | sink.overflow),
            self.active.eq(self.body.valid | requester.pending),
        ]
        with m.If(sink.busy & self.i.valid):
            m.d.comb += self.state.eq(State.BUSY)
        with m.Elif(sink.busy):
            m.d.comb += self.state.eq(State.WAIT_IN)
        with m.Elif(requester.waiting):
            m.d.comb += self.state.eq(State.WAIT_OUT)
        with m.Elif(self.body.valid):
            m.d.comb += self.state.eq(State.WAIT_IN)
        return m
