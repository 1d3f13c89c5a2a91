"""The end of the scale unit: exact fixed-point sums to float32 results.

    y = RN32( RN32( RN32(T * 2^E) * r ) + bias )

Three fully pipelined units in a row, one per rounding (nearest, ties to even). `finalise` of
`lutcore.hw.contract.float32`, which also defines the row-scale format of r, is their golden model.

            ┌──────────┐       ┌──────────┐  float32, or  ┌─────────┐
    T, E ──►│ RoundSum │──────►│ ScaleRow │──────────────►│ AddBias ├──► y
            └──────────┘       └──────────┘   infinity    └─────────┘
                   row scale r ──►┘                bias ──►┘
              4 cycles           4 cycles         6 cycles

Nothing is special-cased that arithmetic covers: T * 2^E is never a subnormal that needs rounding,
because E >= -149; r has no subnormals in its format; and the adder works on subnormals as they
are. Only the product has to be denormalised. An infinity travels as a flag beside the number.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.float32 import NO_BIAS, ROW_SCALE_BIAS

__all__ = ["AddBias", "Finaliser", "RoundSum", "ScaleRow"]

# Bits of T from its leading one that are kept exactly: the significand and the bit that decides
# its rounding. What lies below counts only as zero or not, and is kept as one "sticky" bit.
_KEPT = 25
# The exponent of T * 2^E, from -149 to 254 before it is found infinite.
_EXPONENT = signed(11)


class _Stages:
    """Names and makes the pipeline registers of one unit.

    They hold data only and need no reset, and all of them wait while `enable` is low.
    """

    def __init__(self, m: Module, enable: Value) -> None:
        self._m = m
        self._enable = enable

    def wire(self, value: ValueLike, name: str) -> Signal:
        """`value` under a name, to be used several times without being elaborated again."""
        value = Value.cast(value)
        wire = Signal(value.shape(), name=name)
        self._m.d.comb += wire.eq(value)
        return wire

    def register(self, value: ValueLike, name: str, *, cycles: int = 1) -> Signal:
        """`value` of the given number of enabled cycles ago, at least 1."""
        register = self._register(value, name if cycles == 1 else f"{name}_0")
        for stage in range(1, cycles):
            register = self._register(register, f"{name}_{stage}")
        return register

    def _register(self, value: ValueLike, name: str) -> Signal:
        value = Value.cast(value)
        register = Signal(value.shape(), name=name, reset_less=True)
        with self._m.If(self._enable):
            self._m.d.sync += register.eq(value)
        return register


class RoundSum(wiring.Component):
    """RN32(T * 2^E), unpacked.

    Latency 4 enabled cycles, one result per enabled cycle.

    Parameters
    ----------
    sum_width : int
        Bits of T, from 2 to 128.

    Attributes
    ----------
    latency : int
        Enabled cycles from input to output.

    Members
    -------
    en : In(1)
        Everything advances while high.
    i_sum : In(signed(sum_width))
        T; every value, the most negative one included.
    i_exp : In(signed(10))
        E, from -149 to 127; the result is undefined for others.
    o_sign : Out(1)
    o_infinite : Out(1)
        The result is infinite; `o_significand` and `o_exp` then mean nothing.
    o_significand : Out(24)
        With its top bit set, or 0 if T is 0.
    o_exp : Out(signed(11))
        Exponent of the top bit of the significand.
    """

    latency = 4

    en: Signal
    i_sum: Signal
    i_exp: Signal
    o_sign: Signal
    o_infinite: Signal
    o_significand: Signal
    o_exp: Signal

    def __init__(self, *, sum_width: int) -> None:
        if not isinstance(sum_width, int):
            raise TypeError(f"Sum width must be an integer, not {sum_width!r}")
        if not 2 <= sum_width <= 128:
            raise ValueError(f"Sum width must be from 2 to 128 bits, not {sum_width}")
        self.sum_width = sum_width
        super().__init__(
            {
                "en": In(1),
                "i_sum": In(signed(sum_width)),
                "i_exp": In(signed(10)),
                "o_sign": Out(1),
                "o_infinite": Out(1),
                "o_significand": Out(24),
                "o_exp": Out(_EXPONENT),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Normalise T, then round it.

        No absolute value is formed. A negative T is n + 1 for the complement n of its bits, so T
        is shifted until the bits of n lead with a one, zeros coming in from below in T and hence
        ones in n, and the "+ 1" is settled in the rounding. T = -1 has n = 0, but the ones that
        follow n round up to 1 like any other carry.
        """
        m = Module()
        stages = _Stages(m, self.en)

        # The bits below the sign, and any number of zeros below the point.
        body: Value = self.i_sum[: self.sum_width - 1]
        body = Cat(Const(0, max(0, _KEPT - len(body))), body)
        sign: Value = self.i_sum[-1]
        lost: Value = Const(0, 1)
        # The steps must reach past the whole body (for T = -1) and so add up to its length or more.
        coarse_steps = [64, 32] if self.sum_width > 64 else [32]

        coarse, body, lost = self._skip(stages, body, sign, lost, coarse_steps)
        # The exponent of the top bit of the body, plus 1 (see the end).
        top = stages.register(self.i_exp + (self.sum_width - 1), "top")
        coarse = stages.register(Cat(*coarse), "skip_coarse")
        body = stages.register(body, "body_coarse")
        sign = stages.register(sign, "sign_coarse")
        lost = stages.register(lost, "lost_coarse")

        middle, body, lost = self._skip(stages, body, sign, lost, [16, 8])
        top = stages.register(top, "top_middle")
        middle = stages.register(Cat(*middle, coarse), "skip_middle")
        body = stages.register(body, "body_middle")
        sign = stages.register(sign, "sign_middle")
        lost = stages.register(lost, "lost_middle")

        fine, body, lost = self._skip(stages, body, sign, lost, [4, 2])
        top = stages.register(top, "top_fine")
        skipped = stages.register(Cat(*fine, middle), "skip_fine")
        body = stages.register(body, "body_fine")
        sign = stages.register(sign, "sign_fine")
        lost = stages.register(lost, "lost_fine")

        last, body, lost = self._skip(stages, body, sign, lost, [1])
        skipped = Cat(*last, skipped)
        kept = stages.wire(body ^ sign.replicate(_KEPT), "kept")
        # `lost` is about the bits of T. For a negative T without ones there, those of n are all
        # ones, and n + 1 carries into the deciding bit.
        decide, odd = kept[0], kept[1]
        up = Mux(sign, decide | (~lost & odd), decide & (lost | odd))
        # One addition rounds and takes the skipped places off the exponent: minus k is the
        # complement of k plus 1, and the 1 is in `top` already.
        significand = kept[1:]
        rounded = stages.wire(
            Cat(significand[:23], top)
            + Cat(up, Const(0, 22), ~skipped, Const(-1, 11 - len(skipped))),
            "rounded",
        )
        # (T = 0 skips so many places that its exponent never looks infinite.)
        exponent = rounded[23 : 23 + 11].as_signed()
        m.d.comb += [
            self.o_sign.eq(stages.register(sign, "sign_out")),
            self.o_infinite.eq(stages.register(exponent > 127, "infinite")),
            self.o_significand.eq(
                stages.register(Cat(rounded[:23], significand[23]), "significand")
            ),
            self.o_exp.eq(stages.register(exponent, "exponent")),
        ]
        return m

    @staticmethod
    def _skip(
        stages: _Stages, body: Value, sign: Value, lost: Value, steps: list[int]
    ) -> tuple[list[Value], Value, Value]:
        """Shift leading copies of the sign out, by one step or by two, the first twice as long.

        Both decisions are made from the unshifted bits, which halves the depth. Returns them
        (smallest step first), the body, cut to what the smaller steps can still bring up, and
        whether a one was cut off.
        """
        step = steps[-1]
        name = f"skip{step}"

        def is_sign(group: int) -> Value:
            padded = Cat(Const(0, 3 * step), body)
            bits = padded[len(padded) - (group + 1) * step : len(padded) - group * step]
            return stages.wire(bits == sign.replicate(step), f"{name}_group{group}")

        decisions: list[Value] = [is_sign(0)]
        if len(steps) == 2:
            far = stages.wire(decisions[0] & is_sign(1), f"{name}_far")
            # The smaller steps take what they reach behind the first two groups.
            third = is_sign(2) if len(body) - 2 * step >= step else 0
            near = stages.wire(Mux(far, third, decisions[0]), f"{name}_near")
            decisions = [near, far]
        for size, decision in zip(steps, reversed(decisions), strict=True):
            shifted = Mux(decision, Cat(Const(0, size), body)[: len(body)], body)
            body = stages.wire(shifted, f"{name}_by{size}")
            cut = max(0, len(body) - (_KEPT + size - 1))
            lost = stages.wire(lost | body[:cut].any(), f"{name}_lost{size}")
            body = body[cut:]
        return decisions, body, lost


class ScaleRow(wiring.Component):
    """RN32(x * r) of an unpacked x and a row scale r, as bits of a float32.

    Latency 4 enabled cycles, one result per enabled cycle. The multiplier takes four DSP blocks
    of 18 x 18 bits.

    Attributes
    ----------
    latency : int
        Enabled cycles from input to output.

    Members
    -------
    en : In(1)
        Everything advances while high.
    i_sign, i_infinite, i_significand, i_exp
        x, as `RoundSum` gives it. Zero stays zero and infinity infinity, whatever r.
    i_row : In(32)
        r, in the row-scale format; any code.
    o_sign : Out(1)
    o_infinite : Out(1)
        The result is infinite; `o_magnitude` then means nothing.
    o_magnitude : Out(31)
        The bits of a float32 without its sign.
    """

    latency = 4

    en: Signal
    i_sign: Signal
    i_infinite: Signal
    i_significand: Signal
    i_exp: Signal
    i_row: Signal
    o_sign: Signal
    o_infinite: Signal
    o_magnitude: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "en": In(1),
                "i_sign": In(1),
                "i_infinite": In(1),
                "i_significand": In(24),
                "i_exp": In(_EXPONENT),
                "i_row": In(32),
                "o_sign": Out(1),
                "o_infinite": Out(1),
                "o_magnitude": Out(31),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Multiply, shift so far as the exponent is too small, round."""
        m = Module()
        stages = _Stages(m, self.en)
        zero: Value = ~self.i_significand[-1]
        sign = stages.register(self.i_sign, "sign", cycles=4)
        infinite = stages.register(self.i_infinite, "infinite", cycles=3)

        # Partial products of a size that DSP blocks have, registered before they are added.
        a = self.i_significand
        b = Cat(self.i_row[:23], Const(1, 1))
        low = stages.register(a[:18] * b[:18], "low")
        cross_a = stages.register(a[18:] * b[:18], "cross_a")
        cross_b = stages.register(a[:18] * b[18:], "cross_b")
        high = stages.register(a[18:] * b[18:], "high")
        # The exponent field, less 1, of a product with its leading one in bit 46. (Bit 46 has the
        # exponent of x plus that of r; a field is an exponent plus 127.)
        field: Value = stages.register(
            self.i_exp + self.i_row[23:] + (127 - ROW_SCALE_BIAS - 1), "field"
        )
        zero = stages.register(zero, "zero")

        product = stages.wire(
            Cat(low, high) + Cat(Const(0, 18), stages.wire(cross_a + cross_b, "cross")), "sum"
        )
        # Bits 47..46 lead and bit 22 decides the rounding if there is nothing to shift. A field
        # below 1 makes a subnormal, shifted by what is missing; 31 places leave nothing.
        tiny = stages.wire(field[-1], "tiny")
        missing = stages.wire((-field)[: len(field)], "missing")
        places: Value = stages.register(
            missing[:5] | missing[5:].any().replicate(5), "places_missing"
        )
        product, lost = (
            stages.register(product[22:48], "product"),
            stages.register(product[:22].any(), "lost"),
        )
        field = stages.register(Mux(tiny | zero, 0, field[:10]), "field_normal")
        tiny = stages.register(tiny, "tiny_product")

        # A normal product may have its leading one in bit 47, and is then one place too long.
        long = stages.wire(product[25] & ~tiny, "long")
        places = stages.wire(Mux(tiny, places, long), "places")
        kept, lost = _shift_right(stages, product, places, lost)
        kept = stages.register(kept[:_KEPT], "kept")
        lost = stages.register(lost, "lost_shifted")
        long = stages.register(long, "long_shifted")
        field = stages.register(field, "field_shifted")

        # The leading one of a normal number adds 1 to the field, and so does a carry.
        up = kept[0] & (lost | kept[1])
        lead = kept[24]
        packed = stages.wire(
            Cat(kept[1:24], field) + Cat(up, Const(0, 22), lead ^ long, lead & long), "packed"
        )
        overflow = packed[31:].any() | packed[23:31].all()
        m.d.comb += [
            self.o_sign.eq(sign),
            self.o_infinite.eq(stages.register(infinite | overflow, "infinite_out")),
            self.o_magnitude.eq(stages.register(packed[:31], "magnitude")),
        ]
        return m


class AddBias(wiring.Component):
    """RN32(x + bias), as bits of a float32.

    Latency 6 enabled cycles, one result per enabled cycle.

    Attributes
    ----------
    latency : int
        Enabled cycles from input to output.

    Members
    -------
    en : In(1)
        Everything advances while high.
    i_sign, i_infinite, i_magnitude
        x, as `ScaleRow` gives it. Infinity stays infinity of the same sign, whatever the bias.
    i_bias : In(32)
        Bits of a float32. All-ones exponent bits count as an ordinary exponent (see `finalise`).
        Adding -0 changes nothing, not even another -0.
    o_y : Out(32)
        Bits of a float32; +0 for equal numbers of opposite sign.
    """

    latency = 6

    en: Signal
    i_sign: Signal
    i_infinite: Signal
    i_magnitude: Signal
    i_bias: Signal
    o_y: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "en": In(1),
                "i_sign": In(1),
                "i_infinite": In(1),
                "i_magnitude": In(31),
                "i_bias": In(32),
                "o_y": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Align the smaller number to the greater, add or subtract, normalise, round."""
        m = Module()
        stages = _Stages(m, self.en)
        infinite = stages.register(self.i_infinite, "infinite", cycles=5)
        infinite_sign = stages.register(self.i_sign, "infinite_sign", cycles=5)

        # Operands swap if subtracting borrows. The distance of the exponents is had both ways round
        # meanwhile.
        x, bias = self.i_magnitude, self.i_bias[:31]
        swap = stages.wire((x - bias)[31], "swap")
        x_lead, x_exponent = _lead_and_exponent(stages, x, "x")
        bias_lead, bias_exponent = _lead_and_exponent(stages, bias, "bias")
        distance = stages.wire(
            Mux(swap, (bias_exponent - x_exponent)[:8], (x_exponent - bias_exponent)[:8]),
            "distance",
        )
        sign = stages.register(Mux(swap, self.i_bias[31], self.i_sign), "sign")
        minus = stages.register(self.i_bias[31] ^ self.i_sign, "minus")
        # 31 places leave nothing of the smaller number but its sticky bit, and so do more.
        places = stages.register(distance[:5] | distance[5:].any().replicate(5), "places")
        exponent = stages.register(Mux(swap, bias_exponent, x_exponent), "exponent")
        x, bias = Cat(x[:23], x_lead), Cat(bias[:23], bias_lead)
        big = stages.register(Mux(swap, bias, x), "big")
        small = stages.register(Mux(swap, x, bias), "small")

        aligned, lost = _shift_right(stages, Cat(Const(0, 2), small), places, Const(0, 1))
        aligned = stages.register(Cat(lost, aligned) ^ minus.replicate(27), "aligned")
        big = stages.register(Cat(Const(0, 3), big), "big_aligned")
        minus = stages.register(minus, "minus_aligned")
        sign = stages.register(sign, "sign_aligned")
        exponent = stages.register(exponent, "exponent_aligned")

        # The carry into the subtraction comes from a bit below the lowest. The carry out of an
        # addition becomes the top bit; that of a subtraction says nothing.
        total = stages.wire((Cat(minus, big) + Cat(minus, aligned))[1:], "total")
        body: Value = stages.register(Cat(total[:27], total[27] & ~minus), "body")
        minus = stages.register(minus, "minus_total")
        sign = stages.register(sign, "sign_total")
        exponent = stages.register(exponent, "exponent_total")

        # Normalising must not take the exponent below that of subnormals. The limit is counted
        # down with the steps: once one was allowed and not taken, all smaller ones are allowed.
        free: Value = exponent[5:].any()
        coarse, body, free, empty = _normalise(stages, body, exponent[3:5], free, 8)
        coarse = stages.register(coarse, "skip_coarse")
        body = stages.register(body, "body_coarse")
        free = stages.register(free, "free_coarse")
        limit = stages.register(exponent[:3], "limit")
        # Plus 2: see the end.
        field = stages.register(exponent + 2, "field")
        sign = stages.register(sign & ~(minus & empty), "sign_coarse")

        middle, body, free, _ = _normalise(stages, body, limit[1:3], free, 2)
        fine = stages.wire(~body[-1] & (free | limit[0]), "skip1")
        body = stages.wire(Mux(fine, Cat(Const(0, 1), body)[:28], body), "skip1_by1")
        kept = stages.register(body[3:], "kept")
        lost = stages.register(body[:3].any(), "lost")
        skipped = stages.register(Cat(fine, middle, coarse), "skipped")
        field = stages.register(field, "field_normal")
        sign = stages.register(sign, "sign_normal")

        # One addition rounds and takes the skipped places off the exponent: minus k is the
        # complement of k plus 1, and the leading one of a normal number stands for another 1;
        # both are in `field` already. Without a leading one the number is zero or a subnormal
        # (an exact one, since only the product is ever finer): its field is 0, and the sum in its
        # place is no overflow, because either all 31 places were skipped or it is 1.
        up = kept[0] & (lost | kept[1])
        lead = kept[24]
        packed = stages.wire(
            (Cat(kept[1:24], field) + Cat(up, Const(0, 22), ~skipped, Const(-1, 4)))[:32], "packed"
        )
        overflow = stages.wire(infinite | packed[31] | packed[23:31].all(), "overflow")
        y = Cat(
            packed[:23] & ~overflow.replicate(23),
            (packed[23:31] & lead.replicate(8)) | overflow.replicate(8),
            Mux(infinite, infinite_sign, sign),
        )
        m.d.comb += self.o_y.eq(stages.register(y, "y"))
        return m


def _lead_and_exponent(stages: _Stages, magnitude: Value, name: str) -> tuple[Value, Value]:
    """Leading bit of a float32, and its exponent field; subnormals have the exponent of field 1."""
    lead = stages.wire(magnitude[23:].any(), f"{name}_lead")
    return lead, stages.wire(Cat(magnitude[23] | ~lead, magnitude[24:]), f"{name}_exponent")


def _shift_right(stages: _Stages, value: Value, places: Value, lost: Value) -> tuple[Value, Value]:
    """`value >> places`, and whether a one was shifted out or `lost` before."""
    for bit in reversed(range(len(places))):
        size = 1 << bit
        lost = stages.wire(lost | (places[bit] & value[:size].any()), f"shift_lost{size}")
        value = stages.wire(Mux(places[bit], value >> size, value), f"shift_by{size}")
    return value, lost


def _normalise(
    stages: _Stages, body: Value, limit: Value, free: Value, step: int
) -> tuple[Value, Value, Value, Value]:
    """Shift leading zeros out, by up to one `step` and one twice as long, within a limit.

    Returns the decisions (`step` first), the body, whether the limit has become irrelevant, and
    whether the first four steps' bits of the body were zero.
    """
    name = f"skip{step}"
    padded = Cat(Const(0, max(0, 4 * step - len(body))), body)
    groups = [
        stages.wire(
            ~padded[len(padded) - (group + 1) * step : len(padded) - group * step].any(),
            f"{name}_group{group}",
        )
        for group in range(4)
    ]
    far = stages.wire(groups[0] & groups[1] & (free | limit[1]), f"{name}_far")
    free = stages.wire(free | (limit[1] & ~far), f"{name}_free{2 * step}")
    near = stages.wire(Mux(far, groups[2], groups[0]) & (free | limit[0]), f"{name}_near")
    free = stages.wire(free | (limit[0] & ~near), f"{name}_free{step}")
    for size, decision in ((2 * step, far), (step, near)):
        shifted = Mux(decision, Cat(Const(0, size), body)[: len(body)], body)
        body = stages.wire(shifted, f"{name}_by{size}")
    return Cat(near, far), body, free, Cat(*groups).all()


class Finaliser(wiring.Component):
    """One lane from exact sums to float32 results.

    Fixed latency, one result per cycle, no backpressure inside: while `en` is low everything
    stands still, inputs included.

    Parameters
    ----------
    sum_width : int
        Bits of T, from 2 to 128.
    tag_width : int
        Bits that travel beside the numbers. With 0 there are no tag members, since a port of no
        bits is not Verilog.

    Attributes
    ----------
    latency : int
        Enabled cycles from input to output.

    Members
    -------
    en : In(1)
        All stages advance while high.
    i_valid : In(1)
        The other inputs hold a number; passes along.
    i_sum : In(signed(sum_width))
        T.
    i_exp : In(signed(10))
        E, from -149 to 127; the result is undefined for others.
    i_row : In(32)
        r, in the row-scale format (`row_scale_encode`); any code.
    i_bias : In(32)
        Bits of a float32. Finite ones are meant; all-ones exponent bits count as an ordinary
        exponent (see `finalise`).
    i_use_bias : In(1)
        While low there is no addition, and -0 stays -0.
    i_tag : In(tag_width)
        Anything; passes along.
    o_valid : Out(1)
    o_y : Out(32)
        Bits of the float32 result; never those of a NaN.
    o_tag : Out(tag_width)
    """

    latency = RoundSum.latency + ScaleRow.latency + AddBias.latency

    en: Signal
    i_valid: Signal
    i_sum: Signal
    i_exp: Signal
    i_row: Signal
    i_bias: Signal
    i_use_bias: Signal
    i_tag: Signal
    o_valid: Signal
    o_y: Signal
    o_tag: Signal

    def __init__(self, *, sum_width: int, tag_width: int = 0) -> None:
        if not isinstance(tag_width, int):
            raise TypeError(f"Tag width must be an integer, not {tag_width!r}")
        if tag_width < 0:
            raise ValueError(f"Tag width must not be negative, as {tag_width} is")
        self._round_sum = RoundSum(sum_width=sum_width)
        self.sum_width = sum_width
        self.tag_width = tag_width
        tags = {"i_tag": In(tag_width), "o_tag": Out(tag_width)} if tag_width else {}
        super().__init__(
            {
                "en": In(1),
                "i_valid": In(1),
                "i_sum": In(signed(sum_width)),
                "i_exp": In(signed(10)),
                "i_row": In(32),
                "i_bias": In(32),
                "i_use_bias": In(1),
                "o_valid": Out(1),
                "o_y": Out(32),
                **tags,
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The three units, and the delays of what the later ones and the consumer need."""
        m = Module()
        m.submodules.round_sum = round_sum = self._round_sum
        m.submodules.scale_row = scale_row = ScaleRow()
        m.submodules.add_bias = add_bias = AddBias()
        stages = _Stages(m, self.en)

        valid = Signal(self.latency)
        with m.If(self.en):
            m.d.sync += valid.eq(Cat(self.i_valid, valid))
        m.d.comb += [
            round_sum.en.eq(self.en),
            round_sum.i_sum.eq(self.i_sum),
            round_sum.i_exp.eq(self.i_exp),
            scale_row.en.eq(self.en),
            scale_row.i_sign.eq(round_sum.o_sign),
            scale_row.i_infinite.eq(round_sum.o_infinite),
            scale_row.i_significand.eq(round_sum.o_significand),
            scale_row.i_exp.eq(round_sum.o_exp),
            scale_row.i_row.eq(stages.register(self.i_row, "row", cycles=RoundSum.latency)),
            add_bias.en.eq(self.en),
            add_bias.i_sign.eq(scale_row.o_sign),
            add_bias.i_infinite.eq(scale_row.o_infinite),
            add_bias.i_magnitude.eq(scale_row.o_magnitude),
            add_bias.i_bias.eq(
                stages.register(
                    Mux(self.i_use_bias, self.i_bias, NO_BIAS),
                    "bias",
                    cycles=RoundSum.latency + ScaleRow.latency,
                )
            ),
            self.o_valid.eq(valid[-1]),
            self.o_y.eq(add_bias.o_y),
        ]
        if self.tag_width:
            m.d.comb += self.o_tag.eq(stages.register(self.i_tag, "tag", cycles=self.latency))
        return m
