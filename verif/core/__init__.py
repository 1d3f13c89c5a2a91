"""cocotb benches of the whole core behind AXI: random layers, resets, a netlist of gates.

`system` is the core with memory and host around it; `layers` has the tests.
"""
