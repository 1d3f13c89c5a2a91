"""The loader of activations: requests, tokens, slots, and what it writes."""

import random
from dataclasses import dataclass
from typing import Any

import pytest
from loader_bench import OperandError, SlotModel, Source, joined, offer
from stream_bench import simulate

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.contract.isa import Axis
from lutcore.hw.contract.loops import Body, Loop, walk
from lutcore.hw.transfer.activations import ActivationLoader
from lutcore.hw.transfer.slot_writer import write_signature

N, K, R = Axis.N, Axis.K, Axis.R


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
    assert [joined(filling, config) for filling in model.fillings] == slots
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
