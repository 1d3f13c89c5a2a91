"""Units that compute: TABLE, ARRAY, SCALE and FINAL, in the order in which data pass through them.

Takes activations, weights and scales from buffers, gives float32 results to STY. Begin with
`table`, whose sums the lanes of `array` look up.
"""
