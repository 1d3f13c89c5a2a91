"""Every form of every baseline against numpy, in plain arithmetic and in each family's cells."""

from dataclasses import replace

import numpy as np
import pytest

from lutcore.fpga.baselines.addsub import GatedTree
from lutcore.fpga.baselines.array import ArraySpec
from lutcore.fpga.baselines.catalogue import Baseline, baselines
from lutcore.fpga.baselines.check import BaselineError, small, verify
from lutcore.fpga.baselines.mac import Multipliers
from lutcore.fpga.baselines.mux import FusedChains, TableMux
from lutcore.fpga.baselines.popcount import Popcount
from lutcore.fpga.synth.flow import TARGETS

BINARY = ArraySpec(rows=1, lanes=2, columns=8, bits=2, activation_bits=8, run=16)
# An odd number of pairs, and of threes.
TERNARY = replace(BINARY, columns=10, bits=1, ternary=True)
WIDE = ArraySpec(rows=2, lanes=1, columns=8, bits=4, activation_bits=16, run=16)


def forms(*specs: ArraySpec) -> list:
    return [
        pytest.param(form, spec, target, id=f"{target}-{form.name}-{spec.activation_bits}")
        for spec in specs
        for target in ("cells", "xc7", "ecp5")
        for form in baselines(spec, target)
        if not form.dsp
    ]


@pytest.mark.parametrize(("form", "spec", "target"), forms(BINARY, TERNARY))
def test_forms_compute_the_dot_products(form: Baseline, spec: ArraySpec, target: str) -> None:
    if form.letter == "d":  # eight times as many products
        spec = replace(spec, columns=2, run=4)
    if target != "cells":  # as many lanes do not make other adders, but take their time
        spec = replace(spec, lanes=1)
    verify(form.build(spec), family=form.family(target), runs=2)


@pytest.mark.parametrize(
    "name", ("mac", "mac-tree", "gated-tree", "signed-tree", "mux-3-symmetric")
)
def test_wide_activations(name: str) -> None:
    (form,) = (form for form in baselines(WIDE, "cells") if form.name == name)
    verify(form.build(WIDE), runs=1)


@pytest.mark.parametrize("bits", (1, 3, 8))
def test_planes(bits: int) -> None:
    spec = replace(BINARY, columns=2 * bits, bits=bits, run=4 * bits)
    verify(GatedTree(spec, gate="cell"), runs=1)
    verify(GatedTree(spec, gate="reset", parallel=True), runs=1)


class WrongCoding(GatedTree):
    def lane_word(self, codes: np.ndarray, plane: int) -> int:
        return super().lane_word(codes, plane) ^ 1


class WrongShift(GatedTree):
    def shifts(self, plane: int) -> bool:
        return False


class WrongLatency(GatedTree):
    def elaborate(self, platform: object):
        m = super().elaborate(platform)
        self.latency += 1
        return m


@pytest.mark.parametrize(
    ("wrong", "message"),
    ((WrongCoding, ", not "), (WrongShift, ", not "), (WrongLatency, "sums are valid in cycles")),
)
def test_the_check_finds_what_is_wrong(wrong: type[GatedTree], message: str) -> None:
    spec = replace(BINARY, columns=4, run=8)
    with pytest.raises(BaselineError, match=message):
        verify(wrong(spec, gate="cell"), runs=1)


class NarrowSpec(ArraySpec):
    """Accumulators that lack a bit, as only extremes show."""

    @property
    def acc_width(self) -> int:
        return super().acc_width - 1


def test_the_check_reaches_the_extremes() -> None:
    spec = NarrowSpec(rows=1, lanes=1, columns=4, bits=2, activation_bits=8, run=4)
    with pytest.raises(BaselineError, match=", not "):
        verify(GatedTree(spec, gate="cell"), runs=0)


def test_forms_of_a_target() -> None:
    names = {target: [form.name for form in baselines(BINARY, target)] for target in TARGETS}
    for of_target in names.values():
        assert len(set(of_target)) == len(of_target)
    assert "mux-chain-reset-1" in names["xc7"] and "mux-chain-reset-1" not in names["ecp5"]
    assert {form.letter for form in baselines(BINARY, "ice40")} == set("abcd")
    assert "trit-tree" in [form.name for form in baselines(TERNARY, "xc7")]
    # Planes in one cycle: only where each has as many columns as the others.
    assert "mac-tree" not in [form.name for form in baselines(replace(BINARY, bits=3), "xc7")]
    with pytest.raises(ValueError, match="target must be one of xc7, ecp5, ice40, cells, not 'x'"):
        baselines(BINARY, "x")


def test_a_small_specification_keeps_its_kind() -> None:
    large = ArraySpec(rows=4, lanes=64, columns=64, bits=4, activation_bits=16, run=512)
    assert small(large) == ArraySpec(2, 2, 16, 4, 16, 48)
    assert small(replace(large, bits=3, columns=66)).columns == 12
    assert small(BINARY) == replace(BINARY, run=24)


def test_products_and_widths() -> None:
    spec = ArraySpec(rows=2, lanes=16, columns=64, bits=4, activation_bits=8, run=512)
    assert spec.products == 2 * 16 * 64
    assert spec.acc_width == 21
    # Bit-serial on both sides: eight times as many products of bits.
    assert Popcount(spec).weight_bits == 64 * 8
    assert GatedTree(spec, gate="cell", parallel=True).step == 16


@pytest.mark.parametrize(
    ("make", "message"),
    (
        (lambda: replace(BINARY, rows=0), "rows must be at least 1, not 0"),
        (lambda: replace(BINARY, run=4), "run must be at least columns = 8, not 4"),
        (lambda: replace(BINARY, ternary=True), "ternary weights have 1 plane, not 2"),
        (lambda: GatedTree(BINARY, gate="or"), "gate must be"),
        (lambda: GatedTree(replace(TERNARY, columns=5), gate="cell"), "columns must be even"),
        (lambda: Multipliers(replace(BINARY, columns=5)), "columns must be a multiple of bits"),
        (lambda: TableMux(BINARY, group=5, symmetric=True), "group must be in 2..4, not 5"),
        (lambda: FusedChains(BINARY, adders=0, leaf="table"), "adders must be at least 1"),
        (lambda: FusedChains(BINARY, adders=1, leaf="gate"), "leaf must be"),
        (lambda: FusedChains(TERNARY, adders=1, leaf="table"), "ternary weights"),
        (lambda: Popcount(TERNARY), "ternary weights are two planes"),
    ),
)
def test_what_cannot_be_built_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
