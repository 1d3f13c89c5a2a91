"""Small things that several units need."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import enum

__all__ = ["State", "add_or_subtract", "first_at", "fixed_delay"]


class State(enum.Enum, shape=2):
    """What a unit does in a cycle, for the counters and the trace."""

    IDLE = 0
    BUSY = 1
    WAIT_IN = 2
    WAIT_OUT = 3


def first_at(levels: Value, level: Value) -> Value:
    """Entry ``level`` of a body's ``first`` or ``last`` vector."""
    return levels.bit_select(level, 1)


def add_or_subtract(x: Value, y: Value, subtract: Value, width: int) -> Value:
    """``x - y`` where ``subtract``, else ``x + y``: one carry chain of ``width`` + 1 bits.

    The carry into the lowest bit comes from an extra position below it, because synthesis does not
    merge ``x + (y ^ s) + s`` into one adder.
    """
    x_bits = _extend(x, width)
    y_bits = _extend(y, width) ^ subtract.replicate(width)
    return (Cat(subtract, x_bits) + Cat(subtract, y_bits))[1 : width + 1].as_signed()


def _extend(value: Value, width: int) -> Value:
    """``value`` sign-extended (or cut) to ``width`` bits."""
    if len(value) >= width:
        return value[:width]
    return Cat(value, value[-1].replicate(width - len(value)))


def fixed_delay(m: Module, value: Any, cycles: int, name: str) -> Any:
    """``value`` (of any shape) delayed by ``cycles`` in the domain ``sync``."""
    for index in range(cycles):
        stage = Signal(value.shape(), name=f"{name}_{index + 1}")
        m.d.sync += stage.eq(value)
        value = stage
    return value
