"""An analytic model of the core: how many cycles a layer takes, without running it.

The model follows a program's blocks, runs and table sets through the units, in the order of the
program, and computes when each begins and ends from what it waits for. Cycles do not depend on the
values of weights and activations, so the shape of a layer is enough. What repeats itself is not
counted again, so that a layer takes milliseconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lutcore.hw.contract.config import SLOTS, CoreConfig, ceil_div
from lutcore.hw.contract.isa import INSTRUCTION_BITS
from lutcore.sim.cycles.bus import ReadBus
from lutcore.sim.cycles.chain import Body, Chain
from lutcore.sim.cycles.latencies import Latencies
from lutcore.sim.cycles.loads import ActivationLoads, WeightLoads
from lutcore.sim.cycles.plan import LayerShape, Plan
from lutcore.sim.cycles.results import Results
from lutcore.sim.cycles.steady import repeat

__all__ = ["CycleEstimate", "LayerShape", "estimate_cycles"]


@dataclass(frozen=True)
class CycleEstimate:
    """What a layer costs.

    Attributes
    ----------
    cycles
        From start to done, as the core counts them.
    bound
        What binds: ``"array"``, ``"fill"``, ``"scale"`` or ``"memory"``, as in reports.
    busy
        Share of the cycles in which each of them is busy, 0 to 1, as in reports; and ``"bus"``:
        beats in both directions over cycles.
    """

    cycles: int
    bound: str
    busy: dict[str, float]


def estimate_cycles(
    config: CoreConfig, shape: LayerShape, rows: int, *, latency: int = 40
) -> CycleEstimate:
    """Cycles of a layer on a core, with a memory that moves one beat per cycle.

    Parameters
    ----------
    config
        The core.
    shape
        The layer.
    rows
        Rows of activations, at least 1.
    latency
        Cycles from a read address to its first beat, and from the last beat of a write to its
        response, at least 1; 0 counts as 1.

    Raises
    ------
    CompileError
        If the core does not compute such a layer.
    """
    plan = Plan(config, shape, rows)
    cycles = _Model(plan, max(1, latency)).run()
    busy = {unit: count / cycles for unit, count in _work(plan).items()}
    units = ("array", "fill", "scale", "memory")
    return CycleEstimate(cycles, max(units, key=lambda unit: busy[unit]), busy)


class _Model:
    """The units, and the time that they have reached."""

    def __init__(self, plan: Plan, latency: int) -> None:
        self.plan = plan
        bus = ReadBus(latency, self._post)
        starts, self._end = _dispatch(plan, latency, bus)
        x, weights, chain, results = starts
        self._bus = bus
        self._x = ActivationLoads(plan, bus, x)
        self._weights = WeightLoads(plan, bus, weights)
        self._chain = Chain(plan, bus, chain)
        self._results = Results(plan, bus.memory, latency, results)
        self._horizon = latency + 2 * Latencies.BURST
        self._units = (self._chain, bus, self._x, self._weights, self._results)

    def run(self) -> int:
        """Cycles from start to done."""
        plan = self.plan
        passes = 1 if plan.whole else plan.chunks
        alike = plan.blocks - (plan.tiles(plan.blocks - 1) < plan.tiling.tiles)
        for block in repeat(self, plan.blocks, alike, moving=True):
            if isinstance(block, int):
                self._block(block)
            else:
                self._skip(block, passes * len(plan.parts), plan.row_tiles * len(plan.parts))
        return max(self._end, self._results.end() + 1 + Latencies.IDLE) + Latencies.END + 1

    def _block(self, block: int) -> None:
        """All rows of a block of tiles."""
        plan = self.plan
        count = plan.chunks
        alike = count - (plan.last_rows < plan.config.rows or plan.row_tiles % plan.row_chunk > 0)
        for chunk in repeat(self, count, alike, moving=not plan.whole):
            if isinstance(chunk, int):
                self._chunk(block, chunk)
            else:
                weights = 0 if plan.whole else len(plan.parts)
                self._skip(chunk, weights, plan.row_chunk * len(plan.parts))

    def _chunk(self, block: int, chunk: int) -> None:
        """All of K for the row tiles of a chunk."""
        plan = self.plan
        rows = plan.chunk_tiles(chunk)
        # A group and its pieces, where groups are cut.
        pieces = next(i + 1 for i, part in enumerate(plan.parts) if part.closes)
        count = ceil_div(len(plan.parts), pieces)
        alike = count - (plan.parts[-1].size != plan.parts[pieces - 1].size)
        for unit in repeat(self, count, alike, moving=True):
            if isinstance(unit, int):
                for part in range(unit * pieces, min((unit + 1) * pieces, len(plan.parts))):
                    self._part(block, chunk, part, rows)
            else:
                self._skip(unit, pieces, pieces * rows)
        scale_end = self._chain.scale_end
        self._results.finish(block, chunk, scale_end)
        self._chain.sums_free.append(self._results.read_end + Latencies.FREED)
        if plan.shape.bias and (not plan.whole or chunk == plan.chunks - 1):
            self._weights.biases.append(self._results.read_end)

    def _part(self, block: int, chunk: int, part: int, rows: int) -> None:
        """A block of K for the row tiles of a chunk."""
        last = chunk == self.plan.chunks - 1 and self.plan.last_rows < self.plan.config.rows
        for row in repeat(self, rows, rows - last, moving=False):
            if isinstance(row, int):
                self._body(block, chunk, part, row)
            else:
                self._skip(row, 0, 1)

    def _body(self, block: int, chunk: int, part: int, row: int) -> None:
        plan, chain, weights = self.plan, self._chain, self._weights
        row_tile = chunk * plan.row_chunk + row
        x = self._x.take(row_tile, part)
        first = chunk == 0 if plan.whole else row == 0
        if first:
            self._current = weights.take()
        body = Body(
            part=plan.parts[part],
            tiles=plan.tiles(block),
            rows=plan.tile_rows(row_tile),
            inner=plan.inner_after(chunk, part, row),
            takes_x=not plan.resident or block == chunk == part == row == 0,
            takes_weights=first,
            takes_scales=first and plan.parts[part].opens,
            takes_sums=part == row == 0,
        )
        chain.run(body, x, self._current)
        self._x.give(chain.read_end)
        if chunk == plan.chunks - 1 if plan.whole else row == plan.chunk_tiles(chunk) - 1:
            weights.weights.append(chain.array_end)
            if plan.parts[part].closes:
                weights.scales.append(chain.scale_end)

    def _post(self) -> None:
        while self._x.post():
            pass
        while self._weights.post():
            pass

    # For `repeat`.

    def fronts(self) -> list[int]:
        return [time for unit in self._units for time in unit.fronts()]

    def settle(self, moving: bool) -> bool:
        self._bus.settle(self._chain.read_end)
        return self._x.settled(self._chain.read_end) and (moving or not self._weights.pending)

    def read(self) -> list[int]:
        # Nothing to come depends on what happened longer ago than a burst takes.
        horizon = self._chain.read_end - self._horizon
        return [max(time, horizon) for unit in self._units for time in unit.read()]

    def pending(self) -> tuple[list[int], list[int]]:
        return self._bus.pending()

    def move(self, shifts: Iterator[int]) -> None:
        for unit in self._units:
            unit.move(shifts)

    def _skip(self, iterations: slice, weights: int, activations: int) -> None:
        """The loaders have requested so much in each of the iterations skipped."""
        count = iterations.stop - iterations.start
        self._weights.skip(count * weights)
        self._x.skip(count * activations)


def _dispatch(plan: Plan, latency: int, bus: ReadBus) -> tuple[list[int], int]:
    """First bodies of LDX, LDW, MMA and STY, and the dispatch of END."""
    first = Latencies.FETCH_REQUEST + Latencies.REQUEST_BEAT + latency + 1
    beats = ceil_div(INSTRUCTION_BITS, plan.config.bus_width)
    if beats > 1:
        # A word is gathered from some beats and checked in the cycle after.
        last = first + beats + (plan.instructions - 1) * (beats + 1)
    else:
        last = first + plan.instructions
    bus.fetch(plan.program_beats, last - 1)
    time = last + Latencies.DISPATCH_FIRST + Latencies.DISPATCH * (plan.tokens + 1)
    bodies = []
    for loops in plan.loops:
        time += Latencies.DISPATCH * loops
        bodies.append(time + Latencies.NEST + loops)
        time += Latencies.DISPATCH
    return bodies, time


def _work(plan: Plan) -> dict[str, float]:
    """Busy cycles of the candidates for what binds, as `lutcore.sw.app.report` counts them."""
    config, form, tiling = plan.config, plan.form, plan.tiling
    steps = sum(sum(part.steps) for part in plan.parts)
    runs = sum(len(part.steps) for part in plan.parts)
    sets = plan.blocks * plan.row_tiles * steps
    terms = tiling.total_tiles * runs * plan.rows * form.lines_per_tile
    blocks = range(plan.blocks)
    finals = plan.rows * sum(ceil_div(plan.channels(b), config.final_lanes) for b in blocks)
    passes = 1 if plan.whole else plan.chunks
    x_passes = 1 if plan.resident else plan.blocks
    reads = plan.program_beats + passes * plan.beats(tiling.image_bytes(bias=plan.shape.bias))
    reads += x_passes * plan.row_tiles * plan.row_tile_words * plan.x_beats
    writes = plan.rows * sum(plan.beats(4 * plan.channels(b)) for b in blocks)
    return {
        "array": tiling.total_tiles * form.planes * plan.row_tiles * steps,
        "fill": sets * form.table_entries + Latencies.CLEAR * min(sets, SLOTS) * form.ternary,
        "scale": max(terms + plan.blocks * plan.row_tiles * runs, finals),
        "memory": max(reads, writes),
        "bus": reads + writes,
    }
