"""Windows and bus masters against a memory that checks the AXI4 rules."""

import random
from collections import deque

import pytest
from amaranth.hdl import Signal
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.memory.dma import LONGEST, ReadMaster, Window, WriteMaster

SLVERR = 2
OKAY = 0


def pattern(address: int, width: int) -> int:
    """Contents of memory: different for every beat, and in every 32-bit word of it."""
    return sum(((address + 4 * i) * 2654435761 & 0xFFFFFFFF) << 32 * i for i in range(width // 32))


def address_fields(bus, prefix: str) -> list[Signal]:
    names = ("addr", "len", "size", "burst", "prot", "cache")
    return [getattr(bus, prefix + name) for name in names]


def check_burst(fields: tuple[int, ...], width: int, limit: int) -> None:
    address, length, size, burst, _, _ = fields
    total = (length + 1) * width // 8
    assert burst == 1
    assert 8 << size == width
    assert address % (width // 8) == 0
    assert length + 1 <= limit
    assert address // 4096 == (address + total - 1) // 4096, "burst straddles 4 KiB"


class Memory:
    """Slave of the read channels, and watcher of their rules.

    Answers in order, not before ``latency`` cycles after the address; ``pace`` gives the chances
    of ARREADY and RVALID, ``bad`` the addresses that give SLVERR.
    """

    def __init__(self, dut: ReadMaster, seed: int, latency: int = 0, pace=(1.0, 1.0), bad=()):
        self.dut, self.latency, self.pace, self.bad = dut, latency, pace, set(bad)
        self.random = random.Random(seed)
        self.bursts: list[tuple[int, int]] = []
        self.deepest = 0
        self.beats = 0
        self.silent = False

    async def run(self, ctx):
        dut, bus = self.dut, self.dut.bus
        queue: deque[tuple[int, int, bool]] = deque()  # earliest cycle, address, last
        offered = None
        sending = False
        cycle = 0
        while True:
            ready = self.random.random() < self.pace[0]
            ctx.set(bus.arready, ready)
            if not sending and queue and not self.silent and queue[0][0] <= cycle:
                sending = self.random.random() < self.pace[1]
            ctx.set(bus.rvalid, sending)
            if sending:
                _, address, last = queue[0]
                ctx.set(bus.rdata, pattern(address, dut.bus_width))
                ctx.set(bus.rlast, last)
                ctx.set(bus.rresp, SLVERR if address in self.bad else OKAY)
            _, _, valid, taken, *fields = await ctx.tick().sample(
                bus.arvalid, bus.rready, *address_fields(bus, "ar")
            )
            if offered is not None:
                assert valid and fields == offered, "AR changed before ARREADY"
            offered = fields if valid and not ready else None
            if valid and ready:
                check_burst(fields, dut.bus_width, dut.burst)
                address, length = fields[:2]
                self.bursts.append((address, length + 1))
                for beat in range(length + 1):
                    place = address + beat * dut.bus_width // 8
                    queue.append((cycle + 1 + self.latency, place, beat == length))
                self.deepest = max(self.deepest, sum(last for *_, last in queue))
            if sending and taken:
                queue.popleft()
                sending = False
                self.beats += 1
            cycle += 1


def simulate(dut, *testbenches, background=()):
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    for process in background:
        simulator.add_testbench(getattr(process, "run", process), background=True)
    simulator.run()


async def put(ctx, stream, payload, limit=3000):
    ctx.set(stream.payload, payload)
    ctx.set(stream.valid, 1)
    for _ in range(limit):
        _, _, ready = await ctx.tick().sample(stream.ready)
        if ready:
            break
    else:
        raise AssertionError("the stream takes nothing")
    ctx.set(stream.valid, 0)


async def get(ctx, stream, limit=3000):
    ctx.set(stream.ready, 1)
    for _ in range(limit):
        _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
        if valid:
            break
    else:
        raise AssertionError("the stream gives nothing")
    ctx.set(stream.ready, 0)
    return payload


def requester(dut: ReadMaster, client: int, requests):
    async def testbench(ctx):
        for address, beats in requests:
            await put(ctx, dut.commands[client], {"address": address, "beats": beats})

    return testbench


def reader(dut: ReadMaster, client: int, requests, seed: int, pace: float = 1.0):
    """Takes the beats of the requests and checks them."""

    async def testbench(ctx):
        chance = random.Random(seed)
        for address, beats in requests:
            for beat in range(beats):
                while chance.random() > pace:
                    await ctx.tick()
                payload = await get(ctx, dut.responses[client])
                wanted = pattern(address + beat * dut.bus_width // 8, dut.bus_width)
                assert payload.data == wanted, (client, address, beat)
                assert payload.last == (beat == beats - 1)
        for _ in range(5):
            assert not ctx.get(dut.responses[client].valid)
            await ctx.tick()

    return testbench


@settings(max_examples=25, deadline=None, print_blob=True)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_read_any_requests(data, seed):
    width = data.draw(st.sampled_from([32, 128, 512]))
    clients = data.draw(st.integers(1, 3))
    burst = data.draw(st.sampled_from([2, 16, 256]))
    outstanding = data.draw(st.integers(1, 8))
    pages = st.integers(0, 300) | st.integers(2**40 * 8 // width - 200, 2**40 * 8 // width - 151)
    request = st.tuples(pages.map(lambda page: page * width // 8), st.integers(1, 150))
    requests = [data.draw(st.lists(request, max_size=3)) for _ in range(clients)]
    paces = data.draw(st.tuples(*[st.sampled_from([0.3, 1.0])] * 3))
    dut = ReadMaster(width, clients, outstanding=outstanding, burst=burst)
    memory = Memory(dut, seed, latency=data.draw(st.integers(0, 20)), pace=paces[:2])
    simulate(
        dut,
        *(requester(dut, n, requests[n]) for n in range(clients)),
        *(reader(dut, n, requests[n], seed + n, paces[2]) for n in range(clients)),
        background=[memory],
    )
    assert memory.deepest <= outstanding
    assert memory.beats == sum(beats for client in requests for _, beats in client)


@pytest.mark.parametrize("beats", [1, 3, 32, 200])
def test_read_saturates_the_bus(beats):
    """Many requests of two clients, latency 40: no beat is lost once the first has come."""
    dut = ReadMaster(64, 2, outstanding=64 if beats < 32 else 8)
    count = 400 // beats
    requests = [[(4096 * (100 * n + i), beats) for i in range(count)] for n in range(2)]
    first = last = cycle = 0

    async def watch(ctx):
        nonlocal first, last, cycle
        while True:
            _, _, beat = await ctx.tick().sample(dut.beat)
            if beat:
                first, last = first or cycle, cycle
            cycle += 1

    memory = Memory(dut, 0, latency=40)
    simulate(
        dut,
        *(requester(dut, n, requests[n]) for n in range(2)),
        *(reader(dut, n, requests[n], n) for n in range(2)),
        background=[memory, watch],
    )
    assert last - first + 1 == 2 * count * beats
    assert first <= 45


def test_read_clients_take_turns():
    dut = ReadMaster(32, 3, burst=16)
    requests = [[(0x10000 * (n + 1), 64)] for n in range(3)]
    memory = Memory(dut, 0)
    simulate(
        dut,
        *(requester(dut, n, requests[n]) for n in range(3)),
        *(reader(dut, n, requests[n], n) for n in range(3)),
        background=[memory],
    )
    owners = [address >> 16 for address, _ in memory.bursts]
    assert sorted(owners) == [1] * 4 + [2] * 4 + [3] * 4
    assert all(set(owners[i : i + 3]) == {1, 2, 3} for i in range(10))


def test_read_bursts_end_at_aligned_addresses():
    dut = ReadMaster(128, 1, burst=64)
    memory = Memory(dut, 0)
    requests = [(0x1FF0 - 0x20, 100)]
    simulate(dut, requester(dut, 0, requests), reader(dut, 0, requests, 0), background=[memory])
    assert memory.bursts == [(0x1FD0, 3), (0x2000, 64), (0x2400, 33)]


def test_read_error_names_the_client():
    dut = ReadMaster(32, 2)
    requests = [[(0x1000, 8)], [(0x2000, 8)]]
    errors = []

    async def watch(ctx):
        while True:
            _, _, error, client = await ctx.tick().sample(dut.error, dut.error_client)
            if error:
                errors.append(client)

    simulate(
        dut,
        *(requester(dut, n, requests[n]) for n in range(2)),
        *(reader(dut, n, requests[n], n) for n in range(2)),
        background=[Memory(dut, 0, bad=[0x2004, 0x2010]), watch],
    )
    assert errors == [1, 1]


@pytest.mark.parametrize("delay", range(0, 60, 7))
def test_read_abort_swallows_what_is_outstanding(delay):
    """A new request after the abort gets its own beats only."""
    dut = ReadMaster(32, 2, burst=4)
    memory = Memory(dut, delay, latency=20, pace=(0.5, 0.7))

    async def testbench(ctx):
        ctx.set(dut.commands[0].valid, 1)
        ctx.set(dut.commands[0].payload, {"address": 0x8000, "beats": 1000})
        await ctx.tick()
        ctx.set(dut.commands[0].valid, 0)
        for _ in range(delay):
            await ctx.tick()
        ctx.set(dut.abort, 1)
        quiet = not ctx.get(dut.bus.arvalid)
        await ctx.tick()
        for _ in range(400):
            assert not ctx.get(dut.responses[0].valid)
            if ctx.get(dut.idle):
                break
            offering = ctx.get(dut.bus.arvalid)
            assert not (quiet and offering), "a burst after the abort"
            quiet = not offering
            await ctx.tick()
        else:
            raise AssertionError("does not drain")
        await ctx.tick()
        assert memory.beats == sum(beats for _, beats in memory.bursts)
        ctx.set(dut.abort, 0)
        await put(ctx, dut.commands[1], {"address": 0x40, "beats": 2})
        for beat in range(2):
            payload = await get(ctx, dut.responses[1])
            assert payload.data == pattern(0x40 + 4 * beat, 32)
        assert ctx.get(dut.idle)

    simulate(dut, testbench, background=[memory])


def test_read_is_not_idle_while_the_bus_owes_beats():
    dut = ReadMaster(32, 1)
    memory = Memory(dut, 0)
    memory.silent = True

    async def testbench(ctx):
        assert ctx.get(dut.idle)
        await put(ctx, dut.commands[0], {"address": 0, "beats": 1})
        ctx.set(dut.abort, 1)
        for _ in range(5):
            await ctx.tick()
        ctx.set(dut.abort, 0)
        await put(ctx, dut.commands[0], {"address": 0, "beats": 1})
        await ctx.tick().repeat(3)
        ctx.set(dut.abort, 1)
        for _ in range(50):
            await ctx.tick()
            assert not ctx.get(dut.idle)
        memory.silent = False
        await ctx.tick().repeat(4)
        assert ctx.get(dut.idle)

    simulate(dut, testbench, background=[memory])


# Writing ---------------------------------------------------------------------------------------


class Sink:
    """Slave of the write channels, and watcher of their rules; ``stored`` is byte → value."""

    def __init__(self, dut: WriteMaster, seed: int, latency: int = 0, pace=(1.0, 1.0), bad=()):
        self.dut, self.latency, self.pace, self.bad = dut, latency, pace, set(bad)
        self.random = random.Random(seed)
        self.stored: dict[int, int] = {}
        self.bursts: list[tuple[int, int]] = []
        self.beats = 0
        self.finished = 0
        self.deepest = 0

    async def run(self, ctx):
        dut, bus = self.dut, self.dut.bus
        answers: deque[tuple[int, int]] = deque()
        offered_address = offered_data = None
        burst = position = opened = answered = 0
        cycle = 0
        while True:
            address_ready = self.random.random() < self.pace[0]
            data_ready = self.random.random() < self.pace[1]
            answering = bool(answers) and answers[0][0] <= cycle
            ctx.set(bus.awready, address_ready)
            ctx.set(bus.wready, data_ready)
            ctx.set(bus.bvalid, answering)
            if answering:
                ctx.set(bus.bresp, answers[0][1])

            _, _, issued, offering, answer_taken, *values = await ctx.tick().sample(
                bus.awvalid,
                bus.wvalid,
                bus.bready,
                bus.wdata,
                bus.wstrb,
                bus.wlast,
                *address_fields(bus, "aw"),
            )
            beat, fields = values[:3], values[3:]
            if offered_address is not None:
                assert issued and fields == offered_address, "AW changed before AWREADY"
            else:
                opened += bool(issued)
            offered_address = fields if issued and not address_ready else None
            if issued and address_ready:
                check_burst(fields, dut.bus_width, dut.burst)
                self.bursts.append((fields[0], fields[1] + 1))
            self.deepest = max(self.deepest, opened - answered)

            if offered_data is not None:
                assert offering and beat == offered_data, "W changed before WREADY"
            offered_data = beat if offering and not data_ready else None
            if offering and data_ready:
                # The address need not have been taken before the data, but be offered.
                assert burst < opened, "W without AW"
                place, length = (
                    self.bursts[burst]
                    if burst < len(self.bursts)
                    else (
                        fields[0],
                        fields[1] + 1,
                    )
                )
                place += position * dut.bus_width // 8
                for lane in range(dut.bus_width // 8):
                    if beat[1] >> lane & 1:
                        self.stored[place + lane] = beat[0] >> 8 * lane & 0xFF
                self.beats += 1
                position += 1
                assert beat[2] == (position == length), "WLAST"
                if beat[2]:
                    burst, position = burst + 1, 0
            while self.finished < min(burst, len(self.bursts)):
                answer = SLVERR if self.bursts[self.finished][0] in self.bad else OKAY
                answers.append((cycle + 1 + self.latency, answer))
                self.finished += 1
            if answering and answer_taken:
                answers.popleft()
                answered += 1
            cycle += 1


def write(dut: WriteMaster, sink: Sink, requests, seed: int, pace: float):
    """Writes the requests and waits until all is acknowledged."""
    chance = random.Random(seed)
    width = dut.bus_width
    beats = [
        (address + n * width // 8, chance.getrandbits(width), chance.getrandbits(width // 8))
        for address, count in requests
        for n in range(count)
    ]

    async def commands(ctx):
        for address, count in requests:
            await put(ctx, dut.command, {"address": address, "beats": count})

    async def data(ctx):
        for _, value, strobe in beats:
            while chance.random() > pace:
                await ctx.tick()
            await put(ctx, dut.i, {"data": value, "strobe": strobe})
        for _ in range(3000):
            if ctx.get(dut.idle):
                break
            await ctx.tick()
        else:
            raise AssertionError("never idle")
        assert sink.finished == len(sink.bursts)

    simulate(dut, commands, data, background=[sink])
    wanted = {}
    for address, value, strobe in beats:
        for lane in range(width // 8):
            if strobe >> lane & 1:
                wanted[address + lane] = value >> 8 * lane & 0xFF
    assert sink.stored == wanted
    assert sink.beats == len(beats)


@settings(max_examples=25, deadline=None, print_blob=True)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_write_any_requests(data, seed):
    width = data.draw(st.sampled_from([32, 128, 512]))
    pages = st.integers(0, 300) | st.integers(2**40 * 8 // width - 200, 2**40 * 8 // width - 151)
    request = st.tuples(pages.map(lambda page: page * width // 8), st.integers(1, 150))
    requests = data.draw(st.lists(request, max_size=3))
    paces = data.draw(st.tuples(*[st.sampled_from([0.3, 1.0])] * 3))
    outstanding = data.draw(st.integers(1, 8))
    dut = WriteMaster(
        width, outstanding=outstanding, burst=data.draw(st.sampled_from([2, 16, 256]))
    )
    sink = Sink(dut, seed, latency=data.draw(st.integers(0, 20)), pace=paces[:2])
    write(dut, sink, requests, seed, paces[2])
    assert sink.deepest <= outstanding


def test_write_pace():
    """One beat per cycle and one cycle between bursts."""
    dut = WriteMaster(64, burst=16)
    sink = Sink(dut, 0, latency=10)
    cycles = []

    async def watch(ctx):
        cycle = 0
        while True:
            _, _, beat = await ctx.tick().sample(dut.beat)
            if beat:
                cycles.append(cycle)
            cycle += 1

    async def testbench(ctx):
        ctx.set(dut.i.valid, 1)
        await put(ctx, dut.command, {"address": 0x100, "beats": 64})
        await ctx.tick().until(~dut.idle)
        await ctx.tick().until(dut.idle & ~dut.i.ready)

    simulate(dut, testbench, background=[sink, watch])
    assert len(cycles) == 64
    assert cycles[-1] - cycles[0] <= 64 + 3 * 2


def test_write_is_idle_while_the_data_are_missing():
    """Else a unit that waits for its results for ever would look like a busy bus."""
    dut = WriteMaster(32)

    async def testbench(ctx):
        await put(ctx, dut.command, {"address": 0x100, "beats": 2})
        for _ in range(10):
            await ctx.tick()
            assert ctx.get(dut.idle)
            assert not ctx.get(dut.bus.awvalid)
        await put(ctx, dut.i, {"data": 1, "strobe": 15})
        for _ in range(10):
            await ctx.tick()
            assert not ctx.get(dut.idle)

    simulate(dut, testbench, background=[Sink(dut, 0)])


def test_write_error():
    dut = WriteMaster(32, burst=4)
    errors = 0

    async def watch(ctx):
        nonlocal errors
        while True:
            _, _, error = await ctx.tick().sample(dut.error)
            errors += error

    async def testbench(ctx):
        ctx.set(dut.i.valid, 1)
        await put(ctx, dut.command, {"address": 0x100, "beats": 12})
        await ctx.tick().until(~dut.idle)
        await ctx.tick().until(dut.idle & ~dut.i.ready)
        await ctx.tick().repeat(2)

    simulate(dut, testbench, background=[Sink(dut, 0, bad=[0x110]), watch])
    assert errors == 1


@pytest.mark.parametrize("delay", range(0, 40, 3))
def test_write_abort_completes_bursts_without_writing(delay):
    """The data stop for good; the bus still gets what it was promised."""
    dut = WriteMaster(32, burst=8)
    sink = Sink(dut, delay, latency=5, pace=(0.6, 0.6))
    offered = 0

    async def data(ctx):
        nonlocal offered
        for n in range(delay // 2):
            ctx.set(dut.i.payload, {"data": n, "strobe": 15})
            ctx.set(dut.i.valid, 1)
            for _ in range(100):
                if ctx.get(dut.abort):
                    break
                _, _, ready, lost = await ctx.tick().sample(dut.i.ready, dut.abort)
                if ready:
                    offered += not lost
                    break
        ctx.set(dut.i.valid, 0)

    async def testbench(ctx):
        await put(ctx, dut.command, {"address": 0x1000, "beats": 1000})
        await ctx.tick().repeat(delay + 1)
        ctx.set(dut.abort, 1)
        await ctx.tick()
        for _ in range(300):
            if ctx.get(dut.idle):
                break
            await ctx.tick()
        else:
            raise AssertionError("does not drain")
        assert sink.finished == len(sink.bursts)
        assert sink.beats == sum(beats for _, beats in sink.bursts)
        assert len(sink.stored) == 4 * offered
        assert not ctx.get(dut.bus.awvalid) and not ctx.get(dut.bus.wvalid)

    simulate(dut, data, testbench, background=[sink])


# Windows ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, print_blob=True)
@given(
    st.sampled_from([32, 128, 512]),
    st.sampled_from([("beats", 2), ("words", 2), ("words", 5)]),
    st.integers(0, 2**34 - 1),
    st.integers(0, 2**32 - 1) | st.integers(0, 4096),
    st.lists(
        st.tuples(
            st.integers(0, 5000)
            | st.integers(0, 2**40 - 1)
            | st.integers(2**32 - 500, 2**32 + 500),
            st.integers(1, 600) | st.integers(1, LONGEST),
            st.booleans(),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_window(width, kind, page, size, requests):
    lengths, aligned = kind
    dut = Window(width, lengths=lengths, aligned=aligned)
    beat = width // 8
    base = page * 64
    requests = [
        ((offset // beat * beat if align else offset) >> aligned << aligned, length)
        for offset, length, align in requests
    ]

    async def testbench(ctx):
        ctx.set(dut.base, base)
        ctx.set(dut.size, size)
        for offset, length in requests:
            await put(ctx, dut.i, {"offset": offset, "length": length})
            if lengths == "beats":
                good = offset % beat == 0 and offset + length * beat <= size
                wanted = (base + offset) & (1 << 40) - 1, length
            else:
                good = offset + 4 * length <= size
                first = offset // beat
                wanted = (
                    (base + first * beat) & (1 << 40) - 1,
                    -(-(offset + 4 * length) // beat) - first,
                )
            assert ctx.get(dut.busy)
            assert ctx.get(dut.error) == (not good)
            if good:
                command = await get(ctx, dut.o, limit=3)
                assert (command.address, command.beats) == wanted
            else:
                await ctx.tick()
                assert not ctx.get(dut.error) and not ctx.get(dut.o.valid)
            assert not ctx.get(dut.busy)

    simulate(dut, testbench)


@pytest.mark.parametrize(
    ("lengths", "size", "offset", "length", "good"),
    [
        ("beats", 4096, 4096 - 64, 4, True),
        ("beats", 4095, 4096 - 64, 4, False),
        ("beats", 4096, 4096 - 64, 5, False),
        ("beats", 4096, 8, 1, False),
        ("beats", 4096, 1 << 32, 1, False),
        ("beats", 2**32 - 1, 2**32 - 32, 1, True),
        ("beats", 2**32 - 1, 2**32 - 16, 1, False),
        ("words", 100, 96, 1, True),
        ("words", 103, 96, 1, True),
        ("words", 99, 96, 1, False),
        ("words", 100, 96, 2, False),
        ("words", 2**32 - 1, 2**32 - 8, 1, True),
        ("words", 2**32 - 1, 2**32 - 4, 1, False),
        ("words", 2**32 - 1, 2**32, 1, False),
        ("words", 0, 0, 1, False),
    ],
)
def test_window_at_its_edges(lengths, size, offset, length, good):
    dut = Window(128, lengths=lengths)

    async def testbench(ctx):
        ctx.set(dut.size, size)
        await put(ctx, dut.i, {"offset": offset, "length": length})
        assert ctx.get(dut.error) == (not good)
        await ctx.tick()
        assert ctx.get(dut.o.valid) == good

    simulate(dut, testbench)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReadMaster(64, 0), "Clients must be a positive integer, not 0"),
        (lambda: ReadMaster(64, 1, burst=48), "Burst must be a power of two .* not 48"),
        (lambda: WriteMaster(64, outstanding=0), "Outstanding must be a positive number .* not 0"),
        (lambda: WriteMaster(48), "Bus width must be a power of two in 32..1024, not 48"),
        (lambda: Window(64, aligned=1), "Offsets of words have at least 2 bits of 0, not 1"),
        (lambda: Window(64, lengths="bytes"), "Lengths must be 'beats' or 'words', not 'bytes'"),
    ],
)
def test_bad_parameters(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_bursts_are_capped_to_the_boundary():
    assert ReadMaster(512, 1, burst=256).burst == 64
    assert WriteMaster(32, burst=1024).burst == 256
