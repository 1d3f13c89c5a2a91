"""Proof that a fault changes nothing, by SAT.

Design and mutant are cut at their registers, memories and instances: what these give becomes an
input that both share, what they take becomes an output of each. If all outputs agree for every
input, the two go from equal states through equal states for ever. A module's own inputs are free,
so the proof is tried on the module, then on the whole design flattened, where constants and dead
ends outside of the module count too.
"""

import itertools
import json
import re
from pathlib import Path
from typing import Any

from lutcore.sim.rtl.build import run_yosys
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.mutation.mutants import Mutant, Netlist, apply_script

__all__ = ["cut", "prove_equivalent"]

#: Seconds for one proof.
_TIMEOUT = 60

_CELL = re.compile(r"^  cell (\S+) (\S+)\n(.*?)^  end\n", re.MULTILINE | re.DOTALL)
_CONNECT = re.compile(r"^    connect \\(\S+) (.*)$", re.MULTILINE)
#: All but the start values of registers: a cell that is taken out would leave its own behind.
_ATTRIBUTE = re.compile(r"^ *attribute \\(?!init ).*\n", re.MULTILINE)
_PORT = re.compile(r"^  wire .*?(?:input|output|inout) (\d+) ", re.MULTILINE)


def prove_equivalent(netlist: Netlist, mutant: Mutant, folder: Path) -> str | None:
    """Try to prove that a mutant does what the design does.

    Parameters
    ----------
    netlist, mutant
        The design and the fault.
    folder
        For Yosys's files.

    Returns
    -------
    str or None
        Where it was proved: ``"module"``, ``"design"``; None if nowhere.
    """
    (folder / "netlist.il").write_text(netlist.rtlil, encoding="utf-8")
    (folder / "fault.ys").write_text(apply_script([mutant], selected=False), encoding="utf-8")
    # Registers that nobody reads may differ: in the flattened design they are gone.
    scopes = {"module": (mutant.module, ""), "design": (netlist.top, "flatten; opt_clean; ")}
    for where, (top, script) in scopes.items():
        try:
            for name, fault in (("gold", ""), ("gate", "script fault.ys;")):
                _write_cut(folder, name, f"{fault} hierarchy -top {top}; {script}", top)
            if _agree(folder):
                return where
        except LutcoreError:
            # No proof, for whatever reason: the fault remains undecided.
            continue
    return None


def _write_cut(folder: Path, name: str, script: str, top: str) -> None:
    """Write ``NAME.il``: the module `top`, after a script, cut."""
    run_yosys(
        folder,
        # dffunmap: what a register holds next is one value, whatever its pins say.
        f"read_rtlil netlist.il; {script}dffunmap; memory_collect; write_rtlil whole.il; "
        "write_json whole.json",
    )
    text = (folder / "whole.il").read_text(encoding="utf-8")
    modules = json.loads((folder / "whole.json").read_text(encoding="utf-8"))["modules"]
    (folder / f"{name}.il").write_text(cut(text, modules[top], top, name), encoding="utf-8")


def cut(rtlil: str, module: dict[str, Any], top: str, name: str) -> str:
    """RTLIL of one module without its registers, memories and instances.

    Parameters
    ----------
    rtlil
        Text with the module.
    module
        The same in Yosys's JSON, for widths and directions.
    top
        Its name.
    name
        New name of the module.
    """
    found = re.search(rf"^module \\{re.escape(top)}\n(.*?)^end\n", rtlil, re.MULTILINE | re.DOTALL)
    if found is None:
        raise LutcoreError(f"there is no module {top} to prove anything of")
    first = max((int(match[1]) for match in _PORT.finditer(found[1])), default=0) + 1
    wires: list[str] = []
    gates: list[str] = []
    ports = itertools.count(first)

    def replace(match: re.Match[str]) -> str:
        kind, cell = match[1], match[2].removeprefix("\\")
        if kind != "$dff" and not kind.startswith(("\\", "$mem")):
            return match[0]
        described = module["cells"][cell]
        pins = dict(_CONNECT.findall(match[3]))
        outputs = {p for p, way in described["port_directions"].items() if way == "output"}
        if kind == "$mem_v2":
            pins = _masked(described, pins, cell, wires, gates)
        lines = []
        for pin, signal in pins.items():
            width = len(described["connections"][pin])
            if width == 0 or pin.upper().endswith("CLK"):
                continue
            wire = f"\\cut:{cell}:{pin}"
            direction = "input" if pin in outputs else "output"
            wires.append(f"  wire width {width} {direction} {next(ports)} {wire}\n")
            to, of = (signal, wire) if pin in outputs else (wire, signal)
            lines.append(f"  connect {to} {of}\n")
        return "".join(lines)

    body = _CELL.sub(replace, _ATTRIBUTE.sub("", found[1]))
    return f"module \\{name}\n{''.join(wires)}{body}{''.join(gates)}end\n"


def _masked(
    described: dict[str, Any],
    pins: dict[str, str],
    cell: str,
    wires: list[str],
    gates: list[str],
) -> dict[str, str]:
    """Pins of a memory, with its addresses and data zero where they are not enabled.

    What this takes is added to `wires` and `gates`.
    """
    connections = described["connections"]

    def wire(name: str, width: int) -> str:
        wires.append(f"  wire width {width} \\mask:{cell}:{name}\n")
        return f"\\mask:{cell}:{name}"

    def gate(kind: str, parameters: dict[str, int], **signals: str) -> None:
        text = f"  cell {kind} $mask:{cell}:{len(gates)}\n"
        text += "".join(f"    parameter \\{key} {value}\n" for key, value in parameters.items())
        text += "".join(f"    connect \\{key} {value}\n" for key, value in signals.items())
        gates.append(text + "  end\n")

    masked = dict(pins)
    for side in ("WR", "RD"):
        count = len(connections[f"{side}_CLK"])
        if count == 0:
            continue
        held = {}
        for name in ("ADDR", "EN"):
            held[name] = wire(f"{side}_{name}:all", len(connections[f"{side}_{name}"]))
            gates.append(f"  connect {held[name]} {pins[f'{side}_{name}']}\n")
        masked[f"{side}_ADDR"] = wire(f"{side}_ADDR", len(connections[f"{side}_ADDR"]))
        for port in range(count):
            enabled = wire(f"{side}_EN:{port}", 1)
            spans = {}
            for name in ("ADDR", "EN"):
                width = len(connections[f"{side}_{name}"]) // count
                spans[name] = f"[{width * (port + 1) - 1}:{width * port}]", width
            span, width = spans["EN"]
            sizes = {"A_SIGNED": 0, "A_WIDTH": width, "Y_WIDTH": 1}
            gate("$reduce_or", sizes, A=f"{held['EN']} {span}", Y=enabled)
            span, width = spans["ADDR"]
            gate(
                "$mux",
                {"WIDTH": width},
                A=f"{width}'{'0' * width}",
                B=f"{held['ADDR']} {span}",
                S=enabled,
                Y=f"{masked[f'{side}_ADDR']} {span}",
            )
    width = len(connections["WR_DATA"])
    if width:
        masked["WR_DATA"] = wire("WR_DATA", width)
        sizes = {"A_SIGNED": 0, "B_SIGNED": 0, "A_WIDTH": width, "B_WIDTH": width, "Y_WIDTH": width}
        gate("$and", sizes, A=pins["WR_DATA"], B=pins["WR_EN"], Y=masked["WR_DATA"])
    return masked


def _agree(folder: Path) -> bool:
    """Whether the design and the mutant always give the same."""
    # Merging equal cells leaves only what the fault can reach to the solver.
    log = run_yosys(
        folder,
        "read_rtlil gold.il; read_rtlil gate.il; miter -equiv -flatten gold gate miter; "
        "hierarchy -top miter; opt_expr; opt_merge; opt_expr; opt_clean; "
        "sat -prove trigger 0 miter",
        timeout=_TIMEOUT,
    )
    return "SUCCESS!" in log
