"""Checkpoint readers, compiler, program files and the command line.

The names below are what a program of one's own needs; they are imported when first used, so that
``import lutcore.sw`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lutcore.hw.contract.config import CoreConfig, load_config
    from lutcore.sw.app.execute import Result, run
    from lutcore.sw.base.errors import LutcoreError
    from lutcore.sw.layers.checkpoint import list_tensors, read_layer
    from lutcore.sw.layers.layer import QuantLayer
    from lutcore.sw.program.compile import compile_layer
    from lutcore.sw.program.program import Program

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
    "CoreConfig": "lutcore.hw.contract.config",
    "LutcoreError": "lutcore.sw.base.errors",
    "Program": "lutcore.sw.program.program",
    "QuantLayer": "lutcore.sw.layers.layer",
    "Result": "lutcore.sw.app.execute",
    "compile_layer": "lutcore.sw.program.compile",
    "list_tensors": "lutcore.sw.layers.checkpoint",
    "load_config": "lutcore.hw.contract.config",
    "read_layer": "lutcore.sw.layers.checkpoint",
    "run": "lutcore.sw.app.execute",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
