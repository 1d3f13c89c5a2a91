"""cocotb benches of single units, and the frames that they run in.

`catalogue` lists them; each bench drives a unit of `components` and compares it with its oracle.
"""
