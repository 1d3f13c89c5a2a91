"""Quantised layers and the readers of checkpoints that give them; quantisation of activations.

Takes a file, gives `QuantLayer`: raw codes, scales and offsets. Begin with `layer`.
"""
