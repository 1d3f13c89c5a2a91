"""What makes the core follow a program: FETCH, loop nests, tokens, the supervisor, the registers.

Takes register accesses of the host and instruction words, gives each unit its instructions and the
host its status. Begin with `fetch`.
"""
