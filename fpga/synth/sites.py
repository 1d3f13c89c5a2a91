"""Sites of an FPGA that a mapped netlist takes.

A netlist is what ``write_json`` of Yosys writes for one flat module: cells with a ``type`` and
``connections``, port to list of bits. A bit is a net's number or a constant ``"0"``, ``"1"``,
``"x"``, ``"z"``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["ice40_sites", "pack_luts", "xc7_sites"]

Bit = int | str
Cell = Mapping[str, Any]

_XC7_LUTS = {f"LUT{inputs}": inputs for inputs in range(1, 7)}
#: Inputs of the two functions that one site of a 7-series device can hold.
_SHARED_INPUTS = 5


def pack_luts(luts: Mapping[int, int]) -> int:
    """Sites that LUTs take by the rule of ``stat -tech xilinx``: what its estimate of LCs counts.

    A LUT1 goes beside a LUT5, a LUT1 or LUT2 beside a LUT4 or LUT3, and LUT1 and LUT2 beside each
    other; every other LUT takes a site.

    Parameters
    ----------
    luts
        Number of inputs (1 to 6) to number of LUTs.
    """
    ones, twos = luts.get(1, 0), luts.get(2, 0)
    ones -= min(ones, luts.get(5, 0))
    for size in (4, 3):
        beside = min(ones, luts.get(size, 0))
        ones -= beside
        twos -= min(twos, luts.get(size, 0) - beside)
    return sum(luts.get(size, 0) for size in (3, 4, 5, 6)) + (ones + twos + 1) // 2


def xc7_sites(cells: Iterable[Cell], outputs: Iterable[Bit] = ()) -> int:
    """Sites of a 7-series device that LUTs and carry chains take together.

    Each position of a CARRY4 that is used, or that the carry passes on its way to a used one, takes
    the site in front of it: S comes from nowhere else. The site holds the LUT that drives S, and
    with it the one that drives DI if both have at most five different inputs together. The
    other LUTs are packed by `pack_luts`. LUT6_2 is one site, and may be that of a position.

    Parameters
    ----------
    cells
        All cells of the flat netlist.
    outputs
        Bits that the module's output ports read.
    """
    cells = list(cells)
    drivers: dict[Bit, int] = {}
    read: set[Bit] = set(outputs)
    for index, cell in enumerate(cells):
        for port, bits in cell["connections"].items():
            driven = cell["port_directions"][port] == "output"
            for bit in bits:
                if driven:
                    drivers[bit] = index
                else:
                    read.add(bit)
    in_carry: set[int] = set()
    positions = 0
    for cell in cells:
        if cell["type"] != "CARRY4":
            continue
        ports = cell["connections"]
        results = zip(ports.get("O", []), ports.get("CO", []), strict=False)
        used = [o in read or co in read for o, co in results]
        length = max((i + 1 for i, is_used in enumerate(used) if is_used), default=0)
        positions += length
        for i in range(length):
            select = drivers.get(ports["S"][i])
            if select is None or not cells[select]["type"].startswith("LUT"):
                continue
            in_carry.add(select)
            if cells[select]["type"] not in _XC7_LUTS:
                continue
            data = drivers.get(ports["DI"][i])
            if data is not None and cells[data]["type"] in _XC7_LUTS:
                inputs = _inputs(cells[select]) | _inputs(cells[data])
                if len(inputs) <= _SHARED_INPUTS:
                    in_carry.add(data)
    alone = [cell for index, cell in enumerate(cells) if index not in in_carry]
    luts = Counter(_XC7_LUTS[cell["type"]] for cell in alone if cell["type"] in _XC7_LUTS)
    fixed = sum(cell["type"] == "LUT6_2" for cell in alone)
    return positions + pack_luts(luts) + fixed


def _inputs(cell: Cell) -> set[Bit]:
    ports = cell["connections"]
    return {
        bit
        for name, bits in ports.items()
        if name[0] == "I"
        for bit in bits
        if isinstance(bit, int)
    }


def ice40_sites(cells: Iterable[Cell]) -> int:
    """Logic cells of an iCE40 that LUTs and carries take together.

    A logic cell's carry has the inputs I1 and I2 of its LUT, and the carry of the cell below is
    the LUT's I3 (not so at the start of a chain, whose carry-in is a constant). A carry without
    such a LUT takes a cell, in which a LUT of at most two inputs that drives it finds room.
    Flip-flops without a LUT, and the cell that brings the end of a chain out, are not counted.
    """
    luts, carries, clocked = [], [], set()
    for cell in cells:
        ports = {name: bits[0] for name, bits in cell["connections"].items() if bits}
        if cell["type"] == "SB_LUT4":
            luts.append(ports)
        elif cell["type"] == "SB_CARRY":
            carries.append(ports)
        elif cell["type"].startswith("SB_DFF"):
            clocked.add(ports["D"])
    partners: dict[tuple[Bit, Bit], list[Bit]] = {}
    for ports in luts:
        partners.setdefault((ports["I1"], ports["I2"]), []).append(ports["I3"])
    # Small LUTs that could go into the cell of a carry that they drive, by their output.
    small = {
        ports["O"]
        for ports in luts
        if sum(isinstance(ports[f"I{i}"], int) for i in range(4)) <= 2 and ports["O"] not in clocked
    }
    sites = len(luts)
    for ports in carries:
        found = partners.get((ports["I0"], ports["I1"]), [])
        below = ports.get("CI", "x")
        if below in found:
            found.remove(below)
        elif isinstance(below, str) and len(found) == 1:
            found.clear()
        else:
            drivers = small & {ports["I0"], ports["I1"]}
            if drivers:
                small.remove(min(drivers, key=str))
            else:
                sites += 1
    return sites
