"""The register file through its AXI4-Lite port, and the counters."""

import random
from itertools import pairwise

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import COUNTER_UNITS, CSRS, ID_VALUE, Control
from lutcore.hw.contract.isa import ISA_VERSION
from lutcore.hw.control.csr_file import (
    COUNTER_BITS,
    COUNTER_SLOTS,
    EXTRA_COUNTERS,
    CounterBank,
    CsrFile,
    event_bits,
    status_word,
)
from lutcore.hw.util import State

CONFIG = CoreConfig(rows=1, lanes=8, depth=2, planes=4, bus_width=32)
OKAY, SLVERR = 0, 2
START, RESET, IRQ_ENABLE = (1 << bit for bit in (Control.START, Control.RESET, Control.IRQ_ENABLE))
OFFSETS = {csr.offset: csr for csr in CSRS.values()}
SETTINGS = [c.name for c in CSRS.values() if c.access == "rw" and c.name != "CONTROL"]


class Host:
    """Master of the port; pauses at random, and demands that valid and payload stay."""

    def __init__(self, dut: CsrFile, ctx, seed: int = 0, pace: float = 1.0) -> None:
        self.dut, self.ctx, self.axi = dut, ctx, dut.axi
        self.random, self.pace = random.Random(seed), pace
        self.pulses = {"start": 0, "soft_reset": 0}

    async def cycle(self, *signals):
        names = [getattr(self.dut, name) for name in self.pulses]
        _, _, *seen = await self.ctx.tick().sample(*names, *signals)
        for name, value in zip(self.pulses, seen, strict=False):
            self.pulses[name] += value
        return seen[len(names) :]

    async def pause(self) -> None:
        while self.random.random() > self.pace:
            await self.cycle()

    async def _offer(self, channel: str) -> None:
        """Raise VALID and hold it until READY."""
        valid, ready = getattr(self.axi, channel + "valid"), getattr(self.axi, channel + "ready")
        self.ctx.set(valid, 1)
        for _ in range(100):
            (taken,) = await self.cycle(ready)
            if taken:
                break
        else:
            raise AssertionError(f"{channel.upper()} is not taken")
        self.ctx.set(valid, 0)

    async def _answer(self, channel: str, *payload: Signal):
        valid, ready = getattr(self.axi, channel + "valid"), getattr(self.axi, channel + "ready")
        held = None
        for _ in range(100):
            take = self.random.random() <= self.pace
            self.ctx.set(ready, take)
            offered, *values = await self.cycle(valid, *payload)
            if held is not None:
                assert offered and values == held, f"{channel.upper()} changed before READY"
            held = values if offered and not take else None
            if offered and take:
                self.ctx.set(ready, 0)
                return values
        raise AssertionError(f"no answer on {channel.upper()}")

    async def read(self, offset: int) -> tuple[int, int]:
        """The data and the response."""
        await self.pause()
        self.ctx.set(self.axi.araddr, offset)
        await self._offer("ar")
        data, response = await self._answer("r", self.axi.rdata, self.axi.rresp)
        return data, response

    async def write(self, offset: int, value: int, strobe: int = 15) -> int:
        """The response. Address first, data first, or both at once."""
        ctx, axi = self.ctx, self.axi
        order = self.random.randrange(3)
        await self.pause()
        ctx.set(axi.awaddr, offset)
        ctx.set(axi.wdata, value)
        ctx.set(axi.wstrb, strobe)
        if order == 2:
            waiting = {"aw", "w"}
            while waiting:
                for channel in ("aw", "w"):
                    ctx.set(getattr(axi, channel + "valid"), channel in waiting)
                taken = await self.cycle(axi.awready, axi.wready)
                waiting -= {c for c, t in zip(("aw", "w"), taken, strict=True) if t}
            ctx.set(axi.awvalid, 0)
            ctx.set(axi.wvalid, 0)
        else:
            for channel in ("aw", "w") if order else ("w", "aw"):
                assert not ctx.get(axi.bvalid), "response before the request is complete"
                await self._offer(channel)
                await self.pause()
        (response,) = await self._answer("b", axi.bresp)
        return response


def simulate(scenario, dut=None, **host_options) -> None:
    dut = dut or CsrFile(CONFIG)

    async def testbench(ctx):
        await scenario(ctx, dut, Host(dut, ctx, **host_options))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()


def test_fixed_registers():
    async def scenario(ctx, dut, host):
        assert await host.read(0x000) == (ID_VALUE, OKAY)
        assert await host.read(0x004) == (1 << 16 | ISA_VERSION, OKAY)
        low, _ = await host.read(0x008)
        high, _ = await host.read(0x00C)
        assert high << 32 | low == CONFIG.fingerprint

    simulate(scenario)


def test_map_is_stable():
    """Offsets are append-only: these are in use."""
    pinned = {
        "ID": 0x000,
        "VERSION": 0x004,
        "FINGERPRINT_LO": 0x008,
        "CONTROL": 0x010,
        "STATUS": 0x014,
        "IRQ": 0x018,
        "PROGRAM_LENGTH": 0x01C,
        "EXPECT_LO": 0x020,
        "BUDGET_LO": 0x028,
        "PROGRAM_BASE_LO": 0x040,
        "RESULTS_SIZE": 0x078,
        "CYCLES_LO": 0x100,
        "LOOKUPS_LO": 0x108,
        "READ_BEATS_LO": 0x110,
        "WRITE_BEATS_LO": 0x118,
        "FETCH_BUSY_LO": 0x140,
        "STORE_WAIT_OUT_HI": 0x234,
    }
    assert {name: CSRS[name].offset for name in pinned} == pinned
    assert len(OFFSETS) == len(CSRS)
    assert all(offset % 4 == 0 and offset < 4096 for offset in OFFSETS)


def test_every_read_only_register():
    async def scenario(ctx, dut, host):
        values = {name: random.Random(name).getrandbits(32) for name in dut.inputs}
        ctx.set(dut.values, values)
        for name, value in values.items():
            offset = CSRS[name].offset
            assert await host.read(offset) == (value, OKAY), name
            assert await host.write(offset, ~value & 0xFFFF_FFFF) == SLVERR, name
            assert await host.read(offset) == (value, OKAY), name

    simulate(scenario)


def test_unknown_offsets():
    async def scenario(ctx, dut, host):
        for offset in [o for o in range(0, 0x280, 4) if o not in OFFSETS] + [0xFFC]:
            assert await host.read(offset) == (0, SLVERR), hex(offset)
            assert await host.write(offset, 0xFFFF_FFFF) == SLVERR, hex(offset)
        for name in SETTINGS:
            assert await host.read(CSRS[name].offset) == (0, OKAY), name

    simulate(scenario)


WRITES = st.lists(
    st.tuples(
        st.sampled_from(SETTINGS),
        st.integers(0, 2**32 - 1),
        st.integers(0, 15) | st.just(15),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, print_blob=True)
@given(WRITES, st.integers(0, 2**32 - 1), st.sampled_from([0.4, 1.0]))
def test_settings_keep_what_is_written(writes, seed, pace):
    """Byte strobes count, and while the core is busy nothing changes."""

    async def scenario(ctx, dut, host):
        model = dict.fromkeys(SETTINGS, 0)
        for name, value, strobe, busy in writes:
            ctx.set(dut.busy, busy)
            response = await host.write(CSRS[name].offset, value, strobe)
            assert response == (SLVERR if busy else OKAY)
            if not busy:
                mask = sum(0xFF << 8 * lane for lane in range(4) if strobe >> lane & 1)
                model[name] = model[name] & ~mask | value & mask
            assert await host.read(CSRS[name].offset) == (model[name], OKAY)
        assert {name: ctx.get(dut.settings[name]) for name in SETTINGS} == model
        assert not any(host.pulses.values())

    simulate(scenario, seed=seed, pace=pace)


def test_control_commands_are_pulses():
    async def scenario(ctx, dut, host):
        assert await host.write(CSRS["CONTROL"].offset, START) == OKAY
        await host.cycle()
        assert host.pulses == {"start": 1, "soft_reset": 0}
        assert await host.read(CSRS["CONTROL"].offset) == (0, OKAY)
        assert await host.write(CSRS["CONTROL"].offset, RESET | IRQ_ENABLE) == OKAY
        await host.cycle()
        assert host.pulses == {"start": 1, "soft_reset": 1}
        assert await host.read(CSRS["CONTROL"].offset) == (IRQ_ENABLE, OKAY)
        # A write that leaves byte 0 alone commands nothing.
        assert await host.write(CSRS["CONTROL"].offset, 0xFFFF_FFFF, 0b1110) == OKAY
        await host.cycle()
        assert host.pulses == {"start": 1, "soft_reset": 1}

    simulate(scenario)


def test_start_is_refused_while_busy_and_reset_is_not():
    async def scenario(ctx, dut, host):
        ctx.set(dut.busy, 1)
        assert await host.write(CSRS["CONTROL"].offset, START) == SLVERR
        assert await host.write(CSRS["CONTROL"].offset, RESET) == OKAY
        await host.cycle()
        assert host.pulses == {"start": 0, "soft_reset": 1}

    simulate(scenario)


def test_interrupt():
    async def scenario(ctx, dut, host):
        async def strike():
            ctx.set(dut.interrupt, 1)
            await host.cycle()
            ctx.set(dut.interrupt, 0)

        irq = CSRS["IRQ"].offset
        await strike()
        assert not ctx.get(dut.irq), "not enabled"
        assert await host.read(irq) == (1, OKAY)
        await host.write(CSRS["CONTROL"].offset, IRQ_ENABLE)
        assert ctx.get(dut.irq)
        # Only a one in bit 0 clears it.
        assert await host.write(irq, 0xFFFF_FFFE) == OKAY
        assert await host.write(irq, 1, 0b1110) == OKAY
        assert ctx.get(dut.irq)
        assert await host.write(irq, 1) == OKAY
        assert not ctx.get(dut.irq)
        assert await host.read(irq) == (0, OKAY)
        # It is cleared while busy too, and an interrupt in the very cycle is not lost.
        ctx.set(dut.busy, 1)
        ctx.set(dut.interrupt, 1)
        assert await host.write(irq, 1) == OKAY
        ctx.set(dut.interrupt, 0)
        assert ctx.get(dut.irq)

    simulate(scenario)


def test_reads_and_writes_do_not_block_each_other():
    async def scenario(ctx, dut, host):
        axi = dut.axi
        # A read whose data nobody takes, then a write; and the other way round.
        ctx.set(axi.araddr, 0)
        ctx.set(axi.arvalid, 1)
        await host.cycle()
        ctx.set(axi.arvalid, 0)
        assert await host.write(CSRS["PROGRAM_LENGTH"].offset, 5) == OKAY
        assert await host._answer("r", axi.rdata) == [ID_VALUE]
        ctx.set(axi.awaddr, CSRS["PROGRAM_LENGTH"].offset)
        ctx.set(axi.awvalid, 1)
        await host.cycle()
        ctx.set(axi.awvalid, 0)
        assert await host.read(CSRS["PROGRAM_LENGTH"].offset) == (5, OKAY)

    simulate(scenario)


def test_status_word():
    parts = {"busy": 1, "done": 0, "error": 1, "draining": 0, "hung": 1}
    word = status_word(
        **{name: Signal(init=value) for name, value in parts.items()},
        cause=Signal(8, init=0xA5),
        instruction=Signal(16, init=0xBEEF),
    )
    dut = CsrFile(CONFIG)

    async def testbench(ctx):
        assert ctx.get(word) == 0xBEEF_A515

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()


# Counters --------------------------------------------------------------------------------------


class Bench(wiring.Component):
    """A register file with its counters."""

    def __init__(self) -> None:
        self.file, self.bank = CsrFile(CONFIG), CounterBank()
        self.axi, self.start, self.soft_reset = self.file.axi, self.file.start, self.file.soft_reset
        self.states = [Signal(State, name=f"state_{name}") for name in COUNTER_UNITS]
        self.extra = {name: Signal(name=name.lower()) for name in EXTRA_COUNTERS}
        super().__init__({"run": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.file, m.submodules.bank = self.file, self.bank
        m.d.comb += [
            self.bank.events.eq(event_bits(self.run, self.states, self.extra)),
            self.bank.select.eq(self.file.counter_select),
            self.file.counter_hit.eq(self.bank.hit),
            self.file.counter_value.eq(self.bank.value),
        ]
        return m


async def count_up(ctx, dut: Bench, cycles: int, chance: random.Random) -> dict[str, int]:
    """Random activity; what the counters are to show."""
    counts = {
        name.removesuffix("_LO"): 0 for name in CSRS if CSRS[name].offset in dut.file.counters
    }
    weights = [[chance.random() for _ in State] for _ in COUNTER_UNITS]
    for cycle in range(cycles):
        run = chance.random() < 0.9
        ctx.set(dut.run, run)
        for unit, signal in enumerate(dut.states):
            state = chance.choices(list(State), weights[unit])[0]
            ctx.set(signal, state)
            if run and state != State.IDLE:
                counts[f"{COUNTER_UNITS[unit].upper()}_{state.name}"] += 1
        for name, signal in dut.extra.items():
            strobe = chance.random() < 0.9
            ctx.set(signal, strobe)
            counts[name] += run and strobe
        # The cycle in which they are cleared counts.
        ctx.set(dut.bank.clear, cycle == 0)
        await ctx.tick()
    ctx.set(dut.run, 0)
    ctx.set(dut.bank.clear, 0)
    return counts


def test_counters():
    """Every event of a run counts once, and a new run begins at zero. Ended or not."""
    dut = Bench()

    async def scenario(ctx, dut, host):
        for cycles in (1, 31, 32, 33, 300, 7):
            counts = await count_up(ctx, dut, cycles, host.random)
            for name, count in counts.items():
                offset = CSRS[f"{name}_LO"].offset
                assert await host.read(offset) == (count, OKAY), name
                assert await host.read(offset + 4) == (0, OKAY), name
                assert await host.write(offset, 1) == SLVERR

    simulate(scenario, dut)


def test_counters_are_wide_and_fast_to_read():
    """A slot that always counts: the scan loses nothing, and the carry reaches bit 39."""
    dut = CounterBank()
    top = (1 << COUNTER_BITS) - 1

    async def testbench(ctx):
        ctx.set(dut.events, (1 << COUNTER_SLOTS) - 1)
        ctx.set(dut.select, 5)
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        seen = []
        for cycle in range(5 * COUNTER_SLOTS):
            _, _, hit, value = await ctx.tick().sample(dut.hit, dut.value)
            if hit:
                seen.append((cycle, value))
        assert len(seen) == 5
        assert {cycle - value for cycle, value in seen} == {0}
        assert {b[0] - a[0] for a, b in pairwise(seen)} == {COUNTER_SLOTS}
        memory = dut.memory.data
        ctx.set(dut.events, 0)
        await ctx.tick().repeat(2 * COUNTER_SLOTS)
        ctx.set(memory[5], top >> 1)
        ctx.set(dut.events, 1 << 5)
        await ctx.tick()
        ctx.set(dut.events, 0)
        await ctx.tick().repeat(2 * COUNTER_SLOTS)
        assert ctx.get(memory[5]) == (top >> 1) + 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
