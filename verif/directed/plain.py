"""Scenarios with programs that end well, and of the registers."""

import dataclasses

import numpy as np

from lutcore.hw.contract.csr import CSRS, ID_VALUE, Control, Status
from lutcore.hw.contract.isa import ISA_VERSION
from lutcore.hw.control.csr_file import MAP_VERSION
from lutcore.sw.layers.layer import Kind, QuantLayer
from lutcore.verif.directed.host import Host
from lutcore.verif.directed.jobs import Job, layer_job
from lutcore.verif.directed.scenario import Bench, Scenario, every, scenario
from lutcore.verif.kit.layers import Case

__all__ = ["SCENARIOS"]

SCENARIOS: list[Scenario] = []


@scenario(SCENARIOS, "layers")
def _layers(bench: Bench) -> None:
    """Random layers one after the other on a fast memory."""
    host = bench.host(latency=3, bandwidth=2.0)
    for job, counters in every(bench.jobs.layers("layers", 40), 5):
        host.run(job, counters=counters)


@scenario(SCENARIOS, "stalls")
def _stalls(bench: Bench) -> None:
    """Random layers while every channel stalls at random."""
    for index, (latency, probability) in enumerate([(1, 0.5), (20, 0.2), (60, 0.05)]):
        host = bench.host(
            latency=latency, bandwidth=0.7, stall_probability=probability, stall_seed=index + 1
        )
        for job, counters in every(bench.jobs.layers(f"stalls {index}", 10), 5):
            host.run(job, counters=counters)


@scenario(SCENARIOS, "waits")
def _waits(bench: Bench) -> None:
    """Every unit waits for long, and the counters say how long."""
    slow = {"latency": 3, "bandwidth": 0.05}
    for behaviour in (slow, {"latency": 1, "stall_probability": 0.9, "stall_seed": 8}):
        host = bench.host(**behaviour)
        for job in bench.jobs.layers("waits", 10):
            host.run(job, counters=True)
    host = bench.host(latency=1, bandwidth=2.0)
    for job in bench.jobs.layers("layers", 40):
        host.run(job, counters=True)


@scenario(SCENARIOS, "again")
def _again(bench: Bench) -> None:
    """Programs that are started again in the moment in which they end."""
    host = bench.host(latency=1, bandwidth=2.0)
    for job in bench.jobs.layers("layers", 40)[:12]:
        host.run_twice(job)


@scenario(SCENARIOS, "registers")
def _registers(bench: Bench) -> None:
    """Every register: value after reset, access, all its bits and bytes; every other address."""
    host = bench.host(stall_probability=0.3, stall_seed=5)
    check_reset_values(host, bench)
    source = bench.jobs.random("registers")
    writable = [csr.name for csr in CSRS.values() if csr.access == "rw" and csr.name != "CONTROL"]
    for values in ("random", "inverse"):
        model = {}
        for index, name in enumerate(writable):
            word = bench.jobs.random(f"register {index}").getrandbits(32)
            model[name] = word if values == "random" else word ^ 0xFFFF_FFFF
            host.write(name, model[name])
        for name, value in model.items():
            host.check(name, host.read(name), value)
    for name in writable:
        strobe, value = source.randrange(1, 15), source.getrandbits(32)
        mask = sum(0xFF << 8 * lane for lane in range(4) if strobe >> lane & 1)
        model[name] = (model[name] & ~mask) | (value & mask)
        host.write(name, value, strobe)
    for name, value in model.items():
        host.check(f"{name} after bytes of it were written", host.read(name), value)
    for csr in CSRS.values():
        if csr.access == "ro":
            host.refused(f"writing {csr.name}", lambda name=csr.name: host.write(name, 0))
    known = {csr.offset for csr in CSRS.values()}
    for offset in range(0, 4096, 4):
        if offset not in known:
            host.refused(f"reading {offset:#x}", lambda at=offset: host.sim.read_csr(at))
            if offset % 64 == 16 or offset & (offset - 1) == 0:
                host.refused(f"writing {offset:#x}", lambda at=offset: host.sim.write_csr(at, 0))
    for name, value in model.items():
        host.check(f"{name} in the end", host.read(name), value)
    # A reset clears each of their bytes.
    for name in writable:
        host.write(name, 0xFFFF_FFFF)
    host.sim.reset()
    check_reset_values(host, bench)


def check_reset_values(host: Host, bench: Bench) -> None:
    """What every register reads after a reset of the whole core."""
    fingerprint = bench.config.fingerprint
    values = {
        "ID": ID_VALUE,
        "VERSION": ISA_VERSION | MAP_VERSION << 16,
        "FINGERPRINT_LO": fingerprint & 0xFFFF_FFFF,
        "FINGERPRINT_HI": fingerprint >> 32,
    }
    for name in CSRS:
        host.check(f"{name} after reset", host.read(name), values.get(name, 0))
    host.check("irq after reset", host.sim.run_until_irq(1), False)


@scenario(SCENARIOS, "ahead")
def _ahead(bench: Bench) -> None:
    """Registers are written one after the other, and others read meanwhile, as fast as it goes."""
    writable = [csr.name for csr in CSRS.values() if csr.access == "rw" and csr.name != "CONTROL"]
    for round_, stalls in enumerate((0.0, 0.0, 0.2, 0.5)):
        host = bench.host(stall_probability=stalls, stall_seed=round_)
        source = bench.jobs.random(f"ahead {round_}")
        model: dict[str, int] = {}
        for _ in range(6):
            names = source.sample(writable, source.randint(1, 5)) * 2
            source.shuffle(names)
            writes = [(name, source.getrandbits(32)) for name in names]
            model.update(writes)
            others = [name for name in writable if name in model and name not in names]
            others = [*source.sample(others, min(3, len(others))), "ID", "STATUS", "CYCLES_LO"]
            source.shuffle(others)
            values = host.sim.access_csrs(
                [(CSRS[name].offset, value, 0xF) for name, value in writes],
                [CSRS[name].offset for name in others],
            )
            fixed = model | {"ID": ID_VALUE, "STATUS": 0, "CYCLES_LO": 0}
            for name, value in zip(others, values, strict=True):
                host.check(f"{name} while others are written", value, fixed[name])
        for name, value in model.items():
            host.check(f"{name} in the end", host.read(name), value)


@scenario(SCENARIOS, "interrupt")
def _interrupt(bench: Bench) -> None:
    """The interrupt is enabled, masked, acknowledged."""
    job, other = bench.jobs.layers("small", 2)
    host = bench.host(latency=5)
    enable = 1 << Control.IRQ_ENABLE
    host.place(job)
    host.set_up_job(job)
    host.write("CONTROL", 1 << Control.START)
    host.check("CONTROL while interrupts are off", host.read("CONTROL"), 0)
    for _ in range(200):
        host.check("irq while it is masked", host.sim.run_until_irq(50), False)
        if not host.read("STATUS") >> Status.BUSY & 1:
            break
    host.expect_status([Status.DONE])
    host.check("IRQ", host.read("IRQ"), 1)
    host.write("IRQ", 0)
    host.check("IRQ after 0 was written", host.read("IRQ"), 1)
    host.write("IRQ", 1, 0xE)
    host.check("IRQ without the strobe", host.read("IRQ"), 1)
    host.write("CONTROL", enable, 0xE)
    host.check("CONTROL without the strobe", host.read("CONTROL"), 0)
    host.check("irq before it is enabled", host.sim.run_until_irq(4), False)
    host.write("CONTROL", enable)
    host.check("irq when enabled", host.sim.run_until_irq(1), True)
    host.check("CONTROL", host.read("CONTROL"), enable)
    host.check_memory(job)
    host.acknowledge()
    host.write("CONTROL", 1 << Control.START | enable, 0xE)
    host.sim.step(20)
    host.expect_status([Status.DONE])
    host.run(other)
    host.check("irq of a core at rest", host.sim.run_until_irq(2000), False)


@scenario(SCENARIOS, "busy")
def _busy(bench: Bench) -> None:
    """Registers while a program runs: refused, and without effect."""
    job = bench.jobs.layers("small", 2)[0]
    host = bench.host(latency=2000)
    host.start_job(job)
    host.sim.step(20)
    host.expect_status([Status.BUSY])
    writable = [csr.name for csr in CSRS.values() if csr.access == "rw" and csr.name != "CONTROL"]
    before = {name: host.read(name) for name in writable}
    for name in writable:
        value = before[name] ^ 0xFFFF_FFFF
        host.refused(f"writing {name} to a busy core", lambda n=name, v=value: host.write(n, v))
    for name in writable:
        host.check(f"{name} of a busy core", host.read(name), before[name])
    host.refused("starting a busy core", lambda: host.write("CONTROL", 5))
    host.write("CONTROL", 4)
    host.write("IRQ", 1)
    host.expect_status([Status.BUSY])
    host.wait()
    host.finish(job)


@scenario(SCENARIOS, "budget")
def _budget(bench: Bench) -> None:
    """Budgets that suffice: none, and one for each upper bit."""
    host = bench.host(latency=3)
    for job in bench.jobs.layers("small", 2):
        for budget in (0, 1 << 14, 1 << 17, 1 << 31, 1 << 32, 1 << 33, 1 << 40, 1 << 47, 1 << 63):
            host.run(job, budget)


@scenario(SCENARIOS, "large")
def _large(bench: Bench) -> None:
    """Layers of many steps, tiles and row tiles; loads that run ahead of a slow memory."""
    host = bench.host(latency=10)
    for job in bench.jobs.once("large", lambda: _large_jobs(bench)):
        host.run(job, counters=True)
    host = bench.host(latency=30, bandwidth=0.3)
    lanes = bench.config.lanes
    for job in bench.jobs.layers(
        "many blocks",
        10,
        lambda source: (
            source.randint(1, 2 * lanes),
            source.randint(100, 400),
            source.choice([10, 16, 33, 64]),
        ),
    ):
        host.run(job)


def _large_jobs(bench: Bench) -> list[Job]:
    config, numbers = bench.config, bench.jobs.numbers("large")
    limits = np.iinfo(config.activation)
    jobs = []
    most, columns = config.planes, config.weight_words * config.step // config.tiles
    shapes: tuple[tuple[int, int, int, int, Kind, int, bool], ...] = (
        (13 * config.lanes - 3, 64, config.rows, 32, "affine", most, False),
        (2 * config.lanes, 701, config.rows + 1, 64, "affine", most, True),
        (3 * config.lanes + 1, 96, 8 * config.rows + 1, 20, "planes", most, False),
        (config.lanes, 300, 1, 300, "planes", most, True),
        # The least work per row tile: TABLE runs ahead of the units behind it.
        (config.lanes, config.step, 40 * config.rows, config.step, "affine", most, False),
        # Slots of the weights are full to the last word.
        (
            config.tiles * config.lanes,
            2 * columns,
            config.rows,
            min(24, columns),
            "affine",
            1,
            False,
        ),
    )
    for n, k, rows, group_size, kind, bits, wide in shapes:
        groups = -(-k // group_size)
        if kind == "affine":
            codes = numbers.integers(0, 1 << bits, (n, k)).astype(np.uint8)
            scales = numbers.standard_normal((n, groups))
        else:
            codes = numbers.choice(np.array([-1, 1], np.int8), (bits, n, k))
            scales = numbers.standard_normal((n, groups, bits))
        layer = QuantLayer(
            name=f"{kind} {n} x {k} of {bits} bits",
            kind=kind,
            bits=bits,
            codes=codes,
            group_size=group_size,
            scales=scales.astype(np.float32 if wide else np.float16),
            offsets=numbers.standard_normal((n, groups)).astype(np.float16),
            bias=numbers.standard_normal(n).astype(np.float32),
            checkpoint_bytes=1,
        )
        if wide:
            # A wide range that 40 bits hold.
            shape = layer.scales.shape
            spread = np.ldexp(1 + numbers.random(shape), numbers.integers(-12, 3, shape))
            layer = dataclasses.replace(layer, scales=spread.astype(np.float32))
        q = numbers.integers(limits.min, limits.max, (rows, k), endpoint=True)
        case = Case(
            layer,
            q.astype(config.activation),
            numbers.uniform(0.01, 2, rows).astype(np.float32),
            frozenset(),
        )
        jobs.append(layer_job(case, config, bench.jobs.random(layer.name), layer.name))
    return jobs
