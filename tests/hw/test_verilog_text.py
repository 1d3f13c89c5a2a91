"""What is changed in the text of the Verilog."""

import subprocess
from pathlib import Path

from lutcore.hw.verilog_text import (
    cleared_in_pieces,
    scrambled,
    started,
    without_brackets,
    without_clears,
)


def test_words_that_begin_with_a_value_are_left_alone() -> None:
    block = (
        "  initial begin\n" + "".join(f"    m[{i}] = 8'h0{i % 2};\n" for i in range(40)) + "  end\n"
    )
    assert cleared_in_pieces(block) == without_clears(block) == block


def test_words_that_begin_with_zero_can_be_left_out() -> None:
    words = "    m[0] = 8'h00;\n    m[1] = 8'h00;\n"
    module = "module a();\n  reg [7:0] m [1:0];\n{}endmodule\n"
    assert without_clears(module.format(f"  initial begin\n{words}  end\n")) == module.format("")


def test_a_process_of_a_constant_runs_at_the_start() -> None:
    text = "module m(a);\n  output a;\n  reg a;\n  always @*\n    a = 1'h1;\nendmodule\n"
    assert started(text) == (
        "module m(a);\n  reg \\$start ;\n  initial \\$start <= 1'h0;\n  output a;\n  reg a;\n"
        "  always @* begin\n    if (\\$start ) begin end\n    a = 1'h1;\n  end\nendmodule\n"
    )
    untouched = "module m(a);\n  output a;\nendmodule\n"
    assert started(untouched) == untouched


def test_names_that_abc_would_take_for_bits_are_renamed() -> None:
    text = "wire \\sums[3] ; wire \\sums__3 ; wire [3:0] other;"
    assert without_brackets(text) == "wire \\sums__3_ ; wire \\sums__3 ; wire [3:0] other;"


def test_memories_begin_with_other_random_words_each(tmp_path: Path) -> None:
    words = "".join(f"    \\m[0] [{i}] = 40'h0;\n" for i in range(20))
    text = scrambled(
        "module a();\n  reg [39:0] \\m[0] [19:0];\n  reg [3:0] n [1:0];\n"
        + cleared_in_pieces(f"  initial begin\n{words}  end\n")
        + "  initial begin\n    n[0] = 4'h0;\n    n[1] = 4'h7;\n  end\n"
        "  integer k;\n  initial begin\n    #1;\n    for (k = 0; k < 20; k = k + 1)\n"
        '      $display("%h", \\m[0] [k]);\n    $display("%h%h", n[0], n[1]);\n  end\nendmodule\n'
    )
    (tmp_path / "a.v").write_text(text, encoding="utf-8")
    subprocess.run(["iverilog", "-g2012", "-o", "a", "a.v"], cwd=tmp_path, check=True)
    out = subprocess.run(
        ["vvp", "a"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout.split()
    assert len(set(out[:20])) == 20
    assert all(int(word, 16) >> 32 for word in out[:15:5]), "the upper words are random, too"
    assert out[20] == "07", "what is given a value keeps it"
