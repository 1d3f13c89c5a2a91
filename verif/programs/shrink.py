"""Makes a failing program small: what can be left out while it still fails is left out."""

from collections.abc import Callable, Iterator
from itertools import combinations

from lutcore.hw.contract.isa import UNIT_OF, EncodingError, Opcode, Unit, decode, encode
from lutcore.verif.programs.case import Case

__all__ = ["shrunk"]

#: Programs that may be tried.
_TRIES = 400


def shrunk(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The smallest program found by leaving out instructions and shortening loops.

    Parameters
    ----------
    case
        A program that fails.
    fails
        Whether a program still does.
    """
    tries = 0
    progress = True
    while progress:
        progress = False
        for words in _smaller(case.words):
            tries += 1
            if tries > _TRIES:
                return case
            candidate = case.with_words(words)
            if fails(candidate):
                case, progress = candidate, True
                break
    return case


def _smaller(words: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Programs that lack something, those that lack much first."""
    groups = _groups(words)
    # What works on one layer: the n-th instruction of every unit.
    for number in range(max((len(group) for group in groups.values()), default=0)):
        yield _without(words, [g[number] for g in groups.values() if number < len(g)])
    every = [group for unit in groups.values() for group in unit]
    for count in (1, 2):
        for chosen in combinations(every, count):
            yield _without(words, list(chosen))
    for at in range(len(words) - 1):
        yield words[:at] + words[at + 1 :]
    for at, word in enumerate(words):
        for shorter in _shorter(word):
            yield (*words[:at], shorter, *words[at + 1 :])


def _groups(words: tuple[int, ...]) -> dict[Unit, list[list[int]]]:
    """Places of every instruction of a unit together with its loops."""
    groups: dict[Unit, list[list[int]]] = {unit: [] for unit in Unit}
    pending: dict[Unit, list[int]] = {unit: [] for unit in Unit}
    for at, word in enumerate(words):
        opcode = word & 0xFF
        if opcode == Opcode.LOOP:
            pending[Unit(word >> 8 & 3)].append(at)
        elif opcode in list(UNIT_OF):
            unit = UNIT_OF[Opcode(opcode)]
            groups[unit].append([*pending[unit], at])
            pending[unit] = []
    return groups


def _without(words: tuple[int, ...], groups: list[list[int]]) -> tuple[int, ...]:
    dropped = {at for group in groups for at in group}
    return tuple(word for at, word in enumerate(words) if at not in dropped)


def _shorter(word: int) -> list[int]:
    """A loop of one iteration, or of half as many."""
    try:
        instruction, fields = decode(word)
    except EncodingError:
        return []
    if instruction.opcode != Opcode.LOOP or fields["total"] <= 1:
        return []
    return [
        encode(Opcode.LOOP, **{**fields, "total": total})
        for total in sorted({min(fields["step"], fields["total"] - 1), fields["total"] // 2})
        if total
    ]
