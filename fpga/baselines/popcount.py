"""AND and popcount: bit-serial in weights and activations, as BISMO does it.

A product is one bit of a weight and one of an activation, so that there are as many times more of
them in a cycle as an activation has bits. Pairs of planes follow each other by the weight of their
products, the highest first, and the accumulators double from one weight to the next.
"""

from dataclasses import replace

import numpy as np
from amaranth.hdl import Cat, Const, Module, Value

from lutcore.fpga.baselines.array import ArraySpec, BaselineArray, Line, pack
from lutcore.fpga.baselines.sums import Operand, Tree
from lutcore.hw.cells.fused import Term, fused_adds
from lutcore.hw.cells.placed import family

__all__ = ["Popcount"]


class _Product:
    """A product of two bits, at every cycle."""

    def __init__(self, weight: Line, x: Line) -> None:
        self.weight = weight
        self.x = x

    def at(self, cycle: int) -> Term:
        return Term(lambda i, w, x: w & x, (self.weight.at(cycle), self.x.at(cycle)))


class Popcount(BaselineArray):
    """``columns * activation_bits`` products of bits per row, lane and cycle.

    They are counted in threes, and the counts added; the adders above take further products in as
    their carries.

    Parameters
    ----------
    spec
        What to build.
    """

    def __init__(self, spec: ArraySpec) -> None:
        if spec.ternary:
            raise ValueError("ternary weights are two planes here")
        step = spec.columns * spec.activation_bits
        # A run has one word at least.
        spec = replace(spec, run=max(spec.run, step))
        super().__init__(spec, weight_bits=step, activation_bits=step, step=step, coding="unsigned")

    def _pair(self, plane: int) -> tuple[int, int]:
        """Planes of the weights and of the activations."""
        return divmod(plane, self.spec.activation_bits)

    def planes(self) -> list[int]:
        pairs = range(self.spec.bits * self.spec.activation_bits)
        return sorted(pairs, key=lambda plane: (-sum(self._pair(plane)), plane))

    def shifts(self, plane: int) -> bool:
        order = self.planes()
        before = order.index(plane) - 1
        return before >= 0 and sum(self._pair(order[before])) != sum(self._pair(plane))

    def subtracts(self, plane: int) -> bool:
        return self._pair(plane)[1] == self.spec.activation_bits - 1

    def lane_word(self, codes: np.ndarray, plane: int) -> int:
        return pack([int(code) >> self._pair(plane)[0] & 1 for code in codes], 1)

    def row_word(self, x: np.ndarray, plane: int) -> int:
        return pack([int(a) >> self._pair(plane)[1] & 1 for a in x], 1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self.spec
        weights = self.weight_lines(m)
        rows = [
            [Line(m, word[i], f"x_{r}_{i}") for i in range(self.step)]
            for r, word in enumerate(self.activations)
        ]
        sums: list[list[Value]] = [[] for _ in weights]
        stages = 0
        for n, lines in enumerate(weights):
            for r, xs in enumerate(rows):
                products = [_Product(w, x) for w, x in zip(lines, xs, strict=True)]
                tree = Tree(m, platform, f"count_{n}_{r}", stages=1)
                # Each count but one brings an adder, and with it room for one more product.
                counts = -(-(len(products) + 1) // 4)
                counted = min(len(products), 3 * counts)
                tree.carries = list(products[counted:])
                total = tree.total(self._counts(m, tree, products[:counted]))
                sums[n].append(Cat(total.value, 0))
                stages = tree.stages
        minus = Line(m, self.control.subtract, "minus").at(stages)
        self.accumulate(m, platform, sums, stages, signs=[minus] * spec.lanes)
        return m

    def _counts(self, m: Module, tree: Tree, products: list[_Product]) -> list[Operand]:
        """Counts of three products each, in the cycle after the tree's."""
        operands = []
        threes = [
            [p.at(tree.stages) for p in products[i : i + 3]] for i in range(0, len(products), 3)
        ]
        for i in range(0, len(threes), 2):
            some = threes[i : i + 2]
            if family(tree.platform) == "ecp5" and all(len(three) == 3 for three in some):
                counts = fused_adds(
                    m, tree.platform, [(a, b, c) for a, b, c in some], 1, carry_out=True
                )
            else:
                bits = [[t.function(0, *t.operands) for t in three] for three in some]
                counts = [
                    Cat(Cat(three).xor(), _majority(*three, *[Const(0, 1)] * (3 - len(three))))
                    for three in bits
                ]
            operands += [
                Operand.of(count[:2], len(three)) for count, three in zip(counts, some, strict=True)
            ]
        return tree.register(operands)


def _majority(a: Value, b: Value, c: Value) -> Value:
    return (a & b) | (a & c) | (b & c)
