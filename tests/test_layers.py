"""Which package may import which: arrows point down only, and no two modules import each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = ("hw", "sim", "sw", "verif", "fpga")
#: Most Python files in a folder.
MOST_FILES = 20

#: From the bottom up. A package may import those of its own line and of the lines above it here.
LAYERS = (
    ("hw.contract",),
    ("hw.util",),
    ("hw.cells",),
    ("hw.memory",),
    ("hw.control",),
    ("hw.compute", "hw.transfer"),
    ("hw",),
    ("sw.base",),
    ("sw.layers",),
    ("sw.models", "sw.program"),
    ("sim.machine", "sim.rtl"),
    ("sim",),
    ("sim.devices",),
    ("sim.cycles",),
    ("sw.app",),
    ("fpga", "sw", "verif"),
)
#: Software knows what it shares with the hardware, not the circuits.
CONTRACT_ONLY = ("sw.base", "sw.layers", "sw.models", "sw.program")
#: The command line alone knows verification and FPGA tools, which it loads when they are asked for.
COMMAND_LINE = "sw.app.cli"


def modules() -> dict[str, Path]:
    """Every module of the packages by its name without ``lutcore``."""
    found = {}
    for top in TOP_LEVEL:
        for file in (ROOT / top).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules of this project that a module imports, anywhere in its text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in members if name.removeprefix("lutcore.") in MODULES]
            names = known or [node.module]
        else:
            continue
        yield from (name.removeprefix("lutcore.") for name in names if name.startswith("lutcore."))


IMPORTS = {
    name: set(imports(ast.parse(file.read_text(encoding="utf-8"))))
    for name, file in MODULES.items()
}


def layer_of(module: str) -> tuple[int, str]:
    """Number and name of the layer that says most about where a module belongs."""
    fitting = [
        (len(name), number, name)
        for number, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    _, number, name = max(fitting)
    return number, name


def upward(module: str, imported: set[str]) -> list[str]:
    """Which of its imports a module must not have."""
    own, package = layer_of(module)
    wrong = []
    for other in sorted(imported):
        layer, _ = layer_of(other)
        top = other.partition(".")[0]
        if (layer > own and not (module == COMMAND_LINE and top in ("verif", "fpga"))) or (
            package in CONTRACT_ONLY and top == "hw" and not other.startswith("hw.contract")
        ):
            wrong.append(other)
    return wrong


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_import_goes_up(module: str) -> None:
    assert not upward(module, IMPORTS[module])


def test_the_golden_model_is_independent() -> None:
    """Of the packer, of the instruction set and its simulator, of widths, of the hardware."""
    assert all(name.startswith(("sw.base", "sw.layers")) for name in IMPORTS["sim.golden"])


def test_no_two_modules_import_each_other() -> None:
    def reachable(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            for other in IMPORTS.get(waiting.pop(), ()):
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        return found

    # The facade `lutcore.sw` loads what it offers only when asked, and nothing inside uses it.
    circles = [name for name in MODULES if name != "sw" and name in reachable(name)]
    assert not circles


def test_folders_are_small() -> None:
    for folder in {file.parent for file in MODULES.values()}:
        count = len(list(folder.glob("*.py")))
        assert count <= MOST_FILES, f"{folder.relative_to(ROOT)} has {count} Python files"


def test_every_package_says_what_lives_in_it() -> None:
    for name, file in MODULES.items():
        if file.name == "__init__.py":
            assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), name


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("hw.memory.dma", "hw.control.fetch"),
        ("sw.program.pack", "sim.golden"),
        ("sw.program.pack", "hw.memory.dma"),
        ("sim.devices.driver", "sw.app.report"),
        ("sw.app.demo", "verif.kit.env"),
    ],
)
def test_an_import_that_goes_up_is_found(module: str, imported: str) -> None:
    assert upward(module, {imported}) == [imported]
