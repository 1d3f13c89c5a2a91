"""The figures of docs/performance.md: ``python -m lutcore.sw.app.figures``.

Cycles do not depend on the values, so the layers are generated, in the shapes and formats of the
checkpoints that they stand for. Every run is checked bit for bit against the golden model.
"""

import dataclasses
import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from lutcore.hw.contract.config import PRESETS, CoreConfig, ceil_div
from lutcore.sim.golden import golden
from lutcore.sw.app.execute import quantise_for, run
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.compile import compile_layer

__all__ = ["CASES", "Case", "generated_layer", "main"]


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    title: str
    n: int
    k: int
    group_size: int
    offset: bool
    rows: int
    bus_width: int


def _cases() -> list[Case]:
    cases = [
        Case("prefill", 1536, 512, 128, False, 64, 128),
        Case("prefill, with offsets", 1536, 512, 128, True, 64, 128),
        Case("prefill, long K", 512, 4096, 128, False, 64, 128),
        Case("prefill, SmolLM2 ffn_up", 1536, 576, 32, True, 64, 128),
    ]
    for bus_width in (64, 128, 512):
        cases.append(Case("decode", 1536, 512, 128, False, 1, bus_width))
        cases += [
            Case("decode, SmolLM2 ffn_up", 1536, 576, 32, True, rows, bus_width) for rows in (1, 2)
        ]
    cases.append(Case("decode, SmolLM2 attn_k", 192, 576, 32, True, 1, 64))
    return cases


CASES = _cases()


def generated_layer(case: Case, seed: int = 0) -> QuantLayer:
    """A 4-bit layer of random codes, with float16 scales as Q4_0 or Q4_1 have them."""
    rng = np.random.default_rng(seed)
    groups = ceil_div(case.k, case.group_size)
    shape = (case.n, groups)
    return QuantLayer(
        name=f"{case.n}x{case.k}",
        kind="affine",
        bits=4,
        codes=rng.integers(0, 16, (case.n, case.k)).astype(np.uint8),
        group_size=case.group_size,
        scales=rng.uniform(0.01, 0.02, shape).astype(np.float16),
        offsets=rng.uniform(-0.1, 0.1, shape).astype(np.float16) if case.offset else None,
        bias=None,
        checkpoint_bytes=case.n * case.k // 2 + case.n * groups * (4 if case.offset else 2),
    )


def core_for(case: Case) -> CoreConfig:
    """``default``, its derived sizes derived anew for the case's bus."""
    default = PRESETS["default"]
    if case.bus_width == default.bus_width:
        return default
    return CoreConfig(
        **{f.name: getattr(default, f.name) for f in dataclasses.fields(default)[:8]},
        bus_width=case.bus_width,
    )


def _speed() -> None:
    """Print how fast the compiled RTL runs at full use."""
    case = CASES[0]
    layer, config = generated_layer(case), core_for(case)
    program = compile_layer(layer, config, case.rows)
    q = np.random.default_rng(1).integers(-128, 128, (case.rows, case.k)).astype(np.int8)
    run(program, q, on="rtl")  # loads the model
    started = time.perf_counter()
    cycles = run(program, q, on="rtl").report["cycles"]
    seconds = time.perf_counter() - started
    Console().print(
        f"{cycles:,} cycles in {seconds:.2f} s: {cycles / seconds:,.0f} cycles/s, "
        f"{program.macs / seconds:.2e} weight-bit MACs/s"
    )


def main(
    bus: Annotated[list[int] | None, typer.Option(help="Only these bus widths.")] = None,
    latency: Annotated[int, typer.Option(help="Memory latency in cycles.")] = 40,
    speed: Annotated[bool, typer.Option("--speed", help="Only the simulator's speed.")] = False,
) -> None:
    """Run every case on the RTL and print the table."""
    if speed:
        _speed()
        return
    table = Table("case", "layer", "group", "rows", "bus", "cycles", "of peak", "of bus", "bound")
    rng = np.random.default_rng(1)
    for case in CASES:
        if bus and case.bus_width not in bus:
            continue
        config, layer = core_for(case), generated_layer(case)
        program = compile_layer(layer, config, case.rows)
        x = rng.normal(size=(case.rows, case.k)).astype(np.float32)
        result = run(program, x, on="rtl", memory_latency=latency)
        q, scale = quantise_for(program, x)
        if not np.array_equal(result.y, golden(layer, q, scale)):
            raise SystemExit(f"{case}: the RTL differs from the golden model")
        report = result.report
        table.add_row(
            case.title,
            f"{case.n}x{case.k}",
            str(case.group_size),
            str(case.rows),
            str(case.bus_width),
            f"{report['cycles']:,}",
            f"{report['utilisation']:.1%}",
            f"{report['bus_share']:.1%}",
            report["bound"],
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
