"""Names of cells and wires, in netlists that are written by hand."""

from typing import Any

import pytest

from lutcore.fpga.timing.names import PORTS, Names, Point
from lutcore.fpga.timing.units import Design

VERILOG = r"""
module unit (clk, a, y);
  input clk;
  input a;
  output [1:0] y;
endmodule
module \lutcore.core.engine.unit.part (clk, given);
  input clk;
  input given;
endmodule
"""
DESIGN = Design("unit", VERILOG, "unit", "lutcore.core.engine.unit")


def _wire(*bits: int, hdlname: str = "", hidden: bool = False) -> dict[str, Any]:
    attributes = {"hdlname": hdlname} if hdlname else {}
    return {"bits": list(bits), "hide_name": int(hidden), "attributes": attributes}


def _flip_flop(d: int, q: int) -> dict[str, Any]:
    return {
        "type": "TRELLIS_FF",
        "attributes": {},
        "port_directions": {"DI": "input", "Q": "output"},
        "connections": {"DI": [d], "Q": [q]},
    }


GATE = {
    "type": "$_AND_",
    "attributes": {},
    "port_directions": {"A": "input", "Y": "output"},
    "connections": {"A": [6], "Y": [7]},
}
NAMED = {
    "ports": {"clk": {}, "a": {}, "y": {}},
    "cells": {"$ff$1": _flip_flop(2, 4), "$ff$2": _flip_flop(2, 6), "$gate": GATE},
    "netnames": {
        "a": _wire(2),
        "y": _wire(4, 5),
        # The same wire in the module that drives it and in one that reads it, which is deeper.
        "sent": _wire(4),
        "part.given": _wire(4, hdlname="part given"),
        "part.held": _wire(7, 8, hdlname="part held"),
        "\\$3": _wire(9),
        "$auto$9": _wire(6, hidden=True),
    },
}
MAPPED = {
    "cells": {
        "$flatten\\dut.$ff$1": _flip_flop(12, 14),
        "$flatten\\dut.$ff$2": _flip_flop(12, 16),
        "dut.part.words$7.0.1": {"type": "TRELLIS_DPR16X4"},
        "$flatten\\dut.$add": {"attributes": {"src": "design.v:8.1-9.10|/share/map.v:1.1-2.2"}},
        "i0.ff": _flip_flop(11, 12),
        "o1.ff": _flip_flop(15, 18),
    },
    "netnames": {
        "dut.a": _wire(12),
        "dut.y": _wire(14, 15),
        "inputs": _wire(12),
        # Of the names of a wire one is left, and nextpnr takes one, be it of the frame.
        "dut.part.given": _wire(14),
        "dut.part.held": _wire(17, 18),
        "dut.$3": _wire(19),
        "outputs": _wire(14, 15, 18),
    },
}
ROUTED = {
    "cells": {
        "lut": {"connections": {"F": [21]}},
        "other": {"connections": {"F": [22]}},
        "sum": {"connections": {"F": [23]}},
        "new": {"connections": {"F": [24]}},
    },
    "netnames": {
        "outputs[0]": _wire(21),
        "dut.part.held[1]": _wire(22),
        "dut.$3": _wire(23),
        "$nextpnr$1": _wire(24),
    },
}


@pytest.fixture
def names() -> Names:
    units = {"lutcore.core.engine.unit": "unit", "lutcore.core.engine.unit.part": "part"}
    return Names(
        DESIGN, named=NAMED, mapped=MAPPED, routed=ROUTED, unit_of=lambda module: units[module]
    )


def test_a_register_is_named_where_it_is_driven(names: Names) -> None:
    expected = Point("engine.unit.sent", None, "unit", "engine.unit.sent")
    assert names.start(("$flatten\\dut.$ff$1", "Q")) == expected


def test_a_register_without_a_name_is_before_the_next_that_has_one(names: Names) -> None:
    found = names.start(("$flatten\\dut.$ff$2", "Q"))
    assert found.text == "(before engine.unit.part.held)[0]"
    assert found.unit == "part"


def test_a_memory_has_its_own_name_in_all_its_parts(names: Names) -> None:
    for cell in ("dut.part.words$7.0.1", "dut.part.words$7.0.1$DPRAM_COMB3"):
        found = names.end((cell, "WAD2"))
        assert found.text == "engine.unit.part.words (address)"
        assert found.unit == "part"


@pytest.mark.parametrize(
    ("pin", "text"), [("CE", " (enable)"), ("LSR", " (reset)"), ("DI", ""), ("M", "")]
)
def test_ends_say_which_input_it_is(names: Names, pin: str, text: str) -> None:
    assert names.end(("$flatten\\dut.$ff$1", pin)).text == f"engine.unit.sent{text}"


def test_registers_of_the_frame_are_ports(names: Names) -> None:
    assert names.start(("i0.ff", "Q")).text == "port a"
    assert names.end(("o1.ff", "DI")).text == "port y[1]"
    assert names.end(("o1.ff", "DI")).unit == PORTS
    assert names.in_frame("i0.ff") and names.in_frame("x0_1")
    assert not names.in_frame("dut.part.words$7.0.1")


def test_wires_have_names_unless_nextpnr_made_them(names: Names) -> None:
    given, held = names.wire(("lut", "F")), names.wire(("other", "F"))
    assert given is not None and given.text == "engine.unit.sent"
    assert held is not None and held.text == "engine.unit.part.held[1]"
    sum_ = names.wire(("sum", "F"))
    assert sum_ is not None and sum_.text == "engine.unit.$3"
    assert names.wire(("new", "F")) is None


def test_a_carry_cell_belongs_to_the_unit_whose_text_it_stems_from(names: Names) -> None:
    assert names.unit("$flatten\\dut.$add$CCU2_COMB1") == "part"
    assert names.unit("$flatten\\dut.$lut") is None
