"""Golden model, instruction-set simulator, and the RTL as a Python object."""
