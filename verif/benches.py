"""The benches that a regression is made of."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

from lutcore.sim.verilog import verilog_of
from lutcore.verif.bench import Bench, Outcome

__all__ = ["BENCHES", "Bench", "Outcome"]


def _later(module: str, name: str) -> Callable:
    """A function of a module that is imported only when it is called."""

    def call(*arguments: object) -> object:
        return getattr(import_module(module), name)(*arguments)

    return call


def _core(name: str, module: str, summary: str) -> Bench:
    return Bench(name, f"lutcore.verif.{module}", "lutcore", verilog_of, True, summary)


def _benches() -> dict[str, Bench]:
    benches = []
    if find_spec("lutcore.verif.unit_duts") is not None:
        benches += import_module("lutcore.verif.unit_duts").UNIT_BENCHES.values()
    benches.append(
        _core(
            "core", "bench_core", "random layers and programs behind AXI, against the golden model"
        )
    )
    if find_spec("lutcore.verif.bench_faults") is not None:
        benches.append(_core("faults", "bench_faults", "bus errors, bad programs, resets, hangs"))
    if find_spec("lutcore.verif.programs_bench") is not None:
        module = "lutcore.verif.programs_bench"
        benches.append(
            Bench(
                "programs",
                module,
                "lutcore",
                verilog_of,
                False,
                "random instruction streams, legal and illegal, against the ISS",
                runs=_later(module, "runs"),
            )
        )
    return {bench.name: bench for bench in benches}


#: All benches by name, in the order in which they are listed.
BENCHES: dict[str, Bench] = _benches()
