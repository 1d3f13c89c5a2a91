"""The loaders: LDW (bias, scales, codes) and LDX (activations).

Each has two halves. The *requester* walks the instruction's loops, takes the slots that a block
needs and only then asks for its bytes, so that data on the bus always have a place to go and no
loader can block the other. The *sink* follows, block by block, and writes what arrives into the
buffers.
"""

from math import gcd

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import SLOTS, CoreConfig, ceil_div
from lutcore.hw.contract.isa import INSTRUCTIONS, Opcode
from lutcore.hw.contract.loops import EXTENT_BITS
from lutcore.hw.control.nest import body_layout
from lutcore.hw.control.tokens import TokenPort
from lutcore.hw.memory.dma import OFFSET_BITS, REGION_BITS, request_layout
from lutcore.hw.memory.queue import Queue
from lutcore.hw.util import State, first_at

__all__ = [
    "ActivationLoader",
    "Unpacker",
    "WeightLoader",
    "write_signature",
]


def write_signature(width: int, piece: int, slot_words: int) -> wiring.Signature:
    """A loader's side of a :class:`lutcore.hw.memory.buffers.SlotBuffer`."""
    return wiring.Signature(
        {
            "write_enable": Out(width // piece),
            "write_slot": Out(1),
            "write_word": Out(max(1, (slot_words - 1).bit_length())),
            "write_data": Out(piece),
            "begin": Out(1),
            "done": Out(1),
        }
    )


def _most_beats(config: CoreConfig) -> dict[str, int]:
    """Beats of the sections of a block, the last of which may be filled in part."""
    bits = {
        "bias_beats": config.bias_words * 32,
        "scale_beats": config.scale_words * config.scale_lanes * 16,
        "code_beats": config.weight_words * config.weight_bits,
    }
    return {name: ceil_div(size, config.bus_width) for name, size in bits.items()}


def block_tag(config: CoreConfig) -> data.StructLayout:
    """What the sink of LDW has to know of a block."""
    return data.StructLayout(
        {
            **{name: range(most + 1) for name, most in _most_beats(config).items()},
            "columns": range(config.weight_words * config.step + 1),
            "words": range(config.tiles * config.planes + 1),  # of the weight buffer, per step
        }
    )


class Unpacker(wiring.Component):
    """Turns the codes of a block, packed without gaps, into words of the weight buffer.

    Codes come as slices of ``lanes`` bits (one column of one plane); a word is a step's worth of
    slices, or fewer at the end of a run. Slices past the end keep what lay there before: they meet
    zero activations, and where they would be signs ARRAY takes zeros instead.

    Members
    -------
    start, columns, group_size, words
        A block begins.
    active
        From the cycle after ``start`` to that of ``done``.
    i
        Beats.
    write_enable, write_word, write_data
        To the weight buffer, in groups of ``slice_group`` slices: a bit per group of the word.
    done
        Strobe: the last word of the block is written.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.piece = config.slice_group * config.lanes
        self.groups = ceil_div(config.step, config.slice_group)
        super().__init__(
            {
                "start": In(1),
                "columns": In(range(config.weight_words * config.step + 1)),
                "group_size": In(17),
                "words": In(range(config.tiles * config.planes + 1)),
                "active": In(1),
                "i": In(stream.Signature(config.bus_width)),
                "write_enable": Out(self.groups),
                "write_word": Out((config.weight_words - 1).bit_length()),
                "write_data": Out(self.piece),
                "word_done": Out(1),
                "overflow": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        unit = gcd(cfg.lanes, cfg.bus_width)
        per_slice = cfg.lanes // unit
        per_beat = cfg.bus_width // unit
        capacity = self.piece // unit + per_beat
        hold = Signal(capacity * unit, reset_less=True)
        level = Signal(range(capacity + 1), reset_less=True)

        run_left = Signal.like(self.columns, reset_less=True)  # of the run, this step included
        rest = Signal.like(self.columns, reset_less=True)  # behind the run
        word = Signal(len(self.words), reset_less=True)  # of the step
        slices_left = Signal(range(cfg.step + 1), reset_less=True)  # of the word
        group = Signal(range(self.groups), reset_less=True)
        address = Signal((cfg.weight_words - 1).bit_length() + 1, reset_less=True)

        def slices_of(run_size):
            return Mux(run_size > cfg.step, cfg.step, run_size)

        take = Signal(range(cfg.slice_group + 1))
        need = Signal(range(capacity + 1))
        emit = Signal()
        word_ends = Signal()
        step_ends = Signal()
        run_ends = Signal()
        m.d.comb += [
            take.eq(Mux(slices_left > cfg.slice_group, cfg.slice_group, slices_left)),
            need.eq(take * per_slice),
            emit.eq(self.active & (level >= need)),
            word_ends.eq(slices_left <= cfg.slice_group),
            step_ends.eq(word_ends & (word == self.words - 1)),
            run_ends.eq(run_left <= cfg.step),
            self.write_word.eq(address),
            self.write_data.eq(hold[: self.piece]),
            self.write_enable.eq(emit << group),
            self.word_done.eq(emit & word_ends),
            self.overflow.eq(emit & address[-1]),
            self.done.eq(emit & step_ends & run_ends & (rest == 0)),
        ]
        with m.If(emit):
            m.d.sync += [slices_left.eq(slices_left - take), group.eq(group + 1)]
            with m.If(word_ends):
                m.d.sync += [
                    group.eq(0),
                    address.eq(address + 1),
                    word.eq(word + 1),
                    slices_left.eq(slices_of(run_left)),
                ]
                with m.If(step_ends):
                    m.d.sync += word.eq(0)
                    with m.If(~run_ends):
                        after = run_left - cfg.step
                        m.d.sync += [run_left.eq(after), slices_left.eq(slices_of(after))]
                    with m.Else():
                        following = Mux(rest > self.group_size, self.group_size, rest)
                        m.d.sync += [
                            run_left.eq(following),
                            rest.eq(rest - following),
                            slices_left.eq(slices_of(following)),
                        ]

        # What is left after this cycle's piece moves down; a beat is appended above it.
        used = Mux(emit, need, 0)
        kept = level - used
        # A piece is a whole number of slices: few distances, not a shifter over units.
        moved = Array([hold[s * cfg.lanes :] for s in range(cfg.slice_group + 1)])[
            Mux(emit, take, 0)
        ]
        room = kept <= capacity - per_beat
        accept = Signal()
        position = Signal(range(capacity + 1))
        m.d.comb += [
            self.i.ready.eq(self.active & room),
            accept.eq(self.i.valid & self.i.ready),
            position.eq(kept),
        ]
        placed = Signal(capacity * unit)
        with m.Switch(position):
            for start in range(capacity - per_beat + 1):
                with m.Case(start):
                    m.d.comb += placed.eq(self.i.payload << (start * unit))
        # Above `level` the register is zero, so that appending is an OR.
        m.d.sync += [
            hold.eq(moved | Mux(accept, placed, 0)),
            level.eq(kept + Mux(accept, per_beat, 0)),
        ]
        with m.If(self.start):
            size = Mux(self.columns > self.group_size, self.group_size, self.columns)
            m.d.sync += [
                hold.eq(0),
                level.eq(0),
                group.eq(0),
                word.eq(0),
                address.eq(0),
                run_left.eq(size),
                rest.eq(self.columns - size),
                slices_left.eq(slices_of(size)),
            ]
        return m


class WeightLoader(wiring.Component):
    """LDW: blocks of bias, scales and codes.

    Members
    -------
    body, next_address
        The instruction's nest; a body is taken when it is done with.
    fields, layer
        Levels of the instruction; layer registers.
    command, i
        To the read master: one request per block; its beats.
    w, s, b
        Tokens of slots of weights, scales and biases: a free one is taken; ``give`` announces an
        assigned one to the reader.
    weights, scales, biases
        To the buffers.
    operand_error
        A block of more tiles, scales or codes than there is room for. Codes in short runs, which
        fill words in part, are found too many only when the last word is full.
    counting
        A block is being measured, which takes a cycle for each of its groups.
    """

    def __init__(
        self, config: CoreConfig, *, scale_write: wiring.Signature, bias_write: wiring.Signature
    ) -> None:
        self.config = config
        self.longest = sum(_most_beats(config).values())  # a block
        self.unpacker = Unpacker(config)
        self.weight_write = write_signature(
            self.unpacker.piece * self.unpacker.groups, self.unpacker.piece, config.weight_words
        )
        super().__init__(
            {
                "fields": In(INSTRUCTIONS[Opcode.LDW].layout),
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "start": In(1),
                "body": In(stream.Signature(body_layout(OFFSET_BITS))),
                "next_address": Out(REGION_BITS + 1),
                "command": Out(stream.Signature(request_layout(self.longest))),
                "i": In(stream.Signature(config.bus_width)),
                **{name: Out(TokenPort()) for name in "wsb"},
                "weights": Out(self.weight_write),
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
        cfg = self.config
        layer, body, fields = self.layer, self.body.payload, self.fields

        def beats_of(byte_count):
            return (byte_count + (cfg.beat_bytes - 1)) >> cfg.beat_shift

        # Requester -------------------------------------------------------------------------
        groups = Signal(range(cfg.scale_words + 1), reset_less=True)
        counted = Signal(EXTENT_BITS, reset_less=True)
        tiles = Signal(range(cfg.tiles + 1))
        planes_total = Signal(range(cfg.tiles * cfg.planes + 1), reset_less=True)
        lines = Signal(range(2 * (cfg.planes + 1) + 1))  # of a chunk and a group
        # Of all the words of a step, over all steps.
        places = Signal(len(planes_total) + EXTENT_BITS, reset_less=True)
        lines_most = (1 << len(groups)) * cfg.tiles * 2 * (cfg.planes + 1) * cfg.chunks
        scale_lines = Signal(range(lines_most), reset_less=True)
        layout = block_tag(cfg)
        tag = Signal(layout, reset_less=True)
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
        tags = Queue(width=layout.size + 2, depth=2 * SLOTS + 1, bounded=False)
        m.submodules.tags = tags
        waiting = Signal()
        m.d.comb += [
            tags.w_data.eq(Cat(tag, with_scales, with_bias)),
            self.command.payload.offset.eq(body.address),
            self.command.payload.length.eq(total),
            self.next_address.eq(body.address + (total << cfg.beat_shift)),
        ]
        # COUNT goes on from here.
        m.d.sync += [groups.eq(0), counted.eq(body.k)]
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
                    scale_lines.eq(groups * tiles * lines * cfg.chunks),
                ]
                m.next = "SECTIONS"
            with m.State("SECTIONS"):
                m.d.sync += [
                    tag.bias_beats.eq(Mux(with_bias, beats_of(tiles * (cfg.lanes * 4)), 0)),
                    tag.scale_beats.eq(
                        Mux(with_scales, beats_of(scale_lines * (2 * cfg.scale_lanes)), 0)
                    ),
                    tag.code_beats.eq(beats_of(places * (cfg.lanes // 8))),
                    tag.columns.eq(body.k),
                    tag.words.eq(planes_total),
                ]
                # Codes that would not even fit if all steps were full: their beats may be too many
                # for a request. UNPACKER finds the others.
                with m.If(
                    (with_scales & (scale_lines > cfg.scale_words))
                    | (places > cfg.weight_words * cfg.step)
                ):
                    m.d.comb += self.operand_error.eq(1)
                with m.Else():
                    m.next = "TOTAL"
            with m.State("TOTAL"):
                m.d.sync += total.eq(tag.bias_beats + tag.scale_beats + tag.code_beats)
                m.next = "SLOTS"
            with m.State("SLOTS"):
                m.d.comb += waiting.eq(1)
                with m.If(
                    self.w.available
                    & (~with_scales | self.s.available)
                    & (~with_bias | self.b.available)
                ):
                    m.d.comb += [
                        tags.w_en.eq(1),
                        self.w.take.eq(1),
                        self.s.take.eq(with_scales),
                        self.b.take.eq(with_bias),
                    ]
                    m.next = "REQUEST"
            with m.State("REQUEST"):
                m.d.comb += self.command.valid.eq(1)
                with m.If(self.command.ready):
                    m.d.comb += self.body.ready.eq(1)
                    m.next = "IDLE"

        # Sink --------------------------------------------------------------------------------
        m.submodules.unpacker = unpacker = self.unpacker
        head = Signal(layout)
        has_scales, has_bias = tags.r_data[-2], tags.r_data[-1]
        # One more than the last of the codes.
        beats = Signal(range(max(_most_beats(cfg).values()) + 2), reset_less=True)
        slots = {name: Signal(name=f"{name}_slot", reset_less=True) for name in "wsb"}
        with m.If(self.start):
            m.d.sync += [slot.eq(1) for slot in slots.values()]
        sinking = Signal()
        m.d.comb += head.eq(tags.r_data)
        scale_sink = _PieceWriter(m, self.scales, "scale", slots["s"])
        bias_sink = _PieceWriter(m, self.biases, "bias", slots["b"])
        m.d.comb += [
            unpacker.columns.eq(head.columns),
            unpacker.group_size.eq(layer.group_size),
            unpacker.words.eq(head.words),
            unpacker.active.eq(sinking),
            unpacker.i.payload.eq(self.i.payload),
            self.weights.write_enable.eq(unpacker.write_enable),
            self.weights.write_word.eq(unpacker.write_word),
            self.weights.write_data.eq(unpacker.write_data),
            self.weights.done.eq(unpacker.word_done),
        ]
        with m.If(unpacker.overflow):
            m.d.comb += self.operand_error.eq(1)
        codes = Signal()  # the next beat is one of them
        m.d.comb += unpacker.i.valid.eq(self.i.valid & codes)
        with m.FSM() as sink:
            with m.State("IDLE"):
                m.d.sync += beats.eq(1)
                with m.If(tags.r_rdy):
                    # The slots are assigned now; their readers may follow.
                    m.d.comb += [
                        self.w.give.eq(1),
                        self.weights.begin.eq(1),
                        self.weights.write_slot.eq(~slots["w"]),
                        self.s.give.eq(has_scales),
                        self.b.give.eq(has_bias),
                        unpacker.start.eq(1),
                    ]
                    m.d.sync += slots["w"].eq(~slots["w"])
                    with m.If(has_scales):
                        scale_sink.begin(m)
                    with m.If(has_bias):
                        bias_sink.begin(m)
                    with m.If(has_bias):
                        m.next = "BIAS"
                    with m.Elif(has_scales):
                        m.next = "SCALES"
                    with m.Else():
                        m.next = "CODES"
            with m.State("BIAS"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    bias_sink.write(m, self.i.payload)
                    m.d.sync += beats.eq(beats + 1)
                    with m.If(beats == head.bias_beats):
                        m.d.sync += beats.eq(1)
                        with m.If(has_scales):
                            m.next = "SCALES"
                        with m.Else():
                            m.next = "CODES"
            with m.State("SCALES"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    scale_sink.write(m, self.i.payload)
                    m.d.sync += beats.eq(beats + 1)
                    with m.If(beats == head.scale_beats):
                        m.d.sync += beats.eq(1)
                        m.next = "CODES"
            with m.State("CODES"):
                m.d.comb += [
                    self.weights.write_slot.eq(slots["w"]),
                    # The unpacker may be ready for more than the block has.
                    codes.eq(beats <= head.code_beats),
                    self.i.ready.eq(codes & unpacker.i.ready),
                ]
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += beats.eq(beats + 1)
                with m.If(unpacker.done):
                    m.d.comb += tags.r_en.eq(1)
                    m.next = "IDLE"
        # Nobody looks at their counters in any other state, so no further condition is needed.
        for state, writer in (("BIAS", bias_sink), ("SCALES", scale_sink)):
            with m.If(~sink.ongoing(state)):
                writer.rest(m)
        m.d.comb += sinking.eq(~sink.ongoing("IDLE"))
        m.d.comb += self.active.eq(self.body.valid | tags.r_rdy)
        with m.If(sinking & self.i.valid):
            m.d.comb += self.state.eq(State.BUSY)
        with m.Elif(sinking):
            m.d.comb += self.state.eq(State.WAIT_IN)
        with m.Elif(waiting):
            m.d.comb += self.state.eq(State.WAIT_OUT)
        with m.Elif(self.body.valid):
            m.d.comb += self.state.eq(State.WAIT_IN)
        return m


class _PieceWriter:
    """Writes consecutive beats into a buffer whose words are one or more beats."""

    def __init__(self, m: Module, port, name: str, slot: Signal) -> None:
        self.port, self.slot = port, slot
        self.pieces = len(port.write_enable)
        self.word = Signal.like(port.write_word, name=f"{name}_word", reset_less=True)
        self.piece = Signal(range(self.pieces), name=f"{name}_piece", reset_less=True)

    def rest(self, m: Module) -> None:
        m.d.sync += [self.word.eq(0), self.piece.eq(0)]

    def begin(self, m: Module) -> None:
        m.d.comb += [self.port.begin.eq(1), self.port.write_slot.eq(~self.slot)]
        m.d.sync += self.slot.eq(~self.slot)

    def write(self, m: Module, beat) -> None:
        wraps = self.piece == self.pieces - 1
        m.d.comb += [
            self.port.write_slot.eq(self.slot),
            self.port.write_word.eq(self.word),
            self.port.write_data.eq(beat),
            self.port.write_enable.eq(1 << self.piece),
            self.port.done.eq(wraps),
        ]
        m.d.sync += [self.word.eq(self.word + wraps), self.piece.eq(Mux(wraps, 0, self.piece + 1))]


class ActivationLoader(wiring.Component):
    """LDX: blocks of activations, as they will be read.

    Members as :class:`WeightLoader`; one buffer.
    """

    def __init__(self, config: CoreConfig, *, write: wiring.Signature) -> None:
        self.config = config
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
        slot = Signal(reset_less=True)
        with m.If(self.start):
            m.d.sync += slot.eq(1)
        writer = _PieceWriter(m, self.buffer, "x", slot)
        got = Signal.like(beats, reset_less=True)
        sinking = Signal()
        with m.FSM() as sink:
            with m.State("IDLE"):
                m.d.sync += got.eq(1)
                with m.If(tags.r_rdy):
                    with m.If(head.fresh):
                        m.d.comb += self.x.give.eq(1)
                        writer.begin(m)
                        writer.rest(m)
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    writer.write(m, self.i.payload)
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
