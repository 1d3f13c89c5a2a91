"""The configurations that the full regression runs over, and random ones.

Those of the regression are small, so that Icarus copes. Together they span what a core can be:
stores and forms of the tables, groups of 2 to 6, depths of 1 to 16, both types of activations,
ternary weights, all bus widths, and buffers so small that layers are cut into many blocks.
"""

import random
from pathlib import Path

from lutcore.hw.contract.config import PRESETS, CoreConfig, ceil_pow2, load_config
from lutcore.hw.contract.ternary import INDEX_BITS

__all__ = ["CONFIGURATIONS", "configuration", "draw_config"]

CONFIGURATIONS: dict[str, CoreConfig] = {
    "tiny": PRESETS["tiny"],
    "distributed-k4-g1": CoreConfig(
        rows=2, lanes=8, group=4, depth=1, planes=8, bus_width=64,
        weight_words=64, x_words=32, sum_words=64,
    ),
    "distributed-k5-g3": CoreConfig(
        rows=2, lanes=16, group=5, depth=3, planes=4, bus_width=64, scale_lanes=4,
        weight_words=16, x_words=64, sum_words=64,
    ),
    "distributed-k6-g2-int16": CoreConfig(
        rows=1, lanes=8, group=6, depth=2, activation="int16", planes=3, bus_width=32,
    ),
    "distributed-k2-g16": CoreConfig(
        rows=1, lanes=8, group=2, depth=16, planes=2, bus_width=64,
    ),
    "ternary-g2": CoreConfig(
        rows=2, lanes=8, group=5, depth=2, planes=2, ternary=True, bus_width=128,
    ),
    "ternary-g4-int16": CoreConfig(
        rows=1, lanes=8, group=5, depth=4, activation="int16", planes=5, ternary=True,
        bus_width=64, weight_words=16, x_words=32,
    ),
    "distributed-full-k4-g8": CoreConfig(
        rows=2, lanes=8, group=4, depth=8, planes=4, table_form="full", bus_width=256,
    ),
    "distributed-full-k5-g2": CoreConfig(
        rows=3, lanes=8, group=5, depth=2, planes=6, table_form="full", bus_width=128,
        weight_words=8, x_words=64, sum_words=64,
    ),
    "distributed-full-k3-g1-int16": CoreConfig(
        rows=2, lanes=16, group=3, depth=1, activation="int16", planes=7, table_form="full",
        bus_width=64, scale_lanes=2, final_lanes=1,
    ),
    "register-k4-g1": CoreConfig(
        rows=2, lanes=16, group=4, depth=1, planes=4, table_store="register", bus_width=64,
    ),
    "register-k3-g5": CoreConfig(
        rows=1, lanes=16, group=3, depth=5, planes=2, table_store="register", bus_width=512,
        x_words=16,
    ),
    "register-full-k2-g4": CoreConfig(
        rows=2, lanes=8, group=2, depth=4, planes=5, table_store="register", table_form="full",
        bus_width=32, weight_words=8, x_words=16, sum_words=16,
    ),
    "register-full-k6-g1": CoreConfig(
        rows=1, lanes=8, group=6, depth=1, planes=3, table_store="register", table_form="full",
        bus_width=64,
    ),
    "register-full-k4-g2-int16": CoreConfig(
        rows=1, lanes=8, group=4, depth=2, activation="int16", planes=2,
        table_store="register", table_form="full", bus_width=64,
    ),
    "distributed-k2-g3-int16": CoreConfig(
        rows=2, lanes=8, group=2, depth=3, activation="int16", planes=4, bus_width=128,
        weight_words=16, x_words=16,
    ),
}  # fmt: skip


def configuration(source: str | Path) -> CoreConfig:
    """One of `CONFIGURATIONS` by its name, else a preset or a file.

    Raises
    ------
    ConfigError
        If it is none of them.
    """
    return CONFIGURATIONS.get(str(source)) or load_config(source)


def draw_config(
    source: random.Random, *, depth_max: int = 32, ternary: bool | None = None
) -> CoreConfig:
    """A random small core, with buffers from the least that is allowed upwards.

    Parameters
    ----------
    source
        Random numbers.
    depth_max
        The largest depth.
    ternary
        Whether the core has tables for ternary weights; None: one of three has.
    """
    if ternary is None:
        ternary = source.choice([False, False, True])
    group = INDEX_BITS if ternary else source.randint(2, 6)
    depth = source.randint(1, source.choice([min(5, depth_max), depth_max]))
    planes = source.randint(1, 8)
    config = CoreConfig(
        rows=source.randint(1, 3),
        lanes=8 * source.randint(1, 3),
        group=group,
        depth=depth,
        activation=source.choice(["int8", "int16"]),
        planes=planes,
        table_store=source.choice(["register", "distributed"]),
        table_form="symmetric" if ternary else source.choice(["symmetric", "full"]),
        ternary=ternary,
        bus_width=source.choice([32, 64, 128, 512]),
    )
    words = {
        name: ceil_pow2(least) << source.randint(0, 4) for name, least in config.least_words.items()
    }
    run = max(config.step, source.choice([8, 40, 512]))
    return config.with_derived(tiles=source.randint(planes, planes + 3), run=run, **words)
