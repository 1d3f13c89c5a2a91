"""The scale unit against the definition of a layer's exact sum, in integers."""

import random
from typing import Any

import pytest
from stream_bench import Filler, get, pause, put, signed_of, simulate, until

from lutcore.hw.compute.scale import ScaleUnit, TermLane
from lutcore.hw.contract.config import CoreConfig
from lutcore.verif.oracles.scale import Job, Layer, draw_scale, draw_work, scale_value

# The lane -------------------------------------------------------------------------------------


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
        words = draw_scale(rng, bool(wide))
        lines = [(words[0], 0, scale_value([words[0], 0] if wide else words) * value)]
        if wide:
            lines.append((words[1], 1, scale_value(words) * value - lines[0][2]))
        for coefficient, low_half, term in lines:
            while rng.random() < 0.3:
                slots.append(None)
                expected.append(None)
            slots.append({"coefficient": coefficient, "low": low_half, **shared})
            expected.append(term)
    results: list[int] = []

    async def bench(ctx):
        ctx.set(dut.wide, wide)
        ctx.set(dut.halve, mode == "halve")
        ctx.set(dut.double, mode == "double")
        for cycle in range(len(slots) + dut.latency):
            now = slots[cycle] if cycle < len(slots) else None
            before = slots[cycle - 1] if 0 < cycle <= len(slots) else None
            ctx.set(dut.valid, now is not None)
            ctx.set(dut.coefficient, now["coefficient"] if now else rng.getrandbits(16))
            kind = (now["low"], now["offset"]) if now else (rng.getrandbits(1), rng.getrandbits(1))
            ctx.set(dut.kind, {"low": kind[0], "offset": kind[1]})
            if before:
                for name in ("accumulator", "addend", "asum"):
                    ctx.set(getattr(dut, name), before[name])
            if cycle >= dut.latency:
                results.append(ctx.get(dut.term))
            await ctx.tick()

    simulate(dut, bench)
    for cycle, (got, want) in enumerate(zip(results, expected, strict=True)):
        assert want is None or got == want, f"cycle {cycle}"


# The unit -------------------------------------------------------------------------------------


class OperandError(Exception):
    """The unit has reported one."""


def check_job(job: Job, seed: str, pressure: float) -> None:
    """Run a job on the unit; compare every sum that FINAL can read."""
    config, layer = job.config, job.layer
    rng = random.Random(seed)
    work = draw_work(rng, job)
    dut: Any = ScaleUnit(config)
    fillings = work.fillings(dut.lines_per_word, dut.line_bits)
    tokens = dut.s.available, dut.s.take, dut.s.give
    scales = Filler(dut.buffer, tokens, fillings, rng, 1 - pressure)

    async def runs(ctx):
        for name in ("planes", "per_plane", "offset", "wide"):
            ctx.set(getattr(dut.layer, name), int(getattr(layer, name)))
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for run in work.runs:
            await pause(ctx, rng, pressure)
            await put(ctx, dut.i, {"tag": run.tag, "sums": run.asums})

    async def array(ctx):
        for run in work.runs:
            for sums in run.accumulators:
                ctx.set(dut.acc_valid, 0)
                await pause(ctx, rng, pressure)
                ctx.set(dut.acc_sums, sums.tolist())
                ctx.set(dut.acc_valid, 1)
                await until(ctx, dut.acc_pop)
        ctx.set(dut.acc_valid, 0)

    async def final(ctx):
        for number, (tag, totals) in enumerate(zip(work.tags, work.sums, strict=True)):
            got = await get(ctx, dut.o)
            assert {name: got[name] for name in tag} == tag
            assert got.slot == number % 2
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
