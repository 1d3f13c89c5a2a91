"""Synthesis: designs whose size is known, the cache, failures."""

import json
from pathlib import Path
from typing import Any

import pytest

from lutcore.fpga.synth import flow as synth
from lutcore.fpga.synth import yosys
from lutcore.fpga.synth.flow import SynthesisError, synthesise
from lutcore.fpga.synth.resources import Resources
from lutcore.fpga.synth.sites import pack_luts
from lutcore.sw.base.files import OutputError

ADDER = """
module adder(input [7:0] a, b, output [7:0] y);
  assign y = a + b;
endmodule
"""

# A table of 32 entries of 6 bits, a delay of 16, one LUT6_2 and a carry placed by hand, two small
# LUTs and an inverter.
XC7 = """
module xc7(
  input clk, we, input [4:0] wa, ra, input [5:0] d, output [5:0] q,
  input s, output delayed, output o5, o6, input ci, input [3:0] p, g, output [3:0] sum,
  input [3:0] a, output x, y, z);
  reg [5:0] table_ [0:31];
  always @(posedge clk) if (we) table_[wa] <= d;
  assign q = table_[ra];
  reg [15:0] delay;
  always @(posedge clk) delay <= {delay[14:0], s};
  assign delayed = delay[15];
  LUT6_2 #(.INIT(64'h96969696_e8e8e8e8))
    both(.I0(d[0]), .I1(d[1]), .I2(d[2]), .I3(d[3]), .I4(d[4]), .I5(1'b1), .O5(o5), .O6(o6));
  CARRY4 chain(.CI(ci), .CYINIT(1'b0), .DI(g), .S(p), .O(sum), .CO());
  assign x = a[0] & a[1];
  assign y = a[1] | a[2];
  assign z = ~a[3];
endmodule
"""

# A table of 16 entries of 4 bits, a carry placed by hand and a product.
ECP5 = """
module ecp5(
  input clk, we, input [3:0] wa, ra, d, output [3:0] q, input [7:0] a, b, output [15:0] p,
  output s0, s1);
  reg [3:0] table_ [0:15];
  always @(posedge clk) if (we) table_[wa] <= d;
  assign q = table_[ra];
  assign p = a * b;
  CCU2C #(.INIT0(16'h96aa), .INIT1(16'h96aa), .INJECT1_0("NO"), .INJECT1_1("NO"))
    chain(.CIN(1'b0), .A0(d[0]), .B0(d[1]), .C0(d[2]), .D0(1'b1),
          .A1(d[1]), .B1(d[2]), .C1(d[3]), .D1(1'b1), .S0(s0), .S1(s1));
endmodule
"""

# Two memories: one that wants LUT RAM, which there is none of, and one that fits a block.
ICE40 = """
module ice40(
  input clk, we, input [1:0] wa, ra, input d, output q,
  input [7:0] bwa, bra, input [15:0] bd, output reg [15:0] bq, input [7:0] a, b, output less);
  (* ram_style = "distributed" *) reg table_ [0:3];
  always @(posedge clk) if (we) table_[wa] <= d;
  assign q = table_[ra];
  (* no_rw_check *) reg [15:0] block [0:255];
  always @(posedge clk) begin
    if (we) block[bwa] <= bd;
    bq <= block[bra];
  end
  assign less = a < b;
endmodule
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    """An empty cache, so that what the tests see is made by this flow."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTCORE_CACHE", str(folder))
        yield folder


def test_adder_on_xc7() -> None:
    found = synthesise(ADDER, "adder", "xc7")
    assert found.cells == {"CARRY4": 2, "LUT2": 8}
    # Each position of the chain needs the LUT before it, but Yosys' estimate packs them in pairs.
    assert (found.lut_cells, found.lut_sites, found.estimated_lcs, found.luts) == (8, 8, 4, 4)


def test_everything_of_xc7() -> None:
    found = synthesise(XC7, "xc7", "xc7")
    assert found.cells == {
        "CARRY4": 1, "LUT1": 1, "LUT2": 2, "LUT6_2": 1, "RAM32M": 1, "SRL16E": 1,
    }  # fmt: skip
    assert found.lut_memory == 4 + 1
    assert found.estimated_lcs == pack_luts({1: 1, 2: 2}) == 2
    assert found.luts == 2 + 1 + 5
    assert found.lut_cells == 3 + 1
    # The four positions of the carry are fed past their LUTs.
    assert found.lut_sites == 4 + 2 + 1 + 5
    assert found.tools == {"yosys": synth.yosys_version()}


def test_everything_of_ecp5() -> None:
    found = synthesise(ECP5, "ecp5", "ecp5", dsp=True)
    assert found.cells == {"CCU2C": 1, "MULT18X18D": 1, "TRELLIS_DPR16X4": 1}
    assert (found.luts, found.lut_memory, found.dsps) == (2 + 6, 6, 1)
    assert synthesise(ECP5, "ecp5", "ecp5").dsps == 0


def test_adder_on_ecp5() -> None:
    found = synthesise(ADDER, "adder", "ecp5")
    assert found.cells == {"CCU2C": 4}
    assert found.luts == found.lut_sites == 8


def test_adder_on_ice40() -> None:
    found = synthesise(ADDER, "adder", "ice40")
    assert found.cells == {"SB_CARRY": 7, "SB_LUT4": 8}
    assert found.luts == 8


def test_memories_and_carries_of_ice40() -> None:
    found = synthesise(ICE40, "ice40", "ice40")
    assert found.block_rams == 1
    assert found.flip_flops == 4
    # Each carry of the comparison takes the inverter before it into its cell.
    assert found.cells["SB_CARRY"] == 8
    assert found.luts == found.lut_cells


def test_modules_stay_apart_without_flatten() -> None:
    twice = """
    module inner(input a, b, output y);
      assign y = a & b;
    endmodule
    module outer(input a, output y);
      inner i(.a(a), .b(1'b0), .y(y));
    endmodule
    """
    assert synthesise(twice, "outer", "ecp5").luts == 0
    assert synthesise(twice, "outer", "ecp5", flatten=False).luts == 1


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The designs that Yosys really ran on, with a Yosys that is quick."""
    calls: list[str] = []

    def run(script: str, folder: Path, what: str) -> None:
        calls.append(what)
        stat = {"num_cells_by_type": {"LUT4": len(calls)}}
        (folder / "stat.json").write_text(json.dumps({"design": stat}))

    monkeypatch.setattr(synth, "run_yosys", run)
    return calls


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUTCORE_CACHE", str(tmp_path))
    return tmp_path


def test_result_is_kept(runs: list[str], empty: Path) -> None:
    reported: list[str] = []
    first = synthesise("// 1", "top", "ecp5", report=reported.append)
    assert synthesise("// 1", "top", "ecp5", report=reported.append) == first
    assert Resources(**first.as_dict()) == first
    assert runs == ["top for ecp5"]
    assert reported == ["Synthesising top for ecp5"]
    assert [path.suffix for path in empty.rglob("*") if path.is_file()] == [".json"]


@pytest.mark.parametrize(
    "change",
    [{"verilog": "// 2"}, {"top": "other"}, {"dsp": True}, {"flatten": False}],
    ids=lambda change: next(iter(change)),
)
def test_another_question_is_another_result(runs: list[str], empty: Path, change: dict) -> None:
    asked: dict[str, Any] = {"verilog": "// 1", "top": "top", "target": "ecp5"}
    first = synthesise(**asked)
    assert synthesise(**{**asked, **change}) != first
    assert len(runs) == 2


def test_another_yosys_is_another_result(
    runs: list[str], empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesise("// 1", "top", "ecp5")
    monkeypatch.setattr(synth, "yosys_version", lambda: "0")
    synthesise("// 1", "top", "ecp5")
    assert len(runs) == 2


def test_changed_counting_is_another_result(
    runs: list[str], empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesise("// 1", "top", "ecp5")
    monkeypatch.setattr("lutcore.sw.base.cache.source_digest", lambda *names: f"changed {names}")
    synthesise("// 1", "top", "ecp5")
    assert len(runs) == 2


def test_damaged_result_is_made_again(runs: list[str], empty: Path) -> None:
    synthesise("// 1", "top", "ecp5")
    next(empty.rglob("*.json")).write_text("{")
    synthesise("// 1", "top", "ecp5")
    assert len(runs) == 2


def test_failure_has_the_reason_and_the_log() -> None:
    broken = "module top(input a, output y);\n  missing m(.a(a), .y(y));\nendmodule\n"
    with pytest.raises(SynthesisError) as caught:
        synthesise(broken, "top", "ecp5")
    message = str(caught.value)
    assert message.startswith("cannot synthesise top for ecp5: Yosys: Module `\\missing'")
    assert "\n" not in message
    assert caught.value.log[-1].startswith("ERROR: Module `\\missing'")


def test_failure_is_not_kept(cache: Path) -> None:
    before = set(cache.rglob("*"))
    for _ in range(2):
        with pytest.raises(SynthesisError, match="cannot synthesise top for ice40: Yosys: "):
            synthesise("module top(", "top", "ice40")
    assert {path for path in cache.rglob("*") if path.is_file()} <= before


def test_half_a_run_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = "open('yosys.log', 'w').write('1. Executing ABC9 pass.\\n')"
    monkeypatch.setattr(yosys, "_CALL", stop)
    with pytest.raises(SynthesisError, match=r"stopped with exit code 0 after: 1\. Executing ABC9"):
        yosys.run_yosys("", tmp_path, "top for ecp5")


def test_what_came_to_an_end_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yosys, "_CALL", "raise MemoryError('4 GB')")
    with pytest.raises(
        SynthesisError, match=r"exit code 1 .* MemoryError: 4 GB\. .* fewer columns"
    ):
        yosys.run_yosys("", tmp_path, "top for ecp5")


def test_printed_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    design = tmp_path / "adder.v"
    design.write_text(ADDER)
    synth.main(design, "adder", target="ecp5")
    assert json.loads(capsys.readouterr().out)["cells"] == {"CCU2C": 4}


def test_error_of_the_command_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        synth.main(tmp_path / "no.v", "adder", target="ecp5")
    error = capsys.readouterr().err.strip()
    assert error == f"lutcore: error: cannot read {tmp_path}/no.v: No such file or directory"


def test_bad_arguments_are_named() -> None:
    with pytest.raises(SynthesisError, match="must be one of xc7, ecp5, ice40, cells, not 'max10'"):
        synthesise(ADDER, "adder", "max10")
    with pytest.raises(SynthesisError, match="plain Verilog name, not 'a; shell rm'"):
        synthesise(ADDER, "a; shell rm", "ecp5")
    with pytest.raises(ValueError, match="synthesised flat"):
        synthesise(ADDER, "adder", "cells", flatten=False)


def test_unusable_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LUTCORE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="set LUTCORE_CACHE to a writable one"):
        synthesise(ADDER, "adder", "ecp5")
