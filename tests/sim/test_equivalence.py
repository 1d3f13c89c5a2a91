"""Golden model = instruction-set simulator = RTL, to the bit, for whatever hypothesis draws.

Cores are drawn too; those run in Amaranth's simulator, which needs no compiler but is slow. A few
fixed cores are compiled, and see many more layers, with random stalls on every channel of the bus.
Set ``LUTCORE_EXAMPLES`` to a factor for a longer search; ``--hypothesis-seed`` repeats one.
"""

import os

import numpy as np
import pytest
from axi_memory import CoreBench
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import CoreConfig
from lutcore.sim.devices.choice import run_on
from lutcore.sim.golden import golden
from lutcore.sw.program.compile import compile_layer
from lutcore.verif.kit.strategies import cases, configs

FACTOR = int(os.environ.get("LUTCORE_EXAMPLES", "1"))
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def assert_same(y: np.ndarray, expected: np.ndarray, who: str) -> None:
    """Bit for bit, signed zeros included."""
    wrong = np.argwhere(y.view(np.uint32) != expected.view(np.uint32))
    assert not len(wrong), (
        f"{who} differs from golden in {len(wrong)} of {y.size} results, first at "
        f"{tuple(map(int, wrong[0]))}: {y[tuple(wrong[0])]} instead of {expected[tuple(wrong[0])]}"
    )


@settings(max_examples=12 * FACTOR, deadline=None, suppress_health_check=QUIET, print_blob=True)
@given(st.data())
def test_drawn_cores(data: st.DataObject) -> None:
    config = data.draw(configs(depth_max=5))
    case = data.draw(cases(config))
    layer, q, scale = case.layer, case.q, case.scale
    # What the slow simulator does in seconds.
    assume(layer.n * layer.k * layer.bits * len(q) < 60_000)
    program = compile_layer(layer, config, len(q))
    note(f"{config}; {program.tiling}")
    expected = golden(layer, q, scale)
    assert_same(run_on("iss", program, q, scale).y, expected, "the ISS")
    pace = data.draw(st.sampled_from([1.0, 0.5]))
    bench = CoreBench(config, latency=data.draw(st.sampled_from([1, 12])), pace=pace)
    bench.place(program, q, scale)
    bench.start()
    assert bench.wait(limit=80_000).good
    assert_same(bench.results(), expected, "the RTL")


CORES = [
    CoreConfig(rows=2, lanes=16, group=4, depth=4, planes=8, bus_width=64, sum_words=128),
    CoreConfig(
        rows=3, lanes=8, group=3, depth=2, planes=4, activation="int16", table_form="full",
        table_store="register", bus_width=128, tiles=4, weight_words=64,
    ),
    CoreConfig(
        rows=1, lanes=24, group=5, depth=3, planes=5, ternary=True, bus_width=256, x_words=64,
    ),
]  # fmt: skip


@pytest.mark.parametrize("config", CORES, ids=lambda c: f"k{c.group}-{c.activation}")
def test_fixed_cores(config: CoreConfig) -> None:
    @settings(max_examples=60 * FACTOR, deadline=None, suppress_health_check=QUIET, print_blob=True)
    @given(st.data())
    def search(data: st.DataObject) -> None:
        case = data.draw(cases(config))
        layer, q, scale = case.layer, case.q, case.scale
        program = compile_layer(layer, config, len(q))
        note(f"{config}; {program.tiling}")
        expected = golden(layer, q, scale)
        assert_same(run_on("iss", program, q, scale).y, expected, "the ISS")
        run = run_on(
            "rtl",
            program,
            q,
            scale,
            latency=data.draw(st.sampled_from([1, 7, 40, 200])),
            bandwidth=data.draw(st.sampled_from([0.3, 1.0])),
            stall_seed=data.draw(st.integers(0, 2**32 - 1)),
            stall_probability=data.draw(st.sampled_from([0.0, 0.3])),
        )
        assert_same(run.y, expected, "the RTL")

    search()
