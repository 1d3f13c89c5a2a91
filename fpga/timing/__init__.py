"""The clock of a core or a unit on ECP5, and the paths that limit it: ``lutcore bench timing``.

`units` cuts a unit out of the core's Verilog, `delays` reads what nextpnr-ecp5 says of every cell
and wire, `paths` finds the longest paths, `names` says them in the words of the design, `measure`
puts these together for one design and one seed, `report` prints it. Begin with `measure`.
"""
