"""The benches that a regression is made of."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from lutcore.sim.rtl.verilog import verilog_of
from lutcore.verif.kit.bench import Bench, Outcome
from lutcore.verif.units.catalogue import UNIT_BENCHES

__all__ = ["BENCHES", "Bench", "Outcome"]


def _later(module: str, name: str) -> Callable:
    """A function of a module that is imported only when it is called."""

    def call(*arguments: object) -> object:
        return getattr(import_module(module), name)(*arguments)

    return call


def _core(name: str, module: str, summary: str, **others: Any) -> Bench:
    """A bench of the whole core."""
    return Bench(name, f"lutcore.verif.{module}", "lutcore", verilog_of, True, summary, **others)


_CORE_BENCHES = (
    _core("core", "core.layers", "random layers and programs behind AXI, against the golden model"),
    _core("faults", "faults.tests", "bus errors, bad programs, resets, hangs"),
    _core(
        "programs",
        "programs.bench",
        "random instruction streams, legal and illegal, against the ISS",
        runs=_later("lutcore.verif.programs.bench", "runs"),
    ),
    _core(
        "directed",
        "directed.bench",
        "full slots, far blocks, stops, resets, bus errors, registers: programs made for them",
        runs=_later("lutcore.verif.directed.bench", "runs"),
    ),
    _core(
        "gates",
        "core.gates",
        "the netlist after synthesis, against the golden model",
        prepare=_later("lutcore.verif.core.netlist", "netlist_of"),
        slow=True,
    ),
)

#: All benches by name, in the order in which they are listed.
BENCHES: dict[str, Bench] = UNIT_BENCHES | {bench.name: bench for bench in _CORE_BENCHES}
