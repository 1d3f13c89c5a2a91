"""Random programs for the bench of fetch: well formed, and what becomes of them."""

import random
from collections.abc import Sequence

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import (
    INSTRUCTION_BITS,
    INSTRUCTIONS,
    LOOP_LEVELS,
    PROGRAM_MAX,
    UNIT_OF,
    Opcode,
    Unit,
    decode,
    encode,
)
from lutcore.sw.program.rules import check

__all__ = ["END", "dispatched", "draw_broken", "draw_program", "draw_word", "longest"]

END = encode(Opcode.END)
#: Opcodes that a program has anywhere but at its end, and loops only where they belong.
_FREE = [opcode for opcode in Opcode if opcode not in (Opcode.END, Opcode.LOOP)]


def draw_word(source: random.Random, opcode: Opcode, config: CoreConfig, **fixed: int) -> int:
    """A word of an instruction that this core executes; fields at their limits and between."""
    limits = {
        "planes": config.planes,
        "ternary": int(config.ternary),
        "last_lanes": config.lanes,
        "last_rows": config.rows,
    }
    values = {}
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
        if check(words, config):
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
    limits = {"planes": config.planes, "last_lanes": config.lanes, "last_rows": config.rows}
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
