"""The loaders: which request comes when, in the order of their programs.

Mirrors `lutcore.hw.transfer.weights` and `lutcore.hw.transfer.activations`. A request can be
entered once the slots that it needs are known to be free.
"""

from collections import deque
from collections.abc import Iterator

from lutcore.hw.contract.config import SLOTS
from lutcore.sim.cycles.bus import CLIENTS, ReadBus, Request, Unpacking
from lutcore.sim.cycles.latencies import Latencies
from lutcore.sim.cycles.plan import Plan
from lutcore.sim.cycles.steady import PAST, Timed

__all__ = ["ActivationLoads", "WeightLoads"]

#: Requests that a sink may lag behind its requester.
_TAGS = 4


class _Loads(Timed):
    """What both loaders have in common."""

    times = ("_body", "_window")

    def __init__(self, plan: Plan, bus: ReadBus, client: str, first_body: int) -> None:
        self.plan, self._bus = plan, bus
        self._client = CLIENTS.index(client)
        self._body = first_body  # cycle in which the next body is there
        self._window = PAST  # cycle in which the window is free
        self._index = 0  # of the next request
        self._latest: Request | None = None
        self._ahead: deque[Request] = deque()
        self._recent: deque[Request] = deque(maxlen=_TAGS)

    def read(self) -> list[int]:
        values = super().read()
        for request in self._held():
            values += request.read()
        return values

    def move(self, shifts: Iterator[int]) -> None:
        super().move(shifts)
        for request in self._held():
            request.move(shifts)

    def skip(self, requests: int) -> None:
        """Go on as if so many requests had been entered."""
        self._index += requests

    def post(self) -> bool:
        """Enter the next request, if all that it waits for is known; whether it was."""
        raise NotImplementedError

    def _held(self) -> list[Request]:
        """Requests whose times still matter."""
        return list(self._ahead)

    def _next(self) -> Request:
        """The next request in order, all of it scheduled."""
        while not self._ahead:
            if not self.post():
                assert self._latest is not None
                self._bus.until(self._latest)
        self._bus.until(self._ahead[0])
        return self._ahead.popleft()

    def _known(self) -> bool:
        """Whether the request before the next one is scheduled."""
        return self._latest is None or not self._latest.left

    def _enter(
        self,
        slot: int,
        inner: int,
        beats: int,
        address: int,
        before: int = 0,
        codes: Unpacking | None = None,
    ) -> None:
        """A request that got its slots in cycle `slot`; the next one is `inner` loops away."""
        command = max(slot + 1, self._window)
        split = command + Latencies.WINDOW
        sink = slot + 1
        if self._latest is not None:
            split = max(split, self._latest.issued)
            sink = max(sink, self._latest.done + 1)
        self._window = split + 1
        self._body = command + Latencies.NEST + inner
        self._index += 1
        self._latest = Request(
            self._client,
            sink=sink,
            waits=split + 1,
            beats=beats,
            address=address,
            before=before,
            codes=codes,
        )
        self._bus.queues[self._client].append(self._latest)
        self._ahead.append(self._latest)
        self._recent.append(self._latest)


class ActivationLoads(_Loads):
    """LDX: all blocks once, if they stay on chip, else each as MMA comes to it."""

    times = (*_Loads.times, "_free")

    def __init__(self, plan: Plan, bus: ReadBus, first_body: int) -> None:
        super().__init__(plan, bus, "ldx", first_body)
        passes = 1 if plan.resident else plan.blocks
        self._total = passes * plan.row_tiles * len(plan.parts)
        self._free = deque([PAST] * SLOTS)
        self._resident: list[Request] = []
        self._words = 0  # memory words of the resident ones so far
        self._base = plan.bases[1] // plan.config.beat_bytes

    def take(self, row_tile: int, part: int) -> Request:
        """The activations of a body of MMA, all of them scheduled."""
        if not self.plan.resident:
            return self._next()
        index = row_tile * len(self.plan.parts) + part
        while index >= len(self._resident):
            self._resident.append(self._next())
        return self._resident[index]

    def give(self, cycle: int) -> None:
        """MMA has read the last word of a slot."""
        if not self.plan.resident:
            self._free.append(cycle)

    def skip(self, requests: int) -> None:
        if not self.plan.resident:
            super().skip(requests)

    def settled(self, now: int) -> bool:
        """Whether what is loaded only once has come."""
        if not self.plan.resident:
            return True
        latest = self._latest
        return (
            self._index == self._total
            and latest is not None
            and not latest.left
            and latest.done < now
        )

    def _held(self) -> list[Request]:
        return [] if self.plan.resident else super()._held()

    def post(self) -> bool:
        plan = self.plan
        if self._index == self._total or not self._known():
            return False
        slot = max(self._body, self._recent[0].done if len(self._recent) == _TAGS else PAST) + 1
        if plan.resident:
            part = self._index % len(plan.parts)
            last = part == len(plan.parts) - 1
            inner = plan.k_loops if last else plan.parts[part].inner
            words = self._words
            self._words += plan.x_words[part]
        else:
            if not self._free:
                return False
            slot = max(slot, self._free.popleft() + Latencies.TOKEN)
            rest = self._index % (plan.row_tiles * len(plan.parts))
            chunk, rest = divmod(rest, plan.row_chunk * len(plan.parts))
            part, row = divmod(rest, plan.chunk_tiles(chunk))
            inner = plan.inner_after(chunk, part, row)
            row_tile = chunk * plan.row_chunk + row
            words = row_tile * plan.row_tile_words + sum(plan.x_words[:part])
        beats = plan.x_words[part] * plan.x_beats
        self._enter(slot, inner, beats, self._base + words * plan.x_beats)
        return True


class WeightLoads(_Loads):
    """LDW: the image from start to end, the blocks of a block of tiles again for each chunk.

    Attributes
    ----------
    weights, scales, biases
        Cycles in which slots were given back and not yet taken again; those of biases, if nothing
        delays what is written.
    """

    times = (*_Loads.times, "weights", "scales", "biases")

    def __init__(self, plan: Plan, bus: ReadBus, first_body: int) -> None:
        super().__init__(plan, bus, "ldw", first_body)
        self._parts = len(plan.parts)
        self._passes = 1 if plan.whole else plan.chunks
        self._total = plan.blocks * self._passes * self._parts
        self._base = plan.bases[0] // plan.config.beat_bytes
        self.weights = deque([PAST] * SLOTS)
        self.scales = deque([PAST] * SLOTS)
        self.biases = deque([PAST] * SLOTS)
        self._unpacking: dict[tuple[int, int], Unpacking] = {}
        self._sizes: dict[int, list[tuple[int, int]]] = {}

    def take(self) -> Request:
        """The next block, all of it scheduled."""
        return self._next()

    @property
    def pending(self) -> bool:
        """Whether beats of a request are still to be scheduled."""
        return any(request.left for request in self._ahead)

    def post(self) -> bool:
        plan = self.plan
        if self._index == self._total or not self._known():
            return False
        rest, part = divmod(self._index, self._parts)
        block, chunk = divmod(rest, self._passes)
        with_scales, with_bias = plan.parts[part].opens, plan.shape.bias and part == 0
        needed = [self.weights]
        if with_scales:
            needed.append(self.scales)
        if with_bias:
            needed.append(self.biases)
        if not all(needed):
            return False
        groups = plan.form.groups(plan.parts[part].size)
        slot = self._body + groups + Latencies.BLOCK_SIZES
        free = [tokens.popleft() for tokens in needed]
        if with_bias:
            free[-1] = self._bus.memory.delayed(free[-1])
        slot = max(slot, *(cycle + Latencies.TOKEN for cycle in free))
        tiles = plan.tiles(block)
        sizes = self._beats(tiles)
        before, codes = sizes[part]
        offset = block * sum(map(sum, self._beats(plan.tiling.tiles)))
        offset += sum(map(sum, sizes[:part]))
        if part < self._parts - 1:
            inner = plan.parts[part].inner
        else:
            inner = plan.k_loops + (not plan.whole and chunk == self._passes - 1)
        self._enter(
            slot, inner, before + codes, self._base + offset, before, self._codes(tiles, part)
        )
        return True

    def _beats(self, tiles: int) -> list[tuple[int, int]]:
        if tiles not in self._sizes:
            parts = range(self._parts)
            self._sizes[tiles] = [self.plan.section_beats(tiles, part) for part in parts]
        return self._sizes[tiles]

    def _codes(self, tiles: int, part: int) -> Unpacking:
        key = tiles, self.plan.parts[part].size
        if key not in self._unpacking:
            self._unpacking[key] = Unpacking(self.plan.form, tiles, self.plan.step_places(part))
        return self._unpacking[key]
