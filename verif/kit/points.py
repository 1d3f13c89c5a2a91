"""Functional coverage: what the stimulus has to reach.

A *point* is a question to the stimulus, a *bin* one of its possible answers. Benches say what they
do with :func:`lutcore.verif.kit.env.cover`, which takes only bins that are declared here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product

from lutcore.hw.contract.isa import Cause, Opcode
from lutcore.sw.base.errors import LutcoreError

__all__ = ["MOMENTS", "UNITS", "Point", "check_declared", "points"]

#: Units with benches of their own.
UNITS = (
    "table", "lanes", "accumulators", "scale", "dma_read", "dma_write", "fetch", "csr",
)  # fmt: skip
#: What a reset can interrupt.
MOMENTS = ("idle", "fetch", "reads outstanding", "writes outstanding", "late")
_STORES = ("distributed symmetric", "distributed full", "register symmetric", "register full")
_KINDS = ("affine", "planes", "ternary")
_CHANNELS = (
    "m_axi_ar", "m_axi_r", "m_axi_aw", "m_axi_w",
    "s_axi_ar", "s_axi_r", "s_axi_aw", "s_axi_w", "s_axi_b",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A declared point.

    Attributes
    ----------
    name, summary
        What is asked.
    bins
        The answers that are wanted.
    benches
        Benches that can hit them: together they have to.
    """

    name: str
    summary: str
    bins: tuple[str, ...]
    benches: tuple[str, ...]


def _cross(*axes: Iterable[str]) -> tuple[str, ...]:
    return tuple(" / ".join(words) for words in product(*axes))


def _core_points() -> list[Point]:
    declared: list[tuple[str, str, tuple[str, ...]]] = [
        ("tables", "store and form of the tables x kind of weights",
         (*_cross(_STORES, _KINDS), "distributed ternary / ternary")),
        ("group", "activations per table", tuple("23456")),
        ("depth", "tables summed per step", ("1", "2", "3-4", "5-8", "9-16")),
        ("activation x group", "type of the activations x activations per table",
         _cross(("int8", "int16"), "23456")),
        ("bus", "bits of the data bus", ("32", "64", "128", "256", "512")),
        ("rows x lanes", "rows x lanes of the array", _cross(("1 row", "more rows"),
                                                           ("8 lanes", "more lanes"))),
        ("planes", "kind x number of planes of a layer",
         (*_cross(("affine", "planes"), "12345678"), "ternary")),
        ("scales", "kind x width of the scales x offset",
         _cross(_KINDS, ("narrow", "wide"), ("offset", "no offset"))),
        ("bias", "with a bias, without one", ("bias", "no bias")),
        ("groups", "size of the groups against columns of a step",
         ("smaller", "equal", "multiple", "straddling", "all of K")),
        ("edge of N", "channels against lanes", ("whole", "ragged", "less than a tile")),
        ("edge of K", "columns against step and group",
         ("whole", "short step", "short group", "less than a step")),
        ("edge of rows", "rows against rows of the array", ("whole", "ragged", "less than a tile")),
        ("extremes", "inputs at the ends of their ranges",
         (*_cross(("lowest", "highest"), ("activations", "codes")),
          "subnormal scales", "largest scales", "widest scales",
          "result overflows", "result is subnormal", "result is -0")),
        ("blocking", "how the compiler cut the layer",
         ("one block", "blocks of N", "blocks of K", "pieces of groups")),
        ("sequence", "what ran before on the same core",
         ("first", "same program", "other shape", "after soft reset", "after aresetn")),
        ("reset", "kind of reset x what it interrupts", _cross(("soft", "aresetn"), MOMENTS)),
        # The core takes every response of a write at once: on B nothing can wait for it.
        ("back-pressure", "channels on which valid waited for ready", _CHANNELS),
        ("starvation", "channels on which ready waited for valid",
         (*_CHANNELS, "m_axi_b")),
        ("burst", "beats of a burst", ("1", "2-15", "16 or more")),
        ("write order", "order of write address and data",
         ("address before data", "data before address")),
    ]  # fmt: skip
    return [Point(*point, benches=("core",)) for point in declared]


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


def _unit_points() -> list[Point]:
    def point(unit: str, name: str, summary: str, bins: tuple[str, ...]) -> Point:
        return Point(f"{unit}: {name}", summary, bins, (unit,))

    found = [
        point(unit, "streams", "valid waited for ready (full), ready for valid (empty)", bins)
        for unit, bins in _STREAMS.items()
    ]
    found += [
        point(unit, "reset", "a reset in mid-flight, then work", ("under way",)) for unit in UNITS
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


@cache
def points() -> dict[str, Point]:
    """All declared points by name."""
    causes = tuple(cause.name for cause in Cause)
    stopped = Point("cause", "why the core stopped", causes, ("core", "faults"))
    return {point.name: point for point in (*_core_points(), stopped, *_unit_points())}


def check_declared(point: str, bin: str) -> None:
    """Refuse a bin that is not declared.

    Raises
    ------
    LutcoreError
        Naming the point and the bin.
    """
    if point not in points():
        raise LutcoreError(f"coverage point {point!r} is not declared")
    if bin not in points()[point].bins:
        raise LutcoreError(f"bin {bin!r} of coverage point {point!r} is not declared")
