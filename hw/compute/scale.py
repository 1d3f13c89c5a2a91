"""The scale unit: exact fixed-point accumulation of scaled group sums.

For every run and tile that leaves the array, T[row, channel] += c·v, S terms per cycle, where c is
a scale (or offset) as an integer and v the group's sum (or its sum of activations). All products
are aligned in integers, so T is exact whatever the order; rounding happens once, in FINAL.

    cycle  0      1       2      3         4     5       6        7
           issue  decode  value  multiply  fine  coarse  T + c·v  write
                                           read T
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutcore.hw.compute.tags import run_layout
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import INSTRUCTIONS, Opcode
from lutcore.hw.control.tokens import TokenPort
from lutcore.hw.memory.buffers import read_signature
from lutcore.hw.memory.queue import Queue
from lutcore.hw.util import State, fixed_delay, low_zeros

__all__ = ["ScaleUnit", "TermLane", "final_tag", "revisited_early"]

#: Largest shift of a coefficient: 16 for the high half of a wide scale, 16 of its own.
SHIFT_MAX = 32
#: Cycles from issuing the last term of a visit to a sum until its next visit may begin.
REUSE = 4


def final_tag(config: CoreConfig) -> data.StructLayout:
    """A sum slot whose sums are complete."""
    return data.StructLayout(
        {
            "slot": 1,
            "tiles": range(config.tiles + 1),
            # Less one; with a single tile in each there are the most.
            "row_tiles": range(max(2, config.sum_words // config.tile_sums)),
            "n_last": 1,
            "r_last": 1,
            "b_take": 1,
            "b_give": 1,
        }
    )


def revisited_early(sums: int, wide: bool) -> bool:
    """Whether so many sums, one after the other, are too few to be visited again at once.

    Each takes a cycle, or two if scales are wide, and once for the offset as many more: between the
    visits to the first sum, or to the last one, lie those to all others, at least.
    """
    return ((sums - 1) << wide) + 1 < REUSE


class LineKind(data.Struct):
    """What a line of the scale buffer is."""

    low: unsigned(1)  # low half of a wide scale; its shift and sign came with the high half
    offset: unsigned(1)  # multiplies the sum of activations


class TermLane(wiring.Component):
    """One lane: coefficient decoding, multiplication, alignment (cycles 1 to 5).

    Attributes
    ----------
    latency
        Cycles from a coefficient to its term.

    Members
    -------
    valid, coefficient
        16 bits of the line (cycle 1).
    wide, kind
        Format (cycle 1).
    accumulator, addend, asum
        The array's sum (cycle 2), what makes it v, and the run's sum of activations (cycle 2).
    double, halve
        v = (acc·2 + addend), v = (acc + addend)/2 (constant for a layer).
    term
        c·v, aligned (cycle 6).
    """

    latency = 5

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.value_width = config.acc_width + 1
        super().__init__(
            {
                "valid": In(1),
                "coefficient": In(16),
                "wide": In(1),
                "kind": In(LineKind),
                "accumulator": In(signed(config.acc_width)),
                "addend": In(signed(config.acc_width + 2)),
                "asum": In(signed(config.asum_width)),
                "double": In(1),
                "halve": In(1),
                "term": Out(signed(config.sum_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        code = self.coefficient
        exponent = code[10:15]
        magnitude = Signal(17, reset_less=True)
        negative = Signal(reset_less=True)
        shift = Signal(6, reset_less=True)
        with m.If(self.valid):
            with m.If(~self.wide):
                normal = exponent.any()
                m.d.sync += [
                    magnitude.eq(Cat(code[:10], normal)),
                    negative.eq(code[15]),
                    shift.eq(Mux(normal, exponent - 1, 0)),
                ]
            with m.Elif(~self.kind.low):
                m.d.sync += [
                    magnitude.eq(code[:8]),
                    negative.eq(code[15]),
                    shift.eq(code[8:13] + 16),
                ]
            with m.Else():
                # Sign and shift came with the high half, the line before.
                m.d.sync += [magnitude.eq(code), shift.eq(shift - 16)]
        kind = Signal(LineKind, reset_less=True)
        m.d.sync += kind.eq(self.kind)

        # Cycle 2: the value, and the coefficient with its sign.
        doubled = Mux(self.double, self.accumulator << 1, self.accumulator)
        value = Signal(signed(cfg.acc_width + 2))
        m.d.comb += value.eq(doubled + self.addend)
        factor = Signal(signed(self.value_width), reset_less=True)
        halved = Mux(self.halve, value >> 1, value)
        coefficient = Signal(signed(18), reset_less=True)
        shift_3 = Signal(6, reset_less=True)
        m.d.sync += [
            factor.eq(Mux(kind.offset, self.asum, halved)),
            coefficient.eq(Mux(negative, -magnitude, magnitude)),
            shift_3.eq(shift),
        ]
        # Cycles 3 to 5.
        product = Signal(signed(18 + self.value_width), reset_less=True)
        shift_4 = Signal(6, reset_less=True)
        fine = Signal(signed(18 + self.value_width + 7), reset_less=True)
        coarse = Signal(3, reset_less=True)
        term = Signal(self.term.shape(), reset_less=True)
        m.d.sync += [
            product.eq(coefficient * factor),
            shift_4.eq(shift_3),
            fine.eq(product << shift_4[:3]),
            coarse.eq(shift_4[3:]),
            term.eq(fine << (coarse << 3)),
        ]
        m.d.comb += self.term.eq(term)
        return m


class ScaleUnit(wiring.Component):
    """S term lanes, the sum buffer, and their control.

    Attributes
    ----------
    latency
        Cycles from the issue of a sum slot's last term to its offer to FINAL, if none is before
        it. By then all of its sums are in memory.

    Members
    -------
    i
        Runs from TABLE, in order.
    acc_valid, acc_pop, acc_sums
        Finished tiles from ARRAY.
    buffer
        Scale buffer: words of whole lines.
    s
        Scale slot tokens.
    o, freed
        Complete sum slots to FINAL, and FINAL's strobe when it has read one.
    sum_slot, sum_word, sum_enable, sum_data
        FINAL's read port; data a cycle later.
    """

    latency = 10

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.line_bits = 16 * config.scale_lanes
        self.word_bits = max(config.bus_width, self.line_bits)
        self.lines_per_word = self.word_bits // self.line_bits
        self.slot_words = max(2, config.scale_words // self.lines_per_word)
        self.sum_address = (config.sum_words - 1).bit_length()
        super().__init__(
            {
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "start": In(1),
                "i": In(stream.Signature(run_layout(config))),
                "acc_valid": In(1),
                "acc_pop": Out(1),
                "acc_sums": In(
                    data.ArrayLayout(signed(config.acc_width), config.lanes * config.rows)
                ),
                "buffer": Out(read_signature(self.word_bits, self.slot_words)),
                "s": Out(TokenPort()),
                "o": Out(stream.Signature(final_tag(config))),
                "freed": In(1),
                "sum_slot": In(1),
                "sum_word": In(self.sum_address),
                "sum_enable": In(1),
                "sum_data": Out(data.ArrayLayout(signed(config.sum_width), config.scale_lanes)),
                "active": Out(1),
                "operand_error": Out(1),
                "state": Out(State),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        layer = self.layer
        run = self.i.payload.tag

        # Control: entry (tile, plane) > chunk > row > line.
        running = Signal()
        tile = Signal(range(max(2, cfg.tiles)), reset_less=True)
        plane = Signal(range(max(2, cfg.planes)))
        chunk = Signal(range(max(2, cfg.chunks)))
        row = Signal(range(max(2, cfg.rows)))
        line = Signal(2)
        address_bits = (cfg.scale_words - 1).bit_length()
        chunk_line = Signal(address_bits, reset_less=True)  # first line of the chunk
        s_slot = Signal(reset_less=True)
        t_slot = Signal(init=1)
        t_free = Signal(range(3), init=2)
        layout = final_tag(cfg)
        # Tiles begin at multiples of their sums, whose low bits are 0.
        even = low_zeros(cfg.tile_sums)
        body_base = Signal(self.sum_address + 1 - even, reset_less=True)
        tile_base = Signal.like(body_base, reset_less=True)
        # Chunks begin at multiples of ``rows``, whose low bits are 0. Where ``rows`` is a power of
        # two, the bits above those are the number of the chunk.
        even_chunk = low_zeros(cfg.rows)
        own = even - even_chunk if cfg.rows == 1 << even_chunk else 0
        low_chunk = even_chunk + own
        chunk_above = Signal(self.sum_address + 1 - low_chunk, reset_less=True)
        chunk_base = Cat(Const(0, even_chunk), chunk[:own], chunk_above)
        next_base = chunk_base + cfg.rows
        row_tile = Signal(layout["row_tiles"].shape, reset_less=True)
        first_body = Signal(reset_less=True)  # sums start from zero
        b_take = Signal(reset_less=True)  # FINAL has to take a bias slot for this sum slot

        planes = Mux(layer.per_plane, layer.planes, 1)
        plane_last = Signal()
        lines = Signal(3)
        line_last = Signal()
        row_last = Signal()
        chunk_last = Signal()
        tile_last = Signal()
        entry_end = Signal()
        run_end = Signal()
        m.d.comb += [
            plane_last.eq(plane + 1 == planes),
            lines.eq((1 + (layer.offset & plane_last)) << layer.wide),
            line_last.eq(line + 1 == lines),
            row_last.eq(row + 1 == run.rows),
            chunk_last.eq(chunk == cfg.chunks - 1),
            tile_last.eq(tile + 1 == run.tiles),
            entry_end.eq(line_last & row_last & chunk_last),
            run_end.eq(entry_end & plane_last & tile_last),
        ]

        # The same sums come again when a run or a plane begins anew. Where they are few, that waits
        # until the last one is done with; in most configurations they never are.
        since = Signal(range(REUSE), reset_less=True)
        guard = Signal()
        early = [
            (run.rows == rows) & (layer.wide == wide)
            for rows in range(1, cfg.rows + 1)
            for wide in (0, 1)
            if revisited_early(cfg.chunks * rows, bool(wide))
        ]
        few = Cat(early).any()
        blocked = guard & (since != REUSE - 1)

        current_line = Signal(address_bits)
        word = current_line >> (self.lines_per_word.bit_length() - 1)
        issue = Signal()
        has_line = Signal()
        m.d.comb += [
            current_line.eq(chunk_line + line),
            has_line.eq((self.buffer.writer_slot != s_slot) | (self.buffer.writer_count > word)),
            issue.eq(running & self.acc_valid & has_line & ~blocked),
            self.acc_pop.eq(issue & entry_end),
            self.i.ready.eq(issue & run_end),
            self.s.give.eq(self.i.ready & run.s_give),
            self.buffer.slot.eq(s_slot),
            self.buffer.word.eq(word),
            self.buffer.enable.eq(1),
        ]
        begin = Signal()
        s_ready = Signal()
        m.d.comb += [
            s_ready.eq(~run.s_take | self.s.available),
            begin.eq(self.i.valid & ~running & s_ready & (~run.t_take | (t_free != 0))),
            self.s.take.eq(begin & run.s_take),
        ]
        m.d.sync += t_free.eq(t_free + self.freed - (begin & run.t_take))
        with m.If(self.start):
            m.d.sync += s_slot.eq(1)
        base = Mux(run.body_first, Mux(run.t_zero, 0, chunk_base[even:]), body_base)
        with m.If(since != REUSE - 1):
            m.d.sync += since.eq(since + 1)
        with m.If(begin):
            m.d.sync += [
                running.eq(1),
                tile.eq(0),
                s_slot.eq(s_slot ^ run.s_take),
                t_slot.eq(t_slot ^ run.t_take),
                body_base.eq(base),
                tile_base.eq(base),
                chunk_above.eq(Cat(Const(0, even - low_chunk), base)),
            ]
            with m.If(run.t_take):
                m.d.sync += b_take.eq(run.b_take)
            with m.If(run.body_first):
                m.d.sync += [
                    chunk_line.eq(0),
                    row_tile.eq(Mux(run.t_zero, 0, row_tile + 1)),
                    first_body.eq(run.t_first),
                ]
            with m.Else():
                m.d.sync += first_body.eq(0)
        row_begins = Signal()
        chunk_begins = Signal()
        plane_begins = Signal()
        m.d.comb += [
            row_begins.eq(issue & line_last),
            chunk_begins.eq(row_begins & row_last),
            plane_begins.eq(issue & entry_end),
        ]
        with m.If(issue):
            m.d.sync += [since.eq(0), guard.eq(0), line.eq(line + 1)]
        with m.If(row_begins):
            m.d.sync += [line.eq(0), row.eq(row + 1)]
        with m.If(chunk_begins):
            m.d.sync += [
                row.eq(0),
                chunk.eq(chunk + 1),
                chunk_line.eq(chunk_line + lines),
                chunk_above.eq(next_base[low_chunk:]),
            ]
        with m.If(plane_begins):
            m.d.sync += [
                chunk.eq(0),
                plane.eq(Mux(plane_last, 0, plane + 1)),
                guard.eq(few & (~plane_last | run_end)),
            ]
            m.d.sync += tile.eq(tile + plane_last)
            with m.If(plane_last):
                m.d.sync += tile_base.eq(next_base[even:])
            with m.Else():
                m.d.sync += chunk_above.eq(Cat(Const(0, even - low_chunk), tile_base))
        with m.If(self.i.ready):
            m.d.sync += running.eq(0)
        sum_word = Signal(self.sum_address + 1)
        m.d.comb += [
            sum_word.eq(chunk_base + row),
            self.operand_error.eq(issue & sum_word[-1]),
        ]

        # Cycle 1: line and accumulators arrive.
        part = Signal(range(max(2, self.lines_per_word)), reset_less=True)
        kind_1 = Signal(LineKind, reset_less=True)
        sums_1 = Signal(data.ArrayLayout(signed(cfg.acc_width), cfg.scale_lanes), reset_less=True)
        asum_1 = Signal(signed(cfg.asum_width), reset_less=True)
        half = line[0] & layer.wide
        valid_1 = Signal(reset_less=True)
        m.d.sync += [
            valid_1.eq(issue),
            part.eq(current_line[: (self.lines_per_word - 1).bit_length()]),
            kind_1.low.eq(half),
            kind_1.offset.eq(Mux(layer.wide, line[1], line[0])),
        ]
        choice = Cat(chunk, row) if cfg.rows > 1 else chunk
        with m.Switch(choice):
            for c in range(cfg.chunks):
                for r in range(cfg.rows):
                    pattern = c | (r << len(chunk))
                    with m.Case(pattern):
                        for lane in range(cfg.scale_lanes):
                            n = c * cfg.scale_lanes + lane
                            m.d.sync += sums_1[lane].eq(self.acc_sums[n * cfg.rows + r])
        with m.Switch(row):
            for r in range(cfg.rows):
                with m.Case(r):
                    m.d.sync += asum_1.eq(self.i.payload.sums[r])

        # Cycle 2: what turns the accumulator into the group's sum (see docs/architecture.md).
        sums_2 = Signal.like(sums_1, reset_less=True)
        asum_2 = Signal.like(asum_1, reset_less=True)
        addend = Signal(signed(cfg.acc_width + 2), reset_less=True)
        shifted = Signal(signed(cfg.acc_width + 2))
        double = Signal()
        halve = Signal()
        implicit = ~layer.per_plane & ~layer.offset
        if cfg.symmetric:
            m.d.comb += halve.eq(~layer.per_plane)
            m.d.comb += shifted.eq(asum_1 << layer.planes)
            with m.If(layer.per_plane):
                m.d.sync += addend.eq(0)
            with m.Elif(implicit):
                m.d.sync += addend.eq(-asum_1)
            with m.Else():
                m.d.sync += addend.eq(shifted - asum_1)
        else:
            m.d.comb += double.eq(layer.per_plane)
            m.d.comb += shifted.eq((asum_1 << layer.planes) >> 1)
            with m.If(layer.per_plane):
                m.d.sync += addend.eq(-asum_1)
            with m.Elif(implicit):
                m.d.sync += addend.eq(-shifted)
            with m.Else():
                m.d.sync += addend.eq(0)
        m.d.sync += [sums_2.eq(sums_1), asum_2.eq(asum_1)]

        lines_1 = self.buffer.data.word_select(part, self.line_bits)
        terms = []
        for lane in range(cfg.scale_lanes):
            m.submodules[f"lane_{lane}"] = term = TermLane(cfg)
            m.d.comb += [
                # Two lines of one word come one after the other, those of two may not.
                term.valid.eq(valid_1 if self.lines_per_word == 1 else 1),
                term.coefficient.eq(lines_1.word_select(lane, 16)),
                term.wide.eq(layer.wide),
                term.kind.eq(kind_1),
                term.accumulator.eq(sums_2[lane]),
                term.addend.eq(addend),
                term.asum.eq(asum_2),
                term.double.eq(double),
                term.halve.eq(halve),
            ]
            terms.append(term.term)

        # Cycles 4 to 7: read the sum, add the terms, write.
        class Access(data.Struct):
            valid: unsigned(1)
            first: unsigned(1)  # first line of this sum in this visit
            last: unsigned(1)
            zero: unsigned(1)
            slot: unsigned(1)
            word: unsigned(self.sum_address)

        access = Signal(Access)
        m.d.comb += [
            access.valid.eq(issue),
            access.first.eq(line == 0),
            access.last.eq(line_last),
            access.zero.eq(first_body & (plane == 0)),
            access.slot.eq(t_slot),
            access.word.eq(sum_word),
        ]
        read_at = fixed_delay(m, access, 4, "access", reset_less=True)
        add_at = fixed_delay(m, read_at, 2, "sum", reset_less=True)
        write_at = Signal(Access, reset_less=True)
        m.d.sync += write_at.eq(add_at)
        sums_layout = data.ArrayLayout(signed(cfg.sum_width), cfg.scale_lanes)
        total = Signal(sums_layout, reset_less=True)
        stored = Signal(sums_layout)
        read_slot = Signal(reset_less=True)
        m.d.sync += read_slot.eq(read_at.slot)
        banks = []
        for slot in range(2):
            m.submodules[f"sums_{slot}"] = memory = Memory(
                shape=sums_layout, depth=cfg.sum_words, init=[]
            )
            write, read = memory.write_port(), memory.read_port()
            mine = read_at.valid & (read_at.slot == slot)
            m.d.comb += [
                write.en.eq(write_at.valid & write_at.last & (write_at.slot == slot)),
                write.addr.eq(write_at.word),
                write.data.eq(total),
                read.en.eq(mine | (self.sum_enable & (self.sum_slot == slot))),
                read.addr.eq(Mux(mine, read_at.word, self.sum_word)),
            ]
            banks.append(read.data)
        final_slot = Signal(reset_less=True)
        with m.If(self.sum_enable):
            m.d.sync += final_slot.eq(self.sum_slot)
        m.d.comb += [
            stored.eq(Mux(read_slot, banks[1], banks[0])),
            self.sum_data.eq(Mux(final_slot, banks[1], banks[0])),
        ]
        stored_6 = Signal(sums_layout, reset_less=True)
        m.d.sync += stored_6.eq(stored)
        with m.If(add_at.valid):
            for lane in range(cfg.scale_lanes):
                before = Mux(add_at.first, Mux(add_at.zero, 0, stored_6[lane]), total[lane])
                m.d.sync += total[lane].eq(before + terms[lane])

        # A finished sum slot goes to FINAL when its last sums are in memory.
        done = Signal()
        tag = Signal(layout)
        m.d.comb += [
            done.eq(self.i.ready & run.t_give),
            tag.slot.eq(t_slot),
            tag.tiles.eq(run.tiles),
            tag.row_tiles.eq(row_tile),
            tag.n_last.eq(run.n_last),
            tag.r_last.eq(run.r_last),
            tag.b_take.eq(b_take),
            tag.b_give.eq(run.b_give),
        ]
        # No more than there are slots, as each of them is free, being filled, or with FINAL.
        m.submodules.queue = queue = Queue(width=layout.size, depth=2, bounded=False)
        before_queue = self.latency - 1
        m.d.comb += [
            queue.w_en.eq(fixed_delay(m, done, before_queue, "done")),
            queue.w_data.eq(fixed_delay(m, tag, before_queue, "tag", reset_less=True)),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
        ]
        with m.If(issue | begin):
            m.d.comb += self.state.eq(State.BUSY)
        with m.Elif(self.i.valid & ~running & s_ready):
            m.d.comb += self.state.eq(State.WAIT_OUT)
        with m.Elif(self.i.valid):
            m.d.comb += self.state.eq(State.WAIT_IN)
        m.d.comb += self.active.eq(self.i.valid | (t_free != 2))
        return m
