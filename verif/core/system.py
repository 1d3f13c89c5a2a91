"""The whole core in a cocotb simulation, with memory on its bus and a host at its registers."""

import logging
import random
from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, First, RisingEdge, Timer
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiResp

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import CSRS, Control, Region
from lutcore.hw.contract.isa import words_to_bytes
from lutcore.sim.devices.registers import RESET, START, CoreState, Setup
from lutcore.sw.program.memory import MemoryMap, contents
from lutcore.sw.program.program import Program
from lutcore.verif.core.axi_monitor import AxiMonitor
from lutcore.verif.core.memory import BenchMemory, ReadPort, WritePort
from lutcore.verif.kit import env
from lutcore.verif.kit.stalls import Stalls

__all__ = ["CoreBench", "random_layout"]

#: Bytes around every region that must never be touched.
GUARD = 256


def random_layout(program: Program, source: random.Random) -> MemoryMap:
    """The regions of a program in any order, with gaps, anywhere in 40 bits of address."""
    sizes = {region: size for region, (_, size) in MemoryMap.for_program(program).regions.items()}
    start = address = 64 * source.choice(
        [GUARD // 64, source.getrandbits(20), source.getrandbits(34) | 1 << 30]
    )
    regions: dict[Region, tuple[int, int]] = {}
    for region in source.sample(list(Region), len(Region)):
        address += GUARD + 64 * source.choice([0, 1, source.randint(0, 80)])
        regions[region] = (address, sizes[region])
        address += sizes[region]
    return MemoryMap(regions, address + GUARD - start)


class CoreBench:
    """A core, its memory and its host.

    Parameters
    ----------
    dut
        The module around the core.
    config
        Its configuration.
    name
        Of the test: seeds the random numbers.
    read_port, write_port
        Classes of the bus models on m_axi, with the arguments of `ReadPort`.
    monitor
        Whether to check the rules of the bus in every cycle.

    Attributes
    ----------
    memory
        Replaced by every :meth:`place`.
    layout, program
        What was placed last.
    random, numbers
        Random numbers of the test, as Python's and as NumPy's.
    """

    def __init__(
        self,
        dut: Any,
        config: CoreConfig,
        name: str,
        *,
        read_port: type[ReadPort] = ReadPort,
        write_port: type[WritePort] = WritePort,
        monitor: bool = True,
    ) -> None:
        self.dut, self.config = dut, config
        self.random, self.numbers = env.rng(name), env.np_rng(name)
        self.memory = BenchMemory(0, 0)
        self.layout = MemoryMap({}, 0)
        # The models report every burst.
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.ERROR)
        env.start_clock(dut)
        bus = AxiBus.from_prefix(dut, "m_axi")
        self._stall_source = env.rng(f"{name}/stalls")
        # The ports ask the bench, so that a memory can be replaced between two programs.
        ports = (dut.aclk, dut.aresetn, self, self._stall_source)
        self.read_port, self.write_port = read_port(bus.read, *ports), write_port(bus.write, *ports)
        # Of what it answers, the library says no more than `object`.
        self.host: Any = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axi"), dut.aclk, dut.aresetn, reset_active_level=False
        )
        self.monitor = AxiMonitor(dut, config) if monitor else None

    # Memory ----------------------------------------------------------------------------------

    async def read(self, address: int, length: int) -> bytes:
        """A beat for the bus model."""
        return await self.memory.read(address, length)

    async def write(self, address: int, data: bytes) -> None:
        """Bytes from the bus model."""
        await self.memory.write(address, data)

    def place(
        self,
        program: Program,
        q: np.ndarray,
        row_scale: np.ndarray,
        layout: MemoryMap | None = None,
    ) -> None:
        """Put a program and its activations into a memory that is otherwise full of noise."""
        self.layout = layout or random_layout(program, self.random)
        first = min(base for base, _ in self.layout.regions.values()) - GUARD
        last = max(base + size for base, size in self.layout.regions.values()) + GUARD
        self.memory = BenchMemory(first, last - first)
        self.memory.fill(self.numbers)
        self.program = program
        for region, content in contents(program, program.pack_x(q, row_scale)).items():
            self.memory.put(self.base(region), content)

    def base(self, region: Region) -> int:
        """Address of a region."""
        return self.layout.regions[region][0]

    def place_instructions(self, words: Sequence[int]) -> None:
        """Replace the instructions, by not more of them than fit the region."""
        content = words_to_bytes(words)
        if len(content) > self.layout.regions[Region.PROGRAM][1]:
            raise ValueError("the program does not fit its region")
        self.memory.put(self.base(Region.PROGRAM), content)

    def check_written(self, *, size: int | None = None, complete: bool = False) -> None:
        """Nothing but results has been written over the bus.

        Parameters
        ----------
        size
            Bytes of the result region that were open; default: all.
        complete
            Require that all results have been written.
        """
        allowed = np.zeros(len(self.memory.content), bool)
        base, program = self.base(Region.RESULTS), self.program
        for row in range(program.rows):
            start = base - self.memory.base + row * program.row_stride
            allowed[start : start + 4 * program.n] = True
        wanted = allowed.copy()
        if size is not None:
            allowed[base - self.memory.base + size :] = False
        for what, wrong in (
            ("written outside of the results", self.memory.touched & ~allowed),
            ("not written", wanted & ~self.memory.touched & complete),
        ):
            if wrong.any():
                first = int(np.argmax(wrong))
                raise env.Mismatch(
                    f"cycle {env.cycle_of()}: {int(wrong.sum())} bytes {what}, the first at "
                    f"{self.memory.base + first:#x} (results begin at {base:#x})"
                )

    def check_results(self, expected: np.ndarray) -> None:
        """All results are there, equal to the golden model's, and nothing else was written."""
        program = self.program
        data = self.memory.get(self.base(Region.RESULTS), program.y_bytes)
        env.expect("y[row, channel]", program.unpack_y(data), expected)
        self.check_written(complete=True)

    # Host ------------------------------------------------------------------------------------

    async def write_register(
        self, name: str, value: int, expected: int | None = AxiResp.OKAY
    ) -> AxiResp:
        """Write a register, and check the response unless `expected` is None."""
        response = await self.host.write(CSRS[name].offset, value.to_bytes(4, "little"))
        if expected is not None:
            env.expect(f"response to a write of {value:#x} to {name}", response.resp, expected)
        return response.resp

    async def read_register(self, name: str) -> int:
        """Read a register, which has to answer OKAY."""
        response = await self.host.read(CSRS[name].offset, 4)
        env.expect(f"response to a read of {name}", response.resp, AxiResp.OKAY)
        return int.from_bytes(response.data, "little")

    async def read_wide(self, name: str) -> int:
        """Read a pair of registers."""
        low = cocotb.start_soon(self.read_register(f"{name}_LO"))
        high = cocotb.start_soon(self.read_register(f"{name}_HI"))
        return await low | await high << 32

    async def start(self, *, interrupt: bool = True, **settings: Any) -> None:
        """Set the registers and start; for the settings see `Setup.of`."""
        setup = Setup.of(self.program, self.layout, **settings)
        # All at once: the host's queues keep their order, and the registers see no gap.
        writes = [
            cocotb.start_soon(self.write_register(name, value))
            for name, value in setup.registers().items()
        ]
        for write in writes:
            await write
        await self.write_register("CONTROL", START if interrupt else 1 << Control.START)

    async def wait(self, limit: int = 200_000) -> CoreState:
        """Wait for the interrupt; acknowledge it, and read what the registers say."""
        if not int(self.dut.irq.value):
            timeout = Timer(limit * env.PERIOD_NS, unit="ns")
            if await First(RisingEdge(self.dut.irq), timeout) is timeout:
                state = await self.state()
                raise env.Mismatch(
                    f"cycle {env.cycle_of()}: no interrupt within {limit} cycles; {state}"
                )
        await self.write_register("IRQ", 1)
        return await self.state()

    async def run(self, **settings: Any) -> CoreState:
        """Start and wait."""
        await self.start(**settings)
        return await self.wait()

    async def run_good(self, expected: np.ndarray) -> CoreState:
        """Run what was placed, and check that it ends well with the right results."""
        before = None if self.monitor is None else (self.monitor.reads, self.monitor.writes)
        state = await self.run()
        self.check_good(state)
        self.check_results(expected)
        if before is not None and self.monitor is not None:
            for name, count, seen in (
                ("READ_BEATS", before[0], self.monitor.reads),
                ("WRITE_BEATS", before[1], self.monitor.writes),
            ):
                env.expect(name, await self.read_wide(name), seen - count)
        return state

    def check_good(self, state: CoreState) -> None:
        """The program has ended, and nothing is under way on the bus."""
        if not state.good:
            raise env.Mismatch(f"cycle {env.cycle_of()}: the program did not end well: {state}")
        self.check_quiet()

    def check_quiet(self) -> None:
        """Nothing is outstanding on the bus."""
        if self.monitor is not None:
            env.expect("reads outstanding", self.monitor.outstanding_reads, 0)
            env.expect("writes outstanding", self.monitor.outstanding_writes, 0)

    async def state(self) -> CoreState:
        """STATUS and CYCLES."""
        state = CoreState(await self.read_register("STATUS"), await self.read_wide("CYCLES"))
        env.cover("cause", state.cause.name)
        return state

    # Conditions ------------------------------------------------------------------------------

    async def reset(self, cycles: int = 4) -> None:
        """``aresetn``: the bus and its models forget what was under way."""
        await env.reset(self.dut, cycles)

    async def soft_reset(self) -> None:
        """Ask for a reset by CONTROL; the core drains first, see :meth:`wait`."""
        await self.write_register("CONTROL", RESET)

    async def ticks(self, cycles: int) -> None:
        """Let cycles pass."""
        await ClockCycles(self.dut.aclk, cycles)

    def behave(self, stalls: Stalls) -> None:
        """How the memory and the host behave from now on."""
        source = self._stall_source
        self.read_port.behave(stalls, source)
        self.write_port.behave(stalls, source)
        write, read = self.host.write_if, self.host.read_if
        for name, channel in (
            ("s_aw", write.aw_channel),
            ("s_w", write.w_channel),
            ("s_b", write.b_channel),
            ("s_ar", read.ar_channel),
            ("s_r", read.r_channel),
        ):
            stalls.apply(name, channel, source)
