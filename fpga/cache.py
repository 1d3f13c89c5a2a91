"""Results of tools, kept by what they were made from."""

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from lutcore.sw.files import OutputError, write_file
from lutcore.sw.smollm2 import cache_folder

__all__ = ["Kept"]


class Kept:
    """One result in ``$LUTCORE_CACHE/<kind>``, or in the user's cache folder.

    Parameters
    ----------
    kind
        Name of the folder.
    *parts
        All that decides the result: texts and bytes.
    sources
        Files of this package that make the result of it; they decide too.
    """

    def __init__(self, kind: str, *parts: str | bytes, sources: tuple[str, ...] = ()) -> None:
        digest = hashlib.sha256()
        package = files("lutcore.fpga")
        for part in (*parts, *(package.joinpath(name).read_bytes() for name in sources)):
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little") + data)
        self.folder: Path = cache_folder() / kind
        self.path: Path = self.folder / f"{digest.hexdigest()[:32]}.json"

    def read(self) -> dict[str, Any] | None:
        """The result, or None if there is none that can be read."""
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def make_folder(self) -> Path:
        """The folder, made if it is missing: work beside the result, in its file system.

        Raises
        ------
        OutputError
            If it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make the folder {self.folder}: {error.strerror}; set LUTCORE_CACHE to a "
                "writable one"
            ) from None
        return self.folder

    def write(self, result: dict[str, Any]) -> None:
        """Keep a result."""
        self.make_folder()
        write_file(self.path, json.dumps(result, indent=1, sort_keys=True) + "\n")
