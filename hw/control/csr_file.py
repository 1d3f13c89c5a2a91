"""The register file behind the AXI4-Lite port, and the counters of the units."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import COUNTER_UNITS, CSRS, ID_VALUE, Control, Status
from lutcore.hw.contract.isa import ISA_VERSION
from lutcore.hw.memory.axi import Axi4Lite
from lutcore.hw.util import State

__all__ = [
    "COUNTER_BITS",
    "COUNTER_SLOTS",
    "EXTRA_COUNTERS",
    "CounterBank",
    "CsrFile",
    "event_bits",
    "status_word",
]

#: Bits of a counter; at 100 MHz it lasts three hours.
COUNTER_BITS = 40
#: Four slots for each unit: busy, waiting for input, waiting for output, and one of these:
COUNTER_SLOTS = 4 * len(COUNTER_UNITS)
EXTRA_COUNTERS = ("LOOKUPS", "READ_BEATS", "WRITE_BEATS")
#: Version of the register map, in VERSION 31:16.
MAP_VERSION = 1

_OKAY, _SLVERR = 0b00, 0b10


class CounterBank(wiring.Component):
    """Counts events, in a memory: 40-bit registers for all would be half of the control logic.

    Each of the ``SLOTS`` counters collects its events in a few bits, which a scan over all slots
    moves into the memory, one slot per cycle. A slot can be read in the cycle of its visit, so it
    always reads as the exact count of the events up to a cycle ago, at most ``SLOTS`` cycles
    after it is asked for.

    Members
    -------
    clear
        Set all to zero; the events of this cycle are the first to count.
    events
        A bit per slot: count one. See :func:`event_bits`.
    select
        Slot to read.
    hit, value
        Strobe: ``value`` is the count of the selected slot.
    """

    def __init__(self) -> None:
        self.memory = Memory(shape=COUNTER_BITS, depth=COUNTER_SLOTS, init=[])
        super().__init__(
            {
                "clear": In(1),
                "events": In(COUNTER_SLOTS),
                "select": In(range(COUNTER_SLOTS)),
                "hit": Out(1),
                "value": Out(COUNTER_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = self.memory
        read, write = memory.read_port(domain="comb"), memory.write_port()

        # Events come late in their cycle: a register first.
        event = Signal(COUNTER_SLOTS, reset_less=True)
        visited = Signal(range(COUNTER_SLOTS))
        # Until the scan has been everywhere, what the memory holds is from the run before.
        stale = Signal(init=1)
        # Slots that no register reads are left out.
        pending = {n: Signal(range(COUNTER_SLOTS), name=f"pending_{n}") for n in _slots().values()}
        m.d.sync += [event.eq(self.events), visited.eq(visited + 1)]
        with m.If(visited == COUNTER_SLOTS - 1):
            m.d.sync += stale.eq(0)
        for slot, count in pending.items():
            with m.If(visited == slot):
                m.d.sync += count.eq(0)
            with m.Elif(event[slot]):
                m.d.sync += count.eq(count + 1)

        slot = Signal(range(COUNTER_SLOTS))
        before = Signal(COUNTER_BITS)
        more = Signal(range(COUNTER_SLOTS + 1))
        valid = Signal()
        waiting = Array(pending.get(n, 0) for n in range(COUNTER_SLOTS))
        m.d.comb += [
            read.addr.eq(visited),
            write.addr.eq(slot),
            write.data.eq(self.value),
            write.en.eq(valid),
            self.value.eq(before + more),
            self.hit.eq(valid & (slot == self.select)),
        ]
        m.d.sync += [
            valid.eq(1),
            slot.eq(visited),
            before.eq(Mux(stale, 0, read.data)),
            more.eq(waiting[visited] + event.bit_select(visited, 1)),
        ]
        with m.If(self.clear):
            m.d.sync += [visited.eq(0), stale.eq(1), valid.eq(0)]
            m.d.sync += [count.eq(0) for count in pending.values()]
        return m


def event_bits(run: Value, states: list[Value], extra: dict[str, Value]) -> Value:
    """Events of a :class:`CounterBank`: four slots for each unit, in the order of their registers.

    Parameters
    ----------
    run
        Count at all.
    states
        State of each unit, in the order of ``COUNTER_UNITS``.
    extra
        The strobes of ``EXTRA_COUNTERS``, which take the fourth slot of the first units.
    """
    bits: list[Value] = [Const(0, 1)] * COUNTER_SLOTS
    for unit, state in enumerate(states):
        for kind, value in enumerate((State.BUSY, State.WAIT_IN, State.WAIT_OUT)):
            bits[4 * unit + kind] = run & (state == value)
    for number, name in enumerate(EXTRA_COUNTERS):
        bits[4 * number + 3] = run & extra[name]
    return Cat(*bits)


def _slots() -> dict[int, int]:
    """Slot of the counter at each word of the register map, by word offset (LO)."""
    slots = {CSRS[f"{name}_LO"].offset: 4 * n + 3 for n, name in enumerate(EXTRA_COUNTERS)}
    for unit, name in enumerate(COUNTER_UNITS):
        for kind, suffix in enumerate(("BUSY", "WAIT_IN", "WAIT_OUT")):
            slots[CSRS[f"{name.upper()}_{suffix}_LO"].offset] = 4 * unit + kind
    return slots


class CsrFile(wiring.Component):
    """AXI4-Lite slave with the registers of :mod:`lutcore.hw.contract.csr`.

    Unknown offsets and writes to read-only registers answer SLVERR, as do writes to all but CONTROL
    and IRQ while the core is busy. One read and one write may be under way at a time.

    Members
    -------
    axi
        The port.
    start, soft_reset
        Pulses from CONTROL.
    irq
        Level: enabled and pending.
    interrupt
        Strobe that sets it.
    busy
        Settings are refused.
    values
        Read-only registers (see :attr:`inputs`), by name.
    counter_select, counter_hit, counter_value
        To the :class:`CounterBank`. Reading a counter takes up to ``COUNTER_SLOTS`` cycles more;
        its two halves are read at different times, and belong together once the core stands.
    settings
        Writable registers, by name.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        fixed = {"ID", "VERSION", "FINGERPRINT_LO", "FINGERPRINT_HI"}
        special = {"CONTROL", "IRQ"}
        self.counters = _slots()
        #: Registers whose value comes from outside.
        self.inputs = [
            c.name
            for c in CSRS.values()
            if c.access == "ro" and c.name not in fixed and c.offset & ~4 not in self.counters
        ]
        #: Registers that the host writes.
        self.settings_names = [
            c.name for c in CSRS.values() if c.access == "rw" and c.name not in special
        ]
        super().__init__(
            {
                "axi": In(Axi4Lite(12)),
                "start": Out(1),
                "soft_reset": Out(1),
                "irq": Out(1),
                "interrupt": In(1),
                "busy": In(1),
                "values": In(data.StructLayout({name: 32 for name in self.inputs})),
                "counter_select": Out(range(COUNTER_SLOTS)),
                "counter_hit": In(1),
                "counter_value": In(COUNTER_BITS),
                "settings": Out(data.StructLayout({name: 32 for name in self.settings_names})),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        fingerprint = self.config.fingerprint
        enable = Signal()
        pending = Signal()
        m.d.comb += self.irq.eq(enable & pending)
        m.d.sync += [self.start.eq(0), self.soft_reset.eq(0)]

        # Reads: address; one bit per register, so that the wide choice is an OR; data.
        address = Signal(12)
        values = {
            "ID": ID_VALUE,
            "VERSION": ISA_VERSION | MAP_VERSION << 16,
            "FINGERPRINT_LO": fingerprint & 0xFFFF_FFFF,
            "FINGERPRINT_HI": fingerprint >> 32,
            "CONTROL": enable << Control.IRQ_ENABLE,
            "IRQ": pending,
            **{name: self.values[name] for name in self.inputs},
            **{name: self.settings[name] for name in self.settings_names},
        }
        selected = Signal(len(values))
        chosen = Const(0, 32)
        for number, value in enumerate(values.values()):
            chosen = chosen | Mux(selected[number], value, 0)
        from_counter = Signal()
        counter = Mux(address[2], self.counter_value[32:], self.counter_value[:32])
        with m.Switch(address[3:]):
            for offset, slot in self.counters.items():
                with m.Case(offset >> 3):
                    m.d.comb += [from_counter.eq(1), self.counter_select.eq(slot)]
        with m.FSM(name="read"):
            with m.State("ADDRESS"):
                m.d.comb += axi.arready.eq(1)
                with m.If(axi.arvalid):
                    m.d.sync += address.eq(axi.araddr)
                    m.next = "SELECT"
            with m.State("SELECT"):
                m.d.sync += selected.eq(
                    Cat(address[2:] == CSRS[name].offset >> 2 for name in values)
                )
                m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.sync += [
                    axi.rdata.eq(chosen),
                    axi.rresp.eq(Mux(selected.any(), _OKAY, _SLVERR)),
                ]
                m.next = "DATA"
                with m.If(from_counter):
                    m.next = "COUNTER"
            with m.State("COUNTER"):
                m.d.sync += [axi.rdata.eq(counter), axi.rresp.eq(_OKAY)]
                with m.If(self.counter_hit):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += axi.rvalid.eq(1)
                with m.If(axi.rready):
                    m.next = "ADDRESS"

        # Writes: address and data in any order, then the response.
        write_address = Signal(12)
        write_data = Signal(32)
        strobe = Signal(4)
        have_address = Signal()
        have_data = Signal()
        bad = Signal()
        m.d.comb += [axi.awready.eq(~have_address), axi.wready.eq(~have_data)]
        with m.If(axi.awvalid & axi.awready):
            m.d.sync += [have_address.eq(1), write_address.eq(axi.awaddr)]
        with m.If(axi.wvalid & axi.wready):
            m.d.sync += [have_data.eq(1), write_data.eq(axi.wdata), strobe.eq(axi.wstrb)]
        with m.If(axi.bvalid), m.If(axi.bready):
            m.d.sync += [axi.bvalid.eq(0), have_address.eq(0), have_data.eq(0)]
        with m.Elif(have_address & have_data):
            m.d.sync += [axi.bvalid.eq(1), axi.bresp.eq(Mux(bad, _SLVERR, _OKAY))]
            with m.Switch(write_address[2:]):
                with m.Case(CSRS["CONTROL"].offset >> 2), m.If(strobe[0]):
                    m.d.sync += [
                        enable.eq(write_data[Control.IRQ_ENABLE]),
                        self.start.eq(write_data[Control.START] & ~self.busy),
                        self.soft_reset.eq(write_data[Control.RESET]),
                    ]
                    # Starting a busy core would go unnoticed.
                    m.d.comb += bad.eq(write_data[Control.START] & self.busy)
                with m.Case(CSRS["IRQ"].offset >> 2):
                    with m.If(strobe[0] & write_data[0]):
                        m.d.sync += pending.eq(0)
                with m.Case(*(CSRS[name].offset >> 2 for name in self.settings_names)):
                    m.d.comb += bad.eq(self.busy)
                with m.Default():
                    m.d.comb += bad.eq(1)
        # Settings follow while the response waits, for as long as address and data stay.
        with m.If(axi.bvalid & ~axi.bresp[1]):
            for name in self.settings_names:
                register = self.settings[name]
                for lane in range(4):
                    part = slice(8 * lane, 8 * lane + 8)
                    with m.If((write_address[2:] == CSRS[name].offset >> 2) & strobe[lane]):
                        m.d.sync += register[part].eq(write_data[part])
        with m.If(self.interrupt):
            m.d.sync += pending.eq(1)
        return m


def status_word(
    *,
    busy: Value,
    done: Value,
    error: Value,
    draining: Value,
    hung: Value,
    cause: Value,
    instruction: Value,
) -> Value:
    """STATUS from its parts."""
    parts = {
        Status.BUSY: busy,
        Status.DONE: done,
        Status.ERROR: error,
        Status.DRAINING: draining,
        Status.HUNG: hung,
    }
    low = Cat(parts[bit] for bit in sorted(parts))
    return Cat(low, Const(0, 8 - len(parts)), cause, Const(0, 8 - len(cause)), instruction)
