"""How far the cycle model is off: ``python -m lutcore.sim.cycles.check``.

Draws configurations, layers, rows and latencies, runs each on the RTL and compares the cycles.
"""

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lutcore.hw.contract.config import ConfigError, CoreConfig, ceil_div, ceil_pow2
from lutcore.sim.cycles.model import CycleEstimate, LayerShape, estimate_cycles
from lutcore.sim.devices.choice import run_on
from lutcore.sim.devices.registers import Counters
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.compile import compile_layer

__all__ = ["LIMIT", "Point", "core_text", "draw_points", "layer_of", "main", "measure"]

#: Largest error allowed, as a share of the RTL's cycles.
LIMIT = 0.02
#: Array steps of the largest layer drawn, by size of the cores: what the RTL simulates in a second.
_LARGEST = {"small": 60_000, "medium": 400_000, "large": 400_000}
_LATENCIES = (1, 5, 20, 40, 40, 40, 70, 100)

Size = Literal["small", "medium", "large"]


@dataclass(frozen=True)
class Point:
    """One thing to compare.

    Attributes
    ----------
    config, shape, rows, latency
        Arguments of `estimate_cycles`.
    """

    config: CoreConfig
    shape: LayerShape
    rows: int
    latency: int

    def estimate(self) -> CycleEstimate:
        """What the model says."""
        return estimate_cycles(self.config, self.shape, self.rows, latency=self.latency)


def draw_points(seed: int, configs: int, shapes: int, size: Size = "small") -> Iterator[Point]:
    """Random points, `shapes` for each of `configs` configurations."""
    rng = random.Random(seed)
    for _ in range(configs):
        config = _draw_config(rng, size)
        for _ in range(shapes):
            yield _draw_point(rng, config, _LARGEST[size])


def _draw_config(rng: random.Random, size: Size) -> CoreConfig:
    """A configuration; one of five has native ternary tables, one of three odd buffers."""
    small = {"rows": (1, 1, 2), "lanes": (8, 8, 16), "depth": (1, 2, 3), "bus_width": (32, 64, 128)}
    medium = {"rows": (1, 2, 3, 4), "lanes": (8, 16, 24), "depth": range(1, 7)}
    large = {"rows": range(1, 9), "lanes": (16, 32, 48, 64), "depth": range(1, 9)}
    choices = {
        "group": range(2, 7),
        "activation": ("int8", "int8", "int16"),
        "planes": range(1, 9),
        "table_store": ("register", "distributed"),
        "table_form": ("symmetric", "full"),
        "bus_width": (32, 64, 128, 256, 512),
        **{"small": small, "medium": medium, "large": large}[size],
    }
    while True:
        values = {name: rng.choice(list(options)) for name, options in choices.items()}
        if rng.random() < 0.2:
            values |= {"ternary": True, "group": 5, "table_form": "symmetric"}
        try:
            config = CoreConfig(**values)
            if rng.random() < 0.33:
                config = dataclasses.replace(config, **_odd_buffers(rng, config))
        except ConfigError:
            continue
        # What takes the compiler longest: the terms and the lookups.
        if size != "small" or config.scale_lanes <= 2:
            return config


def _odd_buffers(rng: random.Random, config: CoreConfig) -> dict[str, int]:
    """Sizes from the least that is allowed upwards."""
    drawn = {
        name: ceil_pow2(words) << rng.randint(0, 5)
        for name, words in config.least_words.items()
        if rng.random() < 0.5
    }
    if rng.random() < 0.4:
        drawn["tiles"] = rng.randint(config.planes, config.planes + 12)
    if rng.random() < 0.2:
        drawn["run"] = max(8, config.step, rng.choice((32, 64, 128)))
    return drawn


def _draw_point(rng: random.Random, config: CoreConfig, largest: int) -> Point:
    while True:
        n, k = round(2 ** rng.uniform(0, 11)), round(2 ** rng.uniform(2, 11.5))
        if rng.random() < 0.5:
            n, k = ceil_div(n, 8) * 8, ceil_div(k, 32) * 32
        bits = rng.randint(1, config.planes)
        rows = rng.choice((1, 1, 1, 2, 3, 4, 8, round(2 ** rng.uniform(0, 5.5))))
        steps = ceil_div(n, config.lanes) * ceil_div(k, config.step) * ceil_div(rows, config.rows)
        if steps * bits > largest:
            continue
        ternary = config.ternary and rng.random() < 0.7
        shape = LayerShape(
            n=n,
            k=k,
            bits=2 if ternary else bits,
            group_size=min(k, rng.choice((32, 32, 64, 128, 128, 256, k))),
            per_plane=not ternary and rng.random() < 0.2,
            offset=rng.random() < 0.4,
            wide=rng.random() < 0.2,
            bias=rng.random() < 0.3,
            ternary=ternary,
        )
        return Point(config, shape, rows, rng.choice(_LATENCIES))


def layer_of(shape: LayerShape, seed: int = 0) -> QuantLayer:
    """A layer of random weights of a shape."""
    rng = np.random.default_rng(seed)
    groups = (shape.n, ceil_div(shape.k, shape.group_size))
    if shape.ternary:
        kind, codes = "ternary", rng.integers(-1, 2, (shape.n, shape.k)).astype(np.int8)
    elif shape.per_plane:
        signs = rng.integers(0, 2, (shape.bits, shape.n, shape.k))
        kind, codes = "planes", (2 * signs - 1).astype(np.int8)
    else:
        kind, codes = "affine", rng.integers(0, 2**shape.bits, (shape.n, shape.k)).astype(np.uint8)
    scale_shape = (*groups, shape.bits) if kind == "planes" else groups
    if shape.wide:
        scales = np.ldexp(rng.integers(2**22, 2**23, scale_shape) * 2.0 + 1, -30)
        scales = scales.astype(np.float32)
    else:
        scales = rng.uniform(0.01, 0.02, scale_shape).astype(np.float16)
    return QuantLayer(
        name=f"{shape.n}x{shape.k}",
        kind=kind,
        bits=shape.bits,
        codes=codes,
        group_size=shape.group_size,
        scales=scales,
        offsets=rng.uniform(-0.1, 0.1, groups).astype(np.float16) if shape.offset else None,
        bias=rng.standard_normal(shape.n).astype(np.float32) if shape.bias else None,
        checkpoint_bytes=ceil_div(shape.n * shape.k * shape.bits, 8),
    )


def measure(point: Point) -> Counters:
    """The counters of the RTL."""
    program = compile_layer(layer_of(point.shape), point.config, point.rows)
    q = np.ones((point.rows, point.shape.k), point.config.activation)
    scale = np.ones(point.rows, np.float32)
    counters = run_on("rtl", program, q, scale, latency=point.latency).counters
    assert counters is not None, "the RTL counts"
    return counters


def core_text(config: CoreConfig) -> str:
    """A core in one line: what its machine is, and the sizes that are not the derived ones."""
    derived = config.with_derived().as_dict()
    own = [f"{key}={value}" for key, value in config.as_dict().items() if value != derived[key]]
    form = "ternary" if config.ternary else config.table_form
    shape = f"M{config.rows} N{config.lanes} k{config.group} G{config.depth} P{config.planes}"
    return " ".join(
        (shape, config.activation, config.table_store, form, f"bus {config.bus_width}", *own)
    )


def _shape_text(point: Point) -> str:
    shape = point.shape
    flags = [name for name in ("per_plane", "offset", "wide", "bias") if getattr(shape, name)]
    bits = "ternary" if shape.ternary else f"{shape.bits} bits"
    parts = (f"{shape.n}x{shape.k}", bits, f"groups of {shape.group_size}", *flags)
    return ", ".join((*parts, f"{point.rows} rows", f"latency {point.latency}"))


def main(
    points: Annotated[int, typer.Option(min=1, help="Points to compare.")] = 40,
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
    shapes: Annotated[int, typer.Option(min=1, help="Points with the same core.")] = 5,
    size: Annotated[
        Size, typer.Option(help="Of the cores; large ones take minutes each to compile.")
    ] = "small",
) -> None:
    """Compare the cycle model with the RTL at random points; fails if one is off by over 2 %.

    Each core has to be compiled first, unless it is in the cache.
    """
    table = Table("core", "layer", "model", "RTL", "error")
    drawn = draw_points(seed, ceil_div(points, shapes), shapes, size)
    errors = []
    for _, point in track(
        zip(range(points), drawn, strict=False),
        description="Comparing",
        total=points,
        console=Console(stderr=True),
        transient=True,
    ):
        predicted, cycles = point.estimate().cycles, measure(point).cycles
        errors.append(predicted / cycles - 1)
        core = core_text(point.config)
        table.add_row(
            core, _shape_text(point), f"{predicted:,}", f"{cycles:,}", f"{errors[-1]:+.2%}"
        )
    console = Console(width=160)
    console.print(table)
    worst = max(map(abs, errors))
    exact = sum(error == 0 for error in errors)
    console.print(f"{points} points: {exact} exact, largest error {worst:.2%}")
    if worst > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
