"""Building and caching of simulation models."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lutcore.hw.contract.config import CoreConfig
from lutcore.sim.rtl import build as rtl_build
from lutcore.sim.rtl.simulator import RtlSim
from lutcore.sim.rtl.verilog import verilog_of
from lutcore.sw.base.errors import LutcoreError

OUTPUTS = {
    **{f"s_axi_{name}": 1 for name in ("awready", "wready", "bvalid", "arready", "rvalid")},
    **{"s_axi_bresp": 2, "s_axi_rresp": 2, "s_axi_rdata": 32, "irq": 1},
    **{f"m_axi_{name}": 1 for name in ("awvalid", "wvalid", "wlast", "arvalid")},
    **{f"m_axi_{name}": 1 for name in ("bready", "rready")},
    **{f"m_axi_{a}{name}": w for a in ("aw", "ar") for name, w in (("addr", 40), ("len", 8))},
    **{f"m_axi_{a}{name}": w for a in ("aw", "ar") for name, w in (("size", 3), ("burst", 2))},
}
INPUTS = {
    **{"aclk": 1, "aresetn": 1, "s_axi_awaddr": 12, "s_axi_araddr": 12, "s_axi_wdata": 32},
    **{f"s_axi_{name}": 1 for name in ("awvalid", "wvalid", "bready", "arvalid", "rready")},
    **{f"m_axi_{name}": 1 for name in ("awready", "wready", "bvalid", "arready", "rvalid")},
    **{"s_axi_wstrb": 4, "m_axi_bresp": 2, "m_axi_rresp": 2, "m_axi_rlast": 1},
}


def stub(period: int, *, bus_width: int = 32, missing: str = "", body: str = "") -> str:
    """A core with all the ports that does nothing, but raises ``irq`` after some cycles."""
    outputs = OUTPUTS | {"m_axi_wdata": bus_width, "m_axi_wstrb": bus_width // 8}
    inputs = INPUTS | {"m_axi_rdata": bus_width}
    ports = [f"output [{w - 1}:0] {n}" for n, w in outputs.items() if n != missing]
    ports += [f"input [{w - 1}:0] {n}" for n, w in inputs.items() if n != missing]
    tied = "".join(f"  assign {n} = 0;\n" for n in outputs if n not in ("irq", missing))
    return (
        f"module lutcore({', '.join(ports)});\n{tied}"
        "  reg [15:0] count = 0;\n"
        f"  always @(posedge aclk) count <= aresetn ? count + 1 : 0;\n"
        f"  assign irq = count == {period};\n{body}endmodule\n"
    )


def build(text: str, *, bus_width: int = 32, **arguments):
    defaults: dict[str, Any] = {"optimise": "fast", "progress": False}
    return RtlSim.build(text, bus_width=bus_width, **defaults | arguments)


def cycles_to_irq(model) -> int:
    sim = RtlSim(model, np.zeros(64, np.uint8)).reset()
    begin = sim.cycle
    assert sim.run_until_irq(1000)
    return sim.cycle - begin


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LUTCORE_CACHE", str(tmp_path))
    return tmp_path / "rtl"


@pytest.fixture
def commands(monkeypatch) -> list[str]:
    """Every command that a build runs, but for the question for the compiler's version."""
    run, seen = rtl_build._run, []

    def record(command, *options):
        if "-dumpmachine" not in command:
            seen.append(command[0])
        return run(command, *options)

    monkeypatch.setattr(rtl_build, "_run", record)
    return seen


def test_a_model_is_built_once(cache, commands):
    first = build(stub(5))
    assert commands.count("g++") == 2
    assert first.path.parent == cache and first.bus_width == 32
    commands.clear()
    assert build(stub(5)) == first
    assert commands == []
    assert cycles_to_irq(first) == 6


def test_everything_that_matters_is_in_the_key(commands):
    models = [build(stub(5)), build(stub(6))]
    models += [RtlSim.build(stub(5), bus_width=32, optimise="run", progress=False)]
    models += [build(stub(5, bus_width=64), bus_width=64)]
    assert len({model.path for model in models}) == 4
    assert [cycles_to_irq(model) for model in models] == [6, 7, 6, 6]


def test_nothing_is_left_beside_the_model(cache):
    model = build(stub(5))
    assert {path.suffix for path in cache.iterdir()} == {".so", ".lock"}
    with pytest.raises(LutcoreError):
        build("module lutcore; endmodule")
    assert [path for path in cache.iterdir() if path.suffix == ".so"] == [model.path]
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_concurrent_builds_share_the_work(commands):
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(build, [stub(5)] * 4))
    assert len(set(models)) == 1
    assert commands.count("g++") == 2


def test_concurrent_processes(cache):
    script = (
        "import sys; from lutcore.sim.rtl.simulator import RtlSim\n"
        "print(RtlSim.build(sys.stdin.read(), bus_width=32, optimise='fast').path)"
    )

    def run(_: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script]
        return subprocess.run(command, input=stub(7), capture_output=True, text=True, check=True)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, range(2))
    assert first.stdout == second.stdout
    assert Path(first.stdout.strip()).parent == cache
    # One of them says that it compiled.
    assert sum("RTL model compiled in" in done.stderr for done in (first, second)) == 1


def test_progress_can_be_silenced(capfd):
    build(stub(5), progress=False)
    assert capfd.readouterr() == ("", "")
    build(stub(6), progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "RTL model compiled in" in err


@pytest.mark.parametrize("functions", [100, 8000])
def test_pieces_and_units(monkeypatch, commands, functions):
    monkeypatch.setattr("lutcore.sim.rtl.split._FUNCTION_CHARACTERS", functions)
    monkeypatch.setattr(rtl_build, "_UNIT_CHARACTERS", 100)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert cycles_to_irq(build(stub(9))) == 10
    assert commands.count("g++") == (4 if functions == 100 else 2)


def test_missing_compiler(monkeypatch):
    monkeypatch.setattr(rtl_build.shutil, "which", lambda name: None)
    with pytest.raises(LutcoreError, match=r"g\+\+ is needed .* install the Debian package g\+\+"):
        build(stub(5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("module lutcore(; endmodule", "cannot be built: .*syntax error"),
        ("module other; endmodule", "cannot be built: .*lutcore.* not found"),
        (stub(5, missing="irq").replace("assign irq", "wire irq"), "has no port irq"),
        (stub(5, missing="m_axi_rlast"), "has no port m_axi_rlast"),
        (stub(5, bus_width=64), "port m_axi_wdata is 64 bits wide, not 32"),
        (
            stub(
                5,
                body="  reg [65:0] trace_state = 1;\n  always @(posedge aclk) "
                "trace_state <= trace_state << 1;\n",
            ),
            "trace_state is 66 bits wide: at most 32 units",
        ),
    ],
)
def test_designs_that_cannot_be(text, message):
    with pytest.raises(LutcoreError, match=message):
        build(text)


def test_words_are_not_put_together_from_bits(tmp_path):
    """Each part of a concatenation is a template in the next one: a word of weights is too many."""
    config = CoreConfig(rows=1, lanes=16)
    (tmp_path / "lutcore.v").write_text(verilog_of(config))
    rtl_build._translate(tmp_path)
    statements = (tmp_path / "lutcore.cc").read_text().splitlines()
    assert max(statement.count("concat(") for statement in statements) < config.weight_bits // 4


def test_arguments():
    with pytest.raises(LutcoreError, match=r"bus_width must be 32, .* or 512, not 48"):
        build(stub(5), bus_width=48)
    with pytest.raises(LutcoreError, match="optimise must be one of run, fast, not 'best'"):
        build(stub(5), optimise="best")


def test_trace_state_may_lie_one_level_down():
    text = stub(5, body="  inner core(.clk(aclk));\n") + (
        "module inner(input clk);\n  reg [3:0] trace_state = 0;\n"
        "  always @(posedge clk) trace_state <= 4'b0110;\nendmodule\n"
    )
    sim = RtlSim(build(text), np.zeros(64, np.uint8), trace=True).reset()
    sim.step(3)
    trace = {unit: (s.tolist(), v.tolist()) for unit, (s, v) in sim.trace().items()}
    assert trace == {0: ([0, 1], [0, 2]), 1: ([0, 1], [0, 1])}


def test_a_damaged_model_is_named(cache):
    model = build(stub(5))
    model.path.write_bytes(b"not a library")
    with pytest.raises(LutcoreError, match=f"delete {model.path}"):
        RtlSim(model, np.zeros(64, np.uint8))


CHAIN = """
  wire [3:0] \\chain[0] ;
  assign \\chain[0] [0] = count[0];
  assign \\chain[0] [1] = \\chain[0] [0] ^ count[1];
  assign \\chain[0] [2] = \\chain[0] [1] ^ count[2];
  assign \\chain[0] [3] = \\chain[0] [2] ^ count[3];
  reg [3:0] kept;
  (* keep *) wire [3:0] seen = kept;
  always @(posedge aclk) kept <= \\chain[0] ;
"""
RING = """
  wire a = count[0] ? b : count[1];
  wire b = count[0] ? count[2] : a;
  (* keep *) wire seen = b;
"""


@pytest.mark.parametrize(("body", "settles"), [("", False), (CHAIN, False), (RING, True)])
def test_only_true_rings_cost_a_second_evaluation(tmp_path, body, settles):
    (tmp_path / "lutcore.v").write_text(stub(5, body=body))
    assert rtl_build._translate(tmp_path) is settles


def test_an_unusable_cache_is_named(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("LUTCORE_CACHE", str(file))
    with pytest.raises(LutcoreError, match=r"cannot make the folder .*file/rtl: .*LUTCORE_CACHE"):
        build(stub(5))
