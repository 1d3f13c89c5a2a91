"""Writes to memory: one client, its window, one master, and a memory as slow as it likes."""

import random

import cocotb

from lutcore.hw.contract.csr import ADDRESS_WIDTH
from lutcore.hw.memory.axi import BOUNDARY
from lutcore.hw.memory.dma import OFFSET_BITS, REGION_BITS
from lutcore.verif.kit import env
from lutcore.verif.units.components import DmaWrite
from lutcore.verif.units.memories import WriteMemory
from lutcore.verif.units.streams import UnitBench, draw_pressure

_POINT = "dma_write: requests"


def draw_requests(source: random.Random, size: int, beat: int, count: int) -> list:
    """Byte offset and bytes, multiples of 4; some at the end of the region or beyond it."""
    requests = []
    for _ in range(count):
        most = source.choice([1, beat, 70 * beat // 4])
        length = 4 * source.randint(1, most)
        end = source.choice([size, size, size + 1, size + source.randrange(2**20)])
        offset = source.choice([end - length, source.randint(0, max(0, min(size, 2**20) - length))])
        offset = max(0, offset) & ~3
        if source.random() < 0.05:
            offset |= 1 << source.randrange(REGION_BITS, OFFSET_BITS)
        requests.append((offset, length))
    return requests


class DmaWriteBench(UnitBench):
    """Window and write master between a client and a memory.

    Attributes
    ----------
    base, size
        The region.
    requests
        Byte offset and bytes of each.
    wanted
        What memory has to hold in the end, by address.
    offered
        All that was written to an address, in case only a part of it reaches memory.
    """

    def __init__(self, dut, name: str) -> None:
        self.config = env.settings().config
        component = DmaWrite(self.config)
        super().__init__(dut, component, name, "dma_write")
        self.master = component.master
        self.beat = self.config.beat_bytes
        fields = ("addr", "len", "size", "burst")
        for field in fields:
            self.stream(f"aw {field}", "bus__awvalid", "bus__awready", f"bus__aw{field}")
        for field in ("data", "strb", "last"):
            self.stream(f"w {field}", "bus__wvalid", "bus__wready", f"bus__w{field}")
        self.stream("b", "bus__bvalid", "bus__bready", "bus__bresp")

    def draw(self, count: int) -> None:
        """A new region, requests and manners of both sides."""
        source = self.random
        self.memory = WriteMemory(self, self.config.bus_width, self.master.burst)
        self.size = source.choice([1, 100, 4096, 16_384 + source.randrange(4096), 2**32 - 1])
        top = (1 << ADDRESS_WIDTH) - 2**32
        pages = source.randrange(top // 64)
        self.base = source.choice([0, 64 * source.getrandbits(20), top, 64 * pages])
        self.requests = draw_requests(source, self.size, self.beat, source.randint(0, count))
        self.refusals = self.errors = self.transferred = 0
        self.wanted: dict[int, int] = {}
        self.offered: dict[int, set[int]] = {}
        self["base"].set(self.base)
        self["size"].set(self.size)
        for offset, _ in self.good:
            if source.random() < 0.15:
                self.memory.bad.add((self.base + offset) // self.beat * self.beat)

    @property
    def good(self) -> list[tuple[int, int]]:
        """The requests that are within the region."""
        return [request for request in self.requests if sum(request) <= self.size]

    def beats_of(self, request: tuple[int, int]) -> list[int]:
        """Addresses of the beats that hold the bytes of a request."""
        offset, length = request
        first, last = offset // self.beat, (offset + length - 1) // self.beat
        return [self.base + number * self.beat for number in range(first, last + 1)]

    async def ask(self) -> None:
        """Put the requests."""
        pressure = draw_pressure(self.random)
        for offset, length in self.requests:
            payload = {"offset": offset, "length": length // 4}
            await self.stream("request").put(payload, pressure)

    async def give(self) -> None:
        """Put the data, with strobes on the bytes of the request and holes among them."""
        source, pressure = self.random, draw_pressure(self.random)
        for request in self.good:
            start = self.base + request[0]
            inside = range(start, start + request[1])
            for address in self.beats_of(request):
                value = source.getrandbits(8 * self.beat)
                strobe = sum((address + lane in inside) << lane for lane in range(self.beat))
                strobe &= source.choice([-1, -1, source.getrandbits(self.beat)])
                # Before it is taken: what is in the stream may be in memory already.
                for lane in range(self.beat):
                    if strobe >> lane & 1:
                        byte = value >> 8 * lane & 0xFF
                        self.wanted[address + lane] = byte
                        self.offered.setdefault(address + lane, set()).add(byte)
                await self.stream("beats").put({"data": value, "strobe": strobe}, pressure)
                self.transferred += 1

    async def settle(self) -> None:
        """Wait until everything that was asked for is answered."""
        while True:
            await self.edge
            beats = sum(len(self.beats_of(request)) for request in self.good)
            if self.memory.beats >= beats and self["idle"].bits() and not self["checking"].bits():
                break
        await self.cycles(5)
        env.expect("dma_write: idle at the end", self["idle"].bits(), 1)

    async def watch(self) -> None:
        """Count refusals and errors; check what is outstanding."""
        while True:
            await self.edge
            self.refusals += self["refused"].bits()
            self.errors += self["error"].bits()
            limit = self.master.outstanding
            open_bursts = len(self.memory.bursts) - self.memory.answered
            env.expect(f"whether at most {limit} writes are open", open_bursts <= limit, True)
            if open_bursts:
                env.expect("dma_write: idle with a burst under way", self["idle"].bits(), 0)

    def verdict(self) -> None:
        """Compare memory and counts with the requests."""
        refused = len(self.requests) - len(self.good)
        env.expect("dma_write: refusals", self.refusals, refused)
        env.expect("dma_write: errors", self.errors, self.memory.errors)
        self.check_memory()
        beats = sum(len(self.beats_of(request)) for request in self.good)
        env.expect("dma_write: beats", self.memory.beats, beats)
        self._cover()

    def check_memory(self) -> None:
        """Memory holds what was written, and nothing else."""
        stored = self.memory.stored
        for address in sorted(self.wanted.keys() | stored.keys()):
            got, wanted = stored.get(address), self.wanted.get(address)
            if got != wanted:
                env.expect("dma_write: byte in memory", got, wanted, index=f"{address:#x}")

    def _cover(self) -> None:
        for request in self.requests:
            offset, length = request
            if sum(request) > self.size:
                env.cover(_POINT, "refused")
                continue
            start, end = self.base + offset, self.base + offset + length
            for name, hit in (
                ("one beat", len(self.beats_of(request)) == 1),
                ("several bursts", len(self.beats_of(request)) > self.master.burst),
                ("across 4 KiB", start // BOUNDARY != (end - 1) // BOUNDARY),
                ("high address", start >> ADDRESS_WIDTH - 1),
                ("window edge", offset + length == self.size),
                ("ragged ends", start % self.beat and end % self.beat),
            ):
                if hit:
                    env.cover(_POINT, name)
        if self.errors:
            env.cover(_POINT, "error")

    async def stop(self) -> None:
        """Ask and give for a while, then abort, and wait until nothing is under way."""
        tasks = [self.fork(process()) for process in (self.ask, self.give)]
        await self.cycles(self.random.randint(1, 120))
        for task in tasks:
            task.cancel()
        for stream in ("request", "beats"):
            self[f"{stream}__valid"].set(0)
        self["abort"].set(1)
        await self.cycles(2)
        while not self["idle"].bits() or self["checking"].bits():
            await self.edge
        await self.cycles(2)

    async def serve(self) -> None:
        """Let all requests be served, and check everything."""
        processes = [self.ask, self.give, self.settle]
        await self.run(processes, [self.memory.run, self.watch], limit=60_000)
        self.verdict()


@cocotb.test()
async def random_requests(dut):
    """Memory holds what the good requests wrote, and nothing else."""
    bench = DmaWriteBench(dut, "random_requests")
    await bench.restart()
    for _ in range(5 * env.settings().effort):
        bench.draw(6)
        await bench.serve()


@cocotb.test()
async def reset_in_flight(dut):
    """After a reset at any time, the next requests write what they should."""
    bench = DmaWriteBench(dut, "reset_in_flight")
    await bench.restart()
    for _ in range(3 * env.settings().effort):
        bench.draw(6)
        processes = [bench.ask, bench.give]
        await bench.interrupt(processes, [bench.memory.run, bench.watch], within=150)
        bench.draw(3)
        await bench.serve()


@cocotb.test()
async def abort(dut):
    """The data stop for good: bursts are completed with beats that write nothing."""
    bench = DmaWriteBench(dut, "abort")
    await bench.restart()
    for _ in range(4 * env.settings().effort):
        bench.draw(6)
        await bench.run([bench.stop], [bench.memory.run, bench.watch], limit=20_000)
        written = sum(beats for _, beats in bench.memory.bursts)
        env.expect("dma_write: beats of all bursts", bench.memory.beats, written)
        for address, value in bench.memory.stored.items():
            known = value in bench.offered.get(address, ())
            env.expect("whether a byte in memory was written", known, True, index=f"{address:#x}")
        env.cover(_POINT, "abort")
        bench["abort"].set(0)
        bench.draw(3)
        await bench.serve()
