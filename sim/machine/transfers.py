"""LDW, LDX and STY of the machine without numbers."""

from collections.abc import Iterator
from itertools import cycle

from lutcore.hw.contract.config import SLOTS, ceil_div
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import RESULT_ALIGNMENT, Cause
from lutcore.hw.contract.loops import Body
from lutcore.sim.machine.base import Halt, Layer, Move, Nest, Steps
from lutcore.sim.machine.slots import slices
from lutcore.sim.machine.state import Machine
from lutcore.sw.program.blocks import x_memory_words

__all__ = ["load_activations", "load_weights", "store"]

#: Requests that a loader may have made before the first one's data are in their slot.
_REQUESTS_AHEAD = 4


class _Sink:
    """The half of a loader that takes the data.

    When it meets a fault, the other half goes on for a while: it may meet another one, and earlier.
    """

    def __init__(self, flow: Machine) -> None:
        self.flow = flow
        self.left = _REQUESTS_AHEAD
        self.broken = False

    def fails(self, fault: Halt) -> None:
        self.flow.faults.append(fault.fault)
        self.broken = True

    def load(self, name: str, slot: int, number: int) -> None:
        """Begin with a slot, unless that is over."""
        if self.broken:
            return
        try:
            self.flow.load_slot(name, slot, number)
        except Halt as fault:
            self.fails(fault)

    def waits(self) -> bool:
        """Whether a further request finds no room any more."""
        self.left -= self.broken
        return self.left < 0


def load_weights(flow: Machine, number: int, fields: dict[str, int], nest: Nest) -> Steps:
    """LDW."""
    assert flow.layer is not None
    layer, config = flow.layer, flow.config
    form = layer.format
    turns: dict[str, Iterator[int]] = {name: cycle(range(SLOTS)) for name in "WSB"}
    sink = _Sink(flow)
    for body in nest:
        n, k = body.n, body.k
        scales = body.first[fields["scale_level"]]
        bias = layer.bias and body.first[fields["bias_level"]]
        flow.at_most(number, "tiles", n, config.tiles)
        if scales:
            flow.at_most(number, "scale lines", form.scale_lines(n, k), config.scale_words)
        places = n * form.planes * k
        flow.at_most(number, "codes in places", places, config.weight_words * config.step)

        names = "W" + "S" * scales + "B" * bias
        yield from flow.take(names, "FREE")
        slots = {name: next(turns[name]) for name in names}
        for name, slot in slots.items():
            sink.load(name, slot, number)
        sizes = {
            "B": form.padded(form.bias_bytes(n)) if bias else 0,
            "S": form.padded(form.scale_bytes(n, k)) if scales else 0,
            "W": form.padded(form.code_bytes(n, k)),
        }
        flow.request(number, Region.WEIGHTS, body.address, sum(sizes.values()))
        address = body.address
        for name, size in sizes.items():
            if size and not sink.broken:
                try:
                    _fill(flow, number, name, slots[name], (address, size), layer, body)
                except Halt as fault:
                    sink.fails(fault)
            address += size
        nest.end = address
        yield Move.MOVED
        while sink.waits():
            yield Move.WAITS
    while sink.broken:
        yield Move.WAITS


def _fill(
    flow: Machine, number: int, name: str, slot: int, span: tuple[int, int], layer: Layer,
    body: Body,
) -> None:  # fmt: skip
    """A section of a block arrives."""
    slots, form, (address, size) = flow.buffers[name], layer.format, span
    if name == "W":
        parts = slices(form, body.n, body.k)
        flow.put(name, slot, 0, address, size, (form, body.n, body.k))
        slots.write(parts)
        slots.ternary[slot] = form.ternary
        flow.at_most(number, "weight words", len(parts), slots.size)
    else:
        width = 2 * flow.config.scale_lanes if name == "S" else 4
        flow.put(name, slot, 0, address, size)
        slots.write(size // width)


def load_activations(flow: Machine, number: int, fields: dict[str, int], nest: Nest) -> Steps:
    """LDX."""
    config, slots = flow.config, flow.buffers["X"]
    width, room = config.x_memory_bytes, config.x_slot_words
    turn = cycle(range(SLOTS))
    sink = _Sink(flow)
    fill = slot = 0
    for body in nest:
        words = x_memory_words(config, body.k)
        fresh = body.first[fields["level"]]
        fill = (0 if fresh else fill) + words
        flow.at_most(number, "activation words", fill, room)
        if fresh:
            yield from flow.take("X", "FREE")
            slot = next(turn)
            sink.load("X", slot, number)
        flow.request(number, Region.ACTIVATIONS, body.address, words * width)
        if not sink.broken:
            flow.put("X", slot, fill - words, body.address, words * width)
            slots.write(words)
        nest.end = body.address + words * width
        yield Move.MOVED
        while sink.waits():
            yield Move.WAITS
    while sink.broken:
        yield Move.WAITS


def store(flow: Machine, number: int, nest: Nest) -> Steps:
    """STY."""
    assert flow.layer is not None
    layer, config = flow.layer, flow.config
    for body in nest:
        flow.at_most(number, "tiles", body.n, config.tiles)
        for value in (body.address, layer.row_stride):
            if value % RESULT_ALIGNMENT:
                message = f"{value} is no multiple of {RESULT_ALIGNMENT} bytes"
                raise Halt(Cause.OPERAND, number, message)
        channels, rows = layer.channels(body), layer.rows(last=body.r_last)
        for row in range(rows):
            address = body.address + row * layer.row_stride
            flow.window(number, Region.RESULTS, address, 4 * channels)
            while not flow.results:
                yield Move.WAITS
            results = flow.results[0]
            # A row that is too short leaves the rest of the last group that it has.
            flow.put_results(address, results.values, row, min(channels, results.channels))
            groups = [ceil_div(c, config.final_lanes) for c in (channels, results.channels)]
            if groups[0] != groups[1]:
                message = f"{channels} channels to store, but {results.channels} were computed"
                raise Halt(Cause.OPERAND, number, message)
            flow.put_results(address, results.values, row, channels)
            beat = config.beat_bytes
            flow.counts.write_beats += (address + 4 * channels - 1) // beat - address // beat + 1
            if (row == rows - 1) != (row == results.rows - 1):
                message = f"{rows} rows to store, but {results.rows} were computed"
                raise Halt(Cause.OPERAND, number, message)
            yield Move.MOVED
        flow.results.popleft()
        nest.end = body.address + rows * layer.row_stride
        yield Move.MOVED
