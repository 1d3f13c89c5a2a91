"""The command line: ``lutcore``."""

import io
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lutcore.fpga.density import command as bench_cli
from lutcore.fpga.explore.command import explore
from lutcore.fpga.timing.command import timing
from lutcore.hw.contract.config import PRESETS, ConfigError, CoreConfig, load_config
from lutcore.hw.contract.isa import EncodingError
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.formal.command import prove
from lutcore.verif.mutation.command import mutate
from lutcore.verif.regression.command import verify

if TYPE_CHECKING:
    import numpy as np

# What a command needs beyond this is imported inside it, so that --help does not wait for numpy.

__all__ = ["app", "main"]

app = typer.Typer(
    name="lutcore",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


bench_cli.app.command()(timing)
app.add_typer(bench_cli.app)
app.command()(explore)
app.command()(mutate)
app.command()(prove)
app.command()(verify)


class Backend(StrEnum):
    """Where a program runs."""

    GOLDEN = "golden"
    ISS = "iss"
    RTL = "rtl"


class Family(StrEnum):
    """What Verilog may be generated for."""

    ECP5 = "ecp5"
    XC7 = "xc7"
    ICE40 = "ice40"
    CELLS = "cells"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lutcore {version('lutcore')}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """A LUT tensor core: generate it, compile quantised layers for it, run them on it.

    \b
    From a checkpoint to a result on the generated RTL:
      lutcore layers model.gguf
      lutcore compile model.gguf --layer blk.0.ffn_up.weight --rows 1 -o up.prog
      lutcore run up.prog -i x.npy -o y.npy --on rtl --report report.json

    A CONFIG is the name of a preset or a TOML file with any of the keys that `lutcore config`
    prints.
    """


@app.command()
def config(
    source: Annotated[
        str | None, typer.Argument(metavar="[PRESET|FILE.toml]", show_default=False)
    ] = None,
) -> None:
    """Show a configuration, or the presets.

    With a preset or a file: every key, and what follows from them.

    The output is itself a configuration file:

    \b
      lutcore config default > my.toml
      lutcore config my.toml
    """
    if source is None:
        rows: list[Sequence[str]] = [
            ("preset", "rows", "lanes", "group", "depth", "planes", "table", "bus", "peak")
        ]
        for name, preset in PRESETS.items():
            sizes = (preset.rows, preset.lanes, preset.group, preset.depth, preset.planes)
            table = f"{preset.table_store} {preset.table_form}"
            row = (name, *sizes, table, preset.bus_width, preset.peak)
            rows.append([str(cell) for cell in row])
        typer.echo(_columns(rows))
        return
    typer.echo(_sheet(load_config(source)), nl=False)


@app.command()
def generate(
    source: Annotated[str, typer.Argument(metavar="CONFIG", show_default=False)],
    folder: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder, made if missing.")
    ],
    family: Annotated[
        Family | None,
        typer.Option(help="What it is for; default: Verilog that is good for anything."),
    ] = None,
) -> None:
    """Write the core as Verilog.

    \b
      lutcore generate default -o build/rtl
      lutcore generate default --family ecp5 -o build/ecp5

    DIR/lutcore.v is one file of plain Verilog-2001, top module `lutcore`, and the same from run
    to run. DIR/lutcore.json has ports, parameters, the register map and the fingerprint.

    With --family ecp5 or xc7 the adders of the array are carry cells of that family (CCU2C;
    CARRY4 and LUT6_2), into which Yosys by itself packs less; the core does the same, in fewer
    LUTs. On xc7 the array's data have resets, too, which keep shift registers out of the LUTs.
    For ice40 and cells (standard cells) the weights' registers have none either.
    """
    from lutcore.hw.export import describe, generate_verilog
    from lutcore.sw.base.files import OutputError, write_file

    chosen = load_config(source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from None
    with _status("Generating Verilog"):
        verilog, description = generate_verilog(chosen, family and family.value), describe(chosen)
    write_file(folder / "lutcore.v", verilog)
    write_file(folder / "lutcore.json", json.dumps(description, indent=2) + "\n")
    for name in ("lutcore.v", "lutcore.json"):
        typer.echo(folder / name)


@app.command()
def layers(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
) -> None:
    """List the tensors of a checkpoint, .gguf or .npz.

    \b
      lutcore layers model.gguf

    Says of each whether it compiles, on a core that has as many planes as its weights have bits,
    and the reason where it does not.
    """
    from lutcore.sw.app.survey import survey

    rows = [("tensor", "format", "shape", "compiles", "reason")]
    with _status(f"Reading {file.name}"):
        for tensor in survey(file):
            shape = "x".join(str(size) for size in tensor.shape)
            compiles = "yes" if tensor.compiles else "no"
            rows.append((tensor.name, tensor.format, shape, compiles, tensor.reason))
    typer.echo(_columns(rows))
    possible = sum(row[3] == "yes" for row in rows)
    typer.echo(f"{possible} of {len(rows) - 1} tensors compile")


@app.command("compile")
def compile_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PROGRAM")],
    layer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Tensor; may be left out if only one compiles."),
    ] = None,
    source: Annotated[
        str, typer.Option("--config", metavar="CONFIG", help="Core to compile for.")
    ] = "default",
    rows: Annotated[int, typer.Option(metavar="R", help="Rows of activations.")] = 1,
) -> None:
    """Compile a layer into a program for one core.

    \b
      lutcore compile model.gguf --layer blk.0.ffn_up.weight --config default --rows 1 -o up.prog
      lutcore compile layer.npz --rows 16 -o layer.prog

    The weight image in the program is the same for any number of rows.
    """
    from lutcore.sw.layers.checkpoint import read_layer
    from lutcore.sw.program.compile import compile_layer

    chosen = load_config(source)
    program = compile_layer(read_layer(file, layer), chosen, rows)
    program.save(output)
    tiling = program.tiling
    ratio = len(program.image) / program.checkpoint_bytes
    facts = [
        ("layer", f"{program.name}: {program.n} x {program.k}, {program.bits} bits"),
        ("rows", str(program.rows)),
        ("instructions", str(len(program.instructions))),
        ("weight image", f"{len(program.image)} bytes, {ratio:.3f} of the checkpoint's"),
        ("blocks", f"{tiling.tiles * chosen.lanes} channels x {tiling.chunk} columns"),
        ("step fill", f"{tiling.step_fill:.1%} of the array's places along K are used"),
    ]
    typer.echo(_columns(facts))


@app.command()
def disasm(
    file: Annotated[Path, typer.Argument(metavar="PROGRAM", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="TEXT", help="Instead of stdout.")
    ] = None,
    image: Annotated[
        bool, typer.Option("--image/--no-image", help="With the weight image, as `asm` needs it.")
    ] = True,
) -> None:
    """Print a program as assembly.

    \b
      lutcore disasm up.prog --no-image
      lutcore disasm up.prog -o up.s
    """
    from lutcore.sw.base.files import write_file
    from lutcore.sw.program.asm import disassemble
    from lutcore.sw.program.program import Program

    text = disassemble(Program.load(file), image=image)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_file(output, text)


@app.command()
def asm(
    file: Annotated[Path, typer.Argument(metavar="TEXT", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PROGRAM")],
    unchecked: Annotated[
        bool,
        typer.Option(
            "--unchecked", help="Also a program that the core would stop when it runs it."
        ),
    ] = False,
) -> None:
    """Turn assembly into a program.

    \b
      lutcore disasm up.prog -o up.s
      lutcore asm up.s -o same.prog

    What `disasm` wrote gives the same program, byte for byte.
    """
    from lutcore.sim.machine.legal import execution_problems
    from lutcore.sw.program.asm import assemble

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise LutcoreError(f"cannot read {file}: {reason}") from None
    program = assemble(text, str(file), examine=(lambda _: ()) if unchecked else execution_problems)
    program.save(output)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="PROGRAM", show_default=False)],
    x: Annotated[
        Path,
        typer.Option("-i", "--input", metavar="X.npy", help="float32, int8 or int16 [rows, K]."),
    ],
    y: Annotated[Path, typer.Option("-o", "--output", metavar="Y.npy", help="float32 [rows, N].")],
    on: Annotated[Backend, typer.Option(help="Golden model, instruction-set simulator or RTL.")],
    report: Annotated[
        Path | None, typer.Option(metavar="R.json", help="Cycles, utilisation, counters.")
    ] = None,
    memory_latency: Annotated[
        int, typer.Option(metavar="CYCLES", help="rtl: from a read's address to its first beat.")
    ] = 40,
    memory_bandwidth: Annotated[
        float, typer.Option(metavar="SHARE", help="rtl: beats per cycle, up to 1.")
    ] = 1.0,
) -> None:
    """Run a program on activations.

    \b
      lutcore run up.prog -i x.npy -o y.npy --on iss
      lutcore run up.prog -i x.npy -o y.npy --on rtl --report r.json --memory-latency 100

    float32 activations are quantised per row (absmax/127 or absmax/32767); int8 and int16 are
    taken as they are. y has the same bits on all three. The first run on the RTL of a
    configuration builds its model, which takes a minute or so; it is kept for later runs.
    """
    import numpy as np

    from lutcore.sw.app.execute import run as execute
    from lutcore.sw.base.files import write_file
    from lutcore.sw.program.program import Program

    program = Program.load(file)
    result = execute(
        program,
        _load_array(x),
        on.value,
        memory_latency=memory_latency,
        memory_bandwidth=memory_bandwidth,
    )
    buffer = io.BytesIO()
    np.save(buffer, result.y)
    write_file(y, buffer.getvalue())
    if report is not None:
        write_file(report, json.dumps(result.report, indent=2) + "\n")
    typer.echo(_columns(_report_facts(result.report)))


def _load_array(path: Path) -> "np.ndarray":
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise LutcoreError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, EOFError, SyntaxError) as error:
        raise LutcoreError(f"{path} is no .npy file of numbers: {error}") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise LutcoreError(f"{path} is an archive of arrays: save x alone, with numpy.save")
    return array


def _report_facts(report: dict) -> list[tuple[str, str]]:
    facts = [
        ("layer", f"{report['layer']}: {report['n']} x {report['k']}, {report['bits']} bits"),
        ("rows", str(report["rows"])),
        ("on", report["on"]),
    ]
    if report["cycles"] is not None:
        facts += [
            ("cycles", str(report["cycles"])),
            ("utilisation", f"{report['utilisation']:.1%} of {report['peak_macs_per_cycle']} MACs"),
            ("bus share", f"{report['bus_share']:.1%} of {report['bus_bytes_per_cycle']} bytes"),
            ("bound", report["bound"]),
        ]
    return facts


def _sheet(chosen: CoreConfig) -> str:
    """A configuration file whose comments say what follows from it."""
    from lutcore.sw.app.datasheet import binding_group, datasheet

    sheet = datasheet(chosen)
    copies = "a copy per lane" if chosen.table_store == "distributed" else "shared by the lanes"
    groups = ", ".join(
        f"{binding_group(chosen, bits, 2):g} at {bits} bits"
        for bits in (1, 2, 4, 8)
        if bits <= chosen.planes
    )
    facts = [
        ("peak", f"{sheet.peak_macs_per_cycle} weight-bit MACs per cycle"),
        ("step", f"{chosen.step} columns of K"),
        ("tables", f"{sheet.table_bits} bits: {sheet.table_sets} tables, 2 banks, {copies}"),
        ("buffers", f"{sum(sheet.buffer_bits.values())} bits, both slots:"),
        *((f"  {name}", f"{bits} bits") for name, bits in sheet.buffer_bits.items()),
        ("memory", f"the array takes {sheet.weight_bytes_per_cycle:g} bytes of codes per cycle,"),
        ("", f"the bus brings {sheet.bus_bytes_per_cycle}: even from {sheet.balanced_rows} rows"),
        ("scale unit", f"{sheet.scale_terms_per_cycle} terms per cycle; with offsets it binds"),
        ("", f"below groups of {groups}"),
        ("table fill", f"binds below {sheet.fill_channels} channels times planes"),
        ("fingerprint", f"{sheet.fingerprint:#018x}"),
    ]
    comments = "".join(f"# {line}\n" for line in _columns(facts).splitlines())
    return chosen.to_toml() + comments


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart; the same on a terminal and in a file."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _status(text: str) -> AbstractContextManager[object]:
    """A spinner on stderr, if that is a terminal."""
    from rich.console import Console

    return Console(stderr=True).status(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, or 2 after an error of the user's.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    try:
        app(args=arguments, prog_name="lutcore")
    except SystemExit as stop:  # how typer ends, also after a usage error
        return stop.code if isinstance(stop.code, int) else 0
    except (LutcoreError, ConfigError, EncodingError) as error:
        # One line, whatever is in the message.
        typer.echo(f"lutcore: error: {' '.join(str(error).split())}", err=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
