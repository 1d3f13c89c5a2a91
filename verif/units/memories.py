"""Memories behind the bus masters under test: random pace and latency, and the rules of AXI4."""

import random
from collections import deque
from dataclasses import dataclass

from lutcore.hw.memory.axi import BOUNDARY, BURST_INCR
from lutcore.verif.kit import env
from lutcore.verif.units.streams import UnitBench, draw_pressure

__all__ = ["OKAY", "SLVERR", "ReadMemory", "WriteMemory", "pattern"]

OKAY, SLVERR, DECERR = 0b00, 0b10, 0b11
_FIELDS = ("addr", "len", "size", "burst")


def pattern(address: int, width: int) -> int:
    """Contents of memory: different for every beat, and in every 32-bit word of it."""
    return sum(((address + 4 * i) * 2654435761 & 0xFFFFFFFF) << 32 * i for i in range(width // 32))


@dataclass(frozen=True)
class Pace:
    """How a memory behaves: pressure on each channel, cycles from request to answer."""

    address: float
    data: float
    answer: float
    latency: int

    @classmethod
    def draw(cls, source: random.Random) -> "Pace":
        """A random one."""
        address, data, answer = (draw_pressure(source) for _ in range(3))
        return cls(address, data, answer, source.choice([0, 0, 5, 40]))


class _Memory:
    def __init__(self, bench: UnitBench, width: int, burst: int) -> None:
        self.bench, self.width, self.burst = bench, width, burst
        self.random = bench.random
        self.pace = Pace.draw(self.random)
        #: Addresses at which an access answers an error.
        self.bad: set[int] = set()
        #: Bursts whose address was taken: address, beats.
        self.bursts: list[tuple[int, int]] = []

    def check_burst(self, prefix: str) -> tuple[int, int]:
        """The burst whose address is transferred: address, beats."""
        address, length, size, kind = (
            self.bench[f"bus__{prefix}{field}"].bits() for field in _FIELDS
        )
        what, beats, step = prefix.upper(), length + 1, self.width // 8
        env.expect(f"{what}BURST", kind, BURST_INCR)
        env.expect(f"bytes of a beat by {what}SIZE", 1 << size, step)
        env.expect(f"{what}ADDR modulo a beat", address % step, 0)
        env.expect(f"whether {what}LEN is below {self.burst}", beats <= self.burst, True)
        pages = address // BOUNDARY, (address + beats * step - 1) // BOUNDARY
        env.expect("the page of the burst's end", pages[1], pages[0])
        self.bursts.append((address, beats))
        return address, beats


class ReadMemory(_Memory):
    """Answers reads with :func:`pattern`, in order.

    Attributes
    ----------
    errors
        Beats that were answered with an error, by their address.
    outstanding
        Bursts that wait for their last beat.
    """

    def __init__(self, bench: UnitBench, width: int, burst: int) -> None:
        super().__init__(bench, width, burst)
        self.errors: list[int] = []
        self._queue: deque[tuple[int, int, bool]] = deque()  # earliest cycle, address, last

    @property
    def outstanding(self) -> int:
        """Bursts that wait for their last beat."""
        return sum(last for *_, last in self._queue)

    async def run(self) -> None:
        """Serve until cancelled."""
        bench, source = self.bench, self.random
        sending, cycle = False, 0
        while True:
            ready = source.random() >= self.pace.address
            bench["bus__arready"].set(ready)
            if not sending and self._queue and self._queue[0][0] <= cycle:
                sending = source.random() >= self.pace.data
            bench["bus__rvalid"].set(sending)
            if sending:
                _, address, last = self._queue[0]
                bench["bus__rdata"].set(pattern(address, self.width))
                bench["bus__rlast"].set(last)
                bad = address in self.bad
                bench["bus__rresp"].set(source.choice([SLVERR, DECERR]) if bad else OKAY)
            else:
                bench["bus__rdata"].set(source.getrandbits(self.width))
                bench["bus__rlast"].set(source.getrandbits(1))
            await bench.edge
            if ready and bench["bus__arvalid"].bits():
                address, beats = self.check_burst("ar")
                for beat in range(beats):
                    place = address + beat * self.width // 8
                    entry = (cycle + 1 + self.pace.latency, place, beat == beats - 1)
                    self._queue.append(entry)
            if sending and bench["bus__rready"].bits():
                _, address, _ = self._queue.popleft()
                if address in self.bad:
                    self.errors.append(address)
                sending = False
            cycle += 1


class WriteMemory(_Memory):
    """Takes writes, and answers them in order.

    Attributes
    ----------
    stored
        Byte by address.
    beats
        Beats that were transferred.
    answered
        Bursts that were answered.
    errors
        Of those with an error.
    """

    def __init__(self, bench: UnitBench, width: int, burst: int) -> None:
        super().__init__(bench, width, burst)
        self.stored: dict[int, int] = {}
        self.beats = self.answered = self.errors = 0
        self._data: list[tuple[int, int, bool]] = []  # of the bursts to come: data, strobe, last
        self._finished = 0
        self._offered = 0  # bursts whose address has been on the bus, taken or not

    async def run(self) -> None:
        """Serve until cancelled."""
        bench, source = self.bench, self.random
        answers: deque[tuple[int, int]] = deque()
        cycle, held, answering = 0, False, False
        while True:
            address_ready = source.random() >= self.pace.address
            data_ready = source.random() >= self.pace.data
            bench["bus__awready"].set(address_ready)
            bench["bus__wready"].set(data_ready)
            if not answering and answers and answers[0][0] <= cycle:
                answering = source.random() >= self.pace.answer
            bench["bus__bvalid"].set(answering)
            bench["bus__bresp"].set(answers[0][1] if answering else source.getrandbits(2))
            await bench.edge
            valid = bench["bus__awvalid"].bits()
            self._offered += valid and not held
            held = bool(valid and not address_ready)
            if valid and address_ready:
                self.check_burst("aw")
            if data_ready and bench["bus__wvalid"].bits():
                self._take_beat()
            while self._complete():
                answers.append((cycle + 1 + self.pace.latency, self._store()))
            if answering and bench["bus__bready"].bits():
                self.errors += answers.popleft()[1] != OKAY
                self.answered += 1
                answering = False
            cycle += 1

    def _take_beat(self) -> None:
        bench = self.bench
        last = bool(bench["bus__wlast"].bits())
        self._data.append((bench["bus__wdata"].bits(), bench["bus__wstrb"].bits(), last))
        self.beats += 1
        begun = self._finished + sum(last for *_, last in self._data[:-1])
        env.expect("whether W comes with its AW at the latest", begun < self._offered, True)

    def _complete(self) -> bool:
        return self._finished < len(self.bursts) and any(last for *_, last in self._data)

    def _store(self) -> int:
        """Store the first burst; its response."""
        address, beats = self.bursts[self._finished]
        count = [last for *_, last in self._data].index(True) + 1
        env.expect("beats to WLAST", count, beats)
        step = self.width // 8
        for beat, (value, strobe, _) in enumerate(self._data[:count]):
            for lane in range(step):
                if strobe >> lane & 1:
                    self.stored[address + beat * step + lane] = value >> 8 * lane & 0xFF
        del self._data[:count]
        self._finished += 1
        return self.random.choice([SLVERR, DECERR]) if address in self.bad else OKAY
