"""MMA of the machine without numbers: TABLE, ARRAY, SCALE and FINAL."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from lutcore.hw.contract.config import SLOTS
from lutcore.hw.contract.isa import Cause
from lutcore.hw.contract.loops import Body
from lutcore.hw.contract.ternary import INDEX_BITS
from lutcore.sim.machine.base import Halt, Move, Nest, Results, Steps
from lutcore.sim.machine.clocks import Stamp
from lutcore.sim.machine.slots import slices
from lutcore.sim.machine.state import Machine
from lutcore.sw.program.blocks import x_memory_words

__all__ = ["Chain"]


@dataclass
class _Work:
    """A body on its way from unit to unit, with what they have made of it."""

    body: Body
    row_tile: int
    values: Any
    stamp: Stamp


@dataclass
class _Finished:
    """A sum slot that is complete."""

    slot: int
    body: Body
    row_tiles: int
    takes_bias: bool
    stamp: Stamp


class Chain:
    """One MMA instruction.

    Parameters
    ----------
    flow
        The machine.
    number, fields, nest
        The instruction.
    """

    def __init__(self, flow: Machine, number: int, fields: dict[str, int], nest: Nest) -> None:
        assert flow.layer is not None
        self.flow, self.number, self.nest, self.layer = flow, number, nest, flow.layer
        self.levels = {name: fields[f"{name.lower()}_level"] for name in "WSXT"}
        # A bias is held with the weights or with the sums, whichever lasts longer.
        self.levels["B"] = min(self.levels["W"], self.levels["T"])
        # The first take turns each of these to slot 0.
        self.slots = dict.fromkeys("WSXB", 1)
        self.sum_slot = 1
        self.free_sums = deque([flow.clocks.start] * SLOTS)
        self.begun = self.scaled = 0
        self.walked = False
        self.to_array: deque[_Work] = deque()
        self.to_scale: deque[_Work] = deque()
        self.to_final: deque[_Finished] = deque()
        self.row_scales: deque[Any] = deque()

    def parts(self) -> dict[str, Steps]:
        """The coroutines."""
        return {
            "table": self._table(),
            "array": self._array(),
            "scale": self._scale(),
            "final": self._final(),
        }

    def _take(self, names: str) -> Steps:
        yield from self.flow.take(names, "FULL")
        for name in names:
            self.slots[name] ^= 1
            self.flow.read_slot(name, self.slots[name])

    def _takes(self, name: str, body: Body) -> bool:
        return body.first[self.levels[name]]

    def _behind_scale(self, count: int) -> Steps:
        """Not running ahead: wait until so many bodies have passed through SCALE."""
        while not self.flow.ahead and self.scaled < count:
            yield Move.WAITS

    def _give(self, name: str, slot: int, body: Body) -> None:
        if body.last[self.levels[name]]:
            self.flow.free_slot(name, slot, self.number)

    # Units -----------------------------------------------------------------------------------

    def _table(self) -> Steps:
        flow, form, config = self.flow, self.layer.format, self.flow.config
        slots = flow.buffers["X"]
        for body in self.nest:
            yield from self._behind_scale(self.begun)
            if self._takes("X", body):
                yield from self._take("X")
            self._check(body)
            slot, count = self.slots["X"], x_memory_words(config, form.x_words(body.k))
            words = (body.address + np.arange(count)) % slots.size
            yield from flow.wait_for(slots, slot, words.tolist())
            if not slots.valid[slot, words].all():
                flow.unclear(f"activation words of slot {slot} are read that were not loaded")
            rows, columns = flow.get_activations(slot, words, form, body.k)
            if body.k_last:
                self.row_scales.append(rows)
            over_rows = body.inner_r and body.inner > self.levels["T"]
            index = body.index if over_rows else 0
            self.to_array.append(_Work(body, index, columns, flow.clocks.stamp()))
            self.begun += 1
            self.nest.end = body.address + count
            yield Move.MOVED
            yield from self._behind_scale(self.begun)
            self._give("X", slot, body)
            yield Move.MOVED
        self.walked = True

    def _check(self, body: Body) -> None:
        form, config, t_level = self.layer.format, self.flow.config, self.levels["T"]
        at_most = self.flow.at_most
        at_most(self.number, "accumulators", body.n * form.entries, config.tiles)
        at_most(self.number, "places of a body", body.k, config.weight_words * config.step)
        at_most(self.number, "places of a run", min(form.group_size, body.k), config.run)
        over_rows = body.inner_r and body.inner > t_level
        # Seen in the last iteration of a loop over row tiles.
        if (not over_rows or body.last[body.inner - 1]) and body.last[t_level] != body.k_last:
            raise Halt(
                Cause.OPERAND,
                self.number,
                f"the loops from t_level={t_level} inwards do not end together with those over K",
            )
        if form.ternary and (body.k % INDEX_BITS or form.group_size % INDEX_BITS):
            self.flow.unclear(f"ternary runs of other than whole tables of {INDEX_BITS} places")

    def _array(self) -> Steps:
        flow, form = self.flow, self.layer.format
        slots, done = flow.buffers["W"], 0
        while True:
            while not self.to_array:
                if self.walked:
                    return
                yield Move.WAITS
            work = self.to_array[0]
            body = work.body
            flow.clocks.follow(work.stamp)
            if self._takes("W", body):
                yield from self._take("W")
            slot, needed = self.slots["W"], slices(form, body.n, body.k)
            yield from flow.wait_for(slots, slot, [min(len(needed), slots.size) - 1])
            if len(needed) > slots.size or (needed > slots.valid[slot, : len(needed)]).any():
                flow.unclear(f"weight words of slot {slot} are read that were not loaded")
            elif slots.ternary[slot] != form.ternary:
                flow.unclear("binary weights are read as ternary ones, or the other way round")
            work.values = flow.lookup(slot, work.values, form, body.n, body.k)
            flow.counts.lookups += len(needed)
            work.stamp = flow.clocks.stamp()
            self.to_scale.append(self.to_array.popleft())
            done += 1
            yield Move.MOVED
            yield from self._behind_scale(done)
            self._give("W", slot, body)
            yield Move.MOVED

    def _scale(self) -> Steps:
        flow, form, config = self.flow, self.layer.format, self.flow.config
        slots = flow.buffers["S"]
        takes_bias = False
        while True:
            while not self.to_scale:
                if self.walked and self.scaled == self.begun:
                    return
                yield Move.WAITS
            work = self.to_scale[0]
            body = work.body
            flow.clocks.follow(work.stamp)
            takes_sum = self._takes("T", body)
            names = "S" * self._takes("S", body)
            while takes_sum and not self.free_sums:
                yield Move.WAITS
            yield from self._take(names)
            if takes_sum:
                flow.clocks.follow(self.free_sums.popleft())
                self.sum_slot ^= 1
                takes_bias = self.layer.bias and self._takes("B", body)
            words = body.n * config.tile_sums
            flow.at_most(self.number, "sums", (work.row_tile + 1) * words, config.sum_words)
            slot, lines = self.slots["S"], form.scale_lines(body.n, body.k)
            yield from flow.wait_for(slots, slot, [min(lines, slots.size) - 1])
            if lines > slots.size or not slots.valid[slot, :lines].all():
                flow.unclear(f"scale lines of slot {slot} are read that were not loaded")
            place = self.sum_slot, work.row_tile * words
            size = form, body.n, body.k
            flow.accumulate(place, work.values, slot, size, fresh=body.k_first)
            if body.last[self.levels["T"]]:
                row_tiles, stamp = work.row_tile + 1, flow.clocks.stamp()
                self.to_final.append(_Finished(self.sum_slot, body, row_tiles, takes_bias, stamp))
            self.to_scale.popleft()
            self.scaled += 1
            yield Move.MOVED
            self._give("S", slot, body)
            yield Move.MOVED

    def _final(self) -> Steps:
        flow, layer, config = self.flow, self.layer, self.flow.config
        slots = flow.buffers["B"]
        while not (self.walked and self.scaled == self.begun and not self.to_final):
            if not self.to_final:
                yield Move.WAITS
                continue
            done = self.to_final.popleft()
            body = done.body
            flow.clocks.follow(done.stamp)
            if done.takes_bias:
                yield from self._take("B")
            bias_slot = None
            if layer.bias:
                bias_slot, channels = self.slots["B"], layer.channels(body)
                yield from flow.wait_for(slots, bias_slot, [channels - 1])
                if not slots.valid[bias_slot, :channels].all():
                    flow.unclear(f"biases of slot {bias_slot} are read that were not loaded")
            words = body.n * config.tile_sums
            for row_tile in range(done.row_tiles):
                place = done.slot, row_tile * words
                scales = self.row_scales.popleft()
                values = flow.finalise(place, body.n, layer.exponent, scales, bias_slot)
                rows = layer.rows(last=body.r_last and row_tile == done.row_tiles - 1)
                flow.results.append(Results(values, layer.channels(body), rows))
            yield Move.MOVED
            while not flow.ahead and flow.results:
                yield Move.WAITS
            self.free_sums.append(flow.clocks.stamp())
            if layer.bias and body.last[self.levels["B"]]:
                flow.free_slot("B", self.slots["B"], self.number)
            yield Move.MOVED
        while flow.results:
            yield Move.WAITS
