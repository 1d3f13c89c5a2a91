"""Progress where the output is no terminal."""

from types import SimpleNamespace

import pytest

from lutcore.sw.base import progress as module
from lutcore.sw.base.progress import progress


def test_a_log_gets_a_line_for_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Counting", 40) as bar:
        for _ in range(40):
            bar.advance()
    lines = [line for line in capsys.readouterr().err.split("\n") if line]
    assert lines == [f"Counting: {4 * tenth} of 40" for tenth in range(1, 11)]


def test_the_time_left_is_that_of_what_was_not_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it is there at once, and of the rest one takes three minutes."""
    now = 1000.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    with progress("Judging", 10) as bar:
        for place in range(10):
            now += 0.01 if place < 5 else 180
            bar.advance()
    lines = [line for line in capsys.readouterr().err.split("\n") if line]
    assert lines[3:] == [
        "Judging: 4 of 10",
        "Judging: 5 of 10",
        "Judging: 6 of 10, about 12 min left",
        "Judging: 7 of 10, about 9 min left",
        "Judging: 8 of 10, about 6 min left",
        "Judging: 9 of 10, about 3 min left",
        "Judging: 10 of 10",
    ]


def test_a_log_gets_a_line_for_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("all") as bar:
        bar.update(0, 0, "reading")
        bar.update(0, 0, "reading")
        bar.update(1, 2, "judging")
        bar.update(2, 2, "judging")
        bar.print("one fault")
        bar.describe("judging: the rest")
    lines = [line for line in capsys.readouterr().err.split("\n") if line]
    assert lines == [
        "reading",
        "judging: 1 of 2",
        "judging: 2 of 2",
        "one fault",
        "judging: the rest",
    ]
