"""Makes a failing program small: what can be left out while it still fails is left out."""

from collections.abc import Callable

from lutcore.hw.isa import EncodingError, Opcode, decode, encode
from lutcore.verif.programs_case import Case

__all__ = ["shrunk"]

#: Programs that may be tried.
_TRIES = 300


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

    def better(words: tuple[int, ...]) -> bool:
        nonlocal case, tries
        tries += 1
        candidate = case.with_words(words)
        if tries > _TRIES or words == case.words or not fails(candidate):
            return False
        case = candidate
        return True

    size = max(1, len(case.words) // 2)
    while size:
        at = 0
        while at < len(case.words) - 1 and len(case.words) > 1:
            stop = min(at + size, len(case.words) - 1)
            if not better(case.words[:at] + case.words[stop:]):
                at = stop
        size //= 2
    for at in range(len(case.words)):
        for word in _shorter(case.words[at]):
            better((*case.words[:at], word, *case.words[at + 1 :]))
    return case


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
        for total in (min(fields["step"], fields["total"] - 1), fields["total"] // 2)
        if total
    ]
