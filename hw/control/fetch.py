"""Fetch, check and dispatch: the program runs only if all of it is good.

The whole program is read into the instruction memory, and every instruction is checked as it
arrives by a decoder made from the instruction table. Only then are instructions handed to their
units, in order.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.contract.isa import (
    INSTRUCTION_BITS,
    INSTRUCTIONS,
    LOOP_LEVELS,
    PROGRAM_MAX,
    UNIT_OF,
    Cause,
    Opcode,
    Unit,
)
from lutcore.hw.control.nest import loop_layout
from lutcore.hw.control.supervisor import ErrorPort
from lutcore.hw.memory.dma import request_layout
from lutcore.hw.util import State

__all__ = ["Checker", "Fetch"]


def _limits(config: CoreConfig) -> dict[str, int]:
    """The largest values of fields of LAYER that this core has less of than the instruction set."""
    return {
        "planes": config.planes,
        "ternary": int(config.ternary),
        "last_lanes": config.lanes,
        "last_rows": config.rows,
    }


class Checker(wiring.Component):
    """Decoder of one instruction word: whether it is legal, and if not, why.

    Purely combinational; generated from the instruction table and this core's limits.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__({"word": In(INSTRUCTION_BITS), "cause": Out(range(max(Cause) + 1))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        limits = _limits(self.config)
        with m.Switch(self.word[:8]):
            for instruction in INSTRUCTIONS.values():
                word = data.View(instruction.layout, self.word)
                with m.Case(instruction.opcode):
                    # The first bad field counts, so the last assigned wins from the back.
                    for field in reversed(instruction.fields):
                        low, high = field.limits
                        least, most = field.encodable
                        top = min(high, limits.get(field.name, high))
                        value = getattr(word, field.name)
                        cause = Cause.RESERVED if field.choices else Cause.OPERAND
                        if low > least:
                            with m.If(value < low):
                                m.d.comb += self.cause.eq(cause)
                        if top < most:
                            with m.If(value > top):
                                m.d.comb += self.cause.eq(cause)
                    if instruction.opcode == Opcode.LAYER:
                        with m.If(word.ternary & ((word.planes != 1) | ~word.per_plane)):
                            m.d.comb += self.cause.eq(Cause.OPERAND)
                    with m.If(word.reserved.any()):
                        m.d.comb += self.cause.eq(Cause.RESERVED)
            with m.Default():
                m.d.comb += self.cause.eq(Cause.OPCODE)
        return m


class Fetch(wiring.Component):
    """Reads, checks and dispatches a program.

    Members
    -------
    launch, length, expect
        Pulse: begin; instructions of the program; fingerprint that it was made for.
    command, i
        Request to the read master (offset 0 of the program region) and its beats.
    loop_valid, loop
        Pulse for a unit that is idle, a bit per unit; the loop that it gets.
    start, word
        Pulse for a unit that is idle, a bit per unit; its instruction, valid with the pulse.
    layer, token_add
        Layer registers; pulse: TOKEN is in ``word``.
    unit_busy, all_idle
        Units at work; nothing at all is under way, writes included.
    instruction
        Number of the instruction that is being handled.
    receiving
        While the program is read: number of the first instruction in the beat to come.
    finished
        Pulse: END, and everything idle.
    error
        Reason to stop.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.longest = ceil_div(PROGRAM_MAX * (INSTRUCTION_BITS // 8), config.beat_bytes)
        super().__init__(
            {
                "launch": In(1),
                "length": In(32),
                "expect": In(64),
                "command": Out(stream.Signature(request_layout(self.longest))),
                "i": In(stream.Signature(config.bus_width)),
                "loop_valid": Out(len(Unit)),
                "loop": Out(loop_layout()),
                "start": Out(len(Unit)),
                "word": Out(INSTRUCTION_BITS),
                "layer": Out(INSTRUCTIONS[Opcode.LAYER].layout),
                "token_add": Out(1),
                "unit_busy": In(len(Unit)),
                "all_idle": In(1),
                "instruction": Out(range(PROGRAM_MAX)),
                "receiving": Out(range(PROGRAM_MAX)),
                "finished": Out(1),
                "error": Out(ErrorPort),
                "state": Out(State),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        m.submodules.checker = checker = Checker(cfg)
        m.submodules.memory = memory = Memory(shape=INSTRUCTION_BITS, depth=PROGRAM_MAX, init=[])
        write, read = memory.write_port(), memory.read_port()

        index = Signal(range(PROGRAM_MAX), reset_less=True)
        count = Signal(range(PROGRAM_MAX + 1), reset_less=True)
        m.d.comb += self.instruction.eq(index)

        # Words of 128 bits from beats: several beats to a word, or several words to a beat.
        gathered = Signal(INSTRUCTION_BITS, reset_less=True)
        has_word = Signal(reset_less=True)
        next_word = Signal()
        per_word = max(1, INSTRUCTION_BITS // cfg.bus_width)
        per_beat = max(1, cfg.bus_width // INSTRUCTION_BITS)
        receiving = Signal()
        part = Signal(range(max(per_word, per_beat)), reset_less=True)
        if per_word > 1:
            m.d.comb += self.i.ready.eq(receiving & ~has_word)
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += [
                    gathered.eq(
                        (gathered >> cfg.bus_width)
                        | (self.i.payload << (INSTRUCTION_BITS - cfg.bus_width))
                    ),
                    part.eq(Mux(part == per_word - 1, 0, part + 1)),
                    has_word.eq(part == per_word - 1),
                ]
            with m.If(next_word):
                m.d.sync += has_word.eq(0)
        else:
            last_part = part == per_beat - 1
            m.d.comb += self.i.ready.eq(receiving & (~has_word | next_word) & (part == 0))
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += [gathered.eq(self.i.payload[:INSTRUCTION_BITS]), has_word.eq(1)]
                if per_beat > 1:
                    rest = Signal(cfg.bus_width - INSTRUCTION_BITS, reset_less=True)
                    m.d.sync += [rest.eq(self.i.payload[INSTRUCTION_BITS:]), part.eq(1)]
            with m.Elif(next_word):
                if per_beat > 1:
                    with m.If(part != 0):
                        m.d.sync += [
                            gathered.eq(rest[:INSTRUCTION_BITS]),
                            rest.eq(rest >> INSTRUCTION_BITS),
                            part.eq(Mux(last_part, 0, part + 1)),
                        ]
                    with m.Else():
                        m.d.sync += has_word.eq(0)
                else:
                    m.d.sync += has_word.eq(0)

        whole_beats = index + has_word + (per_beat - 1)
        m.d.comb += self.receiving.eq(whole_beats & ~(per_beat - 1))

        # Checking.
        pending = [
            Signal(range(LOOP_LEVELS + 1), name=f"loops_{u.name.lower()}", reset_less=True)
            for u in Unit
        ]
        opcode = gathered[:8]
        last = index + 1 == count
        cause = Signal.like(checker.cause)
        loop_word = data.View(INSTRUCTIONS[Opcode.LOOP].layout, gathered)
        m.d.comb += [checker.word.eq(gathered), cause.eq(checker.cause)]
        with m.If(checker.cause == Cause.NONE):
            with m.If(last & (opcode != Opcode.END)):
                m.d.comb += cause.eq(Cause.LENGTH)
            with m.Switch(opcode):
                with m.Case(Opcode.LOOP):
                    for unit in Unit:
                        full = pending[unit] == LOOP_LEVELS
                        with m.If((loop_word.unit == unit) & full):
                            m.d.comb += cause.eq(Cause.NESTING)
                with m.Case(Opcode.END):
                    with m.If(~last):
                        m.d.comb += cause.eq(Cause.LENGTH)
                    for counter in pending:
                        with m.If(counter != 0):
                            m.d.comb += cause.eq(Cause.NESTING)
        m.d.comb += [
            write.addr.eq(index),
            write.data.eq(gathered),
            write.en.eq(receiving & has_word),
            read.addr.eq(index),
            self.word.eq(read.data),
            self.error.instruction.eq(index),
        ]

        # Dispatch. The instruction is registered, and so are its loop and its start.
        current = read.data[:8]
        loop = data.View(INSTRUCTIONS[Opcode.LOOP].layout, read.data)
        given = data.View(INSTRUCTIONS[Opcode.LAYER].layout, read.data)
        # No register for what the checker has refused.
        kept = {name: self.layer[name].shape() for name in given.shape().members}
        kept |= {name: most.bit_length() for name, most in _limits(cfg).items()}
        layer = Signal(data.StructLayout(kept))
        m.d.comb += [self.layer[name].eq(layer[name]) for name in kept]
        for name in loop_layout().members:
            m.d.comb += self.loop[name].eq(getattr(loop, name))
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [index.eq(0), part.eq(0), has_word.eq(0), count.eq(self.length)]
                m.d.sync += [counter.eq(0) for counter in pending]
                with m.If(self.launch):
                    m.next = "CHECK"
            with m.State("CHECK"):
                with m.If(self.expect != cfg.fingerprint):
                    m.d.comb += [self.error.valid.eq(1), self.error.cause.eq(Cause.FINGERPRINT)]
                with m.Elif((self.length == 0) | (self.length > PROGRAM_MAX)):
                    m.d.comb += [self.error.valid.eq(1), self.error.cause.eq(Cause.LENGTH)]
                with m.Else():
                    m.next = "REQUEST"
            with m.State("REQUEST"):
                m.d.comb += [
                    self.command.valid.eq(1),
                    self.command.payload.length.eq(
                        (count * (INSTRUCTION_BITS // 8) + (cfg.beat_bytes - 1)) >> cfg.beat_shift
                    ),
                ]
                with m.If(self.command.ready):
                    m.next = "RECEIVE"
            with m.State("RECEIVE"):
                m.d.comb += [self.state.eq(State.WAIT_IN), receiving.eq(1), next_word.eq(has_word)]
                with m.If(has_word):
                    m.d.comb += self.state.eq(State.BUSY)
                    m.d.sync += index.eq(index + 1)
                    with m.Switch(opcode):
                        with m.Case(Opcode.LOOP):
                            for unit in Unit:
                                with m.If(loop_word.unit == unit):
                                    m.d.sync += pending[unit].eq(pending[unit] + 1)
                        for code, unit in UNIT_OF.items():
                            with m.Case(code):
                                m.d.sync += pending[unit].eq(0)
                    with m.If(cause != Cause.NONE):
                        m.d.comb += [self.error.valid.eq(1), self.error.cause.eq(cause)]
                        m.next = "STOPPED"
                    with m.Elif(last):
                        m.d.sync += index.eq(0)
                        m.next = "REST"
            with m.State("REST"):
                # A beat's unused words; then the memory may be read.
                m.next = "READ"
            with m.State("READ"):
                m.next = "DISPATCH"
            with m.State("DISPATCH"):
                m.d.comb += self.state.eq(State.WAIT_OUT)
                done = Signal()
                with m.Switch(current):
                    with m.Case(Opcode.LOOP):
                        m.d.comb += done.eq(~self.unit_busy.bit_select(loop.unit, 1))
                        m.d.comb += self.loop_valid.eq(done << loop.unit)
                    for code, unit in UNIT_OF.items():
                        with m.Case(code):
                            m.d.comb += done.eq(~self.unit_busy[unit])
                            m.d.comb += self.start[unit].eq(done)
                    with m.Case(Opcode.LAYER):
                        m.d.comb += done.eq(self.all_idle)
                        with m.If(done):
                            m.d.sync += [layer[name].eq(given[name]) for name in kept]
                    with m.Case(Opcode.TOKEN):
                        m.d.comb += [done.eq(self.all_idle), self.token_add.eq(done)]
                    with m.Case(Opcode.END):
                        m.d.comb += self.finished.eq(self.all_idle)
                with m.If(done):
                    m.d.comb += self.state.eq(State.BUSY)
                    m.d.sync += index.eq(index + 1)
                    m.next = "READ"
            with m.State("STOPPED"):
                pass
        return m
