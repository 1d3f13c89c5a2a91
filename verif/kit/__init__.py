"""What all testbenches share: settings and random numbers, coverage, layers, back-pressure.

Begin with `env`.
"""
