"""The machine that programs run on: the instruction-set simulator, and which programs are legal.

Takes a configuration, instructions and a memory image; gives the memory afterwards or the faults.
`flow` is the machine without numbers, `iss` the same with them. Begin with `iss`.
"""
