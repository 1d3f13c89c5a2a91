"""The loop engine: turns the loops of one instruction into a sequence of bodies."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from amaranth.hdl import Array, Cat, Const, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.isa import INSTRUCTIONS, LOOP_LEVELS, Axis, Opcode
from lutcore.hw.contract.loops import ADDRESS_BITS, EXTENT_BITS
from lutcore.hw.memory.ram import lut_ram

__all__ = ["Nest", "body_layout", "loop_layout"]


class _Rows(NamedTuple):
    """A value per level: its write port, and the row that was scanned a cycle ago."""

    write: Any
    q: Any


def _rows(m: Module, platform: object, name: str, shape: ShapeLike, scan: Signal) -> _Rows:
    """Distributed RAM of one row per level, read into a register every cycle."""
    memory = lut_ram(platform, shape=shape, depth=8)
    m.submodules[name] = memory
    read, write = memory.read_port(domain="comb"), memory.write_port()
    q = Signal(shape, name=f"{name}_q", reset_less=True)
    m.d.comb += read.addr.eq(scan)
    m.d.sync += q.eq(read.data)
    return _Rows(write, q)


def _is(value: Value, axis: Axis) -> Value:
    """Whether a value is that axis; there is none that has both bits."""
    return {Axis.N: ~value.any(), Axis.K: value[0], Axis.R: value[1]}[axis]


def _of(value: Value, choices: Mapping[Axis, Signal]) -> Value:
    """That of an axis."""
    choice = Mux(_is(value, Axis.K), choices[Axis.K], choices[Axis.N])
    return Mux(_is(value, Axis.R), choices[Axis.R], choice)


def _every(axes: Sequence[Signal], axis: Axis, flags: Value) -> Value:
    """Whether all loops of the axis have their flag."""
    return Cat(~_is(other, axis) | flag for other, flag in zip(axes, flags, strict=True)).all()


def loop_layout() -> data.StructLayout:
    """A loop as it is pushed: the fields of LOOP but its unit."""
    layout = INSTRUCTIONS[Opcode.LOOP].layout
    names = [field.name for field in INSTRUCTIONS[Opcode.LOOP].fields if field.name != "unit"]
    return data.StructLayout({name: layout[name].shape for name in names})


def body_layout(address_width: int = ADDRESS_BITS) -> data.StructLayout:
    """A body; the members are those of :class:`lutcore.hw.contract.loops.Body`.

    Bit L of ``first`` and ``last`` is element L there; ``inner_r`` counts only if ``inner`` does.
    """
    return data.StructLayout(
        {
            "n": EXTENT_BITS,
            "k": EXTENT_BITS,
            "r": EXTENT_BITS,
            "address": address_width,
            "first": LOOP_LEVELS + 1,
            "last": LOOP_LEVELS + 1,
            "n_last": 1,
            "r_last": 1,
            "k_first": 1,
            "k_last": 1,
            "index": EXTENT_BITS,
            "inner": range(LOOP_LEVELS + 1),
            "inner_r": 1,
        }
    )


class Nest(wiring.Component):
    """Loop engine of one unit, see "Loops" in ``docs/architecture.md``.

    Push loops, then pulse ``start``. The bodies come out one after the other: the consumer
    works on the one that ``o`` offers and takes it when it is done with it, upon which the next
    body is computed. After the last one ``done`` pulses, and the nest is empty and idle again::

        start ─┐ 3 + depth cycles        ┌─ 2 (or 3) + d cycles
               └────────────► o, work ─ taken ─► o …  or  done

    d is the number of loops inside the one that goes on; 3 if the body is taken in the first
    cycle of ``o.valid``. An empty nest of no loops has one body of size 1, 1, 1; a nest with an
    extent of 0 has none.

    Parameters
    ----------
    address_width
        Bits of the address; addresses wrap at it, strides are cut to it.
    region_bits
        Bits of the addresses within a region, if whoever takes the bodies stops at one beyond it.
        An address then has two bits more, which are not both 0 where it lies beyond the region.
    aligned
        Lowest bits of an address that are 0, if whoever takes the bodies stops at one with others.
        They are right in every body that another one follows, so that the nest leaves them out.
    prompt
        Whether a body may be taken in the first cycle of ``o.valid``.

    Members
    -------
    push
        Loops of :func:`loop_layout`, outermost first, `LOOP_LEVELS` at most; ready while idle.
    start
        Pulse while idle: begin at ``base``. Not in the cycle of a push.
    base
        Address at which the nest starts, sampled with ``start``.
    o
        Bodies of :func:`body_layout`.
    next_address
        Where the body ended, sampled when it is taken; matters to ``auto`` loops only.
    busy
        From the cycle after ``start`` to the cycle of ``done``.
    done
        Pulse: no further bodies.
    """

    def __init__(
        self,
        *,
        address_width: int = ADDRESS_BITS,
        region_bits: int | None = None,
        aligned: int = 0,
        prompt: bool = True,
    ) -> None:
        if not isinstance(address_width, int) or not 1 <= address_width <= ADDRESS_BITS:
            raise TypeError(f"Address width must be in 1..{ADDRESS_BITS}, not {address_width!r}")
        self.region_bits, self.aligned, self.prompt = region_bits, aligned, prompt
        #: Bits of the bodies' addresses, and those of them that a body has which another follows.
        self.address_width = address_width if region_bits is None else region_bits + 2
        self.kept = address_width if region_bits is None else region_bits
        super().__init__(
            {
                "push": In(stream.Signature(loop_layout())),
                "start": In(1),
                "base": In(ADDRESS_BITS),
                "o": Out(stream.Signature(body_layout(self.address_width))),
                "next_address": In(self.address_width),
                "busy": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        depth = Signal(range(LOOP_LEVELS + 1))
        level = Signal(range(LOOP_LEVELS), reset_less=True)
        used = Signal(LOOP_LEVELS)
        axes = Array(
            Signal(range(len(Axis)), name=f"axis{n}", reset_less=True) for n in range(LOOP_LEVELS)
        )
        first = Signal(LOOP_LEVELS, reset_less=True)
        last = Signal(LOOP_LEVELS, reset_less=True)
        sizes = {
            axis: Signal(EXTENT_BITS, name=f"size_{axis.name.lower()}", reset_less=True)
            for axis in Axis
        }
        # Axes of which a loop further out has just changed its size.
        changed = {
            axis: Signal(name=f"changed_{axis.name.lower()}", reset_less=True) for axis in Axis
        }
        index = Signal(EXTENT_BITS, reset_less=True)
        address = Signal(self.address_width, reset_less=True)

        # One level per cycle passes through these registers, filled from the memories a cycle
        # earlier: one subtractor and one adder serve all levels.
        scan = Signal(range(LOOP_LEVELS))
        m.d.comb += scan.eq(level)
        fixed_layout = data.StructLayout(
            {"axis": range(len(Axis)), "auto": 1, "step": EXTENT_BITS, "stride": self.address_width}
        )
        fixed = _rows(m, platform, "fixed", fixed_layout, scan)
        extents = _rows(m, platform, "extents", EXTENT_BITS, scan)
        rests = _rows(m, platform, "rests", EXTENT_BITS, scan)
        addresses = _rows(m, platform, "addresses", self.kept - self.aligned, scan)
        row = fixed.q

        # The innermost loop that is not at its last iteration goes on.
        pending = ~last & used
        turn = Signal(range(LOOP_LEVELS))
        for number in range(LOOP_LEVELS):
            with m.If(pending[number]):
                m.d.comb += turn.eq(number)

        m.d.comb += [
            # The row behind the loops, whatever comes to lie in it before the next one.
            fixed.write.en.eq(1),
            fixed.write.addr.eq(depth),
            fixed.write.data.axis.eq(self.push.payload.axis),
            fixed.write.data.auto.eq(self.push.payload.auto),
            fixed.write.data.step.eq(self.push.payload.step),
            fixed.write.data.stride.eq(self._shorten(self.push.payload.stride)),
            # Row 0, unless told otherwise: the outermost loop is entered once, right after a read.
            extents.write.en.eq(1),
            rests.write.addr.eq(level),
        ]

        # What this level still has before it (this iteration included), and after it.
        entering = Signal()
        extent = Mux(_of(row.axis, changed), _of(row.axis, sizes), extents.q)
        rest = Signal(EXTENT_BITS)
        after = Signal(EXTENT_BITS + 1)
        is_last = Signal()
        m.d.comb += [
            rest.eq(Mux(entering, extent, rests.q)),
            after.eq(rest - row.step),
            is_last.eq(after[-1] | (after[:-1] == 0)),
            rests.write.data.eq(after),
        ]

        # The address of a level is written one cycle after it has passed, from the register
        # that the next level starts from.
        passed = Signal(range(LOOP_LEVELS), reset_less=True)
        store = Signal(reset_less=True)
        m.d.sync += [passed.eq(level), store.eq(0)]
        m.d.comb += [
            addresses.write.addr.eq(passed),
            addresses.write.data.eq(address[self.aligned : self.kept]),
            addresses.write.en.eq(store),
        ]

        # In the first cycle of a body the innermost address is still being written.
        settled = Signal(reset_less=True)
        m.d.sync += settled.eq(0)
        innermost = Signal()
        m.d.comb += innermost.eq(level + 1 == depth)

        def pass_level() -> None:
            """What entering a loop and going on with it have in common."""
            m.d.comb += rests.write.en.eq(1)
            m.d.sync += [
                store.eq(1),
                last.bit_select(level, 1).eq(is_last),
                first.bit_select(level, 1).eq(entering),
                level.eq(level + 1),
            ]
            for axis in Axis:
                with m.If(_is(row.axis, axis)):
                    m.d.sync += [sizes[axis].eq(Mux(is_last, rest, row.step)), changed[axis].eq(1)]
            with m.If(innermost):
                m.next = "BODY"
            with m.Else():
                m.next = "ENTER"

        m.d.comb += self.busy.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [
                    self.busy.eq(0),
                    self.push.ready.eq(1),
                    extents.write.addr.eq(depth),
                    extents.write.data.eq(self.push.payload.total),
                ]
                m.d.sync += [
                    level.eq(0),
                    index.eq(0),
                    address.eq(self._shorten(self.base, signed=False)),
                ]
                m.d.sync += [size.eq(1) for size in sizes.values()]
                m.d.sync += [flag.eq(0) for flag in changed.values()]
                with m.If(self.push.valid & self.push.ready):
                    m.d.sync += [
                        depth.eq(depth + 1),
                        axes[depth].eq(self.push.payload.axis),
                        used.bit_select(depth, 1).eq(1),
                    ]
                with m.If(self.start):
                    with m.If(depth == 0):
                        m.next = "BODY"
                    with m.Else():
                        m.next = "LOOK"

            with m.State("LOOK"):
                m.next = "ENTER"

            with m.State("ENTER"):
                m.d.comb += [
                    scan.eq(level + 1),
                    entering.eq(1),
                    extents.write.addr.eq(level),
                    extents.write.data.eq(rest),
                ]
                with m.If(innermost):
                    m.d.sync += index.eq(0)
                pass_level()
                with m.If(rest == 0):
                    # What has been entered does not matter any more.
                    m.next = "DONE"

            with m.State("BODY"):
                m.d.comb += self.o.valid.eq(1)
                m.d.sync += [level.eq(turn), settled.eq(1)]
                m.d.sync += [flag.eq(0) for flag in changed.values()]
                with m.If(self.o.ready):
                    m.d.sync += address.eq(self.next_address)
                    with m.If(~pending.any()):
                        m.next = "DONE"
                    if self.prompt:
                        with m.Elif(~settled):
                            m.next = "REREAD"
                    with m.Else():
                        m.next = "GO_ON"

            if self.prompt:
                with m.State("REREAD"):
                    m.next = "GO_ON"

            with m.State("GO_ON"):
                m.d.comb += scan.eq(level + 1)
                with m.If(innermost):
                    m.d.sync += index.eq(index + 1)
                with m.If(~row.auto):
                    m.d.sync += address.eq(Cat(Const(0, self.aligned), addresses.q) + row.stride)
                pass_level()

            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.d.sync += [depth.eq(0), used.eq(0)]
                m.next = "IDLE"

        body = self.o.payload
        cuts = range(LOOP_LEVELS + 1)
        m.d.comb += [
            body.n.eq(sizes[Axis.N]),
            body.k.eq(sizes[Axis.K]),
            body.r.eq(sizes[Axis.R]),
            body.address.eq(address),
            body.first.eq(Cat((first | ~used)[cut:].all() for cut in cuts)),
            body.last.eq(Cat((last | ~used)[cut:].all() for cut in cuts)),
            body.n_last.eq(_every(axes, Axis.N, last | ~used)),
            body.r_last.eq(_every(axes, Axis.R, last | ~used)),
            body.k_first.eq(_every(axes, Axis.K, first | ~used)),
            body.k_last.eq(_every(axes, Axis.K, last | ~used)),
            body.index.eq(index),
            body.inner.eq(depth),
            body.inner_r.eq(_is(axes[0], Axis.R)),
        ]
        for number in range(1, LOOP_LEVELS):
            with m.If(used[number]):
                m.d.comb += body.inner_r.eq(_is(axes[number], Axis.R))
        return m

    def _shorten(self, value: Value, *, signed: bool = True) -> Value:
        """A base, or a stride, as far as it matters.

        The bits above those of a region become two: 00 for zeros, 11 for the ones of a stride back,
        and 01 for anything else, which no carry from below makes 00.
        """
        if self.region_bits is None:
            return value[: self.address_width]
        above = value[self.region_bits :]
        back = above.all() if signed else Const(0, 1)
        return Cat(value[: self.region_bits], above.any(), back)
