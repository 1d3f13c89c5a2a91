"""What directed scenarios run: programs with their data, and what has to come out.

A job is laid out in a memory of all 40 bits of address, each region at a place of its own, so that
every address bit counts. Expected results are the golden model's; for programs that no compiler
makes, cause, instruction and results are those of the instruction-set simulator.
"""

import mmap
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import INSTRUCTION_BITS, Cause, words_to_bytes
from lutcore.sim.golden import golden
from lutcore.sim.machine.base import Order
from lutcore.sim.machine.iss import Iss, IssCounts
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.memory import MemoryMap, load
from lutcore.sw.program.program import Program
from lutcore.verif.kit.layers import Case
from lutcore.verif.programs.run import outcomes_of

__all__ = [
    "GUARD",
    "Job",
    "altered_job",
    "another_program",
    "ending_well",
    "layer_job",
    "sparse_memory",
]

#: Bytes before and behind each region that must stay as they are.
GUARD = 256
_ADDRESS_BITS = 40
#: Linux's number; Python's module has no name for it before 3.13.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)


def sparse_memory() -> np.ndarray:
    """A memory that has every address of the bus; only pages in use take room."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
    return np.frombuffer(mmap.mmap(-1, 1 << _ADDRESS_BITS, flags=flags), np.uint8)


@dataclass(frozen=True)
class Job:
    """A program in memory, and how it ends.

    Attributes
    ----------
    name
        For messages.
    length
        Instructions, as told to the core.
    expect
        Fingerprint, as told to the core.
    regions
        Base and size.
    before
        Content of each region, and of `GUARD` bytes around it.
    after
        The same at the end; without RESULTS if that depends on the moment of a stop.
    cause, instruction
        In STATUS at the end.
    others
        Further causes and instructions that may be there, if it depends on which unit is faster.
    undefined
        Why the results are not defined, if they are not.
    counts
        Lookups and beats of a program that ends well.
    written
        Bytes of results, strobes counted.
    offsets
        Of some regions, how many bytes before `regions` says they begin for the core.
    spare
        Of some regions, how many bytes they are larger for the core.
    """

    name: str
    length: int
    expect: int
    regions: Mapping[Region, tuple[int, int]]
    before: Mapping[Region, np.ndarray]
    after: Mapping[Region, np.ndarray]
    cause: Cause = Cause.NONE
    instruction: int = 0
    others: frozenset[tuple[Cause, int]] = frozenset()
    undefined: str = ""
    counts: IssCounts = field(default_factory=IssCounts)
    written: int = 0
    offsets: Mapping[Region, int] = field(default_factory=dict)
    spare: Mapping[Region, int] = field(default_factory=dict)

    @cached_property
    def good(self) -> bool:
        """Whether the program reaches its end."""
        return self.cause == Cause.NONE


def layer_job(case: Case, config: CoreConfig, source: random.Random, name: str) -> Job:
    """A compiled layer, with the golden model's results."""
    program = compile_layer(case.layer, config, case.rows)
    x = program.pack_x(case.q, case.scale)
    layout = MemoryMap.for_program(program)
    memory = _noise(source, layout.size)
    load(memory, layout, program, x)
    before = memory.copy()
    result = Iss(config, memory, layout.regions).run(len(program.instructions))
    assert result.cause == Cause.NONE, result.message
    base, _ = layout.regions[Region.RESULTS]
    rows = memory[base : base + program.y_bytes].view("<f4").reshape(program.rows, -1)
    expected = golden(case.layer, case.q, case.scale)
    assert (rows[:, : program.n].view(np.uint32) == expected.view(np.uint32)).all(), "ISS != golden"
    return _placed(
        source,
        layout,
        before,
        memory,
        name=name,
        length=len(program.instructions),
        expect=config.fingerprint,
        counts=result.counts,
        written=4 * expected.size,
    )


def altered_job(
    program: Program,
    x: bytes,
    source: random.Random,
    name: str,
    *,
    words: Sequence[int] | None = None,
    sizes: Mapping[Region, int] | None = None,
    length: int | None = None,
    expect: int | None = None,
) -> Job:
    """A program with something changed: instructions, sizes of regions, length or fingerprint.

    How it ends is for the instruction-set simulator to say.
    """
    config = program.config
    layout = MemoryMap.for_program(program)
    memory = _noise(source, layout.size)
    load(memory, layout, program, x)
    if words is not None:
        # The program's own length would cut other instructions off.
        assert length is not None or len(words) == len(program.instructions)
        base, _ = layout.regions[Region.PROGRAM]
        content = words_to_bytes(words)
        memory[base : base + len(content)] = np.frombuffer(content, np.uint8)
    for region, size in (sizes or {}).items():
        layout.regions[region] = layout.regions[region][0], size
    before = memory.copy()
    length = len(program.instructions) if length is None else length
    expect = config.fingerprint if expect is None else expect
    result = Iss(config, memory, layout.regions).run(length, expect)
    good = result.cause == Cause.NONE
    others: frozenset[tuple[Cause, int]] = frozenset()
    for order, ahead in product(Order, (False, True)) if not good else ():
        iss = Iss(config, before.copy(), layout.regions)
        others |= outcomes_of(iss.run(length, expect, order=order, ahead=ahead))
    return _placed(
        source,
        layout,
        before,
        memory,
        name=name,
        length=length,
        expect=expect,
        cause=result.cause,
        instruction=0 if good else result.instruction,
        others=others - {(result.cause, result.instruction)},
        undefined=result.undefined,
        counts=result.counts,
        written=-1,
    )


def another_program(
    program: Program, x: bytes, source: random.Random, name: str, words: Sequence[int]
) -> Job:
    """Other instructions, of any number that fits the region, with the same data."""
    beat = program.config.beat_bytes
    # The core reads it in whole beats.
    sizes = {Region.PROGRAM: beat * ceil_div(INSTRUCTION_BITS // 8 * len(words), beat)}
    return altered_job(program, x, source, name, words=words, sizes=sizes, length=len(words))


def ending_well(job: Job) -> Job:
    """The job, after a check that the simulator lets it end well."""
    assert job.good, f"{job.name} must end well, not with {job.cause!r}"
    return job


def _noise(source: random.Random, size: int) -> np.ndarray:
    return np.frombuffer(bytearray(source.randbytes(size)), np.uint8)


def _placed(
    source: random.Random,
    layout: MemoryMap,
    before: np.ndarray,
    after: np.ndarray,
    *,
    cause: Cause = Cause.NONE,
    **others,
) -> Job:
    """Move the regions to random places of the whole address space."""
    regions: dict[Region, tuple[int, int]] = {}
    contents: list[dict[Region, np.ndarray]] = [{}, {}]
    for region, (base, size) in layout.regions.items():
        # Each region has a quarter of the address space, so that they cannot overlap.
        slices = len(layout.regions)
        room = (1 << _ADDRESS_BITS) // slices
        start = source.randrange(GUARD, room - size - GUARD) & ~63
        regions[region] = (room * region + start, size)
        guards = [_noise(source, GUARD) for _ in range(2)]
        for content, memory in zip(contents, (before, after), strict=True):
            content[region] = np.concatenate([guards[0], memory[base : base + size], guards[1]])
    if cause != Cause.NONE:
        # Which results are written before a stop depends on the core's timing.
        contents[1].pop(Region.RESULTS)
    return Job(regions=regions, before=contents[0], after=contents[1], cause=cause, **others)
