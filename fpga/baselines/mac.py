"""Multiply-accumulate with multipliers: W-bit weights, all bits in one cycle.

The multipliers are ``*``, as synthesis makes them, of LUTs or in DSP blocks, each followed by a
register; the sum of a lane's products is a tree. (For multipliers that are part of the tree, see
`lutcore.fpga.baselines.addsub.GatedTree` with ``parallel``.)
"""

import numpy as np
from amaranth.hdl import Module, Signal, Value

from lutcore.fpga.baselines.array import ArraySpec, BaselineArray, pack
from lutcore.fpga.baselines.sums import Operand, Tree, signed_total

__all__ = ["Multipliers"]


class Multipliers(BaselineArray):
    """``columns / bits`` multipliers per row and lane; ternary weights multiply as 2-bit numbers.

    Parameters
    ----------
    spec
        What to build.
    """

    def __init__(self, spec: ArraySpec) -> None:
        if spec.columns % spec.bits:
            raise ValueError(
                f"columns must be a multiple of bits = {spec.bits} for whole multipliers, "
                f"not {spec.columns}"
            )
        self.factor_bits = 2 if spec.ternary else spec.bits
        step = spec.columns // spec.bits
        super().__init__(
            spec,
            weight_bits=step * self.factor_bits,
            activation_bits=step * spec.activation_bits,
            step=step,
            coding="trits" if spec.ternary else "unsigned",
        )

    def planes(self) -> range:
        return range(1)

    def lane_word(self, codes: np.ndarray, plane: int) -> int:
        return pack([int(code) for code in codes], self.factor_bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec, width = self.spec, self.factor_bits
        weights = []
        for n in range(spec.lanes):
            word = Signal(self.weight_bits, name=f"weights_{n}")
            m.d.sync += word.eq(self.weights[n])
            factors = [word[c * width : (c + 1) * width] for c in range(self.step)]
            weights.append([f.as_signed() for f in factors] if spec.ternary else factors)
        rows = [[line.at(1) for line in lines] for lines in self.activation_lines(m)]
        # Products become unsigned by their top bit.
        bits = width + spec.activation_bits
        offset = 1 << bits - 1
        largest = (2**spec.bits - 1) << spec.activation_bits - 1
        sums: list[list[Value]] = [[] for _ in weights]
        stages = 0
        for n, factors in enumerate(weights):
            for r, xs in enumerate(rows):
                operands = []
                for c, (w, x) in enumerate(zip(factors, xs, strict=True)):
                    product = Signal(bits, name=f"product_{n}_{r}_{c}", reset_less=True)
                    m.d.sync += product.eq((w * x).as_unsigned() ^ offset)
                    operands.append(Operand.of(product, offset + largest))
                tree = Tree(m, platform, f"sum_{n}_{r}", stages=2)
                sums[n].append(signed_total(tree.total(operands), self.step * offset))
                stages = tree.stages
        self.accumulate(m, platform, sums, stages)
        return m
