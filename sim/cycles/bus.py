"""When data arrive: requests, bursts, beats.

Mirrors `lutcore.hw.memory.dma` and `lutcore.hw.transfer.unpacker`, burst by burst.
"""

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from lutcore.sim.cycles.latencies import Latencies
from lutcore.sim.cycles.memory import Memory
from lutcore.sim.cycles.steady import PAST, Timed
from lutcore.sw.program.blocks import BlockFormat

__all__ = ["CLIENTS", "ReadBus", "Request", "Unpacking"]

#: Clients of the read master.
CLIENTS = ("fetch", "ldx", "ldw")


class Unpacking:
    """How a codes section turns into words: pieces of slices, one per cycle at most.

    Parameters
    ----------
    form
        Format of the layer's blocks.
    tiles
        The block's tiles.
    steps
        Places of each of its array steps.
    """

    def __init__(self, form: BlockFormat, tiles: int, steps: np.ndarray) -> None:
        config = form.config
        places = np.repeat(steps, tiles * form.planes)
        pieces = -(-places // config.slice_group)
        self.last_piece = np.cumsum(pieces) - 1
        slices = np.full(int(pieces.sum()), config.slice_group)
        slices[self.last_piece] = places - (pieces - 1) * config.slice_group
        ends = np.cumsum(slices) * config.lanes
        beats = -(-int(ends[-1]) // config.bus_width)
        number = np.arange(beats)
        starts = number * config.bus_width
        self._piece = np.arange(len(ends))
        #: Beat that completes each piece.
        self._beat = -(-ends // config.bus_width) - 1
        #: Pieces that are complete before each beat.
        self.before = np.searchsorted(ends, starts, "right")
        #: Pieces that must have left before each beat has room.
        room = starts - config.slice_group * config.lanes
        self.left = np.where(room > 0, np.searchsorted(ends, room, "left") + 1, 0)
        #: Whether beats can follow each other without a gap.
        slack = np.minimum.accumulate(self.before - number)
        self.keeps_up = bool((self.left[1:] - number[1:] <= slack[:-1]).all())

    def word_times(self, beats: np.ndarray) -> tuple[np.ndarray, int]:
        """Cycles in which the words are written, and the last piece, from those of the beats."""
        times = np.maximum.accumulate(beats[self._beat] + 1 - self._piece) + self._piece
        return times[self.last_piece], int(times[-1])


class Request(Timed):
    """A request of a loader.

    Attributes
    ----------
    client
        Index in `CLIENTS`.
    sink
        Cycle in which its sink is ready for it; beats are accepted from the next one.
    waits
        Cycle from which the splitter can issue its bursts.
    issued
        Cycle in which its last burst was issued.
    done
        Cycle in which the sink was finished with it.
    left
        Beats that are not scheduled yet.
    place
        Of the next beat, in an aligned burst.
    accepted, words
        When all beats are scheduled: the cycles in which they were accepted, and those in which
        words of codes were written.
    """

    times = ("sink", "waits", "issued", "done", "_room")

    def __init__(
        self,
        client: int,
        *,
        sink: int,
        waits: int,
        beats: int,
        address: int,
        before: int = 0,
        codes: Unpacking | None = None,
    ) -> None:
        self.client = client
        self.sink, self.waits = sink, waits
        self.issued = self.done = PAST
        self.beats = self.left = beats
        self.place = address % Latencies.BURST
        self._before, self._codes = before, codes
        self._room = PAST
        self._spans: list[tuple[int, int]] = []
        self.accepted = self.words = np.empty(0, int)

    def move(self, shifts: Iterator[int]) -> None:
        sink = self.sink
        super().move(shifts)
        distance = self.sink - sink
        if distance:
            self._spans = [(first + distance, count) for first, count in self._spans]
            self.accepted = self.accepted + distance
            self.words = self.words + distance

    def accept(self, first: int, free: int, count: int, memory: Memory) -> tuple[int, int]:
        """Take `count` beats.

        Parameters
        ----------
        first
            Cycle in which the first can be offered.
        free
            Cycle in which the register between bus and sinks is free again.

        Returns
        -------
        tuple of int
            Cycles in which the last one is transferred, and accepted by the sink.
        """
        begin = self.beats - self.left - self._before  # among the beats of codes
        self.left -= count
        codes = self._codes
        if codes is None or codes.keeps_up or begin + count <= 0:
            first = max(first, free)
            if self.sink > first:
                # The first beat waits in the register, and the others behind it.
                transfer = memory.offer(first)
                memory.read(transfer)
                self._spans.append((self.sink + 1, 1))
                if count == 1:
                    return transfer, self.sink + 1
                first, count = self.sink + 1, count - 1
            for start, length in memory.stream(first, count):
                self._spans.append((start + 1, length))
                first = start + length
            return first - 1, first
        left, before, room = codes.left, codes.before, self._room
        transfer, time = first - 1, max(free, self.sink)
        for index in range(begin, begin + count):
            # A beat is transferred when the one before it has left the register.
            transfer = max(memory.offer(transfer + 1), free)
            memory.read(transfer)
            time = max(transfer, time) + 1
            if index >= 0:
                # Piece `left` - 1 leaves in that cycle at the earliest.
                if left[index] and room + left[index] - 1 > time:
                    time = room + int(left[index]) - 1
                room = max(room, time + 1 - int(before[index]))
            free = time
            self._spans.append((time, 1))
        self._room = room
        return transfer, time

    def finish(self) -> None:
        """All beats are scheduled: when what arrived can be used."""
        spans = [np.arange(first, first + count) for first, count in self._spans]
        self.accepted = np.concatenate(spans)
        self._spans = []
        self._room = PAST
        self.done = int(self.accepted[-1])
        if self._codes is not None:
            beats = self.accepted[self._before :]
            self.words, self.done = self._codes.word_times(beats)


class ReadBus(Timed):
    """The read master and the memory: bursts of the clients in turn, beats in order.

    Nothing is scheduled before it is asked for, so that all requests that could be in time for a
    burst are known.

    Parameters
    ----------
    latency
        Cycles from a read address to its first beat.
    post
        Called before each burst: enters the requests that are known by then.
    """

    times = ("_issue", "_transfer", "_accepted", "_ends")

    def __init__(self, latency: int, post: Callable[[], None]) -> None:
        self._latency, self._post = latency, post
        self._issue = PAST  # of the last burst
        self._ends = deque([PAST] * Latencies.OUTSTANDING)  # last beats of the bursts under way
        self._transfer = self._accepted = PAST  # of the last beat
        self._latest = 0
        self.queues: list[deque[Request]] = [deque() for _ in CLIENTS]
        self.memory = Memory()

    def fetch(self, program_beats: int, accepted: int) -> None:
        """The program has been read; its last beat was accepted in cycle `accepted`."""
        self._issue = Latencies.FETCH_REQUEST + Latencies.REQUEST_BEAT + program_beats
        self._issue = min(self._issue, accepted - self._latency - 1)
        self._transfer, self._accepted = accepted - 1, accepted

    def until(self, request: Request) -> None:
        """Schedule bursts until all of a request are."""
        self._post()
        while request.left:
            self._burst(*self._next())

    def settle(self, now: int) -> None:
        """Schedule the bursts whose beats come before `now`: no later write can disturb them."""
        self._post()
        while any(self.queues):
            issue, first = self._next()
            if first + Latencies.BURST > now:
                break
            self._burst(issue, first)
        heads = [queue[0].waits + self._latency for queue in self.queues if queue]
        self.memory.idle(min([now, *heads]))

    def pending(self) -> tuple[list[int], list[int]]:
        """Beats of each request that are still to be scheduled, and their places in a burst."""
        requests = [request for queue in self.queues for request in queue]
        return [request.left for request in requests], [request.place for request in requests]

    def _next(self) -> tuple[int, int]:
        """When the next burst is issued, and its first beat can be offered at the earliest."""
        waits = min([queue[0].waits for queue in self.queues if queue])
        issue = max(self._issue, self._ends[0], waits - 1) + 1
        return issue, max(issue + self._latency, self._transfer) + 1

    def _burst(self, issue: int, first: int) -> None:
        client = self._latest
        for _ in CLIENTS:
            client = (client + 1) % len(CLIENTS)
            if self.queues[client] and self.queues[client][0].waits <= issue:
                break
        request = self.queues[client][0]
        count = min(Latencies.BURST - request.place, request.left)
        request.place = 0
        self._transfer, self._accepted = request.accept(first, self._accepted, count, self.memory)
        self._issue, self._latest = issue, client
        self._ends.popleft()
        self._ends.append(self._transfer)
        if not request.left:
            self.queues[client].popleft()
            request.issued = issue
            request.finish()
            self._post()
