"""What the parts of the machine without numbers (`lutcore.sim.machine.flow`) have in common."""

import enum
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import Cause
from lutcore.hw.contract.loops import Body, Loop, walk
from lutcore.sw.program.blocks import BlockFormat

__all__ = [
    "Counts",
    "Fault",
    "Halt",
    "Layer",
    "Move",
    "Nest",
    "Order",
    "Outcome",
    "Results",
    "Steps",
]


class Move(enum.Enum):
    """What a coroutine yields."""

    MOVED = 0
    WAITS = 1


class Order(enum.Enum):
    """Which units go first whenever several can move: the extremes.

    Memories are as full as they can be, or as empty; and of the two loaders, which share the bus,
    either may be the faster one. The values are the names of the units' coroutines.
    """

    LOADERS = ("fetch", "ldx", "ldw", "table", "array", "scale", "final", "store")
    LOADERS_LDW = ("fetch", "ldw", "ldx", "table", "array", "scale", "final", "store")
    READERS = ("fetch", "store", "final", "scale", "array", "table", "ldw", "ldx")
    READERS_LDX = ("fetch", "store", "final", "scale", "array", "table", "ldx", "ldw")


Steps = Generator[Move, None, None]


@dataclass
class Counts:
    """What a program moved and computed, as the core's counters count it.

    Attributes
    ----------
    lookups
        Array steps: one plane of one step of one tile.
    read_beats
        Beats read, the program's own included.
    write_beats
        Beats written; each row of a block of results begins a new one.
    """

    lookups: int = 0
    read_beats: int = 0
    write_beats: int = 0


@dataclass(frozen=True)
class Fault:
    """Why a unit stands still."""

    cause: Cause
    instruction: int
    message: str


@dataclass(frozen=True)
class Outcome:
    """How a program ends.

    Attributes
    ----------
    faults
        What the core may stop with, the first one found first; empty if the program reaches its
        END.
    undefined
        Why results depend on the moment, such as a slot that is loaded while it is read; empty
        if they do not.
    unfinished
        The program is longer than it was allowed to be, and was left.
    reached
        The last instruction that was handed to a unit.
    """

    faults: tuple[Fault, ...]
    undefined: str
    unfinished: bool
    reached: int


class Halt(Exception):
    """A unit meets a fault."""

    def __init__(self, cause: Cause, number: int, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(cause, number, message)


@dataclass(frozen=True)
class Layer:
    """The layer registers, set by LAYER."""

    format: BlockFormat
    bias: bool
    exponent: int
    last_lanes: int
    last_rows: int
    row_stride: int

    @classmethod
    def of(cls, config: CoreConfig, fields: Mapping[str, int]) -> "Layer":
        """From the fields of the instruction."""
        flags = {name: bool(fields[name]) for name in ("per_plane", "ternary", "offset", "wide")}
        form = BlockFormat(
            config, planes=fields["planes"], group_size=fields["group_size"], **flags
        )
        rest = ("exponent", "last_lanes", "last_rows", "row_stride")
        return cls(form, bool(fields["bias"]), *(fields[name] for name in rest))

    def channels(self, body: Body) -> int:
        """Channels of a body; the layer's last tile may have fewer than the others."""
        lanes = self.format.config.lanes
        return body.n * lanes + (self.last_lanes - lanes if body.n_last else 0)

    def rows(self, *, last: bool) -> int:
        """Rows of a row tile."""
        return self.last_rows if last else self.format.config.rows


class Nest:
    """The bodies of an instruction; the unit says where each one ended."""

    def __init__(self, loops: list[Loop], base: int = 0) -> None:
        self.end = 0
        self._bodies = walk(loops, base, end=lambda _: self.end)

    def __iter__(self) -> Iterator[Body]:
        return self._bodies


@dataclass
class Results:
    """Results of a row tile on their way from FINAL to STORE."""

    values: Any
    channels: int
    rows: int
