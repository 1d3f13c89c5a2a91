"""The core: units, buffers, tokens, bus masters and control, wired together."""

from typing import Any

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
from lutcore.hw.contract.loops import ADDRESS_BITS
from lutcore.hw.control.csr_file import CounterBank, CsrFile, event_bits, status_word
from lutcore.hw.control.fetch import Fetch
from lutcore.hw.control.nest import Nest
from lutcore.hw.control.supervisor import ErrorPort, Supervisor, TokenBank
from lutcore.hw.memory.axi import Axi4, Axi4Lite, forward
from lutcore.hw.memory.buffers import SlotBuffer
from lutcore.hw.memory.dma import (
    REGION_BITS,
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
        self.scale = scale = ScaleUnit(config)
        self.final = final = FinalUnit(config)
        self.store = StoreUnit(config)
        scale_write = write_signature(scale.word_bits, beat, scale.slot_words)
        bias_write = write_signature(final.bias_width, beat, final.bias_slot_words)
        self.ldw = WeightLoader(config, scale_write=scale_write, bias_write=bias_write)
        x_write = write_signature(config.x_memory_bits, beat, config.x_slot_words)
        self.ldx = ActivationLoader(config, write=x_write)
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

    #: Reasons to stop that come from the engine; see ``elaborate``.
    error_sources = 16

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        m.submodules.fetch = fetch = self.fetch
        windows = self.windows
        for name, window in windows.items():
            m.submodules[f"window_{name}"] = window
        regions = {
            "fetch": Region.PROGRAM,
            "ldx": Region.ACTIVATIONS,
            "ldw": Region.WEIGHTS,
            "store": Region.RESULTS,
        }
        for name, window in windows.items():
            wiring.connect(m, self.requesters[name].command, window.i)
            m.d.comb += [
                window.base.eq(self.bases[regions[name]]),
                window.size.eq(self.sizes[regions[name]]),
            ]

        # Units.
        m.submodules.table = table = self.table
        m.submodules.array = array = ArrayUnit(cfg)
        m.submodules.scale = scale = self.scale
        m.submodules.final = final = self.final
        m.submodules.store = store = self.store
        m.submodules.ldw = ldw = self.ldw
        m.submodules.ldx = ldx = self.ldx

        # Buffers.
        beat = cfg.bus_width
        buffers = {
            "weights": (
                ldw.weights,
                array.buffer,
                array.stored_bits,
                ldw.unpacker.piece,
                cfg.weight_words,
            ),
            "scales": (ldw.scales, scale.buffer, scale.word_bits, beat, scale.slot_words),
            "biases": (ldw.biases, final.bias, final.bias_width, beat, final.bias_slot_words),
            "activations": (ldx.buffer, table.buffer, cfg.x_memory_bits, beat, cfg.x_slot_words),
        }
        for name, (writer, reader, width, piece, words) in buffers.items():
            # Scales come with codes, and no sooner are there sums to be scaled.
            buffer = SlotBuffer(
                width=width, piece=piece, slot_words=words, reset_less=name == "scales"
            )
            m.submodules[f"{name}_buffer"] = buffer
            wiring.connect(m, reader, buffer.read)
            for port in ("write_enable", "write_slot", "write_word", "write_data", "begin", "done"):
                m.d.comb += getattr(buffer, port).eq(getattr(writer, port))

        # Instructions: loops go to the nests, fields and number are kept per unit.
        nests, fields, numbers = {}, {}, {}
        for unit in Unit:
            name = unit.name.lower()
            # Strides of MMA are offsets in the activation buffer.
            width = len(table.reader.seek_word) if unit == Unit.MMA else ADDRESS_BITS
            # What is not whole beats from the region's start is out of bounds to a loader; STORE
            # refuses what does not begin where a row of results may.
            aligned = {Unit.MMA: 0, Unit.STY: low_zeros(RESULT_ALIGNMENT)}
            # All but TABLE look at a body first, and take it later.
            nest = Nest(
                address_width=width,
                region_bits=None if unit == Unit.MMA else REGION_BITS,
                aligned=aligned.get(unit, cfg.beat_shift),
                prompt=unit == Unit.MMA,
            )
            m.submodules[f"nest_{name}"] = nest
            layout = INSTRUCTIONS[unit.opcode].layout
            held = Signal(layout, name=f"{name}_fields", reset_less=True)
            number = Signal(range(PROGRAM_MAX), name=f"{name}_number", reset_less=True)
            now = data.View(layout, fetch.word)
            m.d.comb += [
                nest.push.valid.eq(fetch.loop_valid[unit]),
                nest.start.eq(fetch.start[unit]),
            ]
            for field in nest.push.payload.shape().members:
                m.d.comb += nest.push.payload[field].eq(fetch.loop[field])
            if unit != Unit.MMA:
                m.d.comb += nest.base.eq(now.base)
            with m.If(fetch.start[unit]):
                m.d.sync += [held.eq(fetch.word), number.eq(fetch.instruction)]
            nests[unit], fields[unit], numbers[unit] = nest, held, number

        for unit, consumer in (
            (Unit.LDW, ldw),
            (Unit.LDX, ldx),
            (Unit.STY, store),
            (Unit.MMA, table),
        ):
            nest, body = nests[unit], consumer.body
            m.d.comb += [
                body.valid.eq(nest.o.valid),
                nest.o.ready.eq(body.ready),
            ]
            for field in nest.o.payload.shape().members:
                m.d.comb += body.payload[field].eq(nest.o.payload[field])
        m.d.comb += [
            nests[Unit.LDW].next_address.eq(ldw.next_address),
            nests[Unit.LDX].next_address.eq(ldx.next_address),
            nests[Unit.STY].next_address.eq(store.next_address),
            table.fields.eq(fields[Unit.MMA]),
            ldw.fields.eq(fields[Unit.LDW]),
            ldx.fields.eq(fields[Unit.LDX]),
        ]
        for unit in (table, array, scale, final, store, ldw):
            m.d.comb += unit.layer.eq(fetch.layer)
        for unit in (table, array, scale, final):
            m.d.comb += unit.start.eq(fetch.start[Unit.MMA])
        m.d.comb += [ldw.start.eq(fetch.start[Unit.LDW]), ldx.start.eq(fetch.start[Unit.LDX])]

        # The chain of MMA.
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
            array.expecting.eq(nests[Unit.MMA].busy | table.active),
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

        # Tokens.
        m.submodules.tokens = tokens = TokenBank()
        token_word = data.View(INSTRUCTIONS[Opcode.TOKEN].layout, fetch.word)
        ends = {
            "w": (ldw.w_take, ldw.w_give, array.w_take, array.w_give),
            "s": (ldw.s_take, ldw.s_give, scale.s_take, scale.s_give),
            "x": (ldx.x_take, ldx.x_give, table.x_take, table.x_give),
            "b": (ldw.b_take, ldw.b_give, final.b_take, final.b_give),
        }
        for name, (free_take, full_give, full_take, free_give) in ends.items():
            free, full = Token[f"{name.upper()}_FREE"], Token[f"{name.upper()}_FULL"]
            m.d.comb += [
                tokens.take[free].eq(free_take),
                tokens.give[full].eq(full_give),
                tokens.take[full].eq(full_take),
                tokens.give[free].eq(free_give),
            ]
        m.d.comb += [
            tokens.add.eq(fetch.token_add),
            tokens.counter.eq(token_word.counter),
            tokens.count.eq(token_word.count),
            ldw.w_available.eq(tokens.available[Token.W_FREE]),
            ldw.s_available.eq(tokens.available[Token.S_FREE]),
            ldw.b_available.eq(tokens.available[Token.B_FREE]),
            ldx.x_available.eq(tokens.available[Token.X_FREE]),
            array.w_available.eq(tokens.available[Token.W_FULL]),
            scale.s_available.eq(tokens.available[Token.S_FULL]),
            final.b_available.eq(tokens.available[Token.B_FULL]),
            table.x_available.eq(tokens.available[Token.X_FULL]),
        ]

        # Memory.
        for client, name in enumerate(READERS):
            unit, window = self.requesters[name], windows[name]
            m.d.comb += [
                unit.i.valid.eq(self.responses[client].valid),
                unit.i.payload.eq(self.responses[client].payload.data),
                self.responses[client].ready.eq(unit.i.ready),
            ]
            # The longest client gives the width.
            m.d.comb += [
                self.commands[client].valid.eq(window.o.valid),
                self.commands[client].payload.address.eq(window.o.payload.address),
                self.commands[client].payload.beats.eq(window.o.payload.beats),
                window.o.ready.eq(self.commands[client].ready),
            ]
        m.d.comb += [
            self.write_data.valid.eq(store.o.valid),
            self.write_data.payload.eq(store.o.payload),
            store.o.ready.eq(self.write_data.ready),
        ]
        wiring.connect(m, windows["store"].o, wiring.flipped(self.write_command))

        # What is under way.
        busy = Signal(len(Unit))
        mma_active = table.active | array.active | scale.active | final.active
        m.d.comb += [
            busy[Unit.LDW].eq(nests[Unit.LDW].busy | ldw.active),
            busy[Unit.LDX].eq(nests[Unit.LDX].busy | ldx.active),
            busy[Unit.MMA].eq(nests[Unit.MMA].busy | mma_active),
            # Until the responses are there, so that a bad one is not put down to the next STY.
            busy[Unit.STY].eq(nests[Unit.STY].busy | store.active | ~self.write_idle),
            fetch.unit_busy.eq(busy),
            # A loader is active until the last beat of its last request is there.
            # STORE has the last words of a request for as long as it is not issued.
            fetch.all_idle.eq(~busy.any() & self.bus_idle),
            fetch.launch.eq(self.launch),
            fetch.length.eq(self.length),
            fetch.expect.eq(self.expect),
            self.finished.eq(fetch.finished),
        ]

        # Reasons to stop, the most telling first.
        def because(condition: Value, cause: Cause, number: Value) -> Any:
            reason = Signal(ErrorPort)
            m.d.comb += [
                reason.valid.eq(condition),
                reason.cause.eq(cause),
                reason.instruction.eq(number),
            ]
            return reason

        of = numbers
        reader = Mux(
            self.read_error_client == READERS.index("fetch"),
            fetch.receiving,
            Mux(self.read_error_client == READERS.index("ldx"), of[Unit.LDX], of[Unit.LDW]),
        )
        # Without a layer there are no sizes; MMA does not know where a block of activations ends.
        sized = Cat(fetch.start[unit] for unit in (Unit.LDW, Unit.MMA, Unit.STY)).any()
        unfit = (sized & (fetch.layer.planes == 0)) | (fetch.loop_valid[Unit.MMA] & fetch.loop.auto)
        # Bases are looked at together with the program's length and fingerprint.
        checking = Signal(reset_less=True)
        m.d.sync += checking.eq(self.launch)
        over = tokens.overflow
        free_over = Cat(over[Token[f"{n}_FREE"]] for n in "WSXB").any()
        reasons = [
            fetch.error,
            because(checking & self.misplaced, Cause.REGION, fetch.instruction),
            because(unfit, Cause.OPERAND, fetch.instruction),
            because(self.read_error, Cause.READ_ERROR, reader),
            because(self.write_error, Cause.WRITE_ERROR, of[Unit.STY]),
            because(windows["fetch"].error, Cause.BOUNDS, fetch.instruction),
            because(windows["ldx"].error, Cause.BOUNDS, of[Unit.LDX]),
            because(windows["ldw"].error, Cause.BOUNDS, of[Unit.LDW]),
            because(windows["store"].error, Cause.BOUNDS, of[Unit.STY]),
            because(ldx.operand_error, Cause.OPERAND, of[Unit.LDX]),
            because(ldw.operand_error, Cause.OPERAND, of[Unit.LDW]),
            because(table.operand_error | scale.operand_error, Cause.OPERAND, of[Unit.MMA]),
            because(store.operand_error, Cause.OPERAND, of[Unit.STY]),
            because(tokens.add_overflow, Cause.TOKEN, fetch.instruction),
            because(free_over, Cause.TOKEN, of[Unit.MMA]),
            because(over.any(), Cause.TOKEN, Mux(over[Token.X_FULL], of[Unit.LDX], of[Unit.LDW])),
        ]
        assert len(reasons) == self.error_sources
        m.d.comb += [self.errors[i].eq(reason) for i, reason in enumerate(reasons)]

        # The oldest instruction that is not finished; what a unit is busy with is older than what
        # FETCH waits with.
        first, *others = Unit
        oldest = Mux(busy[first], numbers[first], fetch.instruction)
        for unit in others:
            older = busy[unit] & (numbers[unit] < oldest)
            oldest = Mux(older, numbers[unit], oldest)
        units = {
            "fetch": fetch,
            "ldw": ldw,
            "ldx": ldx,
            "table": table,
            "array": array,
            "scale": scale,
            "final": final,
            "store": store,
        }
        m.d.comb += [self.states[i].eq(units[name].state) for i, name in enumerate(COUNTER_UNITS)]
        # What FETCH does by itself takes less time than a deadlock, for all of a program.
        working = Cat(units[name].state == State.BUSY for name in units if name != "fetch").any()
        working = working | ldw.counting
        # No unit is ready for a body that is not there.
        nest_moves = Cat(nest.o.ready for nest in nests.values()).any()
        progress = Signal(reset_less=True)
        m.d.sync += progress.eq(working | nest_moves)
        m.d.comb += self.progress.eq(progress)
        # Nobody asks in the cycle after a reset.
        oldest_then = Signal.like(self.oldest_at, reset_less=True)
        unanswered_then = Signal.like(self.unanswered_at, reset_less=True)
        m.d.sync += [
            oldest_then.eq(oldest),
            unanswered_then.eq(Mux(self.read_owed, reader, of[Unit.STY])),
        ]
        m.d.comb += [self.oldest_at.eq(oldest_then), self.unanswered_at.eq(unanswered_then)]
        return m


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
