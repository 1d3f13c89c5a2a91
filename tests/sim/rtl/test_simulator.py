"""The RTL simulator, on a small stand-in for the core."""

import os
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np
import pytest
from amaranth.back import verilog
from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    Module,
    Mux,
    ResetSignal,
    Signal,
)
from amaranth.lib.fifo import SyncFIFOBuffered

from lutcore.sim.rtl.simulator import CsrError, RtlModel, RtlProtocolError, RtlSim
from lutcore.sw.base.errors import LutcoreError

ID = 0x59504F43
_BURST = 16
_FIFO = 64

_RING = """
module ring(input select, input oscillate, input [31:0] a, input [31:0] b, output [31:0] total);
  wire [31:0] left, right;
  assign left = select ? a : right;
  assign right = select ? left : oscillate ? ~left : b;
  assign total = left + right;
endmodule
"""


class Reg(IntEnum):
    """Register offsets."""

    CONTROL = 0x00  # Write: start, and clear irq. Read: ID.
    STATUS = 0x04  # Bit 0: a read failed; bit 1: a write failed.
    SOURCE = 0x10
    TARGET = 0x14
    BEATS = 0x18
    DEFECT = 0x1C
    STROBE = 0x20  # Of the last beat.
    LATENCY = 0x24  # Cycles from the first read address to its first beat.
    PREFIX = 0x28  # Prefix parity of SOURCE, by a vector that depends on itself bit by bit.
    LASTS = 0x30  # Beats marked as the last of a burst.
    RING = 0x2C  # TARGET bits 0 (select) and 1 (oscillate), around a combinational ring.


class Defect(IntEnum):
    """What the copier does wrong."""

    NONE = 0
    FIXED_BURST = 1
    NARROW = 2
    UNALIGNED = 3
    CROSSES = 4
    DROPS_VALID = 5
    CHANGES_ADDRESS = 6
    CHANGES_DATA = 7
    EARLY_LAST = 8
    NO_LAST = 9
    MUTE = 10
    UNASKED_RESPONSE = 11
    LOUD_IN_RESET = 12


class Copier(Elaboratable):
    """A small stand-in for the core, with its ports: copies BEATS beats from SOURCE to TARGET, then
    raises ``irq``. Its defects can be switched on, to prove that the simulation catches them.

    Parameters
    ----------
    bus_width
        Bits per beat.
    ring
        Whether to contain a combinational ring, which needs repeated evaluation.
    traced
        Whether to have a register ``trace_state``: unit 0 reads, unit 1 writes.
    """

    def __init__(self, bus_width: int, *, ring: bool = False, traced: bool = True) -> None:
        self.bus_width, self.ring, self.traced = bus_width, ring, traced
        self.ports: dict[str, Signal] = {}
        for name, width in (("aclk", 1), ("aresetn", 1), ("irq", 1)):
            self._port(name, width)
        for prefix, address, data in (("s_axi", 12, 32), ("m_axi", 40, bus_width)):
            for channel in ("aw", "w", "b", "ar", "r"):
                for name in ("valid", "ready"):
                    self._port(f"{prefix}_{channel}{name}", 1)
            for name, width in (
                ("awaddr", address),
                ("araddr", address),
                ("wdata", data),
                ("wstrb", data // 8),
                ("rdata", data),
                ("bresp", 2),
                ("rresp", 2),
            ):
                self._port(f"{prefix}_{name}", width)
        for channel in ("aw", "ar"):
            for name, width in (("len", 8), ("size", 3), ("burst", 2)):
                self._port(f"m_axi_{channel}{name}", width)
        self._port("m_axi_wlast", 1)
        self._port("m_axi_rlast", 1)

    def _port(self, name: str, width: int) -> None:
        self.ports[name] = Signal(width, name=name)

    def verilog(self) -> str:
        """The copier as module ``lutcore``."""
        os.environ["AMARANTH_USE_YOSYS"] = "builtin"
        ports = list(self.ports.values())
        text = verilog.convert(self, name="lutcore", ports=ports, emit_src=False)
        return text + _RING if self.ring else text

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain("sync")
        m.d.comb += [
            ClockSignal("sync").eq(self.ports["aclk"]),
            ResetSignal("sync").eq(~self.ports["aresetn"]),
        ]
        self.source, self.target, self.beats, self.last_strobe = (Signal(32) for _ in range(4))
        # The defect has to outlive the reset that it spoils.
        self.defect = Signal(4, reset_less=True)
        self.status, self.latency, self.lasts = Signal(2), Signal(32), Signal(32)
        self.start, self.toggle = Signal(), Signal()
        m.d.sync += self.toggle.eq(~self.toggle)
        m.submodules.fifo = self.fifo = SyncFIFOBuffered(width=self.bus_width, depth=_FIFO)
        self._registers(m)
        reading, writing = self._reader(m), self._writer(m)
        if self.traced:
            trace_state = Signal(4, name="trace_state")
            m.d.sync += trace_state.eq(Cat(reading, Const(0, 1), writing, Const(0, 1)))
        return m

    def _registers(self, m: Module) -> None:
        p = self.ports
        write = Signal()
        m.d.comb += [
            write.eq(p["s_axi_awvalid"] & p["s_axi_wvalid"] & ~p["s_axi_bvalid"]),
            p["s_axi_awready"].eq(write & (self.defect != Defect.MUTE)),
            p["s_axi_wready"].eq(write & (self.defect != Defect.MUTE)),
            p["s_axi_arready"].eq(~p["s_axi_rvalid"]),
            self.start.eq(write & (p["s_axi_awaddr"] == Reg.CONTROL)),
        ]
        with m.If(p["s_axi_bready"]):
            m.d.sync += p["s_axi_bvalid"].eq(self.defect == Defect.UNASKED_RESPONSE)
        with m.If(write & p["s_axi_awready"]):
            m.d.sync += [
                p["s_axi_bvalid"].eq(1),
                p["s_axi_bresp"].eq(Mux(p["s_axi_awaddr"] >= 0x800, 2, 0)),
            ]
            for offset, register in (
                (Reg.SOURCE, self.source),
                (Reg.TARGET, self.target),
                (Reg.BEATS, self.beats),
                (Reg.DEFECT, self.defect),
                (Reg.STROBE, self.last_strobe),
            ):
                with m.If(p["s_axi_awaddr"] == offset):
                    m.d.sync += register.eq(p["s_axi_wdata"])
        prefix = Signal(32)
        m.d.comb += prefix[0].eq(self.source[0])
        m.d.comb += [prefix[i].eq(prefix[i - 1] ^ self.source[i]) for i in range(1, 32)]
        with m.If(p["s_axi_rready"]):
            m.d.sync += p["s_axi_rvalid"].eq(0)
        with m.If(p["s_axi_arvalid"] & p["s_axi_arready"]):
            m.d.sync += [
                p["s_axi_rvalid"].eq(1),
                p["s_axi_rresp"].eq(Mux(p["s_axi_araddr"] >= 0x800, 3, 0)),
            ]
            for offset, value in (
                (Reg.CONTROL, Const(ID, 32)),
                (Reg.STATUS, self.status),
                (Reg.SOURCE, self.source),
                (Reg.LATENCY, self.latency),
                (Reg.PREFIX, prefix),
                (Reg.LASTS, self.lasts),
                (Reg.RING, self._ring(m) if self.ring else Const(0, 1)),
            ):
                with m.If(p["s_axi_araddr"] == offset):
                    m.d.sync += p["s_axi_rdata"].eq(value)

    def _ring(self, m: Module) -> Signal:
        """SOURCE or TARGET[2:], twice, by way of two multiplexers that feed each other."""
        total = Signal(32)
        # Amaranth itself refuses combinational rings.
        m.submodules.ring = Instance(
            "ring",
            i_select=self.target[0],
            i_oscillate=self.target[1],
            i_a=self.source,
            i_b=self.target >> 2,
            o_total=total,
        )
        return total

    def _split(self, address: Signal, left: Signal) -> Signal:
        """Beats of the next burst: a whole one where it is aligned and wanted, or one beat."""
        low = (self.bus_width // 8 * _BURST).bit_length() - 1
        aligned = (address[:low] == 0) | (self.defect == Defect.CROSSES)
        return Mux(aligned & (left >= _BURST), _BURST, 1)

    def _address(self, m: Module, channel: str, address: Signal, beats: Signal) -> None:
        p, size = self.ports, (self.bus_width // 8).bit_length() - 1
        change = (self.defect == Defect.CHANGES_ADDRESS) & self.toggle
        m.d.comb += [
            p[f"m_axi_{channel}addr"].eq(
                Mux(change, address ^ 0x1000, address) | (self.defect == Defect.UNALIGNED)
            ),
            p[f"m_axi_{channel}len"].eq(beats - 1),
            p[f"m_axi_{channel}size"].eq(size - (self.defect == Defect.NARROW)),
            p[f"m_axi_{channel}burst"].eq(self.defect != Defect.FIXED_BURST),
        ]

    def _reader(self, m: Module) -> Signal:
        p, fifo = self.ports, self.fifo
        address, left, reserved = Signal(40), Signal(32), Signal(range(_FIFO + 1))
        beats = Signal(8)
        dropped = (self.defect == Defect.DROPS_VALID) & self.toggle
        loud = (self.defect == Defect.LOUD_IN_RESET) & ~p["aresetn"]
        taken = p["m_axi_arvalid"] & p["m_axi_arready"]
        m.d.comb += beats.eq(self._split(address, left))
        self._address(m, "ar", address, beats)
        m.d.comb += [
            p["m_axi_arvalid"].eq(((left != 0) & (reserved + beats <= _FIFO) & ~dropped) | loud),
            p["m_axi_rready"].eq(1),
            fifo.w_data.eq(p["m_axi_rdata"]),
            fifo.w_en.eq(p["m_axi_rvalid"]),
        ]
        m.d.sync += reserved.eq(reserved + Mux(taken, beats, 0) - (fifo.r_rdy & fifo.r_en))
        waiting = Signal()
        with m.If(waiting & ~p["m_axi_rvalid"]):
            m.d.sync += self.latency.eq(self.latency + 1)
        with m.If(p["m_axi_rvalid"]):
            m.d.sync += [waiting.eq(0), self.lasts.eq(self.lasts + p["m_axi_rlast"])]
            with m.If(p["m_axi_rresp"] != 0):
                m.d.sync += self.status[0].eq(1)
        with m.If(taken):
            m.d.sync += [
                address.eq(address + (beats << (self.bus_width // 8).bit_length() - 1)),
                left.eq(left - beats),
            ]
            with m.If(self.latency == 0):
                m.d.sync += [waiting.eq(1), self.latency.eq(1)]
        with m.If(self.start):
            m.d.sync += [address.eq(self.source), left.eq(self.beats), self.latency.eq(0)]
        busy = Signal()
        m.d.comb += busy.eq(left != 0)
        return busy

    def _writer(self, m: Module) -> Signal:
        p, fifo = self.ports, self.fifo
        address, left, owed = Signal(40), Signal(32), Signal(8)
        beats, in_burst, running = Signal(8), Signal(8), Signal()
        shift = (self.bus_width // 8).bit_length() - 1
        m.d.comb += beats.eq(self._split(address, left))
        self._address(m, "aw", address, beats)
        mangled = (self.defect == Defect.CHANGES_DATA) & self.toggle
        last = (in_burst == 1) & (self.defect != Defect.NO_LAST)
        m.d.comb += [
            p["m_axi_wdata"].eq(Mux(mangled, ~fifo.r_data, fifo.r_data)),
            p["m_axi_wstrb"].eq(Mux((left == 0) & (in_burst == 1), self.last_strobe, -1)),
            p["m_axi_wlast"].eq(last | ((in_burst == 2) & (self.defect == Defect.EARLY_LAST))),
            p["m_axi_bready"].eq(1),
        ]
        done = p["m_axi_bvalid"]
        m.d.sync += owed.eq(owed - done)
        with m.If(p["m_axi_bvalid"] & (p["m_axi_bresp"] != 0)):
            m.d.sync += self.status[1].eq(1)
        with m.FSM():
            with m.State("ADDRESS"):
                m.d.comb += p["m_axi_awvalid"].eq((left != 0) & (fifo.r_level >= beats))
                with m.If(p["m_axi_awvalid"] & p["m_axi_awready"]):
                    m.d.sync += [
                        in_burst.eq(beats),
                        left.eq(left - beats),
                        address.eq(address + (beats << shift)),
                        owed.eq(owed + 1 - done),
                    ]
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += [
                    p["m_axi_wvalid"].eq(1),
                    fifo.r_en.eq(p["m_axi_wready"]),
                ]
                with m.If(p["m_axi_wready"]):
                    m.d.sync += in_burst.eq(in_burst - 1)
                    with m.If(in_burst == 1):
                        m.next = "ADDRESS"
        with m.If(running & (left == 0) & (in_burst == 0) & (owed == 0)):
            m.d.sync += [running.eq(0), p["irq"].eq(1)]
        with m.If(self.start):
            m.d.sync += [
                address.eq(self.target),
                left.eq(self.beats),
                running.eq(1),
                p["irq"].eq(0),
                self.status.eq(0),
            ]
        return running


@cache
def verilog_of(bus_width: int = 64, ring: bool = False, traced: bool = True) -> str:
    return Copier(bus_width, ring=ring, traced=traced).verilog()


@cache
def model(bus_width: int = 64, ring: bool = False, traced: bool = True) -> RtlModel:
    text = verilog_of(bus_width, ring, traced)
    return RtlSim.build(text, bus_width=bus_width, optimise="fast", progress=False)


SOURCE, TARGET = 0x1000, 0x8000


def memory(seed: int = 1, size: int = 1 << 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def start(sim: RtlSim, beats: int, source: int = SOURCE, target: int = TARGET) -> None:
    sim.write_csr(Reg.SOURCE, source)
    sim.write_csr(Reg.TARGET, target)
    sim.write_csr(Reg.BEATS, beats)
    sim.write_csr(Reg.STROBE, 0xFFFF_FFFF)
    sim.write_csr(Reg.CONTROL, 1)


def copy(
    beats: int, bus_width: int = 64, *, ring: bool = False, **arguments: Any
) -> tuple[RtlSim, int]:
    """A checked copy on a fresh simulator, and its cycles from start to interrupt."""
    buffer = memory()
    sim = RtlSim(model(bus_width, ring), buffer, **arguments).reset()
    start(sim, beats)
    begin = sim.cycle
    assert sim.run_until_irq(100_000)
    cycles = sim.cycle - begin
    expected = memory()
    # The register for the last beat's strobes has 32 bits.
    size = (beats - 1) * bus_width // 8 + min(bus_width // 8, 32)
    expected[TARGET : TARGET + size] = expected[SOURCE : SOURCE + size]
    np.testing.assert_array_equal(buffer, expected)
    assert sim.read_csr(Reg.STATUS) == 0
    return sim, cycles


def test_registers():
    sim = RtlSim(model(), memory()).reset()
    assert sim.read_csr(Reg.CONTROL) == ID
    sim.write_csr(Reg.SOURCE, 0xFEDC_BA98)
    assert sim.read_csr(Reg.SOURCE) == 0xFEDC_BA98
    with pytest.raises(
        CsrError, match="write of 0x7 to register 0x800: the core answered SLVERR"
    ) as e:
        sim.write_csr(0x800, 7)
    assert e.value.response == 2
    with pytest.raises(CsrError, match="read of register 0xffc: the core answered DECERR"):
        sim.read_csr(0xFFC)
    assert sim.read_csr(Reg.SOURCE) == 0xFEDC_BA98


@pytest.mark.parametrize("stalls", [0.0, 0.4])
def test_registers_side_by_side(stalls):
    sim = RtlSim(model(), memory(), stall_probability=stalls, stall_seed=3).reset()
    sim.write_csr(Reg.SOURCE, 77)
    writes = [(Reg.TARGET, 1, 0xF), (Reg.STROBE, 2, 0xF)]
    assert sim.access_csrs(writes, [Reg.SOURCE, Reg.CONTROL]) == [77, ID]
    sim.access_csrs([(Reg.SOURCE, value, 0xF) for value in (1, 2, 3)])
    assert sim.access_csrs(reads=[Reg.SOURCE, Reg.SOURCE]) == [3, 3]
    assert sim.access_csrs() == []
    with pytest.raises(CsrError, match=r"write of 0x7 to register 0x800: .* SLVERR"):
        sim.access_csrs([(Reg.TARGET, 4, 0xF), (0x800, 7, 0xF), (Reg.SOURCE, 5, 0xF)])
    # What came with it has been done.
    assert sim.read_csr(Reg.SOURCE) == 5


@pytest.mark.parametrize("offset", [-4, 2, 4096])
def test_register_offsets_are_checked(offset):
    sim = RtlSim(model(), memory()).reset()
    with pytest.raises(LutcoreError, match="multiple of 4 from 0 to 0xffc"):
        sim.read_csr(offset)
    with pytest.raises(LutcoreError, match="multiple of 4 from 0 to 0xffc"):
        sim.write_csr(offset, 0)


def test_register_values_are_checked():
    with pytest.raises(LutcoreError, match="0x100000000 does not fit"):
        RtlSim(model(), memory()).reset().write_csr(Reg.SOURCE, 1 << 32)


@pytest.mark.parametrize("bus_width", [32, 64, 512])
def test_copy(bus_width):
    beats = 37
    sim, _ = copy(beats, bus_width)
    size = bus_width // 8
    stats = sim.stats
    assert (stats.read_bursts, stats.write_bursts) == (2 + 5, 2 + 5)
    assert sim.read_csr(Reg.LASTS) == stats.read_bursts
    assert (stats.read_beats, stats.write_beats) == (beats, beats)
    assert stats.bytes_read == beats * size
    assert stats.bytes_written == (beats - 1) * size + min(size, 32)


def test_write_strobes():
    buffer = memory()
    sim = RtlSim(model(), buffer).reset()
    sim.write_csr(Reg.SOURCE, SOURCE)
    sim.write_csr(Reg.TARGET, TARGET)
    sim.write_csr(Reg.BEATS, 2)
    sim.write_csr(Reg.STROBE, 0b0100_0011)
    sim.write_csr(Reg.CONTROL, 1)
    assert sim.run_until_irq(1000)
    expected = memory()
    for i in (*range(8), 8, 9, 14):
        expected[TARGET + i] = expected[SOURCE + i]
    np.testing.assert_array_equal(buffer, expected)
    assert sim.stats.bytes_written == 8 + 3


@pytest.mark.parametrize("latency", [1, 2, 40, 1000])
def test_latency(latency):
    sim, cycles = copy(1, latency=latency)
    assert sim.read_csr(Reg.LATENCY) == latency
    _, base = copy(1, latency=1)
    # Once for the read, once for the response of the write.
    assert cycles - base == 2 * (latency - 1)


@pytest.mark.parametrize("bandwidth", [2.0, 1.0, 0.5, 0.3, 0.01])
def test_bandwidth(bandwidth):
    # Above 1.0 this copier is the limit: a burst costs it one cycle more than its beats.
    beats = 32 if bandwidth < 0.1 else 320
    expected = max(2 * beats / bandwidth, beats * 17 / 16)
    _, cycles = copy(beats, bandwidth=bandwidth, latency=1)
    assert expected - 4 / bandwidth <= cycles <= 1.02 * expected + 40


def test_reads_are_pipelined():
    # 4 bursts are in flight at a time. One after the other, 16 of them would take 16 * 116 cycles.
    _, cycles = copy(256, latency=100, bandwidth=2.0)
    assert cycles < 750


@pytest.mark.parametrize("seed", [0, 1, 2, 1 << 64 - 1])
@pytest.mark.parametrize("probability", [0.1, 0.7])
def test_stalls(seed, probability):
    arguments = {"stall_seed": seed, "stall_probability": probability, "latency": 5}
    first, cycles = copy(100, **arguments)
    again, same = copy(100, **arguments)
    assert cycles == same and first.stats == again.stats
    assert cycles > copy(100, latency=5)[1]


def test_stalls_depend_on_the_seed():
    cycles = {copy(100, stall_seed=seed, stall_probability=0.5)[1] for seed in range(6)}
    assert len(cycles) > 1


def test_runs_are_identical():
    assert copy(100)[0].stats == copy(100)[0].stats


@pytest.mark.parametrize(
    ("kind", "status"),
    [("read_slverr", 1), ("read_decerr", 1), ("write_slverr", 2), ("write_decerr", 2)],
)
def test_error_responses(kind, status):
    buffer = memory()
    sim = RtlSim(model(), buffer, fault=(kind, 1)).reset()
    start(sim, 48)
    assert sim.run_until_irq(10_000)
    assert sim.read_csr(Reg.STATUS) == status
    expected = memory()
    expected[TARGET : TARGET + 384] = expected[SOURCE : SOURCE + 384]
    # The second burst of three: a failing read gives poison, a failing write does nothing.
    second = slice(TARGET + 128, TARGET + 256)
    expected[second] = 0xA5 if status == 1 else memory()[second]
    np.testing.assert_array_equal(buffer, expected)
    start(sim, 48)
    assert sim.run_until_irq(10_000)
    assert sim.read_csr(Reg.STATUS) == 0


@pytest.mark.parametrize("kind", ["read_hang", "write_hang"])
def test_hangs(kind):
    buffer = memory()
    sim = RtlSim(model(), buffer, fault=(kind, 1)).reset()
    start(sim, 48)
    assert not sim.run_until_irq(10_000)
    sim.reset()
    start(sim, 48)
    assert sim.run_until_irq(10_000)
    np.testing.assert_array_equal(buffer[TARGET : TARGET + 384], memory()[SOURCE : SOURCE + 384])


@pytest.mark.parametrize("kind", ["read_address_hang", "write_address_hang", "write_data_hang"])
def test_hangs_of_a_channel(kind):
    buffer = memory()
    sim = RtlSim(model(), buffer, fault=(kind, 1)).reset()
    start(sim, 48)
    assert not sim.run_until_irq(10_000)
    # The first burst passed; of the second one no byte.
    expected = memory()
    expected[TARGET : TARGET + 128] = expected[SOURCE : SOURCE + 128]
    np.testing.assert_array_equal(buffer, expected)
    sim.reset()
    start(sim, 48)
    assert not sim.run_until_irq(10_000)


def test_faults_do_not_cross_directions():
    sim = RtlSim(model(), memory(), fault=("write_slverr", 5)).reset()
    start(sim, 16 * 5)
    assert sim.run_until_irq(10_000)
    assert sim.read_csr(Reg.STATUS) == 0


def test_outside_memory():
    size = 0x4000
    buffer = memory(size=size)
    sim = RtlSim(model(), buffer).reset()
    start(sim, 16, source=size - 64)  # 8 single beats exist; then 8 do not.
    assert sim.run_until_irq(10_000)
    assert sim.read_csr(Reg.STATUS) == 3  # TARGET is outside altogether.
    np.testing.assert_array_equal(buffer, memory(size=size))
    start(sim, 8, source=size - 64, target=0)
    assert sim.run_until_irq(10_000)
    assert sim.read_csr(Reg.STATUS) == 0
    np.testing.assert_array_equal(buffer[:64], memory(size=size)[-64:])


@pytest.mark.parametrize(("source", "target", "status"), [(64, 0, 1), (0, 64, 2)])
def test_a_part_of_a_beat_is_outside_memory(source, target, status):
    # What follows the simulated memory is not its own.
    whole = memory(size=72)
    sim = RtlSim(model(), whole[:68]).reset()
    start(sim, 1, source=source, target=target)
    assert sim.run_until_irq(10_000)
    assert sim.read_csr(Reg.STATUS) == status
    np.testing.assert_array_equal(whole[64:], memory(size=72)[64:])


@pytest.mark.parametrize(
    ("defect", "channel", "text"),
    [
        (Defect.FIXED_BURST, "m_axi AR", r"burst type 0 at 0x1000, not INCR \(1\)"),
        (Defect.NARROW, "m_axi AR", "4 bytes per beat at 0x1000, not 8"),
        (Defect.UNALIGNED, "m_axi AR", "address 0x1001 is not a multiple of the beat, 8 bytes"),
        (Defect.CROSSES, "m_axi AR", "16 beats at 0x1fc0 cross a 4 KiB boundary"),
        (Defect.DROPS_VALID, "m_axi AR", "valid fell before ready rose"),
        (Defect.CHANGES_ADDRESS, "m_axi A[RW]", "the payload changed while valid waited"),
        (Defect.CHANGES_DATA, "m_axi W", "the payload changed while valid waited"),
        (Defect.EARLY_LAST, "m_axi W", "last is 1 with 2 beats of the burst to come"),
        (Defect.NO_LAST, "m_axi W", "last is 0 with 1 beats of the burst to come"),
        (Defect.UNASKED_RESPONSE, "s_axi B", "a response that no write asked for"),
    ],
)
def test_broken_rules_are_caught(defect, channel, text):
    sim = RtlSim(model(), memory(), stall_probability=0.5).reset()
    with pytest.raises(RtlProtocolError, match=f"^{channel}, cycle [0-9]+: {text}") as e:
        sim.write_csr(Reg.DEFECT, defect)
        start(sim, 64, source=0x1FC0 if defect == Defect.CROSSES else SOURCE)
        sim.run_until_irq(10_000)
    assert 0 < e.value.cycle <= sim.cycle
    assert e.value.channel in str(e.value)
    # There is no way on from here, and no way to miss it.
    with pytest.raises(RtlProtocolError, match=text):
        sim.reset()


def test_valid_in_reset_is_caught():
    sim = RtlSim(model(), memory()).reset()
    sim.write_csr(Reg.DEFECT, Defect.LOUD_IN_RESET)
    with pytest.raises(RtlProtocolError, match=r"m_axi AR.*valid during reset"):
        sim.reset()


def test_silent_registers_do_not_hang():
    sim = RtlSim(model(), memory()).reset()
    sim.write_csr(Reg.DEFECT, Defect.MUTE)
    with pytest.raises(CsrError, match="write of 0x0 to register 0x01c: no answer") as e:
        sim.write_csr(Reg.DEFECT, Defect.NONE)
    assert e.value.response is None


def test_trace():
    sim, cycles = copy(64, trace=True)
    trace = sim.trace()
    assert sorted(trace) == [0, 1]
    for starts, states in trace.values():
        assert starts[0] == 0
        assert (np.diff(starts) > 0).all() and (np.diff(states.astype(int)) != 0).all()
        assert states.tolist() == [0, 1, 0]
    (reading, writing) = (trace[unit][0] for unit in (0, 1))
    # The reader has sent its last address long before the writer has its last response.
    assert reading[1] == writing[1]
    assert reading[2] < writing[2] <= sim.cycle
    assert writing[2] - writing[1] >= cycles - 3


def test_trace_is_optional():
    assert copy(4)[0].trace() == {}
    sim = RtlSim(model(traced=False), memory(), trace=True).reset()
    sim.step(10)
    assert sim.trace() == {}


def test_steps_are_counted():
    sim = RtlSim(model(), memory())
    sim.reset(7)
    sim.step(100_000)
    assert sim.cycle == 100_007
    assert not sim.run_until_irq(3)
    assert sim.cycle == 100_010


def test_interrupt_is_seen_at_once():
    sim, _ = copy(4)
    before = sim.cycle
    assert sim.run_until_irq(1000)
    assert sim.cycle == before + 1


@pytest.mark.parametrize("ring", [False, True])
def test_self_dependent_vectors(ring):
    sim = RtlSim(model(ring=ring), memory()).reset()
    sim.write_csr(Reg.SOURCE, 0b1011)
    assert sim.read_csr(Reg.PREFIX) == 0xFFFF_FFF9


def test_combinational_ring():
    sim = RtlSim(model(ring=True), memory()).reset()
    sim.write_csr(Reg.SOURCE, 0x1234)
    sim.write_csr(Reg.TARGET, 0x567 << 2)
    assert sim.read_csr(Reg.RING) == 2 * 0x567
    sim.write_csr(Reg.TARGET, 1)
    assert sim.read_csr(Reg.RING) == 2 * 0x1234
    with pytest.raises(RtlProtocolError, match="a combinational loop does not settle"):
        sim.write_csr(Reg.TARGET, 2)


def test_evaluating_until_settled_changes_nothing():
    settled, cycles = copy(100, ring=True, trace=True)
    once, same = copy(100, trace=True)
    assert cycles == same and settled.stats == once.stats
    for unit, (starts, states) in once.trace().items():
        np.testing.assert_array_equal(settled.trace()[unit], (starts, states))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"latency": 0}, "latency must be 1 cycle or more, not 0"),
        ({"bandwidth": 0.0}, "bandwidth must be above 0 and at most 2 beats per cycle, not 0.0"),
        ({"bandwidth": 2.5}, "not 2.5"),
        ({"stall_probability": 1.0}, "stall_probability must be at least 0 and less than 1"),
        ({"fault": ("read_maybe", 0)}, "fault must be one of read_slverr, .*, not 'read_maybe'"),
        ({"fault": ("read_hang", -1)}, "the fault's burst must be 0 or more, not -1"),
    ],
)
def test_arguments_are_checked(arguments, text):
    with pytest.raises(LutcoreError, match=text):
        RtlSim(model(), memory(), **arguments)


def test_memory_is_checked():
    with pytest.raises(LutcoreError, match="must be a uint8 array of one dimension, not int8 of 1"):
        RtlSim(model(), memory().view(np.int8))
    with pytest.raises(LutcoreError, match="contiguous and writable"):
        RtlSim(model(), memory()[::2])
    frozen = memory()
    frozen.flags.writeable = False
    with pytest.raises(LutcoreError, match="contiguous and writable"):
        RtlSim(model(), frozen)
    with pytest.raises(LutcoreError, match="2 cycles or more, not 1"):
        RtlSim(model(), memory()).reset(1)
