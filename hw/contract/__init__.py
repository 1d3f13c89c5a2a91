"""What software and hardware agree on: configuration, instructions, registers, loops, codings.

Plain data and arithmetic, no circuits, so that the compiler and the simulators may import it. Begin
with `config` (the keys and the widths that follow from them) and `isa` (the instruction table).
"""
