"""The buses of the core: AXI4 without identifiers, and AXI4-Lite.

Members carry the names of the specification (AMBA AXI, Arm IHI 0022) in lower case, in the
direction of a master: ``Out`` for what the master drives.
"""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.csr import ADDRESS_WIDTH

__all__ = [
    "BOUNDARY",
    "BURST_INCR",
    "CACHE_BUFFERABLE",
    "Axi4",
    "Axi4Lite",
    "Axi4Read",
    "Axi4Write",
    "forward",
]

#: AxBURST of incrementing bursts.
BURST_INCR = 0b01
#: AxCACHE "normal non-cacheable bufferable": what a DMA master announces for main memory.
CACHE_BUFFERABLE = 0b0011
#: Bytes that no burst may straddle.
BOUNDARY = 4096


def _address_channel(prefix: str) -> dict[str, wiring.Member]:
    return {
        f"{prefix}addr": Out(ADDRESS_WIDTH),
        f"{prefix}len": Out(8),
        f"{prefix}size": Out(3),
        f"{prefix}burst": Out(2),
        f"{prefix}prot": Out(3),
        f"{prefix}cache": Out(4),
        f"{prefix}valid": Out(1),
        f"{prefix}ready": In(1),
    }


def _read_channels(bus_width: int) -> dict[str, wiring.Member]:
    return _address_channel("ar") | {
        "rdata": In(bus_width),
        "rresp": In(2),
        "rlast": In(1),
        "rvalid": In(1),
        "rready": Out(1),
    }


def _write_channels(bus_width: int) -> dict[str, wiring.Member]:
    return _address_channel("aw") | {
        "wdata": Out(bus_width),
        "wstrb": Out(bus_width // 8),
        "wlast": Out(1),
        "wvalid": Out(1),
        "wready": In(1),
        "bresp": In(2),
        "bvalid": In(1),
        "bready": Out(1),
    }


class _Bus(wiring.Signature):
    """A signature that depends on the width of its data bus alone."""

    def __init__(self, bus_width: int, members: dict[str, wiring.Member]) -> None:
        if not isinstance(bus_width, int) or bus_width not in (32, 64, 128, 256, 512, 1024):
            raise TypeError(f"Bus width must be a power of two in 32..1024, not {bus_width!r}")
        self.bus_width = bus_width
        super().__init__(members)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.bus_width})"


class Axi4Read(_Bus):
    """Channels AR and R of an AXI4 master with ``bus_width`` bits of data."""

    def __init__(self, bus_width: int) -> None:
        super().__init__(bus_width, _read_channels(bus_width))


class Axi4Write(_Bus):
    """Channels AW, W and B of an AXI4 master with ``bus_width`` bits of data."""

    def __init__(self, bus_width: int) -> None:
        super().__init__(bus_width, _write_channels(bus_width))


class Axi4(_Bus):
    """All five channels of an AXI4 master with ``bus_width`` bits of data."""

    def __init__(self, bus_width: int) -> None:
        super().__init__(bus_width, _read_channels(bus_width) | _write_channels(bus_width))


class Axi4Lite(wiring.Signature):
    """AXI4-Lite with 32 bits of data and ``address_width`` bits of address."""

    def __init__(self, address_width: int = 12) -> None:
        self.address_width = address_width
        super().__init__(
            {
                "awaddr": Out(address_width),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(32),
                "wstrb": Out(4),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(address_width),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(32),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )

    def __repr__(self) -> str:
        return f"Axi4Lite({self.address_width})"


def forward(m: Module, part: wiring.PureInterface, whole: wiring.PureInterface) -> None:
    """Drive the channels of ``whole`` that ``part`` has, master to master.

    ``part`` is the port of an inner master (an :class:`Axi4Read` or :class:`Axi4Write`),
    ``whole`` the outer port that it becomes a part of.
    """
    for name, member in part.signature.members.items():
        inner, outer = getattr(part, name), getattr(whole, name)
        m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
