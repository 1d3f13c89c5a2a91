"""Adder trees over the lookups of a lane."""

from amaranth.hdl import Cat, Module, Signal, Value, signed

from lutcore.hw.carry import add, add3
from lutcore.hw.config import CoreConfig, ceil_div

__all__ = ["low_bits", "plain_tree", "sign_delay", "signed_tree", "tree_stages"]


def tree_stages(config: CoreConfig) -> int:
    """Registers in the adder tree: one for two levels of sums of two, one for a sum of three."""
    if config.symmetric:
        return ceil_div((config.depth - 1).bit_length(), 2)
    stages, nodes = 0, config.depth
    while nodes > 1:
        stages, nodes = stages + 1, ceil_div(nodes, 3)
    return stages


def sign_delay(table: int, stages: int) -> int:
    """Registers before the level where the sign of a table is used; table 0 is used at the end."""
    if table == 0:
        return stages
    level = (table & -table).bit_length()
    return (level - 1) // 2


def _registered(level: int, nodes: int) -> bool:
    """Whether a level of sums of two, of ``nodes`` operands, ends in registers."""
    return level % 2 == 0 or nodes <= 2


def low_bits(m: Module, bits: list[Signal], name: str) -> list[list[Signal]]:
    """The lowest bit of every node of `signed_tree`, by level from ``bits``, those of its values.

    Signs do not change it, so that it is the same for all lanes of a row.
    """
    levels = [bits]
    while len(bits) > 1:
        level = len(levels)
        domain = m.d.sync if _registered(level, len(bits)) else m.d.comb
        above = [Signal(name=f"{name}_{level}_{p}") for p in range(ceil_div(len(bits), 2))]
        for p, node in enumerate(above):
            domain += node.eq(Cat(bits[2 * p : 2 * p + 2]).xor())
        levels.append(above)
        bits = above
    return levels


def signed_tree(
    m: Module,
    platform: object,
    values: list[Signal],
    signs: list[Signal],
    low: list[list[Signal]] | None,
    name: str,
) -> Value:
    """The sum of ``values``, each with its sign relative to the left one that it meets.

    Parameters
    ----------
    m, platform
        Where it is built.
    values
        Signed, of equal width.
    signs
        Of each value, delayed by `sign_delay`.
    low
        From `low_bits`: the lowest bits of the values, which ``values`` are without; or None.
    name
        Prefix of signals.
    """
    level, stride = 0, 1
    while len(values) > 1:
        level += 1
        domain = m.d.sync if _registered(level, len(values)) else m.d.comb
        above = []
        for p in range(0, len(values), 2):
            if p + 1 == len(values):
                total: Value = values[p]
                width = len(total)
            else:
                x, y = values[p : p + 2]
                width = max(len(x), len(y)) + 1
                below = None if low is None else (low[level - 1][p], low[level - 1][p + 1])
                total = add(m, platform, x, y, width, signs[(p + 1) * stride], below)
            node = Signal(signed(width), name=f"{name}_{level}_{p // 2}")
            domain += node.eq(total)
            above.append(node)
        values = above
        stride *= 2
    return values[0] if low is None else Cat(low[-1][0], values[0]).as_signed()


def plain_tree(m: Module, platform: object, values: list, name: str) -> Value:
    """The sum of ``values``, three at a time, a register after each level."""
    level = 0
    while len(values) > 1:
        level += 1
        above = []
        for p in range(0, len(values), 3):
            some = values[p : p + 3]
            width = max(map(len, some)) + (len(some) - 1).bit_length()
            if len(some) == 3:
                total = add3(m, platform, *some, width)
            elif len(some) == 2:
                total = add(m, platform, *some, width)
            else:
                total = some[0]
            node = Signal(signed(width), name=f"{name}_{level}_{p // 3}")
            m.d.sync += node.eq(total)
            above.append(node)
        values = above
    return values[0]
