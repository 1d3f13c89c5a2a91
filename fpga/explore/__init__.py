"""Sweeps of configurations for a target and a workload: ``lutcore explore``.

`workload` says what is computed, `space` on which cores, `sweep` what nothing beats.
"""
