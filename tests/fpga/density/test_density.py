"""The density comparison: who takes part, how it is counted, what is printed."""

import json
import re
from pathlib import Path

import pytest

from lutcore.fpga.density import run as density_run
from lutcore.fpga.density.compare import (
    GROUPS,
    SIZES,
    WORKLOADS,
    Contender,
    Score,
    Size,
    Workload,
    contenders,
    usual_size,
)
from lutcore.fpga.density.report import as_json, best, plot, table, verdict
from lutcore.fpga.synth.resources import Resources
from lutcore.sw.app.cli import main

W4 = Workload(4, "int8")
SIZE = Size(1, 32, 64)


def make(
    letter: str, luts: int, *, ffs: int = 0, name: str = "form", use: float = 1.0, dsp: bool = False
) -> Score:
    contender = Contender(W4, "xc7", letter, name, SIZE, dsp=dsp)
    resources = Resources(
        target="xc7", cells={}, luts=luts, lut_sites=luts, flip_flops=ffs, dsps=7 * dsp
    )
    return Score(contender, resources, 2048, dict.fromkeys(GROUPS, use))


def test_cost_counts_the_luts_whose_flip_flops_are_taken() -> None:
    assert make("b", 1000, ffs=1999).cost == 1000
    assert make("b", 1000, ffs=3000).cost == 1500
    assert make("b", 1024, use=0.5).effective(GROUPS[0]) == 1.0


def test_the_strongest_baseline_counts_but_not_with_dsps() -> None:
    scores = [make("LUT", 4096), make("b", 9000), make("c", 8192), make("a", 10, dsp=True)]
    assert best(scores, "bc") is scores[2]
    assert verdict(W4, scores).startswith("W4 INT8: the table is 2.00 times denser")
    assert "(c)" in verdict(W4, scores)


def test_says_where_the_table_loses() -> None:
    assert "LOSES, 2.00 times" in verdict(W4, [make("LUT", 8192), make("b", 4096)])


def test_table_and_json_have_every_contender(tmp_path: Path) -> None:
    scores = [make("LUT", 4096, name="tables"), make("b", 9000, name="tree")]
    text = table(W4, scores)
    assert text.index("tables") < text.index("tree")
    assert "2.00" in text
    content = json.loads(as_json(scores))
    assert [s["name"] for s in content["scores"]] == ["tables", "tree"]
    assert content["scores"][0]["cost_per_mac"] == {"128": 2.0, "32": 2.0}
    plot(scores, tmp_path / "a.svg")
    plot(scores, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"W4 INT8" in (tmp_path / "a.svg").read_bytes()


@pytest.mark.parametrize("target", SIZES)
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.name)
def test_all_kinds_take_part(target: str, workload: Workload) -> None:
    some = list(contenders(workload, target, usual_size(target, workload)))
    letters = {c.letter for c in some}
    assert letters == ({"LUT", "a", "b"} if workload.ternary else {"LUT", "a", "b", "c", "d"})
    assert len(some) == len({(c.letter, c.name, c.dsp) for c in some})
    for contender in some:
        if contender.config is not None:
            assert contender.config.planes == workload.bits
            assert contender.config.lanes == SIZES[target].lanes


def test_wide_activations_have_half_of_the_columns() -> None:
    wide, narrow = Workload(4, "int16"), Workload(4, "int8")
    assert usual_size("xc7", wide).columns * 2 == usual_size("xc7", narrow).columns
    assert usual_size("cells", wide) == usual_size("cells", narrow)


def test_the_best_forms_of_each_kind_go_on() -> None:
    scores = [make("b", 100 * i, name=f"form {i}") for i in range(1, 5)]
    scores.append(make("b", 1, name="form 5", dsp=True))
    assert density_run.best_forms(scores) == {("b", "form 1", False), ("b", "form 2", False)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "xc7", "--liberty", "x.lib"], "--liberty is for --target cells alone"),
        (["--workload", "w3-int8"], "--workload must be one of w4-int8, .* not 'w3-int8'"),
        (["--plot", "a.gif"], r"--plot must end in \.svg"),
        (["--json", "nowhere/a.json"], "the folder of nowhere/a.json does not exist"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "density", *arguments]) != 0
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(message, error)
