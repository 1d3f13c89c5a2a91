"""The elongated LUT array: lookups, adder trees, bit-serial accumulators.

One word of the weight buffer per cycle holds a plane of one step for all lanes. Every lane looks
its ``depth`` indices up in every row's tables (the index is shared between rows, the table between
lanes), adds the results in a tree, shifts the planes together (most significant first) and adds the
whole to the accumulator of its tile. At the end of a run the sum leaves through a FIFO to the scale
unit.

    cycle   0        1        2       3        4 …      t      t+1
            issue    buffer   index   lookup   tree     h      accumulator / FIFO

With symmetric tables the sign of a lookup is not applied to it. It travels beside the value, and
each node of the tree adds or subtracts by the *relative* sign of its two inputs, so the sign costs
no adder of its own.
"""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutcore.hw.buffers import read_signature
from lutcore.hw.config import CoreConfig
from lutcore.hw.isa import INSTRUCTIONS, Opcode
from lutcore.hw.table import SetTag
from lutcore.hw.util import State, add_or_subtract, fixed_delay

__all__ = ["ArrayUnit", "Lanes", "LookupTable", "Step"]


class Step(data.Struct):
    """Control of one array step; travels down the pipeline with its weights."""

    valid: unsigned(1)
    bank: unsigned(1)
    release: unsigned(1)  # last lookup in this bank
    plane_first: unsigned(1)
    plane_last: unsigned(1)
    run_first: unsigned(1)
    run_last: unsigned(1)
    entry: unsigned(6)  # accumulator
    signs: unsigned(16)  # tables whose sign bit counts; see SetTag


class LookupTable(wiring.Component):
    """One table, two banks, one read per lane in the same cycle.

    In LUT RAM synthesis makes a copy per lane; in registers every lane has a multiplexer.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.index_bits = (config.entries - 1).bit_length()
        shape = signed(config.entry_width)
        super().__init__(
            {
                "write_enable": In(1),
                "write_address": In(self.index_bits + 1),
                "write_data": In(shape),
                "bank": In(1),
                "index": In(data.ArrayLayout(self.index_bits, config.lanes)),
                "value": Out(data.ArrayLayout(shape, config.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        shape = signed(cfg.entry_width)
        if cfg.table_store == "distributed":
            m.submodules.memory = memory = Memory(
                shape=shape,
                depth=2 * cfg.entries,
                init=[],
                attrs={"ram_style": "distributed"},
            )
            write = memory.write_port()
            m.d.comb += [
                write.en.eq(self.write_enable),
                write.addr.eq(self.write_address),
                write.data.eq(self.write_data),
            ]
            for n in range(cfg.lanes):
                read = memory.read_port(domain="comb")
                m.d.comb += [
                    read.addr.eq(Cat(self.index[n], self.bank)),
                    self.value[n].eq(read.data),
                ]
            return m
        banks = []
        for bank in range(2):
            cells = [Signal(shape, name=f"entry_{bank}_{e}") for e in range(cfg.entries)]
            for e, cell in enumerate(cells):
                address = e | bank << self.index_bits
                with m.If(self.write_enable & (self.write_address == address)):
                    m.d.sync += cell.eq(self.write_data)
            banks.append(cells)
        # The bank is chosen once per table, not once per lane.
        live = [Signal(shape, name=f"live_{e}") for e in range(cfg.entries)]
        m.d.comb += [
            live[e].eq(Mux(self.bank, banks[1][e], banks[0][e])) for e in range(cfg.entries)
        ]
        for n in range(cfg.lanes):
            m.d.comb += self.value[n].eq(Array(live)[self.index[n]])
        return m


class Lanes(wiring.Component):
    """The datapath: ``rows * lanes`` lanes without control of their own.

    Members
    -------
    step
        Control of the word that is in ``weights`` in the same cycle.
    weights
        N·G·k bits: column i (table i mod G, index bit i div G) of lane n at bit i·N + n.
    released
        A set's last lookup is done.
    o_write, o_entry
        A run's sums of one tile are in ``o_sums`` (lane-major: n, then m).
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        tables = config.rows * config.depth
        self.index_bits = (config.entries - 1).bit_length()
        super().__init__(
            {
                "step": In(Step),
                "weights": In(config.weight_bits),
                "write_enable": In(1),
                "write_address": In(self.index_bits + 1),
                "write_data": In(data.ArrayLayout(signed(config.entry_width), tables)),
                "released": Out(1),
                "o_write": Out(1),
                "o_sums": Out(
                    data.ArrayLayout(signed(config.acc_width), config.lanes * config.rows)
                ),
            }
        )

    @property
    def tree_stages(self) -> int:
        """Registers in the adder tree: one for every two levels."""
        return -(-(self.config.depth - 1).bit_length() // 2)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        lanes, rows, depth, group = cfg.lanes, cfg.rows, cfg.depth, cfg.group

        # Cycle 2: the weights, registered close to the tables.
        weights = Signal(cfg.weight_bits)
        step = Signal(Step)
        m.d.sync += step.eq(self.step)
        with m.If(self.step.valid):
            m.d.sync += weights.eq(self.weights)
            if cfg.symmetric:
                # Columns past the end of a run meet zeros, whatever their bits; but the bit that
                # is the sign must be 0. As a synchronous reset it costs no logic.
                for g in range(depth):
                    column = (group - 1) * depth + g
                    with m.If(~self.step.signs[g]):
                        m.d.sync += weights[column * lanes : (column + 1) * lanes].eq(0)
        m.d.comb += self.released.eq(step.valid & step.release)

        # Cycle 3: lookups.
        looked_up: list[list[list]] = [[[] for _ in range(lanes)] for _ in range(rows)]
        signs: list[list] = [[] for _ in range(lanes)]
        for g in range(depth):
            bits = [
                [weights[(j * depth + g) * lanes + n] for j in range(group)] for n in range(lanes)
            ]
            if cfg.symmetric:
                for n in range(lanes):
                    # The sign is that of -w: bit k-1 set means T[w] = -T[~w].
                    sign = Signal(name=f"sign_{n}_{g}")
                    m.d.sync += sign.eq(bits[n][group - 1])
                    signs[n].append(sign)
            for r in range(rows):
                table = LookupTable(cfg)
                m.submodules[f"table_{r}_{g}"] = table
                m.d.comb += [
                    table.write_enable.eq(self.write_enable),
                    table.write_address.eq(self.write_address),
                    table.write_data.eq(self.write_data[r * depth + g]),
                    table.bank.eq(step.bank),
                ]
                for n in range(lanes):
                    m.d.comb += table.index[n].eq(Cat(bits[n][: self.index_bits]))
                    value = Signal(signed(cfg.entry_width), name=f"looked_{r}_{n}_{g}")
                    m.d.sync += value.eq(table.value[n])
                    looked_up[r][n].append(value)

        # Trees, one register for every two levels.
        control = fixed_delay(m, step, 1 + self.tree_stages, "step")
        final_sign: list = [None] * lanes
        sums: list[list] = [[None] * lanes for _ in range(rows)]
        for n in range(lanes):
            delayed: dict[int, list] = {}
            for r in range(rows):
                values = looked_up[r][n]
                value_signs = signs[n] if cfg.symmetric else [None] * depth
                level = 0
                levels = (depth - 1).bit_length()
                while len(values) > 1:
                    level += 1
                    registered = level % 2 == 0 or level == levels
                    domain = m.d.sync if registered else m.d.comb
                    above, above_signs = [], []
                    for p in range(0, len(values), 2):
                        name = f"tree_{r}_{n}_{level}_{p // 2}"
                        if p + 1 == len(values):
                            if registered:
                                node = Signal(values[p].shape(), name=name)
                                m.d.sync += node.eq(values[p])
                                above.append(node)
                            else:
                                above.append(values[p])
                            above_signs.append(value_signs[p])
                            continue
                        x, y = values[p], values[p + 1]
                        width = max(len(x), len(y)) + 1
                        node = Signal(signed(width), name=name)
                        if cfg.symmetric:
                            relative = value_signs[p] ^ value_signs[p + 1]
                            domain += node.eq(add_or_subtract(x, y, relative, width))
                        else:
                            domain += node.eq(x + y)
                        above.append(node)
                        above_signs.append(value_signs[p])
                    if cfg.symmetric and registered:
                        # The signs depend on the lane alone, so row 0 delays them for all rows.
                        if r == 0:
                            delayed[level] = []
                            for p, sign in enumerate(above_signs):
                                copy = Signal(name=f"sign_{n}_{level}_{p}")
                                m.d.sync += copy.eq(sign)
                                delayed[level].append(copy)
                        above_signs = delayed[level]
                    values, value_signs = above, above_signs
                sums[r][n] = values[0]
                final_sign[n] = value_signs[0]

        # Planes: h = 2h ± sum, most significant plane first; then the accumulator of the tile.
        # Both banks of sums, the running and the finished, lie in LUT RAM, one word for all lanes
        # of a row.
        after = Signal(Step)
        m.d.sync += after.eq(control)
        for r in range(rows):
            shifted = []
            for n in range(lanes):
                h = Signal(signed(cfg.shift_width), name=f"planes_{r}_{n}")
                base = Mux(control.plane_first, 0, (h << 1)[: cfg.shift_width].as_signed())
                if cfg.symmetric:
                    value = add_or_subtract(base, sums[r][n], final_sign[n], cfg.shift_width)
                else:
                    value = base + sums[r][n]
                with m.If(control.valid):  # planes may come with gaps
                    m.d.sync += h.eq(value)
                shifted.append(h)
            m.submodules[f"accumulators_{r}"] = memory = Memory(
                shape=data.ArrayLayout(signed(cfg.acc_width), lanes),
                depth=cfg.tiles,
                init=[],
                attrs={"ram_style": "distributed"},
            )
            write = memory.write_port()
            read = memory.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(after.valid & after.plane_last),
                write.addr.eq(after.entry),
                read.addr.eq(control.entry),
            ]
            for n in range(lanes):
                # Read a cycle ahead, into a register that starts a run from its reset: gating the
                # adder's operand would cost a LUT per bit.
                before = Signal(signed(cfg.acc_width), name=f"before_{r}_{n}")
                with m.If(control.run_first):
                    m.d.sync += before.eq(0)
                with m.Else():
                    m.d.sync += before.eq(read.data[n])
                total = Signal(signed(cfg.acc_width), name=f"total_{r}_{n}")
                m.d.comb += [
                    total.eq(before + shifted[n]),
                    write.data[n].eq(total),
                    self.o_sums[n * rows + r].eq(total),
                ]
        m.d.comb += self.o_write.eq(after.valid & after.plane_last & after.run_last)
        return m


class ArrayUnit(wiring.Component):
    """Lanes with their control and the FIFO to the scale unit.

    Members
    -------
    i
        Table sets. Bank 0 first, then alternately.
    o, o_pop
        ``o_valid``: ``o_sums`` holds the oldest finished tile; ``o_pop`` removes it.
    w_available, w_take, w_give
        Weight slot tokens.
    expecting
        TABLE is at work on an instruction, so that having nothing to do is waiting.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.lanes = Lanes(config)
        super().__init__(
            {
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "start": In(1),
                "i": In(stream.Signature(SetTag)),
                "release": Out(1),
                "write_enable": In(1),
                "write_address": In(self.lanes.index_bits + 1),
                "write_data": In(self.lanes.write_data.shape()),
                "w_available": In(1),
                "w_take": Out(1),
                "w_give": Out(1),
                "buffer": Out(read_signature(self.stored_bits, config.weight_words)),
                "o_valid": Out(1),
                "o_pop": In(1),
                "o_sums": Out(self.lanes.o_sums.shape()),
                "expecting": In(1),
                "active": Out(1),
                "issue": Out(1),
                "state": Out(State),
            }
        )

    @property
    def stored_bits(self) -> int:
        """Bits of a word of the weight buffer, in whole groups of slices."""
        cfg = self.config
        return -(-cfg.step // cfg.slice_group) * cfg.slice_group * cfg.lanes

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        m.submodules.lanes = lanes = self.lanes
        m.d.comb += [
            lanes.write_enable.eq(self.write_enable),
            lanes.write_address.eq(self.write_address),
            lanes.write_data.eq(self.write_data),
            self.release.eq(lanes.released),
        ]

        tag = self.i.payload
        entry = Signal(range(max(2, cfg.tiles)))
        plane = Signal(3)
        bank = Signal()
        taken = Signal()
        slot = Signal(init=1)
        word = Signal(range(cfg.weight_words))
        fresh = Signal(init=1)  # the first step of a set is still to come
        credit = Signal(range(cfg.tiles + 1), init=cfg.tiles)

        planes = Mux(self.layer.per_plane, 1, self.layer.planes)
        entries = Signal(7)
        m.d.comb += entries.eq(Mux(self.layer.per_plane, tag.tiles * self.layer.planes, tag.tiles))
        plane_last = Signal()
        set_last = Signal()
        finishing = Signal()
        rewind = Signal()
        has_slot = Signal()
        has_word = Signal()
        has_room = Signal()
        # An accumulator is read while the step before is being added: a set of a single word must
        # not be followed at once by another word for the same accumulator.
        single = Signal()
        read_word = Signal.like(word)
        m.d.comb += [
            plane_last.eq(plane + 1 == planes),
            set_last.eq(plane_last & (entry + 1 == entries)),
            finishing.eq(tag.run_last & plane_last),
            rewind.eq(fresh & tag.body_first),
            has_slot.eq(~tag.w_take | taken),
            read_word.eq(Mux(rewind, 0, word)),
            has_word.eq((self.buffer.writer_slot != slot) | (self.buffer.writer_count > read_word)),
            has_room.eq(~finishing | (credit != 0)),
            self.issue.eq(self.i.valid & has_slot & has_word & has_room & ~single),
            self.w_take.eq(self.i.valid & ~has_slot & self.w_available),
            self.i.ready.eq(self.issue & set_last),
            self.w_give.eq(self.i.ready & tag.w_give),
            self.buffer.slot.eq(slot),
            self.buffer.word.eq(read_word),
            self.buffer.enable.eq(self.issue),
        ]
        with m.If(self.start):
            m.d.sync += slot.eq(1)  # the first take turns it to slot 0
        with m.If(self.w_take):
            m.d.sync += [taken.eq(1), slot.eq(~slot)]
        with m.If(self.issue):
            m.d.sync += [
                word.eq(read_word + 1),
                fresh.eq(set_last),
                plane.eq(Mux(plane_last, 0, plane + 1)),
            ]
            with m.If(set_last):
                m.d.sync += [entry.eq(0), bank.eq(~bank), taken.eq(0)]
            with m.Elif(plane_last):
                m.d.sync += entry.eq(entry + 1)
        m.d.sync += single.eq(self.issue & set_last & (entry == 0) & (plane == 0))
        m.d.sync += credit.eq(credit + self.o_pop - (self.issue & finishing))

        issued = Signal(Step)
        m.d.sync += [
            issued.valid.eq(self.issue),
            issued.bank.eq(bank),
            issued.release.eq(set_last),
            issued.plane_first.eq(plane == 0),
            issued.plane_last.eq(plane_last),
            issued.run_first.eq(tag.run_first),
            issued.run_last.eq(tag.run_last),
            issued.entry.eq(entry),
            issued.signs.eq(tag.signs),
        ]
        m.d.comb += [
            lanes.step.eq(issued),
            lanes.weights.eq(self.buffer.data[: cfg.weight_bits]),
        ]

        # Finished tiles, in the order in which the scale unit takes them.
        head = Signal(range(max(2, cfg.tiles)))
        tail = Signal(range(max(2, cfg.tiles)))
        level = Signal(range(cfg.tiles + 1))
        wide = lanes.o_sums.as_value()
        m.submodules.finished = finished = Memory(
            shape=len(wide), depth=cfg.tiles, init=[], attrs={"ram_style": "distributed"}
        )
        write, read = finished.write_port(), finished.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(lanes.o_write),
            write.addr.eq(tail),
            write.data.eq(wide),
            read.addr.eq(head),
            self.o_sums.as_value().eq(read.data),
            self.o_valid.eq(level != 0),
        ]
        with m.If(lanes.o_write):
            m.d.sync += tail.eq(Mux(tail == cfg.tiles - 1, 0, tail + 1))
        with m.If(self.o_pop):
            m.d.sync += head.eq(Mux(head == cfg.tiles - 1, 0, head + 1))
        m.d.sync += level.eq(level + lanes.o_write - self.o_pop)

        with m.If(self.issue):
            m.d.comb += self.state.eq(State.BUSY)
        with m.Elif(self.i.valid & has_slot & has_word):
            m.d.comb += self.state.eq(State.WAIT_OUT)
        with m.Elif(self.expecting | self.i.valid):
            m.d.comb += self.state.eq(State.WAIT_IN)
        m.d.comb += self.active.eq(self.i.valid | issued.valid | (credit != cfg.tiles))
        return m
