"""The netlist of the whole core after synthesis, behind AXI: layers against the golden model.

Gates are slow to simulate, so of the tests of the core only those run that meet most of it.
"""

from lutcore.verif.core.layers import many_blocks, polling, random_layers

__all__ = ["many_blocks", "polling", "random_layers"]
