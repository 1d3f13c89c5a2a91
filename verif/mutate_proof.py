"""Proof that a fault changes nothing, by SAT.

Design and mutant are cut at their registers, memories and instances: what these give becomes an
input that both share, what they take becomes an output of each. If all outputs agree for every
input, the two go from equal states through equal states for ever. A module's own inputs are free,
so the proof is tried on the module, then on the whole design flattened, where constants and dead
ends outside of the module count too. States and inputs that never occur are not excluded: a fault
that only shows there is left as a survivor, unless the induction from reset on finds it out.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lutcore.sim.rtl_build import run_yosys
from lutcore.sw.errors import LutcoreError
from lutcore.verif.mutants import Mutant, Netlist, apply_script

__all__ = ["METHODS", "cut", "prove_equivalent"]

#: Tried in this order.
METHODS = ("module", "design", "induction")
#: Seconds for one SAT problem.
_TIMEOUT = 60
#: Longest induction, in cycles.
_STEPS = 6

_REGISTERS = ("$dff", "$dffe", "$sdff", "$sdffe", "$sdffce", "$adff", "$adffe")
_CELL = re.compile(r"^  cell (\S+) (\S+)\n(.*?)^  end\n", re.MULTILINE | re.DOTALL)
_CONNECT = re.compile(r"^    connect \\(\S+) (.*)$", re.MULTILINE)
_PORT = re.compile(r"^  wire .*?(?:input|output|inout) (\d+) ", re.MULTILINE)


def prove_equivalent(
    netlist: Netlist, mutant: Mutant, folder: Path, methods: Sequence[str] = METHODS
) -> str | None:
    """Try to prove that a mutant does what the design does.

    Parameters
    ----------
    netlist, mutant
        The design and the fault.
    folder
        For Yosys's files.
    methods
        Of `METHODS`.

    Returns
    -------
    str or None
        The method that has proved it; None if none has.
    """
    (folder / "netlist.il").write_text(netlist.rtlil, encoding="utf-8")
    (folder / "fault.ys").write_text(apply_script([mutant], selected=False), encoding="utf-8")
    for method in methods:
        top = netlist.top if method == "design" else mutant.module
        flatten = method != "module"
        try:
            for name, fault in (("gold", ""), ("gate", "script fault.ys;")):
                _write_cut(folder, name, fault, top, flatten, registers=method != "induction")
            if _agree(folder, method):
                return method
        except LutcoreError:
            # No proof by this method, for whatever reason: the fault remains under suspicion.
            continue
    return None


def _write_cut(
    folder: Path, name: str, fault: str, top: str, flatten: bool, *, registers: bool
) -> None:
    """Write ``NAME.il``: the module, with the fault, cut."""
    shape = "flatten; " if flatten else ""
    run_yosys(
        folder,
        f"read_rtlil netlist.il; {fault} hierarchy -top {top}; {shape}"
        f"memory_collect; write_rtlil whole.il; write_json whole.json",
    )
    text = (folder / "whole.il").read_text(encoding="utf-8")
    module = json.loads((folder / "whole.json").read_text(encoding="utf-8"))["modules"][top]
    content = cut(text, top, module, name, registers=registers)
    (folder / f"{name}.il").write_text(content, encoding="utf-8")


def cut(rtlil: str, top: str, module: dict[str, Any], name: str, *, registers: bool) -> str:
    """RTLIL of one module without its memories and instances, and without its registers if asked.

    Parameters
    ----------
    rtlil
        Text with the module.
    top
        Its name.
    module
        The same in Yosys's JSON, for widths and directions.
    name
        New name of the module.
    registers
        Whether to cut at registers too.
    """
    found = re.search(rf"^module \\{re.escape(top)}\n(.*?)^end\n", rtlil, re.MULTILINE | re.DOTALL)
    if found is None:
        raise LutcoreError(f"there is no module {top} to prove anything of")
    ports = max((int(match[1]) for match in _PORT.finditer(found[1])), default=0)
    added: list[str] = []

    def replace(match: re.Match[str]) -> str:
        kind, cell = match[1], match[2].removeprefix("\\")
        kept = kind in _REGISTERS and not registers
        if kept or not (kind in _REGISTERS or kind.startswith(("\\", "$mem"))):
            return match[0]
        lines = []
        for pin, signal in _CONNECT.findall(match[3]):
            width = len(module["cells"][cell]["connections"][pin])
            if width == 0 or pin.upper().endswith("CLK"):
                continue
            gives = module["cells"][cell]["port_directions"][pin] == "output"
            wire = f"\\cut:{cell}:{pin}"
            direction, number = "input" if gives else "output", ports + len(added) + 1
            added.append(f"  wire width {width} {direction} {number} {wire}\n")
            lines.append(f"  connect {signal} {wire}\n" if gives else f"  connect {wire} {signal}\n")
        return "".join(lines)

    body = _CELL.sub(replace, found[1])
    return f"module \\{name}\n{''.join(added)}{body}end\n"


def _agree(folder: Path, method: str) -> bool:
    """Whether the two always give the same."""
    # Merging equal cells leaves only what the fault can reach to the solver.
    proof = f"sat -verify -prove trigger 0 -timeout {_TIMEOUT}"
    if method == "induction":
        proof += f" -tempinduct -maxsteps {_STEPS}"
    log = run_yosys(
        folder,
        "read_rtlil gold.il; read_rtlil gate.il; miter -equiv -flatten gold gate miter; "
        f"hierarchy -top miter; opt_expr; opt_merge; opt_expr; opt_clean; {proof} miter",
    )
    return "SUCCESS!" in log or "proof finished" in log.lower()
