"""The units of the core as designs under test: their benches."""

from functools import partial

from lutcore.hw.contract.config import CoreConfig
from lutcore.verif.kit.bench import Bench

__all__ = ["UNIT_BENCHES"]


def _verilog(unit: str, config: CoreConfig) -> str:
    # Imported here: the command line lists the benches, and the generator takes long to import.
    from lutcore.verif.units.components import unit_verilog

    return unit_verilog(unit, config)


_SUMMARIES = {
    "table": "precompute: tables, tags and sums of whole instructions",
    "lanes": "lookups and adder trees against ±1 and {0,1} dot products",
    "accumulators": "the array: planes, runs, tiles, slots, and the FIFO behind it",
    "scale": "exact sums of scaled runs, all kinds of layers",
    "dma_read": "read master and windows against a memory that checks the rules of AXI4",
    "dma_write": "write master and window, the same",
    "fetch": "fetch, decoder and dispatch, programs good and bad",
    "csr": "registers and counters behind AXI4-Lite",
}

#: The benches of the units, by name.
UNIT_BENCHES: dict[str, Bench] = {
    unit: Bench(
        name=unit,
        module=f"lutcore.verif.units.{unit}",
        top=f"lutcore_{unit}",
        verilog=partial(_verilog, unit),
        core=False,
        summary=summary,
    )
    for unit, summary in _SUMMARIES.items()
}
