"""Functional coverage: what the stimulus has to reach, and what of it was reached.

A *point* is a question to the stimulus, a *bin* one of its possible answers. Benches say what
they do with :func:`lutcore.verif.kit.env.cover`; a bin that nothing hit is a hole.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from lutcore.hw.contract.isa import Cause
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.kit.env import COVERAGE_FILE

__all__ = ["MOMENTS", "Point", "check_declared", "hits", "holes", "points"]

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


@cache
def points() -> dict[str, Point]:
    """All declared points by name."""
    # `Any`: to a type checker, that module's points are of another class than those here.
    declared: list[Any] = _core_points()
    declared.append(
        Point(
            "cause",
            "why the core stopped",
            tuple(cause.name for cause in Cause),
            ("core", "faults"),
        )
    )
    # Imported here: that module declares its points with the class above.
    from lutcore.verif.units.catalogue import UNIT_POINTS

    declared += UNIT_POINTS.values()
    return {point.name: point for point in declared}


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


def hits(folders: Iterable[Path]) -> dict[str, dict[str, int]]:
    """By point and bin: in how many jobs it was hit.

    Parameters
    ----------
    folders
        Of the jobs.
    """
    counted = {name: dict.fromkeys(point.bins, 0) for name, point in points().items()}
    for folder in folders:
        file = folder / COVERAGE_FILE
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        for line in set(lines):
            point, bin = line.split("\t")
            counted[point][bin] += 1
    return counted


def holes(counted: Mapping[str, Mapping[str, int]], benches: Iterable[str]) -> list[str]:
    """Bins without a hit, of the points whose benches have all taken part."""
    took_part = set(benches)
    return [
        f"{name}: {bin}"
        for name, point in points().items()
        if took_part.issuperset(point.benches)
        for bin, count in counted[name].items()
        if not count
    ]
