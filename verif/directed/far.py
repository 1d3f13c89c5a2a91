"""Layers at the ends: of regions of 4 GiB, and of the ranges of numbers."""

from dataclasses import replace

import numpy as np

from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import INSTRUCTION_BITS, Opcode, decode, encode, words_to_bytes
from lutcore.verif.directed.jobs import GUARD, Job, layer_job
from lutcore.verif.directed.scenario import Bench, Jobs, Scenario, scenario
from lutcore.verif.directed.slots import late_scales
from lutcore.verif.kit.extremes import extreme_cases

__all__ = ["SCENARIOS", "far"]

SCENARIOS: list[Scenario] = []

_REGIONS = {
    Opcode.LDW: Region.WEIGHTS,
    Opcode.LDX: Region.ACTIVATIONS,
    Opcode.STY: Region.RESULTS,
}


@scenario(SCENARIOS, "far")
def _far(bench: Bench) -> None:
    """Layers in regions of up to 4 GiB, at the end of them: every bit of an offset counts."""
    for index, behaviour in enumerate(({}, {"stall_probability": 0.4, "stall_seed": 3})):
        host = bench.host(latency=8, **behaviour)
        for job in bench.jobs.once(
            f"far {index}", lambda n=index: _jobs(bench.jobs, f"far {n}", 8, 11 * n)
        ):
            host.run(job)


def _jobs(jobs: Jobs, name: str, count: int, first: int) -> list[Job]:
    source = jobs.random(f"{name} offsets")
    found = []
    # Loops of compiled layers have `auto` addresses; those of `late_scales` have strides.
    strided = [late_scales(jobs, f"{name} {index}") for index in range(count)]
    for index, job in enumerate([*jobs.layers(name, count), *strided], first):
        offsets = {}
        for region in _REGIONS.values():
            base, size = job.regions[region]
            # A random multiple of 64 with `bits` bits, each width as likely as another.
            bits = source.randint(max(14, size.bit_length() + 1), 32)
            most = min(base, (1 << bits) - 1 - size)
            offsets[region] = source.randint(most // 2, most) & ~63
        moved = far(job, offsets)
        # The size of the program's region is a power of two, another one for each job.
        _, size = job.regions[Region.PROGRAM]
        spare = (1 << 10 + index % 22) - size
        found.append(replace(moved, spare={Region.PROGRAM: max(0, spare)}))
    return found


def far(job: Job, offsets: dict[Region, int]) -> Job:
    """A job whose data stay where they are, while its regions begin at lower addresses.

    Parameters
    ----------
    job
        Of a compiled program.
    offsets
        Bytes by which LDW, LDX and STY have to be told to begin further on, multiples of 64.
    """
    content = job.before[Region.PROGRAM].copy()
    size = INSTRUCTION_BITS // 8
    for place in range(GUARD, GUARD + size * job.length, size):
        word = int.from_bytes(content[place : place + size].tobytes(), "little")
        instruction, fields = decode(word)
        region = _REGIONS.get(instruction.opcode)
        if region is not None:
            fields["base"] += offsets[region]
            moved = words_to_bytes([encode(instruction.opcode, **fields)])
            content[place : place + size] = np.frombuffer(moved, np.uint8)
    changed = {Region.PROGRAM: content}
    return replace(
        job, before={**job.before, **changed}, after={**job.after, **changed}, offsets=offsets
    )


@scenario(SCENARIOS, "extremes")
def _extremes(bench: Bench) -> None:
    """Accumulators, sums and results at the ends of their ranges."""
    host = bench.host(latency=4)
    for job in bench.jobs.once("extremes", lambda: _extreme_jobs(bench.jobs)):
        host.run(job)


def _extreme_jobs(jobs: Jobs) -> list[Job]:
    source, numbers = jobs.random("extremes"), jobs.numbers("extremes")
    return [
        layer_job(case, jobs.config, source, f"extreme {index}")
        for index, case in enumerate(extreme_cases(source, numbers, jobs.config))
    ]
