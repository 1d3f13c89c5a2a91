"""The documented members of every component against its signature."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

HW = Path(__file__).resolve().parents[2] / "hw"


def components() -> Iterator[tuple[str, ast.ClassDef]]:
    """Every class of the hardware that is a component, by its file and name."""
    for file in sorted(HW.rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base) for base in node.bases}
                if "wiring.Component" in bases:
                    yield f"{file.relative_to(HW).with_suffix('')}.{node.name}", node


COMPONENTS = dict(components())


def signature_of(node: ast.ClassDef) -> set[str]:
    """Names in the dictionary that the class hands to ``wiring.Component``."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
            (argument,) = call.args
            assert isinstance(argument, ast.Dict), "the signature is written where it is handed on"
            names = {key.value for key in argument.keys if isinstance(key, ast.Constant)}
            # Members that come in numbers or from elsewhere have their names in an f-string or in
            # another signature.
            if len(names) < len(argument.keys):
                names.add("*")
            return names
    raise AssertionError("the class has no signature")


def documented(node: ast.ClassDef) -> set[str]:
    """Names in the section ``Members`` of the docstring."""
    text = ast.get_docstring(node) or ""
    section = re.search(
        r"^Members\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", text, re.MULTILINE | re.DOTALL
    )
    lines = section[1].splitlines() if section else []
    heads = [line for line in lines if line and not line.startswith(" ")]
    return {name.partition(":")[0].strip() for head in heads for name in head.split(",")}


def gone(node: ast.ClassDef) -> set[str]:
    """Members that are documented and not there."""
    found = signature_of(node)
    return set() if "*" in found else documented(node) - found


def test_there_are_components() -> None:
    assert len(COMPONENTS) > 25


@pytest.mark.parametrize("name", COMPONENTS)
def test_documented_members_exist(name: str) -> None:
    assert gone(COMPONENTS[name]) == set()


def test_a_wrong_docstring_is_found() -> None:
    source = '''
class Unit(wiring.Component):
    """A unit.

    Members
    -------
    i, gone
        What comes.

    Attributes
    ----------
    width
        Of ``i``.
    """

    def __init__(self):
        super().__init__({"i": In(1), "o": Out(1)})
'''
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.ClassDef)
    assert gone(node) == {"gone"}
