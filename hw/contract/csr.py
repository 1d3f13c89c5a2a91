"""The control and status registers: one table for RTL, driver and documentation.

Offsets are append-only: ID, VERSION and FINGERPRINT never move.
"""

import enum
from dataclasses import dataclass

__all__ = [
    "ADDRESS_WIDTH",
    "COUNTER_UNITS",
    "CSRS",
    "ID_VALUE",
    "REGION_ALIGNMENT",
    "Control",
    "Csr",
    "Region",
    "Status",
]

#: "LUTC", first byte in the low bits.
ID_VALUE = int.from_bytes(b"LUTC", "little")
#: Bits of an address in memory.
ADDRESS_WIDTH = 40
#: Low bits of an address that are 0 where a region begins.
REGION_ALIGNMENT = 6


class Control(enum.IntEnum):
    """Bits of CONTROL; all but IRQ_ENABLE are commands and read as 0."""

    START = 0
    RESET = 1
    IRQ_ENABLE = 2


class Status(enum.IntEnum):
    """Bits of STATUS; bits 15:8 hold the cause, bits 31:16 the number of the instruction."""

    BUSY = 0
    DONE = 1
    ERROR = 2
    DRAINING = 3
    HUNG = 4


class Region(enum.IntEnum):
    """Memory that the host opens to the core."""

    PROGRAM = 0
    WEIGHTS = 1
    ACTIVATIONS = 2
    RESULTS = 3


#: Units with counters, in the order of their registers and of the trace.
COUNTER_UNITS = ("fetch", "ldw", "ldx", "table", "array", "scale", "final", "store")


@dataclass(frozen=True)
class Csr:
    """One 32-bit register: byte offset, access ("ro", "rw", "w1c"), meaning."""

    name: str
    offset: int
    access: str
    description: str


def _pair(name: str, offset: int, access: str, description: str) -> list[Csr]:
    return [
        Csr(f"{name}_LO", offset, access, f"{description}, bits 31:0"),
        Csr(f"{name}_HI", offset + 4, access, f"{description}, bits 63:32"),
    ]


def _table() -> dict[str, Csr]:
    rows = [
        Csr("ID", 0x000, "ro", "0x4354554C: 'LUTC'"),
        Csr("VERSION", 0x004, "ro", "bits 15:0 ISA version, bits 31:16 register map version"),
        *_pair("FINGERPRINT", 0x008, "ro", "fingerprint of the configuration"),
        Csr("CONTROL", 0x010, "rw", "bit 0 start, bit 1 soft reset, bit 2 interrupt enable"),
        Csr(
            "STATUS",
            0x014,
            "ro",
            "bit 0 busy, 1 done, 2 error, 3 draining, 4 bus hung; 15:8 cause, 31:16 instruction",
        ),
        Csr("IRQ", 0x018, "w1c", "bit 0: the program has ended or stopped"),
        Csr("PROGRAM_LENGTH", 0x01C, "rw", "instructions in the program"),
        *_pair("EXPECT", 0x020, "rw", "fingerprint that the program was made for"),
        *_pair("BUDGET", 0x028, "rw", "cycles after which the core stops; 0: no limit"),
    ]
    for region in Region:
        base = 0x040 + 16 * region
        name = region.name
        rows += _pair(f"{name}_BASE", base, "rw", f"byte address of the {name.lower()}, 64-aligned")
        rows.append(Csr(f"{name}_SIZE", base + 8, "rw", f"bytes of the {name.lower()} region"))
    rows += _pair("CYCLES", 0x100, "ro", "cycles from start to done")
    rows += _pair("LOOKUPS", 0x108, "ro", "array steps issued (one plane of one step of one tile)")
    rows += _pair("READ_BEATS", 0x110, "ro", "beats read")
    rows += _pair("WRITE_BEATS", 0x118, "ro", "beats written")
    for index, unit in enumerate(COUNTER_UNITS):
        base = 0x140 + 32 * index
        rows += _pair(f"{unit.upper()}_BUSY", base, "ro", f"cycles in which {unit} worked")
        rows += _pair(f"{unit.upper()}_WAIT_IN", base + 8, "ro", f"cycles {unit} waited for input")
        rows += _pair(
            f"{unit.upper()}_WAIT_OUT", base + 16, "ro", f"cycles {unit} waited for room or a slot"
        )
    return {row.name: row for row in rows}


CSRS: dict[str, Csr] = _table()
