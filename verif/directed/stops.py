"""Scenarios in which the core stops: bad programs, errors of the bus, resets, hangs."""

from collections.abc import Iterator

from lutcore.hw.contract.csr import Status
from lutcore.hw.contract.isa import (
    INSTRUCTION_BITS,
    INSTRUCTIONS,
    Cause,
    Opcode,
)
from lutcore.hw.control.supervisor import HUNG_CYCLES
from lutcore.sim.devices.registers import RESET, CoreState
from lutcore.sim.rtl.simulator import FaultKind
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.rules import check
from lutcore.verif.directed.host import Host
from lutcore.verif.directed.jobs import Job, altered_job
from lutcore.verif.directed.nests import longest_job, nest_jobs
from lutcore.verif.directed.plain import check_reset_values
from lutcore.verif.directed.scenario import Bench, Jobs, Scenario, scenario
from lutcore.verif.directed.slots import late_scales
from lutcore.verif.directed.stop_jobs import full_job, stop_jobs, unloaded_jobs, waiting_jobs
from lutcore.verif.kit.layers import draw_case

__all__ = ["SCENARIOS"]

SCENARIOS: list[Scenario] = []


@scenario(SCENARIOS, "illegal")
def _illegal(bench: Bench) -> None:
    """Programs that the decoder refuses, good ones in between."""
    host = bench.host(latency=2, bandwidth=2.0)
    good = bench.jobs.layers("small", 2)
    jobs = bench.jobs.once("refused", lambda: _flips(bench.jobs, 400) + _singly(bench.jobs))
    for index, job in enumerate(jobs):
        host.start_job(job)
        host.wait(job.name)
        host.check_refused(job)
        host.acknowledge()
        if index % 16 == 0:
            host.run(good[index // 16 % 2])
    host.check_memory(job)


def _flips(jobs: Jobs, count: int) -> list[Job]:
    """Compiled programs with one to three bits flipped, which is illegal."""
    source, numbers = jobs.random("flips"), jobs.numbers("flips")
    found: list[Job] = []
    while len(found) < count:
        case = draw_case(source, numbers, jobs.config)
        program = compile_layer(case.layer, jobs.config, case.rows)
        x = program.pack_x(case.q, case.scale)
        for _ in range(10):
            words = list(program.instructions)
            # One kind of instruction is as interesting as another.
            opcode = source.choice(sorted({word & 0xFF for word in words}))
            index = source.choice([i for i, word in enumerate(words) if word & 0xFF == opcode])
            for _ in range(source.choice([1, 1, 1, 2, 3])):
                words[index] ^= 1 << source.randrange(128)
            if check(words, jobs.config):
                name = f"flip {len(found)}"
                found.append(altered_job(program, x, source, name, words=words))
    return found[:count]


def _singly(jobs: Jobs) -> list[Job]:
    """Each reserved bit of each instruction, and each field beyond its limits."""
    source, numbers = jobs.random("singly"), jobs.numbers("singly")
    case = draw_case(source, numbers, jobs.config)
    program = compile_layer(case.layer, jobs.config, case.rows)
    x = program.pack_x(case.q, case.scale)
    found: list[Job] = []
    for opcode in sorted({word & 0xFF for word in program.instructions}):
        index = next(i for i, word in enumerate(program.instructions) if word & 0xFF == opcode)
        for bits, mask in _beyond(Opcode(opcode)):
            words = list(program.instructions)
            words[index] = words[index] & ~mask | bits
            if check(words, jobs.config):
                name = f"instruction {index} is {words[index]:#034x}"
                found.append(altered_job(program, x, source, name, words=words))
    return found


def _beyond(opcode: Opcode) -> Iterator[tuple[int, int]]:
    """Bits to set where a mask clears them: reserved ones, and the values around each limit."""
    instruction = INSTRUCTIONS[opcode]
    for field in instruction.fields:
        low, high = field.limits
        place, mask = instruction.layout[field.name].offset, (1 << field.width) - 1
        single = (1 << bit for bit in range(field.width))
        for value in {low - 1, low, high, high + 1, mask, *single}:
            yield (value & mask) << place, mask << place
    for bit in range(instruction.width, INSTRUCTION_BITS):
        yield 1 << bit, 0


@scenario(SCENARIOS, "stops")
def _stops(bench: Bench) -> None:
    """Every cause, each followed by a good program, with and without a soft reset."""
    good = bench.jobs.layers("small", 2)
    for latency in (4, 30):
        host = bench.host(latency=latency)
        for index, job in enumerate(bench.jobs.once("stops", lambda: list(stop_jobs(bench.jobs)))):
            host.run(job, counters=True)
            if (index + latency) % 2:
                host.write("CONTROL", RESET)
                host.expect_status([])
            host.run(good[index % 2])


@scenario(SCENARIOS, "waiting")
def _waiting(bench: Bench) -> None:
    """Units that wait for each other for ever, anywhere in a program: the oldest one is named."""
    host = bench.host(latency=1, bandwidth=2.0)
    for job in bench.jobs.once("waiting", lambda: list(waiting_jobs(bench.jobs, 200))):
        host.run(job)


@scenario(SCENARIOS, "unloaded")
def _unloaded(bench: Bench) -> None:
    """Blocks that are said to be there, and are not, after a program that has used both slots."""
    before = bench.jobs.once("two slots", lambda: late_scales(bench.jobs, "two slots"))
    host = bench.host(latency=4)
    for job in bench.jobs.once("unloaded", lambda: list(unloaded_jobs(bench.jobs))):
        host.run(before)
        host.run(job, counters=True)
        if "without LDW" in job.name:
            host.check("LOOKUPS without weights", host.read_wide("LOOKUPS"), 0)


@scenario(SCENARIOS, "over budget")
def _over_budget(bench: Bench) -> None:
    """Budgets that do not suffice, to the cycle."""
    job, other = bench.jobs.layers("small", 2)
    host = bench.host(latency=30)
    most = _duration(host, job) - 8
    for budget in (1, 7, 20, 33, 64, 100, 127, 128, 129, 160, 200, 255, most):
        if budget > most:
            continue
        host.start_job(job, budget)
        host.wait(f"budget {budget}")
        host.expect_status([Status.ERROR], Cause.BUDGET, None)
        host.acknowledge()
        cycles = host.read_wide("CYCLES")
        host.check("CYCLES near the budget", budget <= cycles <= budget + 4, True)
        host.timing.append(cycles)
        host.run(other)


@scenario(SCENARIOS, "aborts")
def _aborts(bench: Bench) -> None:
    """Soft resets at any time; what was under way does not reach the next program."""
    small = bench.jobs.layers("small", 2)
    for latency, stalls, bandwidth in ((2, 0.0, 1.0), (40, 0.3, 1.0), (9, 0.0, 0.15)):
        host = bench.host(
            latency=latency, stall_probability=stalls, stall_seed=9, bandwidth=bandwidth
        )
        for index, job in enumerate(bench.jobs.layers("aborts", 12)):
            _abort_after(host, job, 1 + (29 if bandwidth == 1 else 97) * index)
            host.check_partly(job)
            host.run(small[index % 2])
    # While results are written, of which a burst has come in part.
    job = bench.jobs.once("full", lambda: full_job(bench.jobs))
    host = bench.host(latency=9, stall_probability=0.5, stall_seed=4)
    cycles = _duration(host, job)
    # With other stalls it may be done sooner.
    for part in range(1, 17):
        host.start_job(job)
        host.sim.step(cycles * part // 20)
        _abort(host)
        state = CoreState(host.read("STATUS"))
        expected = CoreState.of([], Cause.ABORT, state.instruction)
        host.check("STATUS after a soft reset", state, expected)
        # At which instruction depends on the core's timing.
        host.timing.append(state.instruction)
        host.acknowledge()
        host.check_partly(job)
    host.run(job)
    # In each cycle of a program; then at once again, which leaves little time to forget things.
    host = bench.host(latency=1)
    for job in small:
        for after in range(_duration(host, job)):
            host.abort_and_run(job, after)
    # In nests deeper than the next program's.
    host = bench.host(latency=9)
    for index, job in enumerate(bench.jobs.once("nests", lambda: nest_jobs(bench.jobs, 12))):
        _abort_after(host, job, 150 + 31 * index)
        host.run(small[index % 2])


def _duration(host: Host, job: Job) -> int:
    """Run a job, and return the cycles that it takes on the core without faults."""
    host.run(job)
    return host.known(host.read("CYCLES_LO"))


def _abort_after(host: Host, job: Job, cycles: int) -> None:
    """Start a job and stop it; what it had come to is that of the core without faults."""
    host.start_job(job)
    host.sim.step(cycles)
    _abort(host)
    host.same("STATUS after a soft reset", _stopped(host))
    host.acknowledge()


def _abort(host: Host) -> None:
    host.write("CONTROL", RESET)
    host.wait("the end of the soft reset")


def _stopped(host: Host) -> int:
    """STATUS after a soft reset; 0 if the program was done before that came."""
    state = CoreState(host.read("STATUS"))
    return 0 if Status.DONE in state.status else state.word


@scenario(SCENARIOS, "bus errors")
def _bus_errors(bench: Bench) -> None:
    """SLVERR and DECERR at each burst; a good program follows."""
    job = bench.jobs.once("full", lambda: full_job(bench.jobs))
    good = bench.jobs.layers("small", 2)
    host = bench.host(latency=10)
    host.run(job)
    stats = host.sim.stats
    reads, writes = host.known(stats.read_bursts), host.known(stats.write_bursts)
    kinds: list[tuple[FaultKind, Cause, int]] = [
        ("read_slverr", Cause.READ_ERROR, reads),
        ("read_decerr", Cause.READ_ERROR, min(2, reads)),
        ("write_slverr", Cause.WRITE_ERROR, writes),
        ("write_decerr", Cause.WRITE_ERROR, 1),
    ]
    for kind, cause, bursts in kinds:
        for burst in range(bursts):
            host = bench.host(latency=10, fault=(kind, burst))
            host.start_job(job)
            host.wait(f"an error at burst {burst}")
            host.expect_status([Status.ERROR], cause, None)
            host.acknowledge()
            host.run(good[burst % 2])
    # While a program is read that is as long as there are any.
    for late in (False, True):
        name = f"longest, {late=}"
        job = bench.jobs.once(name, lambda late=late: longest_job(bench.jobs, late=late))
        host = bench.host(latency=10)
        host.run(job)
        reads = host.known(host.sim.stats.read_bursts)
        for burst in range(reads):
            host = bench.host(latency=10, fault=("read_slverr", burst))
            host.start_job(job)
            host.wait(f"an error at burst {burst} of a long program")
            host.expect_status([Status.ERROR], Cause.READ_ERROR, None)
            host.acknowledge()


@scenario(SCENARIOS, "resets")
def _resets(bench: Bench) -> None:
    """``aresetn`` at any time."""
    host = bench.host(latency=12)
    for index, job in enumerate(bench.jobs.layers("resets", 6)):
        host.start_job(job)
        host.sim.step(3 + 37 * index)
        host.sim.reset()
        check_reset_values(host, bench)
        host.run(job)
        host.start_job(job)
        host.wait()
        host.sim.reset(2 + index)
        check_reset_values(host, bench)
    # All along a program, on a bus so slow that each burst and each word is caught half way.
    job = bench.jobs.once("full", lambda: full_job(bench.jobs))
    small = bench.jobs.layers("small", 2)
    host = bench.host(latency=9, bandwidth=0.2, stall_probability=0.3, stall_seed=8)
    cycles = _duration(host, job)
    for part in range(1, 33):
        host.start_job(job)
        host.sim.step(cycles * part // 33)
        host.sim.reset()
        host.run(small[part % 2])


@scenario(SCENARIOS, "late")
def _late(bench: Bench) -> None:
    """A bus that answers after the core has called it hung: it can be started again.

    One that answers in time is waited for.
    """
    job = bench.jobs.layers("small", 2)[0]
    bench.host(latency=HUNG_CYCLES - 100).run(job)
    host = bench.host(latency=HUNG_CYCLES + 3000)
    for index in range(3):
        host.start_job(job)
        host.sim.step(20)
        host.expect_status([Status.BUSY])
        host.wait("a timeout")
        host.same("STATUS after a timeout", host.read("STATUS"))
        host.acknowledge()
        host.sim.step(8000)
        host.same("STATUS after the late answer", host.read("STATUS"))
        host.acknowledge()
        if index == 1:
            host.write("CONTROL", RESET)
            host.expect_status([])


@scenario(SCENARIOS, "hangs")
def _hangs(bench: Bench) -> None:
    """A bus that does not answer: TIMEOUT; only ``aresetn`` helps."""
    job = bench.jobs.once("full", lambda: full_job(bench.jobs))
    hangs: list[tuple[FaultKind, int, bool]] = [
        ("read_hang", 0, False),
        ("read_hang", 3, False),
        ("read_address_hang", 1, False),
        ("write_hang", 0, False),
        ("write_address_hang", 0, False),
        ("write_data_hang", 0, False),
        ("read_hang", 2, True),
    ]
    host = bench.host(latency=5)
    good = _duration(host, job)
    for kind, burst, aborted in hangs:
        host = bench.host(latency=5, fault=(kind, burst))
        host.start_job(job)
        if aborted:
            host.sim.step(400)
            host.write("CONTROL", RESET)
            host.sim.step(50)
            host.same("STATUS while draining", host.read("STATUS"))
        host.timing.append(host.wait("a timeout"))
        host.same("the silence before the timeout", host.silence(host.sim.cycle))
        if not aborted:
            silent = host.read_wide("CYCLES") - HUNG_CYCLES
            host.check(
                "cycles before the bus is silent are of the program", 0 < silent < good, True
            )
        host.same("STATUS after a timeout", host.read("STATUS"))
        host.acknowledge()
        host.write("CONTROL", RESET)
        host.check("irq after all", host.sim.run_until_irq(3000), False)
        host.same("STATUS of a core that hangs", host.read("STATUS"))
        host.refused("starting a core that hangs", lambda host=host: host.write("CONTROL", 1))
        host.sim.reset()
        check_reset_values(host, bench)
