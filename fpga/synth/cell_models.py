"""Models of the vendors' cells that adders are made of, so that designs with them can be simulated.

Amaranth's simulator knows no cells. `modelled` puts what they do in their place.
"""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Array, Cat, Const, Fragment, Instance, Module, Mux, Value

__all__ = ["MODELS", "modelled"]

Pins = dict[str, Value]


def _carry4(m: Module, parameters: dict[str, Any], pins: Pins) -> None:
    carry = pins["CI"] | pins["CYINIT"]
    for i in range(len(pins["S"])):  # the others are 0
        select = pins["S"][i]
        m.d.comb += pins["O"][i].eq(select ^ carry)
        carry = Mux(select, carry, pins["DI"][i])
        m.d.comb += pins["CO"][i].eq(carry)
        carry = pins["CO"][i]


def _lut6_2(m: Module, parameters: dict[str, Any], pins: Pins) -> None:
    table = _bits(parameters["INIT"], 64)
    inputs = Cat(pins[f"I{i}"] for i in range(6))
    m.d.comb += [
        pins["O6"].eq(Array(table)[inputs]),
        pins["O5"].eq(Array(table[:32])[inputs[:5]]),
    ]


def _ccu2c(m: Module, parameters: dict[str, Any], pins: Pins) -> None:
    carry = pins["CIN"]
    for half in range(2):
        if parameters[f"INJECT1_{half}"] != "NO":
            raise ValueError("CCU2C is modelled without INJECT1 alone")
        table = _bits(parameters[f"INIT{half}"], 16)
        inputs = Cat(pins[f"{pin}{half}"] for pin in "ABCD")
        propagate = Array(table)[inputs]
        m.d.comb += pins[f"S{half}"].eq(propagate ^ carry)
        carry = Mux(propagate, carry, Array(table[:4])[inputs[:2]])
    m.d.comb += pins["COUT"].eq(carry)


#: Cell to the function that adds what it does to a module.
MODELS: dict[str, Callable[[Module, dict[str, Any], Pins], None]] = {
    "CARRY4": _carry4,
    "LUT6_2": _lut6_2,
    "CCU2C": _ccu2c,
}


def modelled(fragment: Any) -> Fragment:
    """``fragment`` (a `Fragment`), changed in place: a model for every cell in it and below.

    Raises
    ------
    ValueError
        If there is a cell without a model.
    """
    if not any(isinstance(below, Instance) for below, _, _ in fragment.subfragments):
        for below, _, _ in fragment.subfragments:
            modelled(below)
        return fragment
    # One module for all cells of a parent: they may drive bits of the same signal.
    models = Module()
    others: list[Any] = []
    for below, name, source in fragment.subfragments:
        if not isinstance(below, Instance):
            others.append((modelled(below), name, source))
            continue
        cell: Any = below
        if cell.type not in MODELS:
            raise ValueError(f"there is no model of {cell.type}")
        pins = {pin: value for pin, (value, _) in cell.ports.items()}
        MODELS[cell.type](models, dict(cell.parameters), pins)
    fragment.subfragments[:] = [*others, (Fragment.get(models, None), "cells", None)]
    return fragment


def _bits(table: Const | int, count: int) -> list[int]:
    value = table.value if isinstance(table, Const) else table
    return [value >> i & 1 for i in range(count)]
