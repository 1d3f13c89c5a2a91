"""Standard-cell libraries: what the flow has to know of one, and a default one."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lutcore.sw.base.cache import cache_folder
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.files import OutputError

__all__ = ["Liberty", "LibertyError", "default_liberty"]

#: Debian package with a library of a 0.18 µm process that may be used freely, and its file there.
PACKAGE = "qflow-tech-osu018"
MEMBER = "usr/share/qflow/tech/osu018/osu018_stdcells.lib"
CELLS = 32

_REMEDY = (
    f"pass --liberty FILE with a library of your own, or make `apt-get download {PACKAGE}` work"
)


class LibertyError(LutcoreError):
    """A cell library cannot be had, or is none."""


@dataclass(frozen=True)
class Liberty:
    """A library in Liberty format.

    Attributes
    ----------
    data
        The file.
    """

    data: bytes

    @staticmethod
    def read(path: Path) -> "Liberty":
        """Read and check a file.

        Raises
        ------
        LibertyError
            If it cannot be read, is cut off, or has no cells.
        """
        try:
            library = Liberty(Path(path).read_bytes())
        except OSError as error:
            raise LibertyError(f"cannot read the cell library {path}: {error.strerror}") from None
        if not library.cells:
            raise LibertyError(f"{path} has no cells: not a Liberty file; {_REMEDY}")
        if library.text.count("{") != library.text.count("}"):
            raise LibertyError(f"{path} is cut off: its braces do not match; {_REMEDY}")
        if not library.sequential:
            raise LibertyError(f"{path} has no flip-flop; {_REMEDY}")
        return library

    @cached_property
    def text(self) -> str:
        """The file without comments."""
        return re.sub(r"/\*.*?\*/", "", self.data.decode("latin-1"), flags=re.DOTALL)

    @cached_property
    def name(self) -> str:
        """Name that the library gives itself."""
        found = re.search(r'\blibrary\s*\(\s*"?([\w.-]+)"?\s*\)', self.text)
        return found[1] if found else "unnamed"

    @cached_property
    def cells(self) -> dict[str, str]:
        """Name to description of each cell."""
        parts = re.split(r'\bcell\s*\(\s*"?(\w+)"?\s*\)', self.text)
        return dict(zip(parts[1::2], parts[2::2], strict=True))

    @cached_property
    def sequential(self) -> frozenset[str]:
        """Flip-flops and latches."""
        pattern = re.compile(r"\b(?:ff|latch|ff_bank|latch_bank|statetable)\s*\(")
        return frozenset(name for name, body in self.cells.items() if pattern.search(body))

    @cached_property
    def driver(self) -> str | None:
        """The smallest buffer, which stands for whatever drives the inputs of the logic."""
        buffers = []
        for name, body in self.cells.items():
            pins = re.findall(r'\bpin\s*\(\s*"?(\w+)"?\s*\)', body)
            functions = re.findall(r'\bfunction\s*:\s*"\(?\s*(\w+)\s*\)?"', body)
            area = re.search(r"\barea\s*:\s*([\d.]+)", body)
            if len(pins) == 2 and len(functions) == 1 and functions[0] in pins and area:
                buffers.append((float(area[1]), name))
        return min(buffers)[1] if buffers else None


def default_liberty(report: Callable[[str], None] | None = None) -> Path:
    """The library of Debian's `qflow-tech-osu018`, in the cache folder.

    The package is downloaded and unpacked there, not installed: installing it would bring another
    Yosys.

    Parameters
    ----------
    report
        Called with a line on what is being done, if it has to be fetched.

    Raises
    ------
    LibertyError
        If it cannot be fetched.
    OutputError
        If the cache folder cannot be made.
    """
    path = cache_folder() / "liberty" / Path(MEMBER).name
    if path.is_file() and _is_whole(path):
        return path
    if report is not None:
        report(f"Fetching the cell library of Debian's {PACKAGE}")
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise LibertyError(f"no {tool} to fetch the default cell library with; {_REMEDY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {path.parent}: {error.strerror}; set LUTCORE_CACHE to a "
            "writable one"
        ) from None
    # In the cache's own file system, so that the library appears by one atomic rename.
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        folder = Path(temporary)
        package = _download(folder)
        _run(["dpkg-deb", "-x", str(package), "package"], folder)
        found = folder / "package" / MEMBER
        if not found.is_file() or not _is_whole(found):
            raise LibertyError(f"{package.name} has no {CELLS} cells in /{MEMBER}; {_REMEDY}")
        found.replace(path)
    return path


def _is_whole(path: Path) -> bool:
    try:
        return len(Liberty.read(path).cells) == CELLS
    except LibertyError:
        return False


def _download(folder: Path) -> Path:
    fetch = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root"]
    try:
        _run([*fetch, "download", PACKAGE], folder)
    except LibertyError:
        # A fresh machine has no package lists; lists of our own need no rights.
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "archives" / "partial").mkdir(parents=True)
        fetch += ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/"]
        _run([*fetch, "update"], folder)
        _run([*fetch, "download", PACKAGE], folder)
    packages = list(folder.glob("*.deb"))
    if not packages:
        raise LibertyError(f"apt-get brought no {PACKAGE}; {_REMEDY}")
    return packages[0]


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line[:2] == "E:"]
        reason = lines[0][2:].strip() if lines else f"exit code {done.returncode}"
        raise LibertyError(f"cannot fetch the cell library: {command[0]}: {reason}; {_REMEDY}")
