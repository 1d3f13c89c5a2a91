"""The whole core and what goes wrong around it: bad programs, bus errors, resets, silence.

Every scenario ends alike: the status names the cause and the instruction, nothing outside the
window was written, and the next good program gives the right result.
"""

from typing import Any

import cocotb

from lutcore.hw.contract.csr import CSRS, Region, Status
from lutcore.hw.contract.isa import INSTRUCTION_BITS, Cause
from lutcore.hw.control.supervisor import DEADLOCK_CYCLES, HUNG_CYCLES
from lutcore.sim.devices.registers import START
from lutcore.verif.faults.memory import CHANNELS, DECERR, SLVERR, Faults
from lutcore.verif.faults.programs import BAD_PROGRAMS
from lutcore.verif.faults.victim import FaultBench
from lutcore.verif.kit import env
from lutcore.verif.programs.run import expected_of

#: Cycles that the host may take from one register to the next.
SLACK = 40
#: Regions that are read.
READ = (Region.PROGRAM, Region.WEIGHTS, Region.ACTIVATIONS)


def effort() -> int:
    """How often random scenarios are repeated."""
    return env.settings().effort


# Programs --------------------------------------------------------------------------------------


@cocotb.test()
async def bad_programs(dut: Any) -> None:
    """Each way to be wrong: the core stops where the instruction-set simulator does."""
    bench = FaultBench(dut, "bad_programs")
    await bench.open()
    for name, bad in BAD_PROGRAMS.items():
        bench.prepare()
        bad.spoil(bench.words)
        bench.place_instructions(bench.words)
        instruction = 0
        # The simulator's regions lie at other addresses, so it cannot judge these.
        if bad.cause != Cause.REGION:
            model = bench.simulate(sizes=bad.sizes, **bad.start)
            env.expect(f"{name}: cause of the model", model.cause.name, bad.cause.name)
            instruction = model.instruction
        state = await bench.run(sizes=bad.sizes, **bad.start)
        opened = bad.sizes.get(Region.RESULTS)
        bench.check_stop(name, state, bad.cause, instruction, opened=opened)
        await bench.check_recovery(name)


@cocotb.test()
async def flipped_bits(dut: Any) -> None:
    """A bit of the program flips in memory: the core ends, or stops, as the model can."""
    bench = FaultBench(dut, "flipped_bits")
    await bench.open()
    for _ in range(10 * effort()):
        bench.prepare()
        number = bench.random.randrange(len(bench.words))
        # The lower half is where the fields are.
        bit = bench.random.randrange(bench.random.choice([INSTRUCTION_BITS // 2, INSTRUCTION_BITS]))
        bench.words[number] ^= 1 << bit
        bench.place_instructions(bench.words)
        name = f"bit {bit} of instruction {number}"
        case = bench.case
        expected = expected_of(case)
        state = await bench.run(budget=expected.budget)
        bench.compare(name, case, expected, state)
        await bench.check_recovery(name)


@cocotb.test()
async def another_configuration(dut: Any) -> None:
    """A fingerprint that is wrong in any one bit: nothing is even read."""
    bench = FaultBench(dut, "another_configuration")
    await bench.open()
    for bit in bench.random.sample(range(64), min(64, 4 * effort())):
        bench.prepare()
        expect = bench.config.fingerprint ^ 1 << bit
        state = await bench.run(expect=expect)
        bench.check_stop(f"fingerprint bit {bit}", state, Cause.FINGERPRINT, 0)
        env.expect(f"fingerprint bit {bit}: bursts read", len(bench.read_port.bursts), 0)
    await bench.check_recovery("another configuration")


# The window ------------------------------------------------------------------------------------


@cocotb.test()
async def windows(dut: Any) -> None:
    """Every region closes at every kind of place: at its start, anywhere, a byte too early."""
    bench = FaultBench(dut, "windows")
    await bench.open()
    await bench.survey()
    beat = bench.config.beat_bytes
    for region in Region:
        base = bench.base(region)
        length = max(address + beats * beat for address, beats in bench.bursts_in(region)) - base
        if region == Region.RESULTS:
            length = bench.last_result
        for size in sorted({0, bench.random.randrange(length), length - 1}):
            name = f"{region.name} of {size} bytes"
            bench.prepare()
            state = await bench.run(sizes={region: size})
            blamed = 0 if region == Region.PROGRAM else bench.user_of(region)
            opened = size if region == Region.RESULTS else None
            bench.check_stop(name, state, Cause.BOUNDS, blamed, opened=opened)
            for address, beats in [*bench.read_port.bursts, *bench.write_port.bursts]:
                if bench.region_of(address) == region:
                    inside = address + (beats - 1) * beat < base + size
                    env.expect(f"{name}: burst at {address:#x} is inside", inside, True)
            await bench.check_recovery(name)


# Errors of the bus -----------------------------------------------------------------------------


@cocotb.test()
async def read_errors(dut: Any) -> None:
    """SLVERR and DECERR on the first, a middle and the last beat of bursts in every region."""
    bench = FaultBench(dut, "read_errors")
    await bench.open()
    await bench.survey()
    size = bench.config.beat_bytes
    for region in READ:
        bursts = bench.bursts_in(region)
        for address, beats in sorted({bursts[0], bench.random.choice(bursts), bursts[-1]}):
            for beat in sorted({0, beats // 2, beats - 1}):
                response = bench.random.choice([SLVERR, DECERR])
                place = address + beat * size
                await _read_error(bench, region, place, response)
    # Both responses, whatever was drawn.
    for response in (SLVERR, DECERR):
        await _read_error(bench, Region.WEIGHTS, bench.bursts_in(Region.WEIGHTS)[0][0], response)


async def _read_error(bench: FaultBench, region: Region, place: int, response: int) -> None:
    name = f"RRESP {response} at {place:#x} in {region.name}"
    bench.prepare(Faults(read={place: response}))
    state = await bench.run()
    if region == Region.PROGRAM:
        blamed = (place - bench.base(region)) * 8 // INSTRUCTION_BITS
    else:
        blamed = bench.user_of(region)
    bench.check_stop(name, state, Cause.READ_ERROR, blamed)
    await bench.check_recovery(name)


@cocotb.test()
async def write_errors(dut: Any) -> None:
    """SLVERR and DECERR as the response to the first, a middle and the last burst."""
    bench = FaultBench(dut, "write_errors")
    await bench.open()
    await bench.survey()
    bursts = bench.bursts_in(Region.RESULTS)
    for address, _ in sorted({bursts[0], bursts[len(bursts) // 2], bursts[-1]}):
        for response in (SLVERR, DECERR):
            name = f"BRESP {response} at {address:#x}"
            bench.prepare(Faults(write={address: response}))
            state = await bench.run()
            bench.check_stop(name, state, Cause.WRITE_ERROR, bench.user_of(Region.RESULTS))
            await bench.check_recovery(name)


@cocotb.test()
async def register_errors(dut: Any) -> None:
    """SLVERR for offsets that hold nothing, read-only registers, and settings of a busy core."""
    bench = FaultBench(dut, "register_errors")
    await bench.open()
    known = {csr.offset for csr in CSRS.values()}
    unknown = [offset for offset in range(0, 0x1000, 4) if offset not in known]
    for offset in bench.random.sample(unknown, min(len(unknown), 20 * effort())):
        read = await bench.host.read(offset, 4)
        env.expect(f"response to a read of {offset:#x}", int(read.resp), SLVERR)
        written = await bench.host.write(offset, b"\xff\xff\xff\xff")
        env.expect(f"response to a write of {offset:#x}", int(written.resp), SLVERR)
    for csr in CSRS.values():
        if csr.access == "ro":
            before = await bench.read_register(csr.name)
            await bench.write_register(csr.name, ~before & 0xFFFF_FFFF, SLVERR)
            env.expect(f"{csr.name} after a write", await bench.read_register(csr.name), before)
    # A core at work: it refuses to be disturbed, and ends as if nothing had been tried.
    bench.prepare()
    await bench.start()
    bench.read_port.stop("R")
    for csr in CSRS.values():
        if csr.access == "rw" and csr.name != "CONTROL":
            before = await bench.read_register(csr.name)
            await bench.write_register(csr.name, ~before & 0xFFFF_FFFF, SLVERR)
            env.expect(f"{csr.name} of a busy core", await bench.read_register(csr.name), before)
    await bench.write_register("CONTROL", START, SLVERR)
    bench.read_port.resume()
    state = await bench.wait()
    env.expect("STATUS after refused writes", state.good, True)
    bench.check_results(bench.victim.expected)


# Aborts and resets -----------------------------------------------------------------------------


@cocotb.test()
async def aborts(dut: Any) -> None:
    """A soft reset at any moment."""
    bench = FaultBench(dut, "aborts")
    await bench.open()
    cycles = (await bench.survey()).cycles
    for _ in range(8 * effort()):
        moment = bench.random.randrange(cycles - SLACK)
        name = f"soft reset {moment} cycles after the start"
        bench.prepare()
        await bench.start()
        await bench.ticks(1 + moment)
        await bench.soft_reset()
        bench.check_stop(name, await bench.wait(), Cause.ABORT)
        await bench.check_recovery(name)


@cocotb.test()
async def budgets(dut: Any) -> None:
    """Any number of cycles that is too small is kept to within a few."""
    bench = FaultBench(dut, "budgets")
    await bench.open()
    cycles = (await bench.survey()).cycles
    for budget in (1, *(bench.random.randrange(1, cycles - 8) for _ in range(4 * effort()))):
        bench.prepare()
        state = await bench.run(budget=budget)
        bench.check_stop(f"budget {budget}", state, Cause.BUDGET)
        # The watch is a register late, and the core stands a few cycles after it strikes.
        env.expect(f"budget {budget}: cycles, at least", min(state.cycles, budget), budget)
        env.expect(f"budget {budget}: cycles, at most", max(state.cycles, budget + 4), budget + 4)
        await bench.check_recovery(f"budget {budget}")


@cocotb.test()
async def hard_resets(dut: Any) -> None:
    """``aresetn`` at any moment, with the memory, clears everything."""
    bench = FaultBench(dut, "hard_resets")
    await bench.open()
    cycles = (await bench.survey()).cycles
    for _ in range(4 * effort()):
        moment = bench.random.randrange(cycles)
        name = f"aresetn {moment} cycles after the start"
        bench.prepare()
        await bench.start()
        await bench.ticks(1 + moment)
        await bench.reset()
        await _check_fresh(bench, name)
        bench.check_written()
        await bench.check_recovery(name)


async def _check_fresh(bench: FaultBench, name: str) -> None:
    """All registers that the host or a program sets are zero."""
    for register in ("STATUS", "CONTROL", "IRQ", "PROGRAM_LENGTH", "RESULTS_SIZE"):
        env.expect(f"{name}: {register}", await bench.read_register(register), 0)


@cocotb.test()
async def late_answers(dut: Any) -> None:
    """A soft reset with the bus in the middle of something waits for it.

    No late beat reaches the next program, and a burst of writes that was begun is completed
    without writing.
    """
    bench = FaultBench(dut, "late_answers")
    await bench.open()
    await bench.survey()
    for channel in CHANNELS:
        for _ in range(2 * effort()):
            stop = bench.random.randrange(bench.transfers(channel))
            name = f"soft reset with {channel} silent after {stop} transfers"
            bench.prepare(Faults(stop={channel: stop}))
            await bench.start()
            await bench.until_refused(channel, name)
            await bench.soft_reset()
            await bench.ticks(bench.random.randrange(20, 200))
            state = await bench.state()
            bench.expect_status(f"{name}: STATUS", state, {Status.BUSY, Status.DRAINING})
            await _check_refusal(bench)
            written = bench.memory.touched.sum()
            bench.resume()
            bench.check_stop(name, await bench.wait(), Cause.ABORT)
            if channel == "W":
                # What was offered before the reset may not change; the beats behind it are empty.
                late = int(bench.memory.touched.sum() - written)
                more = max(0, late - bench.config.beat_bytes)
                env.expect(f"{name}: bytes written late, beyond one beat", more, 0)
            await bench.check_recovery(name)


async def _check_refusal(bench: FaultBench) -> None:
    """A core that drains takes neither settings nor a start."""
    await bench.write_register("PROGRAM_LENGTH", 1, SLVERR)
    await bench.write_register("CONTROL", START, SLVERR)


# Silence ---------------------------------------------------------------------------------------


async def _run_into_silence(bench: FaultBench, channel: str) -> str:
    """Start the victim and wait until a channel, at a random transfer, no longer moves."""
    stop = bench.random.randrange(bench.transfers(channel))
    name = f"{channel} silent after {stop} transfers"
    bench.prepare(Faults(stop={channel: stop}))
    await bench.start()
    await bench.until_refused(channel, name)
    return name


@cocotb.test()
async def silence(dut: Any) -> None:
    """A channel moves no more: the status says so, and only ``aresetn`` recovers."""
    bench = FaultBench(dut, "silence", monitor=False)
    await bench.open()
    await bench.survey()
    for channel in CHANNELS:
        name = await _run_into_silence(bench, channel)
        blamed = bench.blamed_for(channel)
        state = await bench.wait(HUNG_CYCLES + 5000)
        bench.check_hung(name, state, Cause.TIMEOUT, blamed)
        env.expect(f"{name}: {state.cycles} cycles", state.cycles > HUNG_CYCLES, True)
        await _check_refusal(bench)
        await bench.soft_reset()
        await bench.ticks(500)
        bench.check_hung(f"{name}, after a soft reset", await bench.state(), Cause.TIMEOUT, blamed)
        env.expect(f"{name}: irq after a soft reset", int(dut.irq.value), 0)
        bench.check_written()
        await bench.reset()
        await _check_fresh(bench, name)
        await bench.check_recovery(name)


@cocotb.test()
async def silence_after_an_abort(dut: Any) -> None:
    """The host hears of it while the core drains; a very late answer recovers after all."""
    bench = FaultBench(dut, "silence_after_an_abort", monitor=False)
    await bench.open()
    await bench.survey()
    name = await _run_into_silence(bench, bench.random.choice(CHANNELS))
    await bench.soft_reset()
    bench.check_hung(name, await bench.wait(HUNG_CYCLES + 5000), Cause.ABORT)
    bench.resume()
    state = await bench.wait()
    bench.expect_status(f"{name}: STATUS after the answer", state, {Status.HUNG})
    bench.check_written()
    await bench.check_recovery(name)


@cocotb.test()
async def slowness(dut: Any) -> None:
    """A bus that is silent for long, but not for too long, is neither a deadlock nor hung."""
    bench = FaultBench(dut, "slowness")
    await bench.open()
    await bench.survey()
    for channel in CHANNELS:
        name = await _run_into_silence(bench, channel)
        await bench.ticks(2 * DEADLOCK_CYCLES)
        state = await bench.state()
        bench.expect_status(f"{name}: STATUS", state, {Status.BUSY})
        bench.resume()
        state = await bench.wait()
        bench.expect_status(f"{name}, then not: STATUS", state, {Status.DONE})
        bench.check_results(bench.victim.expected)
