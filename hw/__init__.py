"""Hardware and its contract: configuration, instruction set, registers, units, core, Verilog."""
