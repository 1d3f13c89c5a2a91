"""Where the host may open a region of memory to the core."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.csr import ADDRESS_WIDTH, REGION_ALIGNMENT, Region
from lutcore.hw.memory.dma import REGION_BITS

__all__ = ["RegionCheck"]


class RegionCheck(wiring.Component):
    """Looks at all regions at once: each begins at an aligned address, and ends within the bus.

    Members
    -------
    bases
        For each of `Region`, the 64 bits that the host has written.
    sizes
        Bytes of each.
    misplaced
        A base is not a multiple of ``2**REGION_ALIGNMENT`` or not below ``2**ADDRESS_WIDTH``, or a
        region ends beyond ``2**ADDRESS_WIDTH``, where addresses would begin at 0 again.

    Attributes
    ----------
    latency
        Cycles from ``bases`` and ``sizes`` to ``misplaced``. The host writes one register at a time
        and CONTROL last, and starting takes longer than that.
    """

    latency = 1

    bases: data.View
    sizes: data.View
    misplaced: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "bases": In(data.ArrayLayout(64, len(Region))),
                "sizes": In(data.ArrayLayout(REGION_BITS, len(Region))),
                "misplaced": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wrong = []
        for region in Region:
            base, size = self.bases[region], self.sizes[region]
            # A region ends beyond the bus if it begins in its last 2^REGION_BITS bytes and the sum
            # of the low bits is more than that; the aligned part is enough to add.
            end = Signal(REGION_BITS - REGION_ALIGNMENT + 1, name=f"end_{region.name.lower()}")
            part = slice(REGION_ALIGNMENT, REGION_BITS)
            m.d.comb += end.eq(base[part] + size[part])
            more = end[:-1].any() | size[:REGION_ALIGNMENT].any()
            wrong += [
                base[:REGION_ALIGNMENT].any(),
                base[ADDRESS_WIDTH:].any(),
                base[REGION_BITS:ADDRESS_WIDTH].all() & end[-1] & more,
            ]
        m.d.sync += self.misplaced.eq(Cat(wrong).any())
        return m
