"""The scale unit against the definition of a layer's exact sum, in integers."""

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from stream_bench import Filler, get, pause, put, signed_of, simulate, until

from lutcore.hw.compute.scale import ScaleUnit, TermLane
from lutcore.hw.contract.config import CoreConfig

#: float16 numbers count units of 2^-24.
UNIT = 24
NOTABLE_HALVES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00]


def half_value(code: int) -> int:
    """A float16 number as an integer."""
    return int(np.ldexp(np.uint16(code).view(np.float16).astype(np.float64), UNIT))


def random_half(rng: random.Random) -> int:
    if rng.random() < 0.3:
        return rng.choice(NOTABLE_HALVES)
    return rng.randrange(31) << 10 | rng.getrandbits(10) | rng.getrandbits(1) << 15


def random_wide(rng: random.Random) -> tuple[int, int]:
    """High and low line of a wide scale."""
    significand = rng.choice([0, 1, 0xFFFF, 0x10000, 0xFFFFFF, rng.getrandbits(24)])
    shift = rng.choice([0, 16, rng.randrange(17)])
    return significand >> 16 | shift << 8 | rng.getrandbits(1) << 15, significand & 0xFFFF


def wide_value(high: int, low: int) -> int:
    value = ((high & 0xFF) << 16 | low) << (high >> 8 & 31)
    return -value if high >> 15 else value


# The lane -------------------------------------------------------------------------------------


@dataclass
class Line:
    """One line of one lane; ``terms`` is what it and those before it of the same scale add."""

    coefficient: int
    value: int
    low: int = 0
    offset: int = 0


@pytest.mark.parametrize("mode", ["halve", "plain", "double"])
@pytest.mark.parametrize("wide", [0, 1])
def test_term_lane(wide: int, mode: str) -> None:
    """c · v for scales and offsets; the lines of a wide scale may come with gaps."""
    config = CoreConfig(rows=1, lanes=8, group=4, depth=1, planes=8, run=4096)
    dut: Any = TermLane(config)
    rng = random.Random(f"{wide} {mode}")
    reach = 1 << config.acc_width - 1
    asum_reach = 1 << config.asum_width - 1
    slots: list[dict | None] = []  # what enters in each cycle
    expected: list[int | None] = []
    for _ in range(400):
        offset = rng.getrandbits(1)
        accumulator = rng.choice([-reach, reach - 1, rng.randrange(-reach, reach)])
        asum = rng.choice([-asum_reach, asum_reach - 1, rng.randrange(-asum_reach, asum_reach)])
        addend = rng.randrange(-reach, reach)
        if mode == "halve":
            addend += (accumulator + addend) & 1
            value = (accumulator + addend) // 2
        elif mode == "plain":
            addend = 0
            value = accumulator
        else:
            accumulator >>= 2
            addend >>= 2
            value = 2 * accumulator + addend
        value = asum if offset else value
        shared = {"offset": offset, "accumulator": accumulator, "asum": asum, "addend": addend}
        if wide:
            high, low = random_wide(rng)
            whole = wide_value(high, low)
            part = wide_value(high, 0)
            lines = [(high, 0, part * value), (low, 1, (whole - part) * value)]
        else:
            half = random_half(rng)
            lines = [(half, 0, half_value(half) * value)]
        for coefficient, low_half, term in lines:
            while rng.random() < 0.3:
                slots.append(None)
                expected.append(None)
            slots.append({"coefficient": coefficient, "low": low_half, **shared})
            expected.append(term)
    results: list[int] = []
    latency = 5  # from cycle 1 to cycle 6

    async def bench(ctx):
        ctx.set(dut.wide, wide)
        ctx.set(dut.halve, mode == "halve")
        ctx.set(dut.double, mode == "double")
        for cycle in range(len(slots) + latency):
            now = slots[cycle] if cycle < len(slots) else None
            before = slots[cycle - 1] if 0 < cycle <= len(slots) else None
            ctx.set(dut.valid, now is not None)
            ctx.set(dut.coefficient, now["coefficient"] if now else rng.getrandbits(16))
            kind = (now["low"], now["offset"]) if now else (rng.getrandbits(1), rng.getrandbits(1))
            ctx.set(dut.kind, {"low": kind[0], "offset": kind[1]})
            if before:
                for name in ("accumulator", "addend", "asum"):
                    ctx.set(getattr(dut, name), before[name])
            if cycle >= latency:
                results.append(ctx.get(dut.term))
            await ctx.tick()

    simulate(dut, bench)
    for cycle, (got, want) in enumerate(zip(results, expected, strict=True)):
        assert want is None or got == want, f"cycle {cycle}"


# The unit -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """What LAYER says."""

    planes: int
    per_plane: bool = False
    offset: bool = False
    wide: bool = False

    @property
    def entries(self) -> int:
        return self.planes if self.per_plane else 1


@dataclass(frozen=True)
class Job:
    """Blocks of K for several sum slots, in the order of MMA.

    For each slot, for each of its blocks of K (as many runs each), for each row tile: the runs.
    """

    config: CoreConfig
    layer: Layer
    tiles: tuple[int, ...]  # of each slot
    row_tiles: int = 1
    blocks: tuple[int, ...] = (2,)
    last_rows: int = 1
    columns: int = 16


@dataclass
class Run:
    """A run as it comes from TABLE, with what ARRAY gives for it."""

    tag: dict
    asums: list[int]
    accumulators: list[list[int]]  # [entry][lane * rows + row]


@dataclass
class Plan:
    """Inputs and expected outputs of a job."""

    runs: list[Run] = field(default_factory=list)
    scale_slots: list[list[int]] = field(default_factory=list)  # lines of each filling
    tags: list[dict] = field(default_factory=list)
    sums: list[dict] = field(default_factory=list)  # [slot]: (word, lane) -> T


def plan(job: Job, rng: random.Random) -> Plan:
    """Random weights, activations and scales; T from the definition of the layer."""
    config, layer, out = job.config, job.layer, Plan()
    lanes, s = config.lanes, config.scale_lanes
    high = (1 << config.activation_bits - 1) - 1

    def scale() -> tuple[list[int], int]:
        """The lines of a scale for one lane, and its value."""
        if layer.wide:
            pair = random_wide(rng)
            return list(pair), wide_value(*pair)
        code = random_half(rng)
        return [code], half_value(code)

    for slot, tiles in enumerate(job.tiles):
        totals: dict[tuple[int, int], int] = {}
        for block, count in enumerate(job.blocks):
            # Scales: [run][tile][term][lane], the offset as the last term.
            terms = layer.entries + layer.offset
            scales = [
                [[[scale() for _ in range(lanes)] for _ in range(terms)] for _ in range(tiles)]
                for _ in range(count)
            ]
            lines = []
            for of_run in scales:
                for of_tile in of_run:
                    for entry in range(layer.entries):
                        last = entry == layer.entries - 1
                        visited = [entry, layer.entries] if last and layer.offset else [entry]
                        for chunk in range(config.chunks):
                            for term in visited:
                                for word in range(2 if layer.wide else 1):
                                    part = of_tile[term][chunk * s : chunk * s + s]
                                    codes = [code[word] for code, _ in part]
                                    lines.append(sum(c << 16 * i for i, c in enumerate(codes)))
            out.scale_slots.append(lines)
            for row_tile in range(job.row_tiles):
                last_tile = row_tile == job.row_tiles - 1
                rows = job.last_rows if last_tile else config.rows
                for run in range(count):
                    first, last = run == 0, run == count - 1
                    first_block, last_block = block == 0, block == len(job.blocks) - 1
                    extreme = rng.random() < 0.3
                    a = [
                        [-high - 1 if extreme else rng.randint(-high - 1, high)
                         for _ in range(job.columns)]
                        for _ in range(config.rows)
                    ]  # fmt: skip
                    asums = [sum(row) for row in a]
                    accumulators = []
                    for tile in range(tiles):
                        q = [
                            [(1 << layer.planes) - 1 if extreme else rng.getrandbits(layer.planes)
                             for _ in range(job.columns)]
                            for _ in range(lanes)
                        ]  # fmt: skip
                        accumulators += _accumulate(config, layer, q, a)
                        for n in range(lanes):
                            chunk, lane = divmod(n, s)
                            cs = [scales[run][tile][term][n][1] for term in range(terms)]
                            for row in range(rows):
                                base = row_tile * job_words(job, tiles)
                                word = base + (tile * config.chunks + chunk) * config.rows + row
                                total = _weigh(layer, cs, q[n], a[row])
                                totals[word, lane] = totals.get((word, lane), 0) + total
                    tag = {
                        "tiles": tiles,
                        "rows": rows,
                        "body_first": first,
                        "s_take": first and row_tile == 0,
                        "s_give": last and last_tile,
                        "t_take": first and first_block and row_tile == 0,
                        "t_give": last and last_block and last_tile,
                        "t_first": first and first_block,
                        "t_zero": row_tile == 0,
                        "b_take": first and first_block and row_tile == 0 and slot % 2 == 0,
                        "b_give": last and last_block and last_tile and slot % 2 == 1,
                        "n_last": slot == len(job.tiles) - 1,
                        "r_last": last_tile,
                    }
                    out.runs.append(Run(tag, asums, accumulators))
        out.sums.append(totals)
        out.tags.append({
            "slot": slot % 2,
            "tiles": tiles,
            "row_tiles": job.row_tiles - 1,
            "n_last": slot == len(job.tiles) - 1,
            "r_last": 1,
            "b_take": slot % 2 == 0,
            "b_give": slot % 2 == 1,
        })  # fmt: skip
    return out


def job_words(job: Job, tiles: int) -> int:
    """Words of a row tile's sums."""
    return tiles * job.config.chunks * job.config.rows


def _dots(planes: int, q: list[int], a: list[int], low: int) -> list[int]:
    """Per plane, the sum of activations with factor 1 where the bit is set, else ``low``."""
    return [
        sum(x if code >> p & 1 else low * x for code, x in zip(q, a, strict=True))
        for p in range(planes)
    ]


def _accumulate(config: CoreConfig, layer: Layer, q: list, a: list) -> list[list[int]]:
    """What the array's accumulators hold for a tile: [entry][lane * rows + row]."""
    low = -1 if config.symmetric else 0
    dots = [[_dots(layer.planes, codes, row, low) for row in a] for codes in q]
    if layer.per_plane:
        return [
            [dots[n][row][p] for n in range(config.lanes) for row in range(config.rows)]
            for p in range(layer.planes)
        ]
    weighted = [
        sum(dot << p for p, dot in enumerate(dots[n][row]))
        for n in range(config.lanes)
        for row in range(config.rows)
    ]
    return [weighted]


def _weigh(layer: Layer, scales: list[int], q: list[int], a: list[int]) -> int:
    """A group's part of T, from the definition in docs/numerics.md."""
    asum = sum(a)
    if layer.per_plane:
        signs = _dots(layer.planes, q, a, -1)
        total = sum(alpha * dot for alpha, dot in zip(scales, signs, strict=False))
        return total + (scales[-1] * asum if layer.offset else 0)
    dot = sum(code * x for code, x in zip(q, a, strict=True))
    offset = scales[1] if layer.offset else -(1 << layer.planes - 1) * scales[0]
    return scales[0] * dot + offset * asum


class OperandError(Exception):
    """The unit has reported one."""


def check_job(job: Job, seed: str, pressure: float) -> None:
    """Run a job on the unit; compare every sum that FINAL can read."""
    config, layer = job.config, job.layer
    rng = random.Random(seed)
    planned = plan(job, rng)
    dut: Any = ScaleUnit(config)
    per = dut.lines_per_word
    fillings = [
        [
            sum(line << i * dut.line_bits for i, line in enumerate(lines[at : at + per]))
            for at in range(0, len(lines), per)
        ]
        for lines in planned.scale_slots
    ]
    tokens = dut.s_available, dut.s_take, dut.s_give
    scales = Filler(dut.buffer, tokens, fillings, rng, 1 - pressure)

    async def runs(ctx):
        for name in ("planes", "per_plane", "offset", "wide"):
            ctx.set(getattr(dut.layer, name), int(getattr(layer, name)))
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for run in planned.runs:
            await pause(ctx, rng, pressure)
            await put(ctx, dut.i, {"tag": run.tag, "sums": run.asums})

    async def array(ctx):
        for run in planned.runs:
            for sums in run.accumulators:
                ctx.set(dut.acc_valid, 0)
                await pause(ctx, rng, pressure)
                ctx.set(dut.acc_sums, sums)
                ctx.set(dut.acc_valid, 1)
                await until(ctx, dut.acc_pop)
        ctx.set(dut.acc_valid, 0)

    async def final(ctx):
        for number, (tag, totals) in enumerate(zip(planned.tags, planned.sums, strict=True)):
            got = await get(ctx, dut.o)
            assert {name: got[name] for name in tag} == tag
            ctx.set(dut.sum_slot, got.slot)
            for word in sorted({word for word, _ in totals}):
                await pause(ctx, rng, pressure)
                ctx.set(dut.sum_word, word)
                ctx.set(dut.sum_enable, 1)
                await ctx.tick()
                ctx.set(dut.sum_enable, 0)
                data = ctx.get(dut.sum_data)
                for lane in range(config.scale_lanes):
                    value = signed_of(data[lane], config.sum_width)
                    assert value == totals[word, lane], f"slot {number}, word {word}, lane {lane}"
            ctx.set(dut.freed, 1)
            await ctx.tick()
            ctx.set(dut.freed, 0)

    async def watch(ctx):
        while True:
            _, _, error = await ctx.tick().sample(dut.operand_error)
            if error:
                raise OperandError

    simulate(dut, runs, array, final, background=(scales.run, watch))
    scales.assert_all_given_back()


LAYERS = [
    Layer(planes=4, offset=True),
    Layer(planes=3),
    Layer(planes=3, per_plane=True),
    Layer(planes=2, per_plane=True, offset=True),
    Layer(planes=4, offset=True, wide=True),
    Layer(planes=1, wide=True),
    Layer(planes=2, per_plane=True, offset=True, wide=True),
]
SHAPE: dict[str, Any] = {
    "rows": 2,
    "lanes": 8,
    "group": 2,
    "depth": 2,
    "planes": 4,
    "scale_lanes": 4,
}


@pytest.mark.parametrize("form", ["symmetric", "full"])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_sums(layer: Layer, form: str) -> None:
    """Every kind of layer: tiles, planes, chunks, rows, row tiles, blocks of K, both slots."""
    config = CoreConfig(**SHAPE, table_form=form, bus_width=128)
    job = Job(config, layer, tiles=(2, 2, 1), row_tiles=2, blocks=(2, 1), last_rows=1)
    check_job(job, f"{layer} {form}", pressure=0.3)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("chunks", [1, 2])
def test_the_same_sums_at_the_smallest_distance(rows: int, chunks: int, layer: Layer) -> None:
    """Everything there in time: a sum is read again as soon as the unit dares to."""
    config = CoreConfig(
        rows=rows, lanes=8, group=2, depth=2, planes=4, scale_lanes=8 // chunks, bus_width=32
    )
    job = Job(config, layer, tiles=(1,), blocks=(5,), last_rows=rows)
    check_job(job, f"{rows} {chunks} {layer}", pressure=0)


def test_sums_beyond_the_buffer() -> None:
    """More row tiles than the slot has words for are an error, before anything is overwritten."""
    config = CoreConfig(**SHAPE, bus_width=64, sum_words=8)
    job = Job(config, LAYERS[0], tiles=(1,), row_tiles=3, blocks=(1,), last_rows=2)
    with pytest.raises(OperandError):
        check_job(job, "beyond", pressure=0)
    check_job(
        Job(config, LAYERS[0], tiles=(1,), row_tiles=2, blocks=(1,), last_rows=2),
        "within",
        pressure=0,
    )
