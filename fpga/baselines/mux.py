"""Multiplexers of tables that all lanes of a row share: the paper's lookup, and a fused form.

The sums of k activations are formed once per row, in registers, and every lane has a multiplexer
for each table. With symmetric tables half of the sums are stored, without the bit that all have in
common, and the tree adds or subtracts by relative signs. In the fused form the tables have two
activations, and the multiplexer lies in the LUT in front of the carry chain of the adder that
adds what it selects: a chain of such adders takes two columns more at each.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Signal, Value

from lutcore.fpga.baselines.array import ArraySpec, BaselineArray, Line, pack
from lutcore.fpga.baselines.planes import PlanesArray
from lutcore.fpga.baselines.sums import Operand, Tree, signed_total
from lutcore.hw.cells.fused import Term
from lutcore.hw.compute.tree import low_bits, sign_delay, signed_tree
from lutcore.hw.contract.config import ceil_div

__all__ = ["FusedChains", "TableMux"]


class TableMux(BaselineArray):
    """Tables in registers, and a multiplexer per lane and table.

    Parameters
    ----------
    spec
        What to build; columns beyond a multiple of ``group`` have a smaller table.
    group
        k, activations per table, 2 to 4.
    symmetric
        ±1-coded halves of tables and relative signs, or {0,1}-coded whole tables.
    offline
        Symmetric tables: weights come as indices and relative signs, or else as they are, and
        every lane makes indices of them.
    """

    def __init__(
        self, spec: ArraySpec, *, group: int, symmetric: bool, offline: bool = True
    ) -> None:
        if not 2 <= group <= 4:
            raise ValueError(f"group must be in 2..4, not {group}")
        self.group = group
        self.symmetric = symmetric
        self.offline = offline
        super().__init__(
            spec,
            weight_bits=spec.columns,
            activation_bits=spec.columns * spec.activation_bits,
            step=spec.columns,
            coding="signs" if symmetric else "unsigned",
        )

    @property
    def tables(self) -> list[range]:
        """Columns of each table."""
        columns, k = self.spec.columns, self.group
        return [range(c, min(c + k, columns)) for c in range(0, columns, k)]

    def lane_word(self, codes: np.ndarray, plane: int) -> int:
        bits = [int(code) >> plane & 1 for code in codes]
        coded = self._coded(bits) if self.symmetric and self.offline else bits
        return pack([bit & 1 for bit in coded], 1)

    def _coded(self, bits: Sequence[Any]) -> list[Any]:
        """Indices and relative signs of a lane's weights: of numbers, or of signals."""
        word: list[Any] = []
        minus: list[Any] = []
        for g, columns in enumerate(self.tables):
            *others, top = (bits[c] for c in columns)
            minus.append(1 ^ top)
            word += [bit ^ minus[g] for bit in others]
            word.append(minus[g] ^ (minus[g & g - 1] if g else 0))
        return word

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.symmetric:
            self._signed(m, platform)
        else:
            self._unsigned(m, platform)
        return m

    def _lookup(self, m: Module, entries: Sequence[Value], index: Value, name: str) -> Signal:
        value = Signal(entries[0].shape(), name=name, reset_less=True)
        chosen = Array(entries)[index] if len(entries) > 1 else entries[0]
        m.d.sync += value.eq(chosen)
        return value

    def _signed(self, m: Module, platform: object) -> None:
        tables = self.tables
        stages = ceil_div((len(tables) - 1).bit_length(), 2)
        weights = self.weight_lines(m)
        if not self.offline:
            weights = [
                [
                    Line(m, Value.cast(bit)[0], f"coded_{n}_{i}")
                    for i, bit in enumerate(self._coded([line.at(0) for line in lines]))
                ]
                for n, lines in enumerate(weights)
            ]
        signs: list[list[Any]] = [
            [lines[t[-1]].at(2 + sign_delay(g, stages)) for g, t in enumerate(tables)]
            for lines in weights
        ]
        sums: list[list[Value]] = [[] for _ in weights]
        for r, lines in enumerate(self.activation_lines(m)):
            entries = []
            low = []
            for g, columns in enumerate(tables):
                xs = [lines[c].at(0) for c in columns]
                table = _registered(m, _signed_sums(xs), f"entry_{r}_{g}")
                entries.append([entry[1:].as_signed() for entry in table])
                low.append(Line(m, table[0][0], f"low_{r}_{g}").at(1))
            levels = low_bits(m, platform, low, f"low_tree_{r}")
            for n, lane_sums in enumerate(sums):
                values = []
                for g, columns in enumerate(tables):
                    index = Cat(weights[n][c].at(1) for c in columns[:-1])
                    values.append(self._lookup(m, entries[g], index, f"looked_{n}_{r}_{g}"))
                lane_sums.append(
                    signed_tree(m, platform, values, signs[n], levels, f"tree_{n}_{r}")
                )
        self.accumulate(m, platform, sums, 2 + stages, signs=[lane[0] for lane in signs])

    def _unsigned(self, m: Module, platform: object) -> None:
        offset = 1 << self.spec.activation_bits - 1
        weights = self.weight_lines(m)
        sums: list[list[Value]] = [[] for _ in weights]
        stages = 0
        for r, lines in enumerate(self.activation_lines(m)):
            tables = []
            for g, columns in enumerate(self.tables):
                xs = [lines[c].at(0) for c in columns]
                entries = [
                    (entry + len(columns) * offset)[: (2 * offset * len(columns) - 1).bit_length()]
                    for entry in _subset_sums(xs)
                ]
                tables.append(_registered(m, entries, f"entry_{r}_{g}"))
            for n, lane_sums in enumerate(sums):
                operands = []
                for g, (columns, entries) in enumerate(zip(self.tables, tables, strict=True)):
                    index = Cat(weights[n][c].at(1) for c in columns)
                    looked = self._lookup(m, entries, index, f"looked_{n}_{r}_{g}")
                    operands.append(Operand.of(looked, len(columns) * (2 * offset - 1)))
                tree = Tree(m, platform, f"tree_{n}_{r}", stages=2)
                total = tree.total(operands)
                lane_sums.append(signed_total(total, self.spec.columns * offset))
                stages = tree.stages
        self.accumulate(m, platform, sums, stages)


class FusedChains(PlanesArray):
    """Chains of adders whose second operand is a multiplexer in the adder's own LUT; xc7.

    A position of a chain adds one of 0, a, a' and a + a', which is formed once for all lanes: its
    LUT takes the sum so far, two weights and three bits of data. Three chains at a time are then
    added.

    Parameters
    ----------
    spec
        What to build.
    adders
        Adders in a chain, 1 or more.
    leaf
        What a chain begins with: ``"table"``: two columns from a multiplexer; ``"reset"``: one
        column in a register that its weight resets.
    parallel
        All planes in one cycle.
    """

    def __init__(self, spec: ArraySpec, *, adders: int, leaf: str, parallel: bool = False) -> None:
        if adders < 1:
            raise ValueError(f"adders must be at least 1, not {adders}")
        if leaf not in ("table", "reset"):
            raise ValueError(f'leaf must be "table" or "reset", not {leaf!r}')
        if spec.ternary:
            raise ValueError("chains of ternary weights take more than a LUT per bit")
        self.adders = adders
        self.leaf = leaf
        super().__init__(spec, parallel=parallel)

    @property
    def chains(self) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Columns of each chain: singles to begin with, and pairs."""
        first = 1 if self.leaf == "reset" else 2
        length = first + 2 * self.adders
        chains = []
        for start in range(0, self.step, length):
            columns = list(range(start, min(start + length, self.step)))
            # A column without a partner can only begin a chain.
            singles = columns[: len(columns) % 2]
            rest = columns[len(singles) :]
            pairs = list(zip(rest[::2], rest[1::2], strict=True))
            chains.append((singles, pairs))
        return chains

    def elaborate(self, platform: object) -> Module:
        m = Module()
        weights = self.weight_lines(m)
        offset_rows = self.offset_lines(m)
        sums: list[list[Value]] = [[] for _ in weights]
        stages = 0
        for r, xs in enumerate(offset_rows):
            both = {
                pair: Line(m, self._both(*(xs[c].at(0) for c in pair)), f"both_{r}_{pair[0]}")
                for _, pairs in self.chains
                for pair in pairs
            }
            for n, lane_sums in enumerate(sums):
                totals = []
                for p in range(self.in_space):
                    off = weights[n][p * self.step : (p + 1) * self.step]
                    tree = Tree(m, platform, f"sum_{n}_{r}_{p}")
                    totals.append(tree.total(self._chains(m, tree, off, xs, both)))
                tree = Tree(m, platform, f"planes_{n}_{r}", stages=tree.stages)
                lane_sums.append(self.join_planes(tree, totals))
                stages = tree.stages
        self.accumulate(m, platform, sums, stages)
        return m

    @staticmethod
    def _both(x: Value, y: Value) -> Value:
        return (x + y)[: len(x) + 1]

    def _chains(
        self,
        m: Module,
        tree: Tree,
        off: list[Line],
        xs: list[Line],
        both: dict[tuple[int, int], Line],
    ) -> list[Operand]:
        """The sums of all chains, in the same cycle."""
        ends = []
        for number, (singles, pairs) in enumerate(self.chains):
            chain = Tree(m, tree.platform, f"{tree.name}_chain_{number}", stages=1)
            pairs = list(pairs)
            if singles:
                (c,) = singles
                name = f"{chain.name}_gated"
                register = self.gated_register(m, xs[c].at(1), off[c].at(1), self.offset, name)
                total = Operand.of(register, 2 * self.offset - 1)
                chain.stages += 1
            else:
                first = self._choice(pairs.pop(0), off, xs, both, 1)
                looked = Signal(first.width, name=f"{chain.name}_looked")
                m.d.comb += looked.eq(first.value)
                total = Operand.of(looked, first.high)
            for number_in_chain, pair in enumerate(pairs, 1):
                choice = self._choice(pair, off, xs, both, chain.stages)
                (total,) = chain.level([total, choice], 2)
                if number_in_chain % 2 == 0 or number_in_chain == len(pairs):
                    (total,) = chain.register([total])
            ends.append((chain, total))
        tree.stages = max(chain.stages for chain, _ in ends)
        totals = []
        for chain, total in ends:
            while chain.stages < tree.stages:
                (total,) = chain.register([total])
            totals.append(total)
        return totals

    def _choice(
        self,
        pair: tuple[int, int],
        off: list[Line],
        xs: list[Line],
        both: dict[tuple[int, int], Line],
        stage: int,
    ) -> Operand:
        """What a pair of columns adds, with the offsets of two."""
        bits = self.spec.activation_bits

        def choose(i: int, no_a: Value, no_b: Value, a: Value, b: Value, ab: Value) -> Value:
            if i > bits:
                return a & 0
            one = (1 ^ no_a) & no_b & a | no_a & (1 ^ no_b) & b | (1 ^ no_a) & (1 ^ no_b) & ab
            return one | no_a & no_b if i == bits else one

        def alone(x: Value) -> Value:
            # With the other's offset: 2^(b-1) more.
            return Cat(x[:-1], ~x[-1], x[-1])

        a, b = pair
        operands = (
            off[a].at(stage),
            off[b].at(stage),
            alone(xs[a].at(stage)),
            alone(xs[b].at(stage)),
            both[pair].at(stage),
        )
        return Operand(Term(choose, operands), 2 * (2 * self.offset - 1))


def _registered(m: Module, entries: Sequence[Value], name: str) -> list[Signal]:
    registers = [
        Signal(e.shape(), name=f"{name}_{i}", reset_less=True) for i, e in enumerate(entries)
    ]
    m.d.sync += [register.eq(entry) for register, entry in zip(registers, entries, strict=True)]
    return registers


def _signed_sums(xs: Sequence[Value]) -> list[Value]:
    """Sums by the signs of all but the last, which counts as it is; bit 1: plus."""
    bits = len(xs[0]) + (len(xs) - 1).bit_length()
    sums: list[Value] = [xs[-1]]
    for x in xs[-2::-1]:
        sums = [total for s in sums for total in (s - x, s + x)]
    return [total[:bits].as_signed() for total in sums]


def _subset_sums(xs: Sequence[Value]) -> list[Value]:
    """Sums of all subsets; bit j of the index: the j-th is in it."""
    if len(xs) == 1:
        return [Const(0, xs[0].shape()), xs[0]]
    half = len(xs) // 2
    low, high = _subset_sums(xs[:half]), _subset_sums(xs[half:])
    return [
        a + b if i and j else (a if i else b) for j, b in enumerate(high) for i, a in enumerate(low)
    ]
