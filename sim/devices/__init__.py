"""Whatever can run a program, behind one interface, and the host's sequence above it, once.

A `Device` is memory, registers and an interrupt. `device_for` makes one by its name; `run_program`
does what a driver does with it. Begin with `driver`; what the host writes and reads is in
`registers`, for benches too that access a core in their own way.
"""
