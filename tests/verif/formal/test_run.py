"""Properties hold and their twins fail; and a claim that says nothing is found out."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lutcore.hw.contract.config import CoreConfig
from lutcore.sw.app.cli import app
from lutcore.verif.formal import run as prove
from lutcore.verif.formal.job import Outcome, broken_source
from lutcore.verif.formal.properties.streams import SOURCES, all_streams
from lutcore.verif.formal.registry import PROPERTIES

QUICK = prove.select((), quick=True)


def test_every_unit_has_a_quick_proof() -> None:
    assert {proof.unit for proof in QUICK} == set(prove.units())


def test_every_twin_has_a_line_to_break() -> None:
    """Of the slow proofs, too, which only ``lutcore prove`` runs."""
    for proof in PROPERTIES.values():
        broken_source(proof.twin)


def test_quick_proofs(tmp_path: Path) -> None:
    results = prove.prove(QUICK, tmp_path, jobs=2)
    assert [(r.proof.name, r.problem) for r in results if not r.passed] == []
    # A twin's contradiction is a run that can be looked at.
    solved = [r for r in results if r.proof.check is None]
    assert all(Path(r.twin.trace).is_file() and r.twin.step is not None for r in solved)


def test_every_stream_has_a_source_that_is_proved() -> None:
    config = CoreConfig(rows=1, lanes=8, group=4, depth=2, planes=4, bus_width=32)
    proved = {type(make()).__name__ for make in SOURCES.values()}
    # A unit's own parts offer what the unit passes on; the engine and the core only wire.
    passed_on = {"TableFill", "Splitter", "Engine"}
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


def test_a_twin_whose_line_is_gone_is_an_error(tmp_path: Path, monkeypatch) -> None:
    from lutcore.verif.formal import job as prove_job

    proof = PROPERTIES["decoder-tiny"]
    gone = replace(proof, twin=replace(proof.twin, old="no such line"))
    monkeypatch.setitem(PROPERTIES, proof.name, gone)
    assert "'no such line' 0 times" in prove_job.run(proof.name, True, tmp_path).error


def test_command_lists_and_refuses() -> None:
    listed = CliRunner().invoke(app, ["prove", "--list", "--unit", "decoder"])
    assert listed.exit_code == 0
    assert "decoder-tiny" in listed.stdout
    refused = CliRunner().invoke(app, ["prove", "--unit", "nothing"])
    assert refused.exit_code != 0
    assert "'nothing'" in str(refused.exception)
