"""Programs with something wrong in them, one for each way to be wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import (
    INSTRUCTION_BITS,
    LOOP_LEVELS,
    PROGRAM_MAX,
    Axis,
    Cause,
    Opcode,
    Token,
    Unit,
    decode,
    encode,
)

__all__ = ["BAD_PROGRAMS", "BadProgram", "find"]

#: Changes the instructions in place.
Spoil = Callable[[list[int]], None]


@dataclass(frozen=True)
class BadProgram:
    """One way to be wrong.

    Attributes
    ----------
    cause
        What the core has to say.
    spoil
        Changes the instructions of a good program.
    start
        Settings of `CoreBench.start`.
    sizes
        Bytes of regions that are not open as the program needs them.
    """

    cause: Cause
    spoil: Spoil = lambda words: None
    start: dict[str, Any] = field(default_factory=dict)
    sizes: dict[Region, int] = field(default_factory=dict)


def find(words: list[int], opcode: Opcode, nth: int = 0) -> int:
    """Number of the n-th instruction with an opcode."""
    return [i for i, word in enumerate(words) if word & 0xFF == opcode][nth]


def _replace(opcode: Opcode, **fields: int) -> Spoil:
    """Change fields of the first instruction with an opcode."""

    def spoil(words: list[int]) -> None:
        number = find(words, opcode)
        _, values = decode(words[number])
        words[number] = encode(opcode, **{**values, **fields})

    return spoil


def _bits(opcode: Opcode, clear: int = 0, put: int = 0) -> Spoil:
    """Change bits of the first instruction with an opcode, to something that no one encodes."""

    def spoil(words: list[int]) -> None:
        number = find(words, opcode)
        words[number] = words[number] & ~clear | put

    return spoil


def _tokens(token: Token, count: int) -> Spoil:
    """Give another number of tokens than the two that a counter begins with."""

    def spoil(words: list[int]) -> None:
        number = words.index(encode(Opcode.TOKEN, counter=token, count=2))
        words[number] = encode(Opcode.TOKEN, counter=token, count=count)

    return spoil


def _twice(words: list[int]) -> None:
    """A counter gets two tokens twice."""
    words[1] = words[0]


def _full_already(words: list[int]) -> None:
    """Both activation slots are called full, so that LDX gives one too many."""
    words[0] = encode(Opcode.TOKEN, counter=Token.X_FULL, count=2)


def _loops(count: int) -> Spoil:
    """Too many loops before an instruction, in place of the first instructions."""

    def spoil(words: list[int]) -> None:
        loop = encode(Opcode.LOOP, unit=Unit.LDX, axis=Axis.K, auto=0, total=1, step=1, stride=0)
        words[:count] = [loop] * count

    return spoil


def _loops_of_nothing(words: list[int]) -> None:
    """A loop whose instruction does not come: its STY becomes a TOKEN that adds none."""
    words[find(words, Opcode.STY)] = encode(Opcode.TOKEN, counter=0, count=0)


def _results_missing(words: list[int]) -> None:
    """MMA computes one tile less than STY stores, whose burst is on the bus by then."""
    for number in range(find(words, Opcode.MMA)):
        instruction, values = decode(words[number])
        if instruction.opcode != Opcode.LOOP:
            continue
        if values["unit"] == Unit.MMA and values["axis"] == Axis.N:
            fewer = max(1, values["total"] - 1)
            step = min(values["step"], fewer)
            words[number] = encode(Opcode.LOOP, **{**values, "total": fewer, "step": step})


def _early_end(words: list[int]) -> None:
    words[0] = encode(Opcode.END)


def _no_end(words: list[int]) -> None:
    words[-1] = encode(Opcode.TOKEN, counter=0, count=0)


_FAR = 1 << 39
BAD_PROGRAMS: dict[str, BadProgram] = {
    "unknown opcode": BadProgram(Cause.OPCODE, _bits(Opcode.MMA, clear=0xFF)),
    "opcode 255": BadProgram(Cause.OPCODE, _bits(Opcode.LDX, put=0xFF)),
    "reserved bit": BadProgram(Cause.RESERVED, _bits(Opcode.STY, put=1 << INSTRUCTION_BITS - 1)),
    "unknown axis": BadProgram(Cause.RESERVED, _bits(Opcode.LOOP, put=3 << 10)),
    "no planes": BadProgram(Cause.OPERAND, _bits(Opcode.LAYER, clear=0xF << 8)),
    "loop without a step": BadProgram(Cause.OPERAND, _bits(Opcode.LOOP, clear=(1 << 20) - 1 << 33)),
    "loops too deep": BadProgram(Cause.NESTING, _loops(LOOP_LEVELS + 1)),
    "loops of no instruction": BadProgram(Cause.NESTING, _loops_of_nothing),
    "end too early": BadProgram(Cause.LENGTH, _early_end),
    "no end": BadProgram(Cause.LENGTH, _no_end),
    "empty program": BadProgram(Cause.LENGTH, start={"length": 0}),
    "too long a program": BadProgram(Cause.LENGTH, start={"length": PROGRAM_MAX + 1}),
    "length of 32 bits": BadProgram(Cause.LENGTH, start={"length": (1 << 32) - 1}),
    "for another core": BadProgram(Cause.FINGERPRINT, start={"expect": 1}),
    "weights at an odd place": BadProgram(Cause.REGION, start={"bases": {Region.WEIGHTS: 32}}),
    "results beyond the bus": BadProgram(Cause.REGION, start={"bases": {Region.RESULTS: 1 << 40}}),
    "results that end beyond the bus": BadProgram(
        Cause.REGION, start={"bases": {Region.RESULTS: (1 << 40) - 64}}
    ),
    "program outside": BadProgram(Cause.BOUNDS, sizes={Region.PROGRAM: 64}),
    "no weights": BadProgram(Cause.BOUNDS, sizes={Region.WEIGHTS: 0}),
    "no activations": BadProgram(Cause.BOUNDS, sizes={Region.ACTIVATIONS: 0}),
    "no results": BadProgram(Cause.BOUNDS, sizes={Region.RESULTS: 0}),
    "weights far outside": BadProgram(Cause.BOUNDS, _replace(Opcode.LDW, base=_FAR)),
    "activations far outside": BadProgram(Cause.BOUNDS, _replace(Opcode.LDX, base=_FAR)),
    "results far outside": BadProgram(Cause.BOUNDS, _replace(Opcode.STY, base=_FAR)),
    "weights not aligned": BadProgram(Cause.BOUNDS, _replace(Opcode.LDW, base=2)),
    "results not aligned": BadProgram(Cause.OPERAND, _replace(Opcode.STY, base=4)),
    "no weight slot": BadProgram(Cause.DEADLOCK, _tokens(Token.W_FREE, 0)),
    "no scale slot": BadProgram(Cause.DEADLOCK, _tokens(Token.S_FREE, 0)),
    "no activation slot": BadProgram(Cause.DEADLOCK, _tokens(Token.X_FREE, 0)),
    "no bias slot": BadProgram(Cause.DEADLOCK, _tokens(Token.B_FREE, 0)),
    "results missing": BadProgram(Cause.OPERAND, _results_missing),
    "tokens twice": BadProgram(Cause.TOKEN, _twice),
    "slot given twice": BadProgram(Cause.TOKEN, _full_already),
}
