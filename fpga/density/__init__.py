"""LUTs per multiply-accumulate, of LUT arrays and of the baselines: ``lutcore bench density``.

Begin with `compare`.
"""
