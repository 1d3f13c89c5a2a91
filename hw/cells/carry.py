"""Adders that fill the carry cells of an FPGA.

Adders are most of a LUT array, and synthesis leaves half of what a carry cell could do unused: it
does not see that the XOR of an add/subtract fits the cell, and does not know adders of three
operands at all. Where the target is known (``platform`` has a ``family`` that is in
:data:`FAMILIES`), these functions place the cells themselves; everywhere else they are plain
arithmetic. The results are the same.

    family   add or subtract, per bit             sum of three, per bit
    ecp5     half a CCU2C, one more for the carry two such adders
    xc7      one LUT before CARRY4                one LUT6_2 (sum and majority) before CARRY4
    other    what synthesis makes of ``+``
"""

from amaranth.hdl import Cat, Const, Instance, Module, Mux, Signal, Value, signed

__all__ = ["FAMILIES", "TARGETS", "add", "add3", "family"]

#: Families whose cells are placed.
FAMILIES = ("ecp5", "xc7")
#: What a design may be generated for. Standard cells and iCE40 have plain operators.
TARGETS = (*FAMILIES, "ice40", "cells")

# CCU2C: the LUT of four inputs is "propagate", its truth table at C = D = 0 "generate". D is 1.
_CCU2C_ADD = 0x96AA  # propagate A ^ B ^ C, generate A
# Of bit A less or plus bit B the carry, with C the sign: propagate where there is none, generate 1.
_CCU2C_CARRY = 0x000F | sum(
    1 << 8 + i for i in range(8) if not ((i & 1) | ~(i >> 1) & 1 if i & 4 else i & 1 & i >> 1)
)
_CCU2C_NONE = 0x0000
# LUT6_2 with I5 = 1: O6 by the upper half of the table, O5 by the lower half.
_MAJORITY = sum(1 << i for i in range(32) if (i & 7).bit_count() >= 2)
_PARITY = sum(1 << i for i in range(32) if (i & 15).bit_count() % 2)
_LUT6_2_ADD3 = _PARITY << 32 | _MAJORITY


def family(platform: object) -> str | None:
    """The family whose cells can be placed, of our own targets or of a board's platform."""
    name = getattr(platform, "family", None)
    name = {"series7": "xc7"}.get(name, name)
    return name if name in FAMILIES else None


def extend(value: Value, width: int) -> Value:
    """``value`` extended by its sign, or cut, to ``width`` bits."""
    if len(value) >= width:
        return value[:width]
    top = value[-1] if value.shape().signed else Const(0, 1)
    return Cat(value, top.replicate(width - len(value)))


def add(
    m: Module,
    platform: object,
    x: Value,
    y: Value,
    width: int,
    subtract: Value | None = None,
    below: tuple[Value, Value] | None = None,
) -> Value:
    """``x - y`` where ``subtract``, else ``x + y``, in ``width`` bits, signed.

    Parameters
    ----------
    m, platform
        Where cells are placed.
    x, y
        Operands; ``x`` should be a plain signal, since it goes to the carry cell directly.
    width
        Bits of the result, cut or extended.
    subtract
        None: never.
    below
        The bits of ``x`` and ``y`` below their lowest, of which only the carry (or borrow) is
        wanted: the result is that of the longer operands without its lowest bit.
    """
    if subtract is None:
        return (x + y)[:width].as_signed()
    xs, ys = extend(x, width), extend(y, width)
    if family(platform) == "ecp5":
        return _ccu2c(m, xs, ys, subtract, width, below or (Const(0, 1), Const(0, 1)))
    carry = subtract
    if below is not None:
        p, q = below
        carry = Mux(subtract, p | ~q, p & q)
    inverted = ys ^ subtract.replicate(width)
    if family(platform) == "xc7":
        return _carry4(m, xs ^ inverted, xs, carry, width)
    # The carry into the lowest bit comes from an extra position below it, because synthesis does
    # not merge x + (y ^ s) + s into one adder.
    return (Cat(carry, xs) + Cat(carry, inverted))[1 : width + 1].as_signed()


def add3(m: Module, platform: object, x: Value, y: Value, z: Value, width: int) -> Value:
    """``x + y + z`` in ``width`` bits, signed."""
    if family(platform) != "xc7":
        return (x + y + z)[:width].as_signed()
    operands = [extend(value, width) for value in (x, y, z)]
    propagate = Signal(width)
    majority = Signal(width)
    below = Cat(Const(0, 1), majority[: width - 1])
    for i in range(width):
        m.submodules += Instance(
            "LUT6_2",
            p_INIT=Const(_LUT6_2_ADD3, 64),
            **{f"i_I{j}": operand[i] for j, operand in enumerate(operands)},
            i_I3=below[i],
            i_I4=Const(0, 1),
            i_I5=Const(1, 1),
            o_O6=propagate[i],
            o_O5=majority[i],
        )
    return _carry4(m, propagate, below, Const(0, 1), width)


def _ccu2c(
    m: Module, x: Value, y: Value, subtract: Value, width: int, below: tuple[Value, Value]
) -> Value:
    total = Signal(signed(width))
    # The lowest half cell makes the carry, which without bits below is `subtract`.
    halves = [(_CCU2C_CARRY, *below, subtract, Signal())]
    halves += [(_CCU2C_ADD, x[i], y[i], subtract, total[i]) for i in range(width)]
    if len(halves) % 2:
        halves.append((_CCU2C_NONE, *[Const(0, 1)] * 3, Signal()))
    carry: Value = Const(0, 1)
    for low, high in zip(halves[::2], halves[1::2], strict=True):
        carry_out = Signal()
        pins: dict[str, object] = {}
        for place, (init, a, b, c, s) in enumerate((low, high)):
            pins |= {
                f"p_INIT{place}": Const(init, 16),
                f"p_INJECT1_{place}": "NO",
                f"i_A{place}": a,
                f"i_B{place}": b,
                f"i_C{place}": c,
                f"i_D{place}": Const(1, 1),
                f"o_S{place}": s,
            }
        m.submodules += Instance("CCU2C", i_CIN=carry, o_COUT=carry_out, **pins)
        carry = carry_out
    return total


def _carry4(m: Module, propagate: Value, generate: Value, carry_in: Value, width: int) -> Value:
    total = Signal(signed(width))
    carry: Value = carry_in
    for i in range(0, width, 4):
        used = min(4, width - i)
        carries = Signal(4)
        sums = Signal(4)
        m.submodules += Instance(
            "CARRY4",
            i_CI=Const(0, 1) if i == 0 else carry,
            i_CYINIT=carry if i == 0 else Const(0, 1),
            i_S=propagate[i : i + used],
            i_DI=generate[i : i + used],
            o_CO=carries,
            o_O=sums,
        )
        m.d.comb += total[i : i + used].eq(sums[:used])
        carry = carries[3]
    return total
