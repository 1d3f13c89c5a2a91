"""Delays of cells and wires, as nextpnr-ecp5 writes them into a file of the Standard Delay Format.

They are those that its own analysis uses, in picoseconds, for the slowest corner.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field

__all__ = ["Delays", "Pin", "read_delays"]

#: Cell and port.
Pin = tuple[str, str]

_NAME = r"((?:\\.|[^\s\\])+)"
_TRIPLE = r"\((?:-?\d*:){2}(-?\d+)\)"
_WIRE = re.compile(rf"\(INTERCONNECT {_NAME} {_NAME} {_TRIPLE} {_TRIPLE}\)")
_TYPE = re.compile(r'\(CELLTYPE "(\w+)"\)')
_INSTANCE = re.compile(rf"\(INSTANCE {_NAME}\)")
_ARC = re.compile(rf"\(IOPATH (\w+) (\w+) {_TRIPLE} {_TRIPLE}\)")
_SETUP = re.compile(rf"\(SETUPHOLD \(\w+ (\w+)\) \(\w+ (\w+)\) {_TRIPLE} {_TRIPLE}\)")
#: Ports that a clock comes in by; a delay from one begins a path.
_CLOCK = re.compile(r"CLK[AB]?\d?|WCK")


@dataclass
class Delays:
    """Of a routed design, in picoseconds.

    Attributes
    ----------
    types
        Cell to its type.
    wires
        Driver to the pins that it reaches, and after what time.
    arcs
        Input to the outputs that follow it without a clock, and after what time.
    launches
        Output to the time after the clock's edge at which it changes.
    setups
        Input to the time before the clock's edge at which it must not change any more.
    """

    types: dict[str, str] = field(default_factory=dict)
    wires: dict[Pin, list[tuple[Pin, int]]] = field(default_factory=lambda: defaultdict(list))
    arcs: dict[Pin, list[tuple[Pin, int]]] = field(default_factory=lambda: defaultdict(list))
    launches: dict[Pin, int] = field(default_factory=dict)
    setups: dict[Pin, int] = field(default_factory=dict)


def read_delays(text: str) -> Delays:
    """Read such a file.

    Parameters
    ----------
    text
        What ``nextpnr-ecp5 --sdf`` writes.
    """
    found = Delays()
    kind = cell = ""
    for line in text.splitlines():
        if match := _WIRE.search(line):
            found.wires[_pin(match[1])].append((_pin(match[2]), max(int(match[3]), int(match[4]))))
        elif match := _ARC.search(line):
            begin, end, delay = match[1], (cell, match[2]), max(int(match[3]), int(match[4]))
            if not _CLOCK.fullmatch(begin):
                found.arcs[cell, begin].append((end, delay))
            else:
                found.launches[end] = max(delay, found.launches.get(end, 0))
        elif match := _SETUP.search(line):
            pin = (cell, match[1])
            found.setups[pin] = max(int(match[3]), found.setups.get(pin, int(match[3])))
        elif match := _TYPE.search(line):
            kind = match[1]
        elif match := _INSTANCE.search(line):
            cell = _plain(match[1])
            found.types[cell] = kind
    return found


def _pin(text: str) -> Pin:
    cell, _, port = text.rpartition("/")
    return _plain(cell), port


def _plain(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)
