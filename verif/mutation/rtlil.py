"""Modules of Yosys's RTLIL, put together cell by cell."""

from collections.abc import Iterable

__all__ = ["Text", "join"]


class Text:
    """RTLIL of the module ``miter``, cell by cell."""

    def __init__(self) -> None:
        self.wires: list[str] = []
        self.body: list[str] = []
        self._ports = 0
        self._names = 0

    def port(self, name: str, width: int, direction: str) -> str:
        """A port of the module; returns its name."""
        self._ports += 1
        self.wires.append(f"  wire width {width} {direction} {self._ports} {name}\n")
        return name

    def wire(self, width: int) -> str:
        """A wire without a name of its own; returns the one that it gets."""
        self._names += 1
        self.wires.append(f"  wire width {width} \\w{self._names}\n")
        return f"\\w{self._names}"

    def gate(self, kind: str, width: int, **pins: tuple[str, int]) -> str:
        """A cell with inputs (signal, width); returns its output."""
        result = self.wire(width)
        sizes = {f"{pin}_WIDTH": size for pin, (_, size) in pins.items()} | {"Y_WIDTH": width}
        sizes |= {f"{pin}_SIGNED": 0 for pin in pins}
        self.body.append(f"  cell {kind} $c{len(self.body)}\n")
        self.body += [f"    parameter \\{name} {value}\n" for name, value in sizes.items()]
        self.body += [f"    connect \\{pin} {signal}\n" for pin, (signal, _) in pins.items()]
        self.body.append(f"    connect \\Y {result}\n  end\n")
        return result

    def instance(self, module: str, name: str, pins: dict[str, str]) -> None:
        """An instance of another module."""
        self.body.append(f"  cell \\{module} \\{name}\n")
        self.body += [f"    connect \\{pin} {signal}\n" for pin, signal in pins.items()]
        self.body.append("  end\n")

    def connect(self, to: str, of: str) -> None:
        """Drive a signal by another."""
        self.body.append(f"  connect {to} {of}\n")

    def __str__(self) -> str:
        return f"module \\miter\n{''.join(self.wires)}{''.join(self.body)}end\n"


def join(parts: Iterable[str]) -> str:
    """Signals side by side, the first at bit 0."""
    return "{ " + " ".join(reversed(list(parts))) + " }"
