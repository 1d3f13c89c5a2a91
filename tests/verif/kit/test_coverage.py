"""Functional coverage: declared, counted, and holes found; and the ports of a given file."""

from pathlib import Path

import pytest

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.export import ports
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.core.wrapper import check_ports
from lutcore.verif.kit.configurations import CONFIGURATIONS
from lutcore.verif.kit.coverage import hits, holes
from lutcore.verif.kit.env import COVERAGE_FILE
from lutcore.verif.kit.points import check_declared, points

CONFIG = CoreConfig(rows=1, lanes=8, group=2, depth=1, planes=2, bus_width=32)


def test_hits_are_counted_by_job(tmp_path: Path) -> None:
    for name, text in (("a", "burst\t1\nburst\t2-15\n"), ("b", "burst\t1\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / COVERAGE_FILE).write_text(text)
    (tmp_path / "c").mkdir()
    counted = hits(tmp_path / name for name in "abc")
    assert counted["burst"] == {"1": 2, "2-15": 1, "16 or more": 0}
    assert "burst: 16 or more" in holes(counted, {"core"})
    assert "burst: 1" not in holes(counted, {"core"})


def test_points_of_benches_that_did_not_run_have_no_holes() -> None:
    counted = hits([])
    assert not holes(counted, set())
    # Some causes only the bench of faults can reach.
    assert not any(hole.startswith("cause") for hole in holes(counted, {"core"}))
    assert any(hole.startswith("cause") for hole in holes(counted, {"core", "faults"}))


def test_every_point_has_bins_and_benches() -> None:
    for point in points().values():
        assert point.bins and len(set(point.bins)) == len(point.bins), point
        assert point.benches, point


@pytest.mark.parametrize("point, bin", [("burst", "3"), ("nothing", "1")])
def test_what_is_not_declared_is_refused(point: str, bin: str) -> None:
    with pytest.raises(LutcoreError, match="is not declared"):
        check_declared(point, bin)


def test_the_full_regression_spans_the_configurations() -> None:
    configs = CONFIGURATIONS.values()
    assert len(configs) >= 12
    stores = {(config.table_store, config.table_form, config.ternary) for config in configs}
    assert len(stores) == 5
    assert {config.group for config in configs} == {2, 3, 4, 5, 6}
    assert {min(config.depth for config in configs), max(config.depth for config in configs)} == {
        1,
        16,
    }
    assert {config.activation for config in configs} == {"int8", "int16"}
    assert {config.bus_width for config in configs} == {32, 64, 128, 256, 512}


def header(*, skip: str = "", widths: dict[str, int] | None = None, style: int = 2001) -> str:
    """A module with the ports of the core, in the style of a Verilog standard."""
    declared = [
        (port["direction"], (widths or {}).get(port["name"], port["width"]), port["name"])
        for port in ports(CONFIG)
        if port["name"] != skip
    ]
    if style == 2001:
        inside = ", ".join(f"{way} wire [{width - 1}:0] {name}" for way, width, name in declared)
        return f"module lutcore ({inside});\nendmodule\n"
    names = ", ".join(name for _, _, name in declared)
    lines = "".join(
        f"  {way} {f'[{width - 1}:0] ' if width > 1 else ''}{name};\n"
        for way, width, name in declared
    )
    function = "function pmux;\n  input a;\n  input [3:0] b;\n  pmux = a;\nendfunction\n"
    return f"(* top = 1 *)\nmodule lutcore({names});\n{lines}{function}endmodule\n"


@pytest.mark.parametrize("style", [1995, 2001])
def test_ports_of_a_given_file(style: int) -> None:
    check_ports(header(style=style), CONFIG, "x.v")
    with pytest.raises(LutcoreError, match=r"x\.v: module lutcore has no port m_axi_wlast"):
        check_ports(header(skip="m_axi_wlast", style=style), CONFIG, "x.v")
    text = header(widths={"m_axi_wdata": 64}, style=style)
    with pytest.raises(LutcoreError, match=r"m_axi_wdata is an output of 64 bits, .* output of 32"):
        check_ports(text, CONFIG, "x.v")
    with pytest.raises(LutcoreError, match="has a port extra, which no core has"):
        check_ports(text.replace("aclk", "extra, aclk").replace("[63:0]", "[31:0]"), CONFIG, "x.v")
