"""The whole core by unit: where its LUTs, flip-flops and block RAMs are."""

import json
import tempfile
from collections import defaultdict
from pathlib import Path

from rich import box
from rich.table import Table

from lutcore.fpga.synth.flow import mapping_commands, write_sources
from lutcore.fpga.synth.resources import count
from lutcore.fpga.synth.yosys import run_yosys, yosys_version
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.export import generate_verilog
from lutcore.hw.verilog_text import without_brackets
from lutcore.sw.base.cache import Kept
from lutcore.sw.base.text import rendered

__all__ = ["core_units", "units_table"]

#: What the modules of the core belong to, by the start of their names below the engine.
_UNITS = {
    "array": "array",
    "table.fill": "table fill",
    "table": "table control",
    "scale_buffer": "buffers",
    "weight_buffer": "buffers",
    "bias_buffer": "buffers",
    "x_buffer": "buffers",
    "scale": "scale unit",
    "final": "rounding to float32",
    "store": "result writer",
    "ldw": "weight loader",
    "ldx": "activation loader",
    "nest": "loops",
    "fetch": "fetch and decode",
}


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
        found = _by_unit(modules, target)
        kept.write(found)
    return found


def _by_unit(modules: dict, target: str) -> dict[str, dict[str, int]]:
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
        unit = units[_unit_of(name)]
        unit["luts"] += found.lut_sites
        unit["flip_flops"] += found.flip_flops
        unit["block_rams"] += found.block_rams
        unit["dsps"] += found.dsps
    return {name: dict(unit) for name, unit in sorted(units.items(), key=lambda u: -u[1]["luts"])}


def _unit_of(module: str) -> str:
    place = module.removeprefix("lutcore.core.engine.")
    for start, unit in _UNITS.items():
        if place.startswith(start):
            return unit
    return "bus, registers, tokens"


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
