"""The command line from end to end, on layers small enough for every backend but the RTL."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from lutcore.hw.contract.config import PRESETS, CoreConfig
from lutcore.sim.golden import golden
from lutcore.sw.app.cli import main
from lutcore.sw.layers.activations import quantise
from lutcore.sw.layers.checkpoint import read_layer

N, K, GROUP = 20, 40, 16


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(7)
    np.savez(
        "layer.npz",
        codes=rng.integers(0, 16, (N, K), dtype=np.uint8),
        bits=4,
        scales=rng.normal(size=(N, 3)).astype(np.float16),
        offsets=rng.normal(size=(N, 3)).astype(np.float16),
        group_size=GROUP,
    )
    np.save("x.npy", rng.normal(size=(3, K)).astype(np.float32))
    return tmp_path


@pytest.fixture
def program(folder):
    assert main(["compile", "layer.npz", "--config", "tiny", "--rows", "3", "-o", "a.prog"]) == 0
    return folder / "a.prog"


def fails(capsys, *arguments: str) -> str:
    """Run a command that must fail as an error of the user's; its message."""
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("lutcore: error: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("lutcore: error: ").rstrip()


def test_presets_are_listed(capsys):
    assert main(["config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["preset", *PRESETS]
    paper = next(line for line in lines if line.startswith("paper"))
    assert paper.split()[1:5] == ["2", "64", "4", "1"]
    assert paper.split()[-1] == "512"


@pytest.mark.parametrize("name", PRESETS)
def test_config_prints_a_configuration_file(name, capsys, tmp_path):
    assert main(["config", name]) == 0
    text = capsys.readouterr().out
    assert CoreConfig.from_dict(tomllib.loads(text)) == PRESETS[name]
    assert f"{PRESETS[name].peak} weight-bit MACs per cycle" in text
    assert f"{PRESETS[name].fingerprint:#018x}" in text
    (tmp_path / "my.toml").write_text(text)
    assert main(["config", str(tmp_path / "my.toml")]) == 0
    assert capsys.readouterr().out == text


def test_compile_says_what_it_made(folder, capsys):
    assert main(["compile", "layer.npz", "--config", "tiny", "-o", "a.prog"]) == 0
    out = capsys.readouterr().out
    assert f"{N} x {K}, 4 bits" in out
    assert "weight image" in out


def test_compile_writes_the_same_file_every_time(program):
    content = program.read_bytes()
    assert main(["compile", "layer.npz", "--config", "tiny", "--rows", "3", "-o", "b.prog"]) == 0
    assert Path("b.prog").read_bytes() == content


@pytest.mark.parametrize("on", ["golden", "iss"])
def test_run_gives_the_golden_result(on, program, capsys):
    run = ["run", "a.prog", "-i", "x.npy", "-o", "y.npy", "--on", on, "--report", "r.json"]
    assert main(run) == 0
    y = np.load("y.npy")
    expected = golden(read_layer("layer.npz"), *quantise(np.load("x.npy"), 8))
    assert y.dtype == np.float32
    assert np.array_equal(y.view(np.uint32), expected.view(np.uint32))
    report = json.loads(Path("r.json").read_text())
    assert report["on"] == on
    assert report["useful_macs"] == 3 * N * K * 4
    assert report["cycles"] is None
    first = Path("y.npy").read_bytes(), Path("r.json").read_bytes()
    assert main(run) == 0
    assert (Path("y.npy").read_bytes(), Path("r.json").read_bytes()) == first


def test_run_takes_integers_as_they_are(program):
    q = np.random.default_rng(1).integers(-128, 128, (3, K)).astype(np.int8)
    np.save("x.npy", q)
    assert main(["run", "a.prog", "-i", "x.npy", "-o", "y.npy", "--on", "iss"]) == 0
    expected = golden(read_layer("layer.npz"), q, np.ones(3, np.float32))
    assert np.array_equal(np.load("y.npy"), expected)


def test_int8_activations_run_on_an_int16_core(folder):
    Path("c.toml").write_text(
        'rows = 1\nlanes = 8\ngroup = 4\ndepth = 2\nactivation = "int16"\nplanes = 4\n'
        'table_store = "distributed"\ntable_form = "full"\nbus_width = 32\n'
    )
    q = np.random.default_rng(1).integers(-128, 128, (1, K)).astype(np.int8)
    np.save("x.npy", q)
    assert main(["compile", "layer.npz", "--config", "c.toml", "-o", "a.prog"]) == 0
    assert main(["run", "a.prog", "-i", "x.npy", "-o", "y.npy", "--on", "iss"]) == 0
    expected = golden(read_layer("layer.npz"), q, np.ones(1, np.float32))
    assert np.array_equal(np.load("y.npy"), expected)


def test_disassembly_assembles_to_the_same_file(program, capsys):
    assert main(["disasm", "a.prog", "-o", "a.s"]) == 0
    assert main(["asm", "a.s", "-o", "b.prog"]) == 0
    assert Path("b.prog").read_bytes() == program.read_bytes()
    capsys.readouterr()
    assert main(["disasm", "a.prog"]) == 0
    assert capsys.readouterr().out == Path("a.s").read_text()
    assert main(["disasm", "a.prog", "--no-image"]) == 0
    out = capsys.readouterr().out
    assert ".image" not in out
    assert f"K = {K}" in out


def test_layers_of_an_archive(folder, capsys):
    assert main(["layers", "layer.npz"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["tensor", "format", "shape", "compiles", "reason"]
    assert out[1].split()[0] == "layer"
    assert f"{N}x{K}" in out[1].split()
    assert out[1].split()[-1] == "yes"
    assert out[-1] == "1 of 1 tensors compile"


def test_layers_reads_the_values(folder, capsys):
    """Scales over more than 40 bits compile by format and shape, but not by their values."""
    scales = np.array([[2.0**-60], [2.0**20]], np.float32)
    np.savez("wide.npz", codes=np.zeros((2, 8), np.uint8), bits=2, scales=scales)
    assert main(["layers", "wide.npz"]) == 0
    out = capsys.readouterr().out
    assert "81 bits, of which 40 are exact" in out
    assert out.endswith("0 of 1 tensors compile\n")
    message = fails(capsys, "compile", "wide.npz", "-o", "a.prog")
    assert "81 bits, of which 40 are exact" in message


def test_errors_name_the_value(program, capsys):
    assert "'nope' is neither a preset" in fails(capsys, "config", "nope")
    assert "missing.npz" in fails(capsys, "layers", "missing.npz")
    assert "rows must be in 1.." in fails(
        capsys, "compile", "layer.npz", "--rows", "0", "-o", "b.prog"
    )
    assert "has no layer 'other'" in fails(
        capsys, "compile", "layer.npz", "--layer", "other", "-o", "b.prog"
    )
    assert "cannot be read" in fails(capsys, "disasm", "missing.prog")
    assert "not a lutcore program" in fails(capsys, "disasm", "x.npy")
    assert "cannot read missing.s" in fails(capsys, "asm", "missing.s", "-o", "b.prog")
    assert not Path("b.prog").exists()


def test_an_error_is_one_line_whatever_it_names(folder, capsys):
    assert "two lines.npz" in fails(capsys, "layers", "two\nlines.npz")


def test_too_many_bits_for_the_core(folder, capsys):
    np.savez("eight.npz", codes=np.zeros((8, 8), np.uint8), bits=8, scales=np.ones((8, 1), "f2"))
    message = fails(capsys, "compile", "eight.npz", "--config", "tiny", "-o", "a.prog")
    assert "8 bits, but the core has 4 planes" in message


def test_impossible_configuration(folder, capsys):
    Path("c.toml").write_text("lanes = 12\n")
    assert "lanes must be a multiple of 8, not 12" in fails(capsys, "config", "c.toml")
    Path("c.toml").write_text("lane = 16\n")
    assert "unknown configuration key 'lane'" in fails(capsys, "generate", "c.toml", "-o", "rtl")


def test_activations_that_do_not_fit(program, capsys):
    def message(x: np.ndarray) -> str:
        np.save("x.npy", x)
        return fails(capsys, "run", "a.prog", "-i", "x.npy", "-o", "y.npy", "--on", "iss")

    assert "compile it with --rows 2" in message(np.zeros((2, K), np.float32))
    assert f"takes [rows, {K}]" in message(np.zeros((3, K + 1), np.float32))
    assert "every value must be finite" in message(np.full((3, K), np.nan, np.float32))
    assert "convert them" in message(np.zeros((3, K), np.float64))
    assert not Path("y.npy").exists()


def test_activation_files_that_are_none(program, capsys):
    def message(name: str) -> str:
        return fails(capsys, "run", "a.prog", "-i", name, "-o", "y.npy", "--on", "iss")

    assert "cannot read none.npy" in message("none.npy")
    assert "is an archive of arrays" in message("layer.npz")
    Path("text.npy").write_text("no array")
    assert "text.npy is no .npy file" in message("text.npy")
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    assert "objects.npy is no .npy file" in message("objects.npy")


def test_a_program_that_stops_is_an_error(program, capsys):
    """Without tokens for the weights, everybody waits for everybody."""
    assert main(["disasm", "a.prog", "-o", "a.s"]) == 0
    text = Path("a.s").read_text()
    assert "counter=w_free count=2" in text
    Path("a.s").write_text(text.replace("counter=w_free count=2", "counter=w_free count=0"))
    assert "every unit waits" in fails(capsys, "asm", "a.s", "-o", "b.prog")
    assert not Path("b.prog").exists()
    assert main(["asm", "a.s", "-o", "b.prog", "--unchecked"]) == 0
    message = fails(capsys, "run", "b.prog", "-i", "x.npy", "-o", "y.npy", "--on", "iss")
    assert message.startswith("the core stopped with DEADLOCK at instruction ")
    assert not Path("y.npy").exists()


def test_memory_arguments_are_checked(program, capsys):
    run = ("run", "a.prog", "-i", "x.npy", "-o", "y.npy", "--on", "rtl")
    assert "at most 1 beat per cycle, not 1.5" in fails(capsys, *run, "--memory-bandwidth", "1.5")
    assert "at least 1 cycle, not 0" in fails(capsys, *run, "--memory-latency", "0")


def test_usage_errors(capsys):
    assert main(["run"]) == 2
    assert "Missing argument" in capsys.readouterr().err
    assert main(["run", "a", "-i", "x", "-o", "y", "--on", "gpu"]) == 2
    assert "'golden', 'iss', 'rtl'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["config", "generate", "layers", "compile", "disasm", "asm", "run"]
)
def test_every_command_explains_itself_by_example(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"lutcore {command} " in capsys.readouterr().out.split("\n", 1)[1]


def test_without_a_terminal_nothing_is_coloured(program):
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "40"}
    command = [
        sys.executable,
        "-m",
        "lutcore.sw.app.cli",
        "run",
        "a.prog",
        "-i",
        "x.npy",
        "-o",
        "y.npy",
    ]
    done = subprocess.run(
        [*command, "--on", "iss"], capture_output=True, env=environment, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout


def test_generate(folder, capsys):
    assert main(["generate", "tiny", "-o", "build/rtl"]) == 0
    assert capsys.readouterr().out.split() == ["build/rtl/lutcore.v", "build/rtl/lutcore.json"]
    verilog = Path("build/rtl/lutcore.v").read_text()
    assert "module lutcore(" in verilog
    description = json.loads(Path("build/rtl/lutcore.json").read_text())
    assert description["fingerprint"] == f"{PRESETS['tiny'].fingerprint:#018x}"
    assert main(["generate", "tiny", "-o", "again"]) == 0
    assert Path("again/lutcore.v").read_text() == verilog
