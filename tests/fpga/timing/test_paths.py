"""Longest paths in delays that are written by hand."""

import pytest

from lutcore.fpga.synth.flow import SynthesisError
from lutcore.fpga.timing.delays import read_delays
from lutcore.fpga.timing.paths import longest_paths

# a ─► LUT ─► carry ─► carry ─► b (data), and a ─► b (enable); c ─► RAMW ─► LUT RAM.
DELAYS = r"""
  (CELL (CELLTYPE "top")
        (INTERCONNECT a\$1/Q lut/A (1:2:300) (1:2:310))
        (INTERCONNECT lut/F \$carry\.0/B (1:2:400) (1:2:400))
        (INTERCONNECT \$carry\.0/FCO \$carry\.1/FCI (0:0:0) (0:0:0))
        (INTERCONNECT \$carry\.1/F b/DI (1:2:50) (1:2:50))
        (INTERCONNECT a\$1/Q b/CE (1:2:3000) (1:2:2900))
        (INTERCONNECT c/Q ramw/A0 (1:2:100) (1:2:100))
        (INTERCONNECT ramw/WADO3 ram/WAD3 (0:0:0) (0:0:0))
  (CELL
    (CELLTYPE "TRELLIS_FF")
    (INSTANCE a\$1)
        (IOPATH CLK Q (430:477:525) (430:477:520))
  (CELL
    (CELLTYPE "TRELLIS_COMB")
    (INSTANCE lut)
        (IOPATH A F (1:2:236) (1:2:236))
  (CELL
    (CELLTYPE "TRELLIS_COMB")
    (INSTANCE \$carry\.0)
        (IOPATH B FCO (1:2:447) (1:2:447))
  (CELL
    (CELLTYPE "TRELLIS_COMB")
    (INSTANCE \$carry\.1)
        (IOPATH FCI F (1:2:443) (1:2:443))
  (CELL
    (CELLTYPE "TRELLIS_FF")
    (INSTANCE b)
      (SETUPHOLD (posedge DI) (posedge CLK) (0:0:7) (1:2:303))
      (SETUPHOLD (posedge CE) (posedge CLK) (0:0:-9) (1:2:151))
  (CELL
    (CELLTYPE "TRELLIS_FF")
    (INSTANCE c)
        (IOPATH CLK Q (1:1:500) (1:1:500))
  (CELL
    (CELLTYPE "TRELLIS_RAMW")
    (INSTANCE ramw)
        (IOPATH A0 WADO3 (0:0:0) (0:0:0))
  (CELL
    (CELLTYPE "TRELLIS_COMB")
    (INSTANCE ram)
      (SETUPHOLD (posedge WAD3) (posedge WCK) (0:0:20) (0:0:0))
"""


def test_each_end_has_its_longest_path() -> None:
    found = {path.end: path for path in longest_paths(read_delays(DELAYS))}
    assert set(found) == {("b", "DI"), ("b", "CE"), ("ram", "WAD3")}
    data = found["b", "DI"]
    assert data.start == ("a$1", "Q")
    assert data.logic_ps == 525 + 236 + 447 + 443 + 7
    assert data.routing_ps == 310 + 400 + 50
    assert data.delay_ps == data.logic_ps + data.routing_ps
    assert [hop.entry for hop in data.hops] == [
        ("lut", "A"),
        ("$carry.0", "B"),
        ("$carry.1", "FCI"),
    ]
    assert found["b", "CE"].delay_ps == 525 + 3000 - 9
    assert found["ram", "WAD3"].delay_ps == 500 + 100 + 20


def test_a_carry_chain_is_one_level_and_a_write_port_is_none() -> None:
    levels = {path.end: path.levels for path in longest_paths(read_delays(DELAYS))}
    assert levels == {("b", "DI"): 2, ("b", "CE"): 0, ("ram", "WAD3"): 0}


def test_paths_can_be_those_of_some_registers_alone() -> None:
    (path,) = longest_paths(read_delays(DELAYS), lambda cell: cell == "c")
    assert path.end == ("ram", "WAD3")


def test_a_loop_is_named() -> None:
    loop = DELAYS.replace(r"lut/F \$carry\.0/B", "lut/F lut/A")
    with pytest.raises(SynthesisError, match="a combinational loop goes through"):
        list(longest_paths(read_delays(loop)))
