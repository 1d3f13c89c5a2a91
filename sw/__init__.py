"""Checkpoint readers, compiler, program files and the command line.

The names below are what a program of one's own needs; they are imported when first used, so that
``import lutcore.sw`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lutcore.hw.config import CoreConfig, load_config
    from lutcore.sw.checkpoint import list_tensors, read_layer
    from lutcore.sw.compile import compile_layer
    from lutcore.sw.errors import LutcoreError
    from lutcore.sw.execute import Result, run
    from lutcore.sw.layer import QuantLayer
    from lutcore.sw.program import Program

__all__ = [
    "CoreConfig",
    "LutcoreError",
    "Program",
    "QuantLayer",
    "Result",
    "compile_layer",
    "list_tensors",
    "load_config",
    "read_layer",
    "run",
]

_HOMES = {
    "CoreConfig": "lutcore.hw.config",
    "LutcoreError": "lutcore.sw.errors",
    "Program": "lutcore.sw.program",
    "QuantLayer": "lutcore.sw.layer",
    "Result": "lutcore.sw.execute",
    "compile_layer": "lutcore.sw.compile",
    "list_tensors": "lutcore.sw.checkpoint",
    "load_config": "lutcore.hw.config",
    "read_layer": "lutcore.sw.checkpoint",
    "run": "lutcore.sw.execute",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
