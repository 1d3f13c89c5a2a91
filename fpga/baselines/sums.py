"""Sums of unsigned numbers in the fewest cells: the adder trees of the baselines.

Signed activations are made unsigned by their top bit, which is inverted: a + 2^(b-1). A gated one
that is off counts 2^(b-1) then, so that the sum of a tree has one constant offset, whatever the
weights. Widths follow from the largest values, and the top bit of a sum is the carry out of its
adder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from amaranth.hdl import Cat, Const, Module, Signal, Value

from lutcore.hw.cells.fused import Term, fused_adds, plain, sum3
from lutcore.hw.cells.placed import extend, family

__all__ = ["Carry", "Operand", "Tree", "signed_total"]


@dataclass(frozen=True)
class Operand:
    """An addend ``term``·2^``shift``, whose term lies in 0 to ``high``."""

    term: Term
    high: int
    shift: int = 0

    @property
    def width(self) -> int:
        """Bits of the term."""
        return self.high.bit_length()

    @property
    def value(self) -> Value:
        """The term as a value of its own."""
        if _is_plain(self):
            return extend(self.term.operands[0], self.width)
        term, width = self.term, self.width
        return Cat(term.function(i, *term.bits(i, width)) for i in range(width))

    @classmethod
    def of(cls, value: Value, high: int, shift: int = 0) -> "Operand":
        return cls(plain(value), high, shift)


class Carry(Protocol):
    """A bit, or a term of one bit, at every cycle: `lutcore.fpga.baselines.array.Line` is one."""

    def at(self, cycle: int, /) -> Value | Term: ...


@dataclass
class Tree:
    """An adder tree that is built level by level.

    Attributes
    ----------
    m, platform
        Where it is built: on xc7 three operands are added at a time, elsewhere two.
    name
        Prefix of its signals.
    stages
        Cycles from the inputs to the operands.
    carries
        What counts 1 each; adders take it in at their lowest place, as much of it as they can.
    """

    m: Module
    platform: object
    name: str
    stages: int = 0
    carries: list[Carry] = field(default_factory=list)
    _level: int = 0

    def total(self, operands: Sequence[Operand]) -> Operand:
        """The sum of all; registered, unless there is but one."""
        operands = list(operands)
        if family(self.platform) == "xc7":
            if any(not _is_plain(operand) for operand in operands):
                operands = self.level(operands, 2)
                if len(operands) > 1:
                    operands = self.register(operands)
            while len(operands) > 1:
                operands = self.register(self.level(operands, 3))
            return operands[0]
        levels = 0
        while len(operands) > 1:
            last = len(operands) == 2
            operands = self.level(operands, 2)
            levels += 1
            if last or levels % 2 == 0:
                operands = self.register(operands)
        return operands[0]

    def register(self, operands: Sequence[Operand]) -> list[Operand]:
        """All operands a cycle later."""
        self._level += 1
        self.stages += 1
        above = []
        for p, operand in enumerate(operands):
            node = Signal(operand.width, name=f"{self.name}_{self._level}_{p}", reset_less=True)
            self.m.d.sync += node.eq(operand.value)
            above.append(Operand.of(node, operand.high, operand.shift))
        return above

    def level(self, operands: Sequence[Operand], arity: int) -> list[Operand]:
        """Sums of neighbours, two or three each."""
        groups = _groups(operands, arity)
        above: list[Operand | None] = [None] * len(groups)
        pairs = []
        for place, group in enumerate(groups):
            if len(group) == 1:
                above[place] = group[0]
            elif len(group) == 3:
                above[place] = self._three(group)
            else:
                pairs.append(place)
        # Neighbours share a carry chain on ecp5, where an odd width would waste half a cell.
        for p in range(0, len(pairs), 2):
            places = pairs[p : p + 2]
            for place, total in zip(
                places, self._pairs([groups[place] for place in places]), strict=True
            ):
                above[place] = total
        return [operand for operand in above if operand is not None]

    def carry(self) -> Value | Term | None:
        """The next of the carries, in the operands' cycle; None if there is none."""
        return self.carries.pop(0).at(self.stages) if self.carries else None

    def _pairs(self, groups: Sequence[Sequence[Operand]]) -> list[Operand]:
        sums, lows, highs = [], [], []
        for x, y in groups:
            if x.shift > y.shift:
                x, y = y, x
            # What lies below the higher operand passes by the adder.
            skip = y.shift - x.shift
            low = x.value[:skip] if skip else None
            first = x.term if low is None else plain(x.value[skip:])
            if len(y.term.operands) < len(first.operands):
                first, second = y.term, first
            else:
                second = y.term
            # Only at the lowest place a carry counts 1.
            carry = self.carry() if x.shift == 0 and skip == 0 else None
            sums.append((first, second, carry))
            lows.append((low, x.shift))
            highs.append((x.high + (y.high << skip) + (carry is not None), (x.high >> skip)))
        width = max(
            max(part.bit_length(), group[1].width, group[0].width if low is None else 0)
            for group, (_, part), (low, _) in zip(groups, highs, lows, strict=True)
        )
        out = [
            high.bit_length() - (0 if low is None else len(low))
            for (high, _), (low, _) in zip(highs, lows, strict=True)
        ]
        carry_out = any(bits > width for bits in out)
        totals = fused_adds(self.m, self.platform, sums, width, carry_out=carry_out)
        return [
            Operand.of(total[:bits] if low is None else Cat(low, total[:bits]), high, shift)
            for total, (low, shift), (high, _), bits in zip(totals, lows, highs, out, strict=True)
        ]

    def _three(self, group: Sequence[Operand]) -> Operand:
        x, y, z = sorted(group, key=lambda operand: operand.shift)
        skip, rise = y.shift - x.shift, z.shift - y.shift
        low = x.value[:skip]
        values = (x.value[skip:], y.value, Cat(Const(0, rise), z.value) if rise else z.value)
        carries = []
        if x.shift == 0 and skip == 0 and rise == 0:
            carries = [c for c in (self.carry(), self.carry()) if c is not None]
        high = x.high + (y.high << skip) + (z.high << skip + rise) + len(carries)
        padded = (*carries, Const(0, 1), Const(0, 1))[:2]
        width = high.bit_length() - skip
        total = sum3(self.m, self.platform, values, width, (padded[0], padded[1]))
        return Operand.of(Cat(low, total) if skip else total, high, x.shift)


def _groups(operands: Sequence[Operand], arity: int) -> list[Sequence[Operand]]:
    """Neighbours that are added.

    A sum of two costs as much as one of three: in a tree of threes there is one at most, where an
    even number of operands makes it unavoidable.
    """
    whole = len(operands) - len(operands) % arity
    groups = [operands[p : p + arity] for p in range(0, whole, arity)]
    rest = operands[whole:]
    if arity == 3 and len(operands) % 2:
        return [*groups, *([operand] for operand in rest)]
    return [*groups, rest] if rest else groups


def _is_plain(operand: Operand) -> bool:
    return len(operand.term.operands) == 1


def signed_total(operand: Operand, offset: int) -> Value:
    """``operand`` less ``offset``, signed; free of adders if ``offset`` is a power of two."""
    value = operand.value
    top = offset.bit_length() - 1
    if offset == 1 << top and operand.high < 2 << top:
        return Cat(value[:top], ~extend(value, top + 1)[top]).as_signed()
    return (value - offset).as_signed()
