"""Options that all commands with long work have."""

import os
from typing import Annotated

import typer

__all__ = ["JOBS", "Jobs", "Scheduler"]

#: Default of `Jobs`.
JOBS = os.cpu_count() or 1

Jobs = Annotated[
    int, typer.Option("--jobs", "-j", min=1, metavar="J", help="Processes on this machine.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler", metavar="ADDRESS", help="Work on a Dask cluster, e.g. tcp://host:8786."
    ),
]
