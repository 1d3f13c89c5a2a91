"""The units of a core: modules of its Verilog, and each of them alone."""

import re
from dataclasses import dataclass

from lutcore.fpga.synth.yosys import SynthesisError
from lutcore.hw.core import Core, Engine
from lutcore.hw.export import Top

__all__ = ["WHOLE", "Design", "Units"]

#: What the whole core is called.
WHOLE = "core"
#: Classes whose submodules are units; what such a module has beside them is a unit, too.
_CONTAINERS = tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in (Top, Core, Engine))
_MODULE = re.compile(r"^(?:// (\S+)\n)?module \\?([^\s(]+)", re.MULTILINE)


@dataclass(frozen=True)
class Design:
    """Something to be routed.

    Attributes
    ----------
    name
        Of the unit, or `WHOLE`.
    verilog
        Its modules.
    top
        The outermost of them, a plain name.
    module
        What that one is called in the core: ``lutcore.core.engine.fetch``.
    """

    name: str
    verilog: str
    top: str
    module: str


class Units:
    """Units by the modules that the Verilog of a core is made of.

    Parameters
    ----------
    verilog
        From `lutcore.hw.export.generate_verilog`.

    Attributes
    ----------
    modules
        Unit to its module: all that the core and its engine consist of, and these two.
    leaves
        Units without these two, in the order of their modules.
    """

    def __init__(self, verilog: str) -> None:
        self._verilog = verilog
        classes = {module: kind for kind, module in _MODULE.findall(verilog)}
        self._all = tuple(classes)
        self.modules = {
            module.rpartition(".")[2]: module
            for module in classes
            if classes.get(module.rpartition(".")[0]) in _CONTAINERS
        }
        self.leaves = tuple(
            name for name, module in self.modules.items() if classes[module] not in _CONTAINERS
        )

    def unit_of(self, module: str) -> str:
        """The unit that a module is, or is in."""
        units = {module: name for name, module in self.modules.items()}
        while module not in units and "." in module:
            module = module.rpartition(".")[0]
        return units.get(module, WHOLE)

    def design(self, name: str) -> Design:
        """A unit alone, with the parameters that it has in this core.

        Parameters
        ----------
        name
            A unit; or a part of one, such as ``final.lane_0``; or `WHOLE`.

        Raises
        ------
        SynthesisError
            If there is none.
        """
        if name == WHOLE:
            module = self._all[0]
            return Design(name, self._text(module, module), module, module)
        unit, _, part = name.partition(".")
        if unit not in self.modules or (module := _joined(self.modules[unit], part)) not in (
            self._all
        ):
            raise SynthesisError(
                f"there is no unit {name!r} in this core; units: {', '.join(sorted(self.modules))}"
            )
        top = module.rpartition(".")[2]
        return Design(name, self._text(module, top), top, module)

    def _text(self, module: str, top: str) -> str:
        """Its module, called `top`, and those inside."""
        texts = re.split(r"^(?=(?:// \S+\n)?module )", self._verilog, flags=re.MULTILINE)
        kept = []
        for text in texts:
            found = _MODULE.match(text)
            if found is None:
                continue
            if found[2] == module:
                own = re.sub(r"^module \\?[^\s(]+", f"module {top}", text, flags=re.MULTILINE)
                kept.insert(0, own)
            elif found[2].startswith(f"{module}."):
                kept.append(text)
        return "".join(kept)


def _joined(module: str, part: str) -> str:
    return f"{module}.{part}" if part else module
