"""FINAL and STORE: from complete sums to the last write response.

Mirrors `lutcore.hw.compute.final`, `lutcore.hw.transfer.store` and the write master of
`lutcore.hw.memory.dma`. FINAL's stages move together and stop while STORE cannot take a result: its
time is counted in *ticks*, the cycles in which they move.
"""

from collections import deque
from collections.abc import Iterator

from lutcore.hw.contract.config import ceil_div
from lutcore.sim.cycles.latencies import Latencies
from lutcore.sim.cycles.memory import Memory
from lutcore.sim.cycles.plan import Plan
from lutcore.sim.cycles.steady import PAST, Timed

__all__ = ["Results"]


class Results(Timed):
    """Both units and the write bus.

    Attributes
    ----------
    read_end
        Cycle in which FINAL has read the last sum of a slot.
    answered
        Cycle of the last write response; both as if read beats held up nothing that is written.
    """

    times = ("read_end", "_body", "_window", "_issue", "_load", "_taken", "answered", "_answers")

    def __init__(self, plan: Plan, memory: Memory, latency: int, first_body: int) -> None:
        self.plan, self._memory, self._latency = plan, memory, latency
        self.read_end = PAST
        self._body = first_body  # STORE's next body is there
        self._window = PAST  # the window is free
        self._issue = PAST  # the last burst is issued
        self._load = PAST  # its last beat is loaded
        self._taken = PAST  # STORE's last result
        self.answered = PAST
        self._answers = deque([PAST] * Latencies.OUTSTANDING)
        # When FINAL began with the slot, and how long it had waited: for the slot's first beat.
        self._begins: tuple[int, int] | None = None
        # From a tick on, a tick is so many cycles late.
        self._late: list[tuple[int, int]] = [(PAST, 0)]

    def move(self, shifts: Iterator[int]) -> None:
        before = self._taken
        super().move(shifts)
        distance = self._taken - before
        self._late = [(tick + distance, by) for tick, by in self._late]
        self._memory.move(distance)

    def finish(self, block: int, chunk: int, scale_end: int) -> None:
        """A slot of sums: those of a block of tiles and a chunk of row tiles."""
        plan = self.plan
        channels = plan.channels(block)
        groups = ceil_div(channels, plan.config.final_lanes)
        start = block * plan.tiling.tiles * plan.config.lanes * 4 + plan.bases[2]
        begin = max(scale_end + Latencies.SUM_SLOT, self.read_end + 1)
        # What begins later anyway makes up for write beats that are late.
        self._begins = begin, begin - self.read_end - 1
        first_tile = chunk * plan.row_chunk
        for row_tile in range(first_tile, first_tile + plan.chunk_tiles(chunk)):
            tick = self._tick(begin + 2)
            row = row_tile * plan.config.rows
            last = plan.tile_rows(row_tile) - 1
            for offset in range(last + 1):
                address = start + (row + offset) * plan.row_stride
                command = self._taken + 1 if offset else self._body + 1
                self._store_row(tick + Latencies.FINAL, groups, 4 * channels, address, command)
                tick += groups
            # The next body of STY, in its loops over blocks of tiles and row tiles.
            inner = int(row_tile == plan.row_tiles - 1)
            self._body = self._taken + Latencies.NEST + inner
            self.read_end = begin = self._cycle(tick - 1)
        self._renumber()

    def end(self) -> int:
        """Cycle of the last write response, when no read beat can delay it any more."""
        self._memory.idle(self.answered)
        return self.answered + self._memory.late

    def _renumber(self) -> None:
        """Forget what is past, and number ticks so that the latest ones are cycles."""
        now = self._tick(self.read_end)
        first = max(index for index, (tick, _) in enumerate(self._late) if tick <= now)
        late = self._late[-1][1]
        ahead = [(tick + late, by - late) for tick, by in self._late[first + 1 :]]
        self._late = [(PAST, self._late[first][1] - late), *ahead]

    def _cycle(self, tick: int) -> int:
        """Cycle of a tick."""
        return next(tick + by for first, by in reversed(self._late) if first <= tick)

    def _tick(self, cycle: int) -> int:
        """First tick that is not before a cycle."""
        following = None
        for first, by in reversed(self._late):
            if cycle - by >= first:
                return cycle - by if following is None else min(cycle - by, following)
            following = first
        raise AssertionError("the first tick is before all cycles")

    def _take_at(self, tick: int, cycle: int) -> int:
        """STORE takes what FINAL has in a tick, not before a cycle: when it does."""
        on_time = tick + self._late[-1][1]
        if on_time < cycle:
            self._late.append((tick, cycle - tick))
        return max(on_time, cycle)

    def _store_row(self, tick: int, groups: int, size: int, address: int, command: int) -> None:
        """Store a row's `groups` results, the first of which comes in `tick`."""
        config = self.plan.config
        per_beat = config.bus_width // 32 // config.final_lanes
        group_bytes = 4 * config.final_lanes
        command = max(command, self._window)
        split = max(command + Latencies.WINDOW, self._issue)
        self._window = split + 1
        first_in_beat = address // group_bytes % per_beat
        beats = ceil_div(address % config.beat_bytes + size, config.beat_bytes)
        place = address // config.beat_bytes % Latencies.BURST
        while beats:
            # The first beat of a burst asks for its address, and holds the next one up.
            burst = min(Latencies.BURST - place, beats)
            gathered = min(groups, per_beat - first_in_beat)
            place = first_in_beat = 0
            taken = self._take_at(tick, max(command + 1, self._load)) + gathered - 1
            self._issue = max(taken + 1, split + 1, self._load + 1, self._answers.popleft() + 1)
            self._load = self._issue + 1
            if self._begins:
                self._memory.write_after(*self._begins, self._load + 1)
                self._begins = None
            else:
                self._memory.write(self._load + 1, 1)
            tick, groups = tick + gathered, groups - gathered
            if burst > 1:
                gathered = min(groups, (burst - 1) * per_beat)
                begin = self._take_at(tick, self._load)
                taken = begin + gathered - 1
                self._memory.write(begin + per_beat + 1, burst - 2, per_beat)
                self._memory.write(taken + 2, 1)
                self._load = taken + 1
                tick, groups = tick + gathered, groups - gathered
            self.answered = max(self._load + 1 + self._latency, self.answered + 1)
            self._answers.append(self.answered)
            self._taken = taken
            beats -= burst
