"""The core with a bus that goes wrong: the program that suffers, and what has to hold after it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import Region, Status
from lutcore.hw.contract.isa import INSTRUCTION_BITS, Cause, Opcode
from lutcore.sim.devices.registers import CoreState, Setup
from lutcore.sim.golden import golden
from lutcore.sim.machine.iss import Iss, IssResult
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.memory import MemoryMap
from lutcore.sw.program.program import Program
from lutcore.verif.core.system import CoreBench
from lutcore.verif.faults.memory import FaultReadPort, Faults, FaultWritePort
from lutcore.verif.faults.programs import find
from lutcore.verif.kit import env
from lutcore.verif.kit.layers import Case, draw_case
from lutcore.verif.kit.stalls import Stalls
from lutcore.verif.programs.case import Case as ProgramCase
from lutcore.verif.programs.run import Expected, compare

__all__ = ["FaultBench", "Job"]


@dataclass(frozen=True)
class Job:
    """A program with its activations, and what the golden model says of them."""

    program: Program
    q: np.ndarray
    scale: np.ndarray
    expected: np.ndarray

    @classmethod
    def of(cls, case: Case, config: CoreConfig) -> "Job":
        """Compile a layer."""
        expected = golden(case.layer, case.q, case.scale)
        return cls(compile_layer(case.layer, config, case.rows), case.q, case.scale, expected)


def _victim(numbers: np.random.Generator, config: CoreConfig) -> Case:
    """A layer that uses every unit, with several bursts in each direction on a narrow bus."""
    bits = min(2, config.planes)
    n, k, group_size = 2 * config.lanes + 3, max(20, 2 * config.step + 1), 8
    shape = (n, -(-k // group_size))
    limits = np.iinfo(config.activation)
    rows = config.rows + 1
    layer = QuantLayer(
        name="victim",
        kind="affine",
        bits=bits,
        codes=numbers.integers(0, 1 << bits, (n, k)).astype(np.uint8),
        group_size=group_size,
        scales=numbers.normal(size=shape).astype(np.float16),
        offsets=numbers.normal(size=shape).astype(np.float16),
        bias=numbers.normal(size=n).astype(np.float32),
        checkpoint_bytes=1,
    )
    q = numbers.integers(limits.min, limits.max, (rows, k), endpoint=True)
    scale = numbers.uniform(0.01, 2, rows).astype(np.float32)
    return Case(layer, q.astype(config.activation), scale, frozenset())


@dataclass(frozen=True)
class _Placed(ProgramCase):
    """A program in a memory that is given."""

    content: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8), compare=False)

    def memory(self) -> np.ndarray:
        return self.content.copy()


class FaultBench(CoreBench):
    """A core, on which one program goes wrong and the next one has to be right.

    Attributes
    ----------
    victim
        The program that goes wrong.
    words
        Instructions of what was prepared, to be spoiled and placed.
    reads, writes
        Address and beats of the victim's bursts, after :meth:`survey`.
    """

    read_port: FaultReadPort
    write_port: FaultWritePort

    def __init__(self, dut: Any, name: str, *, monitor: bool = True) -> None:
        config = env.settings().config
        super().__init__(
            dut,
            config,
            name,
            read_port=FaultReadPort,
            write_port=FaultWritePort,
            monitor=monitor,
        )
        self.victim = Job.of(_victim(self.numbers, config), config)
        self.words: list[int] = []
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []
        self._home: MemoryMap | None = None
        self._recoveries = 0

    async def open(self, latency: int = 12) -> None:
        """Reset, and choose how fast the memory is."""
        self.behave(Stalls(latency=(latency, latency)))
        await self.reset()

    def prepare(self, faults: Faults | None = None, job: Job | None = None) -> None:
        """Place a program, by default the victim; say what is to go wrong."""
        job = job or self.victim
        # The victim stays where it is, so that faults can be told by their address.
        at_home = job is self.victim
        self.place(job.program, job.q, job.scale, self._home if at_home else None)
        if at_home:
            self._home = self.layout
        self.words = list(job.program.instructions)
        for port in (self.read_port, self.write_port):
            port.begin(faults or Faults())

    async def survey(self) -> CoreState:
        """Run the victim undisturbed: where its bursts are, and how long it takes."""
        self.prepare()
        state = await self.run_good(self.victim.expected)
        self.reads, self.writes = list(self.read_port.bursts), list(self.write_port.bursts)
        return state

    def bursts_in(self, region: Region) -> list[tuple[int, int]]:
        """Address and beats of the victim's bursts in a region, as surveyed."""
        bursts = self.writes if region == Region.RESULTS else self.reads
        return [burst for burst in bursts if self.region_of(burst[0]) == region]

    @property
    def last_result(self) -> int:
        """Bytes of the result region up to the victim's last result."""
        program = self.victim.program
        return (program.rows - 1) * program.row_stride + 4 * program.n

    def region_of(self, address: int) -> Region | None:
        """The region that an address is in."""
        for region, (base, size) in self.layout.regions.items():
            if base <= address < base + size:
                return region
        return None

    def user_of(self, region: Region | None) -> int:
        """Number of the victim's instruction that reads or writes a region other than its own."""
        users: dict[Region | None, Opcode] = {
            Region.WEIGHTS: Opcode.LDW,
            Region.ACTIVATIONS: Opcode.LDX,
            Region.RESULTS: Opcode.STY,
        }
        return find(self.words, users[region])

    def simulate(self, **settings: Any) -> IssResult:
        """What the instruction-set simulator makes of the memory as it is; the settings are those
        of :meth:`start`."""
        setup = Setup.of(self.program, self.layout, **settings)
        core = Iss(self.config, self.memory.content.copy(), self._within_memory(setup.regions))
        return core.run(setup.length, setup.expect)

    def _within_memory(
        self, regions: Mapping[Region, tuple[int, int]]
    ) -> dict[Region, tuple[int, int]]:
        """Regions with bases counted from the first byte of the memory."""
        return {r: (base - self.memory.base, size) for r, (base, size) in regions.items()}

    @property
    def case(self) -> ProgramCase:
        """What was placed, for the instruction-set simulator alone."""
        return _Placed(
            self.config,
            tuple(self.words),
            self._within_memory(self.layout.regions),
            seed=0,
            content=self.memory.content.copy(),
        )

    def compare(self, what: str, case: ProgramCase, expected: Expected, state: CoreState) -> None:
        """The program ended, or stopped, in a way in which the model can.

        Its results are not compared: the data in memory are those of the unchanged program. For
        example, activations that lie behind the end of a run of the changed one are not zero.
        """
        expected = replace(expected, undefined="results of data for another program")
        wrong = compare(case, expected, state, self.memory.content)
        if wrong:
            raise env.Mismatch(f"cycle {env.cycle_of()}: {what}: {wrong}")
        self.check_quiet()
        self.check_window(what)

    # Channels --------------------------------------------------------------------------------

    def transfers(self, channel: str) -> int:
        """How many transfers the victim makes on a channel, as surveyed."""
        bursts = self.reads if channel in ("AR", "R") else self.writes
        return sum(beats for _, beats in bursts) if channel in ("R", "W") else len(bursts)

    async def until_refused(self, channel: str, what: str, limit: int = 20_000) -> None:
        """Wait until the core wants something of a channel that has stopped."""
        port = self.read_port if channel in ("AR", "R") else self.write_port
        for _ in range(limit):
            if port.refuses(channel):
                return
            await self.ticks(1)
        raise env.Mismatch(f"cycle {env.cycle_of()}: {what}: the core never comes to it")

    def blamed_for(self, channel: str) -> int:
        """Number of the victim's instruction whose burst a channel that has stopped holds back."""
        if channel in ("AW", "W", "B"):
            return self.user_of(Region.RESULTS)
        offered = self.dut.m_axi_araddr.value if channel == "AR" else self.read_port.address
        address = int(offered)
        region = self.region_of(address)
        if region == Region.PROGRAM:
            return (address - self.base(region)) * 8 // INSTRUCTION_BITS
        return self.user_of(region)

    def resume(self) -> None:
        """All channels go on."""
        self.read_port.resume()
        self.write_port.resume()

    # Verdicts --------------------------------------------------------------------------------

    def check_stop(
        self,
        what: str,
        state: CoreState,
        cause: Cause,
        instruction: int | None = None,
        *,
        opened: int | None = None,
    ) -> None:
        """The status names the cause and the instruction; nothing was written outside.

        Parameters
        ----------
        what
            The scenario, for messages.
        state
            After the interrupt.
        cause, instruction
            What is to be said; None: any instruction of the program.
        opened
            Bytes of the result region that the core may write.
        """
        env.expect(f"{what}: cause", state.cause.name, cause.name)
        self.expect_status(
            f"{what}: STATUS", state, set() if cause == Cause.ABORT else {Status.ERROR}
        )
        if instruction is None:
            known = state.instruction < max(1, len(self.words))
            env.expect(f"{what}: instruction {state.instruction} is in the program", known, True)
        else:
            env.expect(f"{what}: instruction", state.instruction, instruction)
        self.check_quiet()
        self.check_written(size=opened)

    @staticmethod
    def expect_status(what: str, state: CoreState, wanted: Iterable[Status]) -> None:
        """These bits of STATUS are set, and no others."""
        names = [sorted(bit.name for bit in bits) for bits in (state.status, wanted)]
        env.expect(what, " ".join(names[0]), " ".join(names[1]))

    def check_hung(
        self, what: str, state: CoreState, cause: Cause, instruction: int | None = None
    ) -> None:
        """The core waits for a bus that does not answer, and says so."""
        bits = {Status.BUSY, Status.DRAINING, Status.HUNG}
        bits |= set() if cause == Cause.ABORT else {Status.ERROR}
        env.expect(f"{what}: cause", state.cause.name, cause.name)
        self.expect_status(f"{what}: STATUS", state, bits)
        if instruction is not None:
            env.expect(f"{what}: instruction", state.instruction, instruction)

    def check_window(self, what: str) -> None:
        """Nothing outside of the result region has been written."""
        base, size = self.layout.regions[Region.RESULTS]
        places = np.flatnonzero(self.memory.touched) + self.memory.base
        outside = [hex(place) for place in places if not base <= place < base + size]
        env.expect(f"{what}: writes outside of the result region", outside[:4], [])

    async def check_recovery(self, what: str) -> None:
        """The next program gives the right result, be it the same one or of another shape.

        With a soft reset before it and without one, in turn.
        """
        self._recoveries += 1
        if self._recoveries % 2:
            await self.soft_reset()
            state = await self.state()
            self.expect_status(f"{what}: STATUS after a soft reset", state, set())
            env.expect(f"{what}: cause after a soft reset", state.cause.name, Cause.NONE.name)
        job = self.victim
        if self._recoveries % 4 >= 2:
            job = Job.of(draw_case(self.random, self.numbers, self.config), self.config)
        self.prepare(job=job)
        await self.run_good(job.expected)
        self.prepare()
