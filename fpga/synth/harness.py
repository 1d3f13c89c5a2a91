"""A frame of registers for routing a design with more ports than a device has pins.

    si ─► one flip-flop per input bit, in a chain
              │ … │
              ▼   ▼
            design          the same clock everywhere
              │ … │
              ▼   ▼
          one flip-flop per output bit ─► tree of XORs of four, a flip-flop behind each ─► so

No input is constant and every output is used, so nothing of the design can be left out, and every
path through its ports begins or ends in a flip-flop. The frame is made of mapped cells around
the mapped design: its own size is known exactly and the design is the same as without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lutcore.fpga.synth.yosys import SynthesisError

__all__ = ["Harness", "make_harness"]

_HEAD = """\
module harness_ff(input clk, input d, output q);
  TRELLIS_FF #(.GSR("DISABLED"), .CEMUX("1"), .CLKMUX("CLK"), .LSRMUX("LSR"), .REGSET("RESET"))
    ff (.CLK(clk), .LSR(1'b0), .CE(1'b1), .DI(d), .Q(q));
endmodule
"""
_XOR4 = "16'h6996"


@dataclass(frozen=True)
class Harness:
    """Verilog of a frame, module ``harness`` with ports ``clk``, ``si`` and ``so``.

    Attributes
    ----------
    verilog
        Text; the design is its instance ``dut``.
    flip_flops, luts
        What the frame itself takes.
    """

    verilog: str
    flip_flops: int
    luts: int


def make_harness(top: str, ports: Mapping[str, tuple[str, int]], clocks: Sequence[str]) -> Harness:
    """A frame for a design.

    Parameters
    ----------
    top
        Its module.
    ports
        Name to direction (``"input"``, ``"output"``) and width.
    clocks
        Its inputs that are clocks: one, or none for a combinational design.

    Raises
    ------
    SynthesisError
        If it has more than one clock, no output, or a port of both directions.
    """
    if len(clocks) > 1:
        raise SynthesisError(f"{top} has more than one clock: {', '.join(clocks)}")
    if clocks and ports[clocks[0]] != ("input", 1):
        raise SynthesisError(f"the clock of {top}, {clocks[0]}, is not an input of one bit")
    connections = []
    size = {"input": 0, "output": 0}
    for name, (direction, width) in ports.items():
        if direction not in size:
            raise SynthesisError(f"port {name} of {top} is {direction}: route inputs and outputs")
        if name in clocks:
            connections.append(f".\\{name} (clk)")
            continue
        low = size[direction]
        size[direction] += width
        connections.append(f".\\{name} ({direction}s[{low + width - 1}:{low}])")
    inputs, outputs = size["input"], size["output"]
    if outputs == 0:
        raise SynthesisError(f"{top} has no output")
    body = [f"  wire [{max(1, inputs) - 1}:0] inputs;", f"  wire [{outputs - 1}:0] outputs;"]
    for i in range(inputs):
        body.append(_flip_flop(f"i{i}", f"inputs[{i - 1}]" if i else "si", f"inputs[{i}]"))
    body.append(f"  \\{top} dut ({', '.join(connections)});")
    body.append(f"  wire [{outputs - 1}:0] level0;")
    for i in range(outputs):
        body.append(_flip_flop(f"o{i}", f"outputs[{i}]", f"level0[{i}]"))
    level, width, luts, flip_flops = 0, outputs, 0, inputs + outputs
    while width > 1:
        reduced = (width + 3) // 4
        body.append(f"  wire [{reduced - 1}:0] xor{level}, level{level + 1};")
        for i in range(reduced):
            taken = range(4 * i, min(width, 4 * i + 4))
            pins = [f"level{level}[{n}]" for n in taken] + ["1'b0"] * (4 - len(taken))
            pins = [f".{pin}({net})" for pin, net in zip("ABCD", pins, strict=True)]
            body.append(
                f"  LUT4 #(.INIT({_XOR4})) x{level}_{i} ({', '.join(pins)}, .Z(xor{level}[{i}]));"
            )
            body.append(_flip_flop(f"l{level}_{i}", f"xor{level}[{i}]", f"level{level + 1}[{i}]"))
        level, width = level + 1, reduced
        luts += reduced
        flip_flops += reduced
    text = "\n".join(
        (
            _HEAD + "module harness(input clk, input si, output so);",
            *body,
            f"  assign so = level{level}[0];",
            "endmodule",
            "",
        )
    )
    return Harness(text, flip_flops, luts)


def _flip_flop(name: str, d: str, q: str) -> str:
    return f"  harness_ff {name} (.clk(clk), .d({d}), .q({q}));"
