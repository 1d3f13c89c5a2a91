"""Rewriting of generated C++."""

import re

import pytest

from lutcore.sim.rtl.split import shorten, split_eval

HEADER = """struct p_top : public module {
\twire<1> p_q;
\tbool eval(performer *performer = nullptr) override;
};
"""


def source(groups: int, width: int = 3000) -> str:
    body = "".join(
        f"\t// cell {n}\n\ti_a{n} = p_q.curr; // {'x' * width}\n\ti_b = i_a{n};\n"
        for n in range(groups)
    )
    declared = "".join(f"\tvalue<1> i_a{n};\n" for n in range(groups))
    return (
        '#include "top.h"\n\nnamespace cxxrtl_design {\n\n'
        "bool p_top::eval(performer *performer) {\n\tbool converged = true;\n"
        "\tbool posedge_p_clk = this->posedge_p_clk();\n"
        f"\t// \\src: top.v:1\n\tvalue<1> i_b;\n{declared}{body}\treturn converged;\n}}\n\n}}\n"
    )


def split(text: str, *, always_edge: str | None = None, units: int = 1, characters: int = 1):
    return split_eval(
        HEADER, text, always_edge=always_edge, units=units, unit_characters=characters
    )


def test_small_pieces_in_order():
    result = split(source(10))
    (unit,) = result.units
    defined = re.findall(r"^void p_top::eval_(\d)\(", unit, re.M)
    called = re.findall(r"^\teval_(\d)\(performer, posedge_p_clk\);", unit, re.M)
    declared = re.findall(r"^\tvoid eval_(\d)\(performer", result.header, re.M)
    assert defined == called == declared == [str(n) for n in range(4)]
    assert re.findall(r"i_b = i_a(\d);", unit) == [str(n) for n in range(10)]
    assert all(len(piece) < 15_000 for piece in unit.split("void p_top"))


def test_what_pieces_share_becomes_a_member():
    result = split(source(10))
    assert "\tvalue<1> i_b;\n" in result.header
    assert "\tvalue<1> i_b;\n" not in result.units[0]
    for n in range(10):
        assert f"value<1> i_a{n};" not in result.header
        assert result.units[0].count(f"value<1> i_a{n};") == 1


def test_several_units_hold_every_piece_once():
    result = split(source(10), units=3)
    assert len(result.units) == 3
    defined = re.findall(r"^void p_top::eval_(\d)\(", "".join(result.units), re.M)
    assert sorted(defined) == [str(n) for n in range(4)]
    assert all(unit.startswith('#include "top.h"') for unit in result.units)
    assert len(split(source(10), units=3, characters=1_000_000).units) == 1


def test_the_only_edge_is_a_constant():
    result = split(source(10), always_edge="clk")
    assert "this->posedge" not in result.units[0]
    assert result.units[0].count("constexpr bool posedge_p_clk = true;") == 4
    # Another clock's edge stays a test.
    assert "this->posedge" in split(source(10), always_edge="other").units[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bool converged = true", "bool converged = maybe()"),
        ("return converged;", "return converged && more;"),
        ("\tvalue<1> i_b;", "\tstatic int count;"),
        ("bool p_top::eval(performer *performer)", "bool p_top::eval(other *performer)"),
    ],
)
def test_an_unknown_form_is_left_alone(old, new):
    text = source(10).replace("\t// \\src: top.v:1\n", "").replace(old, new)
    result = split(text)
    assert (result.header, result.units) == (HEADER, [text])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "a.concat(xor_uu<1>(f(x), y)).concat(xor_uu<1>(f(x), y)).concat(z)",
            "a.concat(xor_uu<1>(f(x), y).repeat<2>()).concat(z)",
        ),
        (
            "a" + ".concat(not_u<1>(x))" * 5 + ".concat(not_u<1>(y))",
            "a.concat(not_u<1>(x).repeat<5>()).concat(not_u<1>(y))",
        ),
        ("a.concat(add_uu<2>(x, y)).concat(add_uu<2>(x, y))", None),
        ("a.concat(not_u<1>(x)).concat(not_u<1>(y))", None),
        ("memory_p_m.update(t.index, a, b, 0);", "wide::update(memory_p_m, t.index, a, b, 0);"),
        ("p_m.next.update(1)", None),
    ],
)
def test_shorten(before, after):
    assert shorten(f"x = {before};\n") == f"x = {before if after is None else after};\n"
