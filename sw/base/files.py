"""Files that are there whole or not at all."""

import os
import tempfile
from pathlib import Path

from lutcore.sw.base.errors import LutcoreError

__all__ = ["OutputError", "write_file"]


class OutputError(LutcoreError, OSError):
    """A file that cannot be written; the message has the reason."""


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file beside its place and move it there, so that no reader sees half of it.

    Parameters
    ----------
    path : Path
        Replaced if it exists; its folder must exist. A device or pipe is written directly.
    content : str or bytes
        Text is written as UTF-8 with ``\\n`` line ends.

    Raises
    ------
    OutputError
        If the folder is missing or not writable, or the disk is full.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
