"""Claims that a fault's module has to keep whatever is around it.

A second line of defence cannot be seen from outside: a request that a window lets through although
it has refused it is dropped by the stop that the refusal causes. So what simulation does not kill,
and no proof shows to do nothing, is put before what is claimed of the module by itself, on the
netlist with the fault: contracts that `lutcore prove` proves of the hardware for every input (of
windows, of the turns of a master's clients, of FETCH, of STORE, of most streams), and that a reset
forgets what has been.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from amaranth.hdl import (
    Cat,
    ClockSignal,
    Const,
    Elaboratable,
    Fragment,
    Instance,
    Module,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.control.fetch import Fetch
from lutcore.hw.control.nest import Nest
from lutcore.hw.core import Core
from lutcore.hw.memory.dma import Splitter, Window
from lutcore.hw.transfer.loaders import ActivationLoader, WeightLoader
from lutcore.hw.transfer.store import StoreUnit
from lutcore.sim.rtl.build import run_yosys
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.formal.engine import Verdict, bounded, write_smt2
from lutcore.verif.formal.model import Model
from lutcore.verif.formal.properties.dma import turns_contract, window_contract
from lutcore.verif.formal.properties.refusals import refusal_contract, store_contract
from lutcore.verif.formal.properties.streams import stands_contract
from lutcore.verif.mutation.mutants import Mutant, Netlist, apply_script

__all__ = ["Claims"]

#: Cycles after a reset in which what was before must not be seen.
_AFTER_RESET = 16
#: Widest outputs of which that is claimed.
_NARROW = 4
#: Seconds for a question to the solver.
_TIMEOUT = 60


class Claims:
    """What is claimed of modules of a core, and which faults break it.

    Parameters
    ----------
    config
        The core.
    netlist
        Its cells.
    """

    def __init__(self, config: CoreConfig, netlist: Netlist) -> None:
        self.config, self.netlist = config, netlist
        self._forgetful: dict[str, list[str]] = {}
        self._sound: dict[tuple[str, int], bool] = {}

    @cached_property
    def _components(self) -> dict[str, Any]:
        """What each module was made of."""
        found: dict[str, Any] = {}

        def walk(fragment: Any, path: str) -> None:
            for origin in fragment.origins or ():
                if isinstance(origin, wiring.Component):
                    found[path] = origin
            for inner, name, _ in fragment.subfragments:
                walk(inner, f"{path}.{name}")

        walk(Fragment.get(Core(self.config), None), f"{self.netlist.top}.core")
        return found

    def broken_by(self, mutant: Mutant, folder: Path) -> str | None:
        """A claim that a fault breaks, and how; None if it keeps them all.

        Parameters
        ----------
        mutant
            The fault.
        folder
            For the files of Yosys and of the solver.
        """
        for claim in (self._contract, self._reset):
            try:
                broken = claim(mutant, folder)
            except LutcoreError:
                # No answer, for whatever reason, says nothing against the fault.
                continue
            if broken:
                return broken
        return None

    def _write(self, module: str, mutant: Mutant | None, folder: Path) -> None:
        """Write ``part.il``: a module, flat, with a fault in it or none."""
        (folder / "netlist.il").write_text(self.netlist.rtlil, encoding="utf-8")
        fault = "" if mutant is None else apply_script([mutant], selected=False)
        (folder / "fault.ys").write_text(fault, encoding="utf-8")
        run_yosys(
            folder,
            f"read_rtlil netlist.il; script fault.ys; hierarchy -top {module}; flatten; opt_clean; "
            # A memory may hold anything, as after a program before.
            "delete t:$meminit*; rename -top part; write_rtlil part.il",
        )

    def _contract(self, mutant: Mutant, folder: Path) -> str | None:
        """What the module does at its ports, with a fault, breaks what is claimed of it."""
        module = mutant.module
        component = self._components.get(module)
        for number, contract in enumerate(_CONTRACTS.get(type(component), ())):
            broken = self._breaks(contract, number, mutant, folder)
            if broken:
                return broken
        return None

    def _breaks(
        self, contract: "_Contract", number: int, mutant: Mutant, folder: Path
    ) -> str | None:
        module = mutant.module
        component = self._components[module]

        def ask(fault: Mutant | None) -> Verdict:
            self._write(module, fault, folder)
            model = Model()
            part = _Part(self.netlist, module, component)
            model.unit(part)
            for bit, value in part.fixed():
                model.given(bit == value)
            contract.claim(model, component)
            smt2 = write_smt2(model, folder, any_state=False, parts="part.il")
            return bounded(smt2, contract.cycles)

        key = module, number
        if key not in self._sound:
            self._sound[key] = ask(None).holds
        if not self._sound[key]:
            return None
        verdict = ask(mutant)
        if verdict.holds:
            return None
        broken = ", ".join(claim.removeprefix("is_claim_") for claim in verdict.claims)
        return f"{broken}, in cycle {verdict.step}"

    def _reset(self, mutant: Mutant, folder: Path) -> str | None:
        """What a module gives after a reset, before it is given anything, is always the same.

        It is not so of data without a reset; the module without a fault tells which outputs these
        are.
        """
        module = mutant.module
        if not self._is_reset(mutant):
            return None
        if module not in self._forgetful:
            ports = self.netlist.modules[module]["ports"]
            # Words are data, of which something else says whether they are valid.
            outputs = [
                name
                for name, port in ports.items()
                if port["direction"] == "output" and len(port["bits"]) <= _NARROW
            ]
            self._write(module, None, folder)
            while differing := self._remembered(module, folder, outputs):
                outputs = [name for name in outputs if name not in differing]
            self._forgetful[module] = outputs
        self._write(module, mutant, folder)
        differing = self._remembered(module, folder, self._forgetful[module])
        if not differing:
            return None
        return f"reset: {', '.join(sorted(differing))} tells what was before it"

    def _is_reset(self, mutant: Mutant) -> bool:
        """Whether a fault is at the reset of a register, or at the gate in front of it."""
        cells = self.netlist.modules[mutant.module]["cells"]
        resets = {net for cell in cells.values() for net in cell["connections"].get("SRST", [])}
        given = cells[mutant.cell]["connections"].get("Y", [])
        return mutant.port == "SRST" or not resets.isdisjoint(given)

    def _remembered(self, module: str, folder: Path, outputs: list[str]) -> set[str]:
        """Outputs of ``part.il`` that a run shows to differ after a reset from unlike states.

        Some of them, if there are any, not all.
        """
        if not outputs:
            return set()
        ports = self.netlist.modules[module]["ports"]
        reset = "unit_reset" if "unit_reset" in ports else "rst"
        cycles = _AFTER_RESET + 1
        pins = [
            f"-set-at {n} in_{name} {int(n == 1 and name == reset)}"
            for name in ("rst", "unit_reset")
            if name in ports
            for n in range(1, cycles + 1)
        ]
        # Nothing new comes: it could meet data that need no reset.
        quiet = [name for name in ports if name.partition("$")[0].endswith("valid")]
        pins += [f"-set in_{name} 0" for name in quiet if ports[name]["direction"] == "input"]
        kept = " ".join(f"o:{name}" for name in outputs)
        claims = [f"-prove cmp_{name} 1 -show cmp_{name}" for name in outputs]
        log = run_yosys(
            folder,
            f"read_rtlil part.il; select -set kept {kept}; delete -port o:* @kept %d; opt_clean; "
            "setattr -unset init w:*; memory_map; opt -fast; dffunmap; "
            "rename part gold; copy gold gate; "
            "miter -equiv -flatten -make_outcmp gold gate miter; hierarchy -top miter; opt_clean; "
            f"sat -seq {cycles} -prove-skip 1 {' '.join(pins)} {' '.join(claims)} miter",
            timeout=_TIMEOUT,
        )
        if "SUCCESS!" in log:
            return set()
        shown = re.findall(r"^ +(\d+) +\\cmp_(\S+) +(\d+)", log, re.MULTILINE)
        differing = {name for cycle, name, same in shown if int(cycle) > 1 and same == "0"}
        if not differing:
            raise LutcoreError("Yosys's solver gave no answer")
        return differing


@dataclass(frozen=True)
class _Contract:
    """What is claimed of the ports of a component, and in how many cycles it can be broken."""

    claim: Callable[[Model, Any], object]
    cycles: int


def _stands(cycles: int) -> _Contract:
    return _Contract(stands_contract, cycles)


_CONTRACTS: dict[type, tuple[_Contract, ...]] = {
    Window: (_Contract(window_contract, 8), _stands(8)),
    Splitter: (_Contract(turns_contract, 8),),
    Fetch: (_Contract(refusal_contract, 14), _stands(10)),
    Nest: (_stands(10),),
    ActivationLoader: (_stands(10),),
    WeightLoader: (_stands(12),),
    StoreUnit: (_Contract(store_contract, 10),),
}


class _Part(Elaboratable):
    """A module of the netlist, as ``part``, on the ports of the component that it was.

    Ports of the netlist may have other names, or several of the component's in one: its bits are
    found by the nets that they are on.
    """

    def __init__(self, netlist: Netlist, module: str, component: Any) -> None:
        self.component = component
        self._described = netlist.modules[module]
        parent = netlist.modules[module.rpartition(".")[0]]
        self._instance = next(c for c in parent["cells"].values() if c["type"] == module)

    @cached_property
    def _driven(self) -> set[int]:
        """Nets that the module has a value for."""
        ports = self._described["ports"].values()
        found = {net for port in ports if port["direction"] == "input" for net in port["bits"]}
        for cell in self._described["cells"].values():
            for name, way in cell["port_directions"].items():
                if way == "output":
                    found.update(cell["connections"][name])
        return found

    def _bits(self, direction: Any) -> list[tuple[Any, Value]]:
        """The component's bits with their nets, or the constants that they are."""
        found: list[tuple[Any, Value]] = []
        for path, member, port in self.component.signature.flatten(self.component):
            value = Value.cast(port)
            nets = self._nets("__".join(map(str, path)), len(value))
            if member.flow == direction:
                found += zip(nets, value, strict=bool(nets))
        return found

    def _nets(self, name: str, width: int) -> list[int]:
        """Nets of a port of the component; none if it is gone. Yosys may have numbered its name."""
        ports = {net for port in self._described["ports"].values() for net in port["bits"]}
        alike = [
            net["bits"]
            for other, net in self._described["netnames"].items()
            if other.partition("$")[0] == name and len(net["bits"]) == width
        ]
        return max(alike, key=lambda nets: len(ports & set(nets)), default=[])

    def fixed(self) -> list[tuple[Value, int]]:
        """Input bits that are constant where the module is used, which its netlist relies on."""
        bits = dict(self._bits(In))
        return [
            (bits[net], int(value))
            for name, port in self._described["ports"].items()
            for net, value in zip(port["bits"], self._instance["connections"][name], strict=True)
            if net in bits and value in ("0", "1")
        ]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inputs = dict(self._bits(In))
        outputs: dict[int, Value] = {}
        pins: dict[str, Any] = {}
        for name, port in self._described["ports"].items():
            if port["direction"] == "input":
                pins[f"i_{name}"] = Cat(inputs.get(net, Const(0)) for net in port["bits"])
            else:
                pins[f"o_{name}"] = given = Signal(len(port["bits"]))
                # What nobody looks at may not even be driven any more: it could be anything.
                pairs = zip(port["bits"], given, strict=True)
                outputs |= {net: bit for net, bit in pairs if net in self._driven}
        pins |= {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        m.submodules.part = Instance("part", **pins)
        for net, bit in self._bits(Out):
            m.d.comb += bit.eq(outputs.get(net, int(net == "1")))
        return m
