"""The loaders of weights and activations: requests, tokens, slots, and what they write."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from stream_bench import get, pause, put, simulate

from lutcore.hw.contract.config import SLOTS, CoreConfig, ceil_div
from lutcore.hw.contract.isa import Axis
from lutcore.hw.contract.loops import Body, Loop, walk
from lutcore.hw.transfer.loaders import ActivationLoader, WeightLoader, write_signature

N, K, R = Axis.N, Axis.K, Axis.R


class OperandError(Exception):
    """The loader has reported one."""


class SlotModel:
    """Stands for a slot buffer and its reader: keeps what is written, in the order of slots.

    Attributes
    ----------
    fillings
        For each time that a slot began: its writes, as (word, enable, data).
    done
        Words that were said to be complete, by filling.
    """

    def __init__(self, port, sizes: list[int], rng: random.Random, pace: float) -> None:
        self.port, self.sizes, self.rng, self.pace = port, sizes, rng, pace
        self.fillings: list[list[tuple[int, int, int]]] = []
        self.done: list[int] = []
        self.slot = 1
        self.free = SLOTS
        self.taken = self.released = 0

    @property
    def ports(self) -> tuple:
        port = self.port
        return (port.write_enable, port.write_slot, port.write_word, port.write_data, port.begin,
                port.done)  # fmt: skip

    def restart(self) -> None:
        """An instruction starts: slot 0 is the next one."""
        self.slot = 1

    def step(self, enable, slot, word, data, begin, done, take, give) -> None:
        """One cycle, with the loader's token strobes in it."""
        assert begin == give, "the reader must be told when the slot is assigned"
        if begin:
            self.slot ^= 1
            assert slot == self.slot, "slots do not alternate"
            self.fillings.append([])
            self.done.append(0)
            assert len(self.fillings) <= self.taken, "a slot begins that was not taken"
        if enable:
            assert not begin
            assert slot == self.slot
            self.fillings[-1].append((word, enable, data))
        if done:
            assert not begin
            assert enable, "a word is complete without its last piece"
            assert word == self.done[-1], "words are complete out of order"
            self.done[-1] += 1
        if take:
            assert self.free, "a slot was taken that is not free"
            self.free -= 1
            self.taken += 1
        # The reader gives slots back in order, when they are full.
        ready = self.released < len(self.done) and (
            self.done[self.released] == self.sizes[self.released]
        )
        if ready and self.rng.random() < self.pace:
            self.released += 1
            self.free += 1


class Source:
    """Memory: answers requests, which may come only when their slots have been taken.

    ``taken`` tells that of the request with a number.
    """

    def __init__(
        self, dut, image: bytes, beat_bytes: int, rng, pressure: float, taken: Callable[[int], bool]
    ) -> None:
        self.dut, self.image, self.beat_bytes, self.taken = dut, image, beat_bytes, taken
        self.rng, self.pressure = rng, pressure
        self.requests: list[tuple[int, int]] = []
        self.queue: list[int] = []

    async def commands(self, ctx) -> None:
        while True:
            await pause(ctx, self.rng, self.pressure)
            got = await get(ctx, self.dut.command)
            assert self.taken(len(self.requests)), "requested before its slots were taken"
            self.requests.append((got.offset, got.length))
            for beat in range(got.length):
                start = got.offset + beat * self.beat_bytes
                self.queue.append(
                    int.from_bytes(self.image[start : start + self.beat_bytes], "little")
                )

    async def beats(self, ctx) -> None:
        while True:
            if self.queue and self.rng.random() >= self.pressure:
                await put(ctx, self.dut.i, self.queue.pop(0))
            else:
                await ctx.tick()


def body_fields(body: Body) -> dict[str, int]:
    fields = {name: int(getattr(body, name)) for name in ("n", "k", "r", "address")}
    for name in ("first", "last"):
        fields[name] = sum(flag << i for i, flag in enumerate(getattr(body, name)))
    return fields


async def offer(ctx, dut, rng, pressure: float, bodies, ends: list[int]) -> None:
    """Play the nest: one body after the other, each taken by the loader at its end."""
    for body, end in zip(bodies, ends, strict=True):
        await pause(ctx, rng, pressure)
        ctx.set(dut.body.payload, body_fields(body))
        ctx.set(dut.body.valid, 1)
        ready = False
        while not ready:
            _, _, ready, where = await ctx.tick().sample(dut.body.ready, dut.next_address)
        assert where == end, "wrong end of the block"
        ctx.set(dut.body.valid, 0)


# Weights --------------------------------------------------------------------------------------


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
        assert [_joined(filling, config) for filling in models[name].fillings] == [
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


def _joined(filling: list[tuple[int, int, int]], config: CoreConfig) -> bytes:
    """Beats that were written into consecutive pieces of consecutive words."""
    content = b""
    places = []
    for word, enable, beat in filling:
        places.append((word, enable))
        content += beat.to_bytes(config.beat_bytes, "little")
    assert places == sorted(places), "beats were written out of order"
    assert len(set(places)) == len(places), "a beat was written over another"
    return content


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


# Activations ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ActivationCase:
    """An LDX instruction; `k` counts words of activations."""

    config: CoreConfig
    loops: tuple[Loop, ...]
    level: int

    @property
    def memory_bits(self) -> int:
        return max(self.config.bus_width, self.config.x_word_bits)

    @property
    def items(self) -> int:
        return self.memory_bits // self.config.x_word_bits

    @property
    def slot_words(self) -> int:
        return max(2, self.config.x_words // self.items)


ACTIVATION_CASES = {
    # Two words to a beat; all of it in one slot.
    "resident": ActivationCase(
        CoreConfig(rows=2, lanes=8, group=2, depth=1, planes=1, bus_width=32),
        (Loop(R, 3, 1, auto=True), Loop(K, 23, 10, auto=True)), 0,
    ),
    # Four beats to a word; a slot for each body, some of them read again.
    "streamed": ActivationCase(
        CoreConfig(rows=4, lanes=8, group=2, depth=4, planes=1, bus_width=32),
        (Loop(N, 3, 1, 0), Loop(R, 2, 1, 112), Loop(K, 7, 4, 64)), 3,
    ),
    "a beat each": ActivationCase(
        CoreConfig(rows=2, lanes=8, group=2, depth=4, planes=1, bus_width=64),
        (Loop(R, 5, 1, 48), Loop(K, 6, 4, auto=True)), 1,
    ),
}  # fmt: skip


def run_activations(case: ActivationCase, seed: str, pressure: float, times: int = 1) -> None:
    """Execute the instruction and compare what is in the slots."""
    config = case.config
    rng = random.Random(seed)
    word_bytes = case.memory_bits // 8
    dut: Any = ActivationLoader(
        config, write=write_signature(case.memory_bits, config.bus_width, case.slot_words)
    )

    def end(body: Body) -> int:
        return body.address + ceil_div(body.k, case.items) * word_bytes

    bodies = list(walk(case.loops, 0, end=end))
    content = rng.randbytes(max(end(body) for body in bodies))
    slots: list[bytes] = []
    for body in bodies * times:
        if body.first[case.level]:
            slots.append(b"")
        slots[-1] += content[body.address : end(body)]
    sizes = [len(slot) // word_bytes for slot in slots]
    model = SlotModel(dut.buffer, sizes, rng, 1 if pressure == 0 else 0.1)

    def taken(number: int) -> bool:
        so_far = (bodies * times)[: number + 1]
        return model.taken == sum(body.first[case.level] for body in so_far)

    source = Source(dut, content, config.beat_bytes, rng, pressure, taken)

    async def nest(ctx):
        ctx.set(dut.fields.level, case.level)
        for _ in range(times):
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            model.restart()
            await offer(ctx, dut, rng, pressure, bodies, [end(body) for body in bodies])
            while ctx.get(dut.active):
                await ctx.tick()

    async def buffer(ctx):
        while True:
            ctx.set(dut.x.available, model.free > 0)
            _, _, error, *values = await ctx.tick().sample(
                dut.operand_error, *model.ports, dut.x.take, dut.x.give
            )
            if error:
                raise OperandError
            model.step(*values)

    simulate(dut, nest, background=(source.commands, source.beats, buffer))
    assert (
        source.requests
        == [(body.address, (end(body) - body.address) // config.beat_bytes) for body in bodies]
        * times
    )
    assert [_joined(filling, config) for filling in model.fillings] == slots
    assert model.done == sizes


@pytest.mark.parametrize("pressure", [0.0, 0.5], ids=["free", "pressed"])
@pytest.mark.parametrize("name", ACTIVATION_CASES)
def test_activations(name: str, pressure: float) -> None:
    times = 2 if name == "streamed" else 1
    run_activations(ACTIVATION_CASES[name], f"{name} {pressure}", pressure, times)


@pytest.mark.parametrize("bodies", [1, 2])
def test_activation_operands(bodies: int) -> None:
    """A slot holds what it holds, in one body or in several."""
    config = CoreConfig(rows=2, lanes=8, group=2, depth=2, planes=1, bus_width=32, x_words=16)

    def case(words: int) -> ActivationCase:
        step = ceil_div(words, bodies)
        return ActivationCase(config, (Loop(K, words, step, auto=True),), 0)

    run_activations(case(16), "fits", 0)
    with pytest.raises(OperandError):
        run_activations(case(17), "exceeds", 0)
