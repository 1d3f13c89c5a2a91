"""Runs random programs by hand: ``python -m lutcore.verif.programs.by_hand --help``.

The regression runs the same ones as the bench "programs" of ``lutcore verify``.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from lutcore.hw.contract.config import ConfigError, CoreConfig
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.files import write_file
from lutcore.verif.kit.configurations import CONFIGURATIONS, configuration
from lutcore.verif.programs.bench import KINDS, Tally, listing, model_of_file, run_programs

__all__ = ["main"]

#: Programs between two looks at the progress.
_STEP = 8


def main(arguments: list[str] | None = None) -> int:
    """The command line; 1 if a program fails."""
    parser = argparse.ArgumentParser(
        prog="python -m lutcore.verif.programs.by_hand",
        description="Run random programs on the RTL and on the instruction-set simulator.",
    )
    parser.add_argument(
        "--config",
        default="tiny",
        help="preset, file, or configuration of the regression: " + ", ".join(CONFIGURATIONS),
    )
    parser.add_argument("--kind", choices=KINDS, help="default: both")
    parser.add_argument("--count", type=int, default=100, help="programs of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rtl", type=Path, metavar="FILE.v", help="another core's Verilog")
    options = parser.parse_args(arguments)
    try:
        config = configuration(options.config)
        kinds = [options.kind] if options.kind else list(KINDS)
        return max(_run(config, kind, options) for kind in kinds)
    except (ConfigError, LutcoreError) as error:
        print(error, file=sys.stderr)
        return 2


def _run(config: CoreConfig, kind: str, options: argparse.Namespace) -> int:
    tally, started = Tally(), time.monotonic()
    model = None if options.rtl is None else model_of_file(options.rtl, config)
    stop = options.first + options.count
    with Console(stderr=True).status("") as status:
        for first in range(options.first, stop, _STEP):
            status.update(f"{kind} program {first} of {stop}")
            numbers = range(first, min(first + _STEP, stop))
            failure = run_programs(config, kind, options.seed, numbers, tally, model)
            if failure is not None:
                path = Path(tempfile.gettempdir()) / f"lutcore-{kind}-{failure.number}.lasm"
                write_file(path, listing(failure))
                other = "" if model is None else f" --rtl {options.rtl}"
                print(
                    f"{kind} program {failure.number}, seed {options.seed}, {options.config}: "
                    f"{failure.why}\n{path}\nrepeat: python -m lutcore.verif.programs.by_hand "
                    f"--config {options.config} --kind {kind} --seed {options.seed} "
                    f"--first {failure.number} --count 1{other}"
                )
                return 1
    causes = ", ".join(
        f"{cause.name if cause else 'END'} {count}" for cause, count in sorted(tally.causes.items())
    )
    print(
        f"{kind}: {tally.programs} programs, {tally.cycles} cycles, "
        f"{time.monotonic() - started:.0f} s: {causes}; "
        f"{tally.doubtful} with several outcomes, {tally.undefined} undefined"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
