"""A core that holds anything at power-up, and needs no more than ``aresetn``.

`powered_up` is the core's Verilog in which a bench can bring that state about at any time, so that
one simulation has many power-ups.
"""

import re
from typing import Any

import cocotb

from lutcore.hw.verilog_text import scrambled, without_initial_values
from lutcore.verif.core.layers import TIMEOUT, LayerBench
from lutcore.verif.core.wrapper import WRAPPER

__all__ = ["powered_up"]

#: Random power-ups in a test.
_ROUNDS = 20

_MEMORY = re.compile(r"^  reg (?:\[(\d+):0\] )?(\S+ ?) ?\[(\d+):0\];$", re.MULTILINE)
_REGISTER = re.compile(r"^  reg (?:signed )?(?:\[(\d+):0\] )?(\S+ ?)(?: = [^;]*)?;$", re.MULTILINE)
_CLOCKED = re.compile(r"^ +(?:if \(.*\) )?([^\s\[]+)(?: ?\[.*\])?\s+<= ", re.MULTILINE)


def powered_up(core: str) -> str:
    """The Verilog of a core and of its wrapper, with power-ups.

    On a rising edge of the wrapper's signal ``power_up`` all memories take random words, and all
    registers random values or, while the wrapper's ``unknown`` is 1, x. At the start all registers
    are x, whatever their initial values are.

    Parameters
    ----------
    core
        The Verilog of module ``lutcore`` and of the wrapper, see `wrapper_verilog`.
    """
    text = without_initial_values(scrambled(core))
    return "\n".join(map(_powered_up, re.split(r"^(?=module )", text, flags=re.MULTILINE)))


def _powered_up(module: str) -> str:
    if module.startswith(f"module {WRAPPER} "):
        return module.replace(");", ");\n  reg power_up = 0;\n  reg unknown = 0;", 1)
    clocked = set(_CLOCKED.findall(module))
    lines = []
    for index, (top, name, last) in enumerate(_MEMORY.findall(module)):
        lines.append(f"    for (i_{index} = 0; i_{index} <= {last}; i_{index} = i_{index} + 1)")
        lines.append(f"      {name}[i_{index}] = {_noise(top)};")
    variables = [f"    integer i_{index};" for index in range(len(lines) // 2)]
    for top, name in _REGISTER.findall(module):
        if name.strip() in clocked:
            lines.append(f"    {name} = {WRAPPER}.unknown ? 'bx : {_noise(top)};")
    if not lines:
        return module
    block = [f"  always @(posedge {WRAPPER}.power_up) begin : powered_up", *variables, *lines]
    return module.replace("endmodule", "\n".join([*block, "  end", "endmodule"]), 1)


def _noise(top: str) -> str:
    return "{" + ", ".join(["$urandom"] * ((int(top or 0) + 32) // 32)) + "}"


@cocotb.test(**TIMEOUT)
async def first_layers(dut: Any) -> None:
    """Layers after power-ups with everything random, and with all registers unknown.

    Memories are random and registers x at the start of the simulation and in the last round.
    """
    bench = await LayerBench.begin(dut, "first_layers")
    await _layer(bench, wide=False)
    for turn in range(_ROUNDS + 1):
        dut.aresetn.value = 0
        dut.unknown.value = int(turn == _ROUNDS)
        dut.power_up.value = 1
        await bench.ticks(1)
        dut.power_up.value = 0
        await bench.reset()
        await _layer(bench, wide=turn % 2 == 0)


async def _layer(bench: LayerBench, *, wide: bool) -> None:
    """A small layer, whose few sums soon come again, or one with wide scales and with offsets."""
    lanes, group = bench.config.lanes, bench.config.group
    form = "float32" if wide else "float16"
    shape = (lanes, 4 * group, 2 * group)
    await bench.check(bench.draw(kind=("affine", 2), form=form, offsets=wide, shape=shape))
