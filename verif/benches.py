"""The benches that a regression is made of."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from lutcore.sim.verilog import verilog_of
from lutcore.verif.bench import Bench, Outcome
from lutcore.verif.unit_duts import UNIT_BENCHES

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
    _core("core", "bench_core", "random layers and programs behind AXI, against the golden model"),
    _core("faults", "bench_faults", "bus errors, bad programs, resets, hangs"),
    _core(
        "programs",
        "programs_bench",
        "random instruction streams, legal and illegal, against the ISS",
        runs=_later("lutcore.verif.programs_bench", "runs"),
    ),
    _core(
        "directed",
        "directed",
        "full slots, far blocks, stops, resets, bus errors, registers: programs made for them",
        runs=_later("lutcore.verif.directed", "runs"),
    ),
    _core(
        "gates",
        "bench_gates",
        "the netlist after synthesis, against the golden model",
        prepare=_later("lutcore.verif.netlist", "netlist_of"),
        slow=True,
    ),
)

#: All benches by name, in the order in which they are listed.
BENCHES: dict[str, Bench] = UNIT_BENCHES | {bench.name: bench for bench in _CORE_BENCHES}
