"""The units of the core as designs under test: their benches and their coverage points."""

from functools import partial

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import Opcode
from lutcore.verif.kit.bench import Bench
from lutcore.verif.kit.coverage import Point

__all__ = ["UNIT_BENCHES", "UNIT_POINTS"]


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

#: Streams of each unit: valid waited for ready (full), ready for valid (empty).
_STREAMS = {
    "table": ("body full", "o_set full", "o_set empty", "o_run full", "o_run empty", "o_rows full",
              "o_rows empty"),
    "accumulators": ("i full", "o full"),
    "scale": ("i full", "o full", "o empty", "acc full"),
    "dma_read": ("requests full", "responses full", "responses empty", "ar full", "ar empty",
                 "r full", "r empty"),
    "dma_write": ("request full", "beats full", "aw full", "aw empty", "w full", "w empty",
                  "b empty"),
    "fetch": ("command full", "command empty", "i full", "i empty"),
    "csr": ("ar empty", "r full", "r empty", "aw empty", "w empty", "b full", "b empty"),
}  # fmt: skip


def _points() -> list[Point]:
    def point(unit: str, name: str, summary: str, bins: tuple[str, ...]) -> Point:
        return Point(f"{unit}: {name}", summary, bins, (unit,))

    found = [
        point(unit, "streams", "valid waited for ready (full), ready for valid (empty)", bins)
        for unit, bins in _STREAMS.items()
    ]
    found += [
        point(unit, "reset", "a reset in mid-flight, then work", ("under way",))
        for unit in _SUMMARIES
    ]
    found += [
        point("table", "nest", "how the loops use the activation slots",
              ("no loops", "resident", "streamed", "pieces", "rows innermost", "random")),
        point("table", "edges", "runs against steps, rows and values",
              ("short step", "short run", "short table", "ragged rows", "bias", "lowest values",
               "highest values", "operand error")),
        point("lanes", "steps", "kind of step", ("single plane", "planes", "gap between planes",
              "bank 0", "bank 1", "fill beside lookups", "lowest values", "sign past the end")),
        point("accumulators", "job", "kind of work",
              ("per plane", "weighted planes", "single word", "several runs", "several steps",
               "all tiles", "slot reused", "slots in turn", "short step", "lowest values")),
        point("scale", "layer", "kind of layer",
              tuple(f"{planes}, {offset}, {width}" for planes in ("weighted", "per plane")
                    for offset in ("offset", "no offset") for width in ("narrow", "wide"))),
        point("scale", "job", "kind of work",
              ("several tiles", "row tiles", "blocks of K", "several slots", "ragged rows",
               "lowest values", "operand error")),
        point("dma_read", "requests", "kind of request and of answer",
              ("one beat", "several bursts", "across 4 KiB", "high address", "window edge",
               "refused", "error", "abort")),
        point("dma_write", "requests", "kind of request and of answer",
              ("one beat", "several bursts", "across 4 KiB", "high address", "window edge",
               "refused", "error", "abort", "ragged ends")),
        point("fetch", "opcode", "instructions that were dispatched",
              tuple(opcode.name for opcode in Opcode)),
        point("fetch", "refused", "why a program was refused",
              ("OPCODE", "RESERVED", "OPERAND", "NESTING", "LENGTH", "FINGERPRINT")),
        point("fetch", "length", "instructions of a program", ("1", "some", "longest")),
        point("csr", "access", "kind of access",
              ("read fixed", "read value", "read setting", "read counter", "read unknown",
               "write setting", "write strobes", "write busy", "write read-only", "write unknown",
               "start", "start busy", "soft reset", "irq set", "irq cleared", "both at once")),
    ]  # fmt: skip
    return found


#: Coverage points of the unit benches, by name.
UNIT_POINTS: dict[str, Point] = {point.name: point for point in _points()}
