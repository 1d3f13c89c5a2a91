"""The whole core behind AXI: random layers and programs against the golden model."""

import cocotb

from lutcore.sim.golden import golden
from lutcore.sw.compile import compile_layer
from lutcore.verif import env
from lutcore.verif.core_bench import CoreBench
from lutcore.verif.layers import draw_case
from lutcore.verif.stalls import Stalls


@cocotb.test()
async def random_layers(dut):
    """Layers of all kinds, one after the other, under random stalls."""
    settings = env.settings()
    bench = CoreBench(dut, settings.config, "random_layers")
    await bench.reset()
    for _ in range(4 * settings.effort):
        case = draw_case(bench.random, bench.numbers, settings.config)
        bench.behave(Stalls.draw(bench.random))
        bench.place(compile_layer(case.layer, settings.config, case.rows), case.q, case.scale)
        await bench.run_good(golden(case.layer, case.q, case.scale))
