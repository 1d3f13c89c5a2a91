"""What a device has room for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lutcore.fpga.area.estimate import Area
from lutcore.sw.base.errors import LutcoreError

__all__ = ["DEVICES", "Budget", "BudgetError", "device"]


class BudgetError(LutcoreError, ValueError):
    """A device that is not known, or is not one of the target."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of what a core may take; None where there is none.

    Attributes
    ----------
    target
        Family of the device.
    luts, lut_memory, flip_flops, block_rams, dsps
        As in `Area`.
    """

    target: str
    luts: int | None = None
    lut_memory: int | None = None
    flip_flops: int | None = None
    block_rams: int | None = None
    dsps: int | None = None

    def exceeded(self, area: Area) -> tuple[str, ...]:
        """Names of what there is not enough of."""
        names = ("luts", "lut_memory", "flip_flops", "block_rams", "dsps")
        limits = {name: getattr(self, name) for name in names}
        return tuple(
            name
            for name, limit in limits.items()
            if limit is not None and getattr(area, name) > limit
        )

    def with_luts(self, luts: int) -> "Budget":
        """The same with another number of LUTs."""
        return replace(self, luts=luts)


def _ecp5(luts: int, block_rams: int, dsps: int) -> Budget:
    # A tile of eight LUT4 makes one TRELLIS_DPR16X4, which counts as six.
    memory = luts // 8 * 6
    return Budget(
        target="ecp5",
        luts=luts,
        lut_memory=memory,
        flip_flops=luts,
        block_rams=block_rams,
        dsps=dsps,
    )


def _xc7(luts: int, lut_memory: int, block_rams: int, dsps: int) -> Budget:
    return Budget(
        target="xc7",
        luts=luts,
        lut_memory=lut_memory,
        flip_flops=2 * luts,
        block_rams=block_rams,
        dsps=dsps,
    )


def _ice40(luts: int, block_rams: int) -> Budget:
    return Budget(target="ice40", luts=luts, flip_flops=luts, block_rams=block_rams)


#: Devices by name: block RAMs of 18 kbit (ice40: 4 kbit); of xc7 LUT RAM as the distributed RAM
#: of the data sheet over 64 bits.
DEVICES: Mapping[str, Budget] = {
    "ecp5-25F": _ecp5(24_288, 56, 28),
    "ecp5-45F": _ecp5(43_848, 108, 72),
    "ecp5-85F": _ecp5(83_640, 208, 156),
    "xc7a35t": _xc7(20_800, 6_400, 100, 90),
    "xc7a100t": _xc7(63_400, 19_008, 270, 240),
    "xc7a200t": _xc7(134_600, 46_208, 730, 740),
    "xc7k325t": _xc7(203_800, 64_000, 890, 840),
    "ice40-hx8k": _ice40(7_680, 32),
    "ice40-up5k": _ice40(5_280, 30),
}


def device(name: str, target: str) -> Budget:
    """A device by name.

    Raises
    ------
    BudgetError
        If it is not one of the target's.
    """
    known = [key for key, budget in DEVICES.items() if budget.target == target]
    found = {key.lower(): key for key in known}.get(name.lower())
    if found is None:
        among = f"one of {', '.join(known)}" if known else "left out: cells have no devices"
        raise BudgetError(f"the device for target {target} must be {among}, not {name!r}")
    return DEVICES[found]
