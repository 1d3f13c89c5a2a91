"""Random illegal programs: any bits, any fields, and legal programs with one or two faults.

Some of them are legal after all; they have to run then.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import (
    INSTRUCTION_BITS,
    INSTRUCTIONS,
    EncodingError,
    Field,
    Opcode,
    Token,
    decode,
    encode,
)
from lutcore.verif.programs.case import Case
from lutcore.verif.programs.legal import legal_case

__all__ = ["MUTATIONS", "illegal_case"]


def illegal_case(config: CoreConfig, rng: random.Random) -> Case:
    """A program that is probably illegal; `Case.note` says how it was made."""
    case = legal_case(config, rng)
    kind = rng.random()
    if kind < 0.06:
        words = tuple(rng.getrandbits(INSTRUCTION_BITS) for _ in range(rng.randint(1, 20)))
        return _placed(case, words, "any bits")
    if kind < 0.16:
        return _placed(case, tuple(_any_fields(rng)), "any fields")
    notes = []
    for _ in range(1 if kind < 0.65 else 2):
        name = rng.choice(list(MUTATIONS))
        case = MUTATIONS[name](case, rng)
        notes.append(name)
    return replace(case, note=" and ".join(notes))


def _placed(case: Case, words: tuple[int, ...], note: str) -> Case:
    """Another program in the place of a legal one, as much of it as its region holds."""
    _, size = case.regions[Region.PROGRAM]
    words = words[: max(1, size * 8 // INSTRUCTION_BITS)]
    if note == "any fields":
        words = (*words[:-1], encode(Opcode.END))
    return replace(case, words=words, note=note)


def _any_fields(rng: random.Random) -> list[int]:
    """Instructions of the set with any values that they may have, small ones mostly."""
    words = [_instruction(Opcode.LAYER, rng)]
    units = [code for code in Opcode if code not in (Opcode.END, Opcode.LAYER)]
    for _ in range(rng.randint(1, 24)):
        words.append(_instruction(rng.choice(units), rng))
    return [*words, encode(Opcode.END)]


def _instruction(opcode: Opcode, rng: random.Random) -> int:
    fields = INSTRUCTIONS[opcode].fields
    return encode(opcode, **{field.name: _value(field, rng) for field in fields})


def _value(field: Field, rng: random.Random) -> int:
    low, high = field.limits
    choice = rng.random()
    if choice < 0.7:
        small = rng.randint(low, low + 4) if low >= 0 else rng.randint(-2, 4) * 32
        return max(low, min(high, small))
    if choice < 0.85:
        return max(low, min(high, rng.choice([low, high, 32, 64, 4096])))
    return rng.randint(low, high)


# Mutations -------------------------------------------------------------------------------------


def _flip(case: Case, rng: random.Random) -> Case:
    """One bit of an instruction."""
    at = rng.randrange(len(case.words))
    width = INSTRUCTIONS[Opcode(case.words[at] & 0xFF)].width if _known(case.words[at]) else 128
    bit = rng.randrange(width) if rng.random() < 0.75 else rng.randrange(INSTRUCTION_BITS)
    return _with(case, at, case.words[at] ^ 1 << bit)


def _reserve(case: Case, rng: random.Random) -> Case:
    """A bit above those of the instruction."""
    at = rng.randrange(len(case.words))
    width = INSTRUCTIONS[Opcode(case.words[at] & 0xFF)].width if _known(case.words[at]) else 0
    return _with(case, at, case.words[at] ^ 1 << rng.randrange(width, INSTRUCTION_BITS))


def _field(case: Case, rng: random.Random) -> Case:
    """Another value in one field."""
    places = [i for i, word in enumerate(case.words) if _fields(word)]
    if not places:
        return _flip(case, rng)
    at = rng.choice(places)
    instruction, values = decode(case.words[at])
    field = rng.choice(instruction.fields)
    low, high = field.limits
    old = values[field.name]
    new = rng.choice([old + 1, old - 1, 2 * old, old // 2, low, high, _value(field, rng)])
    values[field.name] = max(low, min(high, new))
    return _with(case, at, encode(instruction.opcode, **values))


def _drop(case: Case, rng: random.Random) -> Case:
    """One instruction less."""
    if len(case.words) < 2:
        return case
    at = rng.randrange(len(case.words) - 1)
    return case.with_words(case.words[:at] + case.words[at + 1 :])


def _repeat(case: Case, rng: random.Random) -> Case:
    """One instruction twice, in place of another one."""
    first, second = rng.randrange(len(case.words)), rng.randrange(len(case.words))
    return _with(case, second, case.words[first])


def _swap(case: Case, rng: random.Random) -> Case:
    """Two instructions for each other."""
    first, second = rng.randrange(len(case.words)), rng.randrange(len(case.words))
    words = list(case.words)
    words[first], words[second] = words[second], words[first]
    return case.with_words(tuple(words))


def _shrink(case: Case, rng: random.Random) -> Case:
    """A region that is too small."""
    region = rng.choice(list(Region))
    base, size = case.regions[region]
    less = rng.choice([1, 4, case.config.beat_bytes, 64, size // 2, size])
    return replace(case, regions={**case.regions, region: (base, max(0, size - less))})


def _misalign(case: Case, rng: random.Random) -> Case:
    """A region whose address is not a multiple of 64, or beyond the bus."""
    region = rng.choice(list(Region))
    base, size = case.regions[region]
    off = rng.choice([1 << rng.randrange(6), 1 << 40, 1 << 63])
    # Once more does not take it beyond the 64 bits of the registers.
    return replace(case, regions={**case.regions, region: (base | off, size)})


def _length(case: Case, rng: random.Random) -> Case:
    """The host writes another fingerprint or another length."""
    if rng.random() < 0.3:
        return replace(case, expect=case.config.fingerprint ^ 1 << rng.randrange(64))
    count = len(case.words)
    return replace(case, length=rng.choice([0, 1, count - 1, count + 1, 128, 129, 1 << 31]))


def _tokens(case: Case, rng: random.Random) -> Case:
    """A TOKEN of any counter, in place of another one or of any instruction."""
    tokens = [i for i, word in enumerate(case.words) if word & 0xFF == Opcode.TOKEN]
    at = rng.choice(tokens) if tokens and rng.random() < 0.7 else rng.randrange(len(case.words))
    word = encode(Opcode.TOKEN, counter=rng.choice(list(Token)), count=rng.choice([1, 2, 2]))
    return _with(case, at, word)


def _hurry(case: Case, rng: random.Random) -> Case:
    """A budget of cycles that may not be enough."""
    return replace(case, budget=rng.choice([1, 50, rng.randint(20, 300), rng.randint(100, 2000)]))


def _with(case: Case, at: int, word: int) -> Case:
    return case.with_words((*case.words[:at], word, *case.words[at + 1 :]))


def _known(word: int) -> bool:
    return word & 0xFF in INSTRUCTIONS


def _fields(word: int) -> bool:
    try:
        return bool(decode(word)[0].fields)
    except EncodingError:
        return False


#: By name; a change that stands twice is drawn twice as often. The ones that keep the encoding
#: legal are most, as such programs are not stopped by the decoder.
MUTATIONS: dict[str, Callable[[Case, random.Random], Case]] = {
    "a bit": _flip,
    "a reserved bit": _reserve,
    "a field": _field,
    "another field": _field,
    "a small field": _field,
    "an instruction dropped": _drop,
    "an instruction repeated": _repeat,
    "two instructions swapped": _swap,
    "a region shrunk": _shrink,
    "a region misaligned": _misalign,
    "a setting": _length,
    "tokens": _tokens,
    "other tokens": _tokens,
    "a budget": _hurry,
}
