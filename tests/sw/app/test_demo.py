"""The demonstration, with a small layer on the smallest core."""

import dataclasses
import json

import numpy as np
import pytest

from lutcore.sw.app import demo
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.models.smollm2 import ModelUnavailable


@pytest.fixture
def small(monkeypatch):
    """Replace the model by one that cannot be had, and its stand-in by a small one."""
    rng = np.random.default_rng(5)
    layer = QuantLayer(
        name="generated",
        kind="affine",
        bits=4,
        codes=rng.integers(0, 16, (16, 64), dtype=np.uint8),
        group_size=32,
        scales=rng.normal(size=(16, 2)).astype(np.float16),
        offsets=rng.normal(size=(16, 2)).astype(np.float16),
        bias=None,
        checkpoint_bytes=16 * 64 // 2 + 2 * 16 * 2 * 2,
    )
    x = rng.normal(size=(demo.PREFILL_ROWS + 3, 64)).astype(np.float32)

    def unavailable() -> demo.Workload:
        raise ModelUnavailable("no network in this test")

    monkeypatch.setattr(demo, "CONFIG", "tiny")
    monkeypatch.setattr(demo, "real_workload", unavailable)
    monkeypatch.setattr(
        demo, "generated_workload", lambda: demo.Workload("GENERATED layer", False, layer, x)
    )


def test_falls_back_says_so_and_leaves_everything(small, tmp_path, capsys):
    assert demo.main([str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "no network in this test" in captured.err
    assert "GENERATED" in captured.out
    assert captured.out.count("yes") == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "lutcore.v",
        "lutcore.json",
        "decode.prog",
        "decode.s",
        "prefill.prog",
        "prefill.s",
        "report.json",
        "timeline.html",
    }
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["real"] is False
    assert [run["rows"] for run in report["runs"].values()] == [1, 16]
    for run in report["runs"].values():
        assert run["rtl_equals_iss"] and run["rtl_equals_golden"]
        assert run["error_rounding"] < 1e-6
        assert 0 < run["error_total"] < 0.05


def test_a_wrong_bit_fails(small, tmp_path, capsys, monkeypatch):
    right = demo.run

    def wrong(*arguments, on, **options):
        done = right(*arguments, on=on, **options)
        y = done.y.copy()
        if on == "rtl":
            y.view(np.uint32)[0, 0] ^= 1
        return dataclasses.replace(done, y=y)

    monkeypatch.setattr(demo, "run", wrong)
    assert demo.main([str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("NO") == 4
    assert "NOT" in captured.err


def test_a_folder_that_cannot_be_made_is_an_error(small, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert demo.main([str(tmp_path / "file" / "out")]) == 2
    assert capsys.readouterr().err.startswith("lutcore: error: cannot make the folder")


def test_an_unknown_configuration_is_an_error(small, tmp_path, capsys):
    assert demo.main([str(tmp_path / "out"), "tinny"]) == 2
    assert "'tinny' is neither a preset" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_generated_workload_is_the_same_every_time():
    first, second = demo.generated_workload(), demo.generated_workload()
    assert "GENERATED" in first.title and not first.real
    assert (first.layer.n, first.layer.k, first.layer.group_size) == (1536, 576, 32)
    assert len(first.x) >= demo.PREFILL_ROWS
    assert np.array_equal(first.x, second.x)
    assert np.array_equal(first.layer.codes, second.layer.codes)
    assert first.layer.checkpoint_bytes == 552_960
