"""Units of a core, and each of them alone."""

import re

import pytest

from lutcore.fpga.synth.flow import SynthesisError
from lutcore.fpga.timing.units import WHOLE, Units
from lutcore.hw.contract.config import PRESETS
from lutcore.hw.core import Engine
from lutcore.hw.export import generate_verilog


@pytest.fixture(scope="module")
def verilog() -> str:
    return generate_verilog(PRESETS["tiny"], "ecp5")


@pytest.fixture(scope="module")
def units(verilog: str) -> Units:
    return Units(verilog)


def test_units_are_what_the_core_and_its_engine_consist_of(units: Units) -> None:
    engine = Engine(PRESETS["tiny"])
    inside = {*engine.requesters, *(f"window_{name}" for name in engine.windows)}
    inside |= {"table", "array", "scale", "final", "tokens"}
    inside |= {f"issue_{unit.name.lower()}" for unit in engine.issues}
    inside |= {f"{name}_buffer" for name in engine.buffers}
    outside = {"reader", "writer", "registers", "counters", "supervisor", "regions"}
    assert inside | outside <= set(units.leaves)
    assert set(units.modules) - set(units.leaves) == {"core", "engine"}
    for name in inside:
        assert units.modules[name] == f"lutcore.core.engine.{name}"
    for name in outside:
        assert units.modules[name] == f"lutcore.core.{name}"


def test_what_is_inside_a_unit_belongs_to_it(units: Units) -> None:
    assert units.unit_of("lutcore.core.engine.final.lane_0.add_bias") == "final"
    assert units.unit_of("lutcore.core.engine") == "engine"
    assert units.unit_of("lutcore.core") == units.unit_of("lutcore") == "core"


@pytest.mark.parametrize(
    ("name", "top"), [("final", "final"), ("final.lane_0", "lane_0"), ("engine", "engine")]
)
def test_a_unit_alone_has_its_own_modules(units: Units, verilog: str, name: str, top: str) -> None:
    design = units.design(name)
    assert (design.name, design.top) == (name, top)
    found = re.findall(r"^module \\?([^\s(]+)", design.verilog, re.MULTILINE)
    every = re.findall(r"^module \\?([^\s(]+)", verilog, re.MULTILINE)
    assert found[0] == top
    assert set(found[1:]) == {m for m in every if m.startswith(f"{design.module}.")}
    assert design.verilog.count("\nendmodule") == len(found)


def test_the_whole_core_is_all_of_it(units: Units, verilog: str) -> None:
    design = units.design(WHOLE)
    assert design.top == design.module == "lutcore"
    assert design.verilog.count("\nendmodule") == verilog.count("\nendmodule")


@pytest.mark.parametrize("name", ["fletch", "final.lane_9", ""])
def test_an_unknown_unit_is_named_with_those_that_there_are(units: Units, name: str) -> None:
    with pytest.raises(SynthesisError, match=rf"there is no unit '{name}' .* array, biases_buf"):
        units.design(name)
