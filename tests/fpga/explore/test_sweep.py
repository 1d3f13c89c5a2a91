"""Sweeps: what is swept, what is kept, what is on the front, and what is written."""

import csv
import io
import re
import tomllib
from dataclasses import replace

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from lutcore.fpga.area import estimate as area
from lutcore.fpga.area.estimate import Area, Design
from lutcore.fpga.area.parts import UNITS, unit_verilog
from lutcore.fpga.explore import session as session_module
from lutcore.fpga.explore import tasks as explore_tasks
from lutcore.fpga.explore.budget import Budget, BudgetError, device
from lutcore.fpga.explore.command import explore as explore_command
from lutcore.fpga.explore.page import render
from lutcore.fpga.explore.report import as_csv, as_plot, as_table, make_report, short_form
from lutcore.fpga.explore.session import EmptyError, Session
from lutcore.fpga.explore.space import (
    Space,
    SpaceError,
    candidates,
    default_space,
    load_space,
    parse_sweep,
)
from lutcore.fpga.explore.sweep import Point, Settings, front, sweep
from lutcore.fpga.explore.tasks import AreaTask, CyclesTask
from lutcore.fpga.explore.workload import (
    WORKLOADS,
    WorkItem,
    Workload,
    WorkloadError,
    load_workload,
)
from lutcore.hw.contract.config import CoreConfig, load_config
from lutcore.sim.cycles.model import estimate_cycles
from lutcore.sw.base.executor import here, perform

ITEM = WorkItem(name="layer", n=64, k=128, bits=4, group_size=64, rows=3)
WORK = Workload("work", (ITEM, replace(ITEM, rows=1, count=10)))
SETTINGS = Settings("ecp5", WORK)
SPACE = Space(({"lanes": (8, 16, 32), "depth": (1, 2), "rows": (1, 2)},))
CONFIGS = candidates(SPACE).configs


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LUTCORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def quick_area(monkeypatch):
    """Areas that take no synthesis, and differ for each design; what was asked for."""
    asked: list[Design] = []

    def measure(design, **_):
        asked.append(design)
        c = design.config
        size = c.rows * c.lanes * c.depth * (10 if design.unit == "array" else 1) + 100
        return Area(luts=size, flip_flops=size / 2, block_rams=1, cell_area=3.0 * size)

    monkeypatch.setattr(area, "measure", measure)
    # The work stays in this process, where the areas are those above.
    monkeypatch.setattr(session_module, "runner", lambda jobs, scheduler: here)
    return asked


# Workloads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads_by_name_can_be_counted(name):
    work = load_workload(name)
    assert work.name == name
    config = CoreConfig(ternary=True, group=5)
    for item in work.items:
        assert estimate_cycles(config, item.shape, item.rows).cycles >= item.least_cycles(config)


def test_smollm2_has_the_weights_of_the_model():
    decode = load_workload("smollm2-decode")
    # 134,515,008 parameters, 35,136 of them in norms.
    assert sum(item.n * item.k * item.count for item in decode.items) == 134_515_008 - 61 * 576


HEADER = "name,n,k,bits,group_size,rows,count,kind,offset\n"


def test_csv_and_toml_workloads_say_the_same(tmp_path):
    text = HEADER + "up,1536,576,4,32,64,30,affine,true\n\ntrits,64,256,,256,1,,ternary,\n"
    (tmp_path / "w.csv").write_text(text)
    (tmp_path / "w.toml").write_text(
        '[[layer]]\nname = "up"\nn = 1536\nk = 576\nbits = 4\ngroup_size = 32\nrows = 64\n'
        "count = 30\noffset = true\n"
        '[[layer]]\nname = "trits"\nn = 64\nk = 256\ngroup_size = 256\nrows = 1\nkind = "ternary"\n'
    )
    from_csv, from_toml = load_workload(tmp_path / "w.csv"), load_workload(tmp_path / "w.toml")
    assert from_csv.items == from_toml.items
    assert from_csv.items[0] == WorkItem(
        name="up", n=1536, k=576, bits=4, group_size=32, rows=64, count=30, offset=True
    )
    assert from_csv.items[1].bits == 2 and from_csv.items[1].shape.ternary


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,1536,576,4,32,x,1,affine,true", "line 2, column rows: must be an integer, not 'x'"),
        ("a,1536,576,4,32,64,1,affine,maybe", "column offset: must be true or false, not 'maybe'"),
        ("a,1536,576,9,32,64,1,affine,true", "line 2: bits must be in 1..8, not 9"),
        ("a,1536,576,4,600,64,1,affine,true", "line 2: group_size must be in 1..576, not 600"),
        ("a,1536,576,4,32,64,1,linear,true", "line 2: kind must be one of affine, planes, ternary"),
        ("a,1536,576,4,32,64,1,ternary,true", "line 2: bits of ternary weights are 2, not 4"),
        ("a,1536,576,4,32,64,1,affine", "line 2: 8 values for 9 columns"),
        ("a,1536,576,4,,64,1,affine,true", "line 2: group_size is missing"),
        ("", "has no layer"),
    ],
)
def test_csv_errors_name_the_line_and_the_value(tmp_path, line, message):
    (tmp_path / "w.csv").write_text(HEADER + line + "\n")
    with pytest.raises(WorkloadError, match=re.escape(message)):
        load_workload(tmp_path / "w.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 1", "'name' is not expected: write tables [[layer]]"),
        ("[[layer]]\nname = 'a'\nrank = 3", "layer 1: unknown column 'rank'"),
        ("[[layer]]\nname = 3\nn = 1\nk = 1\nbits = 1\ngroup_size = 1\nrows = 1", "not 3"),
        ("[[layer", "not a TOML file"),
    ],
)
def test_toml_errors_name_the_layer_and_the_value(tmp_path, text, message):
    (tmp_path / "w.toml").write_text(text)
    with pytest.raises(WorkloadError, match=re.escape(message)):
        load_workload(tmp_path / "w.toml")


def test_an_unknown_workload_names_those_there_are():
    with pytest.raises(WorkloadError, match=r"'llama' is neither a workload .*smollm2"):
        load_workload("llama")


# Spaces --------------------------------------------------------------------------------------


def test_candidates_are_every_combination_once_in_order():
    space = Space(({"lanes": (8, 12, 16), "depth": (1, 2)}, {"depth": (2,), "lanes": (16, 32)}))
    found = candidates(space)
    assert [(c.lanes, c.depth) for c in found.configs] == [
        (8, 1),
        (8, 2),
        (16, 1),
        (16, 2),
        (32, 2),
    ]
    assert sum(found.refused.values()) == 2 and found.repeated == 1
    assert "lanes must be a multiple of 8, not 12" in next(iter(found.refused))


@pytest.mark.parametrize("target", ["xc7", "ecp5", "ice40", "cells"])
def test_default_spaces_hold_many_cores(target):
    found = candidates(default_space(target))
    assert len(found.configs) >= 12
    assert {c.table_store for c in found.configs} == {
        "register" if target in ("ice40", "cells") else "distributed"
    }


def test_a_space_file_is_a_union(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text(
        "lanes = [8, 16]\n[[space]]\ngroup = 4\n[[space]]\ngroup = 5\nternary = [true, false]\n"
    )
    found = candidates(load_space(file))
    assert {(c.lanes, c.group, c.ternary) for c in found.configs} == {
        (n, *table) for n in (8, 16) for table in ((4, False), (5, True), (5, False))
    }


def test_sweep_arguments_have_the_types_of_the_keys():
    axes = parse_sweep(["lanes=8,16", "table_form=full", "ternary=true,false"])
    assert axes == {"lanes": (8, 16), "table_form": ("full",), "ternary": (True, False)}
    assert SPACE.replaced(axes).boxes[0]["depth"] == (1, 2)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("lanes", "write KEY=VALUE"),
        ("lanes=", "write KEY=VALUE"),
        ("width=8", "unknown key 'width'; known: rows, lanes"),
        ("lanes=wide", "values of lanes must be integers, not 'wide'"),
        ("lanes=8.5", "values of lanes must be integers, not '8.5'"),
        ("lanes=true", "values of lanes must be integers, not True"),
        ("ternary=1", "values of ternary must be true or false, not 1"),
        ("table_form=4", "values of table_form must be texts, not 4"),
    ],
)
def test_sweep_errors_name_the_key_and_the_value(argument, message):
    with pytest.raises(SpaceError, match=re.escape(message)):
        parse_sweep([argument])


def test_a_space_without_end_is_refused():
    with pytest.raises(SpaceError, match="more than 100,000: give fewer values"):
        Space(({"run": tuple(range(100_001))},))


# The front -----------------------------------------------------------------------------------

PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40)


def _beats(a, b):
    return a != b and a[0] <= b[0] and a[1] <= b[1]


@given(PAIRS)
def test_the_front_is_what_nothing_beats(pairs):
    found = front(pairs)
    assert len(set(found)) == len(found)
    for i, pair in enumerate(pairs):
        assert (i in found) == (not any(_beats(other, pair) for other in pairs))
    assert [pairs[i] for i in found] == sorted(pairs[i] for i in found)


# Sweeping ------------------------------------------------------------------------------------


def _scored(configs=CONFIGS, settings=SETTINGS, runner=None):
    return sweep(configs, settings, runner or here)


def test_a_point_has_the_cycles_of_its_workload(quick_area):
    point = _scored().points[3]
    first, second = (estimate_cycles(point.config, ITEM.shape, rows).cycles for rows in (3, 1))
    assert point.cycles == first + 10 * second
    useful = 64 * 128 * 4 * (3 + 10)
    assert point.utilisation == pytest.approx(useful / point.config.peak / point.cycles)
    assert 0.5 <= point.bound_share <= 1


def test_a_design_is_synthesised_once_for_all_points(quick_area):
    _scored()
    assert len(quick_area) == len(set(quick_area))
    wanted = {design for config in CONFIGS for design in area.parts(config, "ecp5")}
    assert set(quick_area) == wanted


def test_a_second_sweep_comes_from_the_cache(quick_area):
    first = _scored()
    quick_area.clear()
    second = _scored()
    assert (first.from_cache, second.from_cache) == (0, len(CONFIGS))
    assert first.points == second.points and not quick_area
    # Another workload: the areas stay.
    other = Settings("ecp5", Workload("other", (ITEM,)))
    assert _scored(settings=other).from_cache == 0 and not quick_area


def test_other_sources_are_counted_again(quick_area, monkeypatch):
    _scored()
    quick_area.clear()
    monkeypatch.setattr(explore_tasks, "source_version", lambda kind: f"new {kind}")
    assert _scored().from_cache == 0 and quick_area


@pytest.mark.parametrize("after", [1, 15, 29])
def test_a_broken_off_sweep_goes_on_where_it_stopped(quick_area, tmp_path, monkeypatch, after):
    done = []

    def breaking(tasks):
        for place, task in enumerate(tasks):
            if len(done) == after:
                raise KeyboardInterrupt
            done.append(task)
            yield place, perform(task)

    def written(result):
        return as_csv(make_report(result.points, SETTINGS, clock=100, budget=None))

    undisturbed = written(_scored())
    monkeypatch.setenv("LUTCORE_CACHE", str(tmp_path / "other"))
    with pytest.raises(KeyboardInterrupt):
        _scored(runner=breaking)
    before = set(done)
    assert len(before) == after

    def counting(tasks):
        for place, task in enumerate(tasks):
            done.append(task)
            yield place, perform(task)

    assert written(_scored(runner=counting)) == undisturbed
    everything = {CyclesTask(c, WORK.items, 40) for c in CONFIGS} | {
        AreaTask(design) for c in CONFIGS for design in area.parts(c, "ecp5")
    }
    # Nothing twice, nothing left out.
    assert len(done) == len(everything) and set(done) == everything


def test_the_order_of_results_does_not_matter(quick_area):
    def backwards(tasks):
        for place in reversed(range(len(tasks))):
            yield place, perform(tasks[place])

    backward = _scored(runner=backwards)
    assert [point.config for point in backward.points] == list(CONFIGS)
    assert backward.points == _scored().points


def test_what_cannot_be_scored_is_counted_with_its_reason(quick_area):
    narrow = [CoreConfig(lanes=8, depth=1, planes=2), *CONFIGS]
    found = _scored(narrow)
    assert len(found.points) == len(CONFIGS)
    ((reason, times),) = found.failed.items()
    assert times == 1 and "4 bits, but the core has 2 planes" in reason


# Area ----------------------------------------------------------------------------------------


def test_parts_of_a_core_add_up_where_units_are_linear(monkeypatch):
    """Figures made to be linear in what they are said to be come out exactly."""

    def figure(unit, c):
        rest = 7 * c.planes + 3 * c.bus_width
        if unit == "lookup":
            return c.lanes * (5 + 3 * c.rows**2)  # in rows whatever it likes
        if unit == "array":
            return c.depth * figure("lookup", c) + c.lanes * c.rows * c.depth * 11 + 13 * c.rows
        if unit == "scale":
            return c.scale_lanes * 17 + c.chunks * c.rows * 19
        if unit == "final":
            return c.final_lanes * 23 + (c.scale_lanes // c.final_lanes) * 29
        if unit == "table":
            return c.rows * c.depth * 31 + (c.sum_words // (c.chunks * c.rows)) * 2
        return {"ldw": c.lanes * c.depth, "core": 0}.get(unit, rest)

    whole = ("array", "table", "scale", "final", "store", "ldw", "ldx")
    whole += ("weight_buffer", "scale_buffer", "bias_buffer", "x_buffer")

    def core(c):
        return 1000 + sum(figure(unit, Design.of(unit, c, "ecp5").config) for unit in whole)

    for config in (
        CoreConfig(),
        CoreConfig(rows=4, lanes=64, depth=8, table_form="full", group=3, scale_lanes=32),
        CoreConfig(rows=3, lanes=24, depth=5, planes=3, bus_width=64),
        CoreConfig(rows=1, lanes=8, depth=1),
    ):
        weights = area.parts(config, "ecp5")
        areas = {
            d: Area(luts=core(d.config) if d.unit == "core" else figure(d.unit, d.config))
            for d in weights
        }
        assert area.combine(weights, areas).luts == pytest.approx(core(config))


@pytest.mark.parametrize(
    ("units", "config"),
    [
        (UNITS, CoreConfig(rows=3, lanes=24, group=3, depth=2, planes=3, activation="int16",
                           bus_width=64, table_form="full", scale_lanes=8, sum_words=64, tiles=6,
                           scale_words=1024)),
        (("lookup", "array", "table"), CoreConfig(rows=1, lanes=16, group=5, depth=2, ternary=True,
                                                  scale_lanes=2, sum_words=64, scale_words=1024)),
    ],
    ids=["full", "ternary"],
)  # fmt: skip
def test_a_unit_depends_on_no_other_keys(units, config):
    """The smallest core with the keys of a unit has the same unit."""
    for unit in units:
        small = Design.of(unit, config, "ecp5").config
        assert small != config
        assert unit_verilog(unit, small, "ecp5") == unit_verilog(unit, config, "ecp5"), unit


# Reports -------------------------------------------------------------------------------------


def _point(luts, cycles, **keys):
    return Point(CoreConfig(**keys), Area(luts=luts, block_rams=3), cycles, 0.5, "array", 0.75)


POINTS = [
    _point(9_000, 4_000_000, lanes=16),
    _point(20_000, 1_000_000, lanes=64, scale_lanes=32),
    _point(30_000, 900_000, lanes=128),
    _point(21_000, 2_000_000, lanes=32),
]


def _report(budget=None):
    return make_report(POINTS, SETTINGS, clock=50, budget=budget)


def test_the_report_numbers_the_front_of_what_fits():
    assert [row.number for row in _report().rows] == [1, 2, 3, 0]
    limited = _report(Budget(target="ecp5", luts=25_000))
    assert [row.number for row in limited.rows] == [1, 2, 0, 0]
    assert limited.rows[2].exceeded == ("luts",)
    assert limited.rows[0].milliseconds == pytest.approx(80)


def test_csv_has_every_point_and_every_key():
    rows = list(csv.DictReader(io.StringIO(as_csv(_report(Budget(target="ecp5", luts=25_000))))))
    assert [row["front"] for row in rows] == ["1", "2", "", ""]
    assert rows[2]["fits"] == "no: luts" and rows[0]["fits"] == "yes"
    for row, point in zip(rows, POINTS, strict=True):
        for key, value in point.config.as_dict().items():
            assert row[key] == (str(value).lower() if isinstance(value, bool) else str(value))
        assert int(row["cycles"]) == point.cycles and int(row["luts"]) == point.area.luts


def test_the_table_labels_what_is_estimated_and_assumed():
    text = as_table(_report())
    assert "estimated from synthesised units" in text and "assumed 50 MHz" in text
    assert "lanes = 16" in text and "20,000" in text and "21,000" not in text


def test_the_plot_has_one_mark_for_each_point():
    text = as_plot(_report(Budget(target="ecp5", luts=25_000)))
    marks = "".join(line.partition("|")[2] for line in text.splitlines())
    assert [marks.count(mark) for mark in "ox."] == [2, 1, 1]


@pytest.mark.parametrize(
    "keys",
    [{}, {"lanes": 16}, {"rows": 4, "scale_lanes": 32}, {"table_form": "full", "run": 1024},
     {"group": 5, "ternary": True, "lanes": 32}],
)  # fmt: skip
def test_the_short_form_gives_the_configuration(keys):
    text = short_form(CoreConfig(**keys))
    assert CoreConfig(**tomllib.loads(text.replace(", ", "\n"))) == CoreConfig(**keys)
    assert len(text.split(", ")) == len({"rows", "lanes", "group", "depth", *keys})


def test_the_page_stands_alone_and_has_every_point():
    budget = Budget(target="ecp5", luts=25_000)
    text = render(_report(budget), ["2 cannot be built: <reason>"])
    assert text == render(_report(budget), ["2 cannot be built: <reason>"])
    assert not re.search(r"https?://|src=|@import|<link", text)
    assert text.count("<circle") == len(POINTS)
    assert text.count('class="over"') == 1 + text.count('<i class="over">')
    assert text.count("<tr data-number") == 2
    assert "lanes = 64, group = 4, depth = 4, scale_lanes = 32" in text and "&lt;reason&gt;" in text
    assert "assumed clock of 50 MHz" in text and "estimated from synthesised units" in text


def test_a_device_is_one_of_the_target():
    assert device("ECP5-85f", "ecp5").luts == 83_640
    with pytest.raises(BudgetError, match=r"one of ecp5-25F, .*, not 'xc7a35t'"):
        device("xc7a35t", "ecp5")
    with pytest.raises(BudgetError, match="left out"):
        device("ecp5-85F", "cells")


# A whole session -----------------------------------------------------------------------------


def _session(**changes):
    arguments = dict(
        target="ecp5", workload="w4-decode", space=None, device_name=None, max_luts=None,
        axes=["lanes=8,12,16", "depth=1,2", "rows=1", "scale_lanes=0"],
        clock=100.0, latency=40, exact=False, liberty=None, jobs=1, scheduler=None,
    )  # fmt: skip
    return Session(**{**arguments, **changes})


def test_a_session_prints_and_writes_what_it_found(quick_area, tmp_path, capsys):
    session = _session()
    session.score()
    text = session.text()
    assert "12 configurations, 0 from the cache" in text
    assert "6 cannot be built: lanes must be a multiple of 8, not 12" in text
    files = tmp_path / "a.csv", tmp_path / "a.html", tmp_path / "a.toml"
    session.write(files[0], files[1], (1, files[2]))
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    first = next(
        row for row in csv.DictReader(files[0].open(encoding="utf-8")) if row["front"] == "1"
    )
    assert load_config(files[2]).lanes == int(first["lanes"])
    with pytest.raises(EmptyError, match="the front has the numbers 1 to"):
        session.write(None, None, (99, files[2]))

    again = _session(max_luts=1)
    again.score()
    assert "12 from the cache" in again.text() and "No configuration fits" in again.text()
    with pytest.raises(EmptyError, match="nothing fits"):
        again.write(None, None, (1, files[2]))


def test_a_session_verifies_its_front(quick_area):
    session = _session()
    session.score()
    session.verify()
    assert {d.unit for d in quick_area[-1:]} == {"core"}
    assert "whole core" in session.text()


def test_a_session_without_a_core_says_why():
    with pytest.raises(EmptyError, match="no configuration of the space can be built: lanes"):
        _session(axes=["lanes=12"])
    with pytest.raises(EmptyError, match=r"no configuration can be scored: .* planes"):
        session = _session(axes=["lanes=8", "depth=1", "rows=1", "planes=1", "scale_lanes=0"])
        session.score()


def test_the_command_runs_with_real_syntheses(tmp_path, capsys, monkeypatch):
    """The smallest sweep there is: two cores that share all designs but those of the array.

    The core and the arrays are synthesised; the other units, which differ little, take nothing.
    """
    real = area.measure

    def measure(design, **options):
        return real(design, **options) if design.unit in ("core", "array") else Area()

    monkeypatch.setattr(area, "measure", measure)
    cli = typer.Typer()
    cli.command()(explore_command)
    csv_file = tmp_path / "a.csv"
    arguments = ["--target=ecp5", "--workload=w4-decode", f"--csv={csv_file}", "--jobs=1"]
    sizes = ("rows=1", "lanes=8", "depth=1,2", "group=2", "table_form=symmetric", "scale_lanes=1")
    arguments += [f"--sweep={size}" for size in (*sizes, "planes=4", "bus_width=32")]
    with pytest.raises(SystemExit) as stop:
        cli(arguments)
    assert stop.value.code == 0
    assert "estimated from synthesised units" in capsys.readouterr().out
    rows = list(csv.DictReader(csv_file.open(encoding="utf-8")))
    assert [row["depth"] for row in rows] == ["1", "2"]
    assert 5_000 < int(rows[0]["luts"]) < int(rows[1]["luts"]) < 20_000
    assert int(rows[0]["cycles"]) >= int(rows[1]["cycles"]) > 1024 * 1024 * 4 // 32
