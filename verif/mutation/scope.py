"""How much of a design a proof looks at: a module, and which of those around it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lutcore.verif.mutation.mutants import REGISTERS, Netlist

__all__ = ["Scope", "scope_of"]

#: Registers at most where modules are put together.
_REGISTERS = 120
#: Bits of Yosys's JSON that are no nets.
_FIXED = ("0", "1", "x", "z")


@dataclass(frozen=True)
class Scope:
    """What a proof looks at: a module, and modules below it that are made part of it.

    Attributes
    ----------
    top
        The module.
    parts
        Modules below it; None: all.
    """

    top: str
    parts: frozenset[str] | None = frozenset()

    @property
    def script(self) -> str:
        """Commands of Yosys that make it one module."""
        if self.parts is None:
            # Registers that nobody reads may differ: they are gone.
            return "flatten; opt_clean; "
        if not self.parts:
            return ""
        others = " ".join(f"{part} %d" for part in sorted(self.parts))
        return f"select * {others}; setattr -mod -set keep_hierarchy 1; select -clear; flatten; "


def scope_of(netlist: Netlist, module: str, method: str) -> Scope | None:
    """What a method of `lutcore.verif.mutation.proof` looks at for a fault in a module.

    None if that is too much, or no more than for the methods before.
    """
    if method == "design":
        return Scope(netlist.top, None)
    if method != "neighbours":
        return Scope(module)
    parent = module.rpartition(".")[0]
    if parent not in netlist.modules:
        return None
    near = [module, *_neighbours(netlist.modules[parent], module)]
    below = {name: _below(netlist, name) for name in near}
    parts = set(below[module])
    if _registers(netlist, parts) > _REGISTERS:
        return None
    for names in sorted(below.values(), key=lambda names: (_registers(netlist, names), names)):
        if _registers(netlist, parts | set(names)) <= _REGISTERS:
            parts |= set(names)
    return Scope(parent, frozenset(parts))


def _neighbours(parent: dict[str, Any], module: str) -> list[str]:
    """Instances in the parent that drive the module's, or are driven by it."""
    nets: dict[tuple[str, str], set[int]] = {}
    for cell in parent["cells"].values():
        for port, bits in cell["connections"].items():
            way = cell["port_directions"][port]
            nets.setdefault((cell["type"], way), set()).update(b for b in bits if b not in _FIXED)
    found = {
        name
        for name, way in nets
        for other in ("input", "output")
        if way != other and nets[name, way] & nets.get((module, other), set())
    }
    return sorted(name for name in found - {module} if not name.startswith("$"))


def _below(netlist: Netlist, module: str) -> list[str]:
    """A module and all that are in it."""
    cells = netlist.modules[module]["cells"].values()
    inner = [cell["type"] for cell in cells if not cell["type"].startswith("$")]
    return [module, *(name for part in inner for name in _below(netlist, part))]


def _registers(netlist: Netlist, modules: Iterable[str]) -> int:
    """Registers in modules."""
    cells = (cell for name in modules for cell in netlist.modules[name]["cells"].values())
    return sum(cell["type"] in REGISTERS for cell in cells)
