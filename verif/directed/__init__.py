"""Scenarios made for what random layers and programs meet too seldom, on the compiled RTL.

`bench` lists and runs them, `host` sets a core up and checks what it can see. Begin with `plain`.
"""
