"""The cycle model against the RTL, and against itself without its short cuts."""

import dataclasses

import numpy as np
import pytest

from lutcore.hw.contract.config import PRESETS, CoreConfig
from lutcore.hw.memory.dma import ReadMaster, WriteMaster
from lutcore.sim.cycles import chain as cycles_chain
from lutcore.sim.cycles import check as cycles_check
from lutcore.sim.cycles import steady as cycles_steady
from lutcore.sim.cycles.check import LIMIT, Point, draw_points, layer_of, measure
from lutcore.sim.cycles.latencies import Latencies
from lutcore.sim.cycles.memory import Memory
from lutcore.sim.cycles.model import LayerShape, estimate_cycles
from lutcore.sim.devices.registers import Counters
from lutcore.sw.program.compile import CompileError

SEED, CONFIGS, SHAPES = 1, 5, 8
POINTS = list(draw_points(SEED, CONFIGS, SHAPES))


@pytest.mark.parametrize("number", range(CONFIGS))
def test_equals_the_rtl(number: int) -> None:
    for point in POINTS[number * SHAPES : (number + 1) * SHAPES]:
        estimate, counters = point.estimate(), measure(point)
        cycles = counters.cycles
        text = f"seed {SEED}: {point}: {estimate.cycles} cycles instead of {cycles}"
        print(text)
        assert abs(estimate.cycles - cycles) <= LIMIT * cycles, text
        assert busy_cycles(counters) == {
            unit: round(share * estimate.cycles) for unit, share in estimate.busy.items()
        }, text


def busy_cycles(counters: Counters) -> dict[str, int]:
    """What the core counted of what the model calls busy."""
    units = counters.units
    return {
        "array": units["array"].busy,
        "fill": units["table"].busy,
        "scale": max(units["scale"].busy, units["final"].busy),
        "memory": max(counters.read_beats, counters.write_beats),
        "bus": counters.read_beats + counters.write_beats,
    }


def without_short_cuts(point: Point) -> int:
    """Cycles with every iteration counted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cycles_steady, "_TAIL", 1 << 30)
        patch.setattr(cycles_chain, "_LOOK", frozenset())
        return point.estimate().cycles


@pytest.mark.parametrize("size", ["small", "large"])
def test_skipping_changes_nothing(size: cycles_check.Size) -> None:
    for point in draw_points(SEED, 20, 4, size):
        assert point.estimate().cycles == without_short_cuts(point), point


@pytest.mark.parametrize(
    ("n", "k", "rows"), [(4096, 4096, 1), (2048, 2048, 64), (768, 8192, 40), (6144, 64, 30)]
)
def test_skipping_in_large_layers(n: int, k: int, rows: int) -> None:
    point = Point(PRESETS["default"], LayerShape(n, k, 4, min(k, 128), offset=True), rows, 40)
    expected = without_short_cuts(point)
    assert abs(point.estimate().cycles - expected) <= 0.001 * expected


def test_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the layer is not four times the work."""
    bodies = 0
    run = cycles_chain.Chain.run

    def counted(self, *args):
        nonlocal bodies
        bodies += 1
        run(self, *args)

    monkeypatch.setattr(cycles_chain.Chain, "run", counted)
    work = []
    for n in (16_384, 65_536):
        bodies = 0
        estimate_cycles(PRESETS["default"], LayerShape(n, 256, 4, 128), 64)
        work.append(bodies)
    assert work[1] < 1.2 * work[0]


@pytest.mark.parametrize(
    ("changes", "shape", "rows", "bound"),
    [
        ({"bus_width": 32}, LayerShape(1024, 512, 4, 128), 1, "memory"),
        ({}, LayerShape(1024, 512, 4, 128), 64, "array"),
        ({}, LayerShape(1024, 512, 4, 32, offset=True), 64, "scale"),
        ({"group": 6, "bus_width": 512}, LayerShape(64, 512, 1, 512), 8, "fill"),
    ],
)
def test_bound(changes: dict[str, int], shape: LayerShape, rows: int, bound: str) -> None:
    estimate = estimate_cycles(PRESETS["default"].with_derived(**changes), shape, rows)
    assert estimate.bound == bound
    assert estimate.busy[bound] == max(
        estimate.busy[unit] for unit in estimate.busy if unit != "bus"
    )
    assert all(0 < share <= 1 for share in estimate.busy.values())


def test_latency_of_the_memory() -> None:
    shape = LayerShape(64, 128, 4, 32)
    # Program, data and the last response wait for it, one after the other.
    times = [estimate_cycles(PRESETS["tiny"], shape, 1, latency=n).cycles for n in (1, 41)]
    assert times[1] - times[0] >= 3 * 40


def test_ternary_needs_its_tables() -> None:
    ternary = LayerShape(64, 96, 2, 96, ternary=True)
    with_tables = CoreConfig(lanes=16, group=5, ternary=True)
    assert ternary.block_format(with_tables).ternary
    without = dataclasses.replace(with_tables, ternary=False)
    as_two_bits = LayerShape(64, 96, 2, 96)
    assert estimate_cycles(without, ternary, 1) == estimate_cycles(without, as_two_bits, 1)
    planes = dataclasses.replace(as_two_bits, per_plane=True, offset=True)
    with_offset = dataclasses.replace(ternary, offset=True)
    assert estimate_cycles(without, with_offset, 1) == estimate_cycles(without, planes, 1)


def test_shape_of_a_layer() -> None:
    for shape in (
        LayerShape(12, 40, 3, 32, offset=True, bias=True),
        LayerShape(12, 40, 2, 40, per_plane=True, wide=True),
        LayerShape(12, 40, 2, 16, ternary=True),
    ):
        assert LayerShape.of(layer_of(shape)) == shape


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n": 0}, "n must be in 1..65536, not 0"),
        ({"k": 70_000}, "k must be in 1..65536, not 70000"),
        ({"bits": 9}, "bits must be in 1..8, not 9"),
        ({"group_size": 65}, "group_size must be in 1..64, not 65"),
    ],
)
def test_shapes_out_of_range(values: dict[str, int], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        LayerShape(**{"n": 8, "k": 64, "bits": 4, "group_size": 32, **values})


def test_what_the_compiler_refuses() -> None:
    with pytest.raises(CompileError, match="8 bits, but the core has 4 planes: take a conf"):
        estimate_cycles(PRESETS["tiny"], LayerShape(8, 64, 8, 32), 1)
    with pytest.raises(CompileError, match="rows must be at least 1, not 0"):
        estimate_cycles(PRESETS["tiny"], LayerShape(8, 64, 4, 32), 0)


def test_bursts_are_those_of_the_masters() -> None:
    for width in (32, 512):
        for master in (ReadMaster(width, 3), WriteMaster(width)):
            assert (master.burst, master.outstanding) == (Latencies.BURST, Latencies.OUTSTANDING)


def test_points_repeat() -> None:
    assert list(draw_points(SEED, CONFIGS, SHAPES)) == POINTS
    assert len({point.config for point in POINTS}) == CONFIGS


def test_check_fails_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    off = 0.0

    def measured(point: Point) -> Counters:
        cycles = round(point.estimate().cycles * (1 + off))
        return Counters(cycles, 0, 0, 0, {})

    monkeypatch.setattr(cycles_check, "measure", measured)
    cycles_check.main(points=3, seed=2, shapes=2, size="small")
    assert "3 points: 3 exact, largest error 0.00%" in capsys.readouterr().out
    off = 0.05
    with pytest.raises(SystemExit) as stopped:
        cycles_check.main(points=3, seed=2, shapes=2, size="small")
    assert stopped.value.code == 1
    assert "0 exact" in capsys.readouterr().out


def test_text_of_a_core_names_the_sizes_of_its_own() -> None:
    config = CoreConfig(rows=1, lanes=8, group=3, depth=2, planes=4, bus_width=64)
    text = "M1 N8 k3 G2 P4 int8 distributed symmetric bus 64"
    assert cycles_check.core_text(config) == text
    own = dataclasses.replace(config, x_words=2 * config.x_words, tiles=20)
    assert cycles_check.core_text(own) == f"{text} tiles=20 x_words={2 * config.x_words}"


def test_layers_have_their_values() -> None:
    layer = layer_of(LayerShape(6, 50, 2, 20, ternary=True))
    assert set(np.unique(layer.codes)) == {-1, 0, 1}


def test_reads_and_writes_share_the_memory() -> None:
    """One beat a cycle, after the one that an idle memory has to spare."""
    memory = Memory()
    memory.write(10, 10)
    memory.write_after(begin=26, slack=6, first=30)
    reads = [first + beat for first, count in memory.stream(10, 10) for beat in range(count)]
    assert reads == [10, *range(11, 28, 2)]
    # Those of the writes are the same.
    assert [memory.delayed(plan) for plan in (10, 11, 12, 19)] == [10, 11, 13, 27]
    # What begins later makes up for some of it.
    assert [memory.delayed(plan) for plan in (25, 26, 28)] == [33, 28, 30]
    memory.idle(100)
    assert memory.late == 2


def test_beats_that_come_from_time_to_time_are_not_late() -> None:
    memory = Memory()
    memory.write(10, 5, 4)
    assert memory.stream(10, 18) == [(10, 1), (11, 4), (16, 3), (20, 3), (24, 3), (28, 4)]
    memory.idle(100)
    assert memory.late == 0
