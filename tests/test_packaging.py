"""The package list in pyproject.toml against the folders on disk."""

import importlib.util
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
TOP_LEVEL = {path.parent.name for path in ROOT.glob("*/__init__.py")}


def packages_on_disk() -> set[str]:
    """Every folder with an `__init__.py` under a top-level package, as a dotted lutcore name."""
    found = set()
    for top in TOP_LEVEL:
        for init in (ROOT / top).rglob("__init__.py"):
            found.add(".".join(("lutcore", *init.parent.relative_to(ROOT).parts)))
    return found


def test_every_package_is_listed():
    assert set(SETUPTOOLS["packages"]) == packages_on_disk()
    assert len(SETUPTOOLS["packages"]) == len(set(SETUPTOOLS["packages"]))


def test_every_module_lies_in_a_package():
    for top in TOP_LEVEL:
        for module in (ROOT / top).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), f"{module} is in no package"


def test_package_dir_points_at_the_folders():
    assert SETUPTOOLS["package-dir"] == {f"lutcore.{top}": top for top in TOP_LEVEL}


def test_every_data_file_is_in_the_wheel():
    patterns = SETUPTOOLS["package-data"]["*"]
    for top in TOP_LEVEL:
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and path.suffix not in {".py", ".pyc"}:
                assert any(path.match(pattern) for pattern in patterns), f"{path} is left out"


def test_imports_resolve_to_this_tree():
    for top in TOP_LEVEL:
        spec = importlib.util.find_spec(f"lutcore.{top}")
        assert spec is not None and spec.origin is not None
        assert Path(spec.origin).resolve() == ROOT / top / "__init__.py"


def test_typing_links_reach_every_package():
    links = ROOT / "tests" / "typing" / "lutcore"
    assert {link.name: link.resolve() for link in links.iterdir()} == {
        top: ROOT / top for top in TOP_LEVEL
    }


def test_dependencies_are_pinned():
    project = PROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (item for group in groups for item in group):
        assert "==" in requirement, f"{requirement} is not pinned to one version"
