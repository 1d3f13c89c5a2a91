"""Adders that fill the carry cells of an FPGA.

Adders are most of a LUT array, and synthesis leaves half of what a carry cell could do unused: it
does not see that the XOR of an add/subtract fits the cell, and does not know adders of three
operands at all. Where the target is known (``platform`` has a ``family`` that is in
`placed.FAMILIES`), these functions place the cells themselves; everywhere else they are plain
arithmetic. The results are the same.

    family   add or subtract, per bit             sum of three, per bit
    ecp5     half a CCU2C, one more for the carry two such adders
    xc7      one LUT before CARRY4                one LUT6_2 (sum and majority) before CARRY4
    other    what synthesis makes of ``+``
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from lutcore.hw.cells.placed import FAMILIES, Half, carry4, ccu2c, extend, family, full_adders

__all__ = ["TARGETS", "add", "add3"]

#: What a design may be generated for. Standard cells and iCE40 have plain operators.
TARGETS = (*FAMILIES, "ice40", "cells")

# CCU2C: the LUT of four inputs is "propagate", its truth table at C = D = 0 "generate". D is 1.
_CCU2C_ADD = 0x96AA  # propagate A ^ B ^ C, generate A
# Of bit A less or plus bit B the carry, with C the sign: propagate where there is none, generate 1.
_CCU2C_CARRY = 0x000F | sum(
    1 << 8 + i for i in range(8) if not ((i & 1) | ~(i >> 1) & 1 if i & 4 else i & 1 & i >> 1)
)


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
        return _add_ccu2c(m, xs, ys, subtract, width, below or (Const(0, 1), Const(0, 1)))
    carry = subtract
    if below is not None:
        p, q = below
        carry = Mux(subtract, p | ~q, p & q)
    inverted = ys ^ subtract.replicate(width)
    if family(platform) == "xc7":
        return carry4(m, xs ^ inverted, xs, carry, width)[0].as_signed()
    # The carry into the lowest bit comes from an extra position below it, because synthesis does
    # not merge x + (y ^ s) + s into one adder.
    return (Cat(carry, xs) + Cat(carry, inverted))[1 : width + 1].as_signed()


def add3(m: Module, platform: object, x: Value, y: Value, z: Value, width: int) -> Value:
    """``x + y + z`` in ``width`` bits, signed."""
    if family(platform) != "xc7":
        return (x + y + z)[:width].as_signed()
    propagate, generate, _ = full_adders(m, (x, y, z), width, Const(0, 1))
    return carry4(m, propagate, generate, Const(0, 1), width)[0].as_signed()


def _add_ccu2c(
    m: Module, x: Value, y: Value, subtract: Value, width: int, below: tuple[Value, Value]
) -> Value:
    total = Signal(signed(width))
    one = Const(1, 1)
    # The lowest half cell makes the carry, which without bits below is `subtract`.
    halves = [Half(_CCU2C_CARRY, (*below, subtract, one), Signal())]
    halves += [Half(_CCU2C_ADD, (x[i], y[i], subtract, one), total[i]) for i in range(width)]
    ccu2c(m, halves)
    return total
