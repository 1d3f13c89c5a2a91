"""What the hardware loops of an instruction mean, in plain Python.

The loop engine of the core (``hw/control/nest.py``) is tested against this, and the instruction-set
simulator walks its instructions with it; see "Loops" in ``docs/architecture.md``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lutcore.hw.contract.isa import INSTRUCTIONS, LOOP_LEVELS, Axis, Opcode

__all__ = ["ADDRESS_BITS", "EXTENT_BITS", "Body", "Loop", "walk"]

_WIDTHS = {field.name: field.width for field in INSTRUCTIONS[Opcode.LOOP].fields}
#: Bits of an address; addresses wrap at this width.
ADDRESS_BITS = _WIDTHS["stride"]
#: Bits of the extent of a loop.
EXTENT_BITS = _WIDTHS["total"]


@dataclass(frozen=True)
class Loop:
    """One hardware loop.

    Attributes
    ----------
    axis
        What the loop splits.
    total
        Extent of the axis; ignored where a loop further out already splits the axis.
    step
        Extent of an iteration, at least 1; the last iteration takes what is left.
    stride
        Distance between the addresses of two iterations.
    auto
        The next iteration starts at the address where the last body ended; no stride.
    """

    axis: Axis
    total: int
    step: int
    stride: int = 0
    auto: bool = False


@dataclass(frozen=True)
class Body:
    """One run of the body of a nest.

    Attributes
    ----------
    n, k, r
        Sizes: what the innermost loop of each axis left (1 without a loop).
    address
        Address of the body.
    first, last
        ``first[L]``: all loops with index >= L are at their first (last) iteration, for L in
        0..``LOOP_LEVELS``; true where there are no such loops.
    n_last, r_last, k_first, k_last
        All loops of the axis are at their last (first) iteration.
    index
        Iterations that the innermost loop has completed since it was last entered.
    inner
        Number of loops.
    inner_r
        The innermost loop splits the row tiles.
    """

    n: int
    k: int
    r: int
    address: int
    first: tuple[bool, ...]
    last: tuple[bool, ...]
    n_last: bool
    r_last: bool
    k_first: bool
    k_last: bool
    index: int
    inner: int
    inner_r: bool


@dataclass
class _Level:
    """Where a loop stands: ``rest`` counts what is left, this iteration included."""

    loop: Loop
    rest: int = 0
    index: int = 0
    address: int = 0

    @property
    def size(self) -> int:
        return min(self.rest, self.loop.step)

    @property
    def is_first(self) -> bool:
        return self.index == 0

    @property
    def is_last(self) -> bool:
        return self.rest <= self.loop.step


def walk(
    loops: Sequence[Loop], base: int = 0, *, end: Callable[[Body], int] | None = None
) -> Iterator[Body]:
    """Run a nest of loops.

    Parameters
    ----------
    loops
        The loops, outermost first.
    base
        Address at which the nest starts.
    end
        Called with each body when the caller asks for the next one; returns the address where
        that body ended. Needed if a loop is ``auto``.

    Yields
    ------
    Body
        The bodies in order; a single one if there are no loops, none if an extent is 0.

    Raises
    ------
    ValueError
        The loops are none that an instruction can carry.
    """
    if len(loops) > LOOP_LEVELS:
        raise ValueError(f"a nest has at most {LOOP_LEVELS} loops, not {len(loops)}")
    for number, loop in enumerate(loops):
        if loop.step < 1:
            raise ValueError(f"the step of loop {number} must be at least 1, not {loop.step}")
        if loop.auto and end is None:
            raise ValueError(f"loop {number} is auto: pass end=, which tells where a body ended")

    levels = [_Level(loop) for loop in loops]
    sizes = {axis: 1 for axis in Axis}
    mask = (1 << ADDRESS_BITS) - 1

    def enter(outermost: int, address: int) -> None:
        for number in range(outermost, len(levels)):
            level, axis = levels[number], loops[number].axis
            outer = [other for other in levels[:number] if other.loop.axis == axis]
            level.rest = outer[-1].size if outer else level.loop.total
            level.index, level.address = 0, address

    enter(0, base & mask)
    if any(level.rest == 0 for level in levels):
        return
    while True:
        for level in levels:
            sizes[level.loop.axis] = level.size
        body = _describe(levels, sizes, base & mask)
        yield body
        pending = [number for number, level in enumerate(levels) if not level.is_last]
        if not pending:
            return
        number = pending[-1]
        level = levels[number]
        level.rest -= level.loop.step
        level.index += 1
        if level.loop.auto:
            assert end is not None
            level.address = end(body) & mask
        else:
            level.address = level.address + level.loop.stride & mask
        enter(number + 1, level.address)


def _describe(levels: list[_Level], sizes: dict[Axis, int], base: int) -> Body:
    def every(flag: str, axis: Axis) -> bool:
        return all(getattr(level, flag) for level in levels if level.loop.axis == axis)

    cuts = range(LOOP_LEVELS + 1)
    return Body(
        n=sizes[Axis.N],
        k=sizes[Axis.K],
        r=sizes[Axis.R],
        address=levels[-1].address if levels else base,
        first=tuple(all(level.is_first for level in levels[cut:]) for cut in cuts),
        last=tuple(all(level.is_last for level in levels[cut:]) for cut in cuts),
        n_last=every("is_last", Axis.N),
        r_last=every("is_last", Axis.R),
        k_first=every("is_first", Axis.K),
        k_last=every("is_last", Axis.K),
        index=levels[-1].index if levels else 0,
        inner=len(levels),
        inner_r=bool(levels) and levels[-1].loop.axis == Axis.R,
    )
