"""What a density comparison found, for the screen, as JSON and as a picture."""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from lutcore.fpga.density.compare import GROUPS, Score, Workload
from lutcore.sw.base.text import rendered

__all__ = ["as_json", "best", "plot", "table", "verdict"]

_COST = {"xc7": "LUT sites", "ecp5": "LUT4 equivalents", "ice40": "logic cells", "cells": "area"}


def best(scores: Iterable[Score], letters: Sequence[str] | None = None) -> Score | None:
    """The contender that takes least per useful MAC; ``letters`` restricts it.

    DSP blocks are no LUTs: what uses them is not compared.
    """
    some = [
        score
        for score in scores
        if not score.contender.dsp and (letters is None or score.contender.letter in letters)
    ]
    return min(some, key=lambda score: score.effective(GROUPS[0]), default=None)


def _is_table(score: Score) -> bool:
    """Whether a contender is on the tables' side.

    Where there are no LUTs, the multiplexer of the paper is the table, and the array that the
    generator makes is one around it: with tables that are filled while others are in use, and
    accumulators for several tiles.
    """
    contender = score.contender
    return contender.letter == "LUT" or (contender.target == "cells" and contender.letter == "c")


def tables_best(scores: Sequence[Score]) -> Score | None:
    """The best array of tables."""
    return best([score for score in scores if _is_table(score)])


def baseline_best(scores: Sequence[Score]) -> Score | None:
    """The strongest of what tables replace."""
    return best([score for score in scores if not _is_table(score)])


def verdict(workload: Workload, scores: Sequence[Score]) -> str:
    """One sentence on which wins, and by how much."""
    ours, theirs = tables_best(scores), baseline_best(scores)
    if ours is None or theirs is None:
        return f"{workload.name}: nothing to compare."
    group = GROUPS[0]
    a, b = ours.effective(group), theirs.effective(group)
    names = (
        f"{ours.contender.name} {a:.2f} against ({theirs.contender.letter}) "
        f"{theirs.contender.name} {b:.2f}"
    )
    if a < b:
        return f"{workload.name}: the table is {b / a:.2f} times denser: {names}."
    return f"{workload.name}: the table LOSES, {a / b:.2f} times the size: {names}."


def table(workload: Workload, scores: Sequence[Score], *, width: int | None = None) -> str:
    """All contenders of a workload, the densest first."""
    target = scores[0].contender.target
    size = scores[0].contender.size
    grid = Table(
        title=f"{workload.name}, {target}, {size.rows} rows x {size.lanes} lanes x "
        f"{size.columns} columns: {_COST[target]} per {workload.unit} per cycle",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    grid.add_column("")
    grid.add_column("form")
    for name in (_COST[target], "FFs", "peak", *(f"groups of {group}" for group in GROUPS)):
        grid.add_column(name, justify="right")
    extra = {"xc7": "Yosys LCs", "cells": "ns"}.get(target)
    if target != "cells":
        grid.add_column("LUTs alone", justify="right")
    if extra:
        grid.add_column(extra, justify="right")
    if any(score.resources.dsps for score in scores):
        grid.add_column("DSPs", justify="right")
    for score in sorted(scores, key=lambda score: score.effective(GROUPS[0])):
        found = score.resources
        cells = [
            score.contender.letter,
            score.contender.name + (" (DSP)" if score.contender.dsp else ""),
            f"{score.cost:,.0f}",
            f"{found.flip_flops:,}",
            f"{score.peak:.2f}",
            *(f"{score.effective(group):.2f}" for group in GROUPS),
        ]
        if target != "cells":
            cells.append(f"{score.luts / score.use[GROUPS[0]]:.2f}")
        if target == "xc7":
            cells.append(f"{found.luts / score.macs / score.use[GROUPS[0]]:.2f}")
        if target == "cells":
            cells.append("" if found.delay_ns is None else f"{found.delay_ns:.1f}")
        if any(score.resources.dsps for score in scores):
            cells.append(str(found.dsps))
        grid.add_row(*cells)
    return rendered(grid, width or 120)


def as_json(scores: Sequence[Score], more: dict[str, object] | None = None) -> str:
    """Every score, and what else was measured."""
    content = {"scores": [score.as_dict() for score in scores], **(more or {})}
    return json.dumps(content, indent=1) + "\n"


def plot(scores: Sequence[Score], path: Path) -> None:
    """Draw the cost per useful MAC of the best form of every letter, by workload.

    Parameters
    ----------
    scores
        Of one target.
    path
        .svg, .png or .pdf.
    """
    # Imported here: it takes a second.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from lutcore.sw.base.files import write_file

    matplotlib.rcParams["svg.hashsalt"] = "lutcore"
    workloads = list(dict.fromkeys(score.contender.workload for score in scores))
    letters = ["LUT", *sorted({s.contender.letter for s in scores} - {"LUT"})]
    labels = {
        "LUT": "LUT array",
        "a": "(a) multipliers",
        "b": "(b) add/sub tree",
        "c": "(c) multiplexer",
        "d": "(d) bit-serial both sides",
    }
    figure, axes = pyplot.subplots(figsize=(1.6 + 1.3 * len(workloads), 4.2))
    bar = 0.8 / len(letters)
    for place, letter in enumerate(letters):
        found = [
            best([s for s in scores if s.contender.workload == w], [letter]) for w in workloads
        ]
        heights = [0 if s is None else s.effective(GROUPS[0]) for s in found]
        at = [i + (place - (len(letters) - 1) / 2) * bar for i in range(len(workloads))]
        bars = axes.bar(at, heights, bar, label=labels.get(letter, letter))
        axes.bar_label(bars, [f"{h:.1f}" if h else "" for h in heights], fontsize=7)
    target = scores[0].contender.target
    axes.set_xticks(range(len(workloads)), [w.name for w in workloads], fontsize=8)
    axes.set_ylabel(f"{_COST[target]} per useful MAC per cycle")
    axes.set_title(f"{target}: best form of each kind, groups of {GROUPS[0]}", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    kind = path.suffix.lstrip(".") or "svg"
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata={"Date": None} if kind == "svg" else None)
    pyplot.close(figure)
    write_file(path, content.getvalue())
