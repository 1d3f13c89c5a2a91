"""The loader of weights: requests, tokens, slots, and what it writes."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from loader_bench import OperandError, SlotModel, Source, joined, offer
from stream_bench import simulate

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.contract.isa import Axis
from lutcore.hw.contract.loops import Body, Loop, walk
from lutcore.hw.transfer.slot_writer import write_signature
from lutcore.hw.transfer.weights import WeightLoader

N, K = Axis.N, Axis.K


@dataclass(frozen=True)
class WeightCase:
    """An LDW instruction and its layer."""

    config: CoreConfig
    loops: tuple[Loop, ...]
    scale_level: int
    bias_level: int
    planes: int
    group_size: int
    per_plane: bool = False
    offset: bool = False
    wide: bool = False
    bias: bool = False


@dataclass
class WeightImage:
    """A random image, and what of it belongs where."""

    content: bytes = b""
    bodies: list[Body] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    biases: list[bytes] = field(default_factory=list)
    scales: list[bytes] = field(default_factory=list)
    codes: list[list[tuple[int, int]]] = field(default_factory=list)  # (bits, value) of words


def weight_image(case: WeightCase, rng: random.Random) -> WeightImage:
    """Blocks as docs/architecture.md describes them, one after the other."""
    config, image = case.config, WeightImage()

    def padded(section: bytes) -> bytes:
        return section + bytes(-len(section) % config.beat_bytes)

    def block(body: Body) -> bytes:
        content = b""
        if case.bias and body.first[case.bias_level]:
            image.biases.append(rng.randbytes(body.n * config.lanes * 4))
            content += padded(image.biases[-1])
        if body.first[case.scale_level]:
            entries = case.planes if case.per_plane else 1
            lines = ceil_div(body.k, case.group_size) * body.n * (entries + case.offset)
            lines *= config.chunks * (2 if case.wide else 1)
            image.scales.append(rng.randbytes(lines * 2 * config.scale_lanes))
            content += padded(image.scales[-1])
        words = []
        for start in range(0, body.k, case.group_size):
            columns = min(case.group_size, body.k - start)
            for at in range(0, columns, config.step):
                bits = min(config.step, columns - at) * config.lanes
                words += [(bits, rng.getrandbits(bits)) for _ in range(body.n * case.planes)]
        image.codes.append(words)
        value = position = 0
        for bits, word in words:
            value |= word << position
            position += bits
        return content + padded(value.to_bytes(position // 8, "little"))

    def end(body: Body) -> int:
        return len(image.content)

    for body in walk(case.loops, 0, end=end):
        image.bodies.append(body)
        assert body.address == len(image.content)
        image.content += block(body)
        image.ends.append(len(image.content))
    return image


def weight_loader(config: CoreConfig) -> WeightLoader:
    """A loader with ports as wide as the core's."""
    beat = config.bus_width
    scale_bits = max(beat, 16 * config.scale_lanes)
    scale_words = max(2, config.scale_words * 16 * config.scale_lanes // scale_bits)
    bias_bits = max(beat, 32 * config.final_lanes)
    bias_words = max(2, config.bias_words * 32 // bias_bits)
    return WeightLoader(
        config,
        scale_write=write_signature(scale_bits, beat, scale_words),
        bias_write=write_signature(bias_bits, beat, bias_words),
    )


WEIGHT_CASES = {
    # Everything in each block; ragged tiles, runs and steps.
    "all sections": WeightCase(
        CoreConfig(rows=1, lanes=8, group=3, depth=2, planes=4, bus_width=64, scale_lanes=8),
        (Loop(N, 5, 2, auto=True), Loop(K, 21, 21, auto=True)),
        2, 1, planes=3, group_size=8, offset=True, bias=True,
    ),
    # A group in pieces: scales come with the first, the bias once for all of K.
    "pieces": WeightCase(
        CoreConfig(rows=1, lanes=16, group=4, depth=1, planes=2, bus_width=128, scale_lanes=4),
        (Loop(N, 2, 1, auto=True), Loop(K, 40, 16, auto=True), Loop(K, 0, 8, auto=True)),
        2, 1, planes=2, group_size=16, per_plane=True, offset=True, wide=True, bias=True,
    ),
    "narrow bus": WeightCase(
        CoreConfig(rows=1, lanes=24, group=2, depth=3, planes=2, bus_width=32, scale_lanes=8),
        (Loop(N, 3, 1, auto=True), Loop(K, 17, 10, auto=True)),
        2, 1, planes=1, group_size=10, wide=True,
    ),
    "one block": WeightCase(
        CoreConfig(rows=1, lanes=8, group=2, depth=1, planes=8, bus_width=512, scale_lanes=2),
        (), 0, 0, planes=8, group_size=1, bias=True,
    ),
}  # fmt: skip


def run_weights(case: WeightCase, seed: str, pressure: float, instructions: int = 1) -> None:
    """Execute the instruction, perhaps several times, and compare the three buffers."""
    config = case.config
    rng = random.Random(seed)
    image = weight_image(case, rng)
    dut: Any = weight_loader(config)
    word_bytes = {
        "s": len(dut.scales.write_enable) * config.beat_bytes,
        "b": len(dut.biases.write_enable) * config.beat_bytes,
    }
    contents = {"s": image.scales, "b": image.biases}
    sizes = {
        "w": [len(words) for words in image.codes],
        **{n: [ceil_div(len(s), word_bytes[n]) for s in contents[n]] for n in "sb"},
    }
    ports = {"w": dut.weights, "s": dut.scales, "b": dut.biases}
    models = {
        name: SlotModel(port, sizes[name] * instructions, rng, 1 if pressure == 0 else 0.1)
        for name, port in ports.items()
    }

    levels = {"w": 0, "s": case.scale_level, "b": case.bias_level}

    def taken(number: int) -> bool:
        so_far = (image.bodies * instructions)[: number + 1]
        due = {name: sum(body.first[level] for body in so_far) for name, level in levels.items()}
        due |= {"w": len(so_far), "b": due["b"] * case.bias}
        return {name: model.taken for name, model in models.items()} == due

    source = Source(dut, image.content, config.beat_bytes, rng, pressure, taken)

    async def nest(ctx):
        for name in ("planes", "per_plane", "offset", "wide", "bias", "group_size"):
            ctx.set(getattr(dut.layer, name), int(getattr(case, name)))
        ctx.set(dut.fields.scale_level, case.scale_level)
        ctx.set(dut.fields.bias_level, case.bias_level)
        for _ in range(instructions):
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for model in models.values():
                model.restart()
            await offer(ctx, dut, rng, pressure, image.bodies, image.ends)
            while ctx.get(dut.active):
                await ctx.tick()

    async def buffers(ctx):
        signals = [
            signal
            for name, model in models.items()
            for signal in (
                *model.ports, getattr(dut, name).take, getattr(dut, name).give,
            )
        ]  # fmt: skip
        while True:
            for name, model in models.items():
                ctx.set(getattr(dut, name).available, model.free > 0)
            _, _, error, *values = await ctx.tick().sample(dut.operand_error, *signals)
            if error:
                raise OperandError
            for number, model in enumerate(models.values()):
                model.step(*values[8 * number : 8 * number + 8])

    simulate(dut, nest, background=(source.commands, source.beats, buffers))
    starts = [0, *image.ends[:-1]]
    requests = [
        (start, (end - start) // config.beat_bytes)
        for start, end in zip(starts, image.ends, strict=True)
    ]
    assert source.requests == requests * instructions
    for name, sections in contents.items():
        assert [joined(filling, config) for filling in models[name].fillings] == [
            section + bytes(-len(section) % config.beat_bytes) for section in sections
        ] * instructions, f"buffer {name}"
    piece = dut.unpacker.piece
    for words, filling in zip(image.codes * instructions, models["w"].fillings, strict=True):
        got: dict[int, int] = {}
        for word, enable, value in filling:
            place = enable.bit_length() - 1
            assert enable == 1 << place
            got[word] = got.get(word, 0) | value << place * piece
        assert {n: got[n] & (1 << bits) - 1 for n, (bits, _) in enumerate(words)} == {
            n: value for n, (_, value) in enumerate(words)
        }
    for name, model in models.items():
        assert model.done == sizes[name] * instructions, f"buffer {name}"


@pytest.mark.parametrize("pressure", [0.0, 0.5], ids=["free", "pressed"])
@pytest.mark.parametrize("name", WEIGHT_CASES)
def test_weights(name: str, pressure: float) -> None:
    run_weights(WEIGHT_CASES[name], f"{name} {pressure}", pressure)


def test_slots_begin_anew_with_each_instruction() -> None:
    """An odd number of blocks leaves slot 0 as the last one; the next instruction begins there."""
    case = WEIGHT_CASES["all sections"]
    assert len(weight_image(case, random.Random(0)).bodies) % 2 == 1
    run_weights(case, "again", 0.2, instructions=2)


def _sized(
    columns: int, n: int = 1, group_size: int = 65_536, wide: bool = False, offset: bool = False
) -> WeightCase:
    """A block of one plane, and a core with room for 8 steps of a tile and 16 scale lines."""
    config = CoreConfig(
        rows=1, lanes=8, group=2, depth=1, planes=1, bus_width=64, scale_lanes=8, tiles=4,
        weight_words=8, scale_words=16,
    )  # fmt: skip
    loops = (Loop(N, n, n, auto=True), Loop(K, columns, columns, auto=True))
    return WeightCase(
        config, loops, 2, 1, planes=1, group_size=group_size, wide=wide, offset=offset
    )


@pytest.mark.parametrize(
    ("fits", "exceeds"),
    [
        (_sized(16), _sized(18)),  # words of the weight buffer
        (_sized(4, n=4), _sized(2, n=5)),  # tiles
        (  # scale lines
            _sized(4, group_size=1, wide=True, offset=True),
            _sized(5, group_size=1, wide=True, offset=True),
        ),
    ],
    ids=["weight words", "tiles", "scale lines"],
)
def test_weight_operands(fits: WeightCase, exceeds: WeightCase) -> None:
    run_weights(fits, "fits", 0)
    with pytest.raises(OperandError):
        run_weights(exceeds, "exceeds", 0)
