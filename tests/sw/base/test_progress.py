"""Progress where the output is no terminal."""

import re

import pytest

from lutcore.sw.base.progress import progress


def test_a_log_gets_a_line_for_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Counting", 40) as bar:
        for _ in range(40):
            bar.advance()
    lines = capsys.readouterr().err.split("\n")
    found = [line for line in lines if line]
    assert [line.partition(",")[0] for line in found] == [
        f"Counting: {4 * tenth} of 40" for tenth in range(1, 11)
    ]
    assert all(re.fullmatch(r"Counting: \d+ of 40, about \d+ s left", line) for line in found[:-1])
    assert found[-1] == "Counting: 40 of 40"


def test_a_log_gets_a_line_for_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("all") as bar:
        bar.update(0, 0, "reading")
        bar.update(0, 0, "reading")
        bar.update(1, 2, "judging")
        bar.update(2, 2, "judging")
        bar.print("one fault")
    lines = [line for line in capsys.readouterr().err.split("\n") if line]
    assert lines == ["reading", "judging: 1 of 2", "judging: 2 of 2", "one fault"]
