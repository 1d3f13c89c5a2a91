"""What decides whether a kept result is taken."""

import sys
from pathlib import Path

import pytest

from lutcore.sw.base.cache import Kept, source_digest


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a module in a subfolder of a subfolder."""
    folder = tmp_path / "sourcery"
    inner = folder / "memory" / "deep"
    inner.mkdir(parents=True)
    for place in (folder, folder / "memory", inner):
        (place / "__init__.py").write_text("")
    (inner / "dma.py").write_text("WIDTH = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sourcery", raising=False)
    return folder


def test_an_edit_in_a_subfolder_is_another_digest(package: Path) -> None:
    before = source_digest("sourcery")
    (package / "memory" / "deep" / "dma.py").write_text("WIDTH = 2\n")
    assert source_digest("sourcery") != before


def test_a_moved_file_is_another_digest(package: Path) -> None:
    before = source_digest("sourcery")
    (package / "memory" / "deep" / "dma.py").rename(package / "memory" / "dma.py")
    assert source_digest("sourcery") != before


def test_only_what_is_named_counts(package: Path) -> None:
    before = source_digest("sourcery.memory.deep.dma")
    (package / "memory" / "deep" / "__init__.py").write_text('"""Changed."""\n')
    assert source_digest("sourcery.memory.deep.dma") == before


def test_sources_decide_where_a_result_is_kept(package: Path) -> None:
    before = Kept("test", "part", sources=("sourcery",)).path
    assert Kept("test", "part", sources=("sourcery",)).path == before
    (package / "memory" / "deep" / "dma.py").write_text("WIDTH = 2\n")
    assert Kept("test", "part", sources=("sourcery",)).path != before


def test_sources_that_do_not_exist_are_named() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no sources of lutcore\.hw\.nowhere"):
        source_digest("lutcore.hw.nowhere")
