"""The best forms of a density comparison, placed and routed on ECP5."""

from collections.abc import Sequence
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table

from lutcore.fpga.baselines.catalogue import baselines
from lutcore.fpga.density.compare import Contender, Score, Size, baseline_verilog, spec_of
from lutcore.fpga.density.lut_array import array_verilog
from lutcore.fpga.density.report import best
from lutcore.fpga.synth.route import route
from lutcore.sw.base.text import rendered

__all__ = ["route_best", "routes_table"]

#: Small enough to be routed in minutes; its clock is what a larger one may reach at best.
_SIZE = Size(rows=1, lanes=16, columns=32)


def route_best(scores: Sequence[Score], console: Console) -> list[dict[str, object]]:
    """Place and route the best LUT array and the best (b) and (c) of the first workload."""
    workload = scores[0].contender.workload
    some = [score for score in scores if score.contender.workload == workload]
    found = []
    for letter in ("LUT", "b", "c"):
        score = best(some, [letter])
        if score is None:
            continue
        name, text, top, macs = _small(score.contender)
        with console.status("") as status:
            routed = route(
                text, top, report=lambda line, s=status, n=name: s.update(f"{n}: {line}")
            )
        found.append({"letter": letter, "name": name, "macs": macs, **routed.as_dict()})
    return found


def _small(contender: Contender) -> tuple[str, str, str, int]:
    if contender.config is not None:
        own = contender.config
        depth = max(1, _SIZE.columns // own.group)
        config = own.with_derived(
            rows=_SIZE.rows, lanes=_SIZE.lanes, depth=depth, tiles=own.tiles, run=own.run
        )
        name = contender.name.rpartition(" ")[0] + f" G={depth}"
        return name, array_verilog(config, "ecp5"), "lut_array", config.peak
    spec = spec_of(replace(contender, size=_SIZE))
    (baseline,) = (b for b in baselines(spec, "ecp5") if b.name == contender.name)
    text = baseline_verilog(baseline.build(spec), "ecp5")
    return contender.name, text, "baseline", spec.products


def routes_table(found: Sequence[dict[str, object]]) -> str:
    """Sites per MAC and the clock of each design."""
    if not found:
        return ""
    first = found[0]
    grid = Table(
        title=f"Placed and routed: {first['device']}, speed grade {first['speed']}, "
        f"{_SIZE.rows} row x {_SIZE.lanes} lanes x {_SIZE.columns} columns",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    grid.add_column("")
    grid.add_column("form")
    for title in ("TRELLIS_COMB", "FFs", "COMB per bit-MAC", "Fmax, MHz"):
        grid.add_column(title, justify="right")
    for one in found:
        comb, macs = int(str(one["comb"])), int(str(one["macs"]))
        grid.add_row(
            str(one["letter"]),
            str(one["name"]),
            f"{comb:,}",
            f"{one['flip_flops']:,}",
            f"{comb / macs:.2f}",
            f"{one['fmax_mhz']:.1f}",
        )
    return rendered(grid, 110)
