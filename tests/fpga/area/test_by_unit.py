"""The core by unit: every module belongs to one, and every unit is there."""

import re

import pytest

from lutcore.fpga.area.by_unit import _UNITS, _by_unit, units_of
from lutcore.hw.contract.config import PRESETS
from lutcore.sim.rtl.verilog import verilog_of


@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_every_module_falls_into_a_unit(name: str) -> None:
    verilog = verilog_of(PRESETS[name])
    found = units_of(verilog)
    modules = re.findall(r"^module \\?([\w.$]+)", verilog, re.MULTILINE)
    assert set(found) == set(modules)
    assert set(found.values()) == set(_UNITS.values())
    for buffer in ("weights", "scales", "biases", "activations"):
        assert found[f"lutcore.core.engine.{buffer}_buffer"] == "buffers"
    assert found["lutcore.core.engine.table.fill"] == "table fill"
    assert found["lutcore.core.engine"] == found["lutcore"] == "bus, registers, tokens"


def test_cells_of_all_modules_are_counted() -> None:
    cell = {"type": "LUT4", "port_directions": {}, "connections": {}}
    modules = {
        "lutcore": {"cells": {"a": cell, "core": {**cell, "type": "lutcore.core"}}},
        "lutcore.core": {"cells": {"b": cell, "c": cell}},
    }
    units = {"lutcore": "one", "lutcore.core": "two"}
    found = _by_unit(modules, units, "ecp5")
    assert {name: unit["luts"] for name, unit in found.items()} == {"one": 1, "two": 2}
