"""Adders that take the logic before them into the cells of the carry chain.

An addend is a `Term`: bit i is a small function of bit i of some operands, such as an activation
and the weight that gates it. Where the target's cells are placed (see `placed`), the
functions of both addends become part of the cell's own truth table, so that they cost nothing:

    family   what fits beside the sum, per bit
    ecp5     (half a CCU2C) terms of two operands and two, or of one and three, four in all, if the
             one of C and D vanishes with them
    xc7      (a LUT before CARRY4) a plain operand and any function of five; or terms of five
             operands together; or of six, if the second vanishes with one of them

Sums are of unsigned numbers and as wide as the caller asks, the carry out being the top bit. On
ecp5 the carry out takes a half cell, which also separates two sums in one chain: `fused_adds` packs
several, so that none is left unused between them.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import permutations, product
from typing import Any, NamedTuple, overload

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value

from lutcore.hw.cells.placed import Half, carry4, ccu2c, extend, family, full_adders

__all__ = ["Term", "fused_add", "fused_adds", "masked", "plain", "sum3"]

_ZERO, _ONE = Const(0, 1), Const(1, 1)


class Term(NamedTuple):
    """An addend: bit i is ``function(i, *bits)`` of bit i of each operand.

    The function is called with hardware and with the integers 0 and 1, so it may use ``&``, ``|``
    and ``^`` alone (``1 ^ x`` for "not x"). Operands of one bit serve all positions; others are
    extended by their sign, or with zeros.
    """

    function: Callable[..., Any]
    operands: tuple[Value, ...]

    def bits(self, i: int, width: int) -> tuple[Value, ...]:
        """Bit ``i`` of each operand."""
        return tuple(o[0] if len(o) == 1 else extend(o, width)[i] for o in self.operands)

    def table(self, i: int) -> int:
        """Truth table of bit ``i``, the first operand lowest."""
        count = len(self.operands)
        return sum(
            (int(self.function(i, *values[::-1])) & 1) << index
            for index, values in enumerate(product((0, 1), repeat=count))
        )


def plain(x: Value) -> Term:
    """``x`` itself, which may also have a single bit."""
    return Term(lambda i, a: a, (_number(x),))


def masked(x: Value, on: Value) -> Term:
    """``x`` where ``on``, else 0."""
    return Term(lambda i, a, gate: a & gate, (_number(x), on))


def _number(x: Value) -> Value:
    """``x`` in two bits at least: one bit would serve all positions."""
    return extend(x, 2) if len(x) == 1 else x


def fused_add(
    m: Module,
    platform: object,
    u: Term,
    v: Term,
    width: int,
    *,
    carry_in: Value | Term | None = None,
    carry_out: bool = False,
) -> Value:
    """``u + v + carry_in`` in ``width`` bits, and the carry as one more with ``carry_out``.

    The carry in is a bit, or a term of one bit of at most two operands.

    Raises
    ------
    ValueError
        If the terms do not fit into the cells of ``platform``.
    """
    (total,) = fused_adds(m, platform, [(u, v, carry_in)], width, carry_out=carry_out)
    return total


def fused_adds(
    m: Module,
    platform: object,
    sums: Sequence[tuple[Term, Term, Value | Term | None]],
    width: int,
    *,
    carry_out: bool = False,
) -> list[Value]:
    """Several sums ``u + v + carry_in`` of the same width; on ecp5 in one chain."""
    match family(platform):
        case "ecp5":
            return _ecp5(m, sums, width, carry_out)
        case "xc7":
            return [_xc7(m, u, v, _bit(c), width, carry_out) for u, v, c in sums]
    totals = []
    for u, v, carry in sums:
        carry_in = _bit(carry)
        x, y = (Cat(t.function(i, *t.bits(i, width)) for i in range(width)) for t in (u, v))
        # A carry in comes from an extra position below: synthesis does not merge three addends.
        total = x + y if carry_in is None else (Cat(carry_in, x) + Cat(carry_in, y))[1:]
        totals.append(total[: width + carry_out])
    return totals


@overload
def _bit(carry: Value | Term) -> Value: ...
@overload
def _bit(carry: None) -> None: ...
def _bit(carry: Value | Term | None) -> Value | None:
    return carry.function(0, *carry.bits(0, 1)) if isinstance(carry, Term) else carry


def sum3(
    m: Module,
    platform: object,
    operands: Sequence[Value],
    width: int,
    carries: tuple[Value | Term, Value | Term] = (_ZERO, _ZERO),
) -> Value:
    """The sum of three unsigned operands and two carries, which ``width`` bits hold."""
    low, high = (_bit(carry) for carry in carries)
    if family(platform) != "xc7":
        x, y, z = operands
        total = x + y + z
        for carry in (low, high):
            if not isinstance(carry, Const):
                total = total + carry
        return total[:width]
    # Full adders in front of the chain; the chain adds their sums and, a place up, majorities.
    length = min(width, max(map(len, operands)))
    parity, below, top = full_adders(m, operands, length, high)
    used = min(width, length + 1)
    total, carry = carry4(m, Cat(parity, top)[:used], Cat(below, top)[:used], low, used)
    return Cat(total, carry)[:width]


def _ecp5(m: Module, sums: Sequence[tuple], width: int, carry_out: bool) -> list[Value]:
    totals = []
    halves: list[Half] = []
    for number, (u, v, carry_in) in enumerate(sums):
        total = Signal(width + carry_out)
        totals.append(total)
        if carry_in is not None or (number and not carry_out):
            inject = _inject(carry_in)
            if number and carry_out:  # takes the place that brought the last carry out
                inject = inject._replace(sum=halves.pop().sum)
            halves.append(inject)
        for i in range(width):
            free = i == width - 1 and not carry_out
            init, places = _ccu2c_init(
                u.table(i), len(u.operands), v.table(i), len(v.operands), free
            )
            bits = (*u.bits(i, width), *v.bits(i, width))
            inputs = tuple(_ONE if p is None else bits[p] for p in places)
            halves.append(Half(init, inputs, total[i]))
        if carry_out:
            halves.append(_inject(None)._replace(sum=total[width]))
    ccu2c(m, halves)
    return totals


def _inject(carry: Value | Term | None) -> Half:
    """A half cell that brings its carry in out as its sum, and sends ``carry`` up."""
    if carry is None:
        carry = _ZERO
    if not isinstance(carry, Term):
        carry = Term(lambda i, a: a, (carry,))
    bits = (*carry.bits(0, 1), _ZERO)[:2]
    table = carry.table(0)
    return Half(table if len(carry.operands) == 2 else table * 5, (*bits, _ZERO, _ONE), Signal())


@cache
def _ccu2c_init(
    u: int, u_inputs: int, v: int, v_inputs: int, free: bool
) -> tuple[int, tuple[int | None, ...]]:
    """Truth table of a half cell and the operand at each of its inputs; None: constant 1.

    The sum is that of the truth table and the carry. Where the table gives 0, the carry out is
    its value for the same A and B with C = D = 0; ``free``: it does not matter.
    """
    count = u_inputs + v_inputs
    places = [*range(count), *[None] * (4 - count)]
    if count <= 4:
        for order in permutations(places):
            init = _try_order(u, u_inputs, v, count, order, free)
            if init is not None:
                return init, order
    raise ValueError(f"no half CCU2C adds terms with the truth tables {u:#x} and {v:#x}")


def _try_order(
    u: int, u_inputs: int, v: int, count: int, order: tuple[int | None, ...], free: bool
) -> int | None:
    table: dict[int, int] = {}
    carries: dict[int, int] = {}
    for values in range(1 << count):
        first = u >> (values & (1 << u_inputs) - 1) & 1
        second = v >> (values >> u_inputs) & 1
        at = sum((1 if p is None else values >> p & 1) << pin for pin, p in enumerate(order))
        table[at] = first ^ second
        if first == second and carries.setdefault(at & 3, first) != first and not free:
            return None
    if not free:
        for at, carry in carries.items():
            if table.setdefault(at, carry) != carry:
                return None
    return sum(bit << at for at, bit in table.items())


def _xc7(m: Module, u: Term, v: Term, carry_in: Value | None, width: int, carry_out: bool) -> Value:
    propagate, generate = [], []
    for i in range(width):
        first, second = u.bits(i, width), v.bits(i, width)
        if len(first) == 1 and u.table(i) == 0b10:
            # Left to synthesis: one LUT, or less where operands are constant or shared.
            propagate.append(first[0] ^ v.function(i, *second))
            generate.append(first[0])
            continue
        free = i == width - 1 and not carry_out
        init, order = _lut6_2_init(u.table(i), len(u.operands), v.table(i), len(v.operands), free)
        bits = (*first, *second)
        select = Signal()
        data = Signal()
        m.submodules += Instance(
            "LUT6_2",
            p_INIT=Const(init, 64),
            **{f"i_I{pin}": _ONE if p is None else bits[p] for pin, p in enumerate(order)},
            o_O6=select,
            o_O5=data,
        )
        propagate.append(select)
        generate.append(data)
    carry_in = _ZERO if carry_in is None else carry_in
    total, carry = carry4(m, Cat(propagate), Cat(generate), carry_in, width)
    return Cat(total, carry) if carry_out else total


@cache
def _lut6_2_init(
    u: int, u_inputs: int, v: int, v_inputs: int, free: bool
) -> tuple[int, tuple[int | None, ...]]:
    """Truth table of a LUT6_2 and the operand at each of its inputs; None: constant 1.

    O6, the whole table, is the sum without carry; O5, its lower half by I0 to I4, must be the
    first addend wherever O6 is 0. ``free``: O5 does not matter.
    """
    count = u_inputs + v_inputs
    if count <= 5:
        order = (*range(count), *[None] * (6 - count))
        table = 0
        for at in range(32):
            values = at & (1 << count) - 1
            first = u >> (values & (1 << u_inputs) - 1) & 1
            second = v >> (values >> u_inputs) & 1
            table |= first << at | (first ^ second) << (at + 32)
        return table, order
    if count == 6:
        for top in range(6):
            order = (*(p for p in range(6) if p != top), top)
            table, fits = 0, True
            for at in range(64):
                values = sum((at >> pin & 1) << p for pin, p in enumerate(order))
                first = u >> (values & (1 << u_inputs) - 1) & 1
                second = v >> (values >> u_inputs) & 1
                table |= (first ^ second) << at
                if at >= 32:
                    below = table >> (at - 32) & 1
                    # For I5 = 0 this is the same table: it may be 0 only where both are.
                    fits &= first != second or below == first
                else:
                    fits &= first != second or first == 0
            if fits or free:
                return table, order
    raise ValueError(f"no LUT6_2 adds terms with the truth tables {u:#x} and {v:#x}")
