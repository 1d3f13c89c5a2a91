"""One synthesis flow for every design and every target.

``python -m lutcore.fpga.synth.flow DESIGN.v TOP --target ecp5`` counts a design of your own.
"""

import dataclasses
import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lutcore.fpga.synth.resources import Resources, count
from lutcore.fpga.synth.yosys import SynthesisError, run_yosys, yosys_version
from lutcore.hw.verilog_text import without_brackets
from lutcore.sw.base.cache import Kept
from lutcore.sw.base.errors import LutcoreError

__all__ = [
    "TARGETS",
    "Resources",
    "SynthesisError",
    "check_top",
    "mapping_commands",
    "synthesise",
    "write_sources",
]

#: What designs can be synthesised for.
TARGETS = ("xc7", "ecp5", "ice40", "cells")

_INVERTER_AS_LUT = """\
module INV(input I, output O);
  LUT1 #(.INIT(2'b01)) _TECHMAP_REPLACE_ (.I0(I), .O(O));
endmodule
"""
# Up to label `check`: what follows reports, and invents names, which takes long for large designs.
_FLOWS = {
    "xc7": "synth_xilinx -family xc7 -noiopad -noclkbuf -run :check",
    "ecp5": "synth_ecp5 -run :check",
    "ice40": "synth_ice40 -run :check",
}
_FLATTEN = {"xc7": ("", "-flatten"), "ecp5": ("-noflatten", ""), "ice40": ("-noflatten", "")}
_DSP = {"xc7": ("-nodsp", ""), "ecp5": ("-nodsp", ""), "ice40": ("", "-dsp")}


def synthesise(
    verilog: str,
    top: str,
    target: str,
    *,
    flatten: bool = True,
    liberty: Path | None = None,
    dsp: bool = False,
    report: Callable[[str], None] | None = None,
) -> Resources:
    """Synthesise a design and count it, or take the figures from the cache.

    The options are the same for every design: the target's ``synth_*`` of Yosys, technology
    mapping by ABC9. Primitives of the target that the design instantiates stay as they are.

    Parameters
    ----------
    verilog
        Text of the design.
    top
        Its top module.
    target
        One of `TARGETS`.
    flatten
        Optimise across modules. Without it every module is mapped by itself; the figures are of
        the whole design all the same.
    liberty
        cells: the library; default: `lutcore.fpga.synth.cells.default_liberty`.
    dsp
        Let multipliers become DSP blocks.
    report
        Called with a line on what is being done, if the cache does not have it.

    Raises
    ------
    SynthesisError
        If the design cannot be synthesised; ``.log`` has the end of Yosys' log.
    OutputError
        If the cache folder cannot be written.
    """
    if target not in TARGETS:
        raise SynthesisError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")
    check_top(top)
    verilog = without_brackets(verilog)
    if target == "cells":
        from lutcore.fpga.synth.cells import synthesise_cells

        if not flatten or dsp:
            raise ValueError("cells are synthesised flat and without DSP blocks")
        return synthesise_cells(verilog, top, liberty, report=report)
    script = "\n".join(
        (
            *mapping_commands(top, target, flatten=flatten, dsp=dsp),
            f"tee -q -o stat.json stat -json{' -tech xilinx' if target == 'xc7' else ''}",
            *(() if target == "ecp5" else ("write_json netlist.json",)),
            "",
        )
    )
    decisive = (verilog, top, target, script, yosys_version())
    sources = (
        "lutcore.fpga.synth.flow",
        "lutcore.fpga.synth.resources",
        "lutcore.fpga.synth.sites",
    )
    kept = Kept("synth", *decisive, sources=sources)
    found = kept.read()
    if found is None:
        if report is not None:
            report(f"Synthesising {top} for {target}")
        found = _run(verilog, top, target, script, kept.make_folder()).as_dict()
        kept.write(found)
    return Resources(**found)


def check_top(top: str) -> None:
    """Raise SynthesisError if ``top`` is no name of a module."""
    if not re.fullmatch(r"[A-Za-z_][\w$]*", top):
        raise SynthesisError(f"the top module must be a plain Verilog name, not {top!r}")


def write_sources(folder: Path, verilog: str) -> None:
    """Write the files that `mapping_commands` read."""
    (folder / "design.v").write_text(verilog)
    (folder / "inverter.v").write_text(_INVERTER_AS_LUT)


def mapping_commands(top: str, target: str, *, flatten: bool, dsp: bool) -> tuple[str, ...]:
    """Commands of Yosys that make a design one flat netlist of cells of an FPGA."""
    commands = [
        "read_verilog design.v",
        f"{_FLOWS[target]} {_FLATTEN[target][flatten]} {_DSP[target][dsp]} -top {top}",
    ]
    if target == "ice40":
        # There is no LUT RAM to obey this with.
        commands.insert(1, "setattr -unset ram_style m:*")
    if not flatten:
        commands.append("flatten")
    if target == "xc7":
        commands.append("techmap -map inverter.v t:INV")
    return (*commands, "clean", "blackbox =A:whitebox", "delete t:$scopeinfo")


def _run(verilog: str, top: str, target: str, script: str, cache: Path) -> Resources:
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        folder = Path(temporary)
        write_sources(folder, verilog)
        run_yosys(script, folder, f"{top} for {target}")
        stat = json.loads((folder / "stat.json").read_text())["design"]
        netlist: dict[str, Any] = {"cells": {}, "ports": {}}
        if target != "ecp5":
            netlist = json.loads((folder / "netlist.json").read_text())["modules"][top]
    found = count(target, stat["num_cells_by_type"], netlist, stat.get("estimated_num_lc"))
    return dataclasses.replace(found, tools={"yosys": yosys_version()})


def main(
    design: Annotated[Path, typer.Argument(metavar="DESIGN.v", show_default=False)],
    top: Annotated[str, typer.Argument(metavar="TOP", show_default=False)],
    target: Annotated[str, typer.Option(help=f"One of {', '.join(TARGETS)}.")] = "ecp5",
    liberty: Annotated[
        Path | None, typer.Option(metavar="FILE", help="cells: the library; default: osu018.")
    ] = None,
    dsp: Annotated[bool, typer.Option("--dsp", help="Let multipliers become DSP blocks.")] = False,
) -> None:
    """Synthesise module TOP of a Verilog file and print what it takes, as JSON.

    The flow is that of every figure of lutcore. Results are kept in the cache, so asking again
    costs nothing.
    """
    try:
        try:
            verilog = design.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise SynthesisError(f"cannot read {design}: {reason}") from None
        with Console(stderr=True).status("Synthesis") as status:
            found = synthesise(verilog, top, target, liberty=liberty, dsp=dsp, report=status.update)
    except LutcoreError as error:
        typer.echo(f"lutcore: error: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    typer.echo(json.dumps(found.as_dict(), indent=2))


if __name__ == "__main__":
    typer.run(main)
