"""The whole core behind AXI: random layers and programs against the golden model."""

from typing import Any

import cocotb
import numpy as np

from lutcore.sim.golden import golden
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.program import Program
from lutcore.verif.core.resets import reset_at
from lutcore.verif.core.system import CoreBench
from lutcore.verif.kit import env
from lutcore.verif.kit.extremes import extreme_cases
from lutcore.verif.kit.late_biases import biased_block, with_late_biases
from lutcore.verif.kit.layer_coverage import cover_case, cover_result
from lutcore.verif.kit.layers import Case, draw_case, kinds_of
from lutcore.verif.kit.stalls import Stalls

#: Simulated time after which a test has hung: no run takes so long.
TIMEOUT: dict[str, Any] = {"timeout_time": 100, "timeout_unit": "ms"}


class LayerBench(CoreBench):
    """A core on which layer after layer runs, each judged by the golden model."""

    @classmethod
    async def begin(cls, dut: Any, name: str) -> "LayerBench":
        """A bench whose core is out of reset."""
        bench = cls(dut, env.settings().config, name)
        await bench.reset()
        return bench

    def draw(self, **wanted: Any) -> Case:
        """A random layer."""
        return draw_case(self.random, self.numbers, self.config, **wanted)

    def prepare(self, case: Case, program: Program | None = None) -> np.ndarray:
        """Compile a layer, unless that was done, and place it; returns the results to expect."""
        program = program or compile_layer(case.layer, self.config, case.rows)
        self.place(program, case.q, case.scale)
        cover_case(case, program)
        return golden(case.layer, case.q, case.scale)

    async def check(self, case: Case) -> int:
        """Run a layer; returns its cycles."""
        expected = self.prepare(case)
        state = await self.run_good(expected)
        cover_result(expected)
        return state.cycles


@cocotb.test(**TIMEOUT)
async def every_kind(dut):
    """Every kind and width of weights, with scales of both widths, with and without offsets."""
    bench = await LayerBench.begin(dut, "every_kind")
    for kind in kinds_of(bench.config):
        # A ternary layer stands alone with its kind; the others come in several widths.
        for turn in range(4) if kind[0] == "ternary" else (kind[1],):
            bench.behave(Stalls.draw(bench.random))
            form = ("float16", "float32")[turn % 2]
            await bench.check(bench.draw(kind=kind, form=form, offsets=turn % 4 < 2))


@cocotb.test(**TIMEOUT)
async def random_layers(dut):
    """Layers of all kinds, one after the other, under random stalls."""
    bench = await LayerBench.begin(dut, "random_layers")
    for _ in range(6 * env.settings().effort):
        bench.behave(Stalls.draw(bench.random))
        await bench.check(bench.draw())


@cocotb.test(**TIMEOUT)
async def many_blocks(dut):
    """Layers that the compiler cuts into blocks of N and of K, as far as the buffers make it."""
    bench = await LayerBench.begin(dut, "many_blocks")
    config = bench.config
    for turn in range(2 * env.settings().effort):
        bits = config.planes
        # Columns of which one tile fills a slot of the weight buffer, and half as many again.
        fit = config.step * max(1, config.weight_words // bits)
        k = min(fit + fit // 2, 30 * config.step, 512)
        n = bench.random.randint(config.lanes, 3 * config.lanes)
        group_size = k if turn % 2 else max(1, k // 5)
        bench.behave(Stalls.draw(bench.random))
        await bench.check(bench.draw(kind=("affine", bits), shape=(n, k, group_size)))


@cocotb.test(**TIMEOUT)
async def late_biases(dut):
    """Results come one by one, at the pace of their biases, and slower than memory takes them."""
    bench = await LayerBench.begin(dut, "late_biases")
    for turn in range(2 * env.settings().effort):
        tiles = bench.config.tiles if turn % 2 == 0 else bench.random.randint(1, 3)
        case, program = biased_block(bench.random, bench.numbers, bench.config, tiles)
        expected = bench.prepare(case, with_late_biases(program))
        bench.behave(Stalls({"m_r": bench.random.uniform(0.5, 0.9)}, latency=(0, 60)))
        await bench.run_good(expected)


@cocotb.test(**TIMEOUT)
async def sequences(dut):
    """Nothing of one program reaches the next, be it the same one or one of another shape."""
    bench = await LayerBench.begin(dut, "sequences")
    env.cover("sequence", "first")
    for _ in range(env.settings().effort):
        bench.behave(Stalls())
        case = bench.draw()
        cycles = []
        for _ in range(2):
            expected = bench.prepare(case)
            cycles.append((await bench.run_good(expected)).cycles)
        env.cover("sequence", "same program")
        # Where memory lies decides how bursts are cut, so the runs need not take the same time;
        # in the same place they do.
        layout = bench.layout
        for _ in range(2):
            bench.place(bench.program, case.q, case.scale, layout)
            cycles.append((await bench.run_good(expected)).cycles)
        env.expect("cycles of the same program in the same place", cycles[3], cycles[2])
        for _ in range(2):
            await bench.check(bench.draw())
            env.cover("sequence", "other shape")


@cocotb.test(**TIMEOUT)
async def extremes(dut):
    """The ends of all ranges at once: accumulators and exact sums as full as they can be."""
    bench = await LayerBench.begin(dut, "extremes")
    for case in extreme_cases(bench.random, bench.numbers, bench.config):
        bench.behave(Stalls())
        await bench.check(case)


@cocotb.test(**TIMEOUT)
async def resets(dut):
    """Soft resets and ``aresetn`` at any moment; the next program runs as if nothing had been."""
    bench = await LayerBench.begin(dut, "resets")
    for _ in range(env.settings().effort):
        for kind in ("soft", "aresetn"):
            await _resets_of(bench, kind)


async def _resets_of(bench: LayerBench, kind: str) -> None:
    from lutcore.verif.kit.points import MOMENTS

    for moment in MOMENTS:
        bench.behave(Stalls(latency=(10, 60)))
        bench.prepare(bench.draw())
        if await reset_at(bench, kind, moment):
            env.cover("reset", f"{kind} / {moment}")
        bench.behave(Stalls.draw(bench.random))
        await bench.check(bench.draw())
        env.cover("sequence", f"after {'soft reset' if kind == 'soft' else kind}")


@cocotb.test(**TIMEOUT)
async def polling(dut):
    """Without the interrupt, a host that polls sees busy and then done."""
    bench = await LayerBench.begin(dut, "polling")
    expected = bench.prepare(bench.draw())
    await bench.start(interrupt=False)
    for _ in range(10_000):
        state = await bench.state()
        env.expect("irq", int(dut.irq.value), 0)
        if state.good:
            break
    bench.check_good(state)
    bench.check_results(expected)
