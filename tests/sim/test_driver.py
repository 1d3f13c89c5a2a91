"""The host driver: the RTL of the smallest preset against the other models, and how it fails."""

import numpy as np
import pytest

from lutcore.hw.contract.config import PRESETS, CoreConfig
from lutcore.hw.contract.csr import COUNTER_UNITS
from lutcore.hw.contract.isa import Cause
from lutcore.sim import driver
from lutcore.sim.driver import CoreStopped, run_on_iss, run_on_rtl
from lutcore.sim.golden import golden
from lutcore.sw.app.execute import run
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.asm import assemble, disassemble
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.program import Program

TINY = PRESETS["tiny"]
ROWS, N, K = 3, 44, 72


@pytest.fixture(scope="module")
def layer() -> QuantLayer:
    rng = np.random.default_rng(11)
    return QuantLayer(
        name="layer",
        kind="affine",
        bits=4,
        codes=rng.integers(0, 16, (N, K), dtype=np.uint8),
        group_size=32,
        scales=rng.normal(size=(N, 3)).astype(np.float16),
        offsets=rng.normal(size=(N, 3)).astype(np.float16),
        bias=rng.normal(size=N).astype(np.float32),
        checkpoint_bytes=N * K // 2 + 2 * N * 3 * 2,
    )


@pytest.fixture(scope="module")
def program(layer: QuantLayer) -> Program:
    return compile_layer(layer, TINY, ROWS)


@pytest.fixture(scope="module")
def activations() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(12)
    q = rng.integers(-128, 128, (ROWS, K)).astype(np.int8)
    return q, rng.lognormal(size=ROWS).astype(np.float32)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype == np.float32 and np.array_equal(a.view("u4"), b.view("u4"))


def edited(program: Program, old: str, new: str) -> Program:
    """The program with one piece of its assembly replaced, for better or worse."""
    text = disassemble(program)
    assert old in text
    return assemble(text.replace(old, new))


@pytest.mark.parametrize("memory", [{}, {"latency": 150, "bandwidth": 0.3}], ids=["fast", "slow"])
def test_three_models_agree(layer, program, activations, memory):
    done = run_on_rtl(program, *activations, **memory)
    assert same_bits(done.y, golden(layer, *activations))
    assert same_bits(done.y, run_on_iss(program, *activations))


def test_counters_add_up(program, activations):
    done = run_on_rtl(program, *activations, trace=True)
    counters = done.counters
    assert tuple(counters.units) == COUNTER_UNITS == tuple(done.trace)
    assert counters.read_beats * TINY.beat_bytes == done.bytes_read
    assert done.bytes_written == ROWS * N * 4
    steps = -(-N // TINY.lanes) * ROWS * (32 // TINY.step + 32 // TINY.step + 8 // TINY.step)
    assert counters.lookups == steps * 4
    assert counters.units["array"].busy >= counters.lookups
    for name, unit in counters.units.items():
        starts, states = done.trace[name]
        spent = np.zeros(4, int)
        np.add.at(spent, states, np.diff(np.append(starts, counters.cycles)))
        assert spent[1:].tolist() == [unit.busy, unit.wait_in, unit.wait_out], name


def test_slow_memory_takes_longer(program, activations):
    fast = run_on_rtl(program, *activations).cycles
    assert run_on_rtl(program, *activations, latency=400).cycles > fast
    assert run_on_rtl(program, *activations, bandwidth=0.1).cycles > fast


def test_the_same_run_twice(program, activations):
    first = run_on_rtl(program, *activations, trace=True)
    second = run_on_rtl(program, *activations, trace=True)
    assert first.counters == second.counters
    for name in COUNTER_UNITS:
        for a, b in zip(first.trace[name], second.trace[name], strict=True):
            assert np.array_equal(a, b)


def test_report_of_a_run(program, activations):
    result = run(program, activations[0], on="rtl", memory_latency=10)
    report = result.report
    assert same_bits(result.y, run(program, activations[0], on="golden").y)
    assert report["memory_latency"] == 10
    assert 0 < report["utilisation"] <= 1
    assert 0 < report["bus_share"] <= 1
    assert report["bound"] in ("array", "fill", "scale", "memory")
    for unit in report["counters"]["units"].values():
        assert sum(unit.values()) == report["cycles"]
        assert min(unit.values()) >= 0


@pytest.mark.parametrize("run_on", [run_on_rtl, run_on_iss])
def test_a_deadlock_is_named(run_on, program, activations):
    stuck = edited(program, "counter=w_free count=2", "counter=w_free count=0")
    with pytest.raises(CoreStopped, match=r"stopped with DEADLOCK at instruction \d+ \(") as stop:
        run_on(stuck, *activations)
    assert stop.value.cause == Cause.DEADLOCK


def test_a_stop_names_its_instruction(program, activations):
    """A store outside the region that the host opened."""
    outside = edited(program, "sty base=0", "sty base=1048576")
    message = r"BOUNDS at instruction \d+ \(sty base=1048576\)"
    for run_on in (run_on_rtl, run_on_iss):
        with pytest.raises(CoreStopped, match=message):
            run_on(outside, *activations)


def test_the_budget_stops_a_run(program, activations):
    with pytest.raises(CoreStopped) as stop:
        run_on_rtl(program, *activations, budget=200)
    assert stop.value.cause == Cause.BUDGET


def test_a_bus_error_stops_a_run(program, activations):
    with pytest.raises(CoreStopped) as stop:
        run_on_rtl(program, *activations, fault=("read_slverr", 2))
    assert stop.value.cause == Cause.READ_ERROR


def test_another_core_is_refused(program, activations, monkeypatch):
    model = driver.model_of(TINY)
    monkeypatch.setattr(driver, "model_of", lambda _: model)
    values = TINY.as_dict() | {"scale_words": 2 * TINY.scale_words}
    other = CoreConfig.from_dict(values)
    text = disassemble(program).replace(
        f"scale_words={TINY.scale_words}", f"scale_words={other.scale_words}"
    )
    with pytest.raises(LutcoreError, match=r"fingerprint is 0x[0-9a-f]+, but the program is for"):
        run_on_rtl(assemble(text), *activations)
