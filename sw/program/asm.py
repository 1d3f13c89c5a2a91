"""Assembly text of a program, and back.

The text holds everything: directives for configuration and layer, one line per instruction, and
the weight image (base85) at the end, so that assembling it gives the same file byte for byte::

    .config rows=1 lanes=8 group=4 …
    .layer name="blk.0.ffn_up.weight" rows=1 n=1536 k=576 …
     3  layer planes=4 per_plane=0 offset=1 …
     4  loop ldw n total=192 step=3 auto
    .image

A semicolon begins a comment. The number before an instruction is its address; it may be left out,
but must be right if it is there. An instruction that the core would not decode is ``word 0x…``.
"""

import base64
import binascii
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lutcore.hw.contract.config import ConfigError, CoreConfig
from lutcore.hw.contract.isa import (
    INSTRUCTION_BITS,
    INSTRUCTIONS,
    Axis,
    EncodingError,
    Instruction,
    Opcode,
    Unit,
    decode,
    encode,
)
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.program.program import Program, ProgramError
from lutcore.sw.program.rules import Problem, check

__all__ = [
    "AssemblyError",
    "assemble",
    "assemble_instructions",
    "disassemble",
    "format_instruction",
]

_IMAGE_LINE_BYTES = 80
#: Ends the weight image; its CRC32 follows.
_END = ".end"
_MNEMONICS = {instruction.name: instruction for instruction in INSTRUCTIONS.values()}
# A key and its value: JSON string, or anything without a space.
_PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|\S+)')
_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"|;.*')


class AssemblyError(LutcoreError, ValueError):
    """Text that is no program; the message begins with source and line number."""


# Disassembly -----------------------------------------------------------------------------------


def format_instruction(word: int) -> str:
    """One instruction as text."""
    try:
        instruction, fields = decode(word)
    except EncodingError as error:
        return f"word {word:#034x}  ; {error}"
    if instruction.opcode == Opcode.LOOP:
        return _format_loop(fields)
    pairs = []
    for field in instruction.fields:
        value = fields[field.name]
        shown = field.choices(value).name.lower() if field.choices else str(value)
        pairs.append(f"{field.name}={shown}")
    return " ".join([instruction.name, *pairs])


def _format_loop(fields: dict[str, int]) -> str:
    unit, axis = Unit(fields["unit"]).name.lower(), Axis(fields["axis"]).name.lower()
    text = f"loop {unit} {axis} total={fields['total']} step={fields['step']}"
    if fields["stride"] or not fields["auto"]:
        text += f" stride={fields['stride']}"
    return text + " auto" * fields["auto"]


def disassemble(program: Program, *, image: bool = True) -> str:
    """A program as text.

    Parameters
    ----------
    program
        The program.
    image
        Whether the weight image is part of it; without it the text cannot be assembled again.
    """
    tiling = program.tiling
    lines = [
        f"; {json.dumps(program.name)}: N = {program.n}, K = {program.k}, {program.kind}, "
        f"{program.bits} bits, groups of {program.group_size}; {program.rows} rows",
        f"; core {program.fingerprint:016x}; weight image {len(program.image)} bytes, "
        f"activations {program.x_bytes}, results {program.y_bytes}",
        f"; blocks of {tiling.tiles} x {program.config.lanes} channels, {tiling.chunk} columns; "
        f"steps filled to {tiling.step_fill:.0%}",
        f".config {_format_pairs(program.config.as_dict())}",
        f".layer {_format_pairs(program.metadata())}",
    ]
    lines += [
        f"{number:4}  {format_instruction(word)}"
        for number, word in enumerate(program.instructions)
    ]
    if image:
        lines.append(".image")
        lines += [
            base64.b85encode(program.image[start : start + _IMAGE_LINE_BYTES]).decode()
            for start in range(0, len(program.image), _IMAGE_LINE_BYTES)
        ]
        lines.append(f"{_END} {zlib.crc32(program.image):08x}")
    return "\n".join(lines) + "\n"


def _format_pairs(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={json.dumps(value)}" for key, value in values.items())


# Assembly --------------------------------------------------------------------------------------


def assemble(
    text: str,
    source: str = "assembly",
    *,
    examine: Callable[[Program], Sequence[Problem]] = lambda program: (),
) -> Program:
    """A program from the text that `disassemble` writes, or that a person has changed.

    Parameters
    ----------
    text
        The text.
    source
        Its name, for messages.
    examine
        Finds further reasons to refuse the program, such as
        `lutcore.sim.machine.legal.execution_problems`.

    Raises
    ------
    AssemblyError
        At the first line that cannot be, by itself or by what `examine` finds.
    """
    lines = iter(enumerate(text.splitlines(), start=1))
    directives: dict[str, tuple[int, dict[str, Any]]] = {}
    code: list[tuple[int, str]] = []
    image = None
    for number, line in lines:
        statement = _without_comment(line)
        keyword, _, rest = statement.partition(" ")
        if keyword == ".image":
            image = _read_image(lines, source, number)
        elif keyword in (".config", ".layer"):
            if keyword in directives:
                raise _error(source, number, f"a second {keyword}")
            directives[keyword] = number, _parse_pairs(rest, source, number)
        elif keyword.startswith("."):
            raise _error(source, number, f"unknown directive {keyword}")
        elif statement:
            code.append((number, statement))
    last = text.count("\n") + 1
    for keyword in (".config", ".layer"):
        if keyword not in directives:
            raise _error(source, last, f"no {keyword} line")
    if image is None:
        raise _error(source, last, "no .image: disassemble the program with its weight image")

    number, values = directives[".config"]
    try:
        config = CoreConfig.from_dict(values)
    except (ConfigError, TypeError) as error:
        raise _error(source, number, str(error)) from None
    instructions = _assemble_lines(code, config, source)
    number, values = directives[".layer"]
    try:
        program = Program.from_metadata(config, values, tuple(instructions), image)
    except ProgramError as error:
        raise _error(source, number, str(error)) from None
    problems = examine(program)
    if problems:
        raise _error(source, code[problems[0].index][0], problems[0].message)
    return program


def assemble_instructions(text: str, config: CoreConfig, source: str = "assembly") -> list[int]:
    """The instructions of a text without directives, checked for a core.

    Raises
    ------
    AssemblyError
        At the first line that cannot be.
    """
    lines = enumerate(text.splitlines(), start=1)
    code = [(number, _without_comment(line)) for number, line in lines]
    return _assemble_lines([entry for entry in code if entry[1]], config, source)


def _assemble_lines(code: list[tuple[int, str]], config: CoreConfig, source: str) -> list[int]:
    words = []
    for number, statement in code:
        try:
            words.append(_assemble_line(statement, len(words)))
        except EncodingError as error:
            raise _error(source, number, str(error)) from None
    problems = check(words, config)
    if problems:
        number = code[problems[0].index][0] if code else 1
        raise _error(source, number, problems[0].message)
    return words


def _assemble_line(statement: str, index: int) -> int:
    parts = statement.split()
    if parts[0].isdecimal():
        if int(parts[0]) != index:
            raise EncodingError(f"address {parts[0]}, but this is instruction {index}")
        parts = parts[1:]
    mnemonic, operands = (parts[0], parts[1:]) if parts else ("", [])
    if mnemonic == "word":
        return _parse_word(operands)
    if mnemonic not in _MNEMONICS:
        known = ", ".join(_MNEMONICS)
        raise EncodingError(f"unknown instruction {mnemonic!r}; known: {known}, word")
    instruction = _MNEMONICS[mnemonic]
    values: dict[str, int] = {}
    if instruction.opcode == Opcode.LOOP:
        if len(operands) < 2:
            raise EncodingError("loop: write loop UNIT AXIS total=… step=… [stride=…] [auto]")
        auto = "auto" in operands[2:]
        values = {"auto": int(auto)} | ({"stride": 0} if auto else {})
        rest = [operand for operand in operands[2:] if operand != "auto"]
        operands = [f"unit={operands[0]}", f"axis={operands[1]}", *rest]
    for operand in operands:
        key, equals, value = operand.partition("=")
        if not equals:
            raise EncodingError(f"{mnemonic}: {operand!r} is not of the form field=value")
        values[key] = _parse_value(instruction, key, value)
    return encode(instruction.opcode, **values)


def _parse_value(instruction: Instruction, key: str, value: str) -> int:
    field = next((field for field in instruction.fields if field.name == key), None)
    if field is None:
        names = ", ".join(field.name for field in instruction.fields)
        raise EncodingError(f"{instruction.name}: unknown field {key!r}; known: {names}")
    if field.choices is not None:
        choices = {choice.name.lower(): int(choice) for choice in field.choices}
        if value not in choices:
            raise EncodingError(
                f"{instruction.name}: {key} must be one of {', '.join(choices)}, not {value!r}"
            )
        return choices[value]
    try:
        return int(value, 0)
    except ValueError:
        message = f"{instruction.name}: {key} must be a number, not {value!r}"
        raise EncodingError(message) from None


def _parse_word(operands: list[str]) -> int:
    try:
        (text,) = operands
        word = int(text, 0)
    except ValueError:
        raise EncodingError(f"word: one number, not {' '.join(operands)!r}") from None
    if word >> INSTRUCTION_BITS:
        raise EncodingError(f"word: {INSTRUCTION_BITS} bits, not {text}")
    return word


def _parse_pairs(text: str, source: str, number: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    while text := text.lstrip():
        match = _PAIR.match(text)
        if match is None:
            raise _error(source, number, f"{text!r} is not of the form key=value")
        text = text[match.end() :]
        key, value = match.groups()
        if key in values:
            raise _error(source, number, f"{key} is given twice")
        try:
            values[key] = json.loads(value)
        except json.JSONDecodeError:
            message = f"{key} must be a number, true, false or a quoted text, not {value!r}"
            raise _error(source, number, message) from None
    return values


def _read_image(lines: Iterator[tuple[int, str]], source: str, number: int) -> bytes:
    chunks = []
    for number, line in lines:
        line = line.strip()
        if line.startswith(_END):
            image = b"".join(chunks)
            if line != f"{_END} {zlib.crc32(image):08x}":
                raise _error(source, number, "the weight image is damaged: its CRC32 differs")
            return image
        try:
            chunks.append(base64.b85decode(line))
        except (ValueError, binascii.Error):
            raise _error(source, number, "this is no line of a weight image (base85)") from None
    raise _error(source, number, f"the weight image has no {_END}")


def _without_comment(line: str) -> str:
    def keep_strings(match: re.Match[str]) -> str:
        return "" if match.group().startswith(";") else match.group()

    return _STRING_OR_COMMENT.sub(keep_strings, line).strip()


def _error(source: str, number: int, message: str) -> AssemblyError:
    return AssemblyError(f"{source}:{number}: {message}")
