"""``lutcore verify``: the regression."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lutcore.sw.base.options import JOBS, Jobs, Scheduler

__all__ = ["verify"]


class Sim(StrEnum):
    """Simulators of the cocotb benches."""

    ICARUS = "icarus"
    VERILATOR = "verilator"


def verify(
    source: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="CONFIG",
            help="Core: a preset, a file, or a name from the regression. Default: tiny.",
        ),
    ] = None,
    sim: Annotated[
        Sim | None, typer.Option(help="Simulator of the cocotb benches. Default: icarus.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Of all random numbers.")] = 1,
    unit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Bench to run, repeatable. Default: all."),
    ] = None,
    test: Annotated[
        str | None, typer.Option(metavar="NAME", help="Run this test of the bench alone.")
    ] = None,
    effort: Annotated[
        int, typer.Option(metavar="N", min=1, help="How much stimulus, 1 is little.")
    ] = 1,
    jobs: Jobs = JOBS,
    scheduler: Scheduler = None,
    rtl: Annotated[
        Path | None,
        typer.Option(metavar="FILE.v", help="Test this Verilog instead of the generated core."),
    ] = None,
    waves: Annotated[bool, typer.Option("--waves", help="Record waveforms.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="The full regression, over many configurations.")
    ] = False,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for results.")
    ] = Path("build/verify"),
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JUnit XML. Default: DIR/junit.xml.")
    ] = None,
) -> None:
    """Test the RTL: units and whole core, with random stimulus, against the golden model.

    \b
      lutcore verify                                   # all benches on the preset tiny
      lutcore verify --config my.toml --sim verilator
      lutcore verify --unit core --rtl netlist.v       # an edited file or a netlist
      lutcore verify --full --jobs 4                   # what a release has to pass

    Benches of units: table, lanes, accumulators, scale, dma_read, dma_write, fetch, csr; of the
    whole core: core, faults, programs, directed, and gates (the netlist after synthesis), which is
    slow and runs only with --full or --unit gates.

    The benches are cocotb testbenches on the generated Verilog; the whole core has an AXI4 memory
    and an AXI4-Lite host around it. Programs and directed run on the compiled RTL. The exit status
    is 0 if everything has passed, 1 if something has failed, 2 if it could not be run. Every
    failure names the seed, the configuration, the cycle, the first wrong value, and the command
    that repeats just that test.

    --rtl takes Verilog with the ports of the generated core, such as an edited file or a gate-level
    netlist; it is tested by the benches of the whole core. --full runs over many configurations,
    and fails if functional coverage has a hole.
    """
    from lutcore.verif.regression.verify import Request, verify_request

    raise typer.Exit(
        verify_request(
            Request(
                source=source,
                sim=None if sim is None else sim.value,
                seed=seed,
                units=tuple(unit or ()),
                test=test,
                effort=effort,
                jobs=jobs,
                scheduler=scheduler,
                rtl=rtl,
                waves=waves,
                full=full,
                output=output,
                junit=junit,
            )
        )
    )
