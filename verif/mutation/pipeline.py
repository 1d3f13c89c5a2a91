"""Proof on a pipeline: what goes in, not what was in it, decides what comes out.

A module whose registers form no loop, and all move with the same enable, has forgotten its state
after as many enabled cycles as it has stages. So design and mutant start from states of their own,
any at all, get the same inputs for that long, and then have to agree. A cycle without the enable
changes nothing, so that this holds for every sequence of enables.
"""

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from lutcore.sim.rtl.build import run_yosys
from lutcore.verif.mutation.mutants import REGISTERS, Mutant, Netlist

__all__ = ["Pipeline", "agree_at_the_end", "pipeline_of"]

#: Seconds for either half of the proof.
_TIMEOUT = 60
#: Registers without an enable, and those whose reset counts only while they are enabled.
_CLOCKED = {"$dff", "$sdff"}
_ENABLED = {"$dffe", "$sdffce"}


@dataclass(frozen=True)
class Pipeline:
    """A module without loops.

    Attributes
    ----------
    stages
        Registers on the longest way through it.
    enable
        The input that they all move with; empty if they always do.
    """

    stages: int
    enable: str


def pipeline_of(module: dict[str, Any]) -> Pipeline | None:
    """A module of Yosys's JSON as a pipeline; None if it is none."""
    cells = module["cells"]
    registers = [cell for cell in cells.values() if cell["type"] in REGISTERS]
    kinds = {cell["type"] for cell in registers}
    if not registers or any(_holds_state(cell["type"]) for cell in cells.values()):
        return None
    if kinds <= _CLOCKED:
        enable = ""
    elif kinds <= _ENABLED:
        nets = {tuple(cell["connections"]["EN"]) for cell in registers}
        ports = {tuple(port["bits"]): name for name, port in module["ports"].items()}
        if len(nets) != 1 or not (enable := ports.get(nets.pop(), "")):
            return None
    else:
        return None
    stages = _longest(cells)
    return None if stages is None else Pipeline(stages, enable)


def _holds_state(kind: str) -> bool:
    """Whether a cell may hold something without being a register."""
    return not kind.startswith("$") or kind.startswith("$mem")


def _longest(cells: dict[str, Any]) -> int | None:
    """Registers on the longest way from cell to cell; None if there is a loop."""
    pins = [
        (name, cell["port_directions"][pin], pin, bits)
        for name, cell in cells.items()
        for pin, bits in cell["connections"].items()
    ]
    drivers = {bit: name for name, way, _, bits in pins if way == "output" for bit in bits}
    before: dict[str, set[str]] = {name: set() for name in cells}
    for name, way, pin, bits in pins:
        if way == "input" and pin not in ("CLK", "EN"):
            before[name] |= {drivers[bit] for bit in bits if bit in drivers}
    depth: dict[str, int] = {}
    try:
        for name in TopologicalSorter(before).static_order():
            ahead = max((depth[other] for other in before[name]), default=0)
            depth[name] = ahead + (cells[name]["type"] in REGISTERS)
    except CycleError:
        return None
    return max(depth.values())


def agree_at_the_end(netlist: Netlist, mutant: Mutant, folder: Path) -> bool:
    """Whether design and mutant agree: `netlist.il` and `fault.ys` are in the folder."""
    top = mutant.module
    pipeline = pipeline_of(netlist.modules[top])
    # With a fault at an enable not all registers move together any more.
    if pipeline is None or mutant.port == "EN":
        return False
    cycles = range(1, pipeline.stages + 1)
    moves = " ".join(f"-set-at {n} in_{pipeline.enable} 1" for n in cycles if pipeline.enable)
    # From the start values, until all of them have left; then from anything.
    starts = f"sat -verify -seq {pipeline.stages} -prove trigger 0 {moves} miter"
    steps = f"-seq {pipeline.stages + 1} -prove-skip {pipeline.stages}"
    later = f"setattr -unset init w:*; sat -verify {steps} -prove trigger 0 {moves} miter"
    log = run_yosys(
        folder,
        f"read_rtlil netlist.il; hierarchy -top {top}; rename -top gold; design -stash gold; "
        f"read_rtlil netlist.il; script fault.ys; hierarchy -top {top}; rename -top gate; "
        "design -copy-from gold -as gold gold; miter -equiv -flatten gold gate miter; "
        # What the fault cannot reach is the same in both, registers included.
        "hierarchy -top miter; opt_merge -share_all; opt_clean; opt_merge -share_all; opt_clean; "
        f"dffunmap; {starts}; {later}",
        timeout=2 * _TIMEOUT,
    )
    return log.count("SUCCESS!") == 2
