"""Density: what a multiply-accumulate per cycle costs in LUT arrays and in the arrays they replace.

Every contender is synthesised by the same flow with the same numbers of rows, lanes and columns
(products per row, lane and cycle), its accumulators and control included. Baselines are checked
against numpy before they are counted, and so are the arrays' results while their use is measured.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from lutcore.fpga.baselines.array import ArraySpec, BaselineArray
from lutcore.fpga.baselines.catalogue import baselines
from lutcore.fpga.baselines.check import small, verify
from lutcore.fpga.density.lut_array import array_verilog, measure_use
from lutcore.fpga.synth.flow import Resources, synthesise
from lutcore.hw.contract import ternary
from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.export import component_verilog
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.executor import Runner, Task, execute, here

__all__ = [
    "FLIP_FLOPS_PER_LUT",
    "GROUPS",
    "RANKING",
    "SIZES",
    "WORKLOADS",
    "Contender",
    "Score",
    "Size",
    "Workload",
    "baseline_verilog",
    "contenders",
    "score_all",
    "spec_of",
    "usual_size",
]

#: Quantisation groups for which the use of an array is given.
GROUPS = (128, 32)


@dataclass(frozen=True)
class Workload:
    """What the arrays have to multiply: weights of ``bits`` bits, or trits, times activations."""

    bits: int
    activation: str
    ternary: bool = False

    @property
    def name(self) -> str:
        """As in ``W4 INT8``."""
        return f"{'ternary' if self.ternary else f'W{self.bits}'} {self.activation.upper()}"

    @property
    def unit(self) -> str:
        """What one operation is."""
        return "trit MAC" if self.ternary else "bit-MAC"


#: Flip-flops of a device for each of its LUTs.
FLIP_FLOPS_PER_LUT = {"xc7": 2, "ecp5": 1, "ice40": 1}

#: Everything that is compared, the most telling first.
WORKLOADS = tuple(
    workload
    for activation in ("int8", "int16")
    for workload in (
        *(Workload(bits, activation) for bits in (4, 1, 2, 8)),
        Workload(1, activation, ternary=True),
    )
)


@dataclass(frozen=True)
class Size:
    """Rows, lanes, and columns per lane and cycle; an array takes the nearest whole tables."""

    rows: int
    lanes: int
    columns: int


#: The size at which the forms of a baseline are ranked, before the best are counted at full size.
RANKING = Size(1, 8, 32)

#: The default size for each target, with INT8.
SIZES = {
    "xc7": Size(1, 16, 128),
    # Four rows fill the words of the LUT RAM, 4 bits wide, with entries of 9 bits.
    "ecp5": Size(4, 16, 64),
    "ice40": Size(1, 8, 16),
    # As many products as the paper's array, and columns for one weight of eight bits.
    "cells": Size(2, 32, 8),
}


def usual_size(target: str, workload: Workload) -> Size:
    """The default size of a comparison.

    With INT16 half of the columns on xc7 and ecp5: Yosys has 4 GB of memory here, which is not
    enough for the largest contenders otherwise.
    """
    size = SIZES[target]
    halves = workload.activation == "int16" and target in ("xc7", "ecp5")
    return replace(size, columns=size.columns // 2) if halves else size


# Store, form and group of the tables worth comparing. LUT RAM is 16 deep on ecp5 and 32 or 64 on
# xc7, of which two banks take half each; iCE40 and standard cells have none.
_TABLES = {
    "xc7": (
        ("distributed", "full", 4),
        ("distributed", "symmetric", 4),
        ("distributed", "symmetric", 5),
        ("distributed", "full", 5),
        ("register", "symmetric", 4),
    ),
    "ecp5": (
        ("distributed", "symmetric", 4),
        ("distributed", "full", 3),
        ("distributed", "symmetric", 5),
        ("register", "symmetric", 4),
    ),
    "ice40": (("register", "symmetric", 4), ("register", "symmetric", 3)),
    "cells": (
        ("register", "symmetric", 4),
        ("register", "full", 4),
        ("register", "symmetric", 3),
    ),
}


@dataclass(frozen=True)
class Contender:
    """A design to count: a LUT array by its configuration, or a baseline by its name.

    Attributes
    ----------
    letter
        ``"LUT"``, or that of the baseline: (a) multipliers, (b) add/sub trees, (c) multiplexers,
        (d) bit-serial on both sides.
    name
        Form.
    config
        Of a LUT array; None for baselines.
    dsp
        Multipliers may become DSP blocks.
    """

    workload: Workload
    target: str
    letter: str
    name: str
    size: Size
    config: CoreConfig | None = None
    dsp: bool = False


@dataclass(frozen=True)
class Score:
    """What a contender takes.

    Attributes
    ----------
    contender
        Which.
    resources
        Counted after synthesis.
    macs
        Weight-bit (or trit) products per cycle at its peak.
    use
        Share of the peak in use, by group size: columns that exist, and cycles without a lookup.
    """

    contender: Contender
    resources: Resources
    macs: int
    use: dict[int, float]

    @property
    def luts(self) -> float:
        """LUT sites per MAC at the peak."""
        return self.resources.lut_sites / self.macs

    @property
    def cost(self) -> float:
        """LUT sites that the device loses; of standard cells, area.

        A device has so many flip-flops for each LUT: a design with more of them than stand beside
        its LUTs takes the LUTs of the others along.
        """
        found = self.resources
        if found.area is not None:
            return found.area
        per_lut = FLIP_FLOPS_PER_LUT[self.contender.target]
        return max(found.lut_sites, found.flip_flops / per_lut)

    @property
    def peak(self) -> float:
        """Cost per MAC at the peak."""
        return self.cost / self.macs

    def effective(self, group: int) -> float:
        """Cost per useful MAC with groups of ``group`` columns."""
        return self.peak / self.use[group]

    def as_dict(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        c = self.contender
        return {
            "workload": c.workload.name,
            "letter": c.letter,
            "name": c.name,
            "target": c.target,
            **asdict(c.size),
            "dsp": c.dsp,
            "config": None if c.config is None else c.config.as_dict(),
            "macs": self.macs,
            "luts_per_mac_peak": self.luts,
            "cost_per_mac_peak": self.peak,
            "cost_per_mac": {str(group): self.effective(group) for group in self.use},
            "use": {str(group): share for group, share in self.use.items()},
            "resources": self.resources.as_dict(),
        }


def spec_of(contender: Contender) -> ArraySpec:
    """What a contender has to do, in the terms of the baselines."""
    work, size = contender.workload, contender.size
    return ArraySpec(
        rows=size.rows,
        lanes=size.lanes,
        columns=size.columns,
        bits=work.bits,
        activation_bits=16 if work.activation == "int16" else 8,
        run=max(128, size.columns),
        ternary=work.ternary,
    )


def contenders(workload: Workload, target: str, size: Size) -> Iterator[Contender]:
    """All contenders of a workload: LUT arrays, then baselines."""
    tables = _TABLES[target]
    if workload.ternary:
        tables = tuple(
            dict.fromkeys((store, "symmetric", ternary.INDEX_BITS) for store, *_ in tables)
        )
    for store, form, group in tables:
        columns = ternary.GROUP if workload.ternary else group
        depth = _depth(size, columns)
        config = CoreConfig(
            rows=size.rows,
            lanes=size.lanes,
            group=group,
            depth=depth,
            activation=workload.activation,
            planes=workload.bits,
            table_store=store,
            table_form=form,
            ternary=workload.ternary,
            tiles=_tiles(workload, target, form, group),
            run=max(ceil_div(max(GROUPS), columns) * group, depth * group),
        )
        name = "table" if store == "distributed" else "table multiplexer"
        kind = "ternary" if workload.ternary else f"k={group} {form}"
        yield Contender(workload, target, "LUT", f"{name} {kind} G={depth}", size, config)
    bare = Contender(workload, target, "", "", size)
    for baseline in baselines(spec_of(bare), target):
        yield replace(bare, letter=baseline.letter, name=baseline.name, dsp=baseline.dsp)


def _depth(size: Size, columns: int) -> int:
    """Tables of ``columns`` that give about the size, and leave little of groups of 128 empty."""
    wanted = min(32, max(1, round(size.columns / columns)))
    tables = ceil_div(max(GROUPS), columns)

    def worth(depth: int) -> float:
        return tables / (ceil_div(tables, depth) * depth) - 0.1 * abs(depth - wanted) / wanted

    return max(range(ceil_div(2 * wanted, 3), min(32, wanted * 5 // 4) + 1), key=worth)


def _tiles(workload: Workload, target: str, form: str, group: int) -> int:
    """Accumulators per lane and row: on cells, where each is a register, as few as hide the fill.

    0: as the configuration derives them.
    """
    if target != "cells":
        return 0
    entries = CoreConfig(group=group, table_form=form, ternary=workload.ternary).entries
    return max(workload.bits, ceil_div(entries, workload.bits))


@cache
def _use_of(config: CoreConfig, planes: int, group: int, trits: bool) -> float:
    return measure_use(config, planes, group, trits=trits).share


def score(contender: Contender, liberty: Path | None = None) -> Score:
    """Check, synthesise and count one contender."""
    if contender.config is not None:
        config, work = contender.config, contender.workload
        use = {g: _use_of(config, work.bits, g, work.ternary) for g in GROUPS}
        text = array_verilog(config, contender.target)
        resources = synthesise(text, "lut_array", contender.target, liberty=liberty)
        columns = ternary.GROUP if work.ternary else config.group
        macs = config.rows * config.lanes * config.depth * columns
        return Score(contender, resources, macs, use)
    spec = spec_of(contender)
    (baseline,) = (b for b in baselines(spec, contender.target) if b.name == contender.name)
    verify(baseline.build(small(spec)), family=contender.target)
    array = baseline.build(spec)
    text = baseline_verilog(array, contender.target)
    resources = synthesise(text, "baseline", contender.target, dsp=contender.dsp, liberty=liberty)
    use = {g: g / (ceil_div(g, array.step) * array.step) for g in GROUPS}
    return Score(contender, resources, spec.products, use)


def baseline_verilog(array: BaselineArray, family: str | None) -> str:
    """Verilog of a baseline, module ``baseline``."""
    ports = [array.control, array.weights, array.activations, array.o_valid, array.o_sums]
    return component_verilog(array, "baseline", ports, family)


@dataclass(frozen=True)
class ScoreTask(Task):
    """Score one contender. The synthesis is what takes time, and is kept by itself."""

    contender: Contender
    liberty: Path | None = None

    def run(self) -> dict[str, Any]:
        found = score(self.contender, self.liberty)
        use = [[group, share] for group, share in found.use.items()]
        return {"resources": asdict(found.resources), "macs": found.macs, "use": use}


def score_all(
    some: Sequence[Contender],
    run: Runner = here,
    *,
    liberty: Path | None = None,
    done: Callable[[], None] = lambda: None,
) -> list[Score]:
    """Score contenders side by side, in their order; ``done`` is called as each is finished.

    Raises
    ------
    LutcoreError
        If one cannot be scored.
    """
    tasks = [ScoreTask(contender, liberty) for contender in some]
    scores = []
    for contender, found in zip(some, execute(tasks, run, report=lambda _: done()), strict=True):
        if found.error:
            raise LutcoreError(f"{contender.name}: {found.failure}")
        result = found.result
        resources = Resources(**result["resources"])
        scores.append(Score(contender, resources, result["macs"], dict(map(tuple, result["use"]))))
    return scores
