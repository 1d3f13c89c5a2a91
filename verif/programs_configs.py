"""The cores that random programs run on: small, with small buffers, each odd in another way."""

from lutcore.hw.config import CoreConfig

__all__ = ["CORES"]

#: By name. Together they have every table store and form, both types of activations, ternary
#: weights, and buses narrower and wider than an instruction.
CORES: dict[str, CoreConfig] = {
    "narrow": CoreConfig(
        rows=1, lanes=8, group=4, depth=2, planes=4, bus_width=32, scale_lanes=2,
        tiles=5, weight_words=64, x_words=64, scale_words=128, sum_words=32, run=64,
    ),
    "full": CoreConfig(
        rows=2, lanes=8, group=3, depth=1, planes=3, bus_width=64, table_form="full",
        activation="int16", scale_lanes=8,
        tiles=4, weight_words=32, x_words=32, scale_words=32, sum_words=16, run=32,
    ),
    "register": CoreConfig(
        rows=2, lanes=8, group=2, depth=2, planes=2, bus_width=128, table_store="register",
        scale_lanes=4, final_lanes=2,
        tiles=3, weight_words=32, x_words=64, scale_words=32, sum_words=32, run=32,
    ),
    "ternary": CoreConfig(
        rows=1, lanes=8, group=5, depth=2, planes=3, bus_width=32, ternary=True, scale_lanes=1,
        tiles=4, weight_words=32, x_words=32, scale_words=256, sum_words=64, run=64,
    ),
    "wide": CoreConfig(
        rows=2, lanes=16, group=4, depth=1, planes=2, bus_width=256, scale_lanes=8,
        table_store="register", table_form="full", activation="int16",
        tiles=3, weight_words=32, x_words=64, scale_words=32, sum_words=32, run=48,
    ),
}  # fmt: skip
