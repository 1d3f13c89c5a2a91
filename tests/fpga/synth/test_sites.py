"""Sites counted from netlists made by hand."""

from collections.abc import Mapping
from typing import Any

import pytest

from lutcore.fpga.synth.resources import count
from lutcore.fpga.synth.sites import ice40_sites, pack_luts, xc7_sites
from lutcore.fpga.synth.yosys import SynthesisError

OUTPUTS = ("O", "CO", "O5", "O6")


def cell(kind: str, **ports: object) -> dict[str, Any]:
    """A cell of a netlist; a port may be one bit or a list of them."""
    return {
        "type": kind,
        "connections": {name: b if isinstance(b, list) else [b] for name, b in ports.items()},
        "port_directions": {name: "output" if name in OUTPUTS else "input" for name in ports},
    }


def lut(inputs: list[int], output: int) -> dict[str, Any]:
    return cell(f"LUT{len(inputs)}", **{f"I{i}": bit for i, bit in enumerate(inputs)}, O=output)


def carry(select: list[object], data: list[object], out: list[int], carries: list[int]) -> dict:
    return cell("CARRY4", CI="0", CYINIT="0", S=select, DI=data, O=out, CO=carries)


@pytest.mark.parametrize(
    ("luts", "sites"),
    [
        ({6: 3}, 3),
        ({3: 2}, 2),  # two of three inputs have six
        ({2: 3}, 2),
        ({2: 2, 1: 1}, 2),
        ({5: 1, 1: 1}, 1),
        ({5: 1, 2: 1}, 2),
        ({4: 1, 2: 2}, 2),
        ({4: 1, 3: 1, 1: 1, 2: 1}, 2),
        ({5: 2, 4: 1, 1: 3, 2: 2}, 4),
        ({}, 0),
    ],
)
def test_packing_of_small_luts(luts: Mapping[int, int], sites: int) -> None:
    assert pack_luts(luts) == sites


def test_each_position_of_a_carry_chain_is_a_site() -> None:
    adder = [lut([2 * i, 2 * i + 1], 100 + i) for i in range(4)]
    chain = carry([100, 101, 102, 103], [0, 2, 4, 6], [200, 201, 202, 203], [210, 211, 212, 213])
    assert xc7_sites([*adder, chain], [200, 201, 202, 203]) == 4
    # Packed in pairs they would be two.
    assert xc7_sites(adder) == 2


def test_positions_above_the_last_used_one_are_free() -> None:
    chain = carry([10, 11, 12, 13], ["0"] * 4, [200, 201, 202, 203], [210, 211, 212, 213])
    assert xc7_sites([chain], [201]) == 2
    assert xc7_sites([chain], [212]) == 3  # a carry taken out passes the positions below
    assert xc7_sites([chain]) == 0


@pytest.mark.parametrize(("inputs", "sites"), [([1, 2, 5], 1), ([5, 6, 7], 2)])
def test_lut_of_di_shares_the_site_if_the_inputs_fit(inputs: list[int], sites: int) -> None:
    select, data = lut([1, 2, 3], 100), lut(inputs, 101)
    chain = carry(
        [100, "0", "0", "0"], [101, "0", "0", "0"], [200, 201, 202, 203], [210, 211, 212, 213]
    )
    assert xc7_sites([select, data, chain], [200]) == sites


def test_lut6_2_is_a_site_and_may_be_that_of_a_position() -> None:
    inputs = {f"I{i}": i for i in range(6)}
    both = cell("LUT6_2", **inputs, O5=50, O6=51)
    chain = carry(
        [51, "0", "0", "0"], [50, "0", "0", "0"], [200, 201, 202, 203], [210, 211, 212, 213]
    )
    assert xc7_sites([both]) == 1
    assert xc7_sites([both, chain], [200]) == 1
    # Both its outputs are taken: the LUT of DI finds no room in it.
    other = carry(
        [51, "0", "0", "0"], [60, "0", "0", "0"], [200, 201, 202, 203], [210, 211, 212, 213]
    )
    assert xc7_sites([cell("LUT6_2", I0=1, I1=2, O5=50, O6=51), lut([1, 2], 60), other], [200]) == 2


def ice40_lut(i1: object, i2: object, i3: object, output: int, i0: object = "0") -> dict[str, Any]:
    return cell("SB_LUT4", I0=i0, I1=i1, I2=i2, I3=i3, O=output)


def ice40_carry(i0: object, i1: object, below: object, out: int) -> dict[str, Any]:
    return cell("SB_CARRY", I0=i0, I1=i1, CI=below, CO=out)


def test_carry_shares_the_cell_of_its_lut() -> None:
    cells = [ice40_carry(1, 2, 30, 31), ice40_lut(1, 2, 30, 40)]
    assert ice40_sites(cells) == 1
    assert ice40_sites([cells[0], ice40_lut(1, 2, 29, 40)]) == 2  # of another carry
    assert ice40_sites([cells[0], ice40_lut(1, 3, 30, 40)]) == 2  # another input
    assert ice40_sites([*cells, ice40_carry(1, 2, 30, 32)]) == 2  # one cell holds one carry


def test_first_carry_of_a_chain_needs_no_carry_in() -> None:
    assert ice40_sites([ice40_carry(1, 2, "1", 31), ice40_lut(1, 2, 7, 40)]) == 1
    assert ice40_sites([ice40_carry(1, 2, 30, 31), ice40_lut(1, 2, 7, 40)]) == 2


def test_small_lut_goes_into_the_cell_of_the_carry_that_it_drives() -> None:
    inverter = ice40_lut("0", "0", 5, 2)
    assert ice40_sites([ice40_carry(1, 2, 30, 31), inverter]) == 1
    assert ice40_sites([ice40_carry(1, 2, 30, 31), ice40_lut(3, 4, 5, 2)]) == 2
    flip_flop = cell("SB_DFF", C=0, D=2, Q=9)
    assert ice40_sites([ice40_carry(1, 2, 30, 31), inverter, flip_flop]) == 2


def netlist(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": dict(enumerate(cells)), "ports": {}}


def test_unmapped_cell_is_an_error() -> None:
    with pytest.raises(SynthesisError, match=r"^no cell of ecp5 does what \$mem_v2 does"):
        count("ecp5", {"$mem_v2": 1}, netlist(), None)


def test_lut_memory_of_unknown_size_is_an_error() -> None:
    with pytest.raises(SynthesisError, match="how many LUT sites a RAM512X1S takes"):
        count("xc7", {"RAM512X1S": 1}, netlist(), 0)


@pytest.mark.parametrize(
    ("name", "sites"), [("RAM32M", 4), ("RAM64M", 4), ("RAM64X1D", 2), ("SRLC32E", 1)]
)
def test_lut_memories_of_xc7(name: str, sites: int) -> None:
    found = count("xc7", {name: 3}, netlist(), 7)
    assert found.lut_memory == 3 * sites
    assert found.luts == 7 + 3 * sites
    assert found.lut_sites == 3 * sites


def test_formula_of_ecp5() -> None:
    cells = {"LUT4": 100, "CCU2C": 10, "TRELLIS_DPR16X4": 3, "PFUMX": 50, "L6MUX21": 20}
    found = count("ecp5", {**cells, "TRELLIS_FF": 5, "DP16KD": 2, "MULT18X18D": 1}, {}, None)
    assert found.luts == found.lut_sites == 100 + 2 * 10 + 6 * 3
    assert (found.lut_cells, found.lut_memory) == (100, 18)
    assert (found.flip_flops, found.block_rams, found.dsps) == (5, 2, 1)


def test_block_rams_are_counted_in_halves_of_a_ramb36() -> None:
    found = count("xc7", {"RAMB36E1": 2, "RAMB18E1": 1, "FDRE": 3, "FDSE": 1}, netlist(), 0)
    assert (found.block_rams, found.flip_flops) == (5, 4)
