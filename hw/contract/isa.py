"""The instruction set: one table from which everything else is derived.

The RTL decoder, the assembler and disassembler, the instruction-set simulator and the reference
in ``docs/isa.md`` all read :data:`INSTRUCTIONS`. An instruction is 128 bits, little-endian, its
opcode in bits 7:0, its fields packed from bit 8 upwards in the order of the table; the bits above
the last field are reserved and must be zero.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.lib import data

__all__ = [
    "INSTRUCTIONS",
    "INSTRUCTION_BITS",
    "ISA_VERSION",
    "LOOP_LEVELS",
    "PROGRAM_MAX",
    "RESULT_ALIGNMENT",
    "UNIT_OF",
    "Axis",
    "Cause",
    "EncodingError",
    "Field",
    "Instruction",
    "Opcode",
    "Token",
    "Unit",
    "decode",
    "encode",
    "words_to_bytes",
]

ISA_VERSION = 2
INSTRUCTION_BITS = 128
#: Instructions that fit the core's program memory.
PROGRAM_MAX = 128
#: Hardware loops that one instruction may carry.
LOOP_LEVELS = 5
#: Rows of results start at multiples of this many bytes, so that no group of them spans two beats.
RESULT_ALIGNMENT = 32


class Opcode(enum.IntEnum):
    """Operation codes; 0 is illegal, so that zeroed memory is no program."""

    END = 1
    LAYER = 2
    TOKEN = 3
    LOOP = 4
    LDW = 5
    LDX = 6
    MMA = 7
    STY = 8


class Unit(enum.IntEnum):
    """Units that execute instructions with loops."""

    LDW = 0
    LDX = 1
    MMA = 2
    STY = 3

    @property
    def opcode(self) -> Opcode:
        """The instruction that the unit executes."""
        return Opcode[self.name]


#: The unit of each instruction that has one.
UNIT_OF: dict[Opcode, Unit] = {unit.opcode: unit for unit in Unit}


class Axis(enum.IntEnum):
    """What a loop splits: output tiles, places of K (for LDX: buffer words), row tiles."""

    N = 0
    K = 1
    R = 2


class Token(enum.IntEnum):
    """Token counters, 0..2 each: free and full slots of the double-buffered memories."""

    W_FREE = 0
    W_FULL = 1
    S_FREE = 2
    S_FULL = 3
    X_FREE = 4
    X_FULL = 5
    B_FREE = 6
    B_FULL = 7


class Cause(enum.IntEnum):
    """Why the core stopped; kept in STATUS with the number of the instruction."""

    NONE = 0
    OPCODE = 1  # unknown opcode
    RESERVED = 2  # a reserved bit or an enumeration value out of range
    OPERAND = 3  # a field whose value this core cannot execute
    NESTING = 4  # more than LOOP_LEVELS loops, or loops without their instruction
    LENGTH = 5  # no END within the program, or a program that does not fit
    FINGERPRINT = 6  # the host's program is for another configuration
    BOUNDS = 7  # an address outside the region that the host opened
    READ_ERROR = 8  # SLVERR or DECERR on the read channel
    WRITE_ERROR = 9  # SLVERR or DECERR on the write channel
    TOKEN = 10  # a token counter above its limit
    DEADLOCK = 11  # every unit waits
    BUDGET = 12  # the cycle budget is used up
    ABORT = 13  # stopped by the host
    TIMEOUT = 14  # the bus does not answer
    REGION = 15  # a region's base is not aligned, or the region is beyond the addresses of the bus


class EncodingError(ValueError):
    """An instruction that cannot be encoded or decoded; names the field and its value.

    Attributes
    ----------
    cause
        What the hardware reports for the same bits.
    """

    def __init__(self, message: str, cause: Cause = Cause.OPERAND) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True)
class Field:
    """One field: its width in bits, the values it may take, and its meaning."""

    name: str
    width: int
    description: str
    signed: bool = False
    low: int | None = None
    high: int | None = None
    choices: type[enum.IntEnum] | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest legal value."""
        low, high = self.encodable
        return (
            low if self.low is None else self.low,
            high if self.high is None else self.high,
        )

    @property
    def encodable(self) -> tuple[int, int]:
        """Smallest and largest value that the bits can hold."""
        if self.signed:
            return -(1 << self.width - 1), (1 << self.width - 1) - 1
        return 0, (1 << self.width) - 1

    @property
    def restricted(self) -> bool:
        """Whether some encodable values are illegal, so that the decoder must check."""
        return self.limits != self.encodable


@dataclass(frozen=True)
class Instruction:
    """One instruction: opcode, fields from bit 8 upwards, and what it does."""

    opcode: Opcode
    summary: str
    action: str
    fields: tuple[Field, ...] = ()

    @property
    def name(self) -> str:
        """Assembly mnemonic."""
        return self.opcode.name.lower()

    @property
    def width(self) -> int:
        """Bits in use; the rest of the word is reserved."""
        return 8 + sum(field.width for field in self.fields)

    @property
    def layout(self) -> data.StructLayout:
        """The instruction word as the RTL sees it, ``reserved`` included."""
        members: dict[str, object] = {"opcode": 8}
        for field in self.fields:
            members[field.name] = _shape(field)
        members["reserved"] = INSTRUCTION_BITS - self.width
        return data.StructLayout(members)  # type: ignore[arg-type]


def _shape(field: Field) -> object:
    from amaranth.hdl import signed, unsigned

    return signed(field.width) if field.signed else unsigned(field.width)


def _level(name: str, description: str) -> Field:
    return Field(name, 3, description, high=LOOP_LEVELS)


# fmt: off
_TABLE = (
    Instruction(Opcode.END, "End of the program",
        "wait until every unit is idle and every write is acknowledged; STATUS.done, irq"),
    Instruction(Opcode.LAYER, "Set the numbers that hold for a whole layer",
        "wait until every unit is idle; load the layer registers", (
        Field("planes", 4, "bit-planes P of the weights", low=1, high=8),
        Field("per_plane", 1, "1: a scale for each plane; 0: one scale per group"),
        Field("ternary", 1, "1: ternary weights, three to an index; needs planes and per_plane 1"),
        Field("offset", 1, "1: a real offset per group follows the scales"),
        Field("wide", 1, "1: scales of 32 bits (24-bit integer, 5-bit shift); 0: float16"),
        Field("bias", 1, "1: a float32 bias per channel"),
        Field("group_size", 17, "places of K per quantisation group, or per run", low=1),
        Field("exponent", 10, "E: the exact sum counts units of 2^E", True, low=-149, high=127),
        Field("last_lanes", 8, "channels in the last tile", low=1, high=128),
        Field("last_rows", 5, "rows in the last row tile", low=1, high=16),
        Field("row_stride", 24, "bytes from one row of y to the next"))),
    Instruction(Opcode.TOKEN, "Put tokens into a counter",
        "wait until every unit is idle; counter += count; above 2: stop with TOKEN", (
        Field("counter", 3, "token counter", choices=Token),
        Field("count", 2, "tokens to add", high=2))),
    Instruction(Opcode.LOOP, "Append a loop to the next instruction of a unit",
        "wait until the unit is idle; push (axis, auto, total, step, stride) onto its nest", (
        Field("unit", 2, "unit whose next instruction carries the loop", choices=Unit),
        Field("axis", 2, "what the loop splits", choices=Axis, high=2),
        Field("auto", 1, "1: the next iteration goes on where the last ended; not for mma"),
        Field("total", 20, "extent of the axis; ignored where an outer loop already splits it"),
        Field("step", 20, "extent of one iteration; the last one takes what is left", low=1),
        Field("stride", 40, "bytes (MMA: buffer words) from iteration to iteration", signed=True))),
    Instruction(Opcode.LDW, "Load weight blocks: bias, scales, codes",
        "each iteration: take W_FREE, read the block, give W_FULL; the same for S with scales and "
        "for B with bias, where they are part of the block", (
        Field("base", 40, "byte offset in the weight region"),
        _level("scale_level", "scales come where all loops from this level inwards begin"),
        _level("bias_level", "bias comes where all loops from this level inwards begin"))),
    Instruction(Opcode.LDX, "Load activation blocks",
        "take X_FREE and start a slot on each iteration of the loops outside `level`; each body "
        "reads `k` words into it; give X_FULL at the slot's first", (
        Field("base", 40, "byte offset in the activation region"),
        _level("level", "loops outside this level start a new slot"))),
    Instruction(Opcode.MMA, "Multiply: tables, lookups, accumulators, scales",
        "each iteration: one row tile times one block; an operand's slot is taken when the loops "
        "outside its level advance and given back after the last iteration inside", (
        _level("w_level", "loops outside this level take a new weight slot"),
        _level("s_level", "loops outside this level take a new scale slot"),
        _level("x_level", "loops outside this level take a new activation slot"),
        _level("t_level", "loops outside this level take a new sum slot (and its bias)"))),
    Instruction(Opcode.STY, "Store results",
        "each iteration: the rows of one row tile, `n` tiles of float32 each", (
        Field("base", 40, "byte offset in the result region"),)),
)
# fmt: on

INSTRUCTIONS: dict[Opcode, Instruction] = {entry.opcode: entry for entry in _TABLE}


def encode(opcode: Opcode, /, **values: int) -> int:
    """The 128-bit word of an instruction.

    Every field must be given; a value that its field cannot hold is refused.
    """
    instruction = INSTRUCTIONS[opcode]
    names = {field.name for field in instruction.fields}
    if names != set(values):
        odd = sorted(names ^ set(values))
        raise EncodingError(f"{instruction.name}: fields missing or unknown: {', '.join(odd)}")
    word, position = int(opcode), 8
    for field in instruction.fields:
        value = int(values[field.name])
        low, high = field.limits
        if not low <= value <= high:
            raise EncodingError(
                f"{instruction.name}: {field.name} must be in {low}..{high}, not {value}"
            )
        word |= (value & (1 << field.width) - 1) << position
        position += field.width
    return word


def words_to_bytes(words: Iterable[int]) -> bytes:
    """Instructions as the core fetches them from memory."""
    return b"".join(word.to_bytes(INSTRUCTION_BITS // 8, "little") for word in words)


def decode(word: int) -> tuple[Instruction, dict[str, int]]:
    """The instruction and its field values; refuses what the hardware refuses."""
    opcode = word & 0xFF
    if opcode not in INSTRUCTIONS:
        raise EncodingError(f"unknown opcode {opcode:#04x}", Cause.OPCODE)
    instruction = INSTRUCTIONS[Opcode(opcode)]
    if word >> instruction.width:
        raise EncodingError(
            f"{instruction.name}: reserved bits above bit {instruction.width - 1} are set",
            Cause.RESERVED,
        )
    values, position = {}, 8
    for field in instruction.fields:
        value = word >> position & (1 << field.width) - 1
        position += field.width
        if field.signed and value >> field.width - 1:
            value -= 1 << field.width
        low, high = field.limits
        if not low <= value <= high:
            raise EncodingError(
                f"{instruction.name}: {field.name} must be in {low}..{high}, not {value}",
                Cause.RESERVED if field.choices else Cause.OPERAND,
            )
        values[field.name] = value
    return instruction, values
