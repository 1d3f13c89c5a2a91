"""The memory behind the core's AXI4 master, and how it answers."""

import random
from typing import Any

import numpy as np
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiSlaveRead, AxiSlaveWrite

from lutcore.verif.kit.stalls import Stalls

__all__ = ["BenchMemory", "ReadPort", "WritePort"]


class BenchMemory:
    """Bytes at an address; what lies outside is answered with SLVERR.

    Attributes
    ----------
    base
        Address of the first byte.
    content
        uint8.
    touched
        bool, which bytes have been written over the bus, be it with what they already were.
    """

    def __init__(self, base: int, size: int) -> None:
        self.base = base
        self.content = np.zeros(size, np.uint8)
        self.touched = np.zeros(size, bool)

    def fill(self, source: np.random.Generator) -> None:
        """Noise everywhere, so that whatever is read by mistake is wrong."""
        self.content[:] = source.integers(0, 256, len(self.content), dtype=np.uint8)
        self.touched[:] = False

    def put(self, address: int, data: bytes) -> None:
        """Place bytes, not over the bus."""
        span = self._span(address, len(data))
        self.content[span] = np.frombuffer(data, np.uint8)

    def get(self, address: int, length: int) -> np.ndarray:
        """A copy of some bytes."""
        return self.content[self._span(address, length)].copy()

    def _span(self, address: int, length: int) -> slice:
        start = address - self.base
        if start < 0 or start + length > len(self.content):
            raise IndexError(f"{length} bytes at {address:#x} are outside of the memory")
        return slice(start, start + length)

    async def read(self, address: int, length: int) -> bytes:
        """A beat, as `AxiSlaveRead` asks for it."""
        return self.content[self._span(address, length)].tobytes()

    async def write(self, address: int, data: bytes) -> None:
        """The bytes of a beat whose strobe is set, as `AxiSlaveWrite` gives them."""
        span = self._span(address, len(data))
        self.content[span] = np.frombuffer(data, np.uint8)
        self.touched[span] = True


class _Late:
    """Delays what a queue of a bus model passes on."""

    def __init__(self, clock: Any, source: random.Random) -> None:
        self.clock, self.random = clock, source
        self.latency: tuple[int, int] = (0, 0)

    async def __call__(self) -> None:
        cycles = self.random.randint(*self.latency)
        if cycles:
            await ClockCycles(self.clock, cycles)


class ReadPort(AxiSlaveRead):
    """Channels AR and R: bursts in order, each after a random latency."""

    def __init__(self, bus: Any, clock: Any, reset: Any, target: Any, source: random.Random):
        super().__init__(bus, clock, reset, target, reset_active_level=False)
        self._wait, receive = _Late(clock, source), self.ar_channel.recv

        async def receive_late() -> Any:
            item = await receive()
            await self._wait()
            return item

        self.ar_channel.recv = receive_late

    def behave(self, stalls: Stalls, source: random.Random) -> None:
        """Draw latencies and stalls from `stalls` from now on."""
        self._wait.latency = stalls.latency
        self.ar_channel.queue_occupancy_limit = stalls.depth
        stalls.apply("m_ar", self.ar_channel, source)
        stalls.apply("m_r", self.r_channel, source)


class WritePort(AxiSlaveWrite):
    """Channels AW, W and B: bursts in order, each answered after a random latency.

    Data may be taken before its address.
    """

    def __init__(self, bus: Any, clock: Any, reset: Any, target: Any, source: random.Random):
        super().__init__(bus, clock, reset, target, reset_active_level=False)
        self._wait, send = _Late(clock, source), self.b_channel.send

        async def send_late(item: Any) -> None:
            await self._wait()
            await send(item)

        self.b_channel.send = send_late

    def behave(self, stalls: Stalls, source: random.Random) -> None:
        """Draw latencies and stalls from `stalls` from now on."""
        self._wait.latency = stalls.latency
        self.aw_channel.queue_occupancy_limit = stalls.depth
        self.w_channel.queue_occupancy_limit = 4 * stalls.depth
        stalls.apply("m_aw", self.aw_channel, source)
        stalls.apply("m_w", self.w_channel, source)
        stalls.apply("m_b", self.b_channel, source)
