"""Arrays without tables that do the same work: what a LUT array has to beat.

`catalogue` has every form of each; `array` is what they have in common.
"""
