"""What tables hold and how weights are coded, in words of docs/architecture.md.

The proofs of the precompute unit say that it writes these entries, those of the lanes that what
they look up in them is the dot product. Both take the contract from here, so that the two join.
"""

from collections.abc import Sequence

from amaranth.hdl import Const, Mux, Value

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.ternary import GROUP, triples

__all__ = [
    "coded_signs",
    "coefficients",
    "columns",
    "entry",
    "factors_of",
    "relative_to",
    "signed_value",
]


def columns(config: CoreConfig, ternary: bool) -> int:
    """Activations that a table sums."""
    return GROUP if ternary else config.group


def coefficients(config: CoreConfig, ternary: bool) -> list[tuple[int, ...]]:
    """For each stored entry, with what factor each activation is in it."""
    if ternary:
        return list(triples())
    bits = config.group - 1 if config.symmetric else config.group
    found = []
    for index in range(1 << bits):
        chosen = [index >> j & 1 for j in range(bits)]
        if not config.symmetric:
            found.append(tuple(chosen))
            continue
        # The weights are those of sign 0: -1 on top. Halved tables hold the negations.
        weights = [2 * bit - 1 for bit in chosen] + [-1]
        found.append(tuple(-w if config.halved else w for w in weights))
    return found


def entry(factors: Sequence[int], activations: Sequence[Value]) -> Value:
    """The entry's value, exact."""
    total: Value = Const(0, 1)
    for factor, a in zip(factors, activations, strict=True):
        if factor:
            total = total + a if factor > 0 else total - a
    return total


def relative_to(table: int) -> int:
    """The table whose sum the adder tree joins with that of ``table`` from the left."""
    return table & table - 1


def coded_signs(config: CoreConfig, signs: Sequence[Value]) -> list[Value]:
    """What the image holds in the place of each table's sign."""
    if not config.halved:
        return list(signs)
    return [s ^ signs[relative_to(g)] if g else s for g, s in enumerate(signs)]


def signed_value(config: CoreConfig, value: Value, sign: Value) -> Value:
    """What an entry counts as under a sign: halved tables hold what sign 1 selects."""
    if not config.symmetric:
        return value
    return Mux(sign, value, -value) if config.halved else Mux(sign, -value, value)


def factors_of(config: CoreConfig, ternary: bool, bits: Sequence[Sequence[int]]) -> list[list[int]]:
    """The weights that the stored index bits of the tables of a step stand for.

    The same as `coded_signs` and `signed_value` say, with integers.
    """
    table = coefficients(config, ternary)
    top = config.group - 1
    signs: list[int] = []
    found = []
    for g, index in enumerate(bits):
        if not config.symmetric:
            found.append(list(table[sum(bit << j for j, bit in enumerate(index))]))
            continue
        other = signs[relative_to(g)] if config.halved and g else 0
        signs.append(index[top] ^ other)
        factors = table[sum(bit << j for j, bit in enumerate(index[:top]))]
        turn = 1 if signs[g] == config.halved else -1
        found.append([turn * factor for factor in factors])
    return found
