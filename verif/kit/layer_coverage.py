"""Which bins of functional coverage a layer hits on a core."""

import numpy as np

from lutcore.hw.contract.config import CoreConfig
from lutcore.sw.program.program import Program
from lutcore.verif.kit.env import cover
from lutcore.verif.kit.layers import Case

__all__ = ["cover_case", "cover_config", "cover_result"]


def _span(value: int, limits: tuple[int, ...]) -> str:
    """The bin of a number: ``"3-4"`` for limits 2, 4; single numbers as they are."""
    below = 0
    for limit in limits:
        if value <= limit:
            return str(limit) if limit == below + 1 else f"{below + 1}-{limit}"
        below = limit
    raise ValueError(f"{value} is above {limits[-1]}")


def cover_config(config: CoreConfig) -> None:
    """Bins that depend on the core alone."""
    cover("group", str(config.group))
    cover("depth", _span(min(config.depth, 16), (1, 2, 4, 8, 16)))
    cover("activation x group", f"{config.activation} / {config.group}")
    cover("bus", str(config.bus_width))
    rows = "1 row" if config.rows == 1 else "more rows"
    cover("rows x lanes", f"{rows} / {'8 lanes' if config.lanes == 8 else 'more lanes'}")


def cover_case(case: Case, program: Program) -> None:
    """Bins of a layer that was run as a program."""
    config, layer, form = program.config, case.layer, program.tiling.format
    cover_config(config)
    if form.ternary:
        cover("tables", "distributed ternary / ternary")
    else:
        cover("tables", f"{config.table_store} {config.table_form} / {layer.kind}")
    ternary = layer.kind == "ternary"
    cover("planes", "ternary" if ternary else f"{layer.kind} / {layer.bits}")
    offset = "no offset" if layer.offsets is None else "offset"
    cover("scales", f"{layer.kind} / {'wide' if form.wide else 'narrow'} / {offset}")
    cover("bias", "no bias" if layer.bias is None else "bias")
    step = config.step * 3 // 5 if form.ternary else config.step
    cover("groups", _groups(layer.group_size, layer.k, step))
    cover("edge of N", _edge(layer.n, config.lanes))
    cover("edge of rows", _edge(case.rows, config.rows))
    if layer.k < step:
        cover("edge of K", "less than a step")
    elif layer.k % layer.group_size:
        cover("edge of K", "short group")
    elif layer.group_size % step:
        cover("edge of K", "short step")
    else:
        cover("edge of K", "whole")
    for trait in case.traits:
        cover("extremes", trait)
    if form.wide:
        cover("extremes", "widest scales")
    tiling = program.tiling
    several = tiling.tiles < tiling.total_tiles
    if tiling.splits_groups:
        cover("blocking", "pieces of groups")
    elif not tiling.whole_k:
        cover("blocking", "blocks of K")
    cover("blocking", "blocks of N" if several else "one block")


def cover_result(y: np.ndarray) -> None:
    """Bins of the rounding of results."""
    least = np.finfo(np.float32).tiny
    if np.isinf(y).any():
        cover("extremes", "result overflows")
    if ((y != 0) & (np.abs(y) < least)).any():
        cover("extremes", "result is subnormal")
    if ((y == 0) & np.signbit(y)).any():
        cover("extremes", "result is -0")


def _edge(size: int, unit: int) -> str:
    if size < unit:
        return "less than a tile"
    return "ragged" if size % unit else "whole"


def _groups(size: int, k: int, step: int) -> str:
    if size == k:
        return "all of K"
    if size < step:
        return "smaller"
    if size == step:
        return "equal"
    return "straddling" if size % step else "multiple"
