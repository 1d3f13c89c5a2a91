"""Random legal programs: layers of loops as no compiler would write them.

A layer begins with the loops of MMA; from these follow what the loaders must bring and STY must
take away, each in loops of its own shape. Whether the result is legal is decided by
`lutcore.sim.machine.legal` alone: what is not is drawn again.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lutcore.hw.contract.config import SLOTS, CoreConfig, ceil_div
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import LOOP_LEVELS, PROGRAM_MAX, Axis, Opcode, Token, Unit, encode
from lutcore.hw.contract.loops import Loop, walk
from lutcore.hw.contract.ternary import INDEX_BITS
from lutcore.sim.machine.base import Layer
from lutcore.sim.machine.flow import Flow
from lutcore.sim.machine.legal import check_execution
from lutcore.sw.program.blocks import x_memory_words
from lutcore.sw.program.rules import check
from lutcore.verif.programs.case import MEMORY_BYTES, STEPS, Case

__all__ = ["legal_case"]

#: Lookups and beats of a program at most, to keep its simulation short.
_LOOKUPS, _BEATS = 4_000, 6_000
_BODIES = 60
#: Share of drafts whose last layer, if it has biases, gets them late.
_LATE = 0.5
#: Instructions of one load at most.
_INSTRUCTIONS = 4


class _Unfit(Exception):
    """A draft that cannot become a legal program."""


def legal_case(config: CoreConfig, rng: random.Random) -> Case:
    """A legal program with memory of just the size that it needs, or a little more."""
    while True:
        try:
            words = _draft(config, rng)
            case = _place(config, words, rng)
        except _Unfit:
            continue
        if case is not None:
            return case


def _place(config: CoreConfig, words: list[int], rng: random.Random) -> Case | None:
    """Regions anywhere, in any order, with noise between them; None if the program is not legal."""
    if len(words) > PROGRAM_MAX or check(words, config):
        return None
    if check_execution(words, config, limit=STEPS):
        return None
    flow = Flow(config, words, limit=STEPS)
    flow.run()
    counts = flow.counts
    if counts.lookups > _LOOKUPS or counts.read_beats + counts.write_beats > _BEATS:
        return None
    flow.extents[Region.PROGRAM] = ceil_div(16 * len(words), config.beat_bytes) * config.beat_bytes
    order = list(Region)
    rng.shuffle(order)
    regions, address = {}, 64 * rng.choice([0, 1, 7])
    for region in order:
        size = flow.extents[region] + rng.choice([0, 0, 0, 1, 32, 100])
        regions[region] = address, size
        address += 64 * (ceil_div(size, 64) + rng.choice([0, 0, 1, 5]))
    if address > MEMORY_BYTES:
        return None
    return Case(config, tuple(words), regions, rng.getrandbits(32), note="legal")


@dataclass
class _Draft:
    """One layer, or one more MMA in a layer; with `one_block`, of all weights in one load."""

    config: CoreConfig
    layer: Layer
    rng: random.Random
    one_block: bool = False

    def __post_init__(self) -> None:
        self.form = self.layer.format
        self.loops: list[Loop] = []
        self.outer = 0
        self._draw_loops()

    # MMA -------------------------------------------------------------------------------------

    def _split(self, axis: Axis, total: int, most: int, stride: int = 0) -> None:
        """Add one or two loops of an axis whose bodies have at most `most` of it."""
        rng = self.rng
        if total > most or rng.random() < 0.6:
            step = rng.randint(1, min(most, total) + (total <= most))
            if axis == Axis.K:
                step = self._whole_tables(step)
            if rng.random() < 0.2 and len(self.loops) < LOOP_LEVELS - 2:
                wide = step * rng.randint(1, 3)
                self.loops.append(Loop(axis, total, wide, stride))
                self.loops.append(Loop(axis, rng.choice([0, 1, 77]), step, stride))
            else:
                self.loops.append(Loop(axis, total, step, stride))
        elif total > 1:
            self.loops.append(Loop(axis, total, total, stride))

    def _whole_tables(self, places: int) -> int:
        return ceil_div(places, INDEX_BITS) * INDEX_BITS if self.form.ternary else places

    def _draw_loops(self) -> None:
        rng, config, form = self.rng, self.config, self.form
        most_tiles = max(1, config.tiles // form.entries)
        for axis in rng.sample([Axis.N, Axis.R], 2):
            if axis == Axis.N and rng.random() < 0.8:
                self._split(Axis.N, rng.randint(1, 2 * most_tiles + 1), rng.randint(1, most_tiles))
            elif axis == Axis.R and rng.random() < 0.7:
                self._split(Axis.R, rng.randint(1, 4), 3)
        if rng.random() < 0.1:
            self.loops.insert(0, Loop(rng.choice([Axis.N, Axis.R]), 1, rng.randint(1, 3)))
        self.outer = len(self.loops)
        most = rng.choice([1, config.step, config.run, 3 * config.step, form.group_size])
        most = self._whole_tables(min(most, 96))
        total = self._whole_tables(rng.choice([1, rng.randint(1, 40), rng.randint(1, 150)]))
        self._split(Axis.K, total, most)
        if form.ternary and not any(loop.axis == Axis.K for loop in self.loops):
            self.loops.append(Loop(Axis.K, total, total))
        if rng.random() < 0.4:
            self.loops.append(Loop(Axis.R, rng.randint(1, 4), 1))
        if len(self.loops) > LOOP_LEVELS:
            raise _Unfit
        count = len(self.loops)
        self.t_level = self.outer
        self.w_level = rng.choice([0, self.outer, count, rng.randint(0, count)])
        self.s_level = rng.randint(0, self.w_level)
        if rng.random() < 0.3:
            # MMA takes scales more often than weights, so the codes of some blocks are not read.
            self.w_level = rng.randint(0, count)
            self.s_level = rng.choice([count, rng.randint(self.w_level, count)])
        if self.one_block:
            self.w_level = self.s_level = 0
        self.x_level = rng.choice([0, self.outer, count, rng.randint(0, count)])
        self._draw_strides()
        bodies = list(walk(self.loops))
        if len(bodies) > _BODIES:
            raise _Unfit
        if self.one_block and sum(body.first[self.t_level] for body in bodies) > SLOTS:
            raise _Unfit
        self.x_slots = sum(body.first[self.x_level] for body in bodies)
        self.x_need = max(
            body.address + x_memory_words(config, form.x_words(body.k)) for body in bodies
        )
        if self.x_need > config.x_slot_words:
            raise _Unfit
        self.most_n = max(body.n for body in bodies)
        self.most_k = max(body.k for body in bodies)
        if not any(body.k_last for body in bodies):
            raise _Unfit

    def _draw_strides(self) -> None:
        """Where in the activation slot a body reads."""
        size = x_memory_words(
            self.config, self.form.x_words(max(body.k for body in walk(self.loops)))
        )
        room = self.config.x_slot_words // size
        for number, loop in enumerate(self.loops):
            stride = 0
            if number >= self.x_level and self.rng.random() < 0.6:
                stride = self.rng.choice([size, size, 1, 2])
                stride *= room > 1
            self.loops[number] = Loop(loop.axis, loop.total, loop.step, stride)

    def mma(self) -> list[int]:
        beyond = self.rng.choice([0, 0, 1])

        def level(value: int) -> int:
            """Levels from the number of loops on are all the same."""
            return min(LOOP_LEVELS, value + beyond) if value == len(self.loops) else value

        fields = {
            "w_level": level(self.w_level),
            "s_level": level(self.s_level),
            "x_level": level(self.x_level),
            "t_level": level(self.t_level),
        }
        return [*_words(Unit.MMA, self.loops), encode(Opcode.MMA, **fields)]

    # The others ------------------------------------------------------------------------------

    def ldw(self) -> list[int]:
        rng, beat = self.rng, self.config.beat_bytes
        loops = list(self.loops[: max(self.w_level, self.s_level)])
        for axis, size in ((Axis.N, self.most_n), (Axis.K, self.most_k)):
            if size > 1 and not any(loop.axis == axis for loop in loops):
                loops.append(Loop(axis, size, size))
        if len(loops) > LOOP_LEVELS:
            raise _Unfit
        loops = self._addresses(loops, beat, rng.choice([0.0, 0.7, 1.0]))
        base = beat * rng.choice([0, 0, 1, 9]) + _lift(loops, beat)
        fields = {
            "base": base,
            "scale_level": self.s_level,
            "bias_level": min(self.w_level, self.t_level),
        }
        return self._load(Unit.LDW, loops, fields)

    def _load(self, unit: Unit, loops: list[Loop], fields: dict[str, int]) -> list[int]:
        """A load, or one for each iteration of its outermost loop, which makes data late."""
        starts = range(0, loops[0].total, loops[0].step) if loops else range(0)
        levels = [value for name, value in fields.items() if name.endswith("level")]
        # A load per iteration equals the whole nest only if strides give the addresses, and if no
        # level is 0, which stands for once in the whole nest.
        apart = 1 < len(starts) <= _INSTRUCTIONS and not loops[0].auto and min(levels) > 0
        if not apart or self.rng.random() < 0.4:
            return [*_words(unit, loops), encode(unit.opcode, **fields)]
        words = []
        for index, start in enumerate(starts):
            size = min(loops[0].step, loops[0].total - start)
            words += _words(unit, [replace(loops[0], total=size), *loops[1:]])
            base = fields["base"] + index * loops[0].stride
            words.append(encode(unit.opcode, **{**fields, "base": base}))
        return words

    def _addresses(self, loops: Sequence[Loop], unit: int, auto: float) -> list[Loop]:
        """Strides for loops, some of them going on where the last body ended."""
        result = []
        for loop in loops:
            go_on = self.rng.random() < auto
            stride = 0 if go_on else unit * self.rng.choice([0, 1, 2, 5, 16, 40])
            result.append(Loop(loop.axis, loop.total, loop.step, stride, go_on))
        if auto == 0 and self.rng.random() < 0.3:
            result = [Loop(p.axis, p.total, p.step, -p.stride) for p in result]
        return result

    def ldx(self) -> list[int]:
        rng, config = self.rng, self.config
        width, items = config.x_memory_bytes, config.x_items
        divisors = [n for n in range(1, self.x_slots + 1) if self.x_slots % n == 0]
        first = rng.choice(divisors)
        loops = [Loop(Axis.N, first, 1), Loop(Axis.R, self.x_slots // first, 1)]
        rng.shuffle(loops)
        if rng.random() < 0.7:
            loops = [loop for loop in loops if loop.total > 1]
        level = len(loops)
        words = min(config.x_slot_words, self.x_need + rng.choice([0, 0, 1]))
        pieces = rng.choice([1, 1, 2, 3, 5])
        piece = ceil_div(words, pieces)
        columns = words * items - rng.randrange(items)
        if rng.random() < 0.4:
            # A slot is filled by two loops over K: the outer one, too, moves within the slot.
            loops.append(Loop(Axis.K, columns, rng.choice([1, 2, 2, 3]) * piece * items))
            columns = rng.choice([0, 1, 77])
        loops.append(Loop(Axis.K, columns, piece * items))
        stride = width if rng.random() < 0.7 else config.beat_bytes
        loops = self._addresses(loops, stride, rng.choice([0.0, 0.7, 1.0]))
        base = config.beat_bytes * rng.choice([0, 0, 3]) + _lift(loops, config.beat_bytes)
        return self._load(Unit.LDX, loops, {"base": base, "level": level})

    def sty(self) -> list[int]:
        rng = self.rng
        loops = [loop for loop in self.loops if loop.axis != Axis.K]
        loops = self._addresses(loops, 32, rng.choice([0.0, 0.5, 1.0]))
        base = 32 * rng.choice([0, 1, 5]) + _lift(loops, 32)
        return [*_words(Unit.STY, loops), encode(Opcode.STY, base=base)]


def _lift(loops: Sequence[Loop], unit: int) -> int:
    """What to add to a base so that negative strides do not lead below 0."""
    if any(loop.auto for loop in loops):
        return 0
    low = min((_signed(body.address) for body in walk(loops)), default=0)
    return ceil_div(max(0, -low), unit) * unit


def _signed(address: int) -> int:
    return address - (1 << 40) if address >> 39 else address


def _words(unit: Unit, loops: Sequence[Loop]) -> list[int]:
    return [
        encode(
            Opcode.LOOP,
            unit=unit,
            axis=loop.axis,
            auto=loop.auto,
            total=loop.total,
            step=loop.step,
            stride=loop.stride,
        )
        for loop in loops
    ]


def _draft(config: CoreConfig, rng: random.Random) -> list[int]:
    layers, late = rng.choice([1, 1, 2, 3]), rng.random() < _LATE
    free = {name: rng.choice([1, 2, 2, 2]) for name in "WSXB"}
    if late:
        # The biases come with a second load of the same block, which has to wait for the slots of
        # the first one.
        free |= {"W": 1, "S": 1}
    tokens = [
        encode(Opcode.TOKEN, counter=Token[f"{name}_FREE"], count=count)
        for name, count in free.items()
    ]
    rng.shuffle(tokens)
    words: list[int] = []
    layer = None
    for number in range(layers):
        if layer is None or rng.random() < 0.7:
            fields = _layer_fields(config, rng)
            layer = Layer.of(config, fields)
            words.append(encode(Opcode.LAYER, **fields))
        # The weights and scales of that second load are never read, so this layer is the last one.
        again = number == layers - 1 and layer.bias and late
        draft = _Draft(config, layer, rng, one_block=again)
        parts = [draft.ldx(), draft.ldw(), draft.mma(), draft.sty()]
        parts += [_empty(rng) for _ in range(rng.choice([0, 0, 0, 1, 2]))]
        rng.shuffle(parts)
        if number == 0:
            at = rng.randint(0, 1)
            words[at:at] = tokens
        first = len(words)
        if again:
            words += _late_biases(draft, fields)
        words += _interleaved(parts, rng) if rng.random() < 0.5 else [w for p in parts for w in p]
        if number and rng.random() < 0.2:
            # LDX may stand before the LAYER whose activations it loads.
            words = _hoisted(words, first)
    if rng.random() < 0.2:
        words += _unread(config, rng)
    while rng.random() < 0.2:
        nothing = encode(Opcode.TOKEN, counter=rng.choice(list(Token)), count=0)
        words.insert(rng.randint(0, len(words)), nothing)
    return [*words, encode(Opcode.END)]


def _late_biases(draft: _Draft, fields: dict[str, int]) -> list[int]:
    """A first load of weights and scales, without biases; those come with the layer's own load.

    FINAL then waits for every word of the biases, and STORE for FINAL.
    """
    return [
        encode(Opcode.LAYER, **fields | {"bias": 0}),
        *draft.ldw(),
        encode(Opcode.LAYER, **fields),
    ]


def _unread(config: CoreConfig, rng: random.Random) -> list[int]:
    """A load that no MMA follows: it may have more tiles and longer runs than MMA allows."""
    fields = _layer_fields(config, rng)
    form = Layer.of(config, fields).format
    tiles = rng.randint(1, max(1, config.tiles // form.planes))
    most = config.weight_words // (tiles * form.planes) * config.step
    if most == 0:
        raise _Unfit
    columns = most if rng.random() < 0.5 else rng.randint(1, most)
    for group in [*sorted(rng.choices(range(1, columns + 1), k=4)), columns, columns + 1]:
        form = replace(form, group_size=group)
        if (
            form.weight_words(tiles, columns) <= config.weight_words
            and form.scale_lines(tiles, columns) <= config.scale_words
        ):
            break
    else:
        raise _Unfit
    loops = [Loop(Axis.N, tiles, tiles), Loop(Axis.K, columns, columns)]
    rng.shuffle(loops)
    return [
        encode(Opcode.LAYER, **{**fields, "group_size": group}),
        *_words(Unit.LDW, loops),
        encode(Opcode.LDW, base=0, scale_level=rng.randint(0, 2), bias_level=rng.randint(0, 2)),
    ]


def _hoisted(words: list[int], first: int) -> list[int]:
    """Move LDX and its loops, from `first` on, before the last LAYER that precedes `first`."""
    moved = [
        word
        for word in words[first:]
        if word & 0xFF == Opcode.LDX or (word & 0xFF == Opcode.LOOP and word >> 8 & 3 == Unit.LDX)
    ]
    rest = [word for word in words[first:] if word not in moved]
    at = max((i for i in range(first) if words[i] & 0xFF == Opcode.LAYER), default=first)
    return [*words[:at], *moved, *words[at:first], *rest]


def _empty(rng: random.Random) -> list[int]:
    """An instruction whose nest is empty."""
    unit = rng.choice(list(Unit))
    axes = rng.sample(list(Axis), 2)
    loops = [Loop(axes[0], rng.randint(0, 3), rng.randint(1, 2)), Loop(axes[1], 0, 1)]
    if rng.random() < 0.5:
        loops.reverse()
    names = {
        Unit.LDW: ("base", "scale_level", "bias_level"),
        Unit.LDX: ("base", "level"),
        Unit.MMA: ("w_level", "s_level", "x_level", "t_level"),
        Unit.STY: ("base",),
    }[unit]
    return [*_words(unit, loops), encode(unit.opcode, **{n: rng.randint(0, 5) for n in names})]


def _interleaved(parts: list[list[int]], rng: random.Random) -> list[int]:
    """Instructions of all parts in a random order that keeps each part's own."""
    queues, result = [list(part) for part in parts], []
    while any(queues):
        queue = rng.choice([queue for queue in queues if queue])
        result.append(queue.pop(0))
    return result


def _layer_fields(config: CoreConfig, rng: random.Random) -> dict[str, int]:
    ternary = config.ternary and rng.random() < 0.7
    planes = 1 if ternary else rng.randint(1, config.planes)
    group = rng.choice([1, 5, config.step, rng.randint(1, 40), 2 * config.step, 64, 1000])
    if ternary:
        group = ceil_div(group, INDEX_BITS) * INDEX_BITS
    wide = rng.random() < 0.3
    return {
        "planes": planes,
        "per_plane": 1 if ternary else rng.randint(0, 1),
        "ternary": int(ternary),
        "offset": rng.randint(0, 1),
        "wide": int(wide),
        "bias": rng.randint(0, 1),
        "group_size": group,
        "exponent": rng.choice([-24, -24, rng.randint(-149, 127), -60]),
        "last_lanes": rng.choice([config.lanes, rng.randint(1, config.lanes)]),
        "last_rows": rng.choice([config.rows, rng.randint(1, config.rows)]),
        "row_stride": 32 * rng.choice([0, 1, 2, 3, rng.randint(0, 30)]),
    }
