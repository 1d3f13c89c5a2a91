"""Rewrite the C++ that ``write_cxxrtl`` generates, for compilers to digest and to run fast.

A flattened design is evaluated by one C++ function as long as the design. Compilers take more than
linear time over it: a core of 4,096 weight-bit MACs per cycle, more than 400 s; in pieces, 45 s,
and the result runs as fast. The pieces can also be compiled in parallel.
"""

import re
from dataclasses import dataclass

__all__ = ["SplitSource", "shorten", "split_eval"]

#: Characters per function. Compile time is flat from 4,000 to 12,000.
_FUNCTION_CHARACTERS = 8_000

_EVAL = re.compile(r"^bool (p_\w+)::eval\(performer \*performer\) \{\n(.*?)^\}\n", re.M | re.S)
_DECLARATION = re.compile(r"^\tbool eval\(performer", re.M)
_LOCAL = re.compile(r"\t(value<\d+> (\w+)(?: \{[^}]*\})?;)")
_EDGE = re.compile(r"\t(bool ((?:pos|neg)edge_p_\w+) = .*;)")
_UPDATE = re.compile(r"\b(memory_\w+)\.update\(")
_CONCATENATED_BIT = re.compile(r"\.concat\((?=[a-z_]+<1>\()")
_NAMESPACE = "namespace cxxrtl_design {\n"
_PARENTHESIS = re.compile(r"[()]")
_NAME = re.compile(r"\b[pi]_\w+")


@dataclass(frozen=True)
class SplitSource:
    """Generated C++ in pieces.

    Attributes
    ----------
    header
        Text of ``lutcore.h``, the pieces declared.
    units
        Translation units; the first also holds everything that is not evaluation.
    """

    header: str
    units: list[str]


def split_eval(
    header: str, source: str, *, always_edge: str | None, units: int, unit_characters: int
) -> SplitSource:
    """Cut the evaluation function into member functions, spread over translation units.

    Parameters
    ----------
    header, source
        As written by ``write_cxxrtl -header`` for one flattened module.
    always_edge
        Clock at whose rising edges alone the model is ever evaluated, if there is one: the
        tests for its edge are then left out.
    units
        Largest number of translation units.
    unit_characters
        Size below which another translation unit is not worth its overhead.

    Returns
    -------
    SplitSource
        The same model. If the source has not the expected form, it comes back in one piece.
    """
    found = _EVAL.search(source)
    parsed = _parse(found.group(2)) if found else None
    if found is None or parsed is None:
        return SplitSource(header, [source])
    model = found.group(1)
    pieces = _gather(parsed.groups)

    used: dict[str, set[int]] = {}
    for index, piece in enumerate(pieces):
        for name in set(_NAME.findall(piece)) & parsed.locals.keys():
            used.setdefault(name, set()).add(index)

    constant = f"posedge_p_{always_edge}"
    edges = [edge for edge in parsed.edges if edge != constant]
    prelude = f"\t[[maybe_unused]] constexpr bool {constant} = true;\n" if always_edge else ""
    parameters = ", ".join(["performer *performer", *(f"bool {edge}" for edge in edges)])
    arguments = ", ".join(["performer", *edges])
    functions = []
    for index, piece in enumerate(pieces):
        own = "".join(f"\t{parsed.locals[name]}\n" for name in used if used[name] == {index})
        functions.append(
            f"void {model}::eval_{index}({parameters}) {{\n{prelude}{own}{piece}}}\n\n"
        )

    calls = "".join(f"\teval_{index}({arguments});\n" for index in range(len(pieces)))
    caller = (
        f"bool {model}::eval(performer *performer) {{\n"
        + "".join(f"\t{parsed.edges[edge]}\n" for edge in edges)
        + f"{calls}\treturn {str(parsed.converges).lower()};\n}}\n"
    )
    # Values that pass from piece to piece live in the model.
    members = [f"\t{parsed.locals[name]}\n" for name, where in used.items() if len(where) > 1]
    members += [f"\tvoid eval_{index}({parameters});\n" for index in range(len(pieces))]
    new_header = _DECLARATION.sub(
        lambda declaration: "".join(members) + declaration.group(), header, count=1
    )

    wanted = sum(map(len, functions)) // unit_characters
    count = max(1, min(units, wanted, len(functions)))
    shares = ["".join(functions[first::count]) for first in range(count)]
    main = source[: found.start()] + shares[0] + caller + source[found.end() :]
    opening = source[: found.start()].partition(_NAMESPACE)[0] + _NAMESPACE
    return SplitSource(new_header, [main, *(f"{opening}\n{share}}}\n" for share in shares[1:])])


def shorten(source: str) -> str:
    """Replace two idioms that cost much simulation time; nothing changes in what is computed.

    The replacements call for ``cxxrtl_wide.h``.

    - A computed bit that fills several places is concatenated with itself place by place.
    - A memory port queues its write in every cycle, even where it writes no bit.
    """
    source = _UPDATE.sub(r"wide::update(\1, ", source)
    parts: list[str] = []
    done = 0
    for found in _CONCATENATED_BIT.finditer(source):
        if found.start() < done:
            continue
        end = _closing(source, found.end())
        once = source[found.start() : end]
        count = 1
        while source.startswith(once, end):
            end += len(once)
            count += 1
        if count > 1:
            parts += [source[done : found.start()], f"{once[:-1]}.repeat<{count}>())"]
            done = end
    return "".join(parts) + source[done:]


def _closing(text: str, start: int) -> int:
    """Index after the parenthesis that closes the one before `start`."""
    depth = 1
    for found in _PARENTHESIS.finditer(text, start):
        depth += 1 if found.group() == "(" else -1
        if depth == 0:
            return found.end()
    return len(text)


@dataclass(frozen=True)
class _Body:
    converges: bool
    locals: dict[str, str]  # Name to declaration.
    edges: dict[str, str]  # Name to declaration.
    groups: list[str]  # Statements that must stay together.


def _parse(body: str) -> _Body | None:
    """Take the function apart; None if it is not of the form that this module knows."""
    lines = body.splitlines()
    converged = re.fullmatch(r"\tbool converged = (true|false);", lines[0])
    if converged is None or lines[-1] != "\treturn converged;":
        return None
    local: dict[str, str] = {}
    edges: dict[str, str] = {}
    groups: list[str] = []
    for line in lines[1:-1]:
        if line.startswith("\t//"):
            # A comment names the source of what follows it, and stands only between statements.
            groups.append("")
        elif match := _LOCAL.fullmatch(line):
            local[match.group(2)] = match.group(1)
        elif match := _EDGE.fullmatch(line):
            edges[match.group(2)] = match.group(1)
        elif groups:
            groups[-1] += line + "\n"
        else:
            return None
    return _Body(converged.group(1) == "true", local, edges, groups)


def _gather(groups: list[str]) -> list[str]:
    pieces = [""]
    for group in groups:
        if len(pieces[-1]) > _FUNCTION_CHARACTERS:
            pieces.append("")
        pieces[-1] += group
    return pieces
