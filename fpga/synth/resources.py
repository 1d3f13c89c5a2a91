"""What a mapped design takes, and how it is counted."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lutcore.fpga.synth.sites import ice40_sites, xc7_sites
from lutcore.fpga.synth.yosys import SynthesisError

__all__ = ["Resources", "count"]

#: LUT sites of a 7-series device that a memory or shift register of LUTs takes.
_XC7_LUT_MEMORY = {
    "RAM32M": 4,
    "RAM64M": 4,
    "RAM16X1S": 1,
    "RAM32X1S": 1,
    "RAM64X1S": 1,
    "RAM128X1S": 2,
    "RAM256X1S": 4,
    "RAM16X1D": 2,
    "RAM32X1D": 2,
    "RAM64X1D": 2,
    "RAM128X1D": 4,
    "SRL16E": 1,
    "SRLC16E": 1,
    "SRLC32E": 1,
}
_XC7_LUTS = tuple(f"LUT{inputs}" for inputs in range(1, 7))
_LUT4_PER_CCU2C = 2
_LUT4_PER_DPR16X4 = 6

_BLOCK_RAMS = {
    "xc7": {"RAMB18E1": 1, "RAMB36E1": 2},
    "ecp5": {"DP16KD": 1, "PDPW16KD": 1},
    "ice40": {"SB_RAM40_4K": 1, "SB_RAM40_4KNR": 1, "SB_RAM40_4KNW": 1, "SB_RAM40_4KNRNW": 1},
}
_DSPS = {"xc7": "DSP48E1", "ecp5": "MULT18X18D", "ice40": "SB_MAC16"}
_FLIP_FLOPS = {
    "xc7": ("FDRE", "FDSE", "FDCE", "FDPE"),
    "ecp5": ("TRELLIS_FF",),
    "ice40": ("SB_DFF",),
}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one design takes on one target.

    Attributes
    ----------
    target
        ``"xc7"``, ``"ecp5"``, ``"ice40"`` or ``"cells"``.
    cells
        Type to number, of every cell of the flat netlist, sorted by type.
    luts
        The figure that designs are compared by.

        - xc7: LUT sites as Yosys counts them, `estimated_lcs` + LUT6_2 + `lut_memory`.
        - ecp5: LUT4 + 2·CCU2C + 6·TRELLIS_DPR16X4. PFUMX and L6MUX21 are free.
        - ice40: logic cells of LUTs and carries by `ice40_sites`. There is no LUT RAM: tables are
          flip-flops or block RAM.
        - cells: 0.
    lut_cells
        Logic LUTs as they are in the netlist, nothing packed: LUT1 to LUT6 and LUT6_2, LUT4, or
        SB_LUT4.
    lut_sites
        As `luts`, except on xc7: there the sites of LUTs and carry chains by `xc7_sites`, with
        `lut_memory`. Yosys' estimate puts two LUT2 into one site even where each drives a
        position of a carry chain, which no 7-series device can: of an adder it counts half.
    estimated_lcs
        xc7: "Estimated number of LCs" of ``stat -tech xilinx``, which packs small LUTs in pairs. It
        knows LUT1 to LUT6 alone: LUT6_2, RAM32M and other LUT memories, SRLs and CARRY4 count
        nothing. Inverters are made LUT1 before. Other targets: none.
    lut_memory
        xc7: LUT sites of LUT memories and shift registers; ecp5: 6·TRELLIS_DPR16X4.
    flip_flops
        Flip-flops (cells: sequential cells of the liberty file).
    block_rams
        xc7 and ecp5: in blocks of 18 kbit; ice40: of 4 kbit.
    dsps
        DSP48E1, MULT18X18D or SB_MAC16.
    area
        cells: area in units of the liberty file.
    delay_ns
        cells: longest path.
    timing
        Which tool says `delay_ns`: ``"OpenSTA"`` or ``"ABC"``.
    tools
        Tool to version.
    """

    target: str
    cells: dict[str, int]
    luts: float = 0
    lut_cells: int = 0
    lut_sites: int = 0
    estimated_lcs: int | None = None
    lut_memory: int = 0
    flip_flops: int = 0
    block_rams: int = 0
    dsps: int = 0
    area: float | None = None
    delay_ns: float | None = None
    timing: str | None = None
    tools: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; ``Resources(**d)`` is the inverse."""
        return asdict(self)


def count(
    target: str, cells: Mapping[str, int], netlist: Mapping[str, Any], estimated_lcs: int | None
) -> Resources:
    """Count a design that is mapped to an FPGA.

    Parameters
    ----------
    target
        ``"xc7"``, ``"ecp5"`` or ``"ice40"``.
    cells
        Type to number.
    netlist
        The flat module as `lutcore.fpga.synth.sites` takes it; ecp5 does without.
    estimated_lcs
        xc7: Yosys' estimate.

    Raises
    ------
    SynthesisError
        If a cell is left unmapped, or is a LUT memory whose size is not known here.
    """
    for name in cells:
        if name.startswith("$"):
            raise SynthesisError(
                f"no cell of {target} does what {name} does: keep it from synthesis with "
                "`ifndef SYNTHESIS"
            )
    flip_flops = sum(n for name, n in cells.items() if name.startswith(_FLIP_FLOPS[target]))
    common = {
        "target": target,
        "cells": dict(sorted(cells.items())),
        "flip_flops": flip_flops,
        "block_rams": sum(n * cells.get(name, 0) for name, n in _BLOCK_RAMS[target].items()),
        "dsps": cells.get(_DSPS[target], 0),
    }
    if target == "ecp5":
        lut_memory = _LUT4_PER_DPR16X4 * cells.get("TRELLIS_DPR16X4", 0)
        lut_cells = cells.get("LUT4", 0)
        luts = lut_cells + _LUT4_PER_CCU2C * cells.get("CCU2C", 0) + lut_memory
        return Resources(
            **common, luts=luts, lut_cells=lut_cells, lut_sites=luts, lut_memory=lut_memory
        )
    if target == "ice40":
        lut_cells = cells.get("SB_LUT4", 0)
        luts = ice40_sites(netlist["cells"].values())
        return Resources(**common, luts=luts, lut_cells=lut_cells, lut_sites=luts)
    if estimated_lcs is None:
        raise TypeError("xc7 is counted with Yosys' estimate")
    unknown = [n for n in cells if n.startswith(("RAM", "ROM", "SRL", "CFGLUT"))]
    unknown = [n for n in unknown if n not in _XC7_LUT_MEMORY and n not in _BLOCK_RAMS["xc7"]]
    if unknown:
        raise SynthesisError(f"how many LUT sites a {unknown[0]} takes is not known here")
    lut_memory = sum(n * cells.get(name, 0) for name, n in _XC7_LUT_MEMORY.items())
    pairs = cells.get("LUT6_2", 0)
    outputs = [
        bit
        for port in netlist["ports"].values()
        if port["direction"] != "input"
        for bit in port["bits"]
    ]
    return Resources(
        **common,
        luts=estimated_lcs + pairs + lut_memory,
        lut_cells=sum(cells.get(name, 0) for name in _XC7_LUTS) + pairs,
        lut_sites=xc7_sites(netlist["cells"].values(), outputs) + lut_memory,
        estimated_lcs=estimated_lcs,
        lut_memory=lut_memory,
    )
