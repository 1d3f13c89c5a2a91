"""What is proved, a file for each kind of claim.

Each gives a list of `Property`; `accumulator` is a short one to begin with.
"""
