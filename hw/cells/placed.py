"""Carry cells of an FPGA's family, placed: the chains that `carry` and `fused` are made of.

family   chain      a position of the sum
ecp5     `ccu2c`    half a CCU2C: a truth table of four inputs, then the carry
xc7      `carry4`   a quarter of a CARRY4 behind LUTs that give "propagate" and "generate"
"""

from collections.abc import Sequence
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value

__all__ = ["FAMILIES", "Half", "carry4", "ccu2c", "extend", "family", "full_adders"]

#: Families whose cells are placed.
FAMILIES = ("ecp5", "xc7")

_ZERO, _ONE = Const(0, 1), Const(1, 1)
# LUT6_2 with I5 = 1: O6 by the upper half of the table, O5 by the lower half.
_PARITY_OF_4 = sum((i & 15).bit_count() % 2 << i for i in range(32))
_MAJORITY_OF_3 = sum(((i & 7).bit_count() >= 2) << i for i in range(32))


def family(platform: object) -> str | None:
    """The family whose cells can be placed, of our own targets or of a board's platform."""
    name = getattr(platform, "family", None)
    if name == "series7":
        return "xc7"
    return name if name in FAMILIES else None


def extend(value: Value, width: int) -> Value:
    """``value`` extended by its sign, or cut, to ``width`` bits."""
    if len(value) >= width:
        return value[:width]
    top = value[-1] if value.shape().signed else Const(0, 1)
    return Cat(value, top.replicate(width - len(value)))


class Half(NamedTuple):
    """Half a CCU2C: truth table, inputs A, B, C, D (a bit each), and what takes the sum."""

    init: int
    inputs: tuple[Value, ...]
    sum: Value


def ccu2c(m: Module, halves: Sequence[Half]) -> None:
    """A carry chain of CCU2C cells, lowest half first; the carry into it is 0."""
    if len(halves) % 2:
        halves = [*halves, Half(0, (_ZERO, _ZERO, _ZERO, _ONE), Signal())]
    carry: Value = _ZERO
    for pair in zip(halves[::2], halves[1::2], strict=True):
        carry_out = Signal()
        pins: dict[str, object] = {}
        for place, half in enumerate(pair):
            pins |= {f"p_INIT{place}": Const(half.init, 16), f"p_INJECT1_{place}": "NO"}
            pins |= {f"i_{pin}{place}": v for pin, v in zip("ABCD", half.inputs, strict=True)}
            pins[f"o_S{place}"] = half.sum
        m.submodules += Instance("CCU2C", i_CIN=carry, o_COUT=carry_out, **pins)
        carry = carry_out


def carry4(
    m: Module, propagate: Value, generate: Value, carry_in: Value, width: int
) -> tuple[Value, Value]:
    """A carry chain of CARRY4 cells: its sum, unsigned, ``width`` bits, and the carry out of it.

    Bit i of the sum is ``propagate[i]`` XOR the carry; where ``propagate[i]`` is 0, the carry goes
    on as ``generate[i]``.
    """
    total = Signal(width)
    carry = carry_out = carry_in
    for i in range(0, width, 4):
        used = min(4, width - i)
        carries = Signal(4)
        sums = Signal(4)
        m.submodules += Instance(
            "CARRY4",
            i_CI=_ZERO if i == 0 else carry,
            i_CYINIT=carry if i == 0 else _ZERO,
            i_S=propagate[i : i + used],
            i_DI=generate[i : i + used],
            o_CO=carries,
            o_O=sums,
        )
        m.d.comb += total[i : i + used].eq(sums[:used])
        carry, carry_out = carries[3], carries[used - 1]
    return total, carry_out


def full_adders(
    m: Module, operands: Sequence[Value], width: int, carry_in: Value
) -> tuple[Value, Value, Value]:
    """Three operands as two for a `carry4` chain, in one LUT6_2 a bit.

    Returns
    -------
    tuple
        "Propagate" and "generate" of the chain, ``width`` bits each, and the bit of weight
        ``2**width``. The sum of the operands and ``carry_in`` is ``generate`` plus (``propagate``
        XOR ``generate``) plus that bit.
    """
    bits = [extend(operand, width) for operand in operands]
    parity = Signal(width)
    majority = Signal(width)
    below = Cat(carry_in, majority[: width - 1])
    for i in range(width):
        inputs = [*(operand[i] for operand in bits), below[i], _ZERO, _ONE]
        m.submodules += Instance(
            "LUT6_2",
            p_INIT=Const(_PARITY_OF_4 << 32 | _MAJORITY_OF_3, 64),
            **{f"i_I{pin}": bit for pin, bit in enumerate(inputs)},
            o_O6=parity[i],
            o_O5=majority[i],
        )
    return parity, below, majority[width - 1]
