"""What ``lutcore bench timing`` prints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from lutcore.fpga.timing.measure import BINS, KINDS
from lutcore.sw.base.text import rendered

__all__ = ["Result", "report", "verdict"]

_WIDTH = 140
#: Characters of the longest bar.
_BAR = 40


@dataclass(frozen=True)
class Result:
    """A design and what `lutcore.fpga.timing.measure.measure` gives for each seed."""

    name: str
    runs: Sequence[dict[str, Any]]

    @property
    def best(self) -> dict[str, Any]:
        """The run with the fastest clock."""
        return max(self.runs, key=lambda run: run["fmax_mhz"] or 0.0)

    @property
    def worst(self) -> dict[str, Any]:
        """The run with the slowest clock."""
        return min(self.runs, key=lambda run: run["fmax_mhz"] or 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "unit": self.name,
            "fmax_mhz": {"best": self.best["fmax_mhz"], "worst": self.worst["fmax_mhz"]},
            "runs": list(self.runs),
        }


def report(config: str, results: Sequence[Result], frequency: float) -> str:
    """Everything for people.

    Parameters
    ----------
    config
        What the core is called.
    results
        Of each design.
    frequency
        In MHz, by which slack is counted.
    """
    if not results:
        return ""
    text = "".join(_one(config, result, frequency) for result in results)
    return text + (_summary(config, results) if len(results) > 1 else "")


def verdict(results: Sequence[Result], frequency: float) -> list[str]:
    """A line for each design that does not reach a frequency with any seed."""
    lines = []
    for result in results:
        reached = result.best["fmax_mhz"]
        if reached is not None and reached < frequency:
            path = result.best["paths"][0]
            lines.append(
                f"{result.name} misses {frequency:g} MHz: it reaches {reached:g} MHz, "
                f"{path['delay_ns'] - 1000 / frequency:.2f} ns too long from "
                f"{path['from']['text']} to {path['to']['text']}, in {', '.join(path['units'])}"
            )
    return lines


def _one(config: str, result: Result, frequency: float) -> str:
    best = result.best
    routed = best["routed"]
    tools = ", ".join(f"{tool} {version}" for tool, version in routed["tools"].items())
    head = (
        f"{result.name} of {config!r}: {routed['device']}, speed grade {routed['speed']}, "
        f"{routed['router']}, for {frequency:g} MHz; {tools}\n"
    )
    return (
        f"{head}\n{_seeds(result)}\n{_paths(best, len(result.runs) > 1)}\n"
        f"{_units(best, frequency)}\n"
    )


def _grid(title: str | None = None) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)


def _seeds(result: Result) -> str:
    grid = _grid("Clock, the longest path of each kind in ns, cells")
    for name in ("seed", "Fmax, MHz", *KINDS):
        grid.add_column(name, justify="right")
    for name in ("COMB", "FF", "RAMW", "DP16KD", "MULT18X18D", "place, s", "route, s"):
        grid.add_column(name, justify="right")
    for run in result.runs:
        routed, seconds = run["routed"], run["seconds"]
        cells = ("comb", "flip_flops", "ramw", "block_rams", "dsps")
        grid.add_row(
            str(routed["seed"]),
            _number(run["fmax_mhz"], 1),
            *(_number(run["kinds"][kind], 2) for kind in KINDS),
            *(f"{routed[cell]:,}" for cell in cells),
            *(_number(seconds.get(stage), 0) for stage in ("placing", "routing")),
        )
    text = rendered(grid, _WIDTH)
    if len(result.runs) > 1:
        text += (
            f"  best {result.best['fmax_mhz']:.1f} MHz, worst {result.worst['fmax_mhz']:.1f} MHz\n"
        )
    return text


def _paths(run: dict[str, Any], several: bool) -> str:
    seed = f" of seed {run['routed']['seed']}" if several else ""
    grid = _grid(f"The longest paths{seed}, one for each pair of registers")
    for name in ("ns", "logic", "routing", "levels", "ends"):
        grid.add_column(name, justify="right")
    grid.add_column("from → to", overflow="fold")
    grid.add_column("through", overflow="fold")
    for path in run["paths"]:
        grid.add_row(
            *(f"{path[key]:.2f}" for key in ("delay_ns", "logic_ns", "routing_ns")),
            str(path["levels"]),
            str(path["endpoints"]),
            f"{path['from']['text']} → {path['to']['text']}",
            ", ".join(path["units"]),
        )
    return rendered(grid, _WIDTH)


def _units(run: dict[str, Any], frequency: float) -> str:
    grid = _grid(f"Slack at {frequency:g} MHz, of the inputs of registers and memories")
    grid.add_column("unit")
    for name in ("inputs", *(f"{name} ns" for name in BINS), "longest, ns", "slack, ns"):
        grid.add_column(name, justify="right")
    grid.add_column("█ missed ▓ to 2.5 ▒ to 5 ░ more", no_wrap=True)
    most = max((unit["endpoints"] for unit in run["units"].values()), default=1)
    by_slack = sorted(run["units"].items(), key=lambda u: (u[1]["worst_slack_ns"], u[0]))
    for name, unit in by_slack:
        grid.add_row(
            name,
            f"{unit['endpoints']:,}",
            *(f"{unit['bins'][one]:,}" for one in BINS),
            f"{unit['worst_ns']:.2f}",
            f"{unit['worst_slack_ns']:+.2f}",
            _bar([unit["bins"][one] for one in BINS], unit["endpoints"] / most),
        )
    return rendered(grid, _WIDTH)


def _bar(counts: Sequence[int], share: float) -> str:
    """A bar with a part for each count; what is there at all has a character at least."""
    total = max(1, sum(counts))
    length = max(1, round(_BAR * share))
    return "".join(
        mark * (max(1, round(length * count / total)) if count else 0)
        for mark, count in zip("█▓▒░", counts, strict=True)
    )


def _summary(config: str, results: Sequence[Result]) -> str:
    grid = _grid(f"All of {config!r}, the slowest first")
    grid.add_column("unit")
    for name in ("Fmax, MHz", "inside, ns", "COMB", "FF"):
        grid.add_column(name, justify="right")
    grid.add_column("longest path", overflow="fold")
    for result in sorted(results, key=lambda r: r.best["fmax_mhz"] or 0.0):
        best = result.best
        path = best["paths"][0] if best["paths"] else None
        grid.add_row(
            result.name,
            _number(best["fmax_mhz"], 1),
            _number(best["kinds"]["inside"], 2),
            f"{best['routed']['comb']:,}",
            f"{best['routed']['flip_flops']:,}",
            f"{path['from']['text']} → {path['to']['text']}" if path else "",
        )
    return rendered(grid, _WIDTH)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
