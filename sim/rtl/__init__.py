"""The generated RTL as a Python object: Verilog, compiled with CXXRTL, behind a memory model.

Takes a configuration or Verilog, gives `RtlSim`: registers, interrupt, memory, trace. Begin with
`simulator`.
"""
