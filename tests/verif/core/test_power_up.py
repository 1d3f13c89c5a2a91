"""``aresetn`` is all that a core needs, whatever its registers and memories hold at power-up."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lutcore.hw.contract.config import PRESETS, CoreConfig
from lutcore.sim.rtl.verilog import verilog_of
from lutcore.verif.core.power_up import powered_up
from lutcore.verif.core.wrapper import WRAPPER, wrapper_verilog
from lutcore.verif.kit.env import SETTINGS_VARIABLE, Settings
from lutcore.verif.regression.simulators import build, simulate

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "registers": CoreConfig(
        rows=2, lanes=8, group=2, depth=2, planes=2, bus_width=64, table_store="register"
    ),
}


def failure_of(
    config: CoreConfig, folder: Path, edit: Callable[[str], str] = str
) -> tuple[str, str] | None:
    """Type and message of the failure of the edited core's first layers, or None."""
    Settings(config, 1, "core", "icarus", 1, folder).save(folder / "settings.json")
    core = edit(f"{verilog_of(config)}\n{wrapper_verilog(config)}")
    design = build("icarus", powered_up(core), WRAPPER)
    environment = {SETTINGS_VARIABLE: str(folder / "settings.json")}
    module = "lutcore.verif.core.power_up"
    file = simulate(design, module, folder, environment=environment, seed=1)
    (case,) = ElementTree.parse(file).getroot().iter("testcase")
    found = [*case.iter("failure"), *case.iter("error")]
    return (found[0].get("type", ""), found[0].get("message", "")) if found else None


@pytest.mark.parametrize("name", CONFIGS)
def test_the_first_layers_are_right(name: str, tmp_path: Path) -> None:
    """With all registers unknown, and with everything random, 20 times."""
    assert failure_of(CONFIGS[name], tmp_path) is None


def test_a_missing_reset_is_found(tmp_path: Path) -> None:
    """The scale unit's guard takes no reset: what it was at power-up reaches the first layer."""

    def edit(core: str) -> str:
        found = re.search(r"^    \S+  = guard;\n(?:    .*\n)*  end\n", core, re.MULTILINE)
        assert found
        resets = r"    if \((?:unit_reset|rst)\) begin\n.*\n    end\n"
        without, count = re.subn(resets, "", found[0])
        assert count == 2
        return core.replace(found[0], without)

    failure = failure_of(CONFIGS["tiny"], tmp_path, edit)
    assert failure is not None and "DEADLOCK" in failure[1]
