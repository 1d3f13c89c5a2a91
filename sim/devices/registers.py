"""What the host writes into the core's registers before a start, and what it reads after it.

Only values: who moves them, one by one or side by side, blocking or not, is the caller's matter.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lutcore.hw.contract.csr import Control, Region, Status
from lutcore.hw.contract.isa import Cause
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.program.memory import MemoryMap
from lutcore.sw.program.program import Program

__all__ = ["RESET", "START", "CoreState", "Counters", "Setup", "UnitCounters"]

#: CONTROL: start the program, and raise the interrupt when it ends or stops.
START = 1 << Control.START | 1 << Control.IRQ_ENABLE
#: CONTROL: stop the program, and raise the interrupt when the bus is silent.
RESET = 1 << Control.RESET | 1 << Control.IRQ_ENABLE


@dataclass(frozen=True)
class Setup:
    """What the host tells a core about a program.

    Attributes
    ----------
    regions
        Byte address and size in bytes of each region that the core may access.
    length
        Instructions in the program.
    expect
        Fingerprint of the core that the program is for.
    budget
        Cycles after which the core stops itself; 0: no limit.
    """

    regions: Mapping[Region, tuple[int, int]]
    length: int
    expect: int
    budget: int = 0

    @classmethod
    def of(
        cls,
        program: Program,
        layout: MemoryMap,
        *,
        bases: Mapping[Region, int] | None = None,
        sizes: Mapping[Region, int] | None = None,
        length: int | None = None,
        expect: int | None = None,
        budget: int = 0,
    ) -> "Setup":
        """What a program needs that lies in memory by `layout`, but for what is given."""
        regions = {
            region: ((bases or {}).get(region, base), (sizes or {}).get(region, size))
            for region, (base, size) in layout.regions.items()
        }
        return cls(
            regions,
            len(program.instructions) if length is None else length,
            program.fingerprint if expect is None else expect,
            budget,
        )

    def registers(self) -> dict[str, int]:
        """Values of 32 bits by the names of the registers to write before CONTROL.

        The first one clears the interrupt of an earlier program.
        """
        registers = {"IRQ": 1, "PROGRAM_LENGTH": self.length}
        wide = {"EXPECT": self.expect, "BUDGET": self.budget}
        for region, (base, size) in self.regions.items():
            wide[f"{region.name}_BASE"] = base
            registers[f"{region.name}_SIZE"] = size
        for name, value in wide.items():
            registers |= {f"{name}_LO": value & 0xFFFF_FFFF, f"{name}_HI": value >> 32}
        return registers


@dataclass(frozen=True)
class CoreState:
    """STATUS, decoded, and CYCLES.

    Attributes
    ----------
    word
        STATUS as it was read.
    cycles
        From start to done; 0 where nobody counts them.
    """

    word: int
    cycles: int = 0

    @classmethod
    def of(
        cls, bits: Iterable[Status], cause: Cause = Cause.NONE, instruction: int = 0
    ) -> "CoreState":
        """The state in which these bits of STATUS are set."""
        return cls(sum(1 << bit for bit in bits) | cause << 8 | instruction << 16)

    @property
    def status(self) -> frozenset[Status]:
        """The bits that are set."""
        return frozenset(bit for bit in Status if self.word >> bit & 1)

    @property
    def stop(self) -> tuple[int, int]:
        """Numbers of the cause, which a broken core may have made up, and of the instruction."""
        return self.word >> 8 & 0xFF, self.word >> 16

    @property
    def cause(self) -> Cause:
        """Why the program stopped; NONE if it did not.

        Raises
        ------
        LutcoreError
            If the number has no name.
        """
        number, _ = self.stop
        if number not in set(Cause):
            raise LutcoreError(f"STATUS is {self.word:#010x}: no cause has the number {number}")
        return Cause(number)

    @property
    def instruction(self) -> int:
        """Number of the instruction that it stopped at."""
        return self.stop[1]

    @property
    def good(self) -> bool:
        """The program has ended without an error."""
        return self.word & 0xFFFF == 1 << Status.DONE

    def __str__(self) -> str:
        bits = ", ".join(sorted(bit.name for bit in self.status)) or "no status bits"
        number, _ = self.stop
        cause = Cause(number).name if number in set(Cause) else str(number)
        after = f", after {self.cycles} cycles" if self.cycles else ""
        return f"{bits}, cause {cause}, instruction {self.instruction}{after}"


@dataclass(frozen=True)
class UnitCounters:
    """Cycles in which one unit worked, waited for input, waited for room or a slot."""

    busy: int
    wait_in: int
    wait_out: int


@dataclass(frozen=True)
class Counters:
    """The core's counters after a run.

    Attributes
    ----------
    cycles
        From start to done.
    lookups
        Array steps: one plane of one step of one tile.
    read_beats, write_beats
        Beats on the bus.
    units
        By unit name, in the order of `COUNTER_UNITS`.
    """

    cycles: int
    lookups: int
    read_beats: int
    write_beats: int
    units: Mapping[str, UnitCounters]
