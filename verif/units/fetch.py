"""Fetch: what it refuses, and what it dispatches and when, against the instruction table."""

import cocotb

from lutcore.hw.contract.isa import INSTRUCTION_BITS, PROGRAM_MAX, Cause, Unit, decode
from lutcore.hw.control.fetch import Fetch
from lutcore.verif.kit import env
from lutcore.verif.oracles.fetch import (
    END,
    dispatched,
    draw_broken,
    draw_program,
    longest,
    verdict_of,
)
from lutcore.verif.units.streams import UnitBench, draw_pressure

#: Event of the dispatch of an instruction, or None in its place: nothing was.
Event = tuple | None


class FetchBench(UnitBench):
    """Memory, host and units around fetch.

    Attributes
    ----------
    events
        What was dispatched; see :func:`dispatched`.
    error
        Cause and instruction of a stop.
    """

    def __init__(self, dut, name: str) -> None:
        self.config = env.settings().config
        super().__init__(dut, Fetch(self.config), name, "fetch")
        self.layer = 0
        self.load([END])

    async def restart(self) -> None:
        """Reset; the layer registers go back to 0 with it."""
        await super().restart()
        self.layer = self["layer"].bits()

    def load(self, words: list[int], length: int | None = None, expect: int | None = None) -> None:
        """What the next launch works on."""
        self.words = words
        self.length = len(words) if length is None else length
        self.expected = self.config.fingerprint if expect is None else expect
        self.events: list[tuple] = []
        self.error: tuple[Cause, int] | None = None
        self.longest = self.random.choice([1, 3, 12])

    async def host(self) -> None:
        """Launch."""
        self["length"].set(self.length)
        self["expect"].set(self.expected)
        self["launch"].set(1)
        await self.edge
        self["launch"].set(0)

    async def memory(self) -> None:
        """Answer the request for the program; there must be only one."""
        width = self.config.bus_width
        pressure = draw_pressure(self.random)
        request = await self.stream("command").get(draw_pressure(self.random))
        size = self.length * INSTRUCTION_BITS
        wanted = {"offset": 0, "length": -(-size // width)}
        env.expect("fetch: offset and length of the request", list(request.values()),
                   list(wanted.values()))  # fmt: skip
        image = sum(word << n * INSTRUCTION_BITS for n, word in enumerate(self.words))
        # What lies behind the program in its last beat is nobody's business.
        image |= self.random.getrandbits(512) << size
        self.fork(self._receiving())
        for beat in range(wanted["length"]):
            await self.stream("i").put(image >> beat * width & (1 << width) - 1, pressure)
        while True:
            await self.edge
            env.expect("fetch: a second request", self["command__valid"].bits(), 0)

    async def _receiving(self) -> None:
        """Check the number that goes with each beat."""
        beat = 0
        while True:
            await self.edge
            if self["i__valid"].bits() and self["i__ready"].bits():
                number = beat * self.config.bus_width // INSTRUCTION_BITS
                env.expect("fetch: receiving", self["receiving"].bits(), number, index=beat)
                beat += 1

    async def units(self) -> None:
        """Work for a while on every instruction; record all that happens until the end."""
        work, writes = [0] * len(Unit), 0
        ended = False
        while not ended:
            busy = [left > 0 for left in work]
            quiet = not any(busy) and not writes
            self["unit_busy"].set(sum(bit << unit for unit, bit in enumerate(busy)))
            self["all_idle"].set(quiet)
            work, writes = [max(0, left - 1) for left in work], max(0, writes - 1)
            await self.edge
            self._see_layer()
            started = self["start"].bits()
            self._see_dispatch(busy, started)
            for unit in Unit:
                if started >> unit & 1:
                    work[unit] = self.random.randint(1, self.longest)
                    writes = self.random.randrange(2 * self.longest)
            if self["token_add"].bits():
                env.expect("fetch: all idle at TOKEN", quiet, True)
                self.events.append(("token", self["word"].bits()))
            if self["error"].bits() & 1:
                error = self["error"].get()
                self.error = Cause(error["cause"]), error["instruction"]
            if self["finished"].bits():
                env.expect("fetch: all idle at END", quiet, True)
                self.events.append(("finished", self["instruction"].bits()))
            ended = bool(self["finished"].bits() or self.error)
            self._idle = quiet
        for _ in range(10):
            await self.edge
            env.expect("fetch: starts after the end", self["start"].bits(), 0)
            env.expect("fetch: loops after the end", self["loop_valid"].bits(), 0)

    def _see_layer(self) -> None:
        layer = self["layer"].bits()
        if layer != self.layer:
            # The registers show it a cycle later.
            env.expect("fetch: all idle at LAYER", self._idle, True)
            self.layer = layer
            self.events.append(("layer", layer))

    def _see_dispatch(self, busy: list[bool], started: int) -> None:
        loops = self["loop_valid"].bits()
        for unit in Unit:
            if (loops | started) >> unit & 1:
                env.expect(f"fetch: {unit.name} busy at its dispatch", busy[unit], False)
            if loops >> unit & 1:
                fields = self["loop"].get().items()
                self.events.append(("loop", int(unit), tuple(sorted(fields))))
            if started >> unit & 1:
                number = self["instruction"].bits()
                self.events.append(("start", int(unit), self["word"].bits(), number))

    async def execute(self) -> None:
        """Launch what is loaded, and let it end."""
        await self.restart()
        limit = 60 * len(self.words) * self.longest + 3000
        await self.run([self.host, self.units], [self.memory], limit=limit)

    def verdict(self) -> None:
        """Compare with what the program means."""
        wanted = verdict_of(self.words, self.config)
        if wanted[0] != Cause.NONE:
            stopped = self.error or (Cause.NONE, len(self.words))
            env.expect("fetch: cause and instruction", stopped, wanted)
            env.expect("fetch: dispatches of a bad program", len(self.events), 0)
            env.cover("fetch: refused", wanted[0].name)
            return
        if self.error is not None:
            cause, number = self.error
            env.expect("fetch: cause, for a good program", cause.name, "NONE", index=number)
        wanted_events = dispatched(self.words)
        for number, (got, want) in enumerate(zip(self.events, wanted_events, strict=False)):
            if got != want:
                raise env.Mismatch(
                    f"fetch: dispatch {number} is {_show(got)}, expected {_show(want)}"
                )
        env.expect("fetch: dispatches", len(self.events), len(wanted_events))
        for word in self.words:
            env.cover("fetch: opcode", decode(word)[0].opcode.name)


def _show(event: Event) -> str:
    return " ".join(f"{part:#x}" if isinstance(part, int) else str(part) for part in event or ())


@cocotb.test()
async def good_programs(dut):
    """Instructions are dispatched in order, and none too early."""
    bench = FetchBench(dut, "good_programs")
    for number in range(5 * env.settings().effort):
        words = draw_program(bench.random, bench.config, 40) if number else [END]
        bench.load(words)
        await bench.execute()
        bench.verdict()
        env.cover("fetch: length", "1" if len(words) == 1 else "some")


@cocotb.test()
async def longest_program(dut):
    """A program of as many instructions as there may be."""
    bench = FetchBench(dut, "longest_program")
    bench.load(longest(bench.random, bench.config))
    bench.longest = 1
    await bench.execute()
    bench.verdict()
    env.cover("fetch: length", "longest")


@cocotb.test()
async def bad_programs(dut):
    """The first thing that is wrong is named, and nothing is dispatched."""
    bench = FetchBench(dut, "bad_programs")
    for _ in range(25 * env.settings().effort):
        bench.load(draw_broken(bench.random, bench.config))
        await bench.execute()
        bench.verdict()


@cocotb.test()
async def fingerprint_and_length(dut):
    """A program for another core, or of no length that can be, is not even read."""
    bench = FetchBench(dut, "fingerprint_and_length")
    other = bench.config.fingerprint ^ 1 << bench.random.randrange(64)
    for length in (0, PROGRAM_MAX + 1, 1 << 31, 2 * PROGRAM_MAX + 1, 1):
        for expect in (None, other):
            if length == 1 and expect is None:
                continue
            bench.load([END], length, expect)
            await bench.execute()
            cause = Cause.LENGTH if expect is None else Cause.FINGERPRINT
            env.expect("fetch: cause and instruction", bench.error, (cause, 0))
            env.expect("fetch: dispatches of a bad program", len(bench.events), 0)
            env.cover("fetch: refused", cause.name)


@cocotb.test()
async def reset_in_flight(dut):
    """After a reset at any time, the next program runs as if it were the first."""
    bench = FetchBench(dut, "reset_in_flight")
    for _ in range(4 * env.settings().effort):
        bench.load(draw_program(bench.random, bench.config, 40))
        await bench.restart()
        await bench.interrupt([bench.host, bench.units], [bench.memory], within=150)
        bench.load(draw_program(bench.random, bench.config, 16))
        await bench.execute()
        bench.verdict()
