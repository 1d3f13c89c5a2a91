"""Adder trees without tables: what a good engineer writes by hand.

Binary weights are signs, by which the nodes of the tree add or subtract, relative to each other and
coded in advance; or they are 0 and 1 and gate the activations, in the first adders' own cells or,
free of LUTs, by the synchronous reset of registers that each lane has. Ternary weights gate and
give signs. With all planes of a weight in one cycle, the gated tree is a multiply-accumulate
array whose multipliers are part of the adder tree.
"""

from typing import Any

import numpy as np
from amaranth.hdl import Module, Value

from lutcore.fpga.baselines.array import ArraySpec, BaselineArray, Line, pack
from lutcore.fpga.baselines.planes import PlanesArray
from lutcore.fpga.baselines.sums import Carry, Operand, Tree
from lutcore.hw.cells.fused import Term, fused_adds
from lutcore.hw.cells.placed import family
from lutcore.hw.compute.tree import low_bits, sign_delay, signed_tree
from lutcore.hw.contract.config import ceil_div

__all__ = ["GatedTree", "SignedTree"]


class SignedTree(BaselineArray):
    """Signs: every adder adds or subtracts. Sums lack their lowest bit, which lanes share."""

    def __init__(self, spec: ArraySpec) -> None:
        super().__init__(
            spec,
            weight_bits=spec.columns,
            activation_bits=spec.columns * spec.activation_bits,
            step=spec.columns,
            coding="signs",
        )

    def lane_word(self, codes: np.ndarray, plane: int) -> int:
        minus = [1 - (int(code) >> plane & 1) for code in codes]
        return pack([s ^ (minus[g & g - 1] if g else 0) for g, s in enumerate(minus)], 1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self.spec
        stages = ceil_div((spec.columns - 1).bit_length(), 2)
        signs: list[list[Any]] = [
            [line.at(1 + sign_delay(g, stages)) for g, line in enumerate(lines)]
            for lines in self.weight_lines(m)
        ]
        sums: list[list[Value]] = [[] for _ in signs]
        for r, lines in enumerate(self.activation_lines(m)):
            xs: list[Any] = [line.at(1) for line in lines]
            low = low_bits(m, platform, [x[0] for x in xs], f"low_{r}")
            high: list[Any] = [x[1:].as_signed() for x in xs]
            for n, lane_sums in enumerate(sums):
                tree = signed_tree(m, platform, high, signs[n], low, f"tree_{n}_{r}")
                lane_sums.append(tree)
        self.accumulate(m, platform, sums, 1 + stages, signs=[lane[0] for lane in signs])
        return m


class GatedTree(PlanesArray):
    """Weights gate the activations, and a tree adds them.

    Parameters
    ----------
    spec
        What to build.
    gate
        ``"cell"``: in the cells of the first adders; ``"reset"``: in registers of every lane and
        row, by their reset, which takes ``activation_bits`` flip-flops per product and no LUT.
    parallel
        All planes in one cycle.
    """

    def __init__(self, spec: ArraySpec, *, gate: str, parallel: bool = False) -> None:
        if gate not in ("cell", "reset"):
            raise ValueError(f'gate must be "cell" or "reset", not {gate!r}')
        super().__init__(spec, parallel=parallel)
        self.gate = gate
        if spec.ternary and spec.columns % 2:
            raise ValueError(f"columns must be even for ternary weights, not {spec.columns}")

    def lane_word(self, codes: np.ndarray, plane: int) -> int:
        if not self.spec.ternary:
            return super().lane_word(codes, plane)
        # What makes the gate's output 0: a cell's by an "and", a register's by its reset.
        active = [bool(t) == (self.gate == "cell") for t in codes]
        return pack(active + [int(t) < 0 for t in codes], 1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self.spec
        lines = self.weight_lines(m)
        # Trits' products may be negative until two of them are added.
        pairs = spec.ternary and (self.gate == "cell" or family(platform) != "xc7")
        rows = self.activation_lines(m) if pairs else self.offset_lines(m)
        sums: list[list[Value]] = [[] for _ in lines]
        carries: list[Any] = []
        stages = 0
        for n, weights in enumerate(lines):
            left: list[Carry] = []
            for r, xs in enumerate(rows):
                totals = []
                for p in range(self.in_space):
                    gates = weights[p * self.step : (p + 1) * self.step]
                    tree = Tree(m, platform, f"sum_{n}_{r}_{p}", stages=1)
                    operands = self._gated(m, tree, gates, xs, 0 if pairs else self.offset)
                    if spec.ternary:
                        tree.carries = list(weights[spec.columns :])
                        operands = self._signed(tree, operands, weights[spec.columns :])
                    if pairs:
                        operands = self._add_pairs(m, tree, operands)
                    totals.append(tree.total(operands))
                    left, stages = tree.carries, tree.stages
                tree = Tree(m, platform, f"planes_{n}_{r}", stages=stages)
                sums[n].append(self.join_planes(tree, totals))
                stages = tree.stages
            carries += [carry.at(stages) for carry in left]
        self.accumulate(m, platform, sums, stages, carries=carries or None)
        return m

    def _gated(
        self, m: Module, tree: Tree, gates: list[Line], xs: list[Line], offset: int
    ) -> list[Operand]:
        """The activations whose weights are not 0, unsigned by ``offset`` or signed without."""
        top = self.spec.activation_bits - 1
        high = (2 << top) - 1
        if self.gate == "reset":
            tree.stages += 1
            return [
                Operand.of(
                    self.gated_register(m, x.at(1), off.at(1), offset, f"{tree.name}_gated_{c}"),
                    high,
                )
                for c, (x, off) in enumerate(zip(xs, gates, strict=True))
            ]

        def gated(i: int, a: Value, off: Value) -> Value:
            return a | off if offset and i == top else a & (1 ^ off)

        def gated_on(i: int, a: Value, on: Value) -> Value:
            return a & on

        function = gated_on if self.spec.ternary else gated
        return [
            Operand(Term(function, (x.at(1), gate.at(1))), high)
            for x, gate in zip(xs, gates, strict=True)
        ]

    def _signed(self, tree: Tree, operands: list[Operand], minus: list[Line]) -> list[Operand]:
        """Operands inverted where their trit is negative: 1 less, which is among the carries."""
        signed = []
        for operand, sign in zip(operands, minus, strict=True):
            gate = operand.term.operands[1:]

            def inverted(i: int, a: Value, *others: Value) -> Value:
                *on, s = others
                return on[0] & (a ^ s) if on else a ^ s

            terms = (operand.term.operands[0], *gate, sign.at(tree.stages))
            signed.append(Operand(Term(inverted, terms), operand.high))
        return signed

    def _add_pairs(self, m: Module, tree: Tree, operands: list[Operand]) -> list[Operand]:
        """Sums of two signed products each, made unsigned by their top bit; registered."""
        width = self.spec.activation_bits + 1
        sums = []
        for x, y in zip(operands[::2], operands[1::2], strict=True):

            def moved(i: int, *bits: Value, function=y.term.function) -> Value:
                return function(i, *bits) ^ (i == width - 1)

            sums.append((x.term, Term(moved, y.term.operands), tree.carry()))
        totals = [
            total
            for i in range(0, len(sums), 2)
            for total in fused_adds(m, tree.platform, sums[i : i + 2], width)
        ]
        return tree.register([Operand.of(total, (1 << width) - 1) for total in totals])
