"""What cells and wires of a routed design are called in its Verilog."""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lutcore.fpga.timing.delays import Pin
from lutcore.fpga.timing.units import Design

__all__ = ["PORTS", "Names", "Point"]

#: What the registers around a design are called, in the place of a unit.
PORTS = "ports"
#: How the names of what is in the design begin in its frame, of wires and of cells.
_IN_DESIGN = ("$flatten\\dut.", "dut.")
#: What nextpnr adds to the name of a cell that it takes apart.
_PART = re.compile(r"\$(?:CCU2_COMB\d|DPRAM_COMB\d|RAMW_SLICE)$")
#: Inputs of registers and memories that are no data, and what they are.
_ROLES = (
    (re.compile(r"CE|CE[ABRW]|OCE[ABR]|WE[AB]?|WRE|CS[ABRW]\d"), "enable"),
    (re.compile(r"LSR|RST[AB]?"), "reset"),
    (re.compile(r"AD[ABRW]\d+|WAD\d"), "address"),
)
#: Steps to a signal that has a name, where a register has none.
_FAR = 6


@dataclass(frozen=True)
class Point:
    """Where a path begins or ends, or a wire on it.

    Attributes
    ----------
    name
        The signal with the path of its unit, such as ``engine.fetch.part``; of a register without
        a name what it leads to, such as ``(before engine.fetch.word)``.
    bit
        Of a register of several bits; None: it has one, or it is a memory.
    unit
        Of a core; `PORTS`: a register outside that stands for whatever is connected there.
    register
        The same without field: ``engine.fetch.layer`` of ``engine.fetch.layer.opcode``.
    role
        "enable", "reset" or "address": the path ends at that input; "": at data.
    """

    name: str
    bit: int | None
    unit: str
    register: str
    role: str = ""

    @property
    def text(self) -> str:
        """For people, with bit and role."""
        bit = "" if self.bit is None else f"[{self.bit}]"
        return f"{self.name}{bit}{f' ({self.role})' if self.role else ''}"


@dataclass(frozen=True)
class _Alias:
    """A name of a wire: module of the core, signal, bit, width."""

    module: str
    signal: str
    bit: int
    width: int


class Names:
    """Names of a design.

    A flip-flop has the name of the register that it is a bit of, a memory its own. A wire has
    several where it goes through ports of modules: what counts is the one where it is driven.

    Parameters
    ----------
    design
        What was routed.
    named
        Its netlist before it is mapped to LUTs: all names of wires, and flip-flops.
    mapped
        Its netlist in the frame. Cells have the names of `named` there, with a prefix.
    routed
        The netlist that nextpnr writes: its cells are those that have delays.
    unit_of
        The unit of a module of the core.
    """

    def __init__(
        self,
        design: Design,
        *,
        named: dict[str, Any],
        mapped: dict[str, Any],
        routed: dict[str, Any],
        unit_of: Callable[[str], str],
    ) -> None:
        self._module = design.module
        self._unit_of = unit_of
        self._lines, self._inputs = _text(design)
        self._named = named["cells"]
        # A name that the Verilog begins with a dollar has a backslash before that here.
        self._wires = {name.removeprefix("\\"): wire for name, wire in named["netnames"].items()}
        self._aliases = self._all_aliases()
        self._mapped = mapped["cells"]
        self._mapped_wires = mapped["netnames"]
        self._left: dict[int | None, list[str]] = defaultdict(list)
        for name, wire in self._mapped_wires.items():
            if name.startswith(_IN_DESIGN) and not wire.get("hide_name"):
                several = len(wire["bits"]) > 1
                for index, bit in enumerate(wire["bits"]):
                    self._left[bit].append(f"{_own(name)}[{index}]" if several else _own(name))
        self._ports = _ports(mapped["netnames"], named["ports"])
        self._routed = routed["cells"]
        self._nets = {bit: name for name, net in routed["netnames"].items() for bit in net["bits"]}
        self._readers: dict[int, list[str]] | None = None

    def in_frame(self, cell: str) -> bool:
        """Whether a cell belongs to what is around the design."""
        return not cell.startswith(_IN_DESIGN)

    def start(self, pin: Pin) -> Point:
        """The register or memory that a path begins at."""
        return self._register(pin[0])

    def end(self, pin: Pin) -> Point:
        """The register or memory that a path ends at."""
        role = next((role for ports, role in _ROLES if ports.fullmatch(pin[1])), "")
        return replace(self._register(pin[0]), role=role)

    def wire(self, pin: Pin) -> Point | None:
        """The signal that an output of a cell drives; None if it has no name."""
        net = self._nets.get(self._routed[pin[0]]["connections"][pin[1]][0], "")
        bit = self._bit(self._mapped_wires, net)
        # One of the names that are left after mapping leads to all that there were.
        for name in self._left.get(bit, ()):
            found = self._bit(self._wires, name)
            if found is not None:
                return self._point(self._best(found))
        return None

    def unit(self, cell: str) -> str | None:
        """The unit whose text a cell stems from; None if that is not known, as of most LUTs."""
        place = self._place(self._mapped.get(self._whole(cell), {}))
        return place and self._unit_of(place[0])

    def _bit(self, wires: dict[str, Any], name: str) -> int | None:
        """Of a wire such as ``word[3]``."""
        index = 0
        if name not in wires and (match := re.fullmatch(r"(.*)\[(\d+)\]", name)):
            name, index = match[1], int(match[2])
        bits = wires.get(name, {"bits": ()})["bits"]
        return bits[index] if index < len(bits) else None

    def _whole(self, cell: str) -> str:
        """The cell that nextpnr has made one of."""
        while cell not in self._mapped and _PART.search(cell):
            cell = _PART.sub("", cell)
        return cell

    def _register(self, cell: str) -> Point:
        cell = self._whole(cell)
        own = _own(cell)
        flip_flop = self._named.get(own)
        if self.in_frame(cell):
            return self._port(cell)
        if flip_flop is None or flip_flop["type"] != "TRELLIS_FF":
            return self._memory(own)
        bit = flip_flop["connections"]["Q"][0]
        assigned = self._assigned(flip_flop)
        return self._point(self._best(bit, assigned), assigned) or self._ahead(bit)

    def _port(self, cell: str) -> Point:
        """Of a register of the frame, which holds an input of the design, or an output."""
        pin = "Q" if cell.startswith("i") else "DI"
        bits = self._mapped.get(cell, {"connections": {}})["connections"].get(pin, [None])
        port, bit = self._ports.get(bits[0], (cell.removesuffix(".ff"), None))
        return Point(f"port {port}", bit, PORTS, f"port {port}")

    def _memory(self, cell: str) -> Point:
        """Of a cell that is a part of a memory: ``unit.words.0.3``, or else of some other cell."""
        words = f"{self._module}.{cell}".split(".")
        place = next(i for i in range(len(words), 0, -1) if ".".join(words[:i]) in self._inputs)
        module = ".".join(words[:place])
        signal = re.sub(r"(\$\d+)?(\.\d+)*$", "", ".".join(words[place:]))
        shown = self._shown(module, signal)
        return Point(shown, None, self._unit_of(module), shown)

    def _shown(self, module: str, signal: str) -> str:
        """With the path inside the core: ``engine.fetch.part``."""
        return ".".join((*module.split(".")[2:], signal))

    def _point(self, alias: _Alias | None, assigned: str = "") -> Point | None:
        if alias is None:
            return None
        whole = assigned if alias.signal.startswith(f"{assigned}.") else alias.signal
        return Point(
            self._shown(alias.module, alias.signal),
            alias.bit if alias.width > 1 else None,
            self._unit_of(alias.module),
            self._shown(alias.module, whole),
        )

    def _best(self, bit: int, assigned: str = "") -> _Alias | None:
        """The name that a wire has where it is driven.

        An input of a module is not; of what is left, that is the innermost. `assigned` is the
        signal that the text gives the value to: that, or a field of it.
        """

        def rank(alias: _Alias) -> tuple[Any, ...]:
            own = alias.signal == assigned or alias.signal.startswith(f"{assigned}.")
            return (
                not (assigned and own),
                -alias.module.count("."),
                "$" in alias.signal,
                alias.width,
                len(alias.signal),
                alias.module,
                alias.signal,
            )

        driven = [
            alias
            for alias in self._aliases.get(bit, ())
            if alias.signal not in self._inputs.get(alias.module, ())
        ]
        return min(driven, key=rank, default=None)

    def _place(self, cell: dict[str, Any]) -> tuple[str, str] | None:
        """Module and line of the text that a cell stems from."""
        for source in cell.get("attributes", {}).get("src", "").split("|"):
            match = re.fullmatch(r"design\.v:\d+\.\d+-(\d+)\.\d+", source)
            if match and int(match[1]) <= len(self._lines):
                return self._lines[int(match[1]) - 1]
        return None

    def _assigned(self, cell: dict[str, Any]) -> str:
        """The signal that the text assigns where a flip-flop comes from."""
        _, line = self._place(cell) or ("", "")
        found = re.search(r"\\?([^\s\[\]()]+)\s*(?:\[[\d:]+\]\s*)?<=", line)
        return found[1] if found else ""

    def _ahead(self, bit: int) -> Point:
        """What a register without a name leads to: the nearest signals that have one."""
        bits = [bit]
        for _ in range(_FAR):
            nexts = [
                one
                for reader in dict.fromkeys(r for b in bits for r in self._reading(b))
                for port, direction in self._named[reader]["port_directions"].items()
                if direction == "output"
                for one in self._named[reader]["connections"][port]
            ]
            points = [p for p in map(self._point, map(self._best, nexts)) if p is not None]
            if points:
                nearest = min(points, key=lambda p: (p.name, p.bit or 0))
                name = f"(before {nearest.name})"
                return Point(name, nearest.bit, nearest.unit, name)
            bits = list(dict.fromkeys(nexts))
        name = "(unnamed)"
        return Point(name, None, self._unit_of(self._module), name)

    def _reading(self, bit: int) -> list[str]:
        if self._readers is None:
            self._readers = defaultdict(list)
            for name, cell in self._named.items():
                for port, direction in cell.get("port_directions", {}).items():
                    if direction != "output":
                        for one in cell["connections"][port]:
                            self._readers[one].append(name)
        return self._readers.get(bit, [])

    def _all_aliases(self) -> dict[int, list[_Alias]]:
        """All names of every wire but those that Yosys makes up."""
        found: dict[int, list[_Alias]] = defaultdict(list)
        for name, wire in self._wires.items():
            if wire.get("hide_name"):
                continue
            *path, signal = wire["attributes"].get("hdlname", name).split(" ")
            module = ".".join((self._module, *path))
            for index, bit in enumerate(wire["bits"]):
                found[bit].append(_Alias(module, signal, index, len(wire["bits"])))
        return found


def _own(name: str) -> str:
    """The name of a wire or cell without that of the frame's instance."""
    for prefix in _IN_DESIGN:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _ports(nets: dict[str, Any], ports: dict[str, Any]) -> dict[int, tuple[str, int | None]]:
    """Wire of the frame to the port that it is connected to, and the bit of that."""
    found: dict[int, tuple[str, int | None]] = {}
    for port in ports:
        bits = nets.get(f"dut.{port}", {"bits": []})["bits"]
        for index, bit in enumerate(bits):
            found.setdefault(bit, (port, index if len(bits) > 1 else None))
    return found


def _text(design: Design) -> tuple[list[tuple[str, str]], dict[str, set[str]]]:
    """Of each line its module and itself, of each module its inputs; modules as in the core."""
    lines: list[tuple[str, str]] = []
    inputs: dict[str, set[str]] = {}
    module = design.module
    for line in design.verilog.splitlines():
        if match := re.match(r"module \\?([^\s(]+)", line):
            module = design.module if match[1] == design.top else match[1]
            inputs[module] = set()
        elif match := re.match(r"\s*input (?:\w+ )?(?:\[[\d:]+\] )?\\?(\S+?) ?;", line):
            inputs[module].add(match[1])
        lines.append((module, line))
    return lines, inputs
