"""The whole core by unit: where its LUTs, flip-flops and block RAMs are."""

import json
import re
import tempfile
from collections import defaultdict
from pathlib import Path

from rich import box
from rich.table import Table

from lutcore.fpga.synth.flow import mapping_commands, write_sources
from lutcore.fpga.synth.resources import count
from lutcore.fpga.synth.yosys import run_yosys, yosys_version
from lutcore.hw.compute.array import ArrayUnit
from lutcore.hw.compute.fill import TableFill
from lutcore.hw.compute.final import FinalUnit
from lutcore.hw.compute.scale import ScaleUnit
from lutcore.hw.compute.table import TableUnit
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.control.fetch import Fetch
from lutcore.hw.control.nest import Nest
from lutcore.hw.core import Core
from lutcore.hw.export import generate_verilog
from lutcore.hw.memory.buffers import SlotBuffer
from lutcore.hw.transfer.loaders import ActivationLoader, WeightLoader
from lutcore.hw.transfer.store import StoreUnit
from lutcore.hw.verilog_text import without_brackets
from lutcore.sw.base.cache import Kept
from lutcore.sw.base.text import rendered

__all__ = ["core_units", "units_of", "units_table"]

#: Units by the class that a module, or one around it, is made from.
_UNITS: dict[type, str] = {
    ArrayUnit: "array",
    TableFill: "table fill",
    TableUnit: "table control",
    SlotBuffer: "buffers",
    ScaleUnit: "scale unit",
    FinalUnit: "rounding to float32",
    StoreUnit: "result writer",
    WeightLoader: "weight loader",
    ActivationLoader: "activation loader",
    Nest: "loops",
    Fetch: "fetch and decode",
    Core: "bus, registers, tokens",
}


def units_of(verilog: str) -> dict[str, str]:
    """The unit of each module of a generated core, by the class that the Verilog names."""
    names = {f"{kind.__module__}.{kind.__qualname__}": unit for kind, unit in _UNITS.items()}
    own = {
        module: names.get(origin)
        for origin, module in re.findall(r"^// (\S+)\nmodule \\?([\w.$]+)", verilog, re.MULTILINE)
    }
    found = {}
    for module in own:
        around = module
        while own.get(around) is None and "." in around:
            around = around.rpartition(".")[0]
        found[module] = own.get(around) or _UNITS[Core]
    return found


def core_units(config: CoreConfig, target: str) -> dict[str, dict[str, int]]:
    """LUT sites, flip-flops, block RAMs and DSPs of each unit of a core.

    Modules are mapped by themselves here, without optimisation across them, so that the sum is
    somewhat more than the flat core takes.

    Parameters
    ----------
    config
        The core.
    target
        ``"xc7"`` or ``"ecp5"``.
    """
    verilog = generate_verilog(config, target)
    commands = [
        c for c in mapping_commands("lutcore", target, flatten=False, dsp=True) if c != "flatten"
    ]
    script = "\n".join((*commands, "write_json netlist.json", ""))
    sources = (
        "lutcore.fpga.area.by_unit",
        "lutcore.fpga.synth.resources",
        "lutcore.fpga.synth.sites",
    )
    kept = Kept("units", "1", verilog, target, script, yosys_version(), sources=sources)
    found = kept.read()
    if found is None:
        with tempfile.TemporaryDirectory(dir=kept.make_folder()) as temporary:
            folder = Path(temporary)
            write_sources(folder, without_brackets(verilog))
            run_yosys(script, folder, f"the core for {target}")
            modules = json.loads((folder / "netlist.json").read_text())["modules"]
        found = _by_unit(modules, units_of(verilog), target)
        kept.write(found)
    return found


def _by_unit(modules: dict, unit_of: dict[str, str], target: str) -> dict[str, dict[str, int]]:
    units: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for name, module in modules.items():
        if module.get("attributes", {}).get("blackbox") or not name.startswith("lutcore"):
            continue
        cells: dict[str, int] = defaultdict(int)
        for cell in module["cells"].values():
            if cell["type"] not in modules or not cell["type"].startswith("lutcore"):
                cells[cell["type"]] += 1
        own = {key: c for key, c in module["cells"].items() if c["type"] in cells}
        found = count(target, cells, {**module, "cells": own}, 0)
        unit = units[unit_of[name]]
        unit["luts"] += found.lut_sites
        unit["flip_flops"] += found.flip_flops
        unit["block_rams"] += found.block_rams
        unit["dsps"] += found.dsps
    return {name: dict(unit) for name, unit in sorted(units.items(), key=lambda u: -u[1]["luts"])}


def units_table(name: str, target: str, units: dict[str, dict[str, int]]) -> str:
    """The units, the largest first, and their sum."""
    grid = Table(title=f"The core {name!r} on {target}, by unit", box=box.SIMPLE_HEAD)
    grid.add_column("unit")
    columns = ("luts", "flip_flops", "block_rams", "dsps")
    for title in ("LUT sites", "FFs", "block RAMs", "DSPs"):
        grid.add_column(title, justify="right")
    for unit, found in units.items():
        grid.add_row(unit, *(f"{found.get(key, 0):,}" for key in columns))
    total = [sum(found.get(key, 0) for found in units.values()) for key in columns]
    grid.add_section()
    grid.add_row("all", *(f"{value:,}" for value in total))
    return rendered(grid, 100)
