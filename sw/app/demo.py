"""The demonstration: one layer of a real checkpoint, from its file to the generated RTL.

``python -m lutcore.sw.app.demo [FOLDER [CONFIG]]`` (or ``make demo``) takes the layer
``blk.0.ffn_up.weight`` of SmolLM2-135M and the activations that a real prompt gives it, compiles it
for one row and for 16, runs both programs on the RTL, and compares the results bit for bit with the
instruction-set simulator and the golden model. Exit status 1 says that they differ.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lutcore.hw.contract.config import ConfigError, CoreConfig, load_config
from lutcore.hw.export import describe
from lutcore.sim.golden import golden, reference
from lutcore.sim.rtl.verilog import verilog_of
from lutcore.sw.app.execute import Result, quantise_for, run
from lutcore.sw.app.timeline import Run, TimelinePage, UnitTrace, ascii_timeline, write
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.files import OutputError, write_file
from lutcore.sw.layers.checkpoint import read_layer
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.models.smollm2 import Model, ModelUnavailable, fetch_model
from lutcore.sw.program.asm import disassemble
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.program import Program

__all__ = ["Case", "Workload", "generated_workload", "main", "measure", "real_workload"]

FOLDER = Path("build/demo")
CONFIG = "default"
TENSOR = "blk.0.ffn_up.weight"
PREFILL_ROWS = 16
MEMORY_LATENCY = 40
PROMPT = (
    "A lookup table can take the place of a multiplier: when the weights of a neural network have "
    "only a few bits, the sums of a few activations are worth remembering."
)


@dataclass(frozen=True)
class Workload:
    """A layer and what it is multiplied with.

    Attributes
    ----------
    title
        Where both come from, in one line.
    real
        False for the generated stand-in.
    layer
        The weights.
    x
        float32 [T, K], one row per token, at least `PREFILL_ROWS`.
    """

    title: str
    real: bool
    layer: QuantLayer
    x: np.ndarray


@dataclass(frozen=True)
class Case:
    """One program's run.

    Attributes
    ----------
    name
        Stem of its files.
    title
        For people.
    program
        What ran.
    run
        On the RTL.
    report
        Its figures, with the errors and verdicts of this demonstration.
    """

    name: str
    title: str
    program: Program
    run: Result
    report: dict[str, Any]

    @property
    def exact(self) -> bool:
        """Whether RTL, instruction-set simulator and golden model agree to the bit."""
        return self.report["rtl_equals_iss"] and self.report["rtl_equals_golden"]


def real_workload() -> Workload:
    """SmolLM2-135M's layer and its input in a forward pass of `PROMPT`.

    Raises
    ------
    ModelUnavailable
        If the model cannot be had.
    """
    path = fetch_model()
    model = Model(path)
    tokens = model.encode(PROMPT)
    title = f"SmolLM2-135M {TENSOR} (Q4_1), activations of a prompt of {len(tokens)} tokens"
    return Workload(title, True, read_layer(path, TENSOR), model.activations(tokens, TENSOR))


def generated_workload() -> Workload:
    """A layer of the same shape and format, with random values."""
    rng = np.random.default_rng(2408_06003)
    n, k, group = 1536, 576, 32
    scales = (0.02 * rng.lognormal(sigma=0.3, size=(n, k // group))).astype(np.float16)
    offsets = (-7.5 * scales * rng.normal(1, 0.1, scales.shape)).astype(np.float16)
    layer = QuantLayer(
        name="generated",
        kind="affine",
        bits=4,
        codes=rng.binomial(15, 0.5, (n, k)).astype(np.uint8),
        group_size=group,
        scales=scales,
        offsets=offsets,
        bias=None,
        checkpoint_bytes=n * k // 2 + scales.nbytes + offsets.nbytes,
    )
    x = rng.standard_t(4, (2 * PREFILL_ROWS, k)).astype(np.float32)
    return Workload(f"GENERATED layer {n}x{k}, 4 bits, and random activations", False, layer, x)


def measure(name: str, title: str, layer: QuantLayer, x: np.ndarray, config: CoreConfig) -> Case:
    """Compile a layer for the rows of x, run it on all three, and compare.

    Errors are against float64: ``error_rounding`` with the same quantised activations, as the
    largest difference over the largest output; ``error_total`` with x itself, root mean square
    over root mean square.
    """
    program = compile_layer(layer, config, len(x))
    q, scale = quantise_for(program, x)
    expected = golden(layer, q, scale)
    iss = run(program, x, on="iss")
    rtl = run(program, x, on="rtl", memory_latency=MEMORY_LATENCY, trace=True)
    exact = reference(layer, q, scale)
    ideal = x.astype(np.float64) @ layer.dequantise().T
    report = rtl.report | {
        "rtl_equals_iss": _same_bits(rtl.y, iss.y),
        "rtl_equals_golden": _same_bits(rtl.y, expected),
        "error_rounding": float(np.abs(rtl.y - exact).max() / np.abs(exact).max()),
        "error_total": float(np.sqrt(np.mean((rtl.y - ideal) ** 2) / np.mean(ideal**2))),
    }
    return Case(name, title, program, rtl, report)


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a.view(np.uint32) == b.view(np.uint32)).all())


def _facts(case: Case) -> list[tuple[str, str]]:
    report = case.report
    return [
        ("rows", str(report["rows"])),
        ("instructions", str(report["instructions"])),
        ("cycles", f"{report['cycles']:,}"),
        (
            "utilisation of the array's peak",
            f"{report['utilisation']:.1%} of {report['peak_macs_per_cycle']:,}",
        ),
        ("share of the bus", f"{report['bus_share']:.1%} of {report['bus_bytes_per_cycle']} B"),
        ("bound by", report["bound"]),
        ("error against float64, same INT8 x", f"{report['error_rounding']:.1e}"),
        ("error against float64, x unquantised", f"{report['error_total']:.2%}"),
        ("RTL = instruction-set simulator", "yes" if report["rtl_equals_iss"] else "NO"),
        ("RTL = golden model, bit for bit", "yes" if report["rtl_equals_golden"] else "NO"),
    ]


def _timeline(case: Case) -> Run:
    units = [UnitTrace(name, *changes) for name, changes in case.run.trace.items()]
    return Run(case.title, case.report["cycles"], units, _facts(case))


def _write_all(folder: Path, workload: Workload, cases: Sequence[Case], name: str) -> list[Path]:
    written = []
    for case in cases:
        program, text = folder / f"{case.name}.prog", folder / f"{case.name}.s"
        case.program.save(program)
        write_file(text, disassemble(case.program, image=False))
        written += [program, text]
    report = {
        "workload": workload.title,
        "real": workload.real,
        "runs": {case.name: case.report for case in cases},
    }
    page = TimelinePage(
        title="lutcore: what the units do",
        subtitle=workload.title,
        runs=[_timeline(case) for case in cases],
        notes=[
            f"Measured on the generated RTL, configuration {name}, memory latency "
            f"{MEMORY_LATENCY} cycles, by python -m lutcore.sw.app.demo.",
            "Utilisation counts rows x N x K x bits over cycles x peak; the share of the bus "
            "counts each useful byte once.",
        ],
    )
    write_file(folder / "report.json", json.dumps(report, indent=2) + "\n")
    write(folder / "timeline.html", page)
    return [*written, folder / "report.json", folder / "timeline.html"]


def _print(console: Console, workload: Workload, cases: Sequence[Case]) -> None:
    console.print(workload.title, markup=False)
    table = Table()
    table.add_column("measured on the RTL")
    for case in cases:
        table.add_column(case.title, justify="right")
    for rows in zip(*map(_facts, cases), strict=True):
        table.add_row(rows[0][0], *(value for _, value in rows))
    console.print(table)
    for case in cases:
        console.print(f"\n{case.title}: what the units did")
        console.print(ascii_timeline(_timeline(case)), markup=False, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        The folder for what it leaves behind, made if missing, and the configuration, a preset or
        a file. Default: those of the process.

    Returns
    -------
    int
        0; 1 if RTL, instruction-set simulator and golden model differ; 2 after an error.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    console = Console(highlight=False)
    notes = Console(stderr=True, highlight=False)
    try:
        name = arguments[1] if len(arguments) > 1 else CONFIG
        config = load_config(name)
        folder = Path(arguments[0]) if arguments else FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from None
        try:
            workload = real_workload()
        except ModelUnavailable as error:
            notes.print(f"No real model: {error}", markup=False)
            notes.print("Going on with a GENERATED layer; the figures are not those of a model.")
            workload = generated_workload()
        write_file(folder / "lutcore.v", verilog_of(config))
        write_file(folder / "lutcore.json", json.dumps(describe(config), indent=2) + "\n")
        cases = [
            measure("decode", "decode, 1 row", workload.layer, workload.x[-1:], config),
            measure(
                "prefill",
                f"prefill, {PREFILL_ROWS} rows",
                workload.layer,
                workload.x[:PREFILL_ROWS],
                config,
            ),
        ]
        written = _write_all(folder, workload, cases, name)
    except (LutcoreError, ConfigError) as error:
        notes.print(f"lutcore: error: {' '.join(str(error).split())}", markup=False)
        return 2
    _print(console, workload, cases)
    console.print("\nLeft behind:")
    for path in (folder / "lutcore.v", folder / "lutcore.json", *written):
        console.print(f"  {path}", markup=False)
    if all(case.exact for case in cases):
        return 0
    notes.print("The RTL's results are NOT those of the other models.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
