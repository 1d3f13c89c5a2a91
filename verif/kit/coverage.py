"""What of the declared coverage a regression has reached; a bin that nothing hit is a hole."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from lutcore.verif.kit.env import COVERAGE_FILE
from lutcore.verif.kit.points import points

__all__ = ["hits", "holes"]


def hits(folders: Iterable[Path]) -> dict[str, dict[str, int]]:
    """By point and bin: in how many jobs it was hit.

    Parameters
    ----------
    folders
        Of the jobs.
    """
    counted = {name: dict.fromkeys(point.bins, 0) for name, point in points().items()}
    for folder in folders:
        file = folder / COVERAGE_FILE
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        for line in set(lines):
            point, bin = line.split("\t")
            counted[point][bin] += 1
    return counted


def holes(counted: Mapping[str, Mapping[str, int]], benches: Iterable[str]) -> list[str]:
    """Bins without a hit, of the points whose benches have all taken part."""
    took_part = set(benches)
    return [
        f"{name}: {bin}"
        for name, point in points().items()
        if took_part.issuperset(point.benches)
        for bin, count in counted[name].items()
        if not count
    ]
