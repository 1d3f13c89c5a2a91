"""The module around the core in a cocotb simulation.

The core is an AXI4 master without identifiers, which the standard allows; the bus models want
them. The wrapper has the ports of the core, and those.
"""

import re
from pathlib import Path

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.export import ports
from lutcore.sw.base.errors import LutcoreError

__all__ = ["WRAPPER", "check_ports", "read_core", "wrapper_verilog"]

#: Name of the wrapper's module.
WRAPPER = "lutcore_bench"
#: Identifiers: what the core does not have, by name and direction as seen from outside.
_IDS = {
    "m_axi_arid": "output",
    "m_axi_rid": "input",
    "m_axi_awid": "output",
    "m_axi_bid": "input",
}
#: Direction, range and names; in a header the names end where the next direction begins.
_DIRECTION = r"\b(?:input|output|inout)\b"
_DECLARATION = (
    rf"({_DIRECTION})(?:\s+(?:wire|reg|logic|signed)\b)*\s*(\[[^\]]*\])?"
    rf"((?:(?!{_DIRECTION})[^;)=])*)"
)


def wrapper_verilog(config: CoreConfig) -> str:
    """Module `WRAPPER` around module ``lutcore`` of a configuration."""
    declared = [
        f"  {port['direction']} wire [{port['width'] - 1}:0] {port['name']}"
        for port in ports(config)
    ]
    declared += [f"  {direction} wire [0:0] {name}" for name, direction in _IDS.items()]
    connected = [f"    .{port['name']}({port['name']})" for port in ports(config)]
    tied = [f"  assign {name} = 1'b0;" for name, way in _IDS.items() if way == "output"]
    return "\n".join(
        [
            f"module {WRAPPER} (",
            ",\n".join(declared),
            ");",
            *tied,
            "  lutcore core (",
            ",\n".join(connected),
            "  );",
            "endmodule",
            "",
        ]
    )


def read_core(file: Path, config: CoreConfig) -> str:
    """Verilog of a core, from a file.

    Raises
    ------
    LutcoreError
        If it cannot be read, or its ports are not those of the configuration.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise LutcoreError(f"cannot read {file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise LutcoreError(f"cannot read {file}: it is not text") from None
    check_ports(text, config, str(file))
    return text


def check_ports(verilog: str, config: CoreConfig, source: str) -> None:
    """Refuse Verilog whose module ``lutcore`` does not have the ports of a configuration.

    Parameters
    ----------
    verilog
        Text with a module ``lutcore``, in the style of Verilog-1995 (directions in the body, as
        generators and Yosys write it) or of Verilog-2001 (in the header).
    config
        Gives the ports.
    source
        Name for messages.

    Raises
    ------
    LutcoreError
        Naming the port.
    """
    text = re.sub(r"/\*.*?\*/|//[^\n]*|\(\*(?!\)).*?\*\)", " ", verilog, flags=re.DOTALL)
    found = re.search(r"\bmodule\s+\\?lutcore\b(.*?)\bendmodule\b", text, re.DOTALL)
    if found is None:
        raise LutcoreError(
            f"{source} has no module lutcore: give the whole design, with that top module"
        )
    # Yosys writes multiplexers of many inputs as functions, with inputs of their own.
    body = re.sub(r"\b(function|task)\b.*?\bend\1\b", " ", found[1], flags=re.DOTALL)
    actual = {}
    for direction, span, names in re.findall(_DECLARATION, body):
        for name in names.split(","):
            if name.strip():
                actual[name.split()[0].lstrip("\\")] = (direction, _width(span))
    for port in ports(config):
        name, wanted = port["name"], (port["direction"], port["width"])
        if name not in actual:
            raise LutcoreError(f"{source}: module lutcore has no port {name}")
        if actual[name] != wanted:
            direction, width = actual[name]
            raise LutcoreError(
                f"{source}: port {name} is an {direction} of {width} bits, but in this "
                f"configuration it is an {wanted[0]} of {wanted[1]}: is --config the one that the "
                "file was generated from?"
            )
    known = {port["name"] for port in ports(config)}
    for name in actual:
        if name not in known:
            raise LutcoreError(f"{source}: module lutcore has a port {name}, which no core has")


def _width(span: str) -> int:
    if not span:
        return 1
    found = re.fullmatch(r"\[\s*(\d+)\s*:\s*(\d+)\s*\]", span)
    return abs(int(found[1]) - int(found[2])) + 1 if found else 0
