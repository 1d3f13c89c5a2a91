"""The table precompute unit.

TABLE walks the loops of an MMA instruction, reads the activations of each step from the buffer and
fills one set of lookup tables per step: ``rows * depth`` tables in lockstep, one entry of each per
cycle. The order is a Gray code, in which neighbours differ in one activation, so that one adder per
table does it (±1-coded tables step by two activations, {0,1}-coded and ternary ones by one).

A ±1-coded table holds the half in which the last activation counts as it is, so the negation of
what the index selects; the lanes turn the sign. In cores with ternary tables it holds the entries
themselves.

    word in   |a0|a1|a2|a3|--|--|--|--|b0|b1|b2|b3|     one word: an activation for every table
    fill         -  -  - |T0|T1|T3|T2|T6|T7|T5|T4|T0|   symmetric, group 4: 8 entries
    set out                                    |set|    to ARRAY, with its tag
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.cells.carry import add
from lutcore.hw.cells.fused import Term, fused_add, masked, plain
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import INSTRUCTIONS, LOOP_LEVELS, Opcode
from lutcore.hw.contract.ternary import ENTRIES as TERNARY_ENTRIES
from lutcore.hw.contract.ternary import GROUP as TRITS
from lutcore.hw.contract.ternary import fill_steps
from lutcore.hw.control.nest import body_layout
from lutcore.hw.control.tokens import TokenPort
from lutcore.hw.memory.buffers import BufferReader
from lutcore.hw.memory.queue import Queue
from lutcore.hw.memory.ram import lut_ram
from lutcore.hw.util import State, first_at

__all__ = ["TableFill", "TableUnit", "run_layout", "run_tag", "set_tag"]


def set_tag(config: CoreConfig) -> data.StructLayout:
    """What ARRAY has to know of a table set."""
    flags = ("run_first", "run_last", "body_first", "w_take", "w_give")
    return data.StructLayout(
        {
            # Of its accumulators: one per tile, or per tile and plane.
            "last_entry": range(max(2, config.tiles)),
            **dict.fromkeys(flags, 1),
            # Tables whose sign bit is a column of the run, not past its end.
            "signs": config.depth,
        }
    )


def run_tag(config: CoreConfig) -> data.StructLayout:
    """What SCALE has to know of a run."""
    flags = ("body_first", "s_take", "s_give", "t_take", "t_give", "t_first", "t_zero")
    flags += ("b_take", "b_give", "n_last", "r_last")
    return data.StructLayout(
        {
            "tiles": range(config.tiles + 1),
            "rows": range(config.rows + 1),
            **dict.fromkeys(flags, 1),
        }
    )


def run_layout(config: CoreConfig) -> data.StructLayout:
    """A run's tag and, for each row, the sum of its activations."""
    return data.StructLayout(
        {"tag": run_tag(config), "sums": data.ArrayLayout(signed(config.asum_width), config.rows)}
    )


class TableFill(wiring.Component):
    """Collects the activations of a step and writes its tables.

    One set takes ``entries`` cycles (14 with ternary weights), without a gap when the next step's
    words have come in the meantime and a bank is free.

    Members
    -------
    begin
        Pulse: an instruction begins. With ternary weights, the entries that their tables do not
        have become zero with the next set of each bank, which takes two cycles more: tables past
        the end of a run are looked up by what lies in the weight buffer, which may name them.
    ternary
        The layer's weights are ternary.
    i
        Words of ``rows * depth`` activations, ``group`` per set (3 with ternary weights); ``tag``
        is that of the last word.
    o
        Tags of filled sets, in order; valid from the cycle in which the last entry is written,
        since the first lookup is two cycles behind its transfer.
    release
        The last lookup in the older set is at most two cycles away. The next set's first entry is
        written two cycles later at the earliest.
    write_enable, write_address, write_data
        To the table memories: the address has the entry in its low bits and the bank on top; an
        entry for every table.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        tables = config.rows * config.depth
        self.word_layout = data.StructLayout(
            {
                "a": data.ArrayLayout(signed(config.activation_bits), tables),
                "tag": set_tag(config),
            }
        )
        self.address_width = (config.entries - 1).bit_length() + 1
        super().__init__(
            {
                "i": In(stream.Signature(self.word_layout)),
                "o": Out(stream.Signature(set_tag(config))),
                "begin": In(1),
                "ternary": In(1),
                "release": In(1),
                "busy": Out(1),
                "write_enable": Out(1),
                "write_address": Out(self.address_width),
                "write_data": Out(data.ArrayLayout(signed(config.entry_width), tables)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        group, entries, tables = cfg.group, cfg.entries, cfg.rows * cfg.depth
        entry = signed(cfg.entry_width)
        word = data.ArrayLayout(signed(cfg.activation_bits), tables)

        # Collection: the words of a set go into one half of a LUT RAM while the fill reads the
        # other, and for ±1 coding their sum, which is the first entry, into a register.
        place_bits = (group - 1).bit_length()
        m.submodules.operands = operands = lut_ram(platform, shape=word, depth=2 << place_bits)
        keep, fetch = operands.write_port(), operands.read_port(domain="comb")
        half = Signal()  # that is being filled
        count = Signal(range(group + 1))
        # All that decides when a fill starts is in registers: it enables every operand's memory.
        full = Signal()
        may_start = Signal(init=1)
        start = Signal()
        tag = Signal(set_tag(cfg), reset_less=True)
        ternary = self.ternary if cfg.ternary else Const(0, 1)
        words = Mux(ternary, TRITS, group)
        ready = Signal(init=1)
        accept = Signal()
        full_next = Signal()
        may_start_next = Signal()
        m.d.comb += [
            self.i.ready.eq(ready),
            accept.eq(self.i.valid & ready),
            full_next.eq(Mux(accept, ~full & (count == words - 1), full & ~start)),
        ]
        m.d.sync += [
            full.eq(full_next),
            may_start.eq(may_start_next),
            # Either way a word fits: into the half that is not full, or into the other one.
            ready.eq(~full_next | may_start_next),
        ]
        first = [Signal(entry, name=f"first_{t}", reset_less=True) for t in range(tables)]
        going = Signal()  # the next word is not the first of its set
        m.d.comb += going.eq(~full & (count != 0))
        with m.If(accept):
            m.d.sync += [
                count.eq(Mux(full, 1, count + 1)),
                tag.eq(self.i.payload.tag),
            ]
            for t in range(tables if cfg.symmetric else 0):
                a, so_far = self.i.payload.a[t], masked(first[t], going)
                if cfg.halved:
                    total = fused_add(m, platform, plain(a), so_far, cfg.entry_width)
                else:
                    minus = Term(lambda _, bit: 1 ^ bit, (a,))
                    total = fused_add(
                        m, platform, minus, so_far, cfg.entry_width, carry_in=Const(1, 1)
                    )
                m.d.sync += first[t].eq(total)
        with m.Elif(start):
            m.d.sync += count.eq(0)
        with m.If(start):
            m.d.sync += half.eq(~half)
        m.d.comb += [
            keep.en.eq(accept),
            keep.addr.eq(Cat(Mux(full, 0, count)[:place_bits], half ^ start)),
            keep.data.eq(self.i.payload.a),
        ]

        # Fill.
        filling = Signal()
        index = Signal(range(max(2, entries)))
        before_last = Signal()
        last = Signal()
        bank = Signal()
        free = Signal(range(3), init=2)
        current = [Signal(entry, name=f"current_{t}", reset_less=True) for t in range(tables)]
        fill_tag = Signal.like(tag)
        m.d.comb += [
            before_last.eq(filling & (index == Mux(ternary, TERNARY_ENTRIES, entries) - 2)),
            start.eq(full & may_start),
            self.busy.eq(filling),
            # A bank will be free, and what is filled now complete.
            may_start_next.eq(
                ((free != 0) | self.release) & ~start & (~filling | last | before_last)
            ),
        ]
        m.d.sync += [last.eq(before_last), free.eq(free + self.release - start)]

        # Two filled sets, the older one in a register that ARRAY decides by.
        newer = Signal.like(tag)
        both = Signal()
        taken = Signal()
        m.d.comb += taken.eq(self.o.valid & self.o.ready)
        with m.If(before_last):
            m.d.sync += newer.eq(fill_tag)
        with m.If(taken & both):
            m.d.sync += self.o.payload.eq(newer)
        with m.Elif(before_last & (taken | ~self.o.valid)):
            m.d.sync += self.o.payload.eq(fill_tag)
        m.d.sync += [
            self.o.valid.eq(before_last | (self.o.valid & ~taken) | both),
            both.eq(Mux(taken, both & before_last, both | (self.o.valid & before_last))),
        ]
        # A set that clears begins with the last two entries, while the sum is still that of none.
        clears = Signal(range(3))
        clearing = Signal()
        if cfg.ternary:
            m.d.comb += clearing.eq(ternary & (index > TERNARY_ENTRIES - 1))
            with m.If(start & (clears != 0)):
                m.d.sync += clears.eq(clears - 1)
            with m.If(self.begin):
                m.d.sync += clears.eq(2)

        # The operand by which the next entry differs is read a cycle ahead: the register between
        # its memory and the adder costs no LUT.
        upcoming = Signal.like(index)
        flip = Signal(range(group))
        falling = Signal()
        change = Signal(data.StructLayout({"operand": word, "subtract": 1}), reset_less=True)
        # Gray code: bit j of the index flips when the bits below it are all ones.
        rising = Signal()
        following = Signal(range(entries + 1))
        m.d.comb += [
            upcoming.eq(Mux(start, 0, index + 1)),
            following.eq(upcoming + 1),
            rising.eq((following ^ (following >> 1)).bit_select(flip, 1)),
            falling.eq(rising if cfg.halved else ~rising),
        ]
        for j in reversed(range(max(1, (entries - 1).bit_length()))):
            with m.If(upcoming[:j].all() if j else Const(1)), m.If(~upcoming[j]):
                m.d.comb += flip.eq(j)
        address = Signal(self.address_width - 1)
        m.d.comb += address.eq(index ^ (index >> 1))
        if cfg.ternary:
            with m.If(ternary):
                m.d.comb += address.eq(index)
                with m.Switch(upcoming):
                    for i, (place, sign) in enumerate(fill_steps()):
                        with m.Case(i):
                            m.d.comb += [flip.eq(place), falling.eq(sign < 0)]
        m.d.comb += [
            fetch.addr.eq(Cat(flip, ~(half ^ start))),
            self.write_enable.eq(filling),
            self.write_address.eq(Cat(address, bank)),
            *(self.write_data[t].eq(current[t]) for t in range(tables)),
        ]
        m.d.sync += [change.operand.eq(fetch.data), change.subtract.eq(falling)]
        sums = []
        for t in range(tables):
            # A signal, assigned everywhere: the carry cells take it without a LUT before them.
            step = Signal(signed(cfg.activation_bits + 1), name=f"step_{t}")
            operand = change.operand[t]
            m.d.comb += step.eq(Mux(ternary, operand, operand << int(cfg.symmetric)))
            sums.append(add(m, platform, current[t], step, cfg.entry_width, change.subtract))
        with m.If(start):
            m.d.sync += [filling.eq(1), fill_tag.eq(tag)]
            m.d.sync += index.eq(Mux(ternary & (clears != 0), TERNARY_ENTRIES, 0))
            for t in range(tables):
                begin = Mux(ternary, 0, first[t]) if cfg.symmetric else 0
                m.d.sync += current[t].eq(begin)
        with m.Else():
            with m.If(last):
                m.d.sync += filling.eq(0)
            m.d.sync += index.eq(index + 1)
            for t in range(tables):
                with m.If(~clearing):
                    m.d.sync += current[t].eq(sums[t])
        with m.If(last):
            m.d.sync += bank.eq(~bank)
        return m


class TableUnit(wiring.Component):
    """Walks an MMA instruction; feeds ARRAY with table sets and SCALE with runs.

    Members
    -------
    body, active
        Bodies of the instruction's nest, each taken when it is done with; the nest has bodies left.
    fields, layer, start
        Levels of the instruction; layer registers; pulse: the instruction begins.
    x
        Activation slot tokens.
    buffer
        Read port of the activation buffer.
    o_set, o_run, o_rows
        Table sets to ARRAY, runs to SCALE, row scales (of finished row tiles) to FINAL.
    release, write_enable, write_address, write_data
        Pulse: ARRAY is done with a set; entries of all tables to ARRAY.
    operand_error
        A run longer than the accumulators are wide for, too many tiles, more columns than a slot of
        weights has, or loops that do not end together with a sum slot.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.reader = BufferReader(
            width=config.x_memory_bits,
            item_bits=config.x_word_bits,
            slot_words=config.x_slot_words,
        )
        self.fill = TableFill(config)
        super().__init__(
            {
                "body": In(stream.Signature(body_layout())),
                "active": Out(1),
                "fields": In(INSTRUCTIONS[Opcode.MMA].layout),
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "start": In(1),
                "x": Out(TokenPort()),
                "buffer": Out(self.reader.port_signature),
                "o_set": Out(stream.Signature(set_tag(config))),
                "o_run": Out(stream.Signature(run_layout(config))),
                "o_rows": Out(stream.Signature(data.ArrayLayout(32, config.rows))),
                "release": In(1),
                "write_enable": Out(1),
                "write_address": Out(self.fill.address_width),
                "write_data": Out(self.fill.write_data.shape()),
                "operand_error": Out(1),
                "state": Out(State),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        m.submodules.reader = reader = self.reader
        m.submodules.fill = fill = self.fill
        wiring.connect(m, reader.port, wiring.flipped(self.buffer))
        wiring.connect(m, fill.o, wiring.flipped(self.o_set))
        m.d.comb += [
            fill.begin.eq(self.start),
            fill.ternary.eq(self.layer.ternary if cfg.ternary else 0),
            fill.release.eq(self.release),
            self.write_enable.eq(fill.write_enable),
            self.write_address.eq(fill.write_address),
            self.write_data.eq(fill.write_data),
        ]

        fields, layer = self.fields, self.layer
        body = Signal(body_layout(), reset_less=True)
        held = Signal()  # a body is being read
        most = cfg.weight_words * cfg.step  # columns of a body
        runs_left = Signal(range(most + 1), reset_less=True)  # columns of the body not yet begun
        # Columns of the run not yet begun, this step included.
        run_left = Signal(range(cfg.run + 1), reset_less=True)
        headers = Signal(range(cfg.x_header_words + 1), reset_less=True)
        layer_index = Signal(range(cfg.group), reset_less=True)
        run_first = Signal(reset_less=True)
        body_first = Signal(reset_less=True)
        x_slot = Signal(reset_less=True)
        # Known with the body: in ARRAY the product would lie in the path of every lookup.
        last_entry = Signal(range(max(2, cfg.tiles)), reset_less=True)

        # Reading side: one word per cycle into the pipeline, as long as the other end takes it.
        flags = Signal(
            data.StructLayout(
                {
                    "header": 1,
                    "header_last": 1,
                    "keep_rows": 1,
                    "run_start": 1,  # first word of a run
                    "run_end": 1,  # last word of a run
                    "tag": set_tag(cfg),
                    "run": run_tag(cfg),
                }
            )
        )
        words_per_step = Mux(layer.ternary, TRITS, cfg.group) if cfg.ternary else cfg.group
        step_end = Signal()
        run_ends = Signal()
        body_ends = Signal()
        first_of = Signal.like(runs_left)
        m.d.comb += [
            step_end.eq(layer_index == words_per_step - 1),
            run_ends.eq(run_left <= cfg.step),
            body_ends.eq(run_ends & (runs_left == 0)),
        ]
        give_w = first_at(body.last, fields.w_level)
        give_s = first_at(body.last, fields.s_level)
        give_x = first_at(body.last, fields.x_level)
        give_t = first_at(body.last, fields.t_level)
        take_w = first_at(body.first, fields.w_level)
        take_s = first_at(body.first, fields.s_level)
        take_t = first_at(body.first, fields.t_level)
        # The row tile's place within the sum slot: the innermost loop, if it is over rows.
        zero = ~(body.inner_r & (body.inner > fields.t_level)) | (body.index == 0)
        rows = Mux(body.r_last, layer.last_rows, cfg.rows)
        m.d.comb += [
            flags.header.eq(headers != 0),
            flags.header_last.eq(headers == 1),
            flags.keep_rows.eq(body.k_last),
            flags.run_start.eq(run_first & (layer_index == 0)),  # and a header, which is forgotten
            flags.run_end.eq((headers == 0) & run_ends & step_end),
            flags.tag.last_entry.eq(last_entry),
            flags.tag.run_first.eq(run_first),
            flags.tag.run_last.eq(run_ends),
            flags.tag.body_first.eq(body_first & run_first),
            flags.tag.w_take.eq(body_first & run_first & take_w),
            flags.tag.w_give.eq(body_ends & give_w),
            flags.tag.signs.eq(Cat(run_left >= (g + 1) * cfg.group for g in range(cfg.depth))),
            flags.run.tiles.eq(body.n),
            flags.run.rows.eq(rows),
            flags.run.body_first.eq(body_first),
            flags.run.s_take.eq(body_first & take_s),
            flags.run.s_give.eq(body_ends & give_s),
            flags.run.t_take.eq(body_first & take_t),
            flags.run.t_give.eq(body_ends & give_t),
            flags.run.t_first.eq(body_first & body.k_first),
            flags.run.t_zero.eq(zero),
            # Bias is held with the weights or with the sums, whichever lasts longer.
            flags.run.b_take.eq(layer.bias & body_first & take_t & take_w),
            flags.run.b_give.eq(layer.bias & body_ends & give_t & give_w),
            flags.run.n_last.eq(body.n_last),
            flags.run.r_last.eq(body.r_last),
        ]

        # Taking the next body: at once when the last word of the current one is issued.
        take = Signal()
        need_x = first_at(self.body.payload.first, fields.x_level)
        finish = Signal()
        m.d.comb += [
            finish.eq(reader.issue & step_end & body_ends & (headers == 0)),
            take.eq(self.body.valid & (~held | finish) & (~need_x | self.x.available)),
            self.body.ready.eq(take),
            self.x.take.eq(take & need_x),
            self.x.give.eq(finish & give_x),
        ]
        with m.If(take):
            next_slot = Signal()
            m.d.comb += next_slot.eq(x_slot ^ need_x)
            columns = self.body.payload.k
            size = columns[: len(runs_left)]
            tiles = self.body.payload.n
            entries = Mux(layer.per_plane, tiles * layer.planes, tiles)
            m.d.comb += first_of.eq(Mux(size > layer.group_size, layer.group_size, size))
            m.d.sync += [
                held.eq(1),
                last_entry.eq(entries - 1),
                body.eq(self.body.payload),
                x_slot.eq(next_slot),
                runs_left.eq(size - first_of),
                run_left.eq(first_of),
                headers.eq(cfg.x_header_words),
                layer_index.eq(0),
                run_first.eq(1),
                body_first.eq(1),
            ]
            m.d.comb += [
                reader.seek.eq(1),
                reader.seek_slot.eq(next_slot),
                reader.seek_word.eq(self.body.payload.address),
            ]
            # All of K has to be summed within a sum slot, and nothing else but row tiles: in the
            # last iteration over those (if they are the innermost loop) K ends where the slot does.
            loops = self.body.payload
            over_rows = loops.inner_r & (loops.inner > fields.t_level)
            last_rows = ~over_rows | first_at(
                loops.last[:LOOP_LEVELS], (loops.inner - 1)[: len(loops.inner)]
            )
            ends = first_at(loops.last, fields.t_level)
            m.d.comb += self.operand_error.eq(
                (columns > most)
                | (first_of > cfg.run)
                | (entries > cfg.tiles)
                | (last_rows & (ends != loops.k_last))
            )
        with m.Else():
            with m.If(finish):
                m.d.sync += held.eq(0)
            # Behind the last word of a body, too: the next one sets all of it.
            with m.If(reader.issue):
                with m.If(headers != 0):
                    m.d.sync += headers.eq(headers - 1)
                with m.Elif(~step_end):
                    m.d.sync += layer_index.eq(layer_index + 1)
                with m.Else():
                    m.d.sync += layer_index.eq(0)
                    with m.If(~run_ends):
                        m.d.sync += [run_left.eq(run_left - cfg.step), run_first.eq(0)]
                    with m.Else():
                        following = Mux(runs_left > layer.group_size, layer.group_size, runs_left)
                        m.d.sync += [
                            run_left.eq(following),
                            runs_left.eq(runs_left - following),
                            run_first.eq(1),
                            body_first.eq(0),
                        ]
        with m.If(self.start):
            m.d.sync += x_slot.eq(1)  # the first take turns it to slot 0

        # Data side: the word that was read, and the flags that were issued with it.
        word_flags = Signal.like(flags, reset_less=True)
        with m.If(reader.issue):
            m.d.sync += word_flags.eq(flags)
        m.d.comb += reader.request.eq(held)
        words = data.ArrayLayout(signed(cfg.activation_bits), cfg.rows * cfg.depth)
        used = words.size
        # A run is in the fill or in a bank of the tables, which have room for three, or it has
        # finished a tile, which has one of ARRAY's accumulators until SCALE is done with it.
        run_fifo = Queue(
            width=run_layout(cfg).size, depth=cfg.tiles + 4, buffered=True, bounded=False
        )
        m.submodules.run_fifo = run_fifo
        rows_depth = 2 * max(2, cfg.sum_words // cfg.tile_sums)
        rows_fifo = Queue(width=32 * cfg.rows, depth=rows_depth, buffered=True)
        m.submodules.rows_fifo = rows_fifo
        room = rows_fifo.w_rdy
        m.d.comb += [
            fill.i.valid.eq(reader.valid & ~word_flags.header & room),
            fill.i.payload.a.eq(words(reader.item[:used])),
            fill.i.payload.tag.eq(word_flags.tag),
            reader.ready.eq(room & (word_flags.header | fill.i.ready)),
        ]

        # Row scales: gathered from the header words.
        header_bits = cfg.x_header_words * cfg.x_word_bits
        header = Signal(header_bits, reset_less=True)
        accepted = Signal()
        push_rows = Signal()
        m.d.comb += accepted.eq(reader.valid & reader.ready)
        m.d.sync += push_rows.eq(0)
        with m.If(accepted & word_flags.header):
            m.d.sync += header.eq(Cat(header, reader.item)[cfg.x_word_bits :])
            m.d.sync += push_rows.eq(word_flags.header_last & word_flags.keep_rows)
        m.d.comb += [
            rows_fifo.w_en.eq(push_rows),
            rows_fifo.w_data.eq(header[: 32 * cfg.rows]),
            self.o_rows.valid.eq(rows_fifo.r_rdy),
            self.o_rows.payload.eq(rows_fifo.r_data),
            rows_fifo.r_en.eq(self.o_rows.ready),
        ]

        # Sums of activations, two stages behind the words. What header words add is forgotten at
        # the start of the run behind them.
        partial = [
            Signal(signed(cfg.asum_width), name=f"partial_{r}", reset_less=True)
            for r in range(cfg.rows)
        ]
        totals = Signal(data.ArrayLayout(signed(cfg.asum_width), cfg.rows), reset_less=True)
        stage1 = Signal()
        stage2 = Signal()
        flags1 = Signal.like(word_flags)
        tag2 = Signal(run_tag(cfg), reset_less=True)
        m.d.sync += [stage1.eq(accepted), stage2.eq(0)]
        with m.If(accepted):
            m.d.sync += flags1.eq(word_flags)
            for r in range(cfg.rows):
                row = [fill.i.payload.a[r * cfg.depth + g] for g in range(cfg.depth)]
                m.d.sync += partial[r].eq(sum(row[1:], row[0]))
        with m.If(stage1):
            for r in range(cfg.rows):
                base = Mux(flags1.run_start, 0, totals[r])
                m.d.sync += totals[r].eq(base + partial[r])
            m.d.sync += [stage2.eq(flags1.run_end), tag2.eq(flags1.run)]
        m.d.comb += [
            run_fifo.w_en.eq(stage2),
            run_fifo.w_data.eq(Cat(tag2, totals)),
            self.o_run.valid.eq(run_fifo.r_rdy),
            self.o_run.payload.eq(run_fifo.r_data),
            run_fifo.r_en.eq(self.o_run.ready),
        ]

        with m.If(fill.busy):
            m.d.comb += self.state.eq(State.BUSY)
        with m.Elif(reader.valid):
            m.d.comb += self.state.eq(State.WAIT_OUT)
        with m.Elif(held | self.body.valid):
            m.d.comb += self.state.eq(State.WAIT_IN)
        m.d.comb += self.active.eq(held | reader.valid | fill.busy | stage1 | stage2 | push_rows)
        return m
