"""Random work for the scale unit: runs with their scales, and the exact sums."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lutcore.hw.contract.config import CoreConfig
from lutcore.verif.oracles.table import draw_activations

__all__ = ["Job", "Layer", "Run", "Work", "draw_job", "draw_scale", "draw_work", "scale_value"]

#: float16 numbers count units of 2^-24.
_UNIT = 24
_NOTABLE_HALVES = (0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00)


@dataclass(frozen=True)
class Layer:
    """What LAYER says of the scales."""

    planes: int
    per_plane: bool = False
    offset: bool = False
    wide: bool = False

    @property
    def entries(self) -> int:
        """Accumulators of a tile."""
        return self.planes if self.per_plane else 1

    @property
    def kind(self) -> str:
        """Name in the coverage point."""
        planes = "per plane" if self.per_plane else "weighted"
        offset = "offset" if self.offset else "no offset"
        return f"{planes}, {offset}, {'wide' if self.wide else 'narrow'}"


@dataclass(frozen=True)
class Job:
    """Blocks of K for several sum slots, in the order of MMA.

    Attributes
    ----------
    tiles
        Of each sum slot.
    row_tiles
        Row tiles in each slot; the last one has `last_rows` rows.
    blocks
        Runs of each block of K.
    columns
        Columns of a run.
    """

    config: CoreConfig
    layer: Layer
    tiles: tuple[int, ...]
    row_tiles: int = 1
    blocks: tuple[int, ...] = (2,)
    last_rows: int = 1
    columns: int = 16

    def words(self, tiles: int) -> int:
        """Words of a row tile's sums."""
        return tiles * self.config.chunks * self.config.rows


@dataclass
class Run:
    """A run as it comes from TABLE, with what ARRAY gives for it, [entry, lanes * rows]."""

    tag: dict[str, int]
    asums: list[int]
    accumulators: np.ndarray


@dataclass
class Work:
    """Inputs and expected outputs of a job.

    Attributes
    ----------
    runs
        What comes in.
    scale_slots
        Lines of each filling of the scale buffer.
    tags
        Of each finished sum slot.
    sums
        Of each sum slot: T by word and lane.
    """

    runs: list[Run] = field(default_factory=list)
    scale_slots: list[list[int]] = field(default_factory=list)
    tags: list[dict[str, int]] = field(default_factory=list)
    sums: list[dict[tuple[int, int], int]] = field(default_factory=list)

    def fillings(self, lines: int, bits: int) -> list[list[int]]:
        """`scale_slots` in words of the buffer, of as many lines of so many bits each."""
        return [
            [
                sum(line << i * bits for i, line in enumerate(slot[at : at + lines]))
                for at in range(0, len(slot), lines)
            ]
            for slot in self.scale_slots
        ]


def draw_job(source: random.Random, config: CoreConfig, layer: Layer) -> Job:
    """A random job that fits the unit's buffers."""
    while True:
        most = min(4, config.tiles // layer.entries)
        job = Job(
            config,
            layer,
            tuple(source.choice([1, most, source.randint(1, most)])
                  for _ in range(source.randint(1, 3))),
            source.randint(1, 3),
            tuple(source.randint(1, 3) for _ in range(source.randint(1, 2))),
            source.randint(1, config.rows),
            source.choice([1, 16, config.step, min(config.run, 64)]),
        )  # fmt: skip
        lines = (layer.entries + layer.offset) * (1 + layer.wide) * config.chunks
        fits = max(job.tiles) * max(job.blocks) * lines <= config.scale_words
        visits = sum(job.tiles) * sum(job.blocks) * job.row_tiles * lines * config.rows
        if (
            fits
            and visits <= 4000
            and job.words(max(job.tiles)) * job.row_tiles <= config.sum_words
        ):
            return job


def draw_work(source: random.Random, job: Job) -> Work:
    """Random weights, activations and scales; T from the definition of the layer."""
    config, work = job.config, Work()
    for slot, tiles in enumerate(job.tiles):
        totals: dict[tuple[int, int], int] = {}
        for block, count in enumerate(job.blocks):
            scales = [[_Scales(source, job) for _ in range(tiles)] for _ in range(count)]
            work.scale_slots.append([line for run in scales for tile in run for line in tile.lines])
            for row_tile in range(job.row_tiles):
                last_tile = row_tile == job.row_tiles - 1
                rows = job.last_rows if last_tile else config.rows
                for number in range(count):
                    run = _draw_run(source, job, scales[number], rows, row_tile, totals)
                    first, last = number == 0, number == count - 1
                    first_block, last_block = block == 0, block == len(job.blocks) - 1
                    opens = first and first_block and row_tile == 0
                    closes = last and last_block and last_tile
                    tag = {
                        "tiles": tiles,
                        "rows": rows,
                        "body_first": first,
                        "s_take": first and row_tile == 0,
                        "s_give": last and last_tile,
                        "t_take": opens,
                        "t_give": closes,
                        "t_first": first and first_block,
                        "t_zero": row_tile == 0,
                        "b_take": opens and slot % 2 == 0,
                        "b_give": closes and slot % 2 == 1,
                        "n_last": slot == len(job.tiles) - 1,
                        "r_last": last_tile,
                    }
                    run.tag = {key: int(value) for key, value in tag.items()}
                    work.runs.append(run)
        work.sums.append(totals)
        work.tags.append({
            "tiles": tiles,
            "row_tiles": job.row_tiles - 1,
            "n_last": int(slot == len(job.tiles) - 1),
            "r_last": 1,
            "b_take": int(slot % 2 == 0),
            "b_give": int(slot % 2 == 1),
        })  # fmt: skip
    return work


class _Scales:
    """The scales of a run and tile.

    Attributes
    ----------
    values
        Integers [term][lane], the offset as the last term.
    lines
        As they lie in the buffer.
    """

    def __init__(self, source: random.Random, job: Job) -> None:
        config, layer = job.config, job.layer
        terms = layer.entries + layer.offset
        coded = [
            [draw_scale(source, layer.wide) for _ in range(config.lanes)] for _ in range(terms)
        ]
        self.values = [[scale_value(words) for words in term] for term in coded]
        self.lines = []
        s = config.scale_lanes
        for entry in range(layer.entries):
            visited = [entry]
            if entry == layer.entries - 1 and layer.offset:
                visited.append(layer.entries)
            for chunk in range(config.chunks):
                for term in visited:
                    part = coded[term][chunk * s : chunk * s + s]
                    for word in range(2 if layer.wide else 1):
                        line = sum(codes[word] << 16 * lane for lane, codes in enumerate(part))
                        self.lines.append(line)


def draw_scale(source: random.Random, wide: bool) -> list[int]:
    """The 16-bit words of a scale: a float16, or the high and the low word of a wide one."""
    if not wide:
        if source.random() < 0.3:
            return [source.choice(_NOTABLE_HALVES)]
        return [source.randrange(31) << 10 | source.getrandbits(10) | source.getrandbits(1) << 15]
    significand = source.choice([0, 1, 0xFFFF, 0x10000, 0xFFFFFF, source.getrandbits(24)])
    shift = source.choice([0, 16, source.randrange(17)])
    negative = source.getrandbits(1)
    return [significand >> 16 | shift << 8 | negative << 15, significand & 0xFFFF]


def scale_value(words: Sequence[int]) -> int:
    """What the words of a scale count, as an integer: a float16 in units of 2^-24."""
    if len(words) == 1:
        return int(np.ldexp(np.uint16(words[0]).view(np.float16).astype(np.float64), _UNIT))
    high, low = words
    value = ((high & 0xFF) << 16 | low) << (high >> 8 & 31)
    return -value if high >> 15 else value


def _draw_run(
    source: random.Random,
    job: Job,
    scales: list[_Scales],
    rows: int,
    row_tile: int,
    totals: dict[tuple[int, int], int],
) -> Run:
    """A run for some tiles; adds its part to T."""
    config, layer = job.config, job.layer
    a = draw_activations(source, config, (config.rows, job.columns))
    numbers = np.random.default_rng(source.getrandbits(64))
    accumulators = []
    base = row_tile * job.words(len(scales))
    for tile, of_tile in enumerate(scales):
        top = (1 << layer.planes) - 1
        q = numbers.integers(0, top + 1, (config.lanes, job.columns))
        if source.random() < 0.3:
            q[:] = source.choice([0, top])
        bits = q >> np.arange(layer.planes)[:, None, None] & 1  # [plane, lane, column]
        signed_dots = (2 * bits - 1) @ a.T  # [plane, lane, row]
        dots = signed_dots if config.symmetric else bits @ a.T
        if layer.per_plane:
            accumulators += [plane.reshape(-1) for plane in dots]
        else:
            weights = 1 << np.arange(layer.planes)
            accumulators.append(np.tensordot(weights, dots, 1).reshape(-1))
        asums, whole = a.sum(axis=1), q @ a.T
        for n in range(config.lanes):
            chunk, lane = divmod(n, config.scale_lanes)
            c = [term[n] for term in of_tile.values]
            for row in range(rows):
                word = base + (tile * config.chunks + chunk) * config.rows + row
                planes = [int(dot) for dot in signed_dots[:, n, row]]
                part = _weigh(layer, c, planes, int(whole[n, row]), int(asums[row]))
                totals[word, lane] = totals.get((word, lane), 0) + part
    return Run({}, [int(total) for total in a.sum(axis=1)], np.array(accumulators))


def _weigh(layer: Layer, c: list[int], planes: list[int], dot: int, asum: int) -> int:
    """A group's part of T, from its definition; without an offset codes count from their middle."""
    if layer.per_plane:
        total = sum(scale * plane for scale, plane in zip(c, planes, strict=False))
        return total + (c[-1] * asum if layer.offset else 0)
    offset = c[1] if layer.offset else -(1 << layer.planes - 1) * c[0]
    return c[0] * dot + offset * asum
