"""What surrounds a loader in its tests: loops, a read master with memory, and slot buffers."""

import random
from collections.abc import Callable

from stream_bench import get, pause, put

from lutcore.hw.contract.config import SLOTS, CoreConfig
from lutcore.hw.contract.loops import Body

__all__ = ["OperandError", "SlotModel", "Source", "joined", "offer"]


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


def joined(filling: list[tuple[int, int, int]], config: CoreConfig) -> bytes:
    """Beats that were written into consecutive pieces of consecutive words."""
    content = b""
    places = []
    for word, enable, beat in filling:
        places.append((word, enable))
        content += beat.to_bytes(config.beat_bytes, "little")
    assert places == sorted(places), "beats were written out of order"
    assert len(set(places)) == len(places), "a beat was written over another"
    return content
