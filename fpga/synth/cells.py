"""Synthesis for standard cells."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from lutcore.fpga.synth.liberty import Liberty, default_liberty
from lutcore.fpga.synth.resources import Resources
from lutcore.fpga.synth.timing import abc_delay, opensta_delay, opensta_version
from lutcore.fpga.synth.yosys import SynthesisError, run_yosys, yosys_version
from lutcore.sw.base.cache import Kept

__all__ = ["synthesise_cells"]

#: Loads of one net; buffer trees take what is above it.
_FANOUT = 12
# Memories become flip-flops and multiplexers in `synth`. Where operands can be shared, `opt -full`
# leaves multiplexers of the kind that is not of gates: hence the second `simplemap`.
_FLOW = f"""\
read_verilog design.v
synth -flatten -noabc -top {{top}} -run :check
select -write clocks.txt i:* t:$_*DFF*_ %ci1:+[C] %i
dfflibmap -liberty cells.lib
opt -full
simplemap
abc -liberty cells.lib {{constraints}} -script +strash;&get,-n;&fraig,-x;&dch,-f;&nf;&put;topo;\
buffer,-p,-N,{_FANOUT};upsize;dnsize;stime,-d
setundef -zero
splitnets -ports
opt_clean -purge
delete t:$scopeinfo
tee -q -o stat.json stat -json -liberty cells.lib
write_verilog -noattr -noexpr -nohex -nodec netlist.v
"""


def synthesise_cells(
    verilog: str,
    top: str,
    liberty: Path | None = None,
    *,
    report: Callable[[str], None] | None = None,
) -> Resources:
    """Synthesise a design for standard cells, or take the figures from the cache.

    Memories become flip-flops and multiplexers. Nets with more than twelve loads get trees of
    buffers, those of flip-flops and input ports too.

    Parameters
    ----------
    verilog, top, report
        As of `lutcore.fpga.synth.flow.synthesise`.
    liberty
        The library; default: `default_liberty`.

    Returns
    -------
    Resources
        `delay_ns` by OpenSTA where ``sta`` is installed: clock to output, gates and setup; inputs
        arrive and outputs are taken at the clock's edge. Else by ABC: the gates alone.

    Raises
    ------
    SynthesisError
        If the design cannot be synthesised.
    LibertyError
        If the library cannot be had or read.
    """
    library = Liberty.read(default_liberty(report) if liberty is None else liberty)
    # Without a driving cell ABC takes the drive of inputs and flip-flops for infinite, and gives
    # their nets no buffers.
    script = _FLOW.format(top=top, constraints="-constr abc.sdc" if library.driver else "")
    sta = opensta_version()
    decisive = (verilog, top, script, yosys_version(), sta or "", library.data)
    sources = (
        "lutcore.fpga.synth.cells",
        "lutcore.fpga.synth.liberty",
        "lutcore.fpga.synth.timing",
    )
    kept = Kept("synth", *decisive, sources=sources)
    found = kept.read()
    if found is None:
        if report is not None:
            report(f"Synthesising {top} for {library.name}")
        found = _run(verilog, top, script, library, sta, kept.make_folder()).as_dict()
        kept.write(found)
    return Resources(**found)


def _run(
    verilog: str, top: str, script: str, library: Liberty, sta: str | None, cache: Path
) -> Resources:
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        folder = Path(temporary)
        (folder / "design.v").write_text(verilog)
        (folder / "cells.lib").write_bytes(library.data)
        (folder / "abc.sdc").write_text(f"set_driving_cell {library.driver}\n")
        run_yosys(script, folder, f"{top} for {library.name}")
        stat = json.loads((folder / "stat.json").read_text())["design"]
        cells = stat["num_cells_by_type"]
        for name in cells:
            if name not in library.cells:
                raise SynthesisError(
                    f"no cell of {library.name} does what {name} does: keep it from synthesis "
                    "with `ifndef SYNTHESIS"
                )
        if sta is None:
            stats = folder / "stats.txt"
            delay = abc_delay(stats.read_text() if stats.exists() else "")
        else:
            lines = (folder / "clocks.txt").read_text().split()
            clocks = [line.partition("/")[2] for line in lines]
            delay = opensta_delay(folder, top, "cells.lib", "netlist.v", clocks)
    digest = hashlib.sha256(library.data).hexdigest()[:16]
    return Resources(
        target="cells",
        cells=dict(sorted(cells.items())),
        flip_flops=sum(n for name, n in cells.items() if name in library.sequential),
        area=float(stat.get("area", 0.0)),  # not there if there is no cell
        delay_ns=delay,
        timing="ABC" if sta is None else "OpenSTA",
        tools={
            "yosys": yosys_version(),
            "liberty": f"{library.name} sha256:{digest}",
            **({} if sta is None else {"OpenSTA": sta}),
        },
    )
