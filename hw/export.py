"""The core as Verilog, and a description of it for programs."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    Elaboratable,
    Fragment,
    Module,
    ResetSignal,
    Shape,
    Signal,
    Value,
)
from amaranth.lib import data, wiring

from lutcore.hw.cells.carry import TARGETS
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import CSRS
from lutcore.hw.contract.isa import ISA_VERSION
from lutcore.hw.core import Core
from lutcore.hw.memory.axi import Axi4, Axi4Lite
from lutcore.hw.verilog_text import (
    WAIVERS,
    cleared_in_pieces,
    started,
    with_named_ports,
    with_origins,
    without_brackets,
    without_empty_wires,
)

__all__ = [
    "Target",
    "Top",
    "component_verilog",
    "describe",
    "generate_verilog",
    "ports",
]


class Top(Elaboratable):
    """Module ``lutcore``: the core with the port names of the AXI specification.

    Attributes
    ----------
    ports
        Name to signal, in the order of the Verilog port list.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.core = Core(config)
        self.ports = {
            port["name"]: Signal(port["width"], name=port["name"]) for port in ports(config)
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain("sync")
        m.submodules.core = self.core
        m.d.comb += [
            ClockSignal("sync").eq(self.ports["aclk"]),
            ResetSignal("sync").eq(~self.ports["aresetn"]),
        ]
        m.d.comb += self.ports["irq"].eq(self.core.irq)
        for prefix, bus in (("s_axi", self.core.control), ("m_axi", self.core.bus)):
            for (name,), member, inner in bus.signature.flatten(bus):
                outer = self.ports[f"{prefix}_{name}"]
                # A member's direction is that of the core's own port here.
                m.d.comb += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)
        return m


def ports(config: CoreConfig) -> list[dict[str, Any]]:
    """Name, direction and width of each port of module ``lutcore``, in order."""
    found = [("aclk", "input", 1), ("aresetn", "input", 1)]
    for prefix, signature in (("s_axi", Axi4Lite(12).flip()), ("m_axi", Axi4(config.bus_width))):
        for name, member in signature.members.items():
            direction = "input" if member.flow == wiring.In else "output"
            found.append((f"{prefix}_{name}", direction, Shape.cast(member.shape).width))
    found.append(("irq", "output", 1))
    return [{"name": n, "direction": d, "width": w} for n, d, w in found]


@dataclass(frozen=True)
class Target:
    """What a generated design is for: a platform to ``elaborate`` that knows a family alone."""

    family: str | None = None


def component_verilog(
    design: Elaboratable, name: str, ports: Sequence[Signal | data.View], family: str | None = None
) -> str:
    """Any design as Verilog, module ``name``; ``family`` as for `generate_verilog`."""
    # Another Yosys on the path would be taken silently, and would write other Verilog.
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    if family not in (None, *TARGETS):
        raise ValueError(f"family must be one of {', '.join(TARGETS)} or None, not {family!r}")
    fragment = Fragment.get(design, Target(family))
    classes = dict(_classes(fragment, name))
    text = verilog.convert(
        fragment,
        name=name,
        ports=[Value.cast(port) for port in ports],
        emit_src=False,
        strip_internal_attrs=True,
    )
    text = with_named_ports(without_empty_wires(text))
    return with_origins(started(cleared_in_pieces(without_brackets(text))), classes)


def _classes(fragment: Fragment, name: str) -> Iterator[tuple[str, str]]:
    """Names of modules, and of the Python classes that they are made from."""
    for origin in fragment.origins or ():
        kind = type(origin)
        if kind.__module__.startswith("lutcore."):
            yield name, f"{kind.__module__}.{kind.__qualname__}"
    for number, (part, inner, _) in enumerate(fragment.subfragments):
        yield from _classes(part, f"{name}.{inner or f'U${number}'}")


def generate_verilog(config: CoreConfig, family: str | None = None) -> str:
    """The whole core in Verilog, top module ``lutcore``; the same text every time.

    Parameters
    ----------
    config
        The core.
    family
        None: plain Verilog. ``"ecp5"``, ``"xc7"``: with the carry cells of that family placed
        (see ``hw/cells``), which takes fewer LUTs and does the same. ``"ice40"``, ``"cells"``:
        plain Verilog without the resets of data that only 7-series gains by.
    """
    top = Top(config)
    text = component_verilog(top, "lutcore", list(top.ports.values()), family)
    header = f"// lutcore, fingerprint {config.fingerprint:#018x}\n" + "".join(
        f"//   {key} = {value}\n" for key, value in config.as_dict().items()
    )
    return header + WAIVERS + text


def describe(config: CoreConfig) -> dict[str, Any]:
    """Ports, parameters, register map and fingerprint, ready for JSON."""
    return {
        "top": "lutcore",
        "fingerprint": f"{config.fingerprint:#018x}",
        "isa_version": ISA_VERSION,
        "parameters": config.as_dict(),
        "derived": {
            "peak_macs_per_cycle": config.peak,
            "step_columns": config.step,
            "table_entry_bits": config.entry_width,
            "accumulator_bits": config.acc_width,
            "sum_bits": config.sum_width,
        },
        "ports": ports(config),
        "csrs": [
            {
                "name": csr.name,
                "offset": csr.offset,
                "access": csr.access,
                "description": csr.description,
            }
            for csr in CSRS.values()
        ],
    }
