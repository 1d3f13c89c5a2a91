"""Single faults in the netlist, and whether the regression sees them: ``lutcore mutate``.

`mutants` makes them, `judge` runs them, `campaign` is the whole. Begin with `campaign`.
"""
