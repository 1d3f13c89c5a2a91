"""Standard cells: a library of four cells, its sizes and delays, and where libraries come from."""

import os
import shutil
from pathlib import Path

import pytest

from lutcore.fpga.synth import cells, liberty
from lutcore.fpga.synth.flow import SynthesisError, synthesise
from lutcore.fpga.synth.liberty import Liberty, LibertyError, default_liberty
from lutcore.fpga.synth.timing import abc_delay, opensta_version

AREAS = {"INV": 1.0, "BUF": 1.5, "NAND": 2.0, "FF": 10.0}
#: Of every cell in nanoseconds, whatever it drives.
DELAY = 0.1
SETUP = 0.05


def _pin(name: str, body: str) -> str:
    return f"pin ({name}) {{ {body} }}"


def _timing(pin: str, kind: str = "") -> str:
    arcs = "".join(
        f'{arc} (scalar) {{ values ("{DELAY if arc.startswith("cell") else 0.01}"); }} '
        for arc in ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
    )
    return f'timing () {{ related_pin : "{pin}"; {kind} {arcs} }}'


def _gate(name: str, inputs: str, function: str) -> str:
    pins = [_pin(pin, "direction : input; capacitance : 0.01;") for pin in inputs]
    unate = f"timing_sense : {'positive' if name == 'BUF' else 'negative'}_unate;"
    arcs = " ".join(_timing(pin, unate) for pin in inputs)
    pins.append(
        _pin("Y", f'direction : output; max_capacitance : 1; function : "{function}"; {arcs}')
    )
    return f"  cell ({name}) {{ area : {AREAS[name]}; {' '.join(pins)} }}\n"


def _library() -> str:
    clock = _pin("C", "direction : input; clock : true; capacitance : 0.01;")
    limits = " ".join(
        f'{edge}_constraint (scalar) {{ values ("{SETUP}"); }}' for edge in ("rise", "fall")
    )
    setup = f'timing () {{ related_pin : "C"; timing_type : setup_rising; {limits} }}'
    data = _pin("D", f"direction : input; capacitance : 0.01; {setup}")
    edge = "timing_type : rising_edge; timing_sense : non_unate;"
    out = _pin(
        "Q", f'direction : output; max_capacitance : 1; function : "IQ"; {_timing("C", edge)}'
    )
    flip_flop = (
        f'  cell (FF) {{ area : {AREAS["FF"]}; ff (IQ, IQN) {{ clocked_on : "C"; '
        f'next_state : "D"; }} {clock} {data} {out} }}\n'
    )
    return (
        "library (four) {\n"
        + '  delay_model : table_lookup; time_unit : "1ns"; voltage_unit : "1V"; '
        'current_unit : "1uA"; pulling_resistance_unit : "1kohm"; capacitive_load_unit (1, pf);\n'
        + "".join(
            f"{side}_threshold_pct_{edge} : 50; "
            for side in ("input", "output")
            for edge in ("rise", "fall")
        )
        + "".join(
            f"slew_{end}_threshold_pct_{edge} : {percent}; "
            for end, percent in (("lower", 20), ("upper", 80))
            for edge in ("rise", "fall")
        )
        + _gate("INV", "A", "(!A)")
        + _gate("BUF", "A", "A")
        + _gate("NAND", "AB", "(!(A B))")
        + flip_flop
        + "}\n"
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library") / "four.lib"
    path.write_text(_library())
    return path


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTCORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def no_sta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "opensta_version", lambda: None)


# Two gates between flip-flops.
DESIGN = """
module design(input clk, d, e, f, output reg y);
  reg p, q, r;
  always @(posedge clk) begin
    p <= d;
    q <= e;
    r <= f;
    y <= ~(~(p & q) & r);
  end
endmodule
"""


def test_area_and_gate_delay(library: Path, no_sta: None) -> None:
    found = synthesise(DESIGN, "design", "cells", liberty=library)
    assert found.cells == {"FF": 4, "NAND": 2}
    assert (found.flip_flops, found.area, found.luts) == (4, 44.0, 0)
    # ABC sees the gates alone.
    assert (found.delay_ns, found.timing) == (2 * DELAY, "ABC")
    assert found.tools["liberty"].startswith("four sha256:")


@pytest.mark.skipif(opensta_version() is None, reason="sta (Debian package opensta) not installed")
def test_delay_by_opensta(library: Path) -> None:
    found = synthesise(DESIGN, "design", "cells", liberty=library)
    assert found.cells == {"FF": 4, "NAND": 2}
    # From the clock to the flip-flop's output, through the gates, and the setup of the next.
    assert found.delay_ns == pytest.approx(3 * DELAY + SETUP)
    assert found.timing == "OpenSTA"
    assert found.tools["OpenSTA"] == opensta_version()


@pytest.mark.skipif(opensta_version() is None, reason="sta (Debian package opensta) not installed")
def test_delay_without_a_clock_by_opensta(library: Path) -> None:
    gate = "module gate(input signed a, b, output signed y); assign y = ~(a & b); endmodule"
    found = synthesise(gate, "gate", "cells", liberty=library)
    assert found.delay_ns == pytest.approx(DELAY)


def test_memories_become_flip_flops(library: Path, no_sta: None) -> None:
    memory = """
    module memory(input clk, we, input [1:0] wa, ra, input [2:0] d, output [2:0] q);
      (* ram_style = "distributed" *) reg [2:0] words [0:3];
      always @(posedge clk) if (we) words[wa] <= d;
      assign q = words[ra];
    endmodule
    """
    assert synthesise(memory, "memory", "cells", liberty=library).flip_flops == 12


def test_flip_flop_with_many_loads_gets_buffers(library: Path, no_sta: None) -> None:
    wide = """
    module wide(input clk, s, input [99:0] a, output [99:0] y);
      reg r;
      always @(posedge clk) r <= s;
      assign y = ~(a & {100{r}});
    endmodule
    """
    found = synthesise(wide, "wide", "cells", liberty=library)
    assert found.cells["NAND"] == 100
    assert found.cells["BUF"] + found.cells.get("INV", 0) >= 100 / 12
    assert found.area == sum(AREAS[name] * n for name, n in found.cells.items())


def test_cell_that_the_library_lacks_is_an_error(library: Path, no_sta: None) -> None:
    with_macro = """
    (* blackbox *) module macro(input a, output y); endmodule
    module design(input a, output y);
      macro m(.a(a), .y(y));
    endmodule
    """
    with pytest.raises(SynthesisError, match=r"^no cell of four does what macro does: "):
        synthesise(with_macro, "design", "cells", liberty=library)


def test_wires_are_free(library: Path, no_sta: None) -> None:
    found = synthesise("module w(input a, output y); assign y = a; endmodule", "w", "cells",
                       liberty=library)  # fmt: skip
    assert (found.area, found.delay_ns, found.cells) == (0.0, 0.0, {})


def test_library_is_understood(library: Path) -> None:
    found = Liberty.read(library)
    assert found.name == "four"
    assert set(found.cells) == set(AREAS)
    assert found.sequential == {"FF"}
    assert found.driver == "BUF"


def test_another_library_is_another_result(library: Path, no_sta: None, tmp_path: Path) -> None:
    first = synthesise(DESIGN, "design", "cells", liberty=library)
    dearer = tmp_path / "dearer.lib"
    dearer.write_text(library.read_text().replace("area : 2.0", "area : 3.0"))
    second = synthesise(DESIGN, "design", "cells", liberty=dearer)
    assert (first.area, second.area) == (44.0, 46.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "is cut off"),
        (lambda text: "module x; endmodule", "has no cells: not a Liberty file"),
        (lambda text: text.replace("ff (", "f_f ("), "has no flip-flop"),
    ],
    ids=["half", "verilog", "no flip-flop"],
)
def test_unusable_library_is_named(library: Path, tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "bad.lib"
    path.write_text(change(library.read_text()))
    with pytest.raises(LibertyError, match=message):
        synthesise(DESIGN, "design", "cells", liberty=path)


def test_missing_library_is_named(tmp_path: Path) -> None:
    with pytest.raises(LibertyError, match=r"cannot read the cell library .*no.lib: No such file"):
        synthesise(DESIGN, "design", "cells", liberty=tmp_path / "no.lib")


@pytest.mark.parametrize(("stats", "delay"), [("\nnetlist 3 1 4 8676 796 ", 0.796), ("", 0.0)])
def test_delay_in_the_statistics_of_abc(stats: str, delay: float) -> None:
    assert abc_delay(stats) == delay


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH, for stand-ins of apt-get and dpkg-deb; a cache of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LUTCORE_CACHE", str(tmp_path / "cache"))
    _tool(folder, "apt-get", "touch qflow.deb")
    return folder


def _tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def _unpacks(debian: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liberty, "CELLS", len(AREAS))
    target = f'"$3/{liberty.MEMBER}"'
    _tool(debian, "dpkg-deb", f'mkdir -p "$(dirname {target})"; cp {library} {target}')


def test_default_library_is_fetched_once(
    debian: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _unpacks(debian, library, monkeypatch)
    reported: list[str] = []
    path = default_liberty(reported.append)
    assert path.read_bytes() == library.read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == ["osu018_stdcells.lib"]
    assert reported == ["Fetching the cell library of Debian's qflow-tech-osu018"]
    _tool(debian, "apt-get", "exit 1")
    assert default_liberty(reported.append) == path
    assert len(reported) == 1


def test_damaged_library_is_fetched_again(
    debian: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _unpacks(debian, library, monkeypatch)
    path = default_liberty()
    path.write_text(library.read_text()[:500])
    assert default_liberty().read_bytes() == library.read_bytes()


def test_lists_of_our_own_if_there_are_none(
    debian: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _unpacks(debian, library, monkeypatch)
    script = """
    case "$*" in
      *update) touch updated;;
      *Dir::State::Lists*download*) test -e updated && touch qflow.deb;;
      *) echo 'E: Unable to locate package' >&2; exit 100;;
    esac"""
    _tool(debian, "apt-get", script)
    assert default_liberty().is_file()


def test_library_that_cannot_be_fetched_is_one_line_with_the_remedy(debian: Path) -> None:
    _tool(debian, "apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    with pytest.raises(LibertyError) as caught:
        synthesise(DESIGN, "design", "cells")
    message = str(caught.value)
    assert message.startswith("cannot fetch the cell library: apt-get: Unable to locate package;")
    assert "--liberty FILE" in message and "\n" not in message
    assert not list((debian.parent / "cache" / "liberty").iterdir())


def test_package_without_the_library_is_an_error(
    debian: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _unpacks(debian, library, monkeypatch)
    monkeypatch.setattr(liberty, "CELLS", 32)
    with pytest.raises(LibertyError, match=r"qflow.deb has no 32 cells"):
        default_liberty()
    assert not list((debian.parent / "cache" / "liberty").iterdir())


def test_no_apt_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LUTCORE_CACHE", str(tmp_path))
    with pytest.raises(LibertyError, match=r"no apt-get to fetch .* --liberty FILE"):
        default_liberty()


def test_the_real_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("not a Debian machine")
    monkeypatch.setenv("LUTCORE_CACHE", str(tmp_path))
    try:
        path = default_liberty()
    except LibertyError as error:
        pytest.skip(f"no network: {error}")
    found = Liberty.read(path)
    assert (found.name, len(found.cells), found.driver) == ("osu018_stdcells", 32, "BUFX2")
    assert found.sequential == {"DFFNEGX1", "DFFPOSX1", "DFFSR", "LATCH"}
