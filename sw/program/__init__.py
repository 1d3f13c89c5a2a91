"""From a layer to a program: tiling, blocks, packing, instructions, the program file, memory map.

Takes a `QuantLayer` and a configuration, gives a `Program`, and text for it and back. Begin with
`compile`.
"""
