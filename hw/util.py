"""Small things that several units need."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import enum

from lutcore.hw.contract.config import CoreConfig

__all__ = ["State", "first_at", "fixed_delay", "last_channel_of", "low_zeros"]


class State(enum.Enum, shape=2):
    """What a unit does in a cycle, for the counters and the trace."""

    IDLE = 0
    BUSY = 1
    WAIT_IN = 2
    WAIT_OUT = 3


def low_zeros(value: int) -> int:
    """Lowest bits of a positive number, and of all its multiples, that are 0."""
    return (value & -value).bit_length() - 1


def first_at(levels: Value, level: Value) -> Value:
    """Entry ``level`` of a body's ``first`` or ``last`` vector."""
    return levels.bit_select(level, 1)


def fixed_delay(m: Module, value: Any, cycles: int, name: str, *, reset_less: bool = False) -> Any:
    """``value`` (of any shape) delayed by ``cycles`` in the domain ``sync``.

    With ``reset_less`` it is data, of which something else says whether it is valid: a reset would
    cost routing, and nobody could see it.
    """
    for index in range(cycles):
        stage = Signal(value.shape(), name=f"{name}_{index + 1}", reset_less=reset_less)
        m.d.sync += stage.eq(value)
        value = stage
    return value


def last_channel_of(config: CoreConfig, tiles: Value, last: Value, last_lanes: Value) -> Value:
    """Number of a block's last channel; the layer's last tile may have fewer than the others."""
    return (tiles - 1) * config.lanes + Mux(last, last_lanes - 1, config.lanes - 1)
