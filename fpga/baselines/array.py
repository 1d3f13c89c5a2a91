"""What the arrays that a LUT array is compared with have in common.

A baseline computes, for every row and lane, the dot product of a run of columns of weights and
activations. It has one accumulator per row and lane and nothing to fill, so it takes planes of a
run one after the other, each over the whole run: a plane's first word doubles the accumulator
while adding, which takes one adder for the shift of the planes and the sum over the run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.cells.fused import Term, fused_add, plain
from lutcore.hw.cells.placed import family
from lutcore.hw.util import fixed_delay

__all__ = ["CONTROL", "ArraySpec", "BaselineArray", "Line", "Word", "pack"]


@dataclass(frozen=True)
class ArraySpec:
    """What an array has to do.

    Attributes
    ----------
    rows, lanes
        Rows of activations and output channels side by side.
    columns
        Products of an activation and a weight *bit* (or a trit) per row, lane and cycle.
    bits
        Weight bits; 1 if ``ternary``.
    activation_bits
        Bits of an activation, signed.
    run
        The longest run of columns that the accumulators hold.
    ternary
        Weights -1, 0 and +1.
    """

    rows: int
    lanes: int
    columns: int
    bits: int
    activation_bits: int
    run: int
    ternary: bool = False

    def __post_init__(self) -> None:
        for name in ("rows", "lanes", "columns", "bits", "activation_bits"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.ternary and self.bits != 1:
            raise ValueError(f"ternary weights have 1 plane, not {self.bits}")
        if self.run < self.columns:
            raise ValueError(f"run must be at least columns = {self.columns}, not {self.run}")

    @property
    def products(self) -> int:
        """Products per cycle: what an array is divided by."""
        return self.rows * self.lanes * self.columns

    @property
    def acc_width(self) -> int:
        """Bits of an accumulator, derived as in `CoreConfig.acc_width`."""
        largest = self.run * 2 ** (self.activation_bits - 1) * (2**self.bits - 1)
        return largest.bit_length() + 1


#: Goes with the word that is at the inputs in the same cycle.
CONTROL = data.StructLayout(
    {
        "valid": 1,
        "shift": 1,  # the accumulators count double from here on
        "subtract": 1,  # this word counts negative
        "last": 1,  # the run's last word
    }
)


@dataclass(frozen=True)
class Word:
    """The inputs of one cycle."""

    weights: int
    activations: int
    shift: bool = False
    subtract: bool = False
    last: bool = False


class Line:
    """A value and its delays, made as they are asked for.

    Parameters
    ----------
    m
        Where the registers are.
    value
        At cycle 0.
    name
        Prefix of the registers.
    """

    def __init__(self, m: Module, value: Value, name: str) -> None:
        self._m = m
        self._name = name
        self._values = [value]

    def at(self, cycle: int) -> Value:
        """The value ``cycle`` cycles later.

        The registers have a reset, without which they would become shift registers of LUTs.
        """
        while len(self._values) <= cycle:
            before = self._values[-1]
            register = Signal(before.shape(), name=f"{self._name}_{len(self._values)}")
            self._m.d.sync += register.eq(before)
            self._values.append(register)
        return self._values[cycle]


class BaselineArray(wiring.Component):
    """Base of all baselines.

    Parameters
    ----------
    spec
        What to build.
    weight_bits
        Bits of weights per lane and cycle; all rows share them.
    activation_bits
        Bits of activations per row and cycle; all lanes share them.
    step
        Columns of whole weights that one run needs at least, and a multiple of.
    coding
        What a weight of code q counts: ``"unsigned"`` q, ``"signs"`` 2q - (2^bits - 1),
        ``"trits"`` -1, 0 or +1.

    Members
    -------
    control
        `CONTROL`.
    weights
        Lane-major.
    activations
        Row-major.
    o_valid
        High in one cycle, when ``o_sums`` takes the sums of a run: they stay until the next.
    o_sums
        Lane-major: lane, then row.

    Attributes
    ----------
    latency : int
        Cycles from the last word of a run to ``o_valid``; known after ``elaborate``.
    """

    control: Any
    weights: Any
    activations: Any
    o_valid: Signal
    o_sums: Any

    def __init__(
        self, spec: ArraySpec, *, weight_bits: int, activation_bits: int, step: int, coding: str
    ) -> None:
        self.spec = spec
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits
        self.step = step
        self.coding = coding
        self.latency = 0
        super().__init__(
            {
                "control": In(CONTROL),
                "weights": In(data.ArrayLayout(weight_bits, spec.lanes)),
                "activations": In(data.ArrayLayout(activation_bits, spec.rows)),
                "o_valid": Out(1),
                "o_sums": Out(data.ArrayLayout(signed(spec.acc_width), spec.lanes * spec.rows)),
            }
        )

    # What follows describes the schedule, for the check by simulation.

    def words(self, codes: np.ndarray, x: np.ndarray) -> Iterator[Word]:
        """The words of a run.

        Parameters
        ----------
        codes
            Of the weights, [lanes, K], K a multiple of ``step``: 0 to 2^bits - 1, or trits.
        x
            Activations, [rows, K].
        """
        parts = [slice(k, k + self.step) for k in range(0, x.shape[1], self.step)]
        schedule = [(p, part) for p in self.planes() for part in parts]
        for number, (plane, part) in enumerate(schedule):
            yield Word(
                weights=pack([self.lane_word(c, plane) for c in codes[:, part]], self.weight_bits),
                activations=pack(
                    [self.row_word(r, plane) for r in x[:, part]], self.activation_bits
                ),
                shift=self.shifts(plane) and part == parts[0],
                subtract=self.subtracts(plane),
                last=number == len(schedule) - 1,
            )

    def planes(self) -> Sequence[int]:
        """What a run goes through in turn, each over all its columns."""
        return range(self.spec.bits - 1, -1, -1)

    def shifts(self, plane: int) -> bool:
        """Whether the accumulators double with the first word of ``plane``."""
        return plane != self.planes()[0]

    def subtracts(self, plane: int) -> bool:
        """Whether the words of ``plane`` count negative."""
        return False

    def lane_word(self, codes: np.ndarray, plane: int) -> int:
        """A lane's weights in one cycle, from ``step`` codes."""
        return pack([int(code) >> plane & 1 for code in codes], 1)

    def row_word(self, x: np.ndarray, plane: int) -> int:
        """A row's activations in one cycle, from ``step`` of them."""
        return pack([int(a) for a in x], self.spec.activation_bits)

    def expected(self, codes: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The sums of a run, [lanes, rows]."""
        factors = codes.astype(np.int64)
        if self.coding == "signs":
            factors = 2 * factors - (2**self.spec.bits - 1)
        return factors @ x.T.astype(np.int64)

    # Parts of the hardware.

    def weight_lines(self, m: Module) -> list[list[Line]]:
        """The weights' bits, [lane][bit]."""
        return [
            [Line(m, self.weights[n][i], f"weight_{n}_{i}") for i in range(self.weight_bits)]
            for n in range(self.spec.lanes)
        ]

    def activation_lines(self, m: Module) -> list[list[Line]]:
        """The activations, signed, [row][column]."""
        bits = self.spec.activation_bits
        return [
            [
                Line(m, self.activations[r][c * bits : (c + 1) * bits].as_signed(), f"x_{r}_{c}")
                for c in range(self.step)
            ]
            for r in range(self.spec.rows)
        ]

    def accumulate(
        self,
        m: Module,
        platform: object,
        sums: list[list[Value]],
        stages: int,
        *,
        signs: list[Value] | None = None,
        carries: list[Value] | None = None,
    ) -> None:
        """Accumulators and output registers.

        Parameters
        ----------
        m, platform
            Where they are built.
        sums
            Of a word, [lane][row], signed, ``stages`` cycles after the inputs.
        stages
            Cycles.
        signs
            Of each lane, in the same cycle: its sums are to be subtracted.
        carries
            Of each lane, in the same cycle: its sums count one more; not with ``signs``.
        """
        spec = self.spec
        width = spec.acc_width
        self.latency = stages + 1
        control = fixed_delay(m, self.control, stages, "control")
        ends = control.valid & control.last
        m.d.sync += self.o_valid.eq(ends)
        for n in range(spec.lanes):
            for r in range(spec.rows):
                acc = Signal(signed(width), name=f"acc_{n}_{r}", reset_less=True)
                doubled = Cat(Const(0, 1), acc)[:width]
                held = Term(
                    lambda i, twice, a, b: (twice & a) | ((1 ^ twice) & b),
                    (control.shift, doubled, acc),
                )
                if len(self.planes()) == 1:
                    held = plain(acc)
                value = sums[n][r].as_signed()
                addend = plain(value)
                carry = None if carries is None else carries[n]
                if signs is not None:
                    carry = signs[n]
                    addend = Term(lambda i, a, s: a ^ s, (value, carry))
                    if family(platform) == "ecp5":  # no room in the cell
                        addend = plain(
                            (value.as_unsigned() ^ carry.replicate(len(value))).as_signed()
                        )
                total = fused_add(m, platform, addend, held, width, carry_in=carry)
                with m.If(control.valid):
                    m.d.sync += acc.eq(total)
                with m.If(ends):
                    # Ready for the next run: a synchronous reset costs no logic.
                    m.d.sync += acc.eq(0)
                    m.d.sync += self.o_sums[n * spec.rows + r].eq(total.as_signed())


def pack(items: Sequence[int], bits: int) -> int:
    """``items`` of ``bits`` bits each side by side, the first lowest."""
    mask = (1 << bits) - 1
    return sum((item & mask) << i * bits for i, item in enumerate(items))
