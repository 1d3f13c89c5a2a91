"""The timeline page and its terminal version, read back and compared cycle by cycle."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.sw.app.timeline import (
    Run,
    State,
    TimelinePage,
    UnitTrace,
    ascii_timeline,
    render,
    write,
)


def unit(name: str, *runs: tuple[int, int]) -> UnitTrace:
    """Make a unit from (start, state) pairs."""
    starts, states = zip(*runs, strict=True) if runs else ((), ())
    return UnitTrace(name, np.array(starts, dtype=np.int64), np.array(states, dtype=np.uint8))


def run_of(cycles: int, *units: UnitTrace, title: str = "run", facts=()) -> Run:
    return Run(title, cycles, list(units), list(facts))


def page_of(*runs: Run, title: str = "title", notes=()) -> TimelinePage:
    return TimelinePage(title, "subtitle", list(runs), list(notes))


def by_cycle(trace: UnitTrace, cycles: int) -> np.ndarray:
    """Spell the run-length code out: uint8 [cycles]."""
    states = np.zeros(cycles, dtype=np.uint8)
    for start, state in zip(trace.starts, trace.states, strict=True):
        states[start:] = state
    return states


@st.composite
def traces(draw, cycles: int):
    starts = sorted(draw(st.sets(st.integers(0, cycles - 1), max_size=12)))
    states = draw(st.lists(st.integers(0, 3), min_size=len(starts), max_size=len(starts)))
    return unit("u", *zip(starts, states, strict=True))


class Page(HTMLParser):
    """The tags of a page, and whether each one was closed in its turn."""

    VOID = frozenset({"meta", "br", "path"})

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.data: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.data.append(data.strip())


def drawn_lanes(text: str) -> list[dict[str, np.ndarray]]:
    """Read the lanes' paths back: for each lane the height of every state by column."""
    lanes = []
    columns = 0
    for tag, attributes in Page(text).tags:
        if tag == "svg":
            columns = int((attributes["viewbox"] or "").split()[2])
            lanes.append({"top": np.zeros(columns, dtype=int)})
        elif tag == "path":
            path = attributes["d"] or ""
            assert re.fullmatch(r"M0 100(V\d+H\d+)+V100Z", path)
            tops = np.zeros(columns, dtype=int)
            x = 0
            for y, right in re.findall(r"V(\d+)H(\d+)", path):
                tops[x : int(right)] = 100 - int(y)
                x = int(right)
            assert x == columns
            # Later paths are painted over earlier ones, so the lower state comes later.
            order = ("top", "output", "input", "busy")
            assert order.index(attributes["class"] or "") > max(map(order.index, lanes[-1]))
            lanes[-1][attributes["class"] or ""] = tops
    heights = []
    for lane in lanes:
        below = np.zeros_like(lane["top"])
        parts = {}
        for name in ("busy", "input", "output"):
            top = lane.get(name, below)
            parts[name] = top - below
            below = top
        parts["idle"] = 100 - below
        heights.append(parts)
    return heights


# --- the numbers -----------------------------------------------------------------------------


@settings(deadline=None, print_blob=True)
@given(st.data(), st.integers(1, 60))
def test_totals_are_the_counts_of_cycles(data, cycles):
    trace = data.draw(traces(cycles))
    expected = np.bincount(by_cycle(trace, cycles), minlength=4)
    np.testing.assert_array_equal(run_of(cycles, trace).totals, [expected])


@settings(deadline=None, print_blob=True)
@given(st.data(), st.integers(1, 60))
def test_short_runs_are_drawn_cycle_by_cycle(data, cycles):
    trace = data.draw(traces(cycles))
    (lane,) = drawn_lanes(render(page_of(run_of(cycles, trace))))
    for state in State:
        expected = 100 * (by_cycle(trace, cycles) == state)
        np.testing.assert_array_equal(lane[state.name.lower()], expected)


def test_a_million_cycles_keep_their_mix_and_their_ends():
    cycles = 1_000_000
    starts = np.arange(0, cycles, 10, dtype=np.int64)
    load = UnitTrace(
        "load", np.sort(np.concatenate((starts, starts + 3))), np.tile([1, 2], 100_000)
    )
    store = unit("store", (7, 1), (cycles - 2, 3))
    text = render(page_of(run_of(cycles, load, store)))
    whole_load, whole_store, first_load, first_store, _, last_store = drawn_lanes(text)

    assert len(whole_load["busy"]) == 1200
    assert set(whole_load["busy"]) <= {29, 30, 31} and not whole_load["idle"].any()
    assert whole_load["busy"].mean() == pytest.approx(30, abs=0.5)
    assert whole_store["idle"][0] == 1 and not whole_store["idle"][1:].any()
    for lane, trace in ((first_load, load), (first_store, store)):
        np.testing.assert_array_equal(lane["busy"], 100 * (by_cycle(trace, 1500) == State.BUSY))
    np.testing.assert_array_equal(np.flatnonzero(last_store["output"]), [1498, 1499])
    assert len(text) < 400_000


def test_longest_run_without_and_shortest_with_zoom():
    assert len(drawn_lanes(render(page_of(run_of(1500, unit("a")))))) == 1
    assert len(drawn_lanes(render(page_of(run_of(1501, unit("a")))))) == 3


def test_table_and_busiest_unit():
    run = run_of(2000, unit("load", (500, 1)), unit("lmma", (0, 2), (400, 1), (1600, 3)))
    text = render(page_of(run))
    rows = re.findall(r'<tr( class="busiest")?><th scope="row">(\w+)</th>(.*?)</tr>', text)
    cells = [(bool(best), name, re.findall(r"<td.*?>(.*?)</td>", row)) for best, name, row in rows]
    assert cells == [
        (True, "load", ["1,500", "75.0 %", "0", "0.0 %", "0", "0.0 %", "500", "25.0 %"]),
        (False, "lmma", ["1,200", "60.0 %", "400", "20.0 %", "400", "20.0 %", "0", "0.0 %"]),
    ]


def test_no_unit_is_busiest_where_none_is_busy():
    assert 'class="busiest"' not in render(page_of(run_of(5, unit("a"))))


@pytest.mark.parametrize("cycles", [1, 7, 10, 99, 1500, 70_001, 123_456_789])
def test_axis_has_round_cycles_in_place(cycles):
    text = render(page_of(run_of(cycles, unit("a"))))
    views = re.findall(
        r'data-first="(\d+)" data-last="(\d+)".*?<div class="axis"(.*?)</div>', text, re.S
    )
    assert views
    for first, last, axis in views:
        ticks = re.findall(r'left:([\d.]+)%">([\d,]+)<', axis)
        assert 2 <= len(ticks) <= 10
        cycles_on_axis = [int(label.replace(",", "")) for _, label in ticks]
        (step,) = set(np.diff(cycles_on_axis).tolist())
        assert re.fullmatch("[125]0*", str(step)) and cycles_on_axis[0] % step == 0
        for left, label in ticks:
            cycle = int(label.replace(",", ""))
            assert int(first) <= cycle <= int(last)
            span = int(last) - int(first)
            assert float(left) == pytest.approx(100 * (cycle - int(first)) / span, abs=1e-3)


# --- the page --------------------------------------------------------------------------------


def example() -> TimelinePage:
    load, lmma = unit("load", (0, 1), (900, 3)), unit("lmma", (5, 2), (40, 1), (1990, 0))
    facts = [("utilisation", "93.4 %"), ("RTL = ISS = golden", "bit for bit")]
    runs = [run_of(2000, load, lmma, title=t, facts=facts) for t in ("Decode", "Prefill")]
    return page_of(*runs, notes=["Latency 40 cycles."])


def test_page_is_whole_and_stands_alone():
    text = render(example())
    page = Page(text)
    assert not page.open
    assert {"Decode", "Prefill", "utilisation", "bit for bit", "Latency 40 cycles."} <= set(
        page.data
    )
    for state in State:
        assert state.label in page.data
    assert "://" not in text and "@import" not in text
    assert not [tag for tag, attributes in page.tags if {"src", "href"} & attributes.keys()]
    assert "prefers-color-scheme: dark" in text
    assert text == render(example())


def test_lanes_are_described_in_words():
    (label, *_) = (a["aria-label"] for tag, a in Page(render(example())).tags if tag == "svg")
    expected = "busy 45.0 %, waits for input 0.0 %, waits for output 55.0 %, idle 0.0 %"
    assert label == f"load: {expected}"


def test_text_is_escaped():
    odd = "<b>&\"'"
    run = run_of(3, unit(odd), title=odd, facts=[(odd, odd)])
    page = Page(render(TimelinePage(odd, odd, [run], [odd])))
    assert "b" not in {tag for tag, _ in page.tags}
    assert page.data.count(odd) >= 8


def test_page_without_units_or_runs():
    assert not Page(render(page_of(run_of(3)))).open
    assert not Page(render(page_of())).open


def test_write_replaces_the_file_at_once(tmp_path):
    path = tmp_path / "timeline.html"
    path.write_text("old")
    write(path, example())
    assert path.read_text(encoding="utf-8") == render(example())
    assert list(tmp_path.iterdir()) == [path]


def test_write_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "timeline.html"
    path.write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write(path, example())
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


# --- the terminal ----------------------------------------------------------------------------


def test_ascii_of_a_short_run_shows_every_cycle():
    run = run_of(12, unit("load", (1, 1), (8, 3)), unit("lmma", (0, 2), (5, 1), (11, 0)))
    assert ascii_timeline(run).splitlines() == [
        "load .#######>>>>  58.3 %",
        "lmma <<<<<######.  50.0 %",
        "     0         12  busy",
        "# busy  < waits for input  > waits for output  . idle",
    ]


def test_ascii_of_a_long_run_keeps_the_mix():
    cycles = 60_000
    starts = np.arange(0, cycles, 10, dtype=np.int64)
    mixed = UnitTrace("lmma", np.sort(np.concatenate((starts, starts + 3))), np.tile([1, 2], 6000))
    lines = ascii_timeline(run_of(cycles, mixed, unit("s", (30_000, 1))), width=80).splitlines()
    bar, half = (line[5:].split()[0] for line in lines[:2])
    assert abs(bar.count("#") - 0.3 * len(bar)) <= 1 and set(bar) == {"#", "<"}
    assert set(half[: len(half) // 2 - 1]) == {"."} and set(half[len(half) // 2 + 1 :]) == {"#"}


@settings(deadline=None, print_blob=True)
@given(st.data(), st.integers(1, 3000), st.integers(40, 120))
def test_ascii_fits_and_invents_nothing(data, cycles, width):
    trace = data.draw(traces(cycles))
    text = ascii_timeline(run_of(cycles, trace), width)
    assert text.isascii()
    *lanes, _axis, _legend = text.splitlines()
    assert max(len(line) for line in lanes) <= width
    present = {".#<>"[state] for state in np.unique(by_cycle(trace, cycles))}
    assert set(lanes[0].split()[1]) <= present


def test_ascii_shows_no_state_where_it_is_not():
    thirds = [(start + 20 * i, i + 1) for start in range(60, 1800, 60) for i in range(3)]
    text = ascii_timeline(run_of(1800, unit("u", (27, 2), *thirds)), width=40)
    bar = text.split()[1]
    assert len(bar) == 30 and bar[0] == "<" and "." not in bar, "idle for 27 of its 60 cycles"


def test_ascii_needs_room():
    with pytest.raises(ValueError, match="Width must be at least 40, not 39"):
        ascii_timeline(run_of(9, unit("a")), width=39)
    with pytest.raises(ValueError, match="Width must be at least 55, not 54"):
        ascii_timeline(run_of(9, unit("a" * 30)), width=54)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("starts", "states", "message"),
    [
        ([0, 1], [1], r"'u' has starts of shape \(2,\) and states of shape \(1,\)"),
        ([[0]], [[1]], r"both must be the same \[R\]"),
        ([0, 0], [1, 2], "'u' has starts that do not ascend from 0 or later"),
        ([-1], [1], "do not ascend from 0"),
        ([0], [4], "'u' has the state 4, which is none of 0 to 3"),
    ],
)
def test_bad_traces_are_refused(starts, states, message):
    with pytest.raises(ValueError, match=message):
        UnitTrace("u", np.array(starts, dtype=np.int64), np.array(states, dtype=np.uint8))


def test_bad_runs_are_refused():
    with pytest.raises(ValueError, match="'run' must have at least one cycle, not 0"):
        run_of(0)
    with pytest.raises(
        ValueError, match="'u' changes its state in cycle 9, but run 'run' ends before"
    ):
        run_of(9, unit("u", (9, 1)))
