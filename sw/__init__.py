"""Checkpoint readers, quantisation, packing, compiler, program file and command line."""
