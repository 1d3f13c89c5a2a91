"""The longest path of a netlist of standard cells."""

import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from lutcore.fpga.synth.yosys import SynthesisError

__all__ = ["abc_delay", "opensta_delay", "opensta_version"]

#: Longer than any path: the delay is what the worst slack leaves of it.
_PERIOD = 1000.0
_SCRIPT = """\
read_liberty {liberty}
read_verilog {netlist}
link_design {top}
set clocks [list {clocks}]
foreach clock $clocks {{ create_clock -name $clock -period {period} [get_ports $clock] }}
if {{[llength $clocks] == 0}} {{ create_clock -name virtual -period {period}; set clocks virtual }}
foreach port [all_inputs] {{
  if {{[lsearch $clocks [get_property $port full_name]] < 0}} {{
    set_input_delay 0 -clock [lindex $clocks 0] $port
  }}
}}
set_output_delay 0 -clock [lindex $clocks 0] [all_outputs]
report_checks -path_delay max -digits 4
exit
"""


@lru_cache(maxsize=1)
def opensta_version() -> str | None:
    """Version of the `sta` on the path, or None if there is none."""
    if shutil.which("sta") is None:
        return None
    done = subprocess.run(["sta", "-version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+(?:\.\d+)?", done.stdout)
    return found[0] if found else None


def opensta_delay(folder: Path, top: str, liberty: str, netlist: str, clocks: list[str]) -> float:
    """Longest path by OpenSTA, with clock to output and setup, inputs and outputs at the edge.

    Parameters
    ----------
    folder
        Holds the files.
    top, liberty, netlist
        Module, library and Verilog netlist.
    clocks
        Ports that are clocks; none for a combinational design.

    Returns
    -------
    float
        In nanoseconds.

    Raises
    ------
    SynthesisError
        If OpenSTA gives no slack.
    """
    path = folder / netlist
    # Its reader knows no signed nets.
    signed = re.compile(r"^(\s*(?:wire|input|output)) signed\b", re.MULTILINE)
    path.write_text(signed.sub(r"\1", path.read_text()))
    (folder / "sta.tcl").write_text(
        _SCRIPT.format(
            liberty=liberty, netlist=netlist, top=top, clocks=" ".join(clocks), period=_PERIOD
        )
    )
    command = ["sta", "-no_splash", "-exit", "sta.tcl"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    slacks = [re.fullmatch(r"(-?[\d.]+)\s+slack.*", line) for line in lines]
    slack = next((float(match[1]) for match in slacks if match), None)
    errors = [line for line in lines if line.startswith("Error")]
    if slack is None or errors:
        reason = errors[0] if errors else (lines or ["no output"])[-1]
        raise SynthesisError(f"OpenSTA: {reason}", tuple(lines[-20:]))
    return round(_PERIOD - slack, 4)


def abc_delay(stats: str) -> float:
    """Longest path by ABC, of the gates between flip-flops alone.

    Parameters
    ----------
    stats
        The file that ABC's ``stime -d`` writes: name, inputs, outputs, gates, area and delay in
        picoseconds.

    Returns
    -------
    float
        In nanoseconds; 0 if there is no gate.
    """
    fields = stats.split()
    return int(fields[5]) / 1000 if len(fields) == 6 else 0.0
