"""Adders made of a family's cells against plain ones, proved with Yosys' models of the cells."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Elaboratable, Module, Signal, Value, signed
from cell_proof import equal

from lutcore.hw.cells.carry import add, add3
from lutcore.hw.cells.fused import Term, fused_add, fused_adds, masked, plain, sum3
from lutcore.hw.cells.placed import FAMILIES
from lutcore.hw.export import component_verilog

Build = Callable[[Module, object, Callable[..., Signal]], list[Value]]


class Bench(Elaboratable):
    """The sums that ``build`` makes, with the inputs that it asks for as ports."""

    def __init__(self, build: Build) -> None:
        self.build = build
        # Once for the names and shapes of the ports.
        self.inputs: dict[str, Signal] = {}
        widths = [total.shape() for total in build(Module(), None, self.port)]
        self.totals = [Signal(shape, name=f"total_{i}") for i, shape in enumerate(widths)]

    def port(self, name: str, shape: Any = 1) -> Signal:
        return self.inputs.setdefault(name, Signal(shape, name=name))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for total, value in zip(self.totals, self.build(m, platform, self.port), strict=True):
            m.d.comb += total.eq(value)
        return m


def verilog(build: Build, name: str, family_name: str | None) -> str:
    bench = Bench(build)
    ports = [*bench.inputs.values(), *bench.totals]
    return component_verilog(bench, name, ports, family_name)


def proved(build: Build, family_name: str, folder: Path, mutate: str = "") -> bool:
    """Whether the family's cells give the same sums, for all inputs."""
    cells = verilog(build, "gate", family_name)
    assert ("CCU2C" if family_name == "ecp5" else "CARRY4") in cells
    if mutate:
        good, bad = mutate.split(" > ")
        assert good in cells
        cells = cells.replace(good, bad)
    return equal(verilog(build, "gold", None), cells, family_name, folder)


def add_or_subtract(width: int) -> Build:
    def build(m: Module, platform: object, port: Callable[..., Signal]) -> list[Value]:
        x, y = port("x", signed(width - 1)), port("y", signed(max(1, width - 2)))
        return [
            add(m, platform, x, y, width, port("subtract")),
            add(m, platform, y, x, width - 1, port("subtract_2")),
            add(m, platform, x, y, width, port("subtract"), (port("p"), port("q"))),
        ]

    return build


def add_three(width: int) -> Build:
    def build(m: Module, platform: object, port: Callable[..., Signal]) -> list[Value]:
        x, y, z = (port(name, signed(width - i)) for i, name in enumerate("xyz"))
        # The family's cells of `add`: on ecp5 three are added without.
        return [
            add3(m, platform, x, y, z, width + 2),
            add3(m, platform, z, y, x, width),
            add(m, platform, x, y, width, port("subtract")),
        ]

    return build


def sum_three(width: int) -> Build:
    def build(m: Module, platform: object, port: Callable[..., Signal]) -> list[Value]:
        x, y, z = (port(name, width - i) for i, name in enumerate("xyz"))
        return [
            sum3(m, platform, (x, y, z), width + 2),
            sum3(m, platform, (z, x, y), width + 2, (port("carry"), port("carry_2"))),
            sum3(m, platform, (z, x, y), width),
            add(m, platform, x, y, width, port("subtract")),
        ]

    return build


def choice(i: int, select: Any, x: Any, y: Any) -> Any:
    return (select & x) | ((1 ^ select) & y)


def fused(width: int) -> Build:
    """Every kind of term that both families take."""

    def build(m: Module, platform: object, port: Callable[..., Signal]) -> list[Value]:
        x, y = port("x", width), port("y", max(2, width - 1))
        s, t, carry = port("s"), port("t"), port("carry")

        # The top bit gated to 1, as of offset numbers.
        def gated(i: int, a: Any, off: Any) -> Any:
            return a | off if i == width - 1 else a & (1 ^ off)

        def inverted(i: int, a: Any, minus: Any) -> Any:
            return a ^ minus

        def trit(i: int, a: Any, on: Any, minus: Any) -> Any:
            return on & (a ^ minus)

        pairs = [
            (plain(x), plain(y)),
            (masked(x, s), masked(y, t)),
            (plain(x), Term(choice, (s, y, port("z", width)))),
            (Term(gated, (x, s)), Term(gated, (port("z", width), t))),
            (Term(inverted, (x, s)), Term(inverted, (y, t))),
            (plain(x), Term(trit, (y, s, t))),
        ]
        totals = [
            total
            for pair in pairs
            for total in (
                fused_add(m, platform, *pair, width),
                fused_add(m, platform, *pair, width, carry_in=carry, carry_out=True),
            )
        ]
        for carry_out in (False, True):
            for carries in ((None,) * 3, (carry, None, s), (None, carry, t)):
                some = [(*pair, c) for pair, c in zip(pairs[1:4], carries, strict=True)]
                totals += fused_adds(m, platform, some, width, carry_out=carry_out)
        # A term as the carry, also where it takes the place of a carry out.
        both = Term(lambda i, a, b: a & b, (s, t))
        some = [(*pair, both) for pair in pairs[1:3]]
        totals += fused_adds(m, platform, some, width, carry_out=True)
        # Signed numbers of different widths.
        a, b = port("a", signed(width)), port("b", signed(max(2, width - 2)))
        totals.append(fused_add(m, platform, plain(a), Term(choice, (s, b, a)), width + 2))
        return totals

    return build


def fused_xc7(width: int) -> Build:
    """Terms that only a LUT of six inputs takes."""

    def build(m: Module, platform: object, port: Callable[..., Signal]) -> list[Value]:
        x, y, z = port("x", width), port("y", width), port("z", width)
        s, t = port("s"), port("t")

        def four(i: int, s: Any, t: Any, a: Any, b: Any, c: Any) -> Any:
            return (s & t & c) | (s & (1 ^ t) & a) | ((1 ^ s) & t & b)

        def trit(i: int, a: Any, on: Any, minus: Any) -> Any:
            return on & (a ^ minus)

        trits = Term(trit, (x, s, port("u"))), Term(trit, (y, t, port("v")))
        choices = Term(choice, (s, x, y)), Term(lambda i, a, minus: a ^ minus, (z, t))
        return [
            fused_add(m, platform, plain(x), Term(four, (s, t, y, z, port("w", width))), width),
            fused_add(m, platform, *trits, width, carry_in=port("u"), carry_out=True),
            fused_add(m, platform, *choices, width, carry_in=t),
        ]

    return build


CASES = {
    "add": (add_or_subtract, FAMILIES),
    "add3": (add_three, FAMILIES),
    "sum3": (sum_three, FAMILIES),
    "fused": (fused, FAMILIES),
    "fused_xc7": (fused_xc7, ("xc7",)),
}


@pytest.mark.parametrize("width", (3, 4, 6))
@pytest.mark.parametrize(
    ("name", "family_name"), [(n, f) for n, (_, families) in CASES.items() for f in families]
)
def test_cells_add_as_plain_arithmetic_does(
    name: str, family_name: str, width: int, tmp_path: Path
) -> None:
    assert proved(CASES[name][0](width), family_name, tmp_path)


@pytest.mark.parametrize(
    ("name", "family_name", "mutate"),
    (
        # Propagate, and the carry out of a cell, of either family's adders.
        ("add", "ecp5", "16'h96aa > 16'h95aa"),
        ("add", "ecp5", "16'h96aa > 16'h96ac"),
        ("add3", "xc7", "e8e8e8e8 > e8e8e8e0"),
        ("sum3", "xc7", "e8e8e8e8 > e8e8e8e0"),
        ("fused", "ecp5", ".INIT1( > .INIT0("),
        ("fused", "ecp5", "16'h000a > 16'h0008"),
        ("fused_xc7", "xc7", ".CYINIT(t) > .CYINIT(s)"),
    ),
)
def test_a_wrong_cell_is_found(name: str, family_name: str, mutate: str, tmp_path: Path) -> None:
    assert not proved(CASES[name][0](4), family_name, tmp_path, mutate)
