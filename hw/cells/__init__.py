"""Adders as an FPGA's carry cells do them best.

Takes operands of any width and the target's family; gives sums, in placed cells where the family
has them and in plain logic elsewhere. Begin with `carry`.
"""
