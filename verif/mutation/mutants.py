"""Single faults in a generated netlist: which there are, a sample of them, and a design with all.

Yosys turns the Verilog into cells, hierarchy kept, so that the module of a fault tells the unit
that it is in. Its pass ``mutate`` then builds any number of faults into one design, each behind a
comparison of the new input ``mutsel`` with the fault's number: one compiled model serves them all,
and 0 selects none.
"""

import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lutcore.sim.rtl.build import run_yosys
from lutcore.sw.base.errors import LutcoreError

__all__ = [
    "GROUPS",
    "SELECT",
    "UNITS",
    "Mutant",
    "Netlist",
    "apply_script",
    "candidates",
    "instrument",
    "read_netlist",
    "sample",
    "unit_of",
]

#: Modules of each unit: paths below ``lutcore.core``; what none of them begins with is ``core``.
UNITS: dict[str, tuple[str, ...]] = {
    "table": ("engine.table",),
    "array": ("engine.array",),
    "scale": ("engine.scale",),
    "final": ("engine.final",),
    "buffers": ("engine.",),
    "fetch": ("engine.fetch",),
    "nest": ("engine.issue_",),
    "ldw": ("engine.ldw",),
    "ldx": ("engine.ldx",),
    "store": ("engine.store",),
    "tokens": ("engine.tokens",),
    "dma": ("engine.window_", "reader", "writer"),
    "csr": ("registers", "counters"),
    "supervisor": ("supervisor",),
    "core": (),
}
#: Units that compute, and all others.
GROUPS: dict[str, tuple[str, ...]] = {
    "datapath": ("table", "array", "scale", "final"),
    "control": tuple(u for u in UNITS if u not in ("table", "array", "scale", "final")),
}

_BUFFERS = ("weights_buffer", "scales_buffer", "biases_buffer", "activations_buffer")
#: Cells without a function of their own: a fault there says nothing.
_NO_FAULTS = ("$meminit", "$meminit_v2", "$scopeinfo")
#: The start value of a register is an attribute of the wire at its output, which a fault there
#: would take off the register. A fault at its input and those at its readers serve as well.
REGISTERS = ("$dff", "$dffe", "$sdff", "$sdffe", "$sdffce")
#: Pins of Yosys's cells that are no hardware: resets of a memory's read port, which no memory here
#: has, and the enable of each single bit that is written. What gives it to a word is another cell.
_NO_PINS = {("$memrd_v2", "ARST"), ("$memrd_v2", "SRST"), ("$memwr_v2", "EN")}
#: Rounds through which what is unused or constant spreads from module to module; more do nothing.
_ROUNDS = 6
#: Input of an instrumented design: number of the fault that is present, 0 for none.
SELECT = "mutsel"


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes
    ----------
    mode
        ``"inv"``, ``"const0"``, ``"const1"``; at inputs also ``"cnot0"``, ``"cnot1"``: inverted
        while another bit of the port, `control_bit`, is 0 or 1.
    module, cell, cell_type
        Where; the module is a path of instances.
    port, bit, control_bit
        Which bit of which port; `control_bit` is -1 in the modes without.
    signal
        Name and bit of the net there, if it has a name.
    source
        Line of the generated Verilog, as Yosys knows it.
    """

    mode: str
    module: str
    cell: str
    cell_type: str
    port: str
    bit: int
    control_bit: int
    signal: str
    source: str

    @property
    def unit(self) -> str:
        """Name in `UNITS`."""
        return unit_of(self.module)

    @property
    def command(self) -> str:
        """Arguments of Yosys's ``mutate``."""
        text = (
            f"-mode {self.mode} -module {self.module} -cell {self.cell} "
            f"-port {self.port} -portbit {self.bit}"
        )
        return text + (f" -ctrlbit {self.control_bit}" if self.control_bit >= 0 else "")

    def __str__(self) -> str:
        path = self.module.removeprefix("lutcore.core.")
        kind = self.cell_type.removeprefix("lutcore.core.")
        control = f" by [{self.control_bit}]" if self.control_bit >= 0 else ""
        signal = f", net {self.signal}" if self.signal else ""
        return f"{path}: {self.mode}{control} at {kind} {self.port}[{self.bit}]{signal}"


@dataclass(frozen=True)
class Netlist:
    """A design as Yosys's cells.

    Attributes
    ----------
    rtlil
        The text that faults are applied to.
    modules
        As in Yosys's JSON.
    top
        Name of the top module.
    """

    rtlil: str
    modules: dict[str, Any]
    top: str


def unit_of(module: str) -> str:
    """Unit that a module belongs to, by its path."""
    path = module.removeprefix("lutcore.core.")
    if any(path.startswith(f"engine.{name}") for name in _BUFFERS):
        return "buffers"
    for unit, prefixes in UNITS.items():
        if unit != "buffers" and any(path.startswith(prefix) for prefix in prefixes):
            return unit
    return "core"


def read_netlist(verilog: str, folder: Path, top: str = "lutcore") -> Netlist:
    """Verilog to cells; `folder` is for Yosys's files.

    Raises
    ------
    LutcoreError
        If Yosys refuses the design.
    """
    (folder / "design.v").write_text(verilog, encoding="utf-8")
    # Only what every synthesis leaves out is left out: a fault there is none in hardware. Resets
    # and enables become pins of registers: as multiplexers they would be most of the design.
    # Multiplexers between a value and none at all, of which `proc` makes one for each assignment in
    # a case, are no hardware. Nor is a multiplexer of many inputs, two of which a fault could
    # select at once: what then comes out is for its tree to say. Modules lose what the core does
    # not use of them, such as the sizes of bodies in an axis that a unit has no interest in.
    spread = "opt_hier; opt_muxtree; opt_reduce; opt_merge; opt_expr; opt_dff; opt_clean; "
    run_yosys(
        folder,
        f"read_verilog design.v; hierarchy -check -top {top}; proc; opt_expr -mux_undef; "
        f"opt_merge; opt_expr; opt_dff; pmuxtree; opt_clean; {spread * _ROUNDS}"
        "write_rtlil netlist.il; write_json netlist.json",
    )
    modules = json.loads((folder / "netlist.json").read_text(encoding="utf-8"))["modules"]
    return Netlist((folder / "netlist.il").read_text(encoding="utf-8"), modules, top)


def candidates(module_name: str, module: dict[str, Any]) -> Iterator[Mutant]:
    """All faults of one module that can have an effect."""
    names = _net_names(module)
    clocks = {bit for name in ("clk", "aclk") for bit in _port_bits(module, name)}
    read = _readers(module)
    for cell_name, cell in module["cells"].items():
        if cell["type"] in _NO_FAULTS:
            continue
        for port, bits in cell["connections"].items():
            if port.endswith("CLK") or (cell["type"] in REGISTERS and port == "Q"):
                continue
            if (cell["type"], port) in _NO_PINS:
                continue
            output = cell.get("port_directions", {}).get(port) == "output"
            for index, bit in enumerate(bits):
                if bit in clocks or bit in ("x", "z") or (output and bit not in read):
                    continue
                # At an output a bit would depend on its own word: a loop to the simulator.
                wired = [] if output else _others(bits, index)
                for mode in ("inv", "const0", "const1", "cnot0", "cnot1"):
                    if mode == f"const{bit}" or (mode.startswith("cnot") and not wired):
                        continue
                    yield Mutant(
                        mode=mode,
                        module=module_name,
                        cell=cell_name,
                        cell_type=cell["type"],
                        port=port,
                        bit=index,
                        control_bit=wired[index % len(wired)] if mode.startswith("cnot") else -1,
                        signal=names.get(bit, ""),
                        source=cell.get("attributes", {}).get("src", ""),
                    )


def sample(netlist: Netlist, units: Iterable[str], count: int, seed: int) -> list[Mutant]:
    """Draw `count` different faults from some units.

    Units get equal shares, then modules by the square root of their size, then nets, so that a wide
    word does not hide the one-bit signals beside it. What is drawn in a module depends on no other:
    when the hardware changes, faults in what stays as it was are drawn again.

    Raises
    ------
    LutcoreError
        If there are not that many.
    """
    pools: dict[str, list[_Pool]] = {unit: [] for unit in units}
    for name, module in netlist.modules.items():
        unit = unit_of(name)
        if unit in pools:
            pool = _Pool(name, module, seed)
            if pool.left:
                pools[unit].append(pool)
    pools = {unit: found for unit, found in pools.items() if found}
    total = sum(len(pool.left) for found in pools.values() for pool in found)
    if count > total:
        raise LutcoreError(
            f"the design has {total} faults in these units: count {count} is too many"
        )
    chosen: list[Mutant] = []
    turn = 0
    order = list(pools)
    while len(chosen) < count:
        left = [pool for pool in pools[order[turn % len(order)]] if pool.left]
        if left:
            chosen.append(min(left, key=lambda pool: pool.wait(turn)).left.pop())
        turn += 1
    return chosen


class _Pool:
    """Faults of a module, net by net; the next one is last in `left`."""

    def __init__(self, name: str, module: dict[str, Any], seed: int) -> None:
        self.name, self.seed = name, seed
        # Yosys's own names have numbers that depend on the other modules.
        numbers = {cell: number for number, cell in enumerate(module["cells"])}
        by_net: dict[str, list[tuple[float, Mutant]]] = {}
        for mutant in candidates(name, module):
            cell = f"{mutant.cell_type} {numbers[mutant.cell]} {mutant.port}"
            net = mutant.signal.partition("[")[0] or cell
            lot = self._lot(f"{cell} {mutant.bit} {mutant.mode}")
            by_net.setdefault(net, []).append((lot, mutant))
        drawn = []
        for net, found in by_net.items():
            turns = enumerate(sorted(found, key=lambda item: item[0]))
            drawn += [(turn, self._lot(net), mutant) for turn, (_, mutant) in turns]
        drawn.sort(key=lambda item: item[:2], reverse=True)
        self.left = [mutant for _, _, mutant in drawn]
        self._weight = len(drawn) ** 0.5

    def _lot(self, what: object) -> float:
        """A number in 0..1 that is random, and always the same."""
        return random.Random(f"{self.seed}/{self.name}/{what}").random()

    def wait(self, turn: int) -> float:
        """Of all pools, that with the least is drawn from: in proportion to their weights."""
        return -math.log(1 - self._lot(turn)) / self._weight


def select_width(count: int) -> int:
    """Bits of ``mutsel`` for so many faults."""
    return max(1, count.bit_length())


def apply_script(mutants: Sequence[Mutant], *, selected: bool) -> str:
    """Lines of Yosys that put faults into the design, from number 1 on, or for good."""
    width = select_width(len(mutants))
    return "".join(
        f"mutate {f'-ctrl {SELECT} {width} {number} ' if selected else ''}{mutant.command}\n"
        for number, mutant in enumerate(mutants, 1)
    )


def instrument(netlist: Netlist, mutants: Sequence[Mutant], folder: Path) -> str:
    """Verilog of the design with all faults, the first of which is selected by ``mutsel`` = 1."""
    (folder / "netlist.il").write_text(netlist.rtlil, encoding="utf-8")
    script = apply_script(mutants, selected=True)
    (folder / "mutate.ys").write_text(script, encoding="utf-8")
    run_yosys(
        folder,
        "read_rtlil netlist.il; script mutate.ys; opt_clean; write_verilog -noattr mutated.v",
    )
    return (folder / "mutated.v").read_text(encoding="utf-8")


def _others(bits: Sequence[Any], index: int) -> list[int]:
    """Places of the bits of a port that are no constants, one of them excepted."""
    return [i for i, bit in enumerate(bits) if i != index and isinstance(bit, int)]


def _port_bits(module: dict[str, Any], name: str) -> list[int]:
    return module["ports"].get(name, {}).get("bits", [])


def _net_names(module: dict[str, Any]) -> dict[int, str]:
    """Name of each bit; the sources' own names are preferred."""
    names: dict[int, str] = {}
    own = sorted(module["netnames"].items(), key=lambda item: item[1]["hide_name"])
    for name, net in own:
        if net["hide_name"]:
            break
        for index, bit in enumerate(net["bits"]):
            if isinstance(bit, int) and (bit not in names or names[bit].startswith("$")):
                names[bit] = f"{name}[{index}]" if len(net["bits"]) > 1 else name
    return names


def _readers(module: dict[str, Any]) -> set[int]:
    """Bits that a cell or an output of the module reads."""
    read: set[int] = set()
    for cell in module["cells"].values():
        for port, bits in cell["connections"].items():
            if cell.get("port_directions", {}).get(port) != "output":
                read.update(bit for bit in bits if isinstance(bit, int))
    for port in module["ports"].values():
        if port["direction"] == "output":
            read.update(bit for bit in port["bits"] if isinstance(bit, int))
    return read
