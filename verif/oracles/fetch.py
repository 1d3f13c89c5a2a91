"""Random programs for FETCH, good and bad, and what becomes of them."""

import random
from collections.abc import Sequence

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import (
    INSTRUCTION_BITS,
    INSTRUCTIONS,
    LOOP_LEVELS,
    PROGRAM_MAX,
    UNIT_OF,
    Cause,
    EncodingError,
    Opcode,
    Unit,
    decode,
    encode,
)

__all__ = [
    "END",
    "cause_of",
    "dispatched",
    "draw_broken",
    "draw_program",
    "draw_word",
    "limits_of",
    "longest",
    "verdict_of",
]

END = encode(Opcode.END)
#: Opcodes that a program has anywhere but at its end, and loops only where they belong.
_FREE = [opcode for opcode in Opcode if opcode not in (Opcode.END, Opcode.LOOP)]


def limits_of(config: CoreConfig) -> dict[str, int]:
    """Fields that a core limits further than their width does."""
    return {
        "planes": config.planes,
        "ternary": int(config.ternary),
        "last_lanes": config.lanes,
        "last_rows": config.rows,
    }


def cause_of(word: int, config: CoreConfig) -> Cause:
    """Why a core refuses a word, whatever the others are; NONE if it does not."""
    try:
        _, values = decode(word)
    except EncodingError as error:
        return error.cause
    limits = limits_of(config)
    if any(value > limits.get(name, value) for name, value in values.items()):
        return Cause.OPERAND
    if values.get("ternary") and (values["planes"], values["per_plane"]) != (1, 1):
        return Cause.OPERAND
    return Cause.NONE


def verdict_of(words: Sequence[int], config: CoreConfig) -> tuple[Cause, int]:
    """The first reason to refuse a program, and the number of its instruction; or NONE and 0."""
    pending = dict.fromkeys(Unit, 0)
    for number, word in enumerate(words):
        cause = cause_of(word, config)
        if cause != Cause.NONE:
            return cause, number
        instruction, values = decode(word)
        opcode = instruction.opcode
        if opcode == Opcode.LOOP:
            if pending[Unit(values["unit"])] == LOOP_LEVELS:
                return Cause.NESTING, number
            pending[Unit(values["unit"])] += 1
        elif opcode in UNIT_OF:
            pending[UNIT_OF[opcode]] = 0
        elif opcode == Opcode.END and any(pending.values()):
            return Cause.NESTING, number
        if (opcode == Opcode.END) != (number == len(words) - 1):
            return Cause.LENGTH, number
    return Cause.NONE, 0


def draw_word(source: random.Random, opcode: Opcode, config: CoreConfig, **fixed: int) -> int:
    """A word of an instruction that this core executes; fields at their limits and between."""
    limits, values = limits_of(config), {}
    for field in INSTRUCTIONS[opcode].fields:
        low, high = field.limits
        high = min(high, limits.get(field.name, high))
        values[field.name] = source.choice([low, high, source.randint(low, high)])
    if values.get("ternary"):
        values |= {"planes": 1, "per_plane": 1}
    return encode(opcode, **values | fixed)


def draw_program(source: random.Random, config: CoreConfig, most: int) -> list[int]:
    """A program that this core accepts, of about ``most`` instructions at most."""
    words: list[int] = []
    while len(words) < most - LOOP_LEVELS - 2 and source.random() > 1 / most:
        opcode = source.choice(_FREE)
        if opcode in UNIT_OF:
            for _ in range(source.choice([0, 1, LOOP_LEVELS, source.randint(0, LOOP_LEVELS)])):
                words.append(draw_word(source, Opcode.LOOP, config, unit=UNIT_OF[opcode]))
        words.append(draw_word(source, opcode, config))
    return [*words, END]


def draw_broken(source: random.Random, config: CoreConfig) -> list[int]:
    """A program that this core refuses: a good one with changes."""
    while True:
        words = draw_program(source, config, 16)
        for _ in range(source.randint(1, 2)):
            _break(source, words, config)
        if verdict_of(words, config)[0] != Cause.NONE:
            return words


def _break(source: random.Random, words: list[int], config: CoreConfig) -> None:
    place = source.randrange(len(words))
    change = source.choice(["flip", "flip low", "drop", "insert", "limit"])
    if change == "flip":
        words[place] ^= 1 << source.randrange(INSTRUCTION_BITS)
    elif change == "flip low":
        words[place] ^= 1 << source.randrange(64)
    elif change == "drop":
        if len(words) > 1:
            del words[place]
    elif change == "insert":
        loop = draw_word(source, Opcode.LOOP, config, unit=source.choice(list(Unit)))
        extra = source.choice([0, END, loop, loop])
        words[place:place] = [extra] * source.randint(1, LOOP_LEVELS + 1)
    else:
        words[place] = _beyond(source, config)


def _beyond(source: random.Random, config: CoreConfig) -> int:
    """A word with a field just above what it may be, if its bits can hold that."""
    opcode = source.choice([o for o in Opcode if INSTRUCTIONS[o].fields])
    word, position = draw_word(source, opcode, config), 8
    limits = limits_of(config)
    chosen = source.choice(INSTRUCTIONS[opcode].fields)
    for field in INSTRUCTIONS[opcode].fields:
        if field is chosen:
            low, high = field.limits
            value = source.choice([min(high, limits.get(field.name, high)) + 1, low - 1])
            mask = (1 << field.width) - 1
            word = word & ~(mask << position) | (value & mask) << position
        position += field.width
    return word


def dispatched(words: Sequence[int]) -> list[tuple]:
    """What the units are to see of a good program, in order.

    A loop with its unit and fields; an instruction with its unit, word and number; the words of
    LAYER (where they change the registers) and TOKEN; the end.
    """
    events: list[tuple] = []
    layer = 0
    for number, word in enumerate(words):
        instruction, values = decode(word)
        opcode = instruction.opcode
        if opcode == Opcode.LOOP:
            unit = values.pop("unit")
            events.append(("loop", unit, tuple(sorted(values.items()))))
        elif opcode in UNIT_OF:
            events.append(("start", int(UNIT_OF[opcode]), word, number))
        elif opcode == Opcode.LAYER:
            if word != layer:
                events.append(("layer", word))
            layer = word
        elif opcode == Opcode.TOKEN:
            events.append(("token", word))
    return [*events, ("finished", len(words) - 1)]


def longest(source: random.Random, config: CoreConfig) -> list[int]:
    """As many instructions as a program may have."""
    opcodes = [Opcode.MMA, Opcode.LDX, Opcode.LDW, Opcode.STY]
    words = [draw_word(source, source.choice(opcodes), config) for _ in range(PROGRAM_MAX - 1)]
    return [*words, END]
