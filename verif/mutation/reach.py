"""States that a module never gets into, found and proved by induction.

Of each narrow register it is claimed at first that it never has any value but the one that it
starts from, and of two of them that they never have any two values at once. A solver looks for a
state in which all claims hold, and for inputs after which one does not; what the next state
breaks is dropped, until the rest is inductive. Inputs are free, reset included.
"""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lutcore.sim.rtl.build import run_yosys
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.mutation.rtlil import Text, join

__all__ = ["Fact", "exclude", "unreachable"]

#: Registers (names of their cells) and values that they never have at the same time.
Fact = tuple[tuple[str, int], ...]

#: Widest registers that claims are made of alone, and with another one.
_ALONE, _PAIRED = 4, 3
#: Most claims; those of pairs of wide registers are left out first.
_CLAIMS = 3000
#: Questions before it is given up, for either kind; seconds for each; states that answer one.
_QUESTIONS, _TIMEOUT, _STATES = (60, 25), 60, 40


def unreachable(folder: Path) -> list[Fact]:
    """Facts of the module ``gold`` in ``gold.il``, whose registers are cut out.

    Fewer than there are if the solver does not come to an end.
    """
    run_yosys(folder, "read_rtlil gold.il; write_json gold.json")
    module = json.loads((folder / "gold.json").read_text(encoding="utf-8"))["modules"]["gold"]
    starts = _starts(module)
    known: list[Fact] = []
    for more, questions in zip((_single(starts), _paired(starts)), _QUESTIONS, strict=True):
        settled = {fact[0] for fact in known}
        claims = [*known, *(claim for claim in more if not settled & set(claim))]
        try:
            known = _inductive(folder, module, claims, questions)
        except LutcoreError:
            break
    return known


def _inductive(
    folder: Path, module: dict[str, Any], claims: list[Fact], questions: int
) -> list[Fact]:
    """Those of the claims that hold together."""
    if not claims:
        return []
    cells = sorted({cell for claim in claims for cell, _ in claim})
    _write(folder, module, claims, cells)
    run_yosys(
        folder,
        "read_rtlil gold.il; read_rtlil reach.il; hierarchy -top miter; flatten; opt; clean; "
        "write_rtlil small.il",
        timeout=_TIMEOUT,
    )
    kept = [True] * len(claims)
    for _ in range(questions):
        states = _ask(folder, cells, kept)
        if not states:
            return [claim for claim, keep in zip(claims, kept, strict=True) if keep]
        for index, claim in enumerate(claims):
            if kept[index] and any(
                all(state[cell] == value for cell, value in claim) for state in states
            ):
                kept[index] = False
    raise LutcoreError("too many claims do not hold")


def exclude(
    text: Text, facts: Sequence[Fact], now: dict[str, str], widths: dict[str, int]
) -> list[str]:
    """Signals that are 1 if the state is none of those of the facts.

    Parameters
    ----------
    text
        The module to write to.
    facts
        States that are not reached.
    now, widths
        Value and width of each register.
    """
    is_value: dict[tuple[str, int], str] = {}
    parts = []
    for fact in facts:
        for cell, value in fact:
            if (cell, value) not in is_value:
                width = widths[cell]
                wanted = f"{width}'{value:0{width}b}"
                is_value[cell, value] = text.gate("$eq", 1, A=(now[cell], width), B=(wanted, width))
        both = join(is_value[part] for part in fact)
        reached = text.gate("$reduce_and", 1, A=(both, len(fact)))
        parts.append(text.gate("$not", 1, A=(reached, 1)))
    return parts


def _starts(module: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Width and first value of each narrow register that starts from a known one."""
    first: dict[int, str] = {}
    for net in module["netnames"].values():
        start = net.get("attributes", {}).get("init", "")
        for bit, value in zip(net["bits"], reversed(start), strict=False):
            if value in "01":
                first[bit] = value
    found = {}
    for name, port in module["ports"].items():
        cell = name[4:-2]
        if not name.startswith("cut:") or not name.endswith(":Q"):
            continue
        bits = port["bits"]
        if f"cut:{cell}:D" not in module["ports"] or len(bits) > _ALONE:
            continue
        if all(bit in first for bit in bits):
            value = int("".join(first[bit] for bit in reversed(bits)), 2)
            found[cell] = len(bits), value
    return found


def _single(starts: dict[str, tuple[int, int]]) -> list[Fact]:
    return [
        ((cell, value),)
        for cell, (width, start) in starts.items()
        for value in range(1 << width)
        if value != start
    ]


def _paired(starts: dict[str, tuple[int, int]]) -> Iterator[Fact]:
    count = 0
    pairs = itertools.combinations(sorted(starts, key=lambda cell: starts[cell][0]), 2)
    for left, right in pairs:
        (left_width, left_start), (right_width, right_start) = starts[left], starts[right]
        if max(left_width, right_width) > _PAIRED:
            continue
        both = itertools.product(range(1 << left_width), range(1 << right_width))
        count += 1 << (left_width + right_width)
        if count > _CLAIMS:
            return
        for a, b in both:
            if (a, b) != (left_start, right_start):
                yield (left, a), (right, b)


def _write(folder: Path, module: dict[str, Any], claims: list[Fact], cells: list[str]) -> None:
    """Write ``reach.il``: ``given`` if all claims that are not dropped hold, ``ok`` if after it."""
    text = Text()
    pins: dict[str, str] = {}
    for name, port in module["ports"].items():
        width = len(port["bits"])
        if port["direction"] == "input":
            pins[name] = text.port(f"\\in:{name}", width, "input")
        else:
            pins[name] = text.wire(width)
    text.instance("gold", "gold", pins)
    widths = {cell: len(module["ports"][f"cut:{cell}:Q"]["bits"]) for cell in cells}
    dropped = text.port("\\dropped", len(claims), "input")
    for name, pin in (("given", "Q"), ("ok", "D")):
        values = {cell: pins[f"cut:{cell}:{pin}"] for cell in cells}
        held = exclude(text, claims, values, widths)
        every = text.gate("$or", len(claims), A=(join(held), len(claims)), B=(dropped, len(claims)))
        result = text.gate("$reduce_and", 1, A=(every, len(claims)))
        text.connect(text.port(f"\\{name}", 1, "output"), result)
    for index, cell in enumerate(cells):
        text.connect(text.port(f"\\then_{index}", widths[cell], "output"), pins[f"cut:{cell}:D"])
    (folder / "reach.il").write_text(str(text), encoding="utf-8")


def _ask(folder: Path, cells: list[str], kept: list[bool]) -> list[dict[str, int]]:
    """States after which a claim that is kept does not hold; none if there are none."""
    bits = "".join("0" if keep else "1" for keep in reversed(kept))
    shown = " ".join(f"-show \\then_{index}" for index in range(len(cells)))
    log = run_yosys(
        folder,
        f"read_rtlil small.il; sat -max {_STATES} -set given 1 -set ok 0 "
        f"-set dropped {len(bits)}'b{bits} {shown} miter",
        timeout=_TIMEOUT,
    )
    states: list[dict[str, int]] = []
    for index, value in re.findall(r"^ +\\then_(\d+) .* ([01]+)$", log, re.MULTILINE):
        cell = cells[int(index)]
        if not states or cell in states[-1]:
            states.append({})
        states[-1][cell] = int(value, 2)
    if not states and "no model found" not in log:
        raise LutcoreError("Yosys's solver gave no answer")
    return states
