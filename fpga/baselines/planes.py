"""What the baselines with weights of 0 and 1 have in common: planes, offsets, gated registers."""

import numpy as np
from amaranth.hdl import Cat, Module, Signal, Value

from lutcore.fpga.baselines.array import ArraySpec, BaselineArray, Line, pack
from lutcore.fpga.baselines.sums import Operand, Tree, signed_total

__all__ = ["PlanesArray"]


class PlanesArray(BaselineArray):
    """Base of the forms with weights of 0 and 1, a plane per cycle or all in one.

    Gates take the weights inverted: off where the weight's bit is 0.

    Parameters
    ----------
    spec
        What to build.
    parallel
        All planes in one cycle: there are ``columns / bits`` columns, each in a tree per plane.

    Attributes
    ----------
    in_space : int
        Planes in one cycle.
    """

    def __init__(self, spec: ArraySpec, *, parallel: bool = False) -> None:
        self.parallel = parallel
        self.in_space = spec.bits if parallel else 1
        if spec.columns % self.in_space:
            raise ValueError(
                f"columns must be a multiple of bits = {spec.bits} with all planes in one cycle, "
                f"not {spec.columns}"
            )
        step = spec.columns // self.in_space
        super().__init__(
            spec,
            weight_bits=spec.columns * (2 if spec.ternary else 1),
            activation_bits=step * spec.activation_bits,
            step=step,
            coding="trits" if spec.ternary else "unsigned",
        )

    def planes(self) -> range:
        return range(1) if self.parallel else range(self.spec.bits - 1, -1, -1)

    def lane_word(self, codes: np.ndarray, plane: int) -> int:
        planes = range(self.spec.bits) if self.parallel else [plane]
        return pack([1 - (int(code) >> p & 1) for p in planes for code in codes], 1)

    @property
    def offset(self) -> int:
        """What a gated column counts more than its product: 2^(b-1)."""
        return 1 << self.spec.activation_bits - 1

    def offset_lines(self, m: Module) -> list[list[Line]]:
        """The activations as unsigned numbers, more by `offset`; [row][column]."""
        return [
            [
                Line(m, line.at(0).as_unsigned() ^ self.offset, f"offset_x_{r}_{c}")
                for c, line in enumerate(lines)
            ]
            for r, lines in enumerate(self.activation_lines(m))
        ]

    def gated_register(self, m: Module, x: Value, off: Value, offset: int, name: str) -> Signal:
        """A register of an activation that ``off`` resets to ``offset``."""
        register = Signal(x.shape(), name=name, reset_less=True)
        m.d.sync += register.eq(x)
        with m.If(off):
            m.d.sync += register.eq(offset)
        return register

    def join_planes(self, tree: Tree, totals: list[Operand]) -> Value:
        """The signed sum of all planes from the sum of each, lowest first."""
        offset = self.step * self.offset
        if len(totals) == 1:
            return signed_total(totals[0], offset)
        whole = offset * (2 ** len(totals) - 1)
        if offset & offset - 1 == 0:
            # One more of the lowest plane's makes the whole a power of two.
            top = offset.bit_length() - 1
            value = totals[0].value
            moved = Cat(value[:top], ~value[top], value[top])
            totals = [Operand.of(moved, totals[0].high + offset), *totals[1:]]
            whole += offset
        shifted = [Operand(total.term, total.high, p) for p, total in enumerate(totals)]
        return signed_total(tree.total(shifted), whole)
