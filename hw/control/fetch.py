"""Fetch, check and dispatch: the program runs only if all of it is good.

The whole program is read into the instruction memory, and every instruction is checked as it
arrives by a decoder made from the instruction table. Only then are instructions handed to their
units, in order.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.contract.isa import (
    INSTRUCTION_BITS,
    INSTRUCTIONS,
    LOOP_LEVELS,
    PROGRAM_MAX,
    Cause,
    Instruction,
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
    """Decoder of instruction words: whether one is legal, and if not, why.

    Generated from the instruction table and this core's limits: the fields are compared with their
    limits in the first cycle, and the first bad one gives the cause in the second.

    Members
    -------
    word
        An instruction.
    cause
        Of the word of `latency` cycles before; ``NONE`` if it is good.
    """

    latency = 2

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__({"word": In(INSTRUCTION_BITS), "cause": Out(range(max(Cause) + 1))})

    def _checks(self, instruction: Instruction) -> list[tuple[str, Value, Cause]]:
        """What can be wrong with an instruction, the most telling first."""
        limits = _limits(self.config)
        word = data.View(instruction.layout, self.word)
        checks = [("reserved", word.reserved.any(), Cause.RESERVED)]
        if instruction.opcode == Opcode.LAYER:
            planes = word.ternary & ((word.planes != 1) | ~word.per_plane)
            checks.append(("ternary_planes", planes, Cause.OPERAND))
        for field in instruction.fields:
            low, high = field.limits
            least, most = field.encodable
            top = min(high, limits.get(field.name, high))
            value = getattr(word, field.name)
            cause = Cause.RESERVED if field.choices else Cause.OPERAND
            if low > least:
                checks.append((f"{field.name}_low", value < low, cause))
            if top < most:
                checks.append((f"{field.name}_high", value > top, cause))
        return checks

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cause = Signal.like(self.cause)
        known = []
        for instruction in INSTRUCTIONS.values():
            name = instruction.opcode.name.lower()
            this = Signal(name=f"is_{name}", reset_less=True)
            m.d.sync += this.eq(self.word[:8] == instruction.opcode)
            known.append(this)
            found = []
            for check, condition, reason in self._checks(instruction):
                bad = Signal(name=f"{name}_{check}", reset_less=True)
                m.d.sync += bad.eq(condition)
                found.append((bad, reason))
            with m.If(this):
                # The last assignment wins.
                for bad, reason in reversed(found):
                    with m.If(bad):
                        m.d.comb += cause.eq(reason)
        with m.If(~Cat(known).any()):
            m.d.comb += cause.eq(Cause.OPCODE)
        m.d.sync += self.cause.eq(cause)
        return m


def _kind_layout() -> data.StructLayout:
    """What an instruction is for: kept in the instruction memory beside it."""
    return data.StructLayout(
        {
            "loops": len(Unit),
            "starts": len(Unit),
            "layer": 1,
            "token": 1,
            "end": 1,
            "alone": 1,  # one of the last three, which wait for all units
        }
    )


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
        Number of the instruction in ``word``, and afterwards of the one that waits.
    receiving
        While the program is read: number of the first instruction in the beat to come.
    finished
        Pulse: END, and everything idle; two cycles later than an instruction would begin.
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
        self._index = Signal(range(PROGRAM_MAX), reset_less=True)
        #: Instructions of the program.
        self._count = Signal(range(PROGRAM_MAX + 1), reset_less=True)
        kind_layout = _kind_layout()
        entry = data.StructLayout({"word": INSTRUCTION_BITS, "kind": kind_layout})
        m.submodules.memory = memory = Memory(shape=entry, depth=PROGRAM_MAX, init=[])
        write, read = memory.write_port(), memory.read_port()

        # The word that is checked and written, and the two cycles that its verdict takes.
        gathered = Signal(INSTRUCTION_BITS, reset_less=True)
        has_word = Signal(reset_less=True)
        next_word = Signal()
        receiving = Signal()
        self._gather(m, gathered, has_word, taken=next_word, receiving=receiving)
        last = Signal()
        kind = Signal(kind_layout)
        m.d.comb += [
            last.eq(self._index + 1 == self._count),
            write.addr.eq(self._index),
            write.data.word.eq(gathered),
            write.data.kind.eq(kind),
            write.en.eq(next_word),
        ]
        self._decode(m, gathered, kind)
        wrong, good = self._check(m, gathered, kind, next_word, last)

        # Dispatch, in three steps: the memory reads ahead; an instruction waits for its unit; then
        # it is in `word`, and its pulse in a register.
        waiting = Signal(INSTRUCTION_BITS, reset_less=True)
        held = Signal(kind_layout, reset_less=True)
        word = Signal(INSTRUCTION_BITS, reset_less=True)
        ahead = Signal(range(PROGRAM_MAX), reset_less=True)  # of what the memory offers
        further = Signal(range(PROGRAM_MAX), reset_less=True)  # one more
        loads = Signal()
        m.d.comb += [
            read.addr.eq(Mux(loads, further, ahead)),
            self.word.eq(word),
        ]
        with m.If(loads):
            m.d.sync += [
                waiting.eq(read.data.word),
                held.eq(read.data.kind),
                ahead.eq(further),
                further.eq(further + 1),
                self._index.eq(ahead),
            ]
        m.d.sync += [word.eq(waiting), self.instruction.eq(self._index)]
        loop = data.View(INSTRUCTIONS[Opcode.LOOP].layout, word)
        m.d.comb += [self.loop[name].eq(getattr(loop, name)) for name in loop_layout().members]
        set_layer = self._layer(m, word)
        # Whoever gets an instruction is busy a cycle later.
        idle = Signal(len(Unit), reset_less=True)
        quiet = Signal(reset_less=True)
        go = Signal()
        m.d.sync += [
            idle.eq(~(self.unit_busy | self.start)),
            quiet.eq(self.all_idle & ~self.start.any()),
        ]
        m.d.comb += go.eq(
            ((held.loops | held.starts) & idle & ~self.start).any()
            | (held.alone & quiet & ~self.start.any())
        )
        pulses = (self.loop_valid, self.start, self.token_add, self.finished, set_layer)
        m.d.sync += [pulse.eq(0) for pulse in pulses]
        other = Signal(reset_less=True)
        no_length = Signal(reset_less=True)
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += [
                    self._index.eq(0),
                    ahead.eq(0),
                    further.eq(1),
                    self._count.eq(self.length),
                    other.eq(self.expect != self.config.fingerprint),
                    no_length.eq((self.length == 0) | (self.length > PROGRAM_MAX)),
                ]
                with m.If(self.launch):
                    m.next = "REQUEST"
            with m.State("REQUEST"):
                with m.If(other):
                    m.d.comb += [self.error.valid.eq(1), self.error.cause.eq(Cause.FINGERPRINT)]
                    m.next = "STOPPED"
                with m.Elif(no_length):
                    m.d.comb += [self.error.valid.eq(1), self.error.cause.eq(Cause.LENGTH)]
                    m.next = "STOPPED"
                with m.Else():
                    m.d.comb += self.command.valid.eq(1)
                    with m.If(self.command.ready):
                        m.next = "RECEIVE"
            with m.State("RECEIVE"):
                m.d.comb += [self.state.eq(State.WAIT_IN), next_word.eq(has_word)]
                with m.If(has_word):
                    m.d.comb += self.state.eq(State.BUSY)
                    m.d.sync += self._index.eq(self._index + 1)
                    with m.If(last):
                        m.d.sync += self._index.eq(0)
                        m.next = "VERDICT"
                with m.If(wrong.valid):
                    m.d.comb += self.error.eq(wrong)
                    m.next = "STOPPED"
            with m.State("VERDICT"):
                m.d.comb += self.state.eq(State.BUSY)
                with m.If(wrong.valid):
                    m.d.comb += self.error.eq(wrong)
                    m.next = "STOPPED"
                with m.Elif(good):
                    m.d.comb += loads.eq(1)
                    m.next = "DISPATCH"
            with m.State("DISPATCH"):
                m.d.comb += self.state.eq(State.WAIT_OUT)
                with m.If(go):
                    m.d.comb += [self.state.eq(State.BUSY), loads.eq(~held.end)]
                    m.d.sync += [
                        self.loop_valid.eq(held.loops),
                        self.start.eq(held.starts),
                        self.token_add.eq(held.token),
                        set_layer.eq(held.layer),
                    ]
                    with m.If(held.end):
                        m.next = "END"
            # What the instruction before was stopped for has time to be heard of.
            with m.State("END"):
                m.d.sync += self.finished.eq(1)
                m.next = "STOPPED"
            with m.State("STOPPED"):
                pass
        size = self._count * (INSTRUCTION_BITS // 8)
        m.d.comb += [
            receiving.eq(fsm.ongoing("RECEIVE")),
            self.command.payload.length.eq(
                (size + (self.config.beat_bytes - 1)) >> self.config.beat_shift
            ),
        ]
        return m

    def _gather(
        self, m: Module, word: Signal, full: Signal, *, taken: Signal, receiving: Signal
    ) -> None:
        """Words of 128 bits from beats: several beats to a word, or several words to a beat.

        While ``full``, ``word`` is an instruction; it is ``taken`` in the same cycle, as long as
        the program is being received.
        """
        cfg = self.config
        per_word = max(1, INSTRUCTION_BITS // cfg.bus_width)
        per_beat = max(1, cfg.bus_width // INSTRUCTION_BITS)
        part = Signal(range(max(per_word, per_beat)), reset_less=True)
        come = self.i.valid & self.i.ready
        payload = self.i.payload
        with m.If(self.launch):
            m.d.sync += [part.eq(0), full.eq(0)]
        if per_word > 1:
            m.d.comb += self.i.ready.eq(receiving & ~full)
            with m.If(come):
                m.d.sync += [
                    word.eq(
                        (word >> cfg.bus_width) | (payload << INSTRUCTION_BITS - cfg.bus_width)
                    ),
                    part.eq(Mux(part == per_word - 1, 0, part + 1)),
                    full.eq(part == per_word - 1),
                ]
            with m.If(taken):
                m.d.sync += full.eq(0)
        else:
            m.d.comb += self.i.ready.eq(receiving & (part == 0))
            with m.If(come):
                m.d.sync += [word.eq(payload[:INSTRUCTION_BITS]), full.eq(1)]
                if per_beat > 1:
                    rest = Signal(cfg.bus_width - INSTRUCTION_BITS, reset_less=True)
                    m.d.sync += [rest.eq(payload[INSTRUCTION_BITS:]), part.eq(1)]
            if per_beat > 1:
                with m.Elif(taken & (part != 0)):
                    m.d.sync += [
                        word.eq(rest[:INSTRUCTION_BITS]),
                        rest.eq(rest >> INSTRUCTION_BITS),
                        part.eq(Mux(part == per_beat - 1, 0, part + 1)),
                    ]
            with m.Elif(taken):
                m.d.sync += full.eq(0)
        whole_beats = self._index + full + (per_beat - 1)
        m.d.comb += self.receiving.eq(whole_beats & ~(per_beat - 1))

    def _decode(self, m: Module, word: Signal, kind: Any) -> None:
        """What an instruction is for."""
        opcode = word[:8]
        unit = data.View(INSTRUCTIONS[Opcode.LOOP].layout, word).unit
        m.d.comb += [
            kind.loops.eq(Cat((opcode == Opcode.LOOP) & (unit == u) for u in Unit)),
            kind.starts.eq(Cat(opcode == u.opcode for u in Unit)),
            kind.layer.eq(opcode == Opcode.LAYER),
            kind.token.eq(opcode == Opcode.TOKEN),
            kind.end.eq(opcode == Opcode.END),
            kind.alone.eq(kind.layer | kind.token | kind.end),
        ]

    def _check(
        self, m: Module, word: Signal, kind: Any, taken: Signal, last: Signal
    ) -> tuple[Any, Value]:
        """Whether the word of two cycles before is wrong, and whether it was the last one.

        In the first cycle CHECKER compares the fields. In the second it finds the cause, and the
        loops are counted.
        """
        m.submodules.checker = checker = Checker(self.config)
        m.d.comb += checker.word.eq(word)
        layout = data.StructLayout({"valid": 1, "last": 1, "number": range(PROGRAM_MAX)})
        compared, judged = (Signal(layout, name=name) for name in ("compared", "judged"))
        purpose = Signal(kind.shape(), name="purpose", reset_less=True)
        m.d.sync += [
            compared.valid.eq(taken),
            compared.last.eq(last),
            compared.number.eq(self._index),
            purpose.eq(kind),
            judged.eq(compared),
        ]
        nests = []
        for unit in Unit:
            pending = Signal(
                range(LOOP_LEVELS + 1), name=f"loops_{unit.name.lower()}", reset_less=True
            )
            with m.If(self.launch):
                m.d.sync += pending.eq(0)
            with m.Elif(compared.valid & purpose.loops[unit]):
                m.d.sync += pending.eq(pending + 1)
            with m.Elif(compared.valid & purpose.starts[unit]):
                m.d.sync += pending.eq(0)
            full = pending == LOOP_LEVELS
            nests.append((purpose.loops[unit] & full) | (purpose.end & (pending != 0)))
        nesting = Signal(reset_less=True)
        length = Signal(reset_less=True)
        m.d.sync += [nesting.eq(Cat(nests).any()), length.eq(purpose.end ^ compared.last)]
        wrong = Signal(ErrorPort)
        refused = (checker.cause != Cause.NONE) | nesting | length
        m.d.comb += [
            wrong.valid.eq(judged.valid & refused),
            wrong.instruction.eq(judged.number),
            wrong.cause.eq(checker.cause),
        ]
        with m.If(checker.cause == Cause.NONE):
            m.d.comb += wrong.cause.eq(Mux(nesting, Cause.NESTING, Cause.LENGTH))
        return wrong, judged.valid & judged.last

    def _layer(self, m: Module, word: Signal) -> Signal:
        """The layer registers; a signal that sets them."""
        given = data.View(INSTRUCTIONS[Opcode.LAYER].layout, word)
        # No register for what the checker has refused.
        kept = {name: self.layer[name].shape() for name in given.shape().members}
        kept |= {name: most.bit_length() for name, most in _limits(self.config).items()}
        layer = Signal(data.StructLayout(kept))
        m.d.comb += [self.layer[name].eq(layer[name]) for name in kept]
        set_layer = Signal()
        with m.If(set_layer):
            m.d.sync += [layer[name].eq(given[name]) for name in kept]
        return set_layer
