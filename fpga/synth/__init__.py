"""Synthesis, placement and routing by open tools, and how what they give is counted.

Takes Verilog and a target, gives `Resources` or `Routed`. Begin with `flow`.
"""
