"""Tables as text."""

import io

from rich.console import Console
from rich.table import Table

__all__ = ["rendered"]


def rendered(table: Table, width: int) -> str:
    """A table of at most ``width`` columns, without colours."""
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()
