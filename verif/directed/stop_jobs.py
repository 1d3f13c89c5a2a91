"""Programs that come to a stop, of all causes that depend on the program alone."""

import dataclasses
import functools
import random
from collections.abc import Iterator, Sequence

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import (
    PROGRAM_MAX,
    RESULT_ALIGNMENT,
    UNIT_OF,
    Axis,
    Opcode,
    Token,
    Unit,
    decode,
    encode,
)
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.program import Program
from lutcore.verif.directed.jobs import Job, altered_job, another_program, layer_job
from lutcore.verif.directed.loads import to_the_limit
from lutcore.verif.directed.scenario import Jobs
from lutcore.verif.directed.slots import without_bias
from lutcore.verif.directed.words import bare_layer, free_slots, whole
from lutcore.verif.kit.layers import Case, draw_case

__all__ = ["full_job", "stop_jobs", "unloaded_jobs", "waiting_jobs"]


def stop_jobs(jobs: Jobs) -> Iterator[Job]:
    """Stops of all causes that depend on the program alone."""
    source = jobs.random("stops")
    program, x = _full_program(jobs)
    words = list(program.instructions)

    def at(opcode: Opcode, nth: int = 0) -> int:
        return [i for i, word in enumerate(words) if word & 0xFF == opcode][nth]

    def changed(index: int, word: int) -> dict[str, list[int]]:
        return {"words": [*words[:index], word, *words[index + 1 :]]}

    variants: dict[str, dict] = {
        "no opcode": changed(at(Opcode.MMA), 0),
        "no end": changed(len(words) - 1, encode(Opcode.TOKEN, counter=0, count=0)),
        "empty": {"length": 0},
        "too long": {"length": 129},
        "much too long": {"length": 1 << 31},
        "fingerprint": {"expect": jobs.config.fingerprint ^ 1 << 63},
        "fingerprint, low": {"expect": jobs.config.fingerprint ^ 1},
        "two slots more": changed(0, encode(Opcode.TOKEN, counter=Token.X_FULL, count=2)),
    }
    for bit in range(0, 64, 7):
        variants[f"fingerprint {bit}"] = {"expect": jobs.config.fingerprint ^ 1 << bit}
    for unit in Unit:
        loop = encode(Opcode.LOOP, unit=unit, axis=Axis.K, auto=0, total=1, step=1, stride=0)
        variants[f"nesting {unit.name}"] = {"words": [*[loop] * 6, *words[6:]]}
    for opcode in (Opcode.LDW, Opcode.LDX, Opcode.STY):
        for bit in (0, 1, 2, 3, 4, *range(30, 40)):
            fields = decode(words[at(opcode)])[1]
            moved = encode(opcode, **fields | {"base": fields["base"] ^ 1 << bit})
            variants[f"{opcode.name} from bit {bit}"] = changed(at(opcode), moved)
    # Results that would not lie where results may.
    strides = {index: "stride" for index, word in enumerate(words) if _is_loop(word, Unit.STY)}
    for index, name in {**strides, at(Opcode.LAYER): "row_stride"}.items():
        instruction, fields = decode(words[index])
        for bit in range(RESULT_ALIGNMENT.bit_length() - 1):
            moved = encode(instruction.opcode, **fields | {name: fields[name] ^ 1 << bit})
            variants[f"{name} of {index}, bit {bit}"] = changed(index, moved)
    for region, size in (
        (Region.PROGRAM, len(words) * 16),
        (Region.WEIGHTS, len(program.image)),
        (Region.ACTIVATIONS, program.x_bytes),
        (Region.RESULTS, program.y_bytes),
    ):
        for less in (4, size // 2, size):
            variants[f"{region.name} short of {less}"] = {"sizes": {region: max(0, size - less)}}
    tokens = [i for i, word in enumerate(words) if word & 0xFF == Opcode.TOKEN]
    for index in tokens:
        counter = Token(words[index] >> 8 & 7)
        variants[f"no {counter.name}"] = changed(
            index, encode(Opcode.TOKEN, counter=counter, count=0)
        )
        variants[f"one {counter.name}"] = changed(
            index, encode(Opcode.TOKEN, counter=counter, count=1)
        )
    another = functools.partial(_another, program, x, source)
    for name, change in variants.items():
        if "words" in change:
            job = another(name, change["words"])
        else:
            job = altered_job(program, x, source, name, **change)
        # Such as activations from elsewhere, with something behind the end of a run.
        if not (job.good and job.undefined):
            yield job
    # After END nothing is left over, so a counter overflows only within a program.
    for token in Token:
        add = encode(Opcode.TOKEN, counter=token, count=2)
        end = encode(Opcode.END)
        for number in (2, 3):
            yield another(f"{token.name} {number} times", [*[add] * number, end])
        # One more than the limit, and the limit.
        one = encode(Opcode.TOKEN, counter=token, count=1)
        for first in (add, one):
            which = "two" if first == add else "one"
            yield another(f"{token.name} after {which}", [first, one, end])

    # Free slots are counted when all is idle, not while one is in use.
    for token in (Token[f"{name}_FREE"] for name in "WSXB"):
        for count in (1, 2):
            more = encode(Opcode.TOKEN, counter=token, count=count)
            yield another(f"{count} {token.name} at the end", [*words[:-1], more, words[-1]])

    for name, instructions in to_the_limit(jobs.config):
        yield another(name, instructions)
    yield another("rows within K", _rows_within_k(jobs.config))
    # Nobody takes the results, so that the units wait for each other to the first.
    yield another("no STY", [word for word in words if _unit_of(word) != Unit.STY])

    # Units give too many back: loaders to a full counter, readers to a free one.
    layer, load = at(Opcode.LAYER), at(Opcode.LDW) + 1
    for token in Token:
        full = token.name.endswith("FULL")
        add = encode(Opcode.TOKEN, counter=token, count=2 if full else 1)
        start = layer if full else load
        rest = [*words[start:load], end] if full else words[start:]
        yield another(f"{token.name} given too often", [*words[:start], add, *rest])

    # Every source of BOUNDS and of OPERAND, with the largest numbers that instructions have.
    for opcode in (Opcode.LDW, Opcode.LDX, Opcode.STY):
        fields = decode(words[at(opcode)])[1]
        moved = encode(opcode, **fields | {"base": fields["base"] ^ 1 << 39})
        changed_words = changed(at(opcode), moved)["words"]
        yield another(f"{opcode.name} far away, late", changed_words, late=True)
    for name, instructions in to_the_limit(jobs.config):
        yield another(f"{name}, late", instructions, late=True)


def _another(
    program: Program,
    x: bytes,
    source: random.Random,
    name: str,
    words: Sequence[int],
    *,
    late: bool = False,
) -> Job:
    """Other instructions for the same data, half of them far from the beginning of a program.

    With `late`, all of them as far as can be.
    """
    room = max(0, PROGRAM_MAX - len(words))
    nothing = encode(Opcode.TOKEN, counter=0, count=0)
    before = room if late else source.randint(0, source.choice([0, room]))
    words = [*[nothing] * before, *words]
    # What it takes the place of has room for all of its instructions before the weights.
    like = [nothing] * (len(words) - 1) + [encode(Opcode.END)]
    long = dataclasses.replace(program, instructions=tuple(like))
    return another_program(long, x, source, name, words)


def _rows_within_k(config: CoreConfig) -> list[int]:
    """A sum slot for each body of MMA, of which the first does not end K.

    If that were overlooked until the last row tile, there would be no activations for it.
    """
    loop = functools.partial(encode, Opcode.LOOP, unit=Unit.MMA, auto=0, stride=0)
    return [
        *free_slots(),
        encode(Opcode.LAYER, **bare_layer(config)),
        whole(Unit.LDX, config.step, axis=Axis.K),
        encode(Opcode.LDX, base=0, level=0),
        whole(Unit.LDW, config.step, axis=Axis.K),
        encode(Opcode.LDW, base=0, scale_level=0, bias_level=0),
        loop(axis=Axis.K, total=2 * config.step, step=config.step),
        loop(axis=Axis.R, total=2, step=1),
        encode(Opcode.MMA, w_level=0, s_level=0, x_level=2, t_level=2),
        encode(Opcode.STY, base=0),
        encode(Opcode.END),
    ]


def waiting_jobs(jobs: Jobs, count: int) -> Iterator[Job]:
    """Programs with several units that wait for ever, some way from each other."""
    source = jobs.random("waiting")
    program, x = _full_program(jobs)
    instructions = {
        Unit.LDW: encode(Opcode.LDW, base=0, scale_level=0, bias_level=0),
        Unit.LDX: encode(Opcode.LDX, base=0, level=0),
        Unit.MMA: encode(Opcode.MMA, w_level=0, s_level=0, x_level=0, t_level=0),
        Unit.STY: encode(Opcode.STY, base=0),
    }
    for number in range(count):
        order = source.sample(list(Unit), source.randint(2, len(Unit)))
        words = [encode(Opcode.LAYER, **bare_layer(jobs.config)), instructions[order[0]]]
        for unit in order[1:]:
            # Far or near, and near most often: loops without iterations lie between the two.
            distance = source.randrange(1 << source.randint(0, 6)) // 2
            empty = encode(Opcode.LOOP, unit=unit, axis=Axis.K, auto=0, total=0, step=1, stride=0)
            for _ in range(distance):
                words += [*[empty] * source.choice([1, 1, 2]), instructions[unit]]
            words.append(instructions[unit])
        name = f"{', '.join(unit.name for unit in order)} wait, program {number}"
        words = [*words[: PROGRAM_MAX - 1], encode(Opcode.END)]
        yield _another(program, x, source, name, words)


def unloaded_jobs(jobs: Jobs) -> Iterator[Job]:
    source = jobs.random("unloaded")
    program, x = _full_program(jobs)
    words = list(program.instructions)
    after = next(i for i, word in enumerate(words) if word & 0xFF == Opcode.LAYER) + 1
    loaders = (Unit.LDW, Unit.LDX)
    for names, units in (
        ("WSXB", loaders),
        *((name, loaders) for name in ("WSX", "WSB", "WXB", "SXB")),
        ("WSB", loaders[:1]),
        ("X", loaders[1:]),
    ):
        loaded = [word for word in words[after:] if _unit_of(word) not in units]
        adds = [encode(Opcode.TOKEN, counter=Token[f"{name}_FULL"], count=1) for name in names]
        yield another_program(
            program,
            x,
            source,
            f"{names} without {' and '.join(unit.name for unit in units)}",
            [*words[:after], *adds, *loaded],
        )
    yield without_bias(jobs)


def _unit_of(word: int) -> Unit | None:
    """The unit that an instruction, or a loop, is for."""
    instruction, fields = decode(word)
    if instruction.opcode == Opcode.LOOP:
        return Unit(fields["unit"])
    return UNIT_OF.get(instruction.opcode)


def _is_loop(word: int, unit: Unit) -> bool:
    return word & 0xFF == Opcode.LOOP and _unit_of(word) == unit


def _full_case(jobs: Jobs) -> Case:
    """A small layer with everything: offsets, bias, several tiles, groups and row tiles."""
    source, numbers = jobs.random("full"), jobs.numbers("full")
    while True:
        case = draw_case(source, numbers, jobs.config)
        layer = case.layer
        several = layer.n > jobs.config.lanes and layer.k > jobs.config.step
        if layer.offsets is not None and layer.bias is not None and several and case.rows > 2:
            return case


def _full_program(jobs: Jobs) -> tuple[Program, bytes]:
    """That layer compiled, and its activations."""
    case = _full_case(jobs)
    program = compile_layer(case.layer, jobs.config, case.rows)
    return program, program.pack_x(case.q, case.scale)


def full_job(jobs: Jobs) -> Job:
    return layer_job(_full_case(jobs), jobs.config, jobs.random("full job"), "full layer")
