"""Random instruction streams, legal and illegal, on the RTL against the instruction-set simulator.

`bench` runs them as a part of the regression, `by_hand` from a shell. Begin with `case`.
"""
