"""What a core takes on a target, estimated from units that are synthesised by themselves.

A whole core takes minutes to synthesise, and a sweep asks for hundreds. Their units have few sizes,
and most of a unit grows in proportion to its lanes. So the figures of a core are a weighted sum of
those of small designs:

    core = small core + sum over units (unit(config) - unit(small core))
    array(R, N)       = depth * lookup(R, N) + rest of the array, linear in R and in N
    scale(S), final(F) = linear in their lanes

The small core has all that does not depend on size: registers, bus masters, fetch, loops, tokens.
The tables of the array are apart because the rows share the words of a table's LUT RAM, which is
no linear matter.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from math import gcd
from pathlib import Path
from typing import Any

from lutcore.fpga.area.parts import UNITS, unit_verilog
from lutcore.fpga.synth.flow import synthesise
from lutcore.hw.contract.config import CoreConfig, ceil_pow2

__all__ = ["Area", "Design", "combine", "core_area", "measure", "parts"]


@dataclass(frozen=True)
class Area:
    """Figures of a design, as in `Resources`; of a core they may be estimates.

    Attributes
    ----------
    luts
        LUT sites; cells: 0.
    lut_memory
        Of these, LUT RAM.
    flip_flops, block_rams, dsps
        As in `Resources`.
    cell_area
        cells: units of the liberty file; else 0.
    """

    luts: float = 0.0
    lut_memory: float = 0.0
    flip_flops: float = 0.0
    block_rams: float = 0.0
    dsps: float = 0.0
    cell_area: float = 0.0

    def size(self, target: str) -> float:
        """The one figure by which designs are compared: LUT sites, or the cells' area."""
        return self.cell_area if target == "cells" else self.luts

    def as_dict(self) -> dict[str, float]:
        """For JSON; ``Area(**d)`` is the inverse."""
        return asdict(self)


@dataclass(frozen=True)
class Design:
    """One thing to synthesise.

    Attributes
    ----------
    unit
        Name in `UNITS`, or ``"core"``.
    config
        What it is built for; of a unit, the smallest with the keys that it depends on.
    target
        Of `lutcore.fpga.synth.flow`.
    """

    unit: str
    config: CoreConfig
    target: str

    @classmethod
    def of(cls, unit: str, config: CoreConfig, target: str, **sizes: Any) -> "Design":
        """The design of a unit of a core, or of one with other sizes."""
        values = {key: getattr(config, key) for key in UNITS[unit].keys.split()} | sizes
        return cls(unit, _smallest(tuple(values.items())), target)


@lru_cache(maxsize=4096)
def _smallest(values: tuple[tuple[str, Any], ...]) -> CoreConfig:
    """The smallest configuration with these values."""
    given = dict(values)
    final_lanes = given.get("final_lanes", 1)
    scale_lanes = given.get("scale_lanes", final_lanes)
    least = {
        "rows": 1,
        "lanes": max(8, scale_lanes),
        "group": 2,
        "depth": 1,
        "planes": 1,
        "scale_lanes": scale_lanes,
        "final_lanes": final_lanes,
    }
    return CoreConfig(**{**least, **given})


def measure(
    design: Design,
    *,
    liberty: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> Area:
    """Synthesise a design; see `lutcore.fpga.synth.flow.synthesise`.

    Multipliers are DSP blocks where every device of the target has them.
    """
    verilog, top = unit_verilog(design.unit, design.config, design.target)
    found = synthesise(
        verilog,
        top,
        design.target,
        dsp=design.target in ("xc7", "ecp5"),
        liberty=liberty,
        report=report,
    )
    return Area(
        luts=found.lut_sites,
        lut_memory=found.lut_memory,
        flip_flops=found.flip_flops,
        block_rams=found.block_rams,
        dsps=found.dsps,
        cell_area=found.area or 0.0,
    )


def combine(weights: Mapping[Design, float], areas: Mapping[Design, Area]) -> Area:
    """The weighted sum."""
    total = {field.name: 0.0 for field in fields(Area)}
    for design, weight in weights.items():
        for key, value in areas[design].as_dict().items():
            total[key] += weight * value
    # What is not there at all may come out a little below.
    return Area(**{key: max(0.0, round(value, 3)) for key, value in total.items()})


def core_area(
    config: CoreConfig,
    target: str,
    *,
    exact: bool = False,
    liberty: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> Area:
    """What a core takes.

    Parameters
    ----------
    config
        The core.
    target
        ``"xc7"``, ``"ecp5"``, ``"ice40"``, or ``"cells"``: there without block memories (buffers,
        sums, program) and without what does not depend on size, since standard cells have no RAM.
    exact
        Synthesise the whole core, in minutes. Not for cells.
    liberty, report
        As of `synthesise`.

    Raises
    ------
    SynthesisError
        If a design cannot be synthesised.
    """
    weights = parts(config, target, exact=exact)
    areas = {design: measure(design, liberty=liberty, report=report) for design in weights}
    return combine(weights, areas)


def parts(config: CoreConfig, target: str, *, exact: bool = False) -> dict[Design, float]:
    """The designs that a core's figures are made of, and how often each counts.

    Raises
    ------
    ValueError
        ``exact`` for cells.
    """
    if exact:
        if target == "cells":
            raise ValueError("a whole core has memories, which standard cells have not")
        return {Design("core", config, target): 1.0}
    found: dict[Design, float] = defaultdict(float)

    def add(config: CoreConfig, sign: float) -> None:
        for weight, unit, sizes in _units(config, memories=target != "cells"):
            found[Design.of(unit, config, target, **sizes)] += sign * weight

    add(config, 1.0)
    if target != "cells":
        small = _small(config)
        add(small, -1.0)
        found[Design("core", small, target)] += 1.0
    return {design: weight for design, weight in found.items() if abs(weight) > 1e-9}


#: Weight, unit, and the sizes in which the unit differs from that of the core.
_Term = tuple[float, str, dict[str, Any]]


def _units(config: CoreConfig, *, memories: bool) -> Iterator[_Term]:
    """Weighted units of a core."""
    yield from _array(config)
    yield from _table(config, memories=memories)
    yield from _final(config)
    for unit in ("store", "ldw", "ldx"):
        yield 1.0, unit, {}
    if memories:
        yield from _scale(config)
        for buffer in ("weight", "scale", "bias", "x"):
            yield 1.0, f"{buffer}_buffer", {}
        return
    # The sums' memory cannot be left out of the unit, but be made small and taken off.
    few = ceil_pow2(config.tile_sums)
    for weight, unit, sizes in _scale(config):
        yield weight, unit, {**sizes, "sum_words": few}
        yield -weight, "sums", {"scale_lanes": sizes["scale_lanes"], "sum_words": few}


def _array(config: CoreConfig) -> Iterator[_Term]:
    for by_lanes, lanes in _line(config.lanes, 8, 16):
        yield by_lanes * config.depth, "lookup", {"lanes": lanes}
        for by_rows, rows in _line(config.rows, 1, 2):
            weight = by_lanes * by_rows
            yield weight, "array", {"rows": rows, "lanes": lanes}
            yield -weight * config.depth, "lookup", {"rows": rows, "lanes": lanes}


def _table(config: CoreConfig, *, memories: bool) -> Iterator[_Term]:
    """As it is, but for the FIFO of row scales, as long as there are sums: by difference."""
    short = {"lanes": 8, "scale_lanes": 8, "sum_words": ceil_pow2(config.rows)}
    yield 1.0, "table", short
    if memories:
        few = _few(config)
        long = {"lanes": config.chunks * few, "scale_lanes": few}
        bare = {"depth": 1, "group": 2, "ternary": False, "table_form": "symmetric", "x_words": 0}
        yield 1.0, "table", bare | long
        yield -1.0, "table", bare | short


def _scale(config: CoreConfig) -> Iterator[_Term]:
    """Linear in the lanes of the unit, with as many words to a tile."""
    few = _few(config)
    for weight, s in _line(config.scale_lanes, few, 2 * few):
        yield weight, "scale", {"lanes": config.chunks * s, "scale_lanes": s}


def _few(config: CoreConfig) -> int:
    """The fewest lanes of the scale unit with as many words to a tile: tiles are whole bytes."""
    return 8 // gcd(8, config.chunks)


def _final(config: CoreConfig) -> Iterator[_Term]:
    """Linear in the lanes of the unit, with as many results to a word of sums."""
    results = config.scale_lanes // config.final_lanes
    for weight, f in _line(config.final_lanes, 1, 2):
        s = results * f
        yield weight, "final", {"lanes": max(8, s), "scale_lanes": s, "final_lanes": f}


def _line(value: int, low: int, high: int) -> list[tuple[float, int]]:
    """Weights of two points on a straight line that give the value on it."""
    if value in (low, high):
        return [(1.0, value)]
    weight = (value - low) / (high - low)
    return [(1.0 - weight, low), (weight, high)]


def _small(config: CoreConfig) -> CoreConfig:
    """The smallest core with the same bus."""
    return CoreConfig(
        rows=1,
        lanes=8,
        group=2,
        depth=1,
        planes=1,
        table_store=config.table_store,
        bus_width=config.bus_width,
        scale_lanes=1,
        final_lanes=1,
        tiles=8,
        run=64,
    )
