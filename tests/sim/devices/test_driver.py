"""The host's sequence on every device: the same bits, the core's counters, and how a run fails."""

import numpy as np
import pytest

from lutcore.hw.contract.config import PRESETS, CoreConfig
from lutcore.hw.contract.csr import COUNTER_UNITS, CSRS
from lutcore.hw.contract.isa import Cause
from lutcore.sim.devices.choice import DEVICES, device_for, run_on
from lutcore.sim.devices.driver import CoreStopped, run_program
from lutcore.sim.devices.models import IssDevice
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
@pytest.mark.parametrize("name", DEVICES)
def test_every_device_gives_the_same_bits(name, memory, layer, program, activations):
    done = run_on(name, program, *activations, **memory)
    assert same_bits(done.y, golden(layer, *activations))
    assert (done.counters is not None) == (name == "rtl")


def test_counters_add_up(program, activations):
    done = run_on("rtl", program, *activations, trace=True)
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
    fast = run_on("rtl", program, *activations).counters.cycles
    assert run_on("rtl", program, *activations, latency=400).counters.cycles > fast
    assert run_on("rtl", program, *activations, bandwidth=0.1).counters.cycles > fast


@pytest.mark.parametrize("again", [False, True], ids=["new", "same"])
def test_the_same_run_twice(again, program, activations):
    """On two devices, or one after the other on the same: traces and bytes are of the last run."""
    device = device_for("rtl", program, trace=True)
    first = run_program(device, program, *activations)
    device = device if again else device_for("rtl", program, trace=True)
    second = run_program(device, program, *activations)
    assert first.counters.cycles == second.counters.cycles
    assert (first.bytes_read, first.bytes_written) == (second.bytes_read, second.bytes_written)
    for name in COUNTER_UNITS:
        for a, b in zip(first.trace[name], second.trace[name], strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("name", ["rtl", "iss"])
def test_a_deadlock_is_named(name, program, activations):
    stuck = edited(program, "counter=w_free count=2", "counter=w_free count=0")
    with pytest.raises(CoreStopped, match=r"stopped with DEADLOCK at instruction \d+ \(") as stop:
        run_on(name, stuck, *activations)
    assert stop.value.cause == Cause.DEADLOCK


@pytest.mark.parametrize(
    ("name", "detail"), [("rtl", "$"), ("iss", r": bytes 1048576 to \d+ of the results, whose")]
)
def test_a_stop_names_its_instruction(name, detail, program, activations):
    """A store outside the region that the host opened; the simulator knows the value too."""
    outside = edited(program, "sty base=0", "sty base=1048576")
    message = r"BOUNDS at instruction \d+ \(sty base=1048576\)" + detail
    with pytest.raises(CoreStopped, match=message):
        run_on(name, outside, *activations)


def test_the_next_program_runs_after_a_stop(layer, program, activations):
    device = device_for("rtl", program)
    with pytest.raises(CoreStopped, match="BUDGET"):
        run_program(device, program, *activations, budget=200)
    done = run_program(device, program, *activations)
    assert same_bits(done.y, golden(layer, *activations))


def test_a_bus_error_stops_a_run(program, activations):
    with pytest.raises(CoreStopped) as stop:
        run_on("rtl", program, *activations, fault=("read_slverr", 2))
    assert stop.value.cause == Cause.READ_ERROR


@pytest.mark.parametrize("name", DEVICES)
def test_another_core_is_refused(name, program, activations):
    values = TINY.as_dict() | {"scale_words": 2 * TINY.scale_words}
    other = edited(
        program, f"scale_words={TINY.scale_words}", f"scale_words={values['scale_words']}"
    )
    assert other.config == CoreConfig.from_dict(values)
    message = f"fingerprint is {TINY.fingerprint:#018x}, but the program is for "
    with pytest.raises(LutcoreError, match=f"{message}{other.fingerprint:#018x}: compile"):
        run_program(device_for(name, program), other, *activations)


class Broken(IssDevice):
    """A device whose registers read as one likes, and whose interrupt may be cut off."""

    def __init__(self, program, registers=None, silent=False):
        super().__init__(program.config, 1 << 16)
        self.registers = {CSRS[name].offset: value for name, value in (registers or {}).items()}
        self.silent = silent

    def read_register(self, offset):
        return self.registers.get(offset, super().read_register(offset))

    def wait(self, cycles):
        return super().wait(cycles) and not self.silent


def test_nobody_answers(program, activations):
    device = Broken(program, {"ID": 0xFFFF_FFFF})
    message = "no lutcore answers: ID is 0xffffffff, not 0x4354554c"
    with pytest.raises(LutcoreError, match=message):
        run_program(device, program, *activations)


def test_a_silent_core_is_given_up(program, activations):
    device = Broken(program, silent=True)
    message = r"did not raise its interrupt within 10005 cycles \(STATUS 0x00000002\)"
    with pytest.raises(LutcoreError, match=message):
        run_program(device, program, *activations, budget=5)


def test_an_unknown_cause_is_said(program, activations):
    device = Broken(program, {"STATUS": 0xFF04})
    with pytest.raises(LutcoreError, match="STATUS is 0x0000ff04: no cause has the number 255"):
        run_program(device, program, *activations)


def test_a_small_memory_is_refused(program, activations):
    device = IssDevice(program.config, 64)
    with pytest.raises(LutcoreError, match=r"'layer' needs memory up to 0x[0-9a-f]+, but .* 0x40$"):
        run_program(device, program, *activations)


def test_an_unknown_device_is_refused(program, activations):
    with pytest.raises(LutcoreError, match="runs on golden, iss, rtl, not on 'board'"):
        run_on("board", program, *activations)


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
