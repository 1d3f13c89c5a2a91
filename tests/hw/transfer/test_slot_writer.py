"""The writer of slots: slots take turns, and beats fill words piece by piece."""

import random
from typing import Any

import pytest
from stream_bench import simulate

from lutcore.hw.transfer.slot_writer import SlotWriter, write_signature

BEAT = 32


@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_beats_go_to_consecutive_pieces(pieces: int) -> None:
    rng = random.Random(pieces)
    dut: Any = SlotWriter(write_signature(pieces * BEAT, BEAT, 8))
    port = dut.port

    async def bench(ctx) -> None:
        async def cycle(**inputs: int) -> tuple[int, ...]:
            for name in ("start", "begin", "rewind", "write"):
                ctx.set(getattr(dut, name), inputs.get(name, 0))
            values = (
                port.begin, port.write_slot, port.write_enable, port.write_word, port.write_data,
                port.done,
            )  # fmt: skip
            _, _, *found = await ctx.tick().sample(*values)
            return tuple(found)

        for _ in range(2):
            await cycle(start=1)
            for slot in (0, 1, 0):
                assert (await cycle(begin=1, rewind=1))[:3] == (1, slot, 0)
                for number in range(rng.randint(1, 8 * pieces)):
                    while rng.random() < 0.4:
                        assert (await cycle())[2] == 0
                    beat = rng.getrandbits(BEAT)
                    ctx.set(dut.beat, beat)
                    word, piece = divmod(number, pieces)
                    found = await cycle(write=1)
                    assert found == (0, slot, 1 << piece, word, beat, piece == pieces - 1)

    simulate(dut, bench)
