"""Workloads: which layers a core is to compute, with how many rows, and how often."""

import csv
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from lutcore.hw.contract.config import COLUMNS_MAX, CoreConfig
from lutcore.hw.contract.ternary import GROUP as TRITS
from lutcore.sim.cycles.model import LayerShape
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.layers.layer import MAX_BITS, TERNARY_BITS

__all__ = ["WORKLOADS", "WorkItem", "Workload", "WorkloadError", "load_workload"]

_KINDS = ("affine", "planes", "ternary")


class WorkloadError(LutcoreError, ValueError):
    """A workload that cannot be read; the message has the line, the value and the remedy."""


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """One matrix product of a workload.

    Attributes
    ----------
    name
        For people.
    n, k
        Output channels and columns of the layer.
    bits
        Bits or planes of a weight, 1 to 8; of ternary weights 2, and may be left at 0.
    group_size
        Columns that share a scale, at most ``k``.
    rows
        Rows of activations.
    count
        How often it is computed.
    kind
        ``"affine"``, ``"planes"`` or ``"ternary"``, as in `QuantLayer`.
    offset, wide, bias
        As in `LayerShape`.

    Raises
    ------
    WorkloadError
        If a value is not possible; the message names it.
    """

    name: str
    n: int
    k: int
    bits: int = 0
    group_size: int
    rows: int
    count: int = 1
    kind: str = "affine"
    offset: bool = False
    wide: bool = False
    bias: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise WorkloadError(f"name must be a text that says what it is, not {self.name!r}")
        if self.kind not in _KINDS:
            raise WorkloadError(f"kind must be one of {', '.join(_KINDS)}, not {self.kind!r}")
        if self.kind == "ternary" and self.bits == 0:
            object.__setattr__(self, "bits", TERNARY_BITS)
        limits = {
            "n": COLUMNS_MAX,
            "k": COLUMNS_MAX,
            "bits": MAX_BITS,
            "group_size": self.k,
            "rows": 1 << 20,
            "count": 1 << 40,
        }
        for key, limit in limits.items():
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool):
                raise WorkloadError(f"{key} must be an integer, not {value!r}")
            if not 1 <= value <= limit:
                raise WorkloadError(f"{key} must be in 1..{limit}, not {value}")
        if self.kind == "ternary" and self.bits != TERNARY_BITS:
            raise WorkloadError(
                f"bits of ternary weights are {TERNARY_BITS}, not {self.bits}: leave them out"
            )
        for key in ("offset", "wide", "bias"):
            if not isinstance(getattr(self, key), bool):
                raise WorkloadError(f"{key} must be true or false, not {getattr(self, key)!r}")

    @property
    def shape(self) -> LayerShape:
        """What the cycle model takes."""
        return LayerShape(
            n=self.n,
            k=self.k,
            bits=self.bits,
            group_size=self.group_size,
            per_plane=self.kind == "planes",
            offset=self.offset,
            wide=self.wide,
            bias=self.bias,
            ternary=self.kind == "ternary",
        )

    def least_cycles(self, config: CoreConfig) -> float:
        """Cycles of one product at the core's peak, as reports count utilisation."""
        if self.kind == "ternary" and config.ternary:
            peak, bits = config.rows * config.lanes * config.depth * TRITS, 1
        else:
            peak, bits = config.peak, self.bits
        return self.rows * self.n * self.k * bits / peak


@dataclass(frozen=True)
class Workload:
    """Matrix products that are computed one after the other.

    Attributes
    ----------
    name
        Of the workload, or of its file.
    items
        At least one.
    """

    name: str
    items: tuple[WorkItem, ...]

    def as_list(self) -> list[dict[str, Any]]:
        """The items, ready for JSON; names aside, which no figure depends on."""
        keys = [field.name for field in fields(WorkItem) if field.name != "name"]
        return [{key: getattr(item, key) for key in keys} for item in self.items]


def _smollm2(rows: int, count: int) -> tuple[WorkItem, ...]:
    """A pass of SmolLM2-135M (Q4_1, head Q8_0) over ``rows`` tokens; the head takes the last."""
    blocks = 30
    matrices = (
        ("attn_q, attn_output", 2, 576, 576),
        ("attn_k, attn_v", 2, 192, 576),
        ("ffn_gate, ffn_up", 2, 1536, 576),
        ("ffn_down", 1, 576, 1536),
    )
    items = [
        WorkItem(
            name=name, n=n, k=k, bits=4, group_size=32, offset=True, rows=rows,
            count=count * blocks * each,
        )
        for name, each, n, k in matrices
    ]  # fmt: skip
    head = WorkItem(name="output", n=49152, k=576, bits=8, group_size=32, rows=1, count=count)
    return (*items, head)


def _bitnet(rows: int, count: int) -> tuple[WorkItem, ...]:
    """The layers of a ternary model of the size of BitNet b1.58 2B4T, a scale per matrix."""
    blocks = 30
    matrices = (
        ("attn_q, attn_output", 2, 2560, 2560),
        ("attn_k, attn_v", 2, 640, 2560),
        ("ffn_gate, ffn_up", 2, 6912, 2560),
        ("ffn_down", 1, 2560, 6912),
    )
    return tuple(
        WorkItem(
            name=name, n=n, k=k, group_size=k, kind="ternary", rows=rows,
            count=count * blocks * each,
        )
        for name, each, n, k in matrices
    )  # fmt: skip


def _square(rows: int) -> tuple[WorkItem, ...]:
    return (WorkItem(name="square", n=1024, k=1024, bits=4, group_size=128, rows=rows),)


#: Tokens of the prompt, and of the answer.
_PROMPT, _ANSWER = 64, 16

#: Workloads by name.
WORKLOADS: dict[str, Workload] = {
    name: Workload(name, items)
    for name, items in {
        "smollm2": _smollm2(_PROMPT, 1) + _smollm2(1, _ANSWER),
        "smollm2-prefill": _smollm2(_PROMPT, 1),
        "smollm2-decode": _smollm2(1, 1),
        "bitnet": _bitnet(_PROMPT, 1) + _bitnet(1, _ANSWER),
        "w4-prefill": _square(_PROMPT),
        "w4-decode": _square(1),
    }.items()
}


def load_workload(source: str | Path) -> Workload:
    """A workload by name, or from a file.

    A TOML file has one table ``[[layer]]`` for each product, with the attributes of `WorkItem` as
    keys; a CSV file has one line for each, and their names in its first line.

    Raises
    ------
    WorkloadError
        If it is neither, or holds what cannot be computed.
    """
    if str(source) in WORKLOADS:
        return WORKLOADS[str(source)]
    path = Path(source)
    if path.suffix not in (".toml", ".csv") or not path.is_file():
        raise WorkloadError(
            f"{str(source)!r} is neither a workload ({', '.join(WORKLOADS)}) nor a .toml or .csv "
            "file of layers"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise WorkloadError(f"cannot read {path}: {reason}") from None
    lines = _toml(text, path) if path.suffix == ".toml" else _csv(text, path)
    items = tuple(_item(values, where) for where, values in lines)
    if not items:
        raise WorkloadError(f"{path} has no layer: give at least one")
    return Workload(path.stem, items)


def _toml(text: str, path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WorkloadError(f"{path}: not a TOML file: {error}") from None
    layers = content.pop("layer", [])
    if content or not isinstance(layers, list) or not all(isinstance(v, dict) for v in layers):
        extra = next(iter(content), "layer")
        raise WorkloadError(f"{path}: {extra!r} is not expected: write tables [[layer]] alone")
    return [(f"{path}, layer {i}", values) for i, values in enumerate(layers, 1)]


def _csv(text: str, path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    reader = csv.reader(text.splitlines())
    header = [name.strip() for name in next(reader, [])]
    _check_keys(header, f"{path}, line 1")
    rows = []
    for cells in reader:
        where = f"{path}, line {reader.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise WorkloadError(
                f"{where}: {len(cells)} values for {len(header)} columns ({', '.join(header)})"
            )
        pairs = zip(header, (cell.strip() for cell in cells), strict=True)
        # An empty cell leaves the key at its default.
        rows.append((where, {key: _parse(key, cell, where) for key, cell in pairs if cell}))
    return rows


def _parse(key: str, cell: str, where: str) -> str | int | bool:
    kind = {field.name: field.type for field in fields(WorkItem)}[key]
    if kind is bool:
        if cell.lower() not in ("true", "false", "0", "1"):
            raise WorkloadError(f"{where}, column {key}: must be true or false, not {cell!r}")
        return cell.lower() in ("true", "1")
    if kind is int:
        try:
            return int(cell)
        except ValueError:
            raise WorkloadError(
                f"{where}, column {key}: must be an integer, not {cell!r}"
            ) from None
    return cell


def _check_keys(keys: Iterable[str], where: str) -> None:
    known = [field.name for field in fields(WorkItem)]
    seen = set()
    for key in keys:
        if key not in known:
            raise WorkloadError(f"{where}: unknown column {key!r}; known: {', '.join(known)}")
        if key in seen:
            raise WorkloadError(f"{where}: column {key!r} is there twice; leave one out")
        seen.add(key)


def _item(values: Mapping[str, Any], where: str) -> WorkItem:
    _check_keys(values, where)
    for field in fields(WorkItem):
        if field.default is MISSING and field.name not in values:
            raise WorkloadError(f"{where}: {field.name} is missing; give it")
    try:
        return WorkItem(**values)
    except WorkloadError as error:
        raise WorkloadError(f"{where}: {error}") from None
