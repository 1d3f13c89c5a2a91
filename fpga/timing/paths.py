"""The longest paths from register to register of a routed design."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lutcore.fpga.synth.yosys import SynthesisError
from lutcore.fpga.timing.delays import Delays, Pin

__all__ = ["Hop", "Path", "longest_paths"]

#: Inputs that are wired to a neighbour, not routed: what lies behind belongs to the same level.
_DEDICATED = frozenset({"FCI", "F1", "FXA", "FXB"})
#: What passes write ports of LUT RAM on, in no time.
_FREE = frozenset({"TRELLIS_RAMW"})


@dataclass(frozen=True)
class Hop:
    """A cell that a path goes through: from `entry` to `exit`, after the wire to `entry`.

    Attributes
    ----------
    entry, exit
        Pins.
    routing, logic
        Picoseconds of the wire and of the cell.
    kind
        Type of the cell.
    """

    entry: Pin
    exit: Pin
    routing: int
    logic: int
    kind: str


@dataclass(frozen=True)
class Path:
    """From the clock's edge at one register to the next edge at another, or at the same one.

    Attributes
    ----------
    start
        Output of the first register.
    launch
        Picoseconds from the clock to it.
    hops
        What it goes through.
    end
        Input of the last register.
    routing
        Picoseconds of the wire to it.
    setup
        What that register needs before the edge.
    """

    start: Pin
    launch: int
    hops: tuple[Hop, ...]
    end: Pin
    routing: int
    setup: int

    @property
    def logic_ps(self) -> int:
        """Time in cells, with clock to output and setup."""
        return self.launch + sum(hop.logic for hop in self.hops) + self.setup

    @property
    def routing_ps(self) -> int:
        """Time on wires."""
        return self.routing + sum(hop.routing for hop in self.hops)

    @property
    def delay_ps(self) -> int:
        """The whole: the shortest period that the clock may have."""
        return self.logic_ps + self.routing_ps

    @property
    def levels(self) -> int:
        """Cells that it enters by routed wires: a carry chain is one, as is a LUT of up to 8."""
        return sum(hop.entry[1] not in _DEDICATED and hop.kind not in _FREE for hop in self.hops)


def longest_paths(
    delays: Delays, begins: Callable[[str], bool] = lambda _cell: True
) -> Iterator[Path]:
    """For every input of a register that paths lead to, the longest of them.

    Parameters
    ----------
    delays
        Of the design.
    begins
        Whether paths that begin in a cell count.

    Raises
    ------
    SynthesisError
        If there is a combinational loop.
    """
    arrival: dict[Pin, int] = {}
    before: dict[Pin, tuple[Pin, int]] = {}
    for pin, delay in delays.launches.items():
        if begins(pin[0]):
            arrival[pin] = delay
    for pin in _sorted(delays):
        at = arrival.get(pin)
        if at is None:
            continue
        for after, delay in _edges(delays, pin):
            if at + delay > arrival.get(after, -1):
                arrival[after] = at + delay
                before[after] = (pin, delay)
    for end, setup in delays.setups.items():
        if end in arrival:
            yield _path(delays, before, end, setup)


def _edges(delays: Delays, pin: Pin) -> list[tuple[Pin, int]]:
    return delays.wires.get(pin) or delays.arcs.get(pin) or []


def _sorted(delays: Delays) -> Iterator[Pin]:
    """All pins, each behind those that lead to it."""
    waiting: dict[Pin, int] = {}
    for table in (delays.wires, delays.arcs):
        for pin, edges in table.items():
            waiting.setdefault(pin, 0)
            for after, _ in edges:
                waiting[after] = waiting.get(after, 0) + 1
    ready = deque(pin for pin, count in waiting.items() if count == 0)
    done = 0
    while ready:
        pin = ready.popleft()
        done += 1
        yield pin
        for after, _ in _edges(delays, pin):
            waiting[after] -= 1
            if waiting[after] == 0:
                ready.append(after)
    if done < len(waiting):
        cell = min(pin[0] for pin, count in waiting.items() if count)
        raise SynthesisError(f"a combinational loop goes through {cell}: no path has an end")


def _path(delays: Delays, before: dict[Pin, tuple[Pin, int]], end: Pin, setup: int) -> Path:
    pins, times = [end], []
    while pins[-1] in before:
        pin, delay = before[pins[-1]]
        pins.append(pin)
        times.append(delay)
    pins.reverse()
    times.reverse()
    # start, (entry, exit) of each cell, end; the wires are every other time.
    hops = tuple(
        Hop(pins[i], pins[i + 1], times[i - 1], times[i], delays.types[pins[i][0]])
        for i in range(1, len(pins) - 1, 2)
    )
    return Path(pins[0], delays.launches[pins[0]], hops, end, times[-1], setup)
