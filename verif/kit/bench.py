"""What a testbench is, and what it says of the design."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lutcore.hw.contract.config import CoreConfig

if TYPE_CHECKING:
    from lutcore.verif.kit.env import Settings

__all__ = ["Bench", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """The verdict on one test of a bench.

    Attributes
    ----------
    name
        Of the test.
    seconds
        How long it took.
    failure
        What is wrong, first line first; None if the test has passed.
    skipped
        It did not run, because the configuration has nothing to test there.
    figures
        Numbers worth adding up over the regression, such as cycles or programs.
    """

    name: str
    seconds: float = 0.0
    failure: str | None = None
    skipped: bool = False
    figures: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """One testbench.

    Attributes
    ----------
    name
        As in ``--unit``.
    module
        Python module with the cocotb tests; of a bench that is none, the module of `runs`.
    top
        Module of the Verilog under test.
    verilog
        Gives the Verilog of a configuration.
    core
        Whether the design under test is the whole core, which ``--rtl`` replaces.
    summary
        What it checks, in a line.
    runs
        For a bench that is no cocotb bench: runs it, in a process of its own, on the generated core
        or on the Verilog of a file, all tests or the one that is named.
    applies
        Whether there is anything to test in a configuration.
    prepare
        What is done to the Verilog before it is tested.
    slow
        Whether it runs only in the full regression and when it is asked for by name.
    """

    name: str
    module: str
    top: str
    verilog: Callable[[CoreConfig], str]
    core: bool
    summary: str
    runs: "Callable[[Settings, Path | None, str | None], list[Outcome]] | None" = None
    applies: Callable[[CoreConfig], bool] = lambda config: True
    prepare: Callable[[str], str] = lambda verilog: verilog
    slow: bool = False
