"""Counting of figures, on numbers that can be followed by hand."""

import json

import numpy as np
import pytest

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import COUNTER_UNITS
from lutcore.sim.devices.driver import Run
from lutcore.sim.devices.registers import Counters, UnitCounters
from lutcore.sw.app.report import bound, build_report, busy_shares, useful_bytes
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.compile import compile_layer

CONFIG = CoreConfig(rows=2, lanes=8, group=4, depth=2, planes=4, bus_width=32)


@pytest.fixture
def program():
    layer = QuantLayer(
        name="layer",
        kind="affine",
        bits=3,
        codes=np.zeros((10, 24), np.uint8),
        group_size=8,
        scales=np.ones((10, 3), np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=150,
    )
    return compile_layer(layer, CONFIG, rows=5)


def counters(cycles=1000, read=0, write=0, **busy: int) -> Counters:
    units = {name: UnitCounters(busy.get(name, 0), 0, 0) for name in COUNTER_UNITS}
    return Counters(cycles, 0, read, write, units)


def test_figures(program):
    units = {name: UnitCounters(100, 20, 30) for name in COUNTER_UNITS}
    run = Run(np.zeros((5, 10)), Counters(1000, 77, 300, 50, units), 1200, 200)
    report = build_report(program, "rtl", run, memory_latency=40, memory_bandwidth=1.0)
    assert report["peak_macs_per_cycle"] == 2 * 8 * 4 * 2
    assert report["useful_macs"] == 5 * 10 * 24 * 3
    assert report["utilisation"] == 5 * 10 * 24 * 3 / (1000 * 128)
    assert report["useful_bytes"] == 150 + 5 * 24 + 5 * 10 * 4
    assert report["bus_bytes_per_cycle"] == 4
    assert report["bus_share"] == (150 + 5 * 24 + 5 * 10 * 4) / 4000
    assert (report["cycles"], report["bytes_read"], report["bytes_written"]) == (1000, 1200, 200)
    assert report["bound"] == "memory"
    assert report["counters"]["lookups"] == 77
    assert report["counters"]["units"]["scale"] == {
        "busy": 100,
        "wait_in": 20,
        "wait_out": 30,
        "idle": 850,
    }
    json.dumps(report, allow_nan=False)


def test_a_ternary_weight_that_is_looked_up_is_one_mac():
    layer = QuantLayer(
        name="layer",
        kind="ternary",
        bits=2,
        codes=np.zeros((10, 24), np.int8),
        group_size=24,
        scales=np.ones((10, 1), np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=1000,
    )
    config = CoreConfig(rows=2, lanes=8, group=5, depth=2, bus_width=32, ternary=True)
    program = compile_layer(layer, config, rows=5)
    run = Run(np.zeros((5, 10)), counters(), 0, 0)
    report = build_report(program, "rtl", run)
    assert (report["kind"], report["bits"], report["group_size"]) == ("ternary", 2, 24)
    assert report["peak_macs_per_cycle"] == 2 * 8 * 2 * 3
    assert report["useful_macs"] == 5 * 10 * 24
    assert report["utilisation"] == 5 * 10 * 24 / (1000 * 96)
    # Two tiles of 8 channels, 8 tables of 5 bits each, and a float16 for each channel.
    assert report["useful_bytes"] == 16 * 40 // 8 + 16 * 2 + 5 * 24 + 5 * 10 * 4


def test_without_counters_what_depends_on_cycles_is_none(program):
    report = build_report(program, "iss", Run(np.zeros((5, 10))))
    for key in ("cycles", "utilisation", "bus_share", "bound", "bytes_read", "counters"):
        assert report[key] is None, key
    assert report["useful_macs"] == 3600
    # The same keys on every backend.
    run = Run(np.zeros((5, 10)), counters(), 0, 0)
    assert report.keys() == build_report(program, "rtl", run).keys()


def test_int16_activations_count_double():
    layer = QuantLayer(
        name="layer",
        kind="affine",
        bits=1,
        codes=np.zeros((1, 7), np.uint8),
        group_size=7,
        scales=np.ones((1, 1), np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=3,
    )
    config = CoreConfig(rows=1, lanes=8, group=4, depth=2, activation="int16", bus_width=32)
    assert useful_bytes(compile_layer(layer, config, rows=1)) == 3 + 7 * 2 + 4


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"array": 900, "table": 500, "scale": 500, "read": 500}, "array"),
        ({"array": 500, "table": 900, "scale": 500, "read": 500}, "fill"),
        ({"array": 500, "table": 500, "scale": 900, "read": 500}, "scale"),
        ({"array": 500, "table": 500, "final": 900, "read": 500}, "scale"),
        ({"array": 500, "table": 500, "scale": 500, "read": 900}, "memory"),
        ({"array": 500, "table": 500, "scale": 500, "write": 900}, "memory"),
        # Loaders and store may be busy all the time without being what binds.
        ({"array": 900, "ldw": 1000, "store": 1000, "fetch": 1000}, "array"),
        # Tables filled as fast as they are used cost nothing.
        ({"array": 900, "table": 900}, "array"),
    ],
)
def test_bound_is_the_busiest(values, expected):
    assert bound(counters(**values)) == expected


def test_slow_memory_is_full_with_fewer_beats():
    slow = counters(array=600, read=500)
    assert bound(slow) == "array"
    assert bound(slow, memory_bandwidth=0.5) == "memory"
    assert busy_shares(slow, 0.5)["memory"] == 1.0


def test_reads_and_writes_have_a_channel_each():
    assert busy_shares(counters(read=600, write=500))["memory"] == 0.6
