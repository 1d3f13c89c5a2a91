"""Properties hold and their twins fail; and a claim that says nothing is found out."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lutcore.hw.contract.config import CoreConfig
from lutcore.sw.app.cli import app
from lutcore.sw.base.executor import runner
from lutcore.verif.formal import job
from lutcore.verif.formal import run as prove
from lutcore.verif.formal.job import Outcome
from lutcore.verif.formal.model import Net, Patch
from lutcore.verif.formal.properties.lane import LANE
from lutcore.verif.formal.properties.streams import SOURCES, all_streams
from lutcore.verif.formal.registry import PROPERTIES

QUICK = prove.select((), quick=True)


def test_every_unit_has_a_quick_proof() -> None:
    assert {proof.unit for proof in QUICK} == set(prove.units())


def test_every_twin_says_what_is_wrong() -> None:
    for proof in PROPERTIES.values():
        assert proof.twin.fault


def test_quick_proofs(tmp_path: Path) -> None:
    results = prove.prove(QUICK, tmp_path, runner(2))
    assert [(r.proof.name, r.problem) for r in results if not r.passed] == []
    # A twin's contradiction is a run that can be looked at.
    solved = [r for r in results if r.proof.check is None]
    assert all(Path(r.twin.trace).is_file() and r.twin.step is not None for r in solved)


def test_every_stream_has_a_source_that_is_proved() -> None:
    config = CoreConfig(rows=1, lanes=8, group=4, depth=2, planes=4, bus_width=32)
    proved = {type(make()).__name__ for make in SOURCES.values()}
    # A unit's own parts offer what the unit passes on; the engine and the core only wire.
    passed_on = {"TableFill", "SetQueue", "RunSums", "RowScales", "Splitter", "Engine"}
    sources = {unit for unit, _ in all_streams(config)}
    assert {"Fetch", "Nest", "ReadMaster", "WeightLoader", "Window"} <= sources
    assert sources - passed_on <= proved, sources


@pytest.mark.parametrize(
    ("holds", "twin", "problem"),
    [
        (Outcome(True), Outcome(False, 3), ""),
        (Outcome(False, 5, "claim_x", "t.vcd"), Outcome(False, 3), "in cycle 5: claim_x; trace: t"),
        (Outcome(True), Outcome(True), "the twin"),
        (Outcome(True), Outcome(error="no such line"), "twin: no such line"),
        (Outcome(error="gone"), Outcome(False, 0), "gone"),
    ],
)
def test_passing_takes_a_proof_and_a_broken_twin(
    holds: Outcome, twin: Outcome, problem: str, tmp_path: Path
) -> None:
    result = prove.Result(QUICK[0], holds, twin)
    assert result.passed == (problem == "")
    assert problem in result.problem
    prove.junit([result], tmp_path / "report.xml")
    assert ("<failure" in (tmp_path / "report.xml").read_text()) != result.passed


@pytest.mark.parametrize(
    ("twin", "missing"),
    [
        (Net("dut.no_such_signal", "nothing"), "no signal dut.no_such_signal"),
        (Patch("lutcore.hw.control.fetch", "nobody", lambda right: right, ""), "has no nobody"),
    ],
)
def test_a_twin_of_what_is_not_there_is_an_error(
    twin: Net | Patch, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = PROPERTIES["decoder-tiny"]
    monkeypatch.setitem(PROPERTIES, proof.name, replace(proof, twin=twin))
    assert missing in job.run(proof.name, True, tmp_path).error


def test_a_twin_that_breaks_something_else_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A net of another lane than the one that is looked at."""
    proof = PROPERTIES["lane-symmetric-k2-g1-p1-ram"]
    other = Net(f"dut.sign_{LANE - 1}_0", "another lane's sign", 0)
    monkeypatch.setitem(PROPERTIES, proof.name, replace(proof, twin=other))
    found = job.run(proof.name, True, tmp_path)
    assert found.holds and not found.error


def test_a_patch_is_taken_back() -> None:
    patch = Patch(
        "lutcore.hw.contract.config:CoreConfig", "step", lambda right: property(lambda c: 7), ""
    )
    config = CoreConfig(rows=1, lanes=8)
    before = config.step
    with patch.applied():
        assert config.step == 7
    assert config.step == before


def test_command_lists_and_refuses() -> None:
    listed = CliRunner().invoke(app, ["prove", "--list", "--unit", "decoder"])
    assert listed.exit_code == 0
    assert "decoder-tiny" in listed.stdout
    refused = CliRunner().invoke(app, ["prove", "--unit", "nothing"])
    assert refused.exit_code != 0
    assert "'nothing'" in str(refused.exception)
