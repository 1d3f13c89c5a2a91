"""The register file behind the AXI4-Lite port, and the counters of the units."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.axi import Axi4Lite
from lutcore.hw.config import CoreConfig
from lutcore.hw.csr import COUNTER_UNITS, CSRS, ID_VALUE, Control, Status
from lutcore.hw.isa import ISA_VERSION
from lutcore.hw.util import State

__all__ = ["COUNTER_BITS", "CounterBank", "CsrFile", "status_word"]

#: Bits of a counter; at 100 MHz it lasts three hours.
COUNTER_BITS = 40
#: Version of the register map, in VERSION 31:16.
MAP_VERSION = 1

_OKAY, _SLVERR = 0b00, 0b10


class CounterBank(wiring.Component):
    """Counts, for each unit, the cycles in each of its states.

    Members
    -------
    clear, run
        Set all to zero; count.
    states
        State of each unit, in the order of ``COUNTER_UNITS``.
    busy, wait_in, wait_out
        Counts.
    """

    def __init__(self) -> None:
        units = len(COUNTER_UNITS)
        counts = data.ArrayLayout(COUNTER_BITS, units)
        super().__init__(
            {
                "clear": In(1),
                "run": In(1),
                "states": In(data.ArrayLayout(State, units)),
                "busy": Out(counts),
                "wait_in": Out(counts),
                "wait_out": Out(counts),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kinds = ((State.BUSY, self.busy), (State.WAIT_IN, self.wait_in), (State.WAIT_OUT, self.wait_out))
        for unit, name in enumerate(COUNTER_UNITS):
            for state, counts in kinds:
                # The state is registered first: it comes late in the cycle.
                tick = Signal(name=f"{name}_{state.name.lower()}")
                m.d.sync += tick.eq(self.run & (self.states[unit] == state))
                with m.If(self.clear):
                    m.d.sync += counts[unit].eq(0)
                with m.Elif(tick):
                    m.d.sync += counts[unit].eq(counts[unit] + 1)
        return m


class CsrFile(wiring.Component):
    """AXI4-Lite slave with the registers of :mod:`lutcore.hw.csr`.

    Unknown offsets and writes to read-only registers answer SLVERR, as do writes to all but CONTROL and
    IRQ while the core is busy. One read and one write may be under way at a time.

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
    busy, status
        For STATUS (all its 32 bits) and for the write protection.
    values
        Read-only registers (see :attr:`inputs`), by name.
    settings
        Writable registers, by name.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        fixed = {"ID", "VERSION", "FINGERPRINT_LO", "FINGERPRINT_HI"}
        special = {"CONTROL", "IRQ"}
        #: Registers whose value comes from outside.
        self.inputs = [c.name for c in CSRS.values() if c.access == "ro" and c.name not in fixed]
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
                "settings": Out(data.StructLayout({name: 32 for name in self.settings_names})),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        fingerprint = self.config.fingerprint
        enable, pending = Signal(), Signal()
        m.d.comb += self.irq.eq(enable & pending)
        m.d.sync += [self.start.eq(0), self.soft_reset.eq(0)]

        # Reads: address, a register stage for the wide choice, data.
        address = Signal(12)
        chosen = Signal(33)
        with m.Switch(address[2:]):
            for csr in CSRS.values():
                value = {
                    "ID": ID_VALUE,
                    "VERSION": ISA_VERSION | MAP_VERSION << 16,
                    "FINGERPRINT_LO": fingerprint & 0xFFFF_FFFF,
                    "FINGERPRINT_HI": fingerprint >> 32,
                    "CONTROL": enable << Control.IRQ_ENABLE,
                    "IRQ": pending,
                }.get(csr.name)
                if value is None:
                    source = self.values if csr.name in self.inputs else self.settings
                    value = source[csr.name]
                with m.Case(csr.offset >> 2):
                    m.d.comb += chosen.eq(value)
            with m.Default():
                m.d.comb += chosen.eq(1 << 32)
        with m.FSM(name="read"):
            with m.State("ADDRESS"):
                m.d.comb += axi.arready.eq(1)
                with m.If(axi.arvalid):
                    m.d.sync += address.eq(axi.araddr)
                    m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.sync += [
                    axi.rdata.eq(chosen[:32]),
                    axi.rresp.eq(Mux(chosen[32], _SLVERR, _OKAY)),
                ]
                m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += axi.rvalid.eq(1)
                with m.If(axi.rready):
                    m.next = "ADDRESS"

        # Writes: address and data in any order, then the response.
        write_address, write_data, strobe = Signal(12), Signal(32), Signal(4)
        have_address, have_data = Signal(), Signal()
        mask = Cat(bit.replicate(8) for bit in strobe)
        bad = Signal()
        m.d.comb += [axi.awready.eq(~have_address), axi.wready.eq(~have_data)]
        with m.If(axi.awvalid & axi.awready):
            m.d.sync += [have_address.eq(1), write_address.eq(axi.awaddr)]
        with m.If(axi.wvalid & axi.wready):
            m.d.sync += [have_data.eq(1), write_data.eq(axi.wdata), strobe.eq(axi.wstrb)]
        with m.If(axi.bvalid):
            with m.If(axi.bready):
                m.d.sync += [axi.bvalid.eq(0), have_address.eq(0), have_data.eq(0)]
        with m.Elif(have_address & have_data):
            m.d.sync += [axi.bvalid.eq(1), axi.bresp.eq(Mux(bad, _SLVERR, _OKAY))]
            with m.Switch(write_address[2:]):
                with m.Case(CSRS["CONTROL"].offset >> 2):
                    with m.If(strobe[0]):
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
                for name in self.settings_names:
                    with m.Case(CSRS[name].offset >> 2):
                        register = self.settings[name]
                        m.d.comb += bad.eq(self.busy)
                        with m.If(~self.busy):
                            m.d.sync += register.eq((register & ~mask) | (write_data & mask))
                with m.Default():
                    m.d.comb += bad.eq(1)
        with m.If(self.interrupt):
            m.d.sync += pending.eq(1)
        return m


def status_word(*, busy, done, error, draining, hung, cause, instruction):
    """STATUS from its parts."""
    parts = {
        Status.BUSY: busy,
        Status.DONE: done,
        Status.ERROR: error,
        Status.DRAINING: draining,
        Status.HUNG: hung,
    }
    low = Cat(parts[bit] for bit in sorted(parts))
    return Cat(low, Signal(8 - len(parts)), cause, instruction)


