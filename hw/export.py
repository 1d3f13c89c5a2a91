"""The core as Verilog, and a description of it for programs."""

import os
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Module, ResetSignal, Signal
from amaranth.lib import wiring

from lutcore.hw.config import CoreConfig
from lutcore.hw.core import Core
from lutcore.hw.csr import CSRS
from lutcore.hw.isa import ISA_VERSION

__all__ = ["Top", "describe", "generate_verilog"]


class Top(Elaboratable):
    """Module ``lutcore``: the core with the port names of the AXI specification.

    Attributes
    ----------
    ports
        Name to signal, in the order of the Verilog port list.
    inputs
        Names of the input ports.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.core = Core(config)
        self.ports: dict[str, Signal] = {"aclk": Signal(name="aclk"), "aresetn": Signal(name="aresetn")}
        self.inputs = ["aclk", "aresetn"]
        self._links: list[tuple[Signal, Signal, bool]] = []
        for prefix, member in (("s_axi", self.core.control), ("m_axi", self.core.bus)):
            for (name,), kind, inner in member.signature.flatten(member):
                outer = Signal(inner.shape(), name=f"{prefix}_{name}")
                is_input = kind.flow == wiring.In
                self._add(outer.name, outer, inner, is_input)
        self._add("irq", Signal(name="irq"), self.core.irq, False)

    def _add(self, name: str, outer: Signal, inner: Signal, is_input: bool) -> None:
        self.ports[name] = outer
        if is_input:
            self.inputs.append(name)
        self._links.append((outer, inner, is_input))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain("sync")
        m.submodules.core = self.core
        m.d.comb += [
            ClockSignal("sync").eq(self.ports["aclk"]),
            ResetSignal("sync").eq(~self.ports["aresetn"]),
        ]
        for outer, inner, is_input in self._links:
            m.d.comb += inner.eq(outer) if is_input else outer.eq(inner)
        return m


def generate_verilog(config: CoreConfig) -> str:
    """The whole core in plain Verilog, top module ``lutcore``; the same text every time."""
    # Another Yosys on the path would be taken silently, and would write other Verilog.
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    top = Top(config)
    text = verilog.convert(
        top,
        name="lutcore",
        ports=list(top.ports.values()),
        emit_src=False,
        strip_internal_attrs=True,
    )
    header = (
        f"// lutcore, fingerprint {config.fingerprint:#018x}\n"
        + "".join(f"//   {key} = {value}\n" for key, value in config.as_dict().items())
    )
    return header + text


def describe(config: CoreConfig) -> dict[str, Any]:
    """Ports, parameters, register map and fingerprint, ready for JSON."""
    top = Top(config)
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
        "ports": [
            {
                "name": name,
                "direction": "input" if name in top.inputs else "output",
                "width": len(signal),
            }
            for name, signal in top.ports.items()
        ],
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
