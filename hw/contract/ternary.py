"""Index coding of ternary weights: three trits in four index bits and a sign.

The 27 triples of -1, 0 and +1 are zero and 13 pairs of opposites. A table stores the sums of
zero and of one triple of each pair, 14 entries, in the order of a reflected ternary Gray code: from
entry to entry one trit changes by one, so that one adder fills the table. A triple's index is the
place of the entry, and its sign says whether it is the entry's opposite.
"""

from functools import cache
from itertools import pairwise

__all__ = ["ENTRIES", "GROUP", "INDEX_BITS", "fill_steps", "index_of", "triples"]

#: Trits in an index.
GROUP = 3
#: Bits of a stored index: four of the entry and, on top, the sign.
INDEX_BITS = 5
#: Stored entries.
ENTRIES = 14


@cache
def _gray(digits: int) -> tuple[tuple[int, ...], ...]:
    """The reflected Gray code of trits, first trit changing fastest."""
    if digits == 0:
        return ((),)
    inner = _gray(digits - 1)
    return tuple(
        (*low, high) for high in (-1, 0, 1) for low in (inner if high % 2 else inner[::-1])
    )


@cache
def triples() -> tuple[tuple[int, ...], ...]:
    """The triple of trits of each entry; entry 0 is zero."""
    walk = _gray(GROUP)
    return walk[len(walk) // 2 :]


def fill_steps() -> list[tuple[int, int]]:
    """What leads from each entry to the next: which trit changes, and by +1 or -1."""
    steps = []
    for before, after in pairwise(triples()):
        (place,) = (j for j in range(GROUP) if before[j] != after[j])
        steps.append((place, after[place] - before[place]))
    return steps


@cache
def index_of() -> dict[tuple[int, ...], tuple[int, int]]:
    """(entry, sign) of each triple; sign 1: the entry's opposite."""
    table: dict[tuple[int, ...], tuple[int, int]] = {}
    for entry, triple in enumerate(triples()):
        table[tuple(-trit for trit in triple)] = entry, 1
        table[triple] = entry, 0
    return table
