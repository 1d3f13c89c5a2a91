"""The registers behind AXI4-Lite, against a model of the register map."""

import random

import cocotb

from lutcore.hw.contract.csr import COUNTER_UNITS, CSRS, ID_VALUE, Control
from lutcore.hw.contract.isa import ISA_VERSION
from lutcore.hw.control.csr_file import COUNTER_SLOTS, EXTRA_COUNTERS
from lutcore.hw.util import State
from lutcore.verif.kit import env
from lutcore.verif.units.components import Csrs
from lutcore.verif.units.streams import UnitBench, draw_pressure

OKAY, SLVERR = 0b00, 0b10
#: Offsets that hold nothing.
HOLES = [
    offset for offset in range(0, 0x1000, 4) if offset not in {c.offset for c in CSRS.values()}
]


def _byte_mask(strobe: int) -> int:
    return sum(0xFF << 8 * lane for lane in range(4) if strobe >> lane & 1)


class CsrBench(UnitBench):
    """Host and core around the registers, and what the registers have to hold.

    Attributes
    ----------
    settings, values
        Contents of the writable registers, and of those that the core drives.
    counts
        Of the counters, by the name of their low register.
    """

    def __init__(self, dut, name: str) -> None:
        config = env.settings().config
        self.component = Csrs(config)
        super().__init__(dut, self.component, name, "csr")
        self.fixed = {
            "ID": ID_VALUE,
            "VERSION": ISA_VERSION | 1 << 16,
            "FINGERPRINT_LO": config.fingerprint & 0xFFFF_FFFF,
            "FINGERPRINT_HI": config.fingerprint >> 32,
        }
        for channel, payload in (("ar", "araddr"), ("aw", "awaddr"), ("w", "wdata"),
                                 ("r", "rdata"), ("b", "bresp")):  # fmt: skip
            ports = (f"axi__{channel}valid", f"axi__{channel}ready", f"axi__{payload}")
            self.stream(channel, *ports)
        self.forget()

    def forget(self) -> None:
        """What a reset leaves of the registers."""
        self.pressure = draw_pressure(self.random)
        self.settings = dict.fromkeys(self.component.file.settings_names, 0)
        self.values = dict.fromkeys(self.component.file.inputs, 0)
        self.counts = {f"{name}_LO": 0 for name in EXTRA_COUNTERS}
        for unit in COUNTER_UNITS:
            for state in (State.BUSY, State.WAIT_IN, State.WAIT_OUT):
                self.counts[f"{unit.upper()}_{state.name}_LO"] = 0
        self.enable = self.pending = self.busy = 0
        self.pulses = {"start": 0, "soft_reset": 0}
        self.wanted = dict(self.pulses)

    async def restart(self) -> None:
        """Reset; the model forgets with it."""
        await super().restart()
        self.forget()

    async def read(self, offset: int) -> tuple[int, int]:
        """Data and response."""
        await self.stream("ar").put(offset, self.pressure)
        await self.pause(self.pressure)
        self["axi__rready"].set(1)
        await self.until("axi__rvalid")
        data, response = self["axi__rdata"].bits(), self["axi__rresp"].bits()
        self["axi__rready"].set(0)
        return data, response

    async def write(self, offset: int, value: int, strobe: int = 15) -> int:
        """Write, with address and data in any order; the response."""
        self["axi__wstrb"].set(strobe)
        address = self.fork(self.stream("aw").put(offset, self.pressure))
        await self.stream("w").put(value, self.pressure)
        self["axi__wstrb"].set(self.random.getrandbits(4))
        await address
        return await self.stream("b").get(self.pressure)

    async def count_pulses(self) -> None:
        """Count the commands that leave the registers; check the interrupt line."""
        while True:
            await self.edge
            for name in self.pulses:
                self.pulses[name] += self[name].bits()

    # Accesses ---------------------------------------------------------------------------------

    def expected(self, name: str) -> int:
        """What a register reads as."""
        if name in self.fixed:
            return self.fixed[name]
        if name in self.settings:
            return self.settings[name]
        if name in self.values:
            return self.values[name]
        if name == "CONTROL":
            return self.enable << Control.IRQ_ENABLE
        if name == "IRQ":
            return self.pending
        low = name.removesuffix("_HI").removesuffix("_LO") + "_LO"
        return self.counts[low] >> (32 if name.endswith("_HI") else 0) & 0xFFFF_FFFF

    def cover_read(self, name: str) -> None:
        """Count the kind of a read."""
        kinds = (
            ("read fixed", self.fixed),
            ("read setting", self.settings),
            ("read value", self.values),
            ("read counter", {n for low in self.counts for n in (low, low[:-2] + "HI")}),
        )
        for kind, names in kinds:
            if name in names:
                env.cover("csr: access", kind)

    async def check_read(self, name: str) -> None:
        """Read a register and compare."""
        self.cover_read(name)
        got = await self.read(CSRS[name].offset)
        env.expect(f"csr: data and response of {name}", got, (self.expected(name), OKAY))

    async def check_write(
        self, name: str, value: int | None = None, strobe: int | None = None
    ) -> None:
        """Write noise, or `value`, to a register; bytes without their strobe stay."""
        if value is None:
            value = self.random.getrandbits(32)
        if strobe is None:
            strobe = self.random.choice([15, 15, 15, 0, 1, 6, 9, 14])
        response = await self.write(CSRS[name].offset, value, strobe)
        if name in self.settings:
            env.cover("csr: access", "write busy" if self.busy else "write setting")
            if strobe != 15:
                env.cover("csr: access", "write strobes")
            allowed = not self.busy
            if allowed:
                mask = _byte_mask(strobe)
                self.settings[name] = self.settings[name] & ~mask | value & mask
        elif name == "CONTROL":
            allowed = self._command(value if strobe & 1 else None)
        elif name == "IRQ":
            allowed = True
            if strobe & value & 1:
                if self.pending:
                    env.cover("csr: access", "irq cleared")
                self.pending = 0
        else:
            env.cover("csr: access", "write read-only")
            allowed = False
        env.expect(f"csr: response to a write of {name}", response, OKAY if allowed else SLVERR)

    def _command(self, value: int | None) -> bool:
        if value is None:
            return True
        start = value >> Control.START & 1
        self.enable = value >> Control.IRQ_ENABLE & 1
        self.wanted["soft_reset"] += value >> Control.RESET & 1
        self.wanted["start"] += start and not self.busy
        if value >> Control.RESET & 1:
            env.cover("csr: access", "soft reset")
        if start:
            env.cover("csr: access", "start busy" if self.busy else "start")
        return not (start and self.busy)

    async def check_hole(self) -> None:
        """Read and write an offset that holds nothing."""
        offset = self.random.choice(HOLES)
        got = await self.read(offset)
        env.expect(f"csr: data and response of offset {offset:#x}", got, (0, SLVERR))
        env.cover("csr: access", "read unknown")
        response = await self.write(offset, self.random.getrandbits(32))
        env.expect(f"csr: response to a write of offset {offset:#x}", response, SLVERR)
        env.cover("csr: access", "write unknown")

    async def check_both(self) -> None:
        """A read and a write at once: neither waits for the other."""
        name = self.random.choice(list(self.values))
        reading = self.fork(self.check_read(name))
        await self.check_write(self.random.choice(list(self.settings)))
        await reading
        env.cover("csr: access", "both at once")

    async def core_changes(self, busy: int | None = None, interrupt: bool | None = None) -> None:
        """New values from the core, busy or not, an interrupt or none."""
        self.values = {name: self.random.getrandbits(32) for name in self.values}
        self["values"].set(self.values)
        self.busy = self.random.getrandbits(1) if busy is None else busy
        self["busy"].set(self.busy)
        if self.random.random() < 0.3 if interrupt is None else interrupt:
            self["interrupt"].set(1)
            self.pending = 1
            env.cover("csr: access", "irq set")
        await self.edge
        self["interrupt"].set(0)
        await self.edge

    async def accesses(self, count: int) -> None:
        """Random accesses, one after the other."""
        for _ in range(count):
            await self.core_changes()
            commands = self.random.random() < 0.25
            name = self.random.choice(["CONTROL", "IRQ"] if commands else [*CSRS, *self.settings])
            access = self.random.randrange(7)
            if access < 3:
                await self.check_read(name)
            elif access < 5:
                await self.check_write(name)
            elif access == 5:
                await self.check_both()
            else:
                await self.check_hole()
            await self.check_outputs()

    async def check_outputs(self) -> None:
        """Interrupt, settings, and the pulses so far."""
        await self.cycles(2)
        env.expect("csr: irq", self["irq"].bits(), self.enable & self.pending)
        env.expect("csr: settings", list(self["settings"].get().values()),
                   list(self.settings.values()))  # fmt: skip
        env.expect("csr: pulses of start and soft_reset", list(self.pulses.values()),
                   list(self.wanted.values()))  # fmt: skip

    async def count(self, cycles: int) -> None:
        """Random activity of the units, counted in the model too."""
        source: random.Random = self.random
        self.counts = dict.fromkeys(self.counts, 0)
        weights = [[source.random() for _ in State] for _ in COUNTER_UNITS]
        for cycle in range(cycles):
            run, extra = source.random() < 0.9, source.getrandbits(len(EXTRA_COUNTERS))
            states = [source.choices(list(State), chances)[0] for chances in weights]
            self["run"].set(run)
            self["extra"].set(extra)
            self["states"].set([state.value for state in states])
            # The cycle in which they are cleared counts.
            self["clear"].set(cycle == 0)
            for unit, state in zip(COUNTER_UNITS, states, strict=True):
                if run and state != State.IDLE:
                    self.counts[f"{unit.upper()}_{state.name}_LO"] += 1
            for bit, name in enumerate(EXTRA_COUNTERS):
                self.counts[f"{name}_LO"] += run and extra >> bit & 1
            await self.edge
        self["run"].set(0)
        self["clear"].set(0)


@cocotb.test()
async def every_register(dut):
    """Each register reads as what it holds; all of the map, after a reset."""
    bench = CsrBench(dut, "every_register")
    await bench.restart()

    async def host() -> None:
        for name in CSRS:
            await bench.check_read(name)
        for name in CSRS:
            await bench.check_write(name)
            await bench.check_read(name)

    await bench.run([host], [bench.count_pulses], limit=40_000)


@cocotb.test()
async def commands(dut):
    """Every command, busy or not, with an interrupt or without; then the interrupt is cleared."""
    bench = CsrBench(dut, "commands")
    await bench.restart()

    async def host() -> None:
        for number in bench.random.sample(range(32), 32):
            await bench.core_changes(busy=number & 1, interrupt=bool(number & 2))
            await bench.check_write("CONTROL", number >> 2, strobe=15)
            await bench.check_outputs()
            for strobe, value in ((14, 1), (15, 0), (15, 1)):
                await bench.check_write("IRQ", value, strobe)
                await bench.check_outputs()
                await bench.check_read("IRQ")

    await bench.run([host], [bench.count_pulses], limit=40_000)


@cocotb.test()
async def random_accesses(dut):
    """Reads and writes of anything while the core changes; resets in between."""
    bench = CsrBench(dut, "random_accesses")
    await bench.restart()
    for _ in range(1 + env.settings().effort):

        async def host() -> None:
            await bench.accesses(40)

        await bench.interrupt([host], [bench.count_pulses], within=200)
        await bench.run([host], [bench.count_pulses], limit=40_000)
        await bench.restart()


@cocotb.test()
async def counters(dut):
    """Every event of a run counts once, and a new run begins at zero."""
    bench = CsrBench(dut, "counters")
    await bench.restart()

    async def host() -> None:
        lengths = [1, 2, COUNTER_SLOTS, bench.random.randint(3, 200), bench.random.randint(3, 200)]
        for cycles in bench.random.sample(lengths, len(lengths)):
            await bench.count(cycles)
            for name in bench.random.sample(list(bench.counts), 6):
                await bench.check_read(name)
                await bench.check_read(name.removesuffix("_LO") + "_HI")

    await bench.run([host], [bench.count_pulses], limit=40_000)
