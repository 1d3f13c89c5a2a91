"""Units that move data: LDW and LDX fill buffers from memory, STY writes results to it.

Each takes the bodies of one instruction's loop nest and asks a DMA master for what they name. Begin
with `loaders`.
"""
