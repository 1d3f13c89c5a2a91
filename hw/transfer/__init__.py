"""Units that move data: LDW and LDX fill buffers from memory, STY writes results to it.

Each takes the bodies of one instruction's loop nest and asks a DMA master for what they name. A
loader has two halves: one asks for a block once it has taken the slots that the block needs, so
that beats on the bus always have a place to go and neither loader can block the other; one writes
the beats into those slots. Begin with `activations`.
"""
