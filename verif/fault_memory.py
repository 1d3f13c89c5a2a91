"""A memory behind AXI4 that goes wrong: error responses, channels that stop, beats that are late."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
from cocotb.queue import Queue
from cocotb.triggers import Event, Timer
from cocotbext.axi import AxiBus
from cocotbext.axi.axi_channels import AxiARSink, AxiAWSink, AxiBSource, AxiRSource, AxiWSink

from lutcore.hw.axi import BOUNDARY
from lutcore.verif.env import PERIOD_NS, cycle_of, expect

__all__ = ["CHANNELS", "DECERR", "OKAY", "SLVERR", "FaultMemory", "Faults"]

OKAY, SLVERR, DECERR = 0, 2, 3
#: The channels of the bus, as `Faults.stop` names them.
CHANNELS = ("AR", "R", "AW", "W", "B")


@dataclass(frozen=True)
class Faults:
    """What a memory does wrong.

    Attributes
    ----------
    read
        By address of a beat: its RRESP. Its data are noise.
    write
        By address of a beat: BRESP of the burst that it is in. The burst is not written.
    stop
        By channel: transfers after which it moves no more.
    """

    read: dict[int, int] = field(default_factory=dict)
    write: dict[int, int] = field(default_factory=dict)
    stop: dict[str, int] = field(default_factory=dict)


class FaultMemory:
    """Slave of the core's ``m_axi``, answering in order.

    Attributes
    ----------
    content
        The bytes from address 0. What lies outside answers DECERR.
    faults
        What goes wrong; to be set while nothing is under way.
    latency
        Cycles from an address to its first beat, and from a burst's last beat to its response.
    moved
        Transfers on each channel since `begin`.
    bursts
        Channel, address and number of beats of each burst since `begin`, in order.
    touched
        Addresses of all bytes that were written, whatever their value.
    """

    def __init__(self, dut: Any, beat_bytes: int, *, latency: int = 12) -> None:
        self.beat_bytes, self.latency = beat_bytes, latency
        self.content = np.zeros(0, np.uint8)
        self.faults = Faults()
        self.moved: Counter[str] = Counter()
        self.bursts: list[tuple[str, int, int]] = []
        self.touched: set[int] = set()
        self._held: set[str] = set()
        self._released = Event()
        bus = AxiBus.from_prefix(dut, "m_axi")
        reset = (dut.aclk, dut.aresetn, False)
        self._ar = AxiARSink(bus.read.ar, *reset)
        self._r = AxiRSource(bus.read.r, *reset)
        self._aw = AxiAWSink(bus.write.aw, *reset)
        self._w = AxiWSink(bus.write.w, *reset)
        self._b = AxiBSource(bus.write.b, *reset)
        for stream in (self._ar, self._r, self._aw, self._w, self._b):
            # One at a time, so that a channel stops exactly where it is told to.
            stream.queue_occupancy_limit = 1
        self._tasks: list[Any] = []
        self.restart()

    # The bench's side ------------------------------------------------------------------------

    def begin(self, faults: Faults | None = None) -> None:
        """Before a program: what is to go wrong from here on. Everything counted is forgotten."""
        self.faults = faults or Faults()
        self.moved.clear()
        self.bursts.clear()
        self.touched.clear()
        for name, sink in (("AR", self._ar), ("AW", self._aw), ("W", self._w)):
            sink.pause = self._stopped(name)
        self.release()

    def hold(self, *channels: str) -> None:
        """Send nothing more on R or B until `release`."""
        self._held.update(channels)

    def release(self) -> None:
        """End what `hold` began."""
        self._held.clear()
        self._released.set()

    def restart(self) -> None:
        """Forget all that is under way, as a memory does that is reset with the core."""
        for task in self._tasks:
            task.cancel()
        for stream in (self._ar, self._r, self._aw, self._w, self._b):
            stream.clear()
        self._reads: Queue[tuple[int, int, int]] = Queue()  # due, address, beats
        self._answers: Queue[tuple[int, int]] = Queue()  # due, response
        self.begin()
        self._tasks = [
            cocotb.start_soon(process())
            for process in (self._take_reads, self._send_beats, self._take_writes, self._answer)
        ]

    @property
    def outstanding(self) -> int:
        """Bursts that the core still waits for."""
        return self._unread + self._unanswered

    # Channels --------------------------------------------------------------------------------

    def _stopped(self, channel: str) -> bool:
        return self.moved[channel] >= self.faults.stop.get(channel, 1 << 62)

    async def _take(self, channel: str, sink: Any) -> Any:
        """The next transfer of a channel on which the memory is ready or not."""
        if sink.empty():
            await sink.wait()
        self.moved[channel] += 1
        # Before the transfer leaves the queue, which would make the sink ready again.
        if self._stopped(channel):
            sink.pause = True
        return sink.recv_nowait()

    async def _send(self, channel: str, source: Any, transfer: Any) -> None:
        while channel in self._held or self._stopped(channel):
            self._released.clear()
            await self._released.wait()
        self.moved[channel] += 1
        await source.send(transfer)

    async def _wait_until(self, due: int) -> None:
        if (cycles := due - cycle_of()) > 0:
            await Timer(cycles * PERIOD_NS, "ns")

    def _burst(self, channel: str, address: int, beats: int) -> None:
        size = beats * self.beat_bytes
        self.bursts.append((channel, address, beats))
        expect(f"{channel}: offset in a beat", address % self.beat_bytes, 0)
        expect(f"{channel}: 4 KiB block of the end", (address + size - 1) // BOUNDARY,
               address // BOUNDARY)  # fmt: skip

    # Reads -----------------------------------------------------------------------------------

    async def _take_reads(self) -> None:
        self._unread = 0
        while True:
            burst = await self._take("AR", self._ar)
            address, beats = int(burst.araddr), int(burst.arlen) + 1
            self._burst("AR", address, beats)
            self._unread += 1
            self._reads.put_nowait((cycle_of() + self.latency, address, beats))

    async def _send_beats(self) -> None:
        while True:
            due, address, beats = await self._reads.get()
            await self._wait_until(due)
            for number in range(beats):
                transfer = self._r._transaction_obj()
                transfer.rdata, transfer.rresp = self._read(address + number * self.beat_bytes)
                transfer.rlast = int(number == beats - 1)
                await self._send("R", self._r, transfer)
            self._unread -= 1

    def _read(self, address: int) -> tuple[int, int]:
        beat = self.content[address : address + self.beat_bytes].tobytes()
        response = self.faults.read.get(address, OKAY)
        if len(beat) < self.beat_bytes:
            response = DECERR
        value = int.from_bytes(beat, "little")
        if response != OKAY:
            value = ~value & (1 << 8 * self.beat_bytes) - 1
        return value, response

    # Writes ----------------------------------------------------------------------------------

    async def _take_writes(self) -> None:
        self._unanswered = 0
        while True:
            burst = await self._take("AW", self._aw)
            address, beats = int(burst.awaddr), int(burst.awlen) + 1
            self._burst("AW", address, beats)
            self._unanswered += 1
            places = range(address, address + beats * self.beat_bytes, self.beat_bytes)
            responses = [self.faults.write[place] for place in places if place in self.faults.write]
            if places.stop > len(self.content):
                responses.append(DECERR)
            for place in places:
                beat = await self._take("W", self._w)
                expect(f"WLAST at {place:#x}", int(beat.wlast), int(place == places[-1]))
                self._write(place, int(beat.wdata), int(beat.wstrb), bool(responses))
            response = max(responses, default=OKAY)
            self._answers.put_nowait((cycle_of() + self.latency, response))

    def _write(self, address: int, word: int, strobe: int, refused: bool) -> None:
        for byte in range(self.beat_bytes):
            if strobe >> byte & 1:
                self.touched.add(address + byte)
                if not refused:
                    self.content[address + byte] = word >> 8 * byte & 0xFF

    async def _answer(self) -> None:
        while True:
            due, response = await self._answers.get()
            await self._wait_until(due)
            transfer = self._b._transaction_obj()
            transfer.bresp = response
            await self._send("B", self._b, transfer)
            self._unanswered -= 1
