"""Programs that load or store what just fits, or far more."""

import functools
from collections.abc import Iterator

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import INSTRUCTIONS, Axis, Opcode, Unit, encode
from lutcore.hw.contract.loops import EXTENT_BITS
from lutcore.sw.program.compile import compile_layer
from lutcore.verif.directed.jobs import Job, another_program
from lutcore.verif.directed.scenario import Bench, Jobs, Scenario, scenario
from lutcore.verif.directed.words import LOOPS, bare_layer, free_slots, places, whole
from lutcore.verif.kit.layers import draw_case

__all__ = ["SCENARIOS", "to_the_limit"]

SCENARIOS: list[Scenario] = []


@scenario(SCENARIOS, "loads")
def _loads(bench: Bench) -> None:
    """Each bit of the extents of what is loaded or stored."""
    host = bench.host(latency=3)
    for job in bench.jobs.once("loads", lambda: _extents(bench.jobs)):
        host.run(job)


def _extents(jobs: Jobs) -> list[Job]:
    source, numbers = jobs.random("extents"), jobs.numbers("extents")
    case = draw_case(source, numbers, jobs.config)
    program = compile_layer(case.layer, jobs.config, case.rows)
    x = program.pack_x(case.q, case.scale)
    return [
        another_program(program, x, source, name, words) for name, words in _bodies(jobs.config)
    ]


def _bodies(config: CoreConfig) -> Iterator[tuple[str, list[int]]]:
    """Loads and stores whose first body has each bit of each extent; most are far too large."""
    largest = (1 << EXTENT_BITS) - 1
    units = {
        Unit.LDW: (encode(Opcode.LDW, base=0, scale_level=0, bias_level=0), (Axis.N, Axis.K)),
        Unit.LDX: (encode(Opcode.LDX, base=0, level=0), (Axis.K, Axis.N)),
        Unit.STY: (encode(Opcode.STY, base=0), (Axis.N, Axis.R)),
    }
    for unit, (instruction, axes) in units.items():
        for axis, inner in (axes, axes[::-1]):
            other = LOOPS[unit](axis=inner, total=1, step=1)
            for extent in (1 << bit for bit in range(EXTENT_BITS)):
                # Groups are counted one by one, while the other units make no progress.
                layer = bare_layer(config) | {"group_size": max(16, extent >> 12)}
                loop = functools.partial(LOOPS[unit], axis=axis)
                for what, nest in {
                    "outside": [loop(total=extent, step=extent), other],
                    "inside": [other, loop(total=extent, step=largest)],
                    # The inner one splits what the outer one leaves, whatever its own total.
                    **{
                        f"by {step}": [
                            loop(total=min(extent + 1, largest), step=extent),
                            loop(total=1, step=step),
                        ]
                        for step in (largest, extent, max(1, extent - 1))
                    },
                }.items():
                    yield (
                        f"{unit.name} of {axis.name} = {extent}, {what}",
                        [
                            *free_slots(),
                            encode(Opcode.LAYER, **layer),
                            *nest,
                            instruction,
                            encode(Opcode.END),
                        ],
                    )


def to_the_limit(config: CoreConfig) -> Iterator[tuple[str, list[int]]]:
    """Loads and stores that just fit, and the same with one word, tile or group too many."""
    loops = LOOPS
    layer = bare_layer(config)
    tokens = free_slots()
    items = config.x_items

    def weights(tiles: int, columns: int) -> list[int]:
        """Codes of a single run."""
        return [
            *tokens,
            encode(Opcode.LAYER, **layer),
            loops[Unit.LDW](axis=Axis.N, total=tiles, step=tiles),
            loops[Unit.LDW](axis=Axis.K, total=columns, step=columns),
            encode(Opcode.LDW, base=0, scale_level=0, bias_level=0),
            encode(Opcode.END),
        ]

    for more in (0, 1):
        words = config.x_slot_words + more
        for step in (words, words - 1):
            yield (
                f"{words} words of activations, {step} at once",
                [
                    *tokens,
                    loops[Unit.LDX](axis=Axis.K, total=words * items, step=step * items),
                    encode(Opcode.LDX, base=0, level=0),
                    encode(Opcode.END),
                ],
            )
        for what, tiles, columns in (
            ("tiles", config.tiles + more, 1),
            ("words of weights", 1, config.weight_words * config.step + more),
        ):
            yield f"{what}, {'one too many' if more else 'all'}", weights(tiles, columns)
    # Runs of a power of two and one step more, so that each bit of the length counts.
    for bit in range((config.weight_words * config.step - config.step).bit_length()):
        columns = min((1 << bit) + config.step, config.weight_words * config.step)
        yield f"a run of {columns} places", weights(1, columns)
    # Scales that fill their slot while the codes do not fill theirs, and one group more of them.
    wide = layer | {"group_size": config.step, "offset": 1, "wide": 1}
    groups = config.scale_words // (4 * config.chunks)
    for number in (groups, groups + 1):
        if number < config.weight_words:
            yield (
                f"scales of {number} groups",
                [
                    *tokens,
                    encode(Opcode.LAYER, **wide),
                    loops[Unit.LDW](axis=Axis.K, total=number * config.step, step=1 << 19),
                    encode(Opcode.LDW, base=0, scale_level=0, bias_level=0),
                    encode(Opcode.END),
                ],
            )
    activations = [
        whole(Unit.LDX, places(config), axis=Axis.K),
        encode(Opcode.LDX, base=0, level=0),
    ]
    mma = encode(Opcode.MMA, w_level=0, s_level=0, x_level=0, t_level=0)
    # MMA with too many tiles: by one, or by each upper bit of the extent. Nothing else stops it, as
    # its activations are there.
    for extra in (1, *(1 << bit for bit in range(1, EXTENT_BITS) if 1 << bit > config.tiles)):
        yield (
            f"MMA, {extra} tiles more than there may be",
            [
                *tokens,
                encode(Opcode.LAYER, **layer),
                *activations,
                whole(Unit.MMA, min(config.tiles + extra, (1 << EXTENT_BITS) - 1), axis=Axis.N),
                mma,
                encode(Opcode.END),
            ],
        )
    # More columns than a slot of weights holds; and runs that are longer than `run`, as the group
    # size or the number of columns says.
    room = config.weight_words * config.step
    bits = INSTRUCTIONS[Opcode.LAYER].layout["group_size"].width
    most = (1 << bits) - 1
    extents = [room + 1, *(1 << bit for bit in range(room.bit_length(), EXTENT_BITS))]
    pairs = [(config.step, columns) for columns in extents]
    for bit in range(config.run.bit_length(), bits):
        pairs += [(1 << bit, room), (most, min(1 << bit, room))]
    for group_size, columns in dict.fromkeys(pairs):
        yield (
            f"MMA of {columns} columns in groups of {group_size}",
            [
                *tokens,
                encode(Opcode.LAYER, **layer | {"group_size": group_size}),
                *activations,
                whole(Unit.MMA, columns, axis=Axis.K),
                mma,
                encode(Opcode.END),
            ],
        )
    # FINAL takes a single result although no STY follows.
    yield (
        "a result that nobody stores",
        [
            *tokens,
            encode(Opcode.LAYER, **layer | {"last_lanes": 1, "last_rows": 1}),
            *activations,
            loops[Unit.LDW](axis=Axis.K, total=config.step, step=config.step),
            encode(Opcode.LDW, base=0, scale_level=0, bias_level=0),
            whole(Unit.MMA, config.step, axis=Axis.K),
            mma,
            encode(Opcode.END),
        ],
    )
    # There is no MMA, which would refuse the tiles before STY does.
    yield (
        "STY, one tile too many",
        [
            encode(Opcode.LAYER, **layer),
            loops[Unit.STY](axis=Axis.N, total=config.tiles + 1, step=config.tiles + 1),
            encode(Opcode.STY, base=0),
            encode(Opcode.END),
        ],
    )
