"""Adder trees over the lookups of a lane.

Which tree a core has follows from its tables: sums of two by relative signs for halved ones, sums
of three for full ones, and for ternary ones sums of two with both signs and then of three.
"""

from amaranth.hdl import Cat, Module, Signal, Value, signed

from lutcore.hw.cells.carry import add, add3
from lutcore.hw.cells.fused import Term, fused_add, plain, sum3
from lutcore.hw.cells.placed import extend, family
from lutcore.hw.contract.config import CoreConfig, ceil_div

__all__ = [
    "goes_without_reset",
    "inverting_tree",
    "low_bits",
    "plain_tree",
    "sign_delay",
    "signed_tree",
    "tree_stages",
]


def tree_stages(config: CoreConfig) -> int:
    """Registers in the adder tree: one for two levels of sums of two, one for a sum of three."""
    if config.halved:
        return ceil_div((config.depth - 1).bit_length(), 2)
    stages, nodes = 0, config.depth
    if config.symmetric:
        stages, nodes = 1, ceil_div(nodes, 2)
    while nodes > 1:
        stages, nodes = stages + 1, len(_threes(nodes))
    return stages


def _threes(nodes: int) -> list[int]:
    """How many operands each sum of a level of sums of three takes.

    A sum of two costs as much as one of three, so there is one at most in a tree: where an even
    number of operands makes it unavoidable.
    """
    full, rest = divmod(nodes, 3)
    last = [2] if rest == 2 and nodes % 2 == 0 else [1] * rest
    return [3] * full + last


def sign_delay(table: int, stages: int) -> int:
    """Registers before the level where the sign of a table is used; table 0 is used at the end."""
    if table == 0:
        return stages
    level = (table & -table).bit_length()
    return (level - 1) // 2


def _registered(level: int, nodes: int) -> bool:
    """Whether a level of sums of two, of ``nodes`` operands, ends in registers."""
    return level % 2 == 0 or nodes <= 2


def goes_without_reset(platform: object) -> bool:
    """Whether data registers of lanes and trees go without a reset.

    A reset keeps synthesis for 7-series from making shift registers, which take LUTs, of those that
    are only handed on. Elsewhere they have none: it would cost routing, or a gate, and no test can
    see what they become by it.
    """
    return family(platform) != "xc7"


def low_bits(m: Module, platform: object, bits: list[Signal], name: str) -> list[list[Signal]]:
    """The lowest bit of every node of `signed_tree`, by level from ``bits``, those of its values.

    Signs do not change it, so that it is the same for all lanes of a row.
    """
    levels = [bits]
    while len(bits) > 1:
        level = len(levels)
        domain = m.d.sync if _registered(level, len(bits)) else m.d.comb
        above = [
            Signal(name=f"{name}_{level}_{p}", reset_less=goes_without_reset(platform))
            for p in range(ceil_div(len(bits), 2))
        ]
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
            node = Signal(
                signed(width),
                name=f"{name}_{level}_{p // 2}",
                reset_less=goes_without_reset(platform),
            )
            domain += node.eq(total)
            above.append(node)
        values = above
        stride *= 2
    return values[0] if low is None else Cat(low[-1][0], values[0]).as_signed()


def plain_tree(m: Module, platform: object, values: list[Signal], name: str) -> Value:
    """The sum of ``values``, three at a time, a register after each level."""
    level = 0
    while len(values) > 1:
        level += 1
        above, rest = [], list(values)
        for p, count in enumerate(_threes(len(values))):
            some, rest = rest[:count], rest[count:]
            width = max(map(len, some)) + (count - 1).bit_length()
            match some:
                case [x, y, z]:
                    total = add3(m, platform, x, y, z, width)
                case [x, y]:
                    total = add(m, platform, x, y, width)
                case _:
                    total = some[0]
            node = Signal(
                signed(width), name=f"{name}_{level}_{p}", reset_less=goes_without_reset(platform)
            )
            m.d.sync += node.eq(total)
            above.append(node)
        values = above
    return values[0]


def inverting_tree(
    m: Module,
    platform: object,
    values: list[Signal],
    signs: list[list[Signal]],
    name: str,
) -> tuple[Value, Value]:
    """The sum of ``values``, each negated where its sign is 1, less one: (sum, what it lacks).

    -v is ~v + 1. The inversion is part of the first level's cells, and the ones are the carries
    into the adders: a sum of two has room for one and a sum of three for two, so that of as many
    ones as values a single one is left.

    Parameters
    ----------
    m, platform
        Where it is built.
    values
        Signed, of equal width.
    signs
        Of each value, by registers behind the lookup: ``signs[table][stage]``.
    name
        Prefix of signals.
    """
    width = len(values[0]) + 1
    nodes: list[Signal] = []
    ones: list[int] = []  # tables whose one is still to be added
    for p in range(0, len(values), 2):
        terms = [Term(_inverted, (v, signs[p + i][0])) for i, v in enumerate(values[p : p + 2])]
        if len(terms) == 2:
            u, v = terms
            total = fused_add(m, platform, u, v, width, carry_in=signs[p][0])
            ones.append(p + 1)
        else:
            total = values[p].as_unsigned() ^ signs[p][0].replicate(len(values[p]))
            total = extend(total.as_signed(), width)
            ones.append(p)
        node = Signal(
            signed(width), name=f"{name}_1_{p // 2}", reset_less=goes_without_reset(platform)
        )
        m.d.sync += node.eq(total.as_signed())
        nodes.append(node)
    stage = 1
    while len(nodes) > 1:
        above, rest = [], list(nodes)
        for p, count in enumerate(_threes(len(nodes))):
            some, rest = rest[:count], rest[count:]
            carries, ones = ones[: count - 1], ones[count - 1 :]
            width = max(map(len, some)) + (count - 1).bit_length()
            carry = [signs[table][stage] for table in carries]
            node = Signal(
                signed(width),
                name=f"{name}_{stage + 1}_{p}",
                reset_less=goes_without_reset(platform),
            )
            m.d.sync += node.eq(_sum(m, platform, some, carry, width))
            above.append(node)
        nodes = above
        stage += 1
    (last,) = ones
    return nodes[0], signs[last][stage]


def _inverted(i: int, bit: Value, sign: Value) -> Value:
    return bit ^ sign


def _sum(m: Module, platform: object, some: list[Signal], carry: list, width: int) -> Value:
    """The sum of one to three operands and a carry for each but the first."""
    if len(some) == 1:
        return some[0]
    x, y, *z = (extend(value, width) for value in some)
    if z and family(platform) == "xc7":
        return sum3(m, platform, (x, y, *z), width, (carry[0], carry[1])).as_signed()
    total = fused_add(m, platform, plain(x), plain(y), width, carry_in=carry[0])
    if z:
        total = fused_add(m, platform, plain(z[0]), plain(total), width, carry_in=carry[1])
    return total.as_signed()
