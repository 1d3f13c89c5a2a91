"""Writing files whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.files import write_file


def test_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, "one\n")
    write_file(path, b"two\n")
    assert path.read_bytes() == b"two\n"
    assert list(tmp_path.iterdir()) == [path]


def test_mode_follows_the_umask(tmp_path):
    mask = os.umask(0o027)
    try:
        write_file(tmp_path / "a", "")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_failure_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(LutcoreError, match=r"cannot write .*a\.txt: No space left on device"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_and_folder_as_file_are_errors(tmp_path):
    with pytest.raises(LutcoreError, match=r"cannot write .*: No such file or directory"):
        write_file(tmp_path / "missing" / "a", "")
    with pytest.raises(LutcoreError, match=r"cannot write .*: Is a directory"):
        write_file(tmp_path, "")


def test_device_is_written_directly():
    write_file(Path(os.devnull), "text")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
