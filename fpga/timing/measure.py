"""One design, routed with one seed: its clock, its longest paths, its slack by unit."""

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lutcore.fpga.synth.route import RouteOptions, place_and_route, route_tools
from lutcore.fpga.synth.yosys import SynthesisError
from lutcore.fpga.timing.delays import read_delays
from lutcore.fpga.timing.names import Names, Point
from lutcore.fpga.timing.paths import Path as TimingPath
from lutcore.fpga.timing.paths import longest_paths
from lutcore.fpga.timing.units import Design
from lutcore.sw.base.cache import Kept
from lutcore.sw.base.tasks import Task

__all__ = ["BINS", "KINDS", "MOST_PATHS", "TimingTask", "measure"]

#: Paths in a result.
MOST_PATHS = 10
#: Slack in ns, up to which an endpoint is in the bin; the last has no bound.
BINS = {"<0": 0.0, "0-2.5": 2.5, "2.5-5": 5.0, ">5": float("inf")}
#: Sorts of paths: between registers of the design; from and to its ports; from port to port.
KINDS = ("inside", "from ports", "to ports", "through")
#: Most by which the longest path here may differ from that of nextpnr-ecp5.
_TOLERANCE = 0.01
_SDF, _NETLIST = "delays.sdf", "routed.json"
_SOURCES = (
    "lutcore.fpga.synth.flow",
    "lutcore.fpga.synth.harness",
    "lutcore.fpga.synth.route",
    "lutcore.fpga.timing.delays",
    "lutcore.fpga.timing.measure",
    "lutcore.fpga.timing.names",
    "lutcore.fpga.timing.paths",
    "lutcore.fpga.timing.units",
)


@dataclass(frozen=True)
class TimingTask(Task):
    """Route a design and find its longest paths; see `measure` for the result.

    Attributes
    ----------
    design
        What.
    units
        Module to unit, of the core.
    options
        How; with a frequency, by which slack is counted.
    report
        Called with a line on what is being done.
    """

    design: Design
    units: tuple[tuple[str, str], ...]
    options: RouteOptions
    report: Callable[[str], None] | None = field(default=None, compare=False)

    def run(self) -> dict[str, Any]:
        return measure(self.design, dict(self.units), self.options, report=self.report)

    def kept(self) -> Kept:
        what = [asdict(self.design), self.units, asdict(self.options), route_tools()]
        return Kept("timing", json.dumps(what, sort_keys=True), sources=_SOURCES)


def measure(
    design: Design,
    units: dict[str, str],
    options: RouteOptions,
    *,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Route a design and analyse it.

    Every endpoint is an input of a register or a memory. The delays are nextpnr's own, after
    routing, and so the longest path is that of its report; this is checked.

    Parameters
    ----------
    design
        What.
    units
        Module of the core to the unit that it is, or is in.
    options
        How.
    report
        Called with a line on what is being done.

    Returns
    -------
    dict
        ``routed``: as `lutcore.fpga.synth.route.Routed`. ``seconds``: by stage. ``fmax_mhz``: of
        all paths that begin or end in the design. ``paths``: the longest, one for each pair of
        registers. ``kinds``: of each of `KINDS` the longest, in ns, or None. ``units``: slack of
        endpoints by unit.

    Raises
    ------
    SynthesisError
        If a tool refuses the design.
    """
    assert options.frequency is not None
    clock = _Clock(report)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        more = (f"--sdf={_SDF}", f"--write={_NETLIST}")
        routed = place_and_route(
            folder, design.verilog, design.top, options, more=more, named=True, report=clock
        )
        clock("Reading delays")
        delays = read_delays((folder / _SDF).read_text())
        names = Names(
            design,
            named=_module(folder / "named.json"),
            mapped=_module(folder / "harness.json", "harness"),
            routed=_module(folder / _NETLIST),
            unit_of=lambda module: _enclosing(units, module),
        )
    # From registers of the design, and from those around it.
    paths = [
        *longest_paths(delays, lambda cell: not names.in_frame(cell)),
        *longest_paths(delays, names.in_frame),
    ]
    period = max(path.delay_ps for path in paths) / 1000
    if abs(period * routed.fmax_mhz / 1000 - 1) > _TOLERANCE:
        raise SynthesisError(
            f"the longest path of {design.name} is {period:.3f} ns here and "
            f"{1000 / routed.fmax_mhz:.3f} ns for nextpnr-ecp5: its files are not as expected"
        )
    found = [one for one in map(_Named(names).of, paths) if one.kind is not None]
    found.sort(key=lambda one: (-one.path.delay_ps, one.begin.text, one.end.text))
    target = 1000 / options.frequency
    return {
        "routed": routed.as_dict(),
        "seconds": clock.seconds(),
        "fmax_mhz": round(1e6 / found[0].path.delay_ps, 2) if found else None,
        "kinds": {kind: _worst(found, kind) for kind in KINDS},
        "paths": [one.as_dict(names, target, number) for one, number in _distinct(found)],
        "units": _by_unit(found, target),
    }


def _module(file: Path, name: str | None = None) -> dict[str, Any]:
    """A module of a netlist; without a name, the only one."""
    modules = json.loads(file.read_text())["modules"]
    if name is None:
        (name,) = modules
    return modules[name]


def _enclosing(units: dict[str, str], module: str) -> str:
    while module not in units and "." in module:
        module = module.rpartition(".")[0]
    return units.get(module, module)


@dataclass(frozen=True)
class _NamedPath:
    """A path with the names of its ends, and its kind; None: none of it is in the design."""

    path: TimingPath
    begin: Point
    end: Point
    kind: str | None

    @property
    def pair(self) -> tuple[str, str, str]:
        return self.begin.register, self.end.register, self.end.role

    def as_dict(self, names: Names, target: float, number: int) -> dict[str, Any]:
        path = self.path
        wires = [names.wire(hop.exit) for hop in path.hops]
        inside = [
            names.unit(hop.exit[0]) or (wire and wire.unit)
            for hop, wire in zip(path.hops, wires, strict=True)
        ]
        units = [self.begin.unit, *filter(None, inside), self.end.unit]
        hops = [
            {
                "cell": hop.kind,
                "from": hop.entry[1],
                "to": hop.exit[1],
                "routing_ns": hop.routing / 1000,
                "logic_ns": hop.logic / 1000,
                "signal": wire and wire.text,
            }
            for hop, wire in zip(path.hops, wires, strict=True)
        ]
        return {
            "delay_ns": path.delay_ps / 1000,
            "slack_ns": round(target - path.delay_ps / 1000, 3),
            "logic_ns": path.logic_ps / 1000,
            "routing_ns": path.routing_ps / 1000,
            "launch_ns": path.launch / 1000,
            "setup_ns": path.setup / 1000,
            "levels": path.levels,
            "kind": self.kind,
            "from": {**asdict(self.begin), "text": self.begin.text},
            "to": {**asdict(self.end), "text": self.end.text},
            "units": [u for i, u in enumerate(units) if i == 0 or units[i - 1] != u],
            "endpoints": number,
            "hops": hops,
        }


class _Named:
    """Names ends, each once."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._starts: dict[Any, Point] = {}

    def of(self, path: TimingPath) -> _NamedPath:
        begin = self._starts.get(path.start)
        if begin is None:
            begin = self._starts[path.start] = self._names.start(path.start)
        return _NamedPath(path, begin, self._names.end(path.end), self._kind(path))

    def _kind(self, path: TimingPath) -> str | None:
        outside = [self._names.in_frame(pin[0]) for pin in (path.start, path.end)]
        if not any(outside):
            return "inside"
        if not all(outside):
            return "from ports" if outside[0] else "to ports"
        # Of those in the frame alone, none goes through a cell of the design.
        within = any(not self._names.in_frame(hop.entry[0]) for hop in path.hops)
        return "through" if within else None


def _worst(found: Sequence[_NamedPath], kind: str) -> float | None:
    return max((one.path.delay_ps / 1000 for one in found if one.kind == kind), default=None)


def _distinct(found: Sequence[_NamedPath]) -> list[tuple[_NamedPath, int]]:
    """The longest path of each pair of registers, and how many endpoints there are of it."""
    pairs: dict[tuple[str, str, str], list[_NamedPath]] = defaultdict(list)
    for one in found:
        pairs[one.pair].append(one)
    return [(group[0], len(group)) for group in list(pairs.values())[:MOST_PATHS]]


def _by_unit(found: Sequence[_NamedPath], target: float) -> dict[str, dict[str, Any]]:
    """Slack of the endpoints of each unit, by the longest path to each."""
    worst: dict[Any, _NamedPath] = {}
    for one in found:
        worst.setdefault(one.path.end, one)
    units: dict[str, dict[str, Any]] = {}
    for one in worst.values():
        slack = target - one.path.delay_ps / 1000
        unit = units.setdefault(
            one.end.unit,
            {
                "endpoints": 0,
                "bins": dict.fromkeys(BINS, 0),
                "worst_ns": one.path.delay_ps / 1000,
                "worst_slack_ns": round(slack, 3),
            },
        )
        unit["endpoints"] += 1
        unit["bins"][next(name for name, limit in BINS.items() if slack < limit)] += 1
    return units


class _Clock:
    """Takes the time of each stage, and passes on what is said of it."""

    def __init__(self, report: Callable[[str], None] | None) -> None:
        self._report = report
        self._began: list[tuple[str, float]] = []

    def __call__(self, line: str) -> None:
        self._began.append((line.rpartition(": ")[2].split(" ")[0].lower(), time.monotonic()))
        if self._report is not None:
            self._report(line)

    def seconds(self) -> dict[str, float]:
        """Stage to seconds."""
        ends = [at for _, at in self._began[1:]] + [time.monotonic()]
        return {
            stage: round(end - at, 1) for (stage, at), end in zip(self._began, ends, strict=True)
        }
