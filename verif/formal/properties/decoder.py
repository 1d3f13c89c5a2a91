"""The decoder accepts exactly the encodings of the ISA table."""

from collections.abc import Callable
from functools import partial

from amaranth.hdl import Const, Mux, ResetSignal, Signal, Value

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import INSTRUCTIONS, Cause, Field, Instruction, Opcode
from lutcore.hw.control.fetch import Checker
from lutcore.verif.formal.model import Model, Patch, Property

__all__ = ["PROPERTIES"]


def _legal(config: CoreConfig, field: Field) -> tuple[int, int]:
    """Smallest and largest value of a field that a core takes, as docs/isa.md says."""
    low, high = field.limits
    own = {
        "planes": config.planes,
        "ternary": int(config.ternary),
        "last_lanes": config.lanes,
        "last_rows": config.rows,
    }
    return low, min(high, own.get(field.name, high))


def _cause(config: CoreConfig, instruction: Instruction, word: Value) -> Value:
    """What is wrong with a word of this opcode: the first thing, the reserved bits before all."""
    cause: Value = Const(Cause.NONE, 8)
    if instruction.opcode == Opcode.LAYER:
        # planes are bits 11:8, per_plane is bit 12 and ternary bit 13.
        ternary = word[13] & ((word[8:12] != 1) | ~word[12])
        cause = Mux(ternary, Cause.OPERAND, cause)
    position = instruction.width
    for field in reversed(instruction.fields):
        position -= field.width
        bits = word[position : position + field.width]
        low, high = _legal(config, field)
        # Legal are the values low..high: a range that, modulo 2^width, begins at low.
        distance = (bits - low)[: field.width]
        wrong = Cause.RESERVED if field.choices else Cause.OPERAND
        cause = Mux(distance > high - low, wrong, cause)
    return Mux(word[instruction.width :] != 0, Cause.RESERVED, cause)


def _decoder(config: CoreConfig, model: Model) -> None:
    checker = model.unit(Checker(config))
    word = model.drive(checker.word, "word")
    expected: Value = Const(Cause.OPCODE, 8)
    for instruction in INSTRUCTIONS.values():
        cause = _cause(config, instruction, word)
        expected = Mux(word[:8] == int(instruction.opcode), cause, expected)
    expected = model.named(expected, "expected")
    expected = model.past(expected, Checker.latency)
    opcode_then = model.past(word[:8], Checker.latency)
    # What is counted here is zero after a reset, which the checker's registers do not have.
    undisturbed: Value = Const(1, 1)
    for _ in range(Checker.latency):
        stage = Signal(reset_less=True)
        model.m.d.sync += stage.eq(undisturbed & ~ResetSignal())
        undisturbed = stage
    agrees = (checker.cause == 0) == (expected == 0)
    model.claim(~undisturbed | agrees, "accepts_the_encodings")
    model.claim(~undisturbed | (checker.cause == expected), "names_the_cause")
    for opcode in Opcode:
        model.reachable(
            undisturbed & (checker.cause == 0) & (opcode_then == int(opcode)), opcode.name.lower()
        )


def _property(name: str, config: CoreConfig, label: str, twin: Patch) -> Property:
    return Property(
        name=f"decoder-{name}",
        unit="decoder",
        claim="of all 128-bit words, those of the ISA table are accepted; others have their cause",
        config=label,
        build=partial(_decoder, config),
        twin=twin,
        method="window",
        depth=Checker.latency + 1,
        cover_depth=Checker.latency + 2,
        quick=name == "tiny",
    )


_FETCH = "lutcore.hw.control.fetch"


def _higher(field: str) -> Patch:
    """The upper limit of a field of LAYER is one too high."""

    def make(right: Callable[[CoreConfig], dict[str, int]]) -> Callable:
        return lambda config: right(config) | {field: right(config)[field] + 1}

    return Patch(_FETCH, "_limits", make, f"the upper limit of {field} off by one")


PROPERTIES = [
    _property(
        "tiny",
        CoreConfig(rows=1, lanes=8, group=4, depth=2, planes=4, bus_width=32),
        "tiny",
        _higher("planes"),
    ),
    _property(
        "ternary",
        CoreConfig(rows=3, lanes=24, group=5, depth=1, planes=2, ternary=True),
        "M3 N24 P2 ternary",
        _higher("last_rows"),
    ),
]
