"""A core as synthesis leaves it: gates and flip-flops, for simulation."""

import tempfile
from pathlib import Path

from lutcore.sim.rtl.build import run_yosys

__all__ = ["SCRIPT", "netlist_of"]

#: Memories stay arrays: as flip-flops they would be most of the netlist, and of the time.
SCRIPT = (
    "synth -flatten -top lutcore -run begin:fine; memory_collect; techmap; opt -fast; clean; "
    "write_verilog -noattr netlist.v"
)


def netlist_of(verilog: str) -> str:
    """The Verilog netlist of a design with top module ``lutcore``.

    Raises
    ------
    LutcoreError
        If Yosys refuses the design.
    """
    with tempfile.TemporaryDirectory(prefix="lutcore-netlist-") as temporary:
        folder = Path(temporary)
        (folder / "design.v").write_text(verilog, encoding="utf-8")
        run_yosys(folder, f"read_verilog design.v; {SCRIPT}")
        return (folder / "netlist.v").read_text(encoding="utf-8")
