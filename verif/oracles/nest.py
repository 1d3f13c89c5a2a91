"""MMA instructions for TABLE: random ones, what the unit refuses, and all that leaves it."""

import random
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.contract.isa import LOOP_LEVELS, Axis
from lutcore.hw.contract.loops import Body, Loop, walk
from lutcore.hw.contract.ternary import GROUP
from lutcore.verif.oracles.table import draw_activations, signs_of, step_columns, tables_of

__all__ = ["SHAPES", "Block", "Case", "Work", "body_payload", "draw_case", "draw_work", "refused"]

N, K, R = Axis.N, Axis.K, Axis.R
#: How the loops use the activation slots.
SHAPES = ("no loops", "resident", "streamed", "pieces", "rows innermost", "random")
#: Bodies of an instruction at most.
BODIES = 14


@dataclass(frozen=True)
class Case:
    """An MMA instruction and the layer that it works on; levels are those of w, s, x and t."""

    config: CoreConfig
    loops: tuple[Loop, ...]
    levels: tuple[int, int, int, int]
    group_size: int
    last_rows: int = 1
    bias: bool = False
    ternary: bool = False
    planes: int = 1
    per_plane: bool = False

    @cached_property
    def bodies(self) -> list[Body]:
        """The bodies of the nest."""
        return list(walk(self.loops))

    @property
    def entries_per_tile(self) -> int:
        """Accumulators of a tile."""
        return self.planes if self.per_plane else 1

    def runs(self, k: int) -> list[int]:
        """Places of each run of a body of k places."""
        return [min(self.group_size, k - start) for start in range(0, k, self.group_size)]

    def words(self, k: int) -> int:
        """Words of the buffer that a body of k places takes."""
        per_step = GROUP if self.ternary else self.config.group
        steps = sum(ceil_div(run, self.config.step) for run in self.runs(k))
        items = self.config.x_header_words + steps * per_step
        return ceil_div(items, self.config.x_items)


def body_payload(body: Body) -> dict[str, int]:
    """A body as the unit's port takes it."""
    values = dict(vars(body))
    for flags in ("first", "last"):
        values[flags] = sum(flag << level for level, flag in enumerate(values[flags]))
    return {name: int(value) for name, value in values.items()}


def refused(case: Case, body: Body) -> bool:
    """Whether the unit must report a body as one that it cannot execute."""
    config, t_level = case.config, case.levels[3]
    over_rows = body.inner_r and body.inner > t_level
    last_rows = not over_rows or body.last[body.inner - 1]
    return (
        body.k > config.weight_words * config.step
        or min(body.k, case.group_size) > config.run
        or body.n * case.entries_per_tile > config.tiles
        or (last_rows and body.last[t_level] != body.k_last)
    )


class Block:
    """The activations of one body and its image in the buffer.

    Attributes
    ----------
    scales
        Bits of each row's scale.
    runs
        For each run its steps, int64 [steps, rows, columns], zeros past its end.
    places
        Places of each run.
    words
        Of the buffer.
    """

    def __init__(self, case: Case, k: int, source: random.Random) -> None:
        config = case.config
        columns = step_columns(config, case.ternary)
        self.scales = [source.getrandbits(32) for _ in range(config.rows)]
        self.places = case.runs(k)
        self.runs = []
        for places in self.places:
            # Trits come in whole groups of three, for five places of index bits.
            used = ceil_div(places, config.group) * GROUP if case.ternary else places
            steps = ceil_div(places, config.step)
            run = np.zeros((config.rows, steps * columns), np.int64)
            run[:, :used] = draw_activations(source, config, (config.rows, used))
            self.runs.append(run.reshape(config.rows, steps, columns).swapaxes(0, 1))
        header = sum(scale << 32 * row for row, scale in enumerate(self.scales))
        mask = (1 << config.x_word_bits) - 1
        items = [
            header >> word * config.x_word_bits & mask for word in range(config.x_header_words)
        ]
        for run in self.runs:
            for step in run:
                items += _items(config, step)
        per_word = config.x_items
        self.words = [
            sum(item << i * config.x_word_bits for i, item in enumerate(items[at : at + per_word]))
            for at in range(0, len(items), per_word)
        ]


def _items(config: CoreConfig, step: np.ndarray) -> list[int]:
    """Items of the buffer of a step [rows, columns]: one activation for every table each."""
    bits = config.activation_bits
    tables = step.reshape(config.rows * config.depth, -1)
    return [
        sum((int(a) & (1 << bits) - 1) << t * bits for t, a in enumerate(column))
        for column in tables.T
    ]


@dataclass
class Work:
    """What the unit reads for a case, and what leaves it.

    Attributes
    ----------
    blocks
        Activations of each body; bodies at one place of a filling share them.
    fillings
        For each time that a slot of the activation buffer is filled, its words.
    sets
        Tag and tables of each set.
    runs
        Tag and sums of activations of each run.
    rows
        Row scales of each finished row tile.
    """

    blocks: list[Block] = field(default_factory=list)
    fillings: list[list[int]] = field(default_factory=list)
    sets: list[tuple[dict[str, int], np.ndarray]] = field(default_factory=list)
    runs: list[tuple[dict[str, int], list[int]]] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)


def draw_work(case: Case, source: random.Random) -> Work:
    """Random activations for an instruction, and all outputs that they give."""
    work = Work()
    contents: dict[tuple[int, int], Block] = {}
    for body in case.bodies:
        if body.first[case.levels[2]]:
            work.fillings.append([])
        key = len(work.fillings), body.address
        if key not in contents:
            words = work.fillings[-1]
            if body.address != len(words):
                raise ValueError(f"a body at {body.address} does not follow {len(words)} words")
            contents[key] = Block(case, body.k, source)
            words += contents[key].words
        work.blocks.append(contents[key])
    _expect(case, work)
    return work


def _expect(case: Case, out: Work) -> None:
    """All outputs for an instruction whose bodies work on the blocks."""
    config = case.config
    w, s, _, t = case.levels
    for body, block in zip(case.bodies, out.blocks, strict=True):
        if body.k_last:
            out.rows.append(block.scales)
        for number, (run, places) in enumerate(zip(block.runs, block.places, strict=True)):
            first, last = number == 0, number == len(block.runs) - 1
            for index, step in enumerate(run):
                start, end = index == 0, index == len(run) - 1
                tag = {
                    "last_entry": body.n * case.entries_per_tile - 1,
                    "one_entry": body.n * case.entries_per_tile == 1,
                    "run_first": start,
                    "run_last": end,
                    "body_first": first and start,
                    "w_take": first and start and body.first[w],
                    "w_give": last and end and body.last[w],
                    "signs": signs_of(config, places - index * config.step),
                }
                tables = tables_of(config, step, case.ternary)
                out.sets.append(({key: int(value) for key, value in tag.items()}, tables))
            inner_rows = body.inner_r and body.inner > t
            tag = {
                "tiles": body.n,
                "rows": case.last_rows if body.r_last else config.rows,
                "body_first": first,
                "s_take": first and body.first[s],
                "s_give": last and body.last[s],
                "t_take": first and body.first[t],
                "t_give": last and body.last[t],
                "t_first": first and body.k_first,
                "t_zero": not inner_rows or body.index == 0,
                "b_take": case.bias and first and body.first[t] and body.first[w],
                "b_give": case.bias and last and body.last[t] and body.last[w],
                "n_last": body.n_last,
                "r_last": body.r_last,
            }
            sums = [int(total) for total in run.sum(axis=(0, 2))]
            out.runs.append(({key: int(value) for key, value in tag.items()}, sums))


def draw_case(source: random.Random, config: CoreConfig, shape: str) -> Case:
    """A random instruction that the unit executes, of a shape of `SHAPES`."""
    while True:
        case = _draw(source, config, shape)
        bodies = case.bodies
        steps = sum(ceil_div(run, config.step) for body in bodies for run in case.runs(body.k))
        fits = all(body.address + case.words(body.k) <= config.x_slot_words for body in bodies)
        short = 0 < len(bodies) <= BODIES and steps * config.entries <= 1500
        if short and fits and not any(refused(case, body) for body in bodies):
            return case


def _draw(source: random.Random, config: CoreConfig, shape: str) -> Case:
    unit = config.group
    ternary = config.ternary and source.random() < 0.6

    def places(most: int) -> int:
        """Places of K; of ternary weights whole groups."""
        count = source.randint(1, max(1, most))
        return ceil_div(count, unit) * unit if ternary else count

    group_size = min(
        places(source.choice([unit, config.step, 2 * config.step + 1, config.run])), config.run
    )
    if ternary:
        group_size = max(unit, group_size // unit * unit)
    k = places(source.choice([1, config.step, 3 * config.step]))
    planes, per_plane = source.randint(1, config.planes), bool(ternary or source.getrandbits(1))
    planes = 1 if ternary else planes
    most = config.tiles // planes if per_plane else config.tiles
    tiles = source.choice([1, most, source.randint(1, most)])
    n, r = Loop(N, source.randint(1, 2 * tiles), tiles), source.randint(1, 3)
    probe = Case(config, (), (0, 0, 0, 0), group_size, ternary=ternary)
    x, t = 0, 0
    loops: tuple[Loop, ...] = ()
    if shape == "no loops":
        k = 1
        group_size = unit if ternary else group_size
    if shape == "resident":
        loops, x, t = (n, Loop(R, r, 1, probe.words(k)), Loop(K, k, k)), 0, 2
    elif shape == "streamed":
        split = (Loop(R, r, 2), Loop(K, k, places(k)), Loop(R, 0, 1))
        loops, x, t = (n, *split), 4, 2
    elif shape == "pieces":
        outer, inner = 4 * config.step, 2 * config.step
        total = inner + places(outer + config.step)
        split = (Loop(R, r, 2), Loop(K, total, outer), Loop(K, 0, inner), Loop(R, 0, 1))
        loops, x, t, group_size = (n, *split), 5, 2, min(outer, config.run)
        if ternary:
            group_size = max(unit, group_size // unit * unit)
    elif shape == "rows innermost":
        loops, x, t = (n, Loop(K, k, k), Loop(R, r, 1)), 2, 3
        loops = (n, Loop(K, k, k), Loop(R, r, 1, probe.words(k)))
    elif shape == "random":
        axes = source.choices([N, K, R], k=source.randint(1, LOOP_LEVELS))
        totals = {N: n.total, K: k, R: r}
        steps = {N: lambda: tiles, K: lambda: places(k), R: lambda: source.randint(1, 2)}
        loops = tuple(Loop(axis, totals[axis], steps[axis]()) for axis in axes)
        x, t = len(loops), source.randint(0, len(loops))
    w, s = source.randint(0, len(loops)), source.randint(0, len(loops))
    last_rows = source.choice([1, config.rows, source.randint(1, config.rows)])
    bias = source.random() < 0.5
    levels = w, s, x, t
    kind = bias, ternary, planes, per_plane
    return Case(config, loops, levels, group_size, last_rows, *kind)
