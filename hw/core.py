"""The core: units, buffers, tokens, bus masters and control, wired together."""

from typing import Any, NamedTuple

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.compute.array import ArrayUnit
from lutcore.hw.compute.final import FinalUnit
from lutcore.hw.compute.scale import ScaleUnit
from lutcore.hw.compute.table import TableUnit
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import ADDRESS_WIDTH, COUNTER_UNITS, Region
from lutcore.hw.contract.isa import (
    INSTRUCTIONS,
    PROGRAM_MAX,
    RESULT_ALIGNMENT,
    Cause,
    Opcode,
    Token,
    Unit,
)
from lutcore.hw.control.csr_file import CounterBank, CsrFile, event_bits, status_word
from lutcore.hw.control.fetch import Fetch
from lutcore.hw.control.issue import Issue
from lutcore.hw.control.nest import body_layout
from lutcore.hw.control.supervisor import ErrorPort, Supervisor
from lutcore.hw.control.tokens import TokenBank
from lutcore.hw.memory.axi import Axi4, Axi4Lite, forward
from lutcore.hw.memory.buffers import SlotBuffer
from lutcore.hw.memory.dma import (
    ReadMaster,
    Window,
    WriteMaster,
    command_layout,
)
from lutcore.hw.memory.regions import RegionCheck
from lutcore.hw.transfer.activations import ActivationLoader
from lutcore.hw.transfer.slot_writer import write_signature
from lutcore.hw.transfer.store import StoreUnit
from lutcore.hw.transfer.weights import WeightLoader
from lutcore.hw.util import State, low_zeros

__all__ = ["Core", "Engine"]

#: Clients of the read master, in its order.
READERS = ("fetch", "ldx", "ldw")


class _Buffer(NamedTuple):
    """A buffer's memory, and the ports of its loader and of its reader."""

    memory: SlotBuffer
    writer: Any
    reader: Any


class Engine(wiring.Component):
    """Everything that a soft reset clears: units, buffers, tokens and requests.

    Members
    -------
    launch
        Pulse from the supervisor: begin to fetch.
    length, expect, bases, sizes
        Settings of the host.
    misplaced
        A region is not where it may be; see `RegionCheck`.
    commands, responses
        To the read master, per client.
    write_command, write_data
        To the write master.
    bus_idle
        Nothing outstanding on the bus.
    read_owed
        The memory owes a beat, or has not taken an address.
    write_idle
        Every burst of writes has its response.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        beat = config.bus_width
        self.fetch = Fetch(config)
        self.table = TableUnit(config)
        self.array = ArrayUnit(config)
        self.scale = scale = ScaleUnit(config)
        self.final = final = FinalUnit(config)
        self.store = StoreUnit(config)
        scale_write = write_signature(scale.word_bits, beat, scale.slot_words)
        bias_write = write_signature(final.bias_width, beat, final.bias_slot_words)
        self.ldw = WeightLoader(config, scale_write=scale_write, bias_write=bias_write)
        x_write = write_signature(config.x_memory_bits, beat, config.x_slot_words)
        self.ldx = ActivationLoader(config, write=x_write)
        self.tokens = TokenBank()
        # Strides of MMA are offsets in the activation buffer.
        offset_bits = len(self.table.reader.seek_word)
        self.issues = {unit: Issue(config, unit, offset_bits=offset_bits) for unit in Unit}
        self.buffers = self._buffers()
        # Of the clients of the read master in their order, and of the write master.
        self.requesters = {
            **{name: getattr(self, name) for name in READERS},
            "store": self.store,
        }
        self.windows = {
            name: Window(
                beat,
                lengths="words" if name == "store" else "beats",
                aligned=low_zeros(RESULT_ALIGNMENT),
                longest=unit.longest,
            )
            for name, unit in self.requesters.items()
        }
        self.longest_read = max(self.windows[name].most_beats for name in READERS)
        self.longest_write = self.windows["store"].most_beats
        response = data.StructLayout({"data": config.bus_width, "last": 1})
        written = data.StructLayout({"data": config.bus_width, "strobe": config.beat_bytes})
        regions = len(Region)
        super().__init__(
            {
                "launch": In(1),
                "length": In(32),
                "expect": In(64),
                "bases": In(data.ArrayLayout(ADDRESS_WIDTH, regions)),
                "sizes": In(data.ArrayLayout(32, regions)),
                "misplaced": In(1),
                "commands": Out(stream.Signature(command_layout(self.longest_read))).array(
                    len(READERS)
                ),
                "responses": In(stream.Signature(response)).array(len(READERS)),
                "write_command": Out(stream.Signature(command_layout(self.longest_write))),
                "write_data": Out(stream.Signature(written)),
                "bus_idle": In(1),
                "read_owed": In(1),
                "write_idle": In(1),
                "read_error": In(1),
                "read_error_client": In(range(len(READERS))),
                "write_error": In(1),
                "finished": Out(1),
                "errors": Out(data.ArrayLayout(ErrorPort, self.error_sources)),
                "progress": Out(1),
                "oldest_at": Out(range(PROGRAM_MAX)),
                "unanswered_at": Out(range(PROGRAM_MAX)),
                "states": Out(data.ArrayLayout(State, len(COUNTER_UNITS))),
                "lookup": Out(1),
            }
        )

    #: Reasons to stop that come from the engine; see ``_connect_errors``.
    error_sources = 16

    def _buffers(self) -> dict[str, _Buffer]:
        """The buffers between loaders and units."""
        cfg = self.config
        beat = cfg.bus_width
        ldw, ldx, table, array = self.ldw, self.ldx, self.table, self.array
        scale, final = self.scale, self.final

        def buffer(writer: Any, reader: Any, width: int, words: int, piece: int = beat) -> _Buffer:
            # Scales come with codes, and no sooner are there sums to be scaled.
            memory = SlotBuffer(
                width=width, piece=piece, slot_words=words, reset_less=writer is ldw.scales
            )
            return _Buffer(memory, writer, reader)

        piece = ldw.unpacker.piece
        return {
            "weights": buffer(
                ldw.weights, array.buffer, array.stored_bits, cfg.weight_words, piece
            ),
            "scales": buffer(ldw.scales, scale.buffer, scale.word_bits, scale.slot_words),
            "biases": buffer(ldw.biases, final.bias, final.bias_width, final.bias_slot_words),
            "activations": buffer(ldx.buffer, table.buffer, cfg.x_memory_bits, cfg.x_slot_words),
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name in ("fetch", "table", "array", "scale", "final", "store", "ldw", "ldx", "tokens"):
            m.submodules[name] = getattr(self, name)
        for unit, issue in self.issues.items():
            m.submodules[f"issue_{unit.name.lower()}"] = issue
        for name, window in self.windows.items():
            m.submodules[f"window_{name}"] = window
        for name, buffer in self.buffers.items():
            m.submodules[f"{name}_buffer"] = buffer.memory
            wiring.connect(m, buffer.reader, buffer.memory.read)
            for port in buffer.writer.signature.members:
                m.d.comb += getattr(buffer.memory, port).eq(getattr(buffer.writer, port))
        self._connect_instructions(m)
        self._connect_chain(m)
        self._connect_tokens(m)
        self._connect_memory(m)
        busy = self._connect_activity(m)
        self._connect_errors(m)
        self._connect_watches(m, busy)
        return m

    def _connect_instructions(self, m: Module) -> None:
        """From FETCH to the units."""
        fetch, issues = self.fetch, self.issues
        m.d.comb += [
            fetch.launch.eq(self.launch),
            fetch.length.eq(self.length),
            fetch.expect.eq(self.expect),
            self.finished.eq(fetch.finished),
        ]
        workers = {
            Unit.LDW: self.ldw,
            Unit.LDX: self.ldx,
            Unit.STY: self.store,
            Unit.MMA: self.table,
        }
        for unit, worker in workers.items():
            issue, body = issues[unit], worker.body
            m.d.comb += [
                issue.loop_valid.eq(fetch.loop_valid[unit]),
                issue.loop.eq(fetch.loop),
                issue.start.eq(fetch.start[unit]),
                issue.word.eq(fetch.word),
                issue.instruction.eq(fetch.instruction),
                body.valid.eq(issue.body.valid),
                issue.body.ready.eq(body.ready),
                # MMA's addresses are shorter than TABLE's.
                *(
                    body.payload[name].eq(issue.body.payload[name])
                    for name in body_layout().members
                ),
            ]
            if unit != Unit.MMA:
                m.d.comb += issue.next_address.eq(worker.next_address)
            if unit != Unit.STY:
                m.d.comb += worker.fields.eq(issue.fields)
        for worker in (self.table, self.array, self.scale, self.final, self.store, self.ldw):
            m.d.comb += worker.layer.eq(fetch.layer)
        for worker in (self.table, self.array, self.scale, self.final):
            m.d.comb += worker.start.eq(fetch.start[Unit.MMA])
        m.d.comb += [
            self.ldw.start.eq(fetch.start[Unit.LDW]),
            self.ldx.start.eq(fetch.start[Unit.LDX]),
        ]

    def _connect_chain(self, m: Module) -> None:
        """The units that an MMA passes through."""
        table, array, scale, final, store = (
            self.table, self.array, self.scale, self.final, self.store,
        )  # fmt: skip
        wiring.connect(m, table.o_set, array.i)
        wiring.connect(m, table.o_run, scale.i)
        wiring.connect(m, table.o_rows, final.rows)
        wiring.connect(m, scale.o, final.i)
        wiring.connect(m, final.o, store.i)
        m.d.comb += [
            store.i_row_end.eq(final.o_row_end),
            store.i_tile_end.eq(final.o_tile_end),
            array.write_enable.eq(table.write_enable),
            array.write_address.eq(table.write_address),
            array.write_data.eq(table.write_data),
            table.release.eq(array.release),
            array.expecting.eq(self.issues[Unit.MMA].busy | table.active),
            scale.acc_valid.eq(array.o_valid),
            scale.acc_sums.eq(array.o_sums),
            array.o_pop.eq(scale.acc_pop),
            scale.freed.eq(final.freed),
            scale.sum_slot.eq(final.sum_slot),
            scale.sum_word.eq(final.sum_word),
            scale.sum_enable.eq(final.sum_enable),
            final.sum_data.eq(scale.sum_data),
            self.lookup.eq(array.issue),
        ]

    def _connect_tokens(self, m: Module) -> None:
        tokens = self.tokens
        word = data.View(INSTRUCTIONS[Opcode.TOKEN].layout, self.fetch.word)
        m.d.comb += [
            tokens.add.eq(self.fetch.token_add),
            tokens.counter.eq(word.counter),
            tokens.count.eq(word.count),
        ]
        tokens.connect(m, "W", self.ldw.w, self.array.w)
        tokens.connect(m, "S", self.ldw.s, self.scale.s)
        tokens.connect(m, "X", self.ldx.x, self.table.x)
        tokens.connect(m, "B", self.ldw.b, self.final.b)

    def _connect_memory(self, m: Module) -> None:
        """From the units through their windows to the bus masters, and back."""
        regions = {
            "fetch": Region.PROGRAM,
            "ldx": Region.ACTIVATIONS,
            "ldw": Region.WEIGHTS,
            "store": Region.RESULTS,
        }
        for name, window in self.windows.items():
            wiring.connect(m, self.requesters[name].command, window.i)
            m.d.comb += [
                window.base.eq(self.bases[regions[name]]),
                window.size.eq(self.sizes[regions[name]]),
            ]
        for client, name in enumerate(READERS):
            unit, window = self.requesters[name], self.windows[name]
            response, command = self.responses[client], self.commands[client]
            m.d.comb += [
                unit.i.valid.eq(response.valid),
                unit.i.payload.eq(response.payload.data),
                response.ready.eq(unit.i.ready),
                # The longest client gives the width.
                command.valid.eq(window.o.valid),
                command.payload.address.eq(window.o.payload.address),
                command.payload.beats.eq(window.o.payload.beats),
                window.o.ready.eq(command.ready),
            ]
        wiring.connect(m, self.store.o, wiring.flipped(self.write_data))
        wiring.connect(m, self.windows["store"].o, wiring.flipped(self.write_command))

    def _connect_activity(self, m: Module) -> Signal:
        """What is under way; a bit per unit that instructions are for."""
        ldw, ldx, store = self.ldw, self.ldx, self.store
        chain = (self.table, self.array, self.scale, self.final)
        active = {
            Unit.LDW: ldw.active,
            Unit.LDX: ldx.active,
            Unit.MMA: Cat(unit.active for unit in chain).any(),
            # Until the responses are there, so that a bad one is not put down to the next STY.
            Unit.STY: store.active | ~self.write_idle,
        }
        busy = Signal(len(Unit))
        m.d.comb += [busy[unit].eq(self.issues[unit].busy | active[unit]) for unit in Unit]
        m.d.comb += [
            self.fetch.unit_busy.eq(busy),
            # A loader is active until the last beat of its last request is there.
            # STORE has the last words of a request for as long as it is not issued.
            self.fetch.all_idle.eq(~busy.any() & self.bus_idle),
        ]
        return busy

    def _number(self, unit: Unit) -> Value:
        """Number of the instruction that a unit works on."""
        return self.issues[unit].number

    def _read_instruction(self) -> Value:
        """Number of the instruction whose data come, or are to come, from the bus."""
        return Mux(
            self.read_error_client == READERS.index("fetch"),
            self.fetch.receiving,
            Mux(
                self.read_error_client == READERS.index("ldx"),
                self._number(Unit.LDX),
                self._number(Unit.LDW),
            ),
        )

    def _connect_errors(self, m: Module) -> None:
        """Reasons to stop, the most telling first."""
        fetch, tokens, windows, of = self.fetch, self.tokens, self.windows, self._number

        # Without a layer there are no sizes; MMA does not know where a block of activations ends.
        sized = Cat(fetch.start[unit] for unit in (Unit.LDW, Unit.MMA, Unit.STY)).any()
        unfit = (sized & (fetch.layer.planes == 0)) | (fetch.loop_valid[Unit.MMA] & fetch.loop.auto)
        # Bases are looked at together with the program's length and fingerprint.
        checking = Signal(reset_less=True)
        m.d.sync += checking.eq(self.launch)
        over = tokens.overflow
        free_over = Cat(over[Token[f"{n}_FREE"]] for n in "WSXB").any()
        full_over = Mux(over[Token.X_FULL], of(Unit.LDX), of(Unit.LDW))
        computes = self.table.operand_error | self.scale.operand_error
        reasons = [
            (fetch.error.valid, fetch.error.cause, fetch.error.instruction),
            (checking & self.misplaced, Cause.REGION, fetch.instruction),
            (unfit, Cause.OPERAND, fetch.instruction),
            (self.read_error, Cause.READ_ERROR, self._read_instruction()),
            (self.write_error, Cause.WRITE_ERROR, of(Unit.STY)),
            (windows["fetch"].error, Cause.BOUNDS, fetch.instruction),
            (windows["ldx"].error, Cause.BOUNDS, of(Unit.LDX)),
            (windows["ldw"].error, Cause.BOUNDS, of(Unit.LDW)),
            (windows["store"].error, Cause.BOUNDS, of(Unit.STY)),
            (self.ldx.operand_error, Cause.OPERAND, of(Unit.LDX)),
            (self.ldw.operand_error, Cause.OPERAND, of(Unit.LDW)),
            (computes, Cause.OPERAND, of(Unit.MMA)),
            (self.store.operand_error, Cause.OPERAND, of(Unit.STY)),
            (tokens.add_overflow, Cause.TOKEN, fetch.instruction),
            (free_over, Cause.TOKEN, of(Unit.MMA)),
            (over.any(), Cause.TOKEN, full_over),
        ]
        assert len(reasons) == self.error_sources
        # Every reason through a register: they end the longest paths of the units.
        for index, (condition, cause, number) in enumerate(reasons):
            reason = self.errors[index]
            valid = Signal(name=f"stop_{index}")
            at = Signal.like(reason.instruction, name=f"stop_{index}_at", reset_less=True)
            held = cause
            if not isinstance(cause, Cause):
                held = Signal.like(reason.cause, name=f"stop_{index}_cause", reset_less=True)
                m.d.sync += held.eq(cause)
            m.d.sync += [valid.eq(condition), at.eq(number)]
            m.d.comb += [
                reason.valid.eq(valid),
                reason.cause.eq(held),
                reason.instruction.eq(at),
            ]

    def _connect_watches(self, m: Module, busy: Signal) -> None:
        """What the counters and the watches of the supervisor see."""
        # The oldest instruction that is not finished, in three steps: those of two units each, of
        # all units, and what FETCH waits with, which is younger than what a unit is busy with.
        number = Signal.like(self.oldest_at).shape()
        entry = data.StructLayout({"busy": 1, "number": number})

        def older(one: Any, other: Any, name: str) -> Any:
            """Of two, registered."""
            found = Signal(entry, name=name, reset_less=True)
            first = one.busy & (~other.busy | (one.number < other.number))
            m.d.sync += [
                found.busy.eq(one.busy | other.busy),
                found.number.eq(Mux(first, one.number, other.number)),
            ]
            return found

        units = []
        for unit in Unit:
            units.append(Signal(entry, name=f"at_{unit.name.lower()}"))
            m.d.comb += [units[-1].busy.eq(busy[unit]), units[-1].number.eq(self._number(unit))]
        first, second, third, fourth = units
        oldest = older(
            older(first, second, "older_load"), older(third, fourth, "older_other"), "oldest"
        )
        states = {name: getattr(self, name).state for name in COUNTER_UNITS}
        m.d.comb += [self.states[i].eq(states[name]) for i, name in enumerate(COUNTER_UNITS)]
        # What FETCH does by itself takes less time than a deadlock, for all of a program.
        working = Cat(states[name] == State.BUSY for name in states if name != "fetch").any()
        bodies = [issue.body for issue in self.issues.values()]
        moves = Cat(body.valid & body.ready for body in bodies).any()
        progress = Signal(reset_less=True)
        # Nobody asks in the cycle after a reset.
        oldest_then = Signal.like(self.oldest_at, reset_less=True)
        unanswered_then = Signal.like(self.unanswered_at, reset_less=True)
        m.d.sync += [
            progress.eq(working | self.ldw.counting | moves),
            oldest_then.eq(Mux(oldest.busy, oldest.number, self.fetch.instruction)),
            unanswered_then.eq(
                Mux(self.read_owed, self._read_instruction(), self._number(Unit.STY))
            ),
        ]
        m.d.comb += [
            self.progress.eq(progress),
            self.oldest_at.eq(oldest_then),
            self.unanswered_at.eq(unanswered_then),
        ]


class Core(wiring.Component):
    """The LUT tensor core.

    Members
    -------
    control
        AXI4-Lite slave: registers of :mod:`lutcore.hw.contract.csr`.
    bus
        AXI4 master.
    irq
        Level, until cleared in IRQ.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__(
            {
                "control": In(Axi4Lite(12)),
                "bus": Out(Axi4(config.bus_width)),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        m.submodules.registers = registers = CsrFile(cfg)
        m.submodules.counters = counters = CounterBank()
        m.submodules.supervisor = supervisor = Supervisor(Engine.error_sources)
        engine = Engine(cfg)
        m.submodules.reader = reader = ReadMaster(
            cfg.bus_width, len(READERS), longest=engine.longest_read
        )
        m.submodules.writer = writer = WriteMaster(cfg.bus_width, longest=engine.longest_write)
        m.submodules.engine = ResetInserter(supervisor.unit_reset)(engine)

        wiring.connect(m, wiring.flipped(self.control), registers.axi)
        forward(m, reader.bus, self.bus)
        forward(m, writer.bus, self.bus)
        for client in range(len(READERS)):
            wiring.connect(m, engine.commands[client], reader.commands[client])
            wiring.connect(m, reader.responses[client], engine.responses[client])
        wiring.connect(m, engine.write_command, writer.command)
        wiring.connect(m, engine.write_data, writer.i)

        settings = registers.settings
        m.submodules.regions = regions = RegionCheck()
        for region in Region:
            base = Cat(settings[f"{region.name}_BASE_LO"], settings[f"{region.name}_BASE_HI"])
            size = settings[f"{region.name}_SIZE"]
            m.d.comb += [
                regions.bases[region].eq(base),
                regions.sizes[region].eq(size),
                engine.bases[region].eq(base),
                engine.sizes[region].eq(size),
            ]
        m.d.comb += engine.misplaced.eq(regions.misplaced)
        bus_idle = Signal()
        m.d.comb += [
            bus_idle.eq(reader.idle & writer.idle),
            engine.launch.eq(supervisor.launch),
            engine.length.eq(settings["PROGRAM_LENGTH"]),
            engine.expect.eq(Cat(settings["EXPECT_LO"], settings["EXPECT_HI"])),
            engine.bus_idle.eq(bus_idle),
            engine.read_owed.eq(reader.owed),
            engine.write_idle.eq(writer.idle),
            engine.read_error.eq(reader.error),
            engine.read_error_client.eq(reader.error_client),
            engine.write_error.eq(writer.error),
            reader.abort.eq(supervisor.abort),
            writer.abort.eq(supervisor.abort),
            supervisor.start.eq(registers.start),
            supervisor.soft_reset.eq(registers.soft_reset),
            supervisor.finished.eq(engine.finished),
            supervisor.errors.eq(engine.errors),
            supervisor.progress.eq(engine.progress),
            supervisor.bus_idle.eq(bus_idle),
            supervisor.oldest_at.eq(engine.oldest_at),
            supervisor.unanswered_at.eq(engine.unanswered_at),
            supervisor.budget.eq(Cat(settings["BUDGET_LO"], settings["BUDGET_HI"])),
            registers.busy.eq(supervisor.busy),
            registers.interrupt.eq(supervisor.interrupt),
            self.irq.eq(registers.irq),
            counters.clear.eq(supervisor.launch),
            counters.select.eq(registers.counter_select),
            registers.counter_hit.eq(counters.hit),
            registers.counter_value.eq(counters.value),
        ]
        # A cycle late does not matter to the watches, but inputs of the core would be late.
        bus_owed = Signal(reset_less=True)
        bus_moved = Signal(reset_less=True)
        m.d.sync += [
            bus_owed.eq(reader.owed | writer.owed),
            bus_moved.eq(reader.moved | writer.moved),
        ]
        m.d.comb += [supervisor.bus_owed.eq(bus_owed), supervisor.bus_moved.eq(bus_moved)]
        # Simulations read this register by its name, for the timeline.
        trace_state = Signal.like(engine.states, name="trace_state", reset_less=True)
        m.d.sync += trace_state.eq(engine.states)
        strobes = {"LOOKUPS": engine.lookup, "READ_BEATS": reader.beat, "WRITE_BEATS": writer.beat}
        m.d.comb += counters.events.eq(event_bits(supervisor.run, list(trace_state), strobes))

        # Read-only registers.
        values = registers.values
        status = status_word(
            busy=supervisor.busy,
            done=supervisor.done,
            error=supervisor.error,
            draining=supervisor.draining,
            hung=supervisor.hung,
            cause=supervisor.cause,
            instruction=supervisor.instruction,
        )
        m.d.comb += [
            values["STATUS"].eq(status),
            values["CYCLES_LO"].eq(supervisor.cycles[:32]),
            values["CYCLES_HI"].eq(supervisor.cycles[32:]),
        ]
        return m
