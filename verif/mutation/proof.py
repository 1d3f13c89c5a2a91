"""Proof that a fault changes nothing, by SAT.

Design and mutant are cut at their registers, memories and instances: what these give becomes an
input that both share, what they take becomes an output of each. If all outputs agree for every
input, the two go from equal states through equal states for ever. A module's own inputs are free,
so the proof is tried on the module, then on the whole design flattened, where constants and dead
ends outside of the module count too. In the module, registers may differ while nothing looks at
them: see `invariant`. Nor does it matter in which row of a memory a word lies,
as long as all ports know.
"""

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lutcore.sim.rtl.build import run_yosys
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.mutation.invariant import find_invariant, never_differ
from lutcore.verif.mutation.mutants import Mutant, Netlist, apply_script
from lutcore.verif.mutation.pipeline import agree_at_the_end
from lutcore.verif.mutation.reach import Fact, unreachable
from lutcore.verif.mutation.scope import Scope, scope_of

__all__ = ["METHODS", "cut", "prove_equivalent"]

#: Tried in this order.
METHODS = ("module", "rows", "pipeline", "states", "reset", "design", "neighbours")
#: Seconds for the proof on one module.
_TIMEOUT = 60

_CELL = re.compile(r"^  cell (\S+) (\S+)\n(.*?)^  end\n", re.MULTILINE | re.DOTALL)
_CONNECT = re.compile(r"^    connect \\(\S+) (.*)$", re.MULTILINE)
#: All but the start values of registers: a cell that is taken out would leave its own behind.
_ATTRIBUTE = re.compile(r"^ *attribute \\(?!init ).*\n", re.MULTILINE)
_INPUT = re.compile(r"^  wire input \d+ \\(\w+)$", re.MULTILINE)
_PORT = re.compile(r"^  wire .*?(?:input|output|inout) (\d+) ", re.MULTILINE)


def prove_equivalent(
    netlist: Netlist,
    mutant: Mutant,
    folder: Path,
    methods: Sequence[str] = METHODS,
    facts: dict[Scope, list[Fact]] | None = None,
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
    facts
        Of each scope, what is known of the states that it never gets into; added to.

    Returns
    -------
    str or None
        The method that has proved it; None if none has.
    """
    (folder / "netlist.il").write_text(netlist.rtlil, encoding="utf-8")
    (folder / "fault.ys").write_text(apply_script([mutant], selected=False), encoding="utf-8")
    written: Scope | None = None
    facts = {} if facts is None else facts
    for method in methods:
        scope = scope_of(netlist, mutant.module, method)
        if scope is None:
            continue
        try:
            if method == "pipeline":
                if agree_at_the_end(netlist, mutant, folder):
                    return method
                continue
            if scope != written:
                for name, fault in (("gold", ""), ("gate", "script fault.ys;")):
                    _write_cut(folder, name, fault, scope)
                written = scope
            if method == "rows":
                holds = _swapping_rows(scope, folder)
            else:
                holds = _holds(method, scope, folder, facts)
            if holds:
                return method
        except LutcoreError:
            # No proof by this method, for whatever reason: the fault remains under suspicion.
            continue
    return None


def _holds(method: str, scope: Scope, folder: Path, facts: dict[Scope, list[Fact]]) -> bool:
    if method in ("module", "design"):
        return _agree(folder)
    if scope not in facts:
        facts[scope] = unreachable(folder)
    if method != "reset":
        return find_invariant(folder, facts[scope])
    # What has a reset of its own is in it from the cycle after the core's.
    ports = set(_INPUT.findall((folder / "gold.il").read_text(encoding="utf-8")))
    return ports >= {"rst", "unit_reset"} and never_differ(folder, facts[scope], ("rst",))


def _swapping_rows(scope: Scope, folder: Path) -> bool:
    """Whether all agrees when the mutant has the rows of a memory in another order.

    Such as its halves swapped, of a memory in which all rows are alike at first.
    """
    text, module = _whole(folder, scope)
    gates: list[str] = []
    for name, cell in module["cells"].items():
        if cell["type"] != "$mem_v2" or "1" in cell["parameters"]["INIT"]:
            continue
        for bit in range(int(cell["parameters"]["ABITS"], 2)):
            gates.append(f"gate{len(gates)}")
            content = cut(text, module, scope.top, "gate", swapped=(name, bit))
            (folder / f"{gates[-1]}.il").write_text(content, encoding="utf-8")
    return bool(gates) and _agree(folder, gates)


def _whole(folder: Path, scope: Scope) -> tuple[str, dict[str, Any]]:
    """What was written last before it was cut: RTLIL, and the module in Yosys's JSON."""
    text = (folder / "whole.il").read_text(encoding="utf-8")
    modules = json.loads((folder / "whole.json").read_text(encoding="utf-8"))["modules"]
    return text, modules[scope.top]


def _write_cut(folder: Path, name: str, fault: str, scope: Scope) -> None:
    """Write ``NAME.il``: the module, with the fault, cut."""
    run_yosys(
        folder,
        # dffunmap: what a register holds next is one value, whatever its pins say.
        f"read_rtlil netlist.il; {fault} hierarchy -top {scope.top}; {scope.script}"
        "dffunmap; memory_collect; write_rtlil whole.il; write_json whole.json",
    )
    content = cut(*_whole(folder, scope), scope.top, name)
    (folder / f"{name}.il").write_text(content, encoding="utf-8")


def cut(
    rtlil: str,
    module: dict[str, Any],
    top: str,
    name: str,
    swapped: tuple[str, int] | None = None,
) -> str:
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
    swapped
        A memory, and a bit of its addresses that is inverted at all ports.
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
            flips = 1 << swapped[1] if swapped and swapped[0] == cell else 0
            pins = _masked(described, pins, cell, wires, gates, flips)
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
    flips: int,
) -> dict[str, str]:
    """Pins of a memory, with its addresses and data zero where they are not enabled.

    Bits of ``flips`` are inverted in all addresses.

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
        if flips:
            width = len(connections[f"{side}_ADDR"])
            mask = f"{width}'{f'{flips:0{width // count}b}' * count}"
            sizes = {"A_SIGNED": 0, "B_SIGNED": 0, "A_WIDTH": width, "B_WIDTH": width}
            swapped = wire(f"{side}_ADDR:swapped", width)
            gate("$xor", sizes | {"Y_WIDTH": width}, A=held["ADDR"], B=mask, Y=swapped)
            held["ADDR"] = swapped
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


def _agree(folder: Path, gates: Sequence[str] = ("gate",)) -> bool:
    """Whether the design and the mutant, or one of several forms of it, always give the same."""
    # Merging equal cells leaves only what the fault can reach to the solver.
    log = run_yosys(
        folder,
        "; ".join(
            f"design -reset; read_rtlil gold.il; read_rtlil {gate}.il; "
            "miter -equiv -flatten gold gate miter; "
            "hierarchy -top miter; opt_expr; opt_merge; opt_expr; opt_clean; "
            "sat -prove trigger 0 miter"
            for gate in gates
        ),
        timeout=_TIMEOUT,
    )
    return "SUCCESS!" in log
