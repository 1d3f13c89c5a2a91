"""Models of cells, which the simulator takes, against those of Yosys."""

from pathlib import Path

import pytest
from amaranth.hdl import Elaboratable, Fragment, Instance, Module, Signal
from cell_proof import equal

from lutcore.fpga.synth import cell_models
from lutcore.fpga.synth.cell_models import modelled
from lutcore.hw.export import component_verilog

INPUTS = {
    "CARRY4": {"CI": 1, "CYINIT": 1, "S": 4, "DI": 4},
    "LUT6_2": {f"I{i}": 1 for i in range(6)},
    "CCU2C": {f"{pin}{half}": 1 for half in range(2) for pin in "ABCD"} | {"CIN": 1},
}
OUTPUTS = {
    "CARRY4": {"CO": 4, "O": 4},
    "LUT6_2": {"O5": 1, "O6": 1},
    "CCU2C": {"S0": 1, "S1": 1, "COUT": 1},
}
PARAMETERS: dict[str, dict[str, object]] = {
    "CARRY4": {},
    "LUT6_2": {"INIT": 0x9E3779B97F4A7C15},
    "CCU2C": {"INIT0": 0x3C6E, "INIT1": 0xF372, "INJECT1_0": "NO", "INJECT1_1": "NO"},
}


class Cell(Elaboratable):
    """A cell between ports; with ``model``, what stands for it in the simulator."""

    def __init__(self, kind: str, model: bool) -> None:
        self.kind = kind
        self.model = model
        self.inputs = {pin: Signal(n, name=pin.lower()) for pin, n in INPUTS[kind].items()}
        self.outputs = {pin: Signal(n, name=pin.lower()) for pin, n in OUTPUTS[kind].items()}

    def elaborate(self, platform: object) -> Fragment | Module:
        m = Module()
        m.submodules += Instance(
            self.kind,
            **{f"i_{pin}": signal for pin, signal in self.inputs.items()},
            **{f"o_{pin}": signal for pin, signal in self.outputs.items()},
            **{f"p_{name}": value for name, value in PARAMETERS[self.kind].items()},
        )
        return modelled(Fragment.get(m, platform)) if self.model else m

    def verilog(self) -> str:
        ports = [*self.inputs.values(), *self.outputs.values()]
        return component_verilog(self, "gold" if self.model else "gate", ports)


@pytest.mark.parametrize("kind", INPUTS)
def test_models_do_what_the_cells_do(kind: str, tmp_path: Path) -> None:
    gold, gate = Cell(kind, model=True).verilog(), Cell(kind, model=False).verilog()
    assert kind in gate and kind not in gold
    assert equal(gold, gate, "ecp5" if kind == "CCU2C" else "xc7", tmp_path)


def test_a_wrong_model_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Cell("CCU2C", model=False).verilog()
    # The carry of the first two inputs with the others at 1 instead of 0.
    monkeypatch.setitem(PARAMETERS["CCU2C"], "INIT1", 0x2373)
    assert not equal(Cell("CCU2C", model=True).verilog(), gate, "ecp5", tmp_path)


def test_a_cell_without_a_model_is_refused() -> None:
    m = Module()
    m.submodules += Instance("LUT4", i_A=Signal(), o_Z=Signal())
    with pytest.raises(ValueError, match="there is no model of LUT4"):
        modelled(Fragment.get(m, None))
    assert sorted(cell_models.MODELS) == ["CARRY4", "CCU2C", "LUT6_2"]
