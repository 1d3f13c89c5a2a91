"""The claims of *LUT Tensor Core* (ISCA 2025) about its array, measured on standard cells.

What is measured is the paper's unit in this project's best form (``fpga/baselines/mux.py``): tables
of activations in registers, a multiplexer for each lane and table, adder tree and bit-serial
accumulators, everything counted. Each claim changes one thing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from lutcore.fpga.baselines.array import ArraySpec
from lutcore.fpga.baselines.check import small, verify
from lutcore.fpga.baselines.mux import TableMux
from lutcore.fpga.density.compare import Score, Workload, baseline_verilog
from lutcore.fpga.synth.flow import synthesise
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.executor import Runner, Task, execute, here
from lutcore.sw.base.text import rendered

__all__ = ["PRODUCTS", "Claim", "Unit", "claims_table", "measure", "units", "widths"]

#: M·N·K of the shapes that are compared: products of a weight bit per cycle.
PRODUCTS = 512

INDEX = "indices made offline: no negation in the lanes"
TABLE = "symmetric tables: half the entries"
SHAPE = f"elongated: of M·N·K = {PRODUCTS}, M2N64K4 is the smallest"
WIDTH = "multiplexers take less than multipliers, up to the wider weights"


@dataclass(frozen=True)
class Unit:
    """One form of the paper's unit.

    Attributes
    ----------
    claims
        Those that it is measured for.
    rows, lanes, columns
        M, N and K.
    group
        Activations per table.
    symmetric, offline
        As of `TableMux`.
    """

    claims: tuple[str, ...]
    rows: int = 2
    lanes: int = 64
    columns: int = 4
    group: int = 4
    symmetric: bool = True
    offline: bool = True

    @property
    def name(self) -> str:
        """Shape and form."""
        shape = f"M{self.rows}N{self.lanes}K{self.columns}"
        tables = f"{self.columns // self.group} table{'s' * (self.columns > self.group)} of "
        form = "symmetric" if self.symmetric else "full"
        return f"{shape}, {tables}{self.group}, {form}" + ("" if self.offline else ", raw weights")


def units() -> list[Unit]:
    """What is measured, the paper's own form first."""
    shapes = ((1, 128, 4), (4, 32, 4), (8, 16, 4), (16, 8, 4), (2, 32, 8), (8, 8, 8))
    return [
        Unit((TABLE, INDEX, SHAPE)),
        Unit((TABLE,), symmetric=False),
        Unit((INDEX,), offline=False),
        *(Unit((SHAPE,), *shape) for shape in shapes),
        Unit((SHAPE,), 2, 128, 2, group=2),
        Unit((SHAPE,), 8, 32, 2, group=2),
    ]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and what was found.

    Attributes
    ----------
    text
        The claim.
    found
        Name and area of each form, the paper's choice first.
    """

    text: str
    found: tuple[tuple[str, float], ...]

    @property
    def holds(self) -> bool:
        """Whether the paper's choice is the smallest."""
        return self.found[0][1] == min(area for _, area in self.found)

    def as_dict(self) -> dict[str, object]:
        """Ready for JSON."""
        return {"claim": self.text, "holds": self.holds, "area": dict(self.found)}


def measure(
    activation: str,
    run: Runner = here,
    *,
    liberty: Path | None = None,
    bits: int = 1,
    done: Callable[[], None] = lambda: None,
) -> list[Claim]:
    """Check every unit against numpy, synthesise it, and see which claims hold.

    Parameters
    ----------
    activation
        ``"int8"`` or ``"int16"``.
    run
        Where: see `lutcore.sw.base.executor.runner`.
    liberty
        The library; None: the default one.
    bits
        Weight bits that the accumulators are for.
    done
        Called after each unit.

    Raises
    ------
    LutcoreError
        If a unit cannot be synthesised.
    """
    some = units()
    tasks = [AreaTask(unit, activation, liberty, bits) for unit in some]
    areas = {}
    for unit, found in zip(some, execute(tasks, run, report=lambda _: done()), strict=True):
        if found.error:
            raise LutcoreError(f"{unit.name}: {found.failure}")
        areas[unit] = found.result["area"]
    return [
        Claim(text, tuple((u.name, areas[u]) for u in some if text in u.claims))
        for text in (TABLE, INDEX, SHAPE)
    ]


@dataclass(frozen=True)
class AreaTask(Task):
    """Check and synthesise one unit. The synthesis is kept by itself."""

    unit: Unit
    activation: str
    liberty: Path | None
    bits: int

    def run(self) -> dict[str, Any]:
        return {"area": _area(self.unit, self.activation, self.liberty, self.bits)}


def _area(unit: Unit, activation: str, liberty: Path | None, bits: int) -> float:
    spec = ArraySpec(
        rows=unit.rows,
        lanes=unit.lanes,
        columns=unit.columns,
        bits=bits,
        activation_bits=16 if activation == "int16" else 8,
        run=128,
    )

    def build(spec: ArraySpec) -> TableMux:
        return TableMux(spec, group=unit.group, symmetric=unit.symmetric, offline=unit.offline)

    verify(build(small(spec)), family="cells")
    found = synthesise(baseline_verilog(build(spec), "cells"), "baseline", "cells", liberty=liberty)
    assert found.area is not None
    return found.area


def widths(scores: Sequence[Score]) -> Iterator[Claim]:
    """The claim that compares with multipliers, for each workload of a density comparison."""
    for workload in dict.fromkeys(score.contender.workload for score in scores):
        best = {}
        for letter in "cab":
            costs = [
                (s.contender.name, s.peak)
                for s in scores
                if s.contender.workload == workload and s.contender.letter == letter
            ]
            if costs:
                name, cost = min(costs, key=lambda pair: pair[1])
                best[letter] = (f"({letter}) {name}", cost)
        if len(best) > 1 and "c" in best:
            yield Claim(f"{workload.name}: {WIDTH}", tuple(best.values()))


def claims_table(claims: Sequence[Claim], workload: Workload | None = None) -> str:
    """Each claim with the area of the paper's choice, and of the others relative to it."""
    title = "The paper's claims on these cells" + (f", {workload.name}" if workload else "")
    grid = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("claim", "form"):
        grid.add_column(name)
    for name in ("area", "relative"):
        grid.add_column(name, justify="right")
    grid.add_column("holds")
    for claim in claims:
        base = claim.found[0][1]
        for i, (name, area) in enumerate(claim.found):
            verdict = ("yes" if claim.holds else "NO") if i == 0 else ""
            grid.add_row(
                claim.text if i == 0 else "", name, f"{area:,.0f}", f"{area / base:.2f}", verdict
            )
        grid.add_section()
    return rendered(grid, 130)
