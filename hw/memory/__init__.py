"""Ways to memory and memories on chip: AXI signatures, DMA masters, windows, buffers, queues.

Takes requests from the units of `transfer` and `control`, gives bursts on the bus and beats back.
Begin with `dma`.
"""
