"""Slot buffers and their readers: what is read is what the loader wrote, and never sooner."""

import random
from typing import Any

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from stream_bench import pause, simulate

from lutcore.hw.memory.buffers import BufferReader, SlotBuffer


class Bench(Elaboratable):
    """A buffer with its reader."""

    def __init__(self, width: int, piece: int, item_bits: int, slot_words: int) -> None:
        self.reader: Any = BufferReader(width=width, item_bits=item_bits, slot_words=slot_words)
        assert self.reader.slot_words == slot_words
        self.buffer: Any = SlotBuffer(width=width, piece=piece, slot_words=slot_words)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.buffer = self.buffer
        m.submodules.reader = self.reader
        wiring.connect(m, self.reader.port, self.buffer.read)
        return m


async def begin(ctx, buffer: Any, slot: int) -> None:
    ctx.set(buffer.write_slot, slot)
    ctx.set(buffer.begin, 1)
    await ctx.tick()
    ctx.set(buffer.begin, 0)


async def write_word(ctx, buffer: Any, word: int, value: int, rng, gaps: float = 0) -> None:
    """Write one word piece by piece; it is done with the last one."""
    pieces = buffer.width // buffer.piece
    for piece in range(pieces):
        await pause(ctx, rng, gaps)
        ctx.set(buffer.write_word, word)
        ctx.set(buffer.write_data, value >> piece * buffer.piece & (1 << buffer.piece) - 1)
        ctx.set(buffer.write_enable, 1 << piece)
        ctx.set(buffer.done, piece == pieces - 1)
        await ctx.tick()
        ctx.set(buffer.write_enable, 0)
        ctx.set(buffer.done, 0)


def items_of(words: list[int], width: int, item_bits: int) -> list[int]:
    mask = (1 << item_bits) - 1
    return [word >> at & mask for word in words for at in range(0, width, item_bits)]


GEOMETRIES = [
    # width, piece, item bits, slot words
    (32, 32, 32, 4),
    (64, 32, 8, 8),
    (96, 32, 32, 4),
    (128, 128, 16, 2),
    (64, 16, 64, 4),
]


def test_pieces_and_slots() -> None:
    """A piece goes to every place that is enabled, and nowhere else; slots are apart."""
    buffer: Any = SlotBuffer(width=64, piece=16, slot_words=4)
    rng = random.Random(1)
    content: dict[tuple[int, int], int] = {}

    async def bench(ctx):
        for count in range(200):
            slot, word = rng.randrange(2), rng.randrange(4)
            # All of a word first, so that there is nothing unknown; then any of its pieces.
            enable = 15 if (slot, word) not in content else rng.randrange(16)
            value = rng.getrandbits(16)
            ctx.set(buffer.write_slot, slot)
            ctx.set(buffer.write_word, word)
            ctx.set(buffer.write_data, value)
            ctx.set(buffer.write_enable, enable)
            await ctx.tick()
            ctx.set(buffer.write_enable, 0)
            old = content.get((slot, word), 0)
            for piece in range(4):
                if enable >> piece & 1:
                    old = old & ~(0xFFFF << 16 * piece) | value << 16 * piece
            content[slot, word] = old
            slot, word = rng.choice(list(content))
            ctx.set(buffer.read.slot, slot)
            ctx.set(buffer.read.word, word)
            ctx.set(buffer.read.enable, 1)
            await ctx.tick()
            ctx.set(buffer.read.enable, 0)
            ctx.set(buffer.read.word, rng.randrange(4))
            for _ in range(2):  # and it stays
                assert ctx.get(buffer.read.data) == content[slot, word], count
                await ctx.tick()

    simulate(buffer, bench)


@pytest.mark.parametrize("lag", ["reader waits", "writer waits"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_reader_follows_the_writer(geometry: tuple, lag: str) -> None:
    """Slot after slot, while they are being written: no item is issued before its word is done."""
    width, _, item_bits, slot_words = geometry
    dut: Any = Bench(*geometry)
    rng = random.Random(f"{geometry} {lag}")
    slow_writer = lag == "reader waits"
    blocks = [[rng.getrandbits(width) for _ in range(slot_words)] for _ in range(5)]
    assigned = finished = 0

    async def writer(ctx):
        nonlocal assigned
        for block, words in enumerate(blocks):
            while block - finished == 2:
                await ctx.tick()
            await begin(ctx, dut.buffer, block % 2)
            assigned += 1
            for number, value in enumerate(words):
                await write_word(ctx, dut.buffer, number, value, rng, 0.5 if slow_writer else 0)

    async def reader(ctx):
        nonlocal finished
        port = dut.reader
        for block, words in enumerate(blocks):
            while assigned <= block:
                await ctx.tick()
            ctx.set(port.seek, 1)
            ctx.set(port.seek_slot, block % 2)
            ctx.set(port.seek_word, 0)
            await ctx.tick()
            ctx.set(port.seek, 0)
            want = items_of(words, width, item_bits)
            issued, got = 0, []
            while len(got) < len(want):
                ctx.set(port.request, issued < len(want))
                ctx.set(port.ready, rng.random() < (0.9 if slow_writer else 0.4))
                _, _, issue, valid, ready, item = await ctx.tick().sample(
                    port.issue, port.valid, port.ready, port.item
                )
                issued += issue
                if valid and ready:
                    got.append(item)
            ctx.set(port.request, 0)
            ctx.set(port.ready, 0)
            assert got == want, f"block {block}"
            finished += 1

    simulate(dut, writer, reader)


def test_an_item_per_cycle_and_seek() -> None:
    """Without a wait there is an item per cycle, also across a seek in the cycle of an issue."""
    geometry = width, _, item_bits, slot_words = (64, 32, 16, 8)
    dut: Any = Bench(*geometry)
    rng = random.Random(3)
    blocks = [[rng.getrandbits(width) for _ in range(slot_words)] for _ in range(2)]
    # Where each stretch begins, and how many items it has. Slot 1 is written in half only, and so
    # tells nothing of how far slot 0 is.
    stretches = [
        (slot, rng.randrange(1 if slot else 5), rng.randint(1, 16))
        for slot in (rng.randrange(2) for _ in range(20))
    ]
    want = []
    for slot, word, count in stretches:
        want += items_of(blocks[slot][word:], width, item_bits)[:count]

    async def bench(ctx):
        port = dut.reader
        for slot, words in enumerate(blocks):
            await begin(ctx, dut.buffer, slot)
            for number, value in enumerate(words[:4] if slot else words):
                await write_word(ctx, dut.buffer, number, value, rng)

        def aim(stretch):
            ctx.set(port.seek, 1)
            ctx.set(port.seek_slot, stretch[0])
            ctx.set(port.seek_word, stretch[1])

        aim(stretches[0])
        await ctx.tick()
        got = []
        ctx.set(port.ready, 1)
        ctx.set(port.request, 1)
        for number, (_, _, count) in enumerate(stretches):
            for item in range(count):
                ctx.set(port.seek, 0)
                if item == count - 1 and number + 1 < len(stretches):
                    aim(stretches[number + 1])
                _, _, issue, valid, value = await ctx.tick().sample(
                    port.issue, port.valid, port.item
                )
                assert issue
                if valid:
                    got.append(value)
        ctx.set(port.request, 0)
        for _ in range(BufferReader.latency):
            _, _, valid, value = await ctx.tick().sample(port.valid, port.item)
            assert valid
            got.append(value)
        assert got == want
        assert not ctx.get(port.valid)

    simulate(dut, bench)
