"""Changes to Verilog as Yosys writes it, for the tools that read it."""

import re
from collections import Counter
from collections.abc import Mapping

__all__ = [
    "WAIVERS",
    "cleared_in_pieces",
    "scrambled",
    "started",
    "with_named_ports",
    "with_origins",
    "without_brackets",
    "without_clears",
    "without_empty_wires",
    "without_initial_values",
]

#: What lint is not to say of the generated file, and why. Stands at its top.
WAIVERS = """\
// Left to the rules of Verilog, which extend and cut as meant here:
/* verilator lint_off WIDTHEXPAND */
/* verilator lint_off WIDTHTRUNC */
// A limit may be the most that a counter holds:
/* verilator lint_off UNSIGNED */
/* verilator lint_off CMPCONST */
// A variable has its default before each case; registers keep their value:
/* verilator lint_off CASEINCOMPLETE */
// Makes simulators begin with every process waiting, see `started` in lutcore.hw.verilog_text:
/* verilator lint_off INITIALDLY */
"""

#: A block that sets words of a memory to zero, as Yosys writes it.
_CLEAR = re.compile(
    r"^  initial begin\n((?:    \S+ ?\[\d+\] = \d+'[hd]0+;\n)+)  end\n", re.MULTILINE
)
#: All blocks of a memory, one behind the other.
_CLEARED = re.compile(
    r"(?:^  initial begin\n(?:    (?P<name>\S+ ?)\[\d+\] = (?P<width>\d+)'[hd]0+;\n)+  end\n)+",
    re.MULTILINE,
)

#: A register with the value that it has at the start of a simulation.
_INITIALISED = re.compile(
    r"^(  reg (?:signed )?(?:\[\d+:\d+\] )?\S+ ?) = \d+'s?[hdb][0-9a-f]+;$", re.MULTILINE
)


def without_brackets(text: str) -> str:
    r"""Rename escaped identifiers such as ``\sums[3]`` to ``\sums__3``.

    Amaranth names the elements of an array so. Yosys takes them, but after flattening ABC cannot
    tell them from bit 3 of a vector ``sums``, and stops ``synth_ecp5`` without a word.
    """
    escaped = set(re.findall(r"\\\S+", text))
    taken = escaped | {f"\\{word}" for word in re.findall(r"[A-Za-z_]\w*", text)}
    renamed = {}
    for name in sorted(escaped):
        if "[" in name:
            plain = re.sub(r"\[(\d+)\]", r"__\1", name)
            while plain in taken:
                plain += "_"
            taken.add(plain)
            renamed[name] = plain
    return re.sub(r"\\\S+", lambda match: renamed.get(match[0], match[0]), text)


def cleared_in_pieces(text: str) -> str:
    """Clear memories at the start of a simulation in blocks of a few words each.

    They are cleared word by word, and the time that Yosys takes to read a block is quadratic in
    its length: 48 s for a core with the sizes of `default`, 9 s like this.
    """

    def in_pieces(block: re.Match[str], size: int = 16) -> str:
        lines = re.sub(r"'[hd]0+;", "'h0;", block[1]).splitlines(keepends=True)
        pieces = (lines[i : i + size] for i in range(0, len(lines), size))
        return "".join(f"  initial begin\n{''.join(piece)}  end\n" for piece in pieces)

    return _CLEAR.sub(in_pieces, text)


def without_clears(text: str) -> str:
    """Verilog for a simulator whose memories are zero at the start anyway."""
    return _CLEAR.sub("", text)


def scrambled(text: str) -> str:
    """Begin a simulation with random words in the memories, whatever is zero there otherwise.

    A reset leaves in a memory what was there. Nothing may depend on it, or it would on the program
    before; all zeros hide that, and are what a core never finds again after its first program.
    Words of which nothing is known would be too much: where a layer has no more columns, indices
    are whatever the buffer holds, and look up a table of zeros. A simulator cannot see that any
    of them gives zero.
    """

    def loop(match: re.Match[str]) -> str:
        words = [int(number) for number in re.findall(r" ?\[(\d+)\] = ", match[0])]
        value = ", ".join(["$urandom"] * -(-int(match["width"]) // 32))
        return (
            f"  initial begin : scramble_{match.start()}\n    integer i;\n"
            f"    for (i = {min(words)}; i <= {max(words)}; i = i + 1)\n"
            f"      {match['name']}[i] = {{{value}}};\n  end\n"
        )

    return _CLEARED.sub(loop, text)


def without_initial_values(text: str) -> str:
    """Leave registers as they are at power-up: unknown, or random where a simulator has no unknown.

    Yosys gives every register the value that it has after a reset, those without a reset too. What
    a standard cell or an FPGA's flip-flop holds before the reset is not told by that.
    """
    return _INITIALISED.sub(r"\1;", text)


def started(text: str) -> str:
    """Make combinational processes run at the start of a simulation, whatever the simulator.

    Yosys lets them depend on a register that is set to 0 where it is declared. By the rules of
    SystemVerilog that happens before any process waits, so that none wakes up, and outputs are
    unknown until an input changes; one that assigns a constant does not depend on anything. Here
    the register is set by a non-blocking assignment, which comes after all processes have begun
    to wait.
    """
    modules = re.split(r"^(?=module )", text, flags=re.MULTILINE)
    return "".join(map(_started_module, modules))


def _started_module(text: str) -> str:
    found = re.search(r"^  reg (\\\S*dump_module\S* ) = 0;\n", text, re.MULTILINE)
    start = found[1] if found else "\\$start "
    text = re.sub(
        r"^  always @\*\n    (.*;)\n",
        lambda match: f"  always @* begin\n    if ({start}) begin end\n    {match[1]}\n  end\n",
        text,
        flags=re.MULTILINE,
    )
    declared = f"  reg {start};\n  initial {start}<= 1'h0;\n"
    if found:
        return text.replace(found[0], declared)
    if start not in text:
        return text
    # Behind the header, which ends with the first line that does.
    return re.sub(r"\);\n", lambda match: match[0] + declared, text, count=1)


def without_empty_wires(text: str) -> str:
    """Leave out declarations of wires without bits: nothing uses them, and Verilog has none."""
    return re.sub(r"^ *(?:wire|reg) \[-1:0\] \S+ ?;\n", "", text, flags=re.MULTILINE)


def with_named_ports(text: str) -> str:
    r"""Rename ports such as ``\\port$1633$0`` by a net that they are connected to.

    Amaranth calls a port so where it passes an expression, such as what a memory's port reads, from
    one module to another. The number stays, so that names differ in every module.
    """
    ports = r"\\port\$(\d+)\$\d+"
    found: dict[str, Counter[str]] = {}
    for name, number in re.findall(rf"\.(\\?\w[\w$.]*) ?\({ports} ?\)", text):
        found.setdefault(number, Counter())[name] += 1
    for number, name in re.findall(rf"\.{ports} \((\\?\w[\w$.]*) ?\)", text):
        found.setdefault(number, Counter())[name] += 1
    for name, number in re.findall(rf"assign (\\?\w[\w$.]*) (?:\[[\d:]+\] )?= {ports} ?;", text):
        found.setdefault(number, Counter())[name] += 1

    def renamed(match: re.Match[str]) -> str:
        names = found.get(match[1], Counter())
        plain = [re.sub(r"\$\d+$", "", name.lstrip("\\")) for name in names.elements()]
        plain = [re.sub(r"\W", "_", name) for name in plain if not name.startswith(("port$", "$"))]
        best = max(
            Counter(plain).items(), key=lambda item: (item[1], item[0]), default=("value", 0)
        )
        return f"\\{best[0]}${match[1]} "

    return re.sub(rf"{ports} ?", renamed, text)


def with_origins(text: str, classes: Mapping[str, str]) -> str:
    """Name before each module the Python class that it comes from."""

    def named(match: re.Match[str]) -> str:
        module = match[1].lstrip("\\")
        origin = classes.get(module)
        return f"// {origin}\n{match[0]}" if origin else match[0]

    return re.sub(r"^module (\\?[^\s(]+)", named, text, flags=re.MULTILINE)
