"""The regression as a user runs it: on Icarus, on a small core, and on a broken one."""

import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lutcore.hw.contract.config import CoreConfig
from lutcore.sim.rtl.verilog import verilog_of
from lutcore.sw.app.cli import main

SMALL = CoreConfig(rows=1, lanes=8, group=2, depth=1, planes=2, bus_width=32)
#: The test that the injected bug has to fail.
TEST = "random_layers"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "small.toml"
    file.write_text(SMALL.to_toml())
    return file


@pytest.fixture(scope="module")
def verilog() -> str:
    return verilog_of(SMALL)


def verify(*options: object) -> int:
    return main(["verify", *map(str, options)])


def broken(verilog: str) -> str:
    """The core with subtractions for the sums in a lane of the scale unit."""
    start = re.search(r"^module \\lutcore\.core\.engine\.scale\.lane_0 ", verilog, re.MULTILINE)
    assert start is not None
    before, rest = verilog[: start.start()], verilog[start.start() :]
    lane, end, rest = rest.partition("endmodule")
    assert " + " in lane
    return before + lane.replace(" + ", " - ") + end + rest


def test_a_good_core_passes(config: Path, tmp_path: Path, capsys) -> None:
    options = ("--unit", "core", "--config", config, "--test", TEST, "-o", tmp_path)
    assert verify(*options) == 0
    printed = capsys.readouterr().out
    assert "all passed; seed 1" in printed
    assert re.search(r"back-pressure .* of 9", printed)
    suites = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert [case.get("name") for case in suites.iter("testcase")] == [TEST]
    assert not list(suites.iter("failure"))


@pytest.fixture(scope="module")
def edited(verilog: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("edited") / "edited.v"
    file.write_text(broken(verilog))
    return file


def test_random_programs_run_on_an_edited_file(
    config: Path, edited: Path, tmp_path: Path, capsys
) -> None:
    options = ("--unit", "programs", "--config", config, "--rtl", edited)
    assert verify(*options, "-o", tmp_path) == 1
    printed = capsys.readouterr().out
    assert re.search(
        r"legal program \d+: after \d+ cycles: result \d+ is 0x[0-9a-f]{8}, expected", printed
    ), printed
    assert f"--count 1 --rtl {edited}" in printed


def test_directed_scenarios_run_on_an_edited_file(
    config: Path, edited: Path, tmp_path: Path, capsys
) -> None:
    options = ("--unit", "directed", "--config", config, "--rtl", edited)
    assert verify(*options, "--test", "layers", "-o", tmp_path) == 1
    printed = capsys.readouterr().out
    assert re.search(r"what: +cycle \d+: byte \d+ of RESULTS is 0x[0-9a-f]{2} after", printed), (
        printed
    )
    assert f"--rtl {edited} --test layers" in printed
    assert "1 jobs, 1 tests, 1 failed" in printed


@pytest.mark.parametrize("unit", ["core", "programs", "directed"])
def test_a_test_that_is_not_there(unit: str, config: Path, tmp_path: Path, capsys) -> None:
    options = ("--unit", unit, "--config", config, "--test", "nosuch", "-o", tmp_path)
    assert verify(*options) == 1
    assert f"bench {unit} has no test nosuch" in capsys.readouterr().out


def test_gates_are_tested_when_they_are_asked_for(config: Path, tmp_path: Path) -> None:
    options = ("--config", config, "-o", tmp_path)
    assert verify(*options, "--unit", "gates", "--test", "polling") == 0
    assert {folder.name for folder in tmp_path.iterdir() if folder.is_dir()} == {
        "configs",
        "gates-small",
    }


def test_an_injected_bug_is_caught_and_repeated(
    config: Path, edited: Path, tmp_path: Path, capsys
) -> None:
    results = tmp_path / "results"
    options = ("--config", config, "--rtl", edited, "--unit", "core", "--test", TEST)
    assert verify(*options, "--seed", 7, "-o", results) == 1
    printed = capsys.readouterr().out
    what = re.search(r"what: +(cycle \d+: y\[row, channel\]\[\d+, \d+\] is .*)", printed)
    assert what is not None, printed
    for fact in ("configuration: small", "seed:          7", "expected"):
        assert fact in printed
    suites = ElementTree.parse(results / "junit.xml").getroot()
    assert [failure.get("message") for failure in suites.iter("failure")] == [what[1]]

    command = re.search(r"repeat with: +lutcore verify (.*)", printed)
    assert command is not None
    # The configuration is no preset, so the command names the copy beside the results.
    assert "configs/small.toml" in command[1]
    assert verify(*shlex.split(command[1]), "-o", tmp_path / "again") == 1
    assert what[1] in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [
        (("--unit", "nothing"), "--unit must be one of"),
        (("--seed", "-1"), "--seed must be 0 or more, not -1"),
        (("--config", "nothing"), "is neither a preset"),
        (("--rtl", "nothing.v"), "cannot read nothing.v"),
        (("--full", "--config", "tiny"), "--config and --full exclude each other"),
        (("--test", TEST), "--test needs --unit"),
        (("--unit", "csr", "--rtl", __file__), "--rtl replaces the whole core"),
        (("--rtl", __file__), "has no module lutcore"),
        (("--junit", "nowhere/junit.xml"), "the folder of nowhere/junit.xml does not exist"),
    ],
)
def test_bad_options_are_refused(options, message: str, tmp_path: Path, capsys) -> None:
    assert verify(*options, "-o", tmp_path) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_simulator_is_an_error(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert verify("--unit", "core", "-o", tmp_path) == 2
    assert "apt install iverilog" in capsys.readouterr().err
