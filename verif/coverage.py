"""Functional coverage: the points that are declared, and what of them was hit."""

from lutcore.sw.errors import LutcoreError

__all__ = ["POINTS", "check_declared"]

#: Bins of each point.
POINTS: dict[str, tuple[str, ...]] = {}


def check_declared(point: str, bin: str) -> None:
    """Refuse a bin that is not declared.

    Raises
    ------
    LutcoreError
        Naming the point and the bin.
    """
    if bin not in POINTS.get(point, ()):
        raise LutcoreError(f"coverage bin {bin!r} of {point!r} is not declared")
