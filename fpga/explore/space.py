"""The configurations of a sweep."""

import itertools
import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

from lutcore.hw.contract.config import ConfigError, CoreConfig
from lutcore.sw.base.errors import LutcoreError

__all__ = [
    "Points",
    "Space",
    "SpaceError",
    "candidates",
    "default_space",
    "load_space",
    "parse_sweep",
]

#: Combinations of one sweep, of which those that cannot be built count too.
COMBINATIONS_MAX = 100_000
_TYPES = {field.name: field.type for field in fields(CoreConfig)}

_TYPE_NAMES = {int: "integers", bool: "true or false", str: "texts"}


class SpaceError(LutcoreError, ValueError):
    """A space that cannot be swept; the message names the key, the value and the remedy."""


@dataclass(frozen=True)
class Space:
    """A union of boxes.

    Attributes
    ----------
    boxes
        Each maps keys of `CoreConfig` to the values that they take, every combination of which is
        in the box. Keys that a box does not have stay at their defaults.
    """

    boxes: tuple[Mapping[str, tuple[Any, ...]], ...]

    def __post_init__(self) -> None:
        if self.combinations > COMBINATIONS_MAX:
            raise SpaceError(
                f"the space has {self.combinations:,} combinations, more than "
                f"{COMBINATIONS_MAX:,}: give fewer values"
            )

    @property
    def combinations(self) -> int:
        """How many there are, with those that cannot be built."""
        return sum(prod(map(len, box.values())) for box in self.boxes)

    def replaced(self, axes: Mapping[str, tuple[Any, ...]]) -> "Space":
        """The same boxes with some of the axes replaced."""
        return Space(tuple({**box, **axes} for box in self.boxes))


@dataclass(frozen=True)
class Points:
    """What a space comes to.

    Attributes
    ----------
    configs
        Those that can be built, each once, in the order of the space.
    refused
        Reason to number of combinations.
    repeated
        Combinations that give a configuration that was there before.
    """

    configs: tuple[CoreConfig, ...]
    refused: Mapping[str, int]
    repeated: int


def candidates(space: Space) -> Points:
    """Build every combination, the last key of a box fastest."""
    # A dict, for its order.
    configs: dict[CoreConfig, None] = {}
    refused: Counter[str] = Counter()
    total = 0
    for box in space.boxes:
        for values in itertools.product(*box.values()):
            total += 1
            try:
                configs[CoreConfig(**dict(zip(box, values, strict=True)))] = None
            except ConfigError as error:
                refused[str(error)] += 1
    repeated = total - len(configs) - sum(refused.values())
    return Points(tuple(configs), dict(refused), repeated)


#: Rates of the scale unit: derived for groups of 128, and enough for groups of 32.
_SCALE = (0, 16, 32)
_FPGA = {"depth": (4, 8, 16), "rows": (1, 2, 4), "lanes": (16, 32, 64), "scale_lanes": _SCALE}
_SMALL = {"depth": (1, 2, 4), "rows": (1, 2, 4), "lanes": (16, 32, 64)}


def _tables(form: str, *groups: int, store: str = "distributed", ternary: bool = False):
    return {
        "table_store": (store,),
        "table_form": (form,),
        "group": groups,
        **({"ternary": (True,)} if ternary else {}),
    }


_DEFAULT = {
    # LUT RAM of 32 words and more: two banks of full tables of four, or of symmetric ones of five.
    "xc7": Space(
        (
            {**_tables("full", 4, 5), **_FPGA},
            {**_tables("symmetric", 4, 5), **_FPGA},
            {**_tables("symmetric", 5, ternary=True), **_FPGA},
        )
    ),
    # LUT RAM of 16 words.
    "ecp5": Space(
        (
            {**_tables("full", 3), **_FPGA},
            {**_tables("symmetric", 4), **_FPGA},
            {**_tables("symmetric", 5, ternary=True), **_FPGA},
        )
    ),
    # No LUT RAM.
    "ice40": Space(
        (
            {
                **_tables("symmetric", 2, 3, 4, store="register"),
                "depth": (1, 2),
                "rows": (1,),
                "lanes": (8, 16),
                "bus_width": (32,),
            },
        )
    ),
    "cells": Space(
        (
            {**_tables("symmetric", 3, 4, 5, store="register"), **_SMALL},
            {**_tables("symmetric", 5, store="register", ternary=True), **_SMALL},
        )
    ),
}


def default_space(target: str) -> Space:
    """What is swept for a target if nothing else is asked for."""
    return _DEFAULT[target]


def load_space(path: Path) -> Space:
    """A space from a TOML file.

    Its keys are those of a configuration, with one value or a list of them. Tables ``[[space]]``
    are boxes of their own; keys before the first hold for all of them.

    Raises
    ------
    SpaceError
        If it cannot be read, or has a key or value that a configuration does not have.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpaceError(f"cannot read {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path}: not a TOML file: {error}") from None
    boxes = content.pop("space", [{}])
    if not isinstance(boxes, list) or not all(isinstance(box, dict) for box in boxes):
        raise SpaceError(f"{path}: space must be tables [[space]], not {boxes!r}")
    common = _axes(content, str(path))
    return Space(
        tuple(
            {**common, **_axes(box, f"{path}, space {i}")} for i, box in enumerate(boxes, start=1)
        )
    )


def parse_sweep(arguments: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Axes from ``KEY=VALUE,VALUE,...``.

    Raises
    ------
    SpaceError
        If one is not of this form, or has a key or value that a configuration does not have.
    """
    found: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        where = f"--sweep {argument}"
        if not equals or not text:
            raise SpaceError(f"{where}: write KEY=VALUE,VALUE,..., for example lanes=16,32")
        if key in found:
            raise SpaceError(f"{where}: {key} is there twice; give all values at once")
        found[key] = [_literal(value) for value in text.split(",")]
    return _axes(found, "--sweep")


def _literal(text: str) -> int | bool | str:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int) else text


def _axes(values: Mapping[str, Any], where: str) -> dict[str, tuple[Any, ...]]:
    axes = {}
    for key, value in values.items():
        if key not in _TYPES:
            raise SpaceError(f"{where}: unknown key {key!r}; known: {', '.join(_TYPES)}")
        some = tuple(value) if isinstance(value, list) else (value,)
        if not some:
            raise SpaceError(f"{where}: {key} has no value; give at least one")
        for one in some:
            if type(one) is not _TYPES[key]:
                raise SpaceError(
                    f"{where}: values of {key} must be {_TYPE_NAMES[_TYPES[key]]}, not {one!r}"
                )
        axes[key] = some
    return axes
