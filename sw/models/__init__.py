"""Real models: where they come from, and their forward pass in plain numpy.

Gives the demonstration and the tests real weights and activations. Begin with `smollm2`.
"""
