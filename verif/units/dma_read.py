"""Reads of memory: three clients, their windows, one master, and a memory as slow as it likes."""

import random
from dataclasses import dataclass, field

import cocotb

from lutcore.hw.contract.csr import ADDRESS_WIDTH
from lutcore.hw.memory.axi import BOUNDARY
from lutcore.hw.memory.dma import OFFSET_BITS, REGION_BITS
from lutcore.verif.kit import env
from lutcore.verif.units.components import DmaRead
from lutcore.verif.units.memories import ReadMemory, pattern
from lutcore.verif.units.streams import UnitBench, draw_pressure

_POINT = "dma_read: requests"


@dataclass
class Client:
    """A client's region and what it asks for.

    Attributes
    ----------
    base, size
        The region.
    requests
        Byte offset and beats of each.
    refusals
        Requests that its window has refused.
    errors
        Beats with an error that the master has put down to it.
    """

    base: int
    size: int
    requests: list[tuple[int, int]] = field(default_factory=list)
    refusals: int = 0
    errors: int = 0

    def allows(self, request: tuple[int, int], beat: int) -> bool:
        """Whether a request is aligned and within the region."""
        offset, beats = request
        return offset % beat == 0 and offset + beats * beat <= self.size

    def good(self, beat: int) -> list[tuple[int, int]]:
        """The requests that are to be served."""
        return [request for request in self.requests if self.allows(request, beat)]


def draw_region(source: random.Random, beat: int) -> tuple[int, int]:
    """Base and size of a region; sizes need not be whole beats."""
    size = source.choice([beat, 4096, 16_384 + source.randrange(4096), 2**32 - 1])
    top = (1 << ADDRESS_WIDTH) - 2**32
    base = source.choice([0, 64 * source.getrandbits(20), top, 64 * source.randrange(top // 64)])
    return base, size


def draw_requests(source: random.Random, client: Client, beat: int, count: int) -> None:
    """Requests of a few beats or of several bursts; some at the end of the region or beyond it."""
    for _ in range(count):
        beats = source.choice([1, 2, source.randint(1, 12), source.randint(1, 80)])
        room = client.size // beat
        end = source.choice([room, room, room + 1, room + source.randrange(2**20)])
        first = source.choice([end - beats, source.randint(0, max(0, min(room, 2**20) - beats))])
        offset = max(0, first) * beat
        if source.random() < 0.05:
            offset |= source.choice([1, beat // 2, 1 << REGION_BITS, 1 << OFFSET_BITS - 1])
        client.requests.append((offset, beats))


class DmaReadBench(UnitBench):
    """Windows and read master between three clients and a memory."""

    def __init__(self, dut, name: str) -> None:
        self.config = env.settings().config
        component = DmaRead(self.config)
        super().__init__(dut, component, name, "dma_read")
        self.master = component.master
        self.beat = self.config.beat_bytes
        self.stream("ar", "bus__arvalid", "bus__arready", "bus__araddr")
        self.stream("r", "bus__rvalid", "bus__rready", "bus__rdata")
        self.most = 0

    def draw(self, count: int) -> None:
        """New regions, requests and manners of all parties."""
        source = self.random
        self.memory = ReadMemory(self, self.config.bus_width, self.master.burst)
        self.clients = []
        for _ in range(self.master.clients):
            client = Client(*draw_region(source, self.beat))
            draw_requests(source, client, self.beat, source.randint(0, count))
            self.clients.append(client)
            for offset, beats in client.good(self.beat):
                if source.random() < 0.15:
                    place = client.base + offset + source.randrange(beats) * self.beat
                    self.memory.bad.add(place)
        self.most = 0
        self["bases"].set([client.base for client in self.clients])
        self["sizes"].set([client.size for client in self.clients])

    def processes(self) -> list:
        """One to ask and one to take for each client."""
        clients = range(len(self.clients))
        return [self.asker(number) for number in clients] + [self.taker(n) for n in clients]

    async def stop(self) -> None:
        """Ask and take for a while, then abort, and wait until nothing is under way."""
        tasks = [self.fork(process()) for process in self.processes()]
        await self.cycles(self.random.randint(1, 120))
        for task in tasks:
            task.cancel()
        clients = range(self.master.clients)
        for number in clients:
            self[f"requests__{number}__valid"].set(0)
            # Whoever took beats may take no more; the master must not care.
            self[f"responses__{number}__ready"].set(self.random.getrandbits(1))
        self["abort"].set(1)
        await self.edge
        before, offered = len(self.memory.bursts), self["bus__arvalid"].bits()
        while not self["idle"].bits() or self["checking"].bits():
            await self.edge
            for number in clients:
                valid = self[f"responses__{number}__valid"].bits()
                env.expect(f"dma_read: beats for client {number} in an abort", valid, 0)
        # The address that was on offer had to stay.
        begun = len(self.memory.bursts) - before
        env.expect("whether bursts began in an abort", begun <= offered, True)
        env.expect("dma_read: bursts outstanding when idle", self.memory.outstanding, 0)
        self["abort"].set(0)
        for number in clients:
            self[f"responses__{number}__ready"].set(0)
        await self.edge

    async def serve(self) -> None:
        """Let all requests be served, and check everything."""
        background = [self.memory.run, self.watch]
        await self.run(self.processes(), background, limit=60_000)
        await self.run([self.quiet], background, limit=100)
        self.verdict()

    def asker(self, number: int):
        """Puts the requests of a client."""
        pressure = draw_pressure(self.random)
        stream = self.stream(f"requests {number}", *self._ports("requests", number))

        async def ask() -> None:
            for offset, beats in self.clients[number].requests:
                await stream.put({"offset": offset, "length": beats}, pressure)

        return ask

    def _ports(self, stream: str, number: int) -> tuple[str, str, str]:
        name = f"{stream}__{number}"
        return f"{name}__valid", f"{name}__ready", f"{name}__payload"

    def taker(self, number: int):
        """Takes the beats of a client and checks them."""
        pressure = draw_pressure(self.random)
        client, width = self.clients[number], self.config.bus_width
        stream = self.stream(f"responses {number}", *self._ports("responses", number))
        stream.withdrawn_by = self["abort"]

        async def take() -> None:
            for count, (offset, beats) in enumerate(client.good(self.beat)):
                for beat in range(beats):
                    got = await stream.get(pressure)
                    address = client.base + offset + beat * self.beat
                    wanted = {"data": pattern(address, width), "last": int(beat == beats - 1)}
                    for part, value in wanted.items():
                        what = f"dma_read: {part} for client {number}"
                        env.expect(what, got[part], value, index=f"request {count}, beat {beat}")

        return take

    async def watch(self) -> None:
        """Count refusals and errors; check what is outstanding."""
        while True:
            await self.edge
            refused, error = self["refused"].bits(), self["error"].bits()
            for number, client in enumerate(self.clients):
                client.refusals += refused >> number & 1
            if error:
                self.clients[self["error_client"].bits()].errors += 1
            self.most = max(self.most, self.memory.outstanding)
            limit = self.master.outstanding
            env.expect(f"whether at most {limit} reads are outstanding", self.most <= limit, True)

    async def quiet(self) -> None:
        """Wait until nothing is under way; nobody gets a beat that was not asked for."""
        for _ in range(20):
            await self.edge
            for number in range(len(self.clients)):
                valid = self[f"responses__{number}__valid"].bits()
                env.expect(f"dma_read: beats for client {number} at the end", valid, 0)
        env.expect("dma_read: idle at the end", self["idle"].bits(), 1)
        env.expect("dma_read: requests in windows at the end", self["checking"].bits(), 0)

    def verdict(self) -> None:
        """Compare the counts with the requests."""
        asked = 0
        for number, client in enumerate(self.clients):
            good = client.good(self.beat)
            refused = len(client.requests) - len(good)
            env.expect(f"dma_read: refusals of client {number}", client.refusals, refused)
            inside = range(client.base, client.base + client.size)
            # Regions may overlap: then an error can be anybody's.
            if not any((other is not client and other.base in inside) or client.base in
                       range(other.base, other.base + other.size)
                       for other in self.clients if other is not client):  # fmt: skip
                errors = sum(address in inside for address in self.memory.errors)
                env.expect(f"dma_read: errors of client {number}", client.errors, errors)
            asked += sum(beats for _, beats in good)
        errors = sum(client.errors for client in self.clients)
        env.expect("dma_read: errors", errors, len(self.memory.errors))
        beats = sum(beats for _, beats in self.memory.bursts)
        env.expect("dma_read: beats of all bursts", beats, asked)
        self._cover()

    def _cover(self) -> None:
        for client in self.clients:
            for offset, beats in client.requests:
                end = offset + beats * self.beat
                if not client.allows((offset, beats), self.beat):
                    env.cover(_POINT, "refused")
                    continue
                start = client.base + offset
                for name, hit in (
                    ("one beat", beats == 1),
                    ("several bursts", beats > self.master.burst),
                    ("across 4 KiB", start // BOUNDARY != (client.base + end - 1) // BOUNDARY),
                    ("high address", start >> ADDRESS_WIDTH - 1),
                    ("window edge", client.size - end < self.beat),
                ):
                    if hit:
                        env.cover(_POINT, name)
        if self.memory.errors:
            env.cover(_POINT, "error")


@cocotb.test()
async def random_requests(dut):
    """Every client gets the beats of its good requests, in order, and nothing else."""
    bench = DmaReadBench(dut, "random_requests")
    await bench.restart()
    for _ in range(4 * env.settings().effort):
        bench.draw(4)
        await bench.serve()


@cocotb.test()
async def reset_in_flight(dut):
    """After a reset at any time, requests get their own beats only."""
    bench = DmaReadBench(dut, "reset_in_flight")
    await bench.restart()
    for _ in range(3 * env.settings().effort):
        bench.draw(4)
        await bench.interrupt(bench.processes(), [bench.memory.run, bench.watch], within=150)
        bench.draw(2)
        await bench.serve()


@cocotb.test()
async def abort(dut):
    """What is outstanding is swallowed; no burst begins; the next request gets its own beats."""
    bench = DmaReadBench(dut, "abort")
    await bench.restart()
    for _ in range(4 * env.settings().effort):
        bench.draw(4)
        await bench.run([bench.stop], [bench.memory.run, bench.watch], limit=20_000)
        bench.draw(2)
        await bench.serve()
        env.cover(_POINT, "abort")
