"""A whole core in Amaranth's simulator, with memory on its bus and a host at its registers."""

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from amaranth.sim import Simulator

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import CSRS, Region
from lutcore.hw.core import Core
from lutcore.sim.devices.registers import START, CoreState, Setup
from lutcore.sw.program.memory import MemoryMap, load
from lutcore.sw.program.program import Program

__all__ = ["AxiMemory", "CoreBench"]

OKAY, SLVERR = 0, 2
#: Where the regions begin; what lies before and behind them must never be touched.
BASE = 0x1FC0
MARGIN = 0x400


class AxiMemory:
    """Slave of an AXI4 bus: bytes, answered in order.

    Attributes
    ----------
    content
        The bytes, uint8, from address 0.
    read_faults, write_faults
        Addresses of beats that are answered with SLVERR (and not written).
    mute
        While set, no further beat is read.
    """

    def __init__(
        self, bus: Any, bus_width: int, *, latency: int = 12, pace: float = 1.0, seed: int = 0
    ) -> None:
        self.bus, self.beat_bytes = bus, bus_width // 8
        self.latency, self.pace = latency, pace
        self.random = random.Random(seed)
        self.content = np.zeros(0, np.uint8)
        self.read_faults: set[int] = set()
        self.write_faults: set[int] = set()
        self.mute = False
        self._reads: deque[tuple[int, int, bool]] = deque()  # due, address, last

    @property
    def outstanding(self) -> int:
        """Beats of reads that the core still waits for."""
        return len(self._reads)

    @property
    def awaited(self) -> list[int]:
        """Their addresses."""
        return [address for _, address, _ in self._reads]

    def _addresses(self, address: int, length: int) -> list[int]:
        size = (length + 1) * self.beat_bytes
        assert address % self.beat_bytes == 0, f"burst at {address:#x} is not aligned"
        assert address // 4096 == (address + size - 1) // 4096, f"burst at {address:#x} straddles"
        assert address + size <= len(self.content), f"burst at {address:#x} is outside of memory"
        return list(range(address, address + size, self.beat_bytes))

    async def serve_reads(self, ctx: Any) -> None:
        """Testbench of channels AR and R."""
        bus, now, sending = self.bus, 0, False
        while True:
            ready = self.random.random() < self.pace
            due = bool(self._reads) and self._reads[0][0] <= now and not self.mute
            sending = sending or (due and self.random.random() < self.pace)
            ctx.set(bus.arready, ready)
            ctx.set(bus.rvalid, sending)
            if sending:
                _, address, last = self._reads[0]
                beat = self.content[address : address + self.beat_bytes].tobytes()
                ctx.set(bus.rdata, int.from_bytes(beat, "little"))
                ctx.set(bus.rlast, last)
                ctx.set(bus.rresp, SLVERR if address in self.read_faults else OKAY)
            ports = (bus.arvalid, bus.araddr, bus.arlen, bus.rready)
            _, _, valid, start, length, taken = await ctx.tick().sample(*ports)
            now += 1
            if sending and taken:
                self._reads.popleft()
                sending = False
            if valid and ready:
                places = self._addresses(start, length)
                for place in places:
                    self._reads.append((now + self.latency, place, place == places[-1]))

    async def serve_writes(self, ctx: Any) -> None:
        """Testbench of channels AW, W and B."""
        bus, now = self.bus, 0
        places: deque[tuple[int, bool]] = deque()  # address, last
        beats: deque[tuple[int, int, bool]] = deque()  # data, strobe, last
        responses: deque[tuple[int, int]] = deque()  # due, response
        response = OKAY
        while True:
            address_ready = self.random.random() < self.pace
            data_ready = self.random.random() < self.pace
            answering = bool(responses) and responses[0][0] <= now
            ctx.set(bus.awready, address_ready)
            ctx.set(bus.wready, data_ready)
            ctx.set(bus.bvalid, answering)
            if answering:
                ctx.set(bus.bresp, responses[0][1])
            _, _, valid, start, length, sent, *beat, taken = await ctx.tick().sample(
                bus.awvalid, bus.awaddr, bus.awlen, bus.wvalid, bus.wdata, bus.wstrb, bus.wlast,
                bus.bready,
            )  # fmt: skip
            now += 1
            if answering and taken:
                responses.popleft()
            if valid and address_ready:
                burst = self._addresses(start, length)
                places.extend((place, place == burst[-1]) for place in burst)
            if sent and data_ready:
                beats.append(tuple(beat))
            while beats and places:
                (address, last), (word, strobe, said_last) = places.popleft(), beats.popleft()
                assert last == said_last, f"WLAST is wrong at {address:#x}"
                if address in self.write_faults:
                    response = SLVERR
                else:
                    self._write(address, word, strobe)
                if last:
                    responses.append((now + self.latency, response))
                    response = OKAY

    def _write(self, address: int, word: int, strobe: int) -> None:
        for byte in range(self.beat_bytes):
            if strobe >> byte & 1:
                self.content[address + byte] = word >> 8 * byte & 0xFF


class CoreBench:
    """A core, elaborated once, on which program after program runs.

    Parameters
    ----------
    config
        The core.
    memory
        Keywords of :class:`AxiMemory`.
    """

    def __init__(self, config: CoreConfig, **memory: Any) -> None:
        self.config = config
        self.dut: Any = Core(config)
        self.memory = AxiMemory(self.dut.bus, config.bus_width, **memory)
        self._job: Any = None
        self._result: Any = None
        self._simulator = Simulator(self.dut)
        self._simulator.add_clock(1e-8)
        for process in (self._host, self.memory.serve_reads, self.memory.serve_writes):
            self._simulator.add_testbench(process, background=True)

    # Memory ----------------------------------------------------------------------------------

    def place(self, program: Program, q: np.ndarray, row_scale: np.ndarray) -> None:
        """Put a program and its activations into a memory that is otherwise full of noise."""
        self.layout = MemoryMap.for_program(program, BASE)
        rng = np.random.default_rng(len(program.image))
        content = rng.integers(0, 256, size=self.layout.size + MARGIN).astype(np.uint8)
        load(content, self.layout, program, program.pack_x(q, row_scale))
        self.program = program
        self.memory.content = content
        self._before = content.copy()

    def place_instructions(self, words: Sequence[int]) -> None:
        """Replace the instructions, by not more of them than fit the region."""
        content = b"".join(word.to_bytes(16, "little") for word in words)
        base, size = self.layout.regions[Region.PROGRAM]
        assert len(content) <= size, "the program does not fit its region"
        for memory in (self.memory.content, self._before):
            memory[base : base + len(content)] = np.frombuffer(content, np.uint8)

    def written(self) -> np.ndarray:
        """Addresses of bytes that differ from what was placed there."""
        return np.nonzero(self.memory.content != self._before)[0]

    def assert_written_within(self, size: int | None = None) -> None:
        """Nothing outside of the first ``size`` bytes of the result region has changed."""
        base, whole = self.layout.regions[Region.RESULTS]
        end = base + (whole if size is None else size)
        outside = [hex(a) for a in self.written() if not base <= a < end]
        assert not outside, f"written outside of the result region: {outside[:8]}"

    def results(self) -> np.ndarray:
        """Results, after a check that nothing but them has been written."""
        program = self.program
        base, _ = self.layout.regions[Region.RESULTS]
        allowed = np.zeros(len(self.memory.content), bool)
        for row in range(program.rows):
            start = base + row * program.row_stride
            allowed[start : start + 4 * program.n] = True
        outside = [hex(a) for a in self.written() if not allowed[a]]
        assert not outside, f"written beside the results: {outside[:8]}"
        return program.unpack_y(self.memory.content[base : base + program.y_bytes])

    # Host ------------------------------------------------------------------------------------

    def start(self, **settings: Any) -> None:
        """Set the registers and start; for the settings see `Setup.of`."""
        for name, value in Setup.of(self.program, self.layout, **settings).registers().items():
            self.write(name, value)
        self.write("CONTROL", START)

    def wait(self, limit: int = 6000) -> CoreState:
        """Wait for the interrupt; read and acknowledge what it says."""

        async def job(ctx):
            for _ in range(limit):
                if ctx.get(self.dut.irq):
                    return True
                await ctx.tick()
            return False

        assert self._do(job), f"no interrupt within {limit} cycles"
        self.write("IRQ", 1)
        return self.outcome()

    def run(self, **settings: Any) -> CoreState:
        """Start and wait."""
        self.start(**settings)
        return self.wait()

    def outcome(self) -> CoreState:
        """STATUS and CYCLES."""
        return CoreState(self.read("STATUS"), self.read("CYCLES_LO"))

    def ticks(self, cycles: int) -> None:
        """Let cycles pass."""

        async def job(ctx):
            await ctx.tick().repeat(cycles)

        self._do(job)

    def write(self, name: str, value: int) -> None:
        """Write a register, which has to accept it."""
        axi = self.dut.control

        async def job(ctx):
            ctx.set(axi.awaddr, CSRS[name].offset)
            ctx.set(axi.wdata, value)
            ctx.set(axi.wstrb, 0xF)
            ctx.set(axi.awvalid, 1)
            ctx.set(axi.wvalid, 1)
            ctx.set(axi.bready, 1)
            await ctx.tick().until(axi.awready & axi.wready)
            ctx.set(axi.awvalid, 0)
            ctx.set(axi.wvalid, 0)
            (response,) = await ctx.tick().sample(axi.bresp).until(axi.bvalid)
            return response

        assert self._do(job) == OKAY, f"{name} refuses {value:#x}"

    def read(self, name: str) -> int:
        """Read a register."""
        axi = self.dut.control

        async def job(ctx):
            ctx.set(axi.araddr, CSRS[name].offset)
            ctx.set(axi.arvalid, 1)
            ctx.set(axi.rready, 1)
            await ctx.tick().until(axi.arready)
            ctx.set(axi.arvalid, 0)
            value, response = await ctx.tick().sample(axi.rdata, axi.rresp).until(axi.rvalid)
            assert response == OKAY, f"{name} cannot be read"
            return value

        return self._do(job)

    async def _host(self, ctx: Any) -> None:
        while True:
            await ctx.tick()
            if self._job is not None:
                self._result = await self._job(ctx)
                self._job = None

    def _do(self, job: Any) -> Any:
        """Let the simulation go on until the host has done a job."""
        self._job = job
        while self._job is not None:
            self._simulator.advance()
        return self._result
