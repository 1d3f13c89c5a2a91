"""The cache folder: what is fetched, built or measured once, kept by all that it was made from."""

import hashlib
import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import platformdirs

from lutcore.sw.base.files import OutputError, write_file

__all__ = ["Kept", "cache_folder", "source_digest"]


def cache_folder() -> Path:
    """The folder for what is fetched or built once: ``$LUTCORE_CACHE`` or the user's own."""
    chosen = os.environ.get("LUTCORE_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("lutcore"))


def source_digest(*names: str) -> str:
    """Digest of Python sources.

    Parameters
    ----------
    *names
        Modules, and packages with all that lies below them, as in ``"lutcore.hw"``.

    Returns
    -------
    str
        64 hexadecimal digits. They change with the text, the name and the place of every file.
    """
    digest = hashlib.sha256()
    for name in names:
        for place, content in _sources(name):
            digest.update(f"{name} {place} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _sources(name: str) -> Iterator[tuple[str, bytes]]:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no sources of {name}: there is no such module")
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        yield "", origin.read_bytes()
        return
    for file in sorted(origin.parent.rglob("*.py")):
        yield file.relative_to(origin.parent).as_posix(), file.read_bytes()


class Kept:
    """One result in ``$LUTCORE_CACHE/<kind>``, or in the user's cache folder.

    Parameters
    ----------
    kind
        Name of the folder.
    *parts
        All that decides the result: texts and bytes.
    sources
        Modules and packages that make the result of it, as `source_digest` takes them; they decide
        too.
    """

    def __init__(self, kind: str, *parts: str | bytes, sources: tuple[str, ...] = ()) -> None:
        digest = hashlib.sha256()
        for part in (*parts, source_digest(*sources)):
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
