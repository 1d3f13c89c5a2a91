"""The cycle model: how long a program takes, from its loops and the latencies of the units.

Takes a configuration and a layer's shape, gives cycles and what binds them. Begin with `model`.
"""
