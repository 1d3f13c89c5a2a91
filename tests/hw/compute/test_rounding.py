"""The finaliser's hardware against its reference, bit for bit."""

import random
from dataclasses import dataclass

import numpy as np
import pytest
from amaranth.back import verilog
from amaranth.sim import Simulator

from lutcore.hw.compute.rounding import Finaliser
from lutcore.hw.contract.float32 import (
    EXPONENT_MAX,
    EXPONENT_MIN,
    NO_BIAS,
    finalise,
    row_scale_encode,
)

ONE = int(row_scale_encode(np.float32(1)))
SIGN = 0x8000_0000
NOTABLE_BITS = [0, 1, 0x7F_FFFF, 0x80_0000, 0x3F80_0000, 0x7F7F_FFFF, 0x7F80_0000, 0x7FFF_FFFF]


@dataclass(frozen=True)
class Item:
    """Inputs of one result; a bias of None is no addition."""

    total: int
    exponent: int
    row: int = ONE
    bias: int | None = None


def expected(items: list[Item]) -> list[int]:
    return finalise(
        [item.total for item in items],
        [item.exponent for item in items],
        [item.row for item in items],
        [NO_BIAS if item.bias is None else item.bias for item in items],
    ).tolist()


def simulate(
    items: list[Item], *, sum_width: int, rng: random.Random, holds: bool = True
) -> list[int]:
    """Results for `items`, fed one per cycle; with `holds`, with gaps and with `en` low at times.

    Checks tags, order and latency on the way.
    """
    dut = Finaliser(sum_width=sum_width, tag_width=8)
    results: list[int] = []
    entered: list[int] = []  # the enabled cycle in which each item was taken

    async def bench(ctx):
        given = cycle = 0
        while len(results) < len(items):
            enable = not holds or rng.random() < 0.9
            valid = given < len(items) and (not holds or rng.random() < 0.9)
            item = (
                items[given]
                if valid
                else Item(rng.getrandbits(sum_width - 1), 0, rng.getrandbits(32))
            )
            ctx.set(dut.en, enable)
            ctx.set(dut.i_valid, valid)
            ctx.set(dut.i_sum, item.total)
            ctx.set(dut.i_exp, item.exponent)
            ctx.set(dut.i_row, item.row)
            # Bits beside a low i_use_bias must not matter.
            ctx.set(dut.i_bias, rng.getrandbits(32) if item.bias is None else item.bias)
            ctx.set(dut.i_use_bias, item.bias is not None)
            ctx.set(dut.i_tag, given & 255)
            if enable:
                if ctx.get(dut.o_valid):
                    assert ctx.get(dut.o_tag) == len(results) & 255
                    assert cycle - entered[len(results)] == dut.latency
                    results.append(ctx.get(dut.o_y))
                if valid:
                    entered.append(cycle)
                    given += 1
                cycle += 1
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return results


def check(items: list[Item], **kwargs) -> None:
    results = simulate(items, **kwargs)
    wrong = [
        f"{item}: {result:#010x}, not {bits:#010x}"
        for item, result, bits in zip(items, results, expected(items), strict=True)
        if result != bits
    ]
    assert not wrong, "\n".join(wrong[:10])


def in_range(total: int, sum_width: int) -> int:
    return min(max(total, -(1 << sum_width - 1)), (1 << sum_width - 1) - 1)


def random_item(rng: random.Random, sum_width: int) -> Item:
    """Every magnitude alike, and often near a power of two or near a tie."""
    place = rng.randrange(sum_width)
    total = rng.choice(
        [
            rng.getrandbits(place),
            (1 << place) + rng.randrange(-2, 3),
            ((rng.getrandbits(24) * 2 + 1) << place) + rng.randrange(-1, 2),
            -1 << sum_width,
        ]
    )
    total = in_range(total * rng.choice([1, -1]), sum_width)
    exponent = rng.choice(
        [
            rng.randint(EXPONENT_MIN, EXPONENT_MAX),
            rng.randint(-sum_width, 0),
            EXPONENT_MIN,
            EXPONENT_MAX,
        ]
    )
    # Results over the whole float32 range, and past both of its ends.
    scale = min(max(rng.randint(-160, 130) - exponent - place, -149), 511 - 149) + 149
    row = rng.choice([ONE, rng.getrandbits(32), scale << 23 | rng.getrandbits(23)])
    return Item(total, exponent, row)


def with_bias(rng: random.Random, item: Item) -> Item:
    """A bias of any kind, most often one that meets the scaled sum."""
    scaled = int(finalise(item.total, item.exponent, item.row))
    bias = rng.choice(
        [
            None,
            rng.getrandbits(32),
            rng.choice(NOTABLE_BITS) | rng.choice([0, SIGN]),
            (scaled ^ SIGN) + (rng.randint(-3, 3) << rng.choice([0, 12, 23])),
            (scaled ^ SIGN) + rng.randint(-3, 3),
            scaled + (rng.randint(-28, 28) << 23) + rng.getrandbits(23),
            (scaled ^ SIGN) + (rng.randint(-28, 28) << 23),
        ]
    )
    return Item(item.total, item.exponent, item.row, None if bias is None else bias & 0xFFFF_FFFF)


@pytest.mark.parametrize(
    ("sum_width", "count"), [(72, 4000), (2, 500), (33, 1000), (65, 1000), (128, 1000)]
)
def test_random(sum_width, count):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    items = [with_bias(rng, random_item(rng, sum_width)) for _ in range(count)]
    check(items, sum_width=sum_width, rng=rng)


def test_first_rounding_extremes():
    """Every place of the leading one, with every kind of rest below it, of both signs."""
    width = 72
    totals = {0, -(1 << width - 1), (1 << width - 1) - 1}
    for place in range(width):
        for low in (0, 1, 2, 3):
            for significand in (1 << 23, (1 << 24) - 1, (1 << 24) - 2):
                half = (significand * 4 + low << place) >> 2
                totals |= {half - 1, half, half + 1}
        totals.add(1 << place)
    totals |= {-total for total in totals}
    totals = sorted({in_range(total, width) for total in totals})
    items = [Item(total, exponent) for exponent in (-149, 85) for total in totals]
    check(items, sum_width=width, rng=random.Random(1), holds=False)


def test_product_extremes():
    """Around the subnormals, the least of them, and the overflow, ties included."""
    items = [
        Item(sign * significand, exponent, scale << 23 | fraction)
        for sign in (1, -1)
        for significand in (1, 3, 0xFF_FFFF, 0x80_0001, 0xC0_0000)
        for fraction in (0, 1, 0x40_0000, 0x7F_FFFF)
        for exponent, scales in (
            (-149, range(110, 160)),
            (100, range(145, 156)),
            (0, range(511, 120, -13)),
        )
        for scale in scales
    ]
    check(items, sum_width=72, rng=random.Random(1), holds=False)


def test_bias_extremes():
    """Every distance of exponents, sums and differences, subnormals, ties and both zeros."""
    notable = [bits | sign for bits in NOTABLE_BITS for sign in (0, SIGN)]
    items = [
        Item(total, -149, ONE, bias) for total in (0, 1, -1, 5, -(1 << 60)) for bias in notable
    ]
    # Products that underflow to -0 and +0 meet every bias, too.
    items += [Item(total, -149, 0, bias) for total in (1, -1) for bias in [*notable, None]]
    items += [
        Item(total, exponent, ONE, (127 << 23) + (distance << 23) + fraction | sign)
        for distance in range(-30, 31)
        for exponent in (-23, -22)
        for total in (0x80_0000, 0x80_0001, 0xFF_FFFF)
        for fraction in (0, 1, 0x3F_FFFF, 0x40_0000, 0x7F_FFFF)
        for sign in (0, SIGN)
    ]
    # Cancellation by every number of places, down to and within the subnormals.
    items += [
        Item(0x80_0000 + (1 << place), exponent, ONE, SIGN | field << 23)
        for place in range(23)
        for exponent, field in (
            (-149, 1),
            (-148, 2),
            (-140, 10),
            (-121, 29),
            (-120, 30),
            (-23, 127),
        )
    ]
    check(items, sum_width=72, rng=random.Random(1), holds=False)


def test_reset_clears_valid():
    dut = Finaliser(sum_width=40)
    assert not hasattr(dut, "i_tag") and not hasattr(dut, "o_tag")

    async def bench(ctx):
        ctx.set(dut.en, 1)
        ctx.set(dut.i_valid, 0)
        for _ in range(2 * dut.latency):
            assert not ctx.get(dut.o_valid)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("tag_width", [0, 3])
def test_verilog_has_no_empty_ports(tag_width):
    dut = Finaliser(sum_width=33, tag_width=tag_width)
    assert (dut.sum_width, dut.tag_width) == (33, tag_width)
    text = verilog.convert(dut, name="finaliser")
    assert "[-1:0]" not in text
    assert ("o_tag" in text) == (tag_width > 0)


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (TypeError, {"sum_width": 7.0}, r"Sum width must be an integer, not 7\.0"),
        (ValueError, {"sum_width": 1}, "Sum width must be from 2 to 128 bits, not 1"),
        (ValueError, {"sum_width": 129}, "Sum width must be from 2 to 128 bits, not 129"),
        (TypeError, {"sum_width": 72, "tag_width": None}, "Tag width must be an integer, not None"),
        (
            ValueError,
            {"sum_width": 72, "tag_width": -1},
            "Tag width must not be negative, as -1 is",
        ),
    ],
)
def test_refused(error, arguments, message):
    with pytest.raises(error, match=message):
        Finaliser(**arguments)
