"""TABLE, ARRAY and SCALE: the chain of an MMA instruction, body by body.

Mirrors the control of `table`, `array` and `scale` in `lutcore.hw.compute`: what each
waits for, and what it holds up. Everything is the latest of some earlier times plus a constant.
"""

from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lutcore.hw.compute.scale import revisited_early
from lutcore.hw.contract.config import SLOTS
from lutcore.sim.cycles.bus import ReadBus, Request
from lutcore.sim.cycles.latencies import Latencies
from lutcore.sim.cycles.plan import Part, Plan
from lutcore.sim.cycles.steady import PAST, Timed

__all__ = ["Body", "Chain"]

#: Runs after which a body is looked at for a steady state.
_LOOK = frozenset((3, 6, 12, 24, 48, 96, 192, 384, 768, 1536, 3072))


@dataclass(frozen=True)
class Body:
    """One body of MMA.

    Attributes
    ----------
    part
        Its block of K.
    tiles, rows
        Output tiles, and rows of the row tile.
    inner
        Loops inside the one that advances after it.
    takes_x, takes_weights, takes_scales, takes_sums
        It begins with a new slot of that buffer.
    """

    part: Part
    tiles: int
    rows: int
    inner: int
    takes_x: bool
    takes_weights: bool
    takes_scales: bool
    takes_sums: bool


class Chain(Timed):
    """The three units.

    Attributes
    ----------
    read_end
        Cycle in which TABLE has read a body's last activation word.
    array_end
        Cycle of the array's last lookup.
    scale_end
        Cycle of the scale unit's last term.
    sums_free
        Cycles from which slots of sums may be taken again, in their order, if nothing delays what
        is written.
    """

    times = (
        "array_end", "scale_end", "_body", "_begun", "_accepted", "read_end", "_fill", "_before",
        "_sums", "sums_free",
    )  # fmt: skip
    floors: ClassVar = {"_sums": "array_end", "sums_free": "scale_end"}

    def __init__(self, plan: Plan, bus: ReadBus, first_body: int) -> None:
        self.plan, self._bus = plan, bus
        self._body = first_body  # the next one is there
        self._begun = PAST  # the latest one has begun
        self._accepted = PAST  # the last activation word
        self.read_end = PAST
        self._fill = PAST  # a set begins to be filled
        self._extra = 0  # cycles that it takes more than others
        self._clears = SLOTS if plan.form.ternary else 0  # sets that begin by clearing entries
        self.array_end = PAST
        self._before = PAST  # the array's last lookup in the set before
        self._pause = False  # a set of one word: the next may not follow at once
        self.scale_end = PAST
        self._few = False  # so few sums that they may not follow again at once
        self._sums = [PAST] * plan.config.tiles  # and of the last sums of the array
        self.sums_free = deque([PAST] * SLOTS)
        self._delay = Latencies.array(plan.config)

    def run(self, body: Body, x: Request, weights: Request) -> None:
        """Work through a body with its activations and its weights."""
        form, steps = self.plan.form, body.part.steps
        words_per_step, entries = form.table_columns, form.table_entries
        words = body.tiles * form.planes
        terms = self._terms(body)
        sum_words = words // len(terms)
        arrivals = self._begin(body, x)
        ready, sums_ready = self._ready(body, weights, len(terms))
        token = weights.sink + Latencies.TOKEN if body.takes_weights else None

        accepted, fill, last, before = self._accepted, self._fill, self.array_end, self._before
        scale_end, few, pause = self.scale_end, self._few, self._pause
        extra, clears = self._extra, self._clears
        sums = self._sums
        early = self._early(body)
        alike = len(steps) - (steps[-1] != steps[0])
        seen: list[int] | None = None
        run = step = 0
        while run < len(steps):
            issue = last
            for left in range(steps[run] - 1, -1, -1):
                # TABLE takes the words of a set when those of the one before are in their bank.
                accepted += 1
                if fill > accepted:
                    accepted = fill
                accepted += words_per_step - 1
                if arrivals is not None and arrivals[step] > accepted:
                    accepted = arrivals[step]
                fill += entries + extra
                if accepted >= fill:
                    fill = accepted + 1
                if before + Latencies.BANK_FREE > fill:
                    fill = before + Latencies.BANK_FREE
                extra = Latencies.CLEAR if clears else 0
                clears -= clears > 0
                # ARRAY issues a word per cycle when the set is filled.
                issue = fill + entries + extra + Latencies.SET
                if last + pause >= issue:
                    issue = last + pause + 1
                if token is not None:
                    issue, token = max(issue, token) + 1, None
                pause = words == 1
                before = last
                if left:
                    if ready is not None and ready[step] > issue:
                        issue = ready[step]
                    last = issue + words - 1
                step += 1
            # In the last step it finishes sum by sum, where SCALE has room.
            finished = []
            last = issue - 1
            for index in range(len(terms)):
                if sums_ready is not None and sums_ready[step - 1][index] > last + 1:
                    last = sums_ready[step - 1][index] - 1
                last += sum_words
                if sums[index] + Latencies.CREDIT > last:
                    last = sums[index] + Latencies.CREDIT
                finished.append(last + self._delay)
            # SCALE issues a term per cycle when the sum is there.
            time = max(accepted + Latencies.RUN_TAG, scale_end + 1)
            if not run:
                time = self._take(body, weights, time)
            for index, (count, wait) in enumerate(terms):
                time += 1
                if few and scale_end + Latencies.REUSE > time:
                    time = scale_end + Latencies.REUSE
                if finished[index] > time:
                    time = finished[index]
                time += count - 1
                scale_end, few = time, wait
                finished[index] = time
            few = early
            sums = sums[len(terms) :] + finished
            run += 1

            if ready is not None and ready[-1] <= last:
                ready = sums_ready = None
            if arrivals is not None and arrivals[-1] <= accepted:
                arrivals = None
            if run + 1 >= alike or arrivals is not None or ready is not None or extra:
                continue
            if seen is None and run not in _LOOK:
                continue
            state = [last, accepted, fill, before, scale_end]
            state += [max(time, last) for time in sums]
            if seen is not None:
                distance = state[0] - seen[0]
                if all(new - old == distance for new, old in zip(state, seen, strict=True)):
                    skipped = alike - run - 1
                    distance *= skipped
                    last, accepted, fill = last + distance, accepted + distance, fill + distance
                    before, scale_end = before + distance, scale_end + distance
                    sums = [time + distance for time in sums]
                    run, step = run + skipped, step + skipped * steps[0]
            seen = state if run in _LOOK else None

        self._accepted, self._fill, self.array_end, self._before = accepted, fill, last, before
        self.scale_end, self._few, self._pause = scale_end, few, pause
        self._sums = sums
        self._extra, self._clears = extra, clears
        self.read_end = accepted - (Latencies.TABLE_READ - 1)

    def _early(self, body: Body) -> bool:
        """Whether a body's sums are too few to be visited again at once."""
        return revisited_early(self.plan.config.chunks * body.rows, self.plan.form.wide)

    def _terms(self, body: Body) -> list[tuple[int, bool]]:
        """For each sum of a run: its terms, and whether the next ones are of the same sums."""
        form = self.plan.form
        once = self.plan.config.chunks * body.rows << form.wide
        planes = [(once, self._early(body))] * (form.entries - 1)
        return [*planes, (once << form.offset, False)] * body.tiles

    def _begin(self, body: Body, x: Request) -> list[int] | None:
        """TABLE takes the body and reads its header.

        Returns
        -------
        list of int or None
            For each step the cycle before which its words cannot have been accepted.
        """
        config, plan = self.plan.config, self.plan
        taken = max(self._body, self._begun + 1)
        at_once = taken == self._body
        self._body = taken + Latencies.NEST + body.inner
        self._body += Latencies.NEST_AT_ONCE if at_once else 0
        ready = taken + Latencies.BODY
        if body.takes_x:
            ready = max(ready, x.sink + Latencies.TOKEN) + Latencies.BODY_SLOT
        self._begun = max(ready, self.read_end)
        accepted = max(self._accepted + 1, self._begun + Latencies.TABLE_READ)
        header = config.x_header_words
        if x.done + Latencies.ITEM <= accepted:
            self._accepted = accepted + header - 1
            return None
        # An item is read when its memory word is known to be complete.
        per_step, steps = plan.form.table_columns, sum(body.part.steps)
        items = np.arange(header + steps * per_step)
        per_word = plan.x_beats * config.bus_width // config.x_word_bits
        times = x.accepted[(items // per_word + 1) * plan.x_beats - 1] + Latencies.ITEM
        head = int((times[:header] + np.arange(header)[::-1]).max())
        self._accepted = max(accepted + header - 1, head)
        rest = times[header:].reshape(steps, per_step) + np.arange(per_step)[::-1]
        return rest.max(axis=1).tolist()

    def _ready(
        self, body: Body, weights: Request, sums: int
    ) -> tuple[list[int] | None, list[list[int]] | None]:
        """For each step, and each of its sums, the cycle before which it cannot have begun."""
        words = weights.words + Latencies.WORD
        if words[-1] <= self.array_end:
            return None, None
        steps = sum(body.part.steps)
        words = words.reshape(steps, sums, -1)
        each = (words - np.arange(words.shape[2])).max(axis=2)
        whole = (each - np.arange(sums) * words.shape[2]).max(axis=1)
        return whole.tolist(), each.tolist()

    def _take(self, body: Body, weights: Request, time: int) -> int:
        """When SCALE begins a body that it could begin at `time`, if slots are free."""
        if body.takes_scales:
            time = max(time, weights.sink + Latencies.TOKEN)
        if body.takes_sums:
            free = self.sums_free.popleft()
            if free > time:
                # It depends on what is read until then, which is known as far as it matters.
                self._bus.settle(free)
            time = max(time, self._bus.memory.delayed(free))
        return time
