"""The benches of the units: that they pass on the design, and fail on one that is wrong."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lutcore.hw.contract.config import CoreConfig
from lutcore.verif.kit.env import SETTINGS_VARIABLE, Settings
from lutcore.verif.kit.points import UNITS, points
from lutcore.verif.regression.benches import BENCHES
from lutcore.verif.regression.simulators import build, simulate
from lutcore.verif.units.catalogue import UNIT_BENCHES
from lutcore.verif.units.layouts import codec

SMALL = CoreConfig(rows=1, lanes=8, group=2, depth=2, planes=2, bus_width=64)


def run(unit: str, test: str, folder: Path, edit: Callable[[str], str] = str) -> str | None:
    """The failure of a test on the unit's edited Verilog, or None."""
    bench = UNIT_BENCHES[unit]
    Settings(SMALL, 1, unit, "icarus", 1, folder).save(folder / "settings.json")
    design = build("icarus", edit(bench.verilog(SMALL)), bench.top)
    environment = {SETTINGS_VARIABLE: str(folder / "settings.json")}
    file = simulate(design, bench.module, folder, environment=environment, seed=1, test=test)
    cases = list(ElementTree.parse(file).getroot().iter("testcase"))
    assert [case.get("name") for case in cases if case.find("skipped") is None] == [test]
    failures = [failure for case in cases for failure in case.iter("failure")]
    return failures[0].get("message", "") if failures else None


def replace(pattern: str, replacement: str) -> Callable[[str], str]:
    """An edit of the first place that a pattern matches."""

    def edit(verilog: str) -> str:
        edited, count = re.subn(pattern, replacement, verilog, count=1, flags=re.MULTILINE)
        assert count, f"nothing matches {pattern}"
        return edited

    return edit


#: A test of each unit, short ones.
TESTS = {
    "table": "instructions",
    "lanes": "random_steps",
    "accumulators": "random_jobs",
    "scale": "layers",
    "dma_read": "random_requests",
    "dma_write": "random_requests",
    "fetch": "good_programs",
    "csr": "every_register",
}
#: Edits of the Verilog, and what is to be named as wrong.
EDITS = {
    # A node of an adder tree subtracts.
    "lanes": (replace(r"(looked_\w+, \S+ +\}) \+ ", r"\1 - "), r"sums \[lane, row\] at step \d+"),
    # Every beat is the last one of its request.
    "dma_read": (replace(r"= bus__rlast & ", "= 1'h1 & "), r"last for client \d at request"),
    # A byte is written whether its strobe is set or not.
    "csr": (replace(r"& strobe\[1\];", "& 1'h1;"), r"data and response of \w+"),
}


def test_a_test_of_each_unit() -> None:
    assert TESTS.keys() == UNIT_BENCHES.keys()


@pytest.mark.parametrize("unit", TESTS)
def test_a_good_unit_passes(unit: str, tmp_path: Path) -> None:
    assert run(unit, TESTS[unit], tmp_path) is None


@pytest.mark.parametrize("unit", EDITS)
def test_an_edit_is_caught(unit: str, tmp_path: Path) -> None:
    """The failure names the cycle and the first wrong value."""
    edit, what = EDITS[unit]
    failure = run(unit, TESTS[unit], tmp_path, edit)
    assert failure is not None
    assert re.search(rf"cycle \d+: {unit}: {what}.* is .*, expected ", failure), failure


def test_points_belong_to_benches() -> None:
    assert tuple(UNIT_BENCHES) == UNITS
    for point in points().values():
        assert set(point.benches) <= BENCHES.keys()
        assert len(set(point.bins)) == len(point.bins)


def test_codec() -> None:
    from amaranth.hdl import signed
    from amaranth.lib import data

    layout = data.StructLayout({"a": signed(4), "b": data.ArrayLayout(3, 2), "c": 1})
    value = {"a": -3, "b": [5, 2], "c": 1}
    bits = codec(layout).pack(value)
    assert bits == layout.const(value).as_bits()
    assert codec(layout).unpack(bits) == value
    assert codec(layout).pack({"c": 1}) == 1 << 10
