"""The datapath of the array: tables, lookups, adder trees, bit-serial accumulators.

With symmetric tables the sign of a lookup is not applied to it. It travels beside the value, and
each node of the tree adds or subtracts by the *relative* sign of its two inputs, so the sign costs
no adder of its own. The relative signs are what the weights' image holds: no logic forms them.
Cores with ternary tables have plain signs in the image, and a tree that inverts in its first level.
"""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.cells.carry import add
from lutcore.hw.cells.fused import fused_add, plain
from lutcore.hw.cells.placed import extend
from lutcore.hw.compute.tree import (
    goes_without_reset,
    inverting_tree,
    low_bits,
    plain_tree,
    sign_delay,
    signed_tree,
    tree_stages,
)
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.memory.ram import lut_ram
from lutcore.hw.util import fixed_delay

__all__ = ["Lanes", "LookupTable", "step_layout"]


def step_layout(config: CoreConfig) -> data.StructLayout:
    """Control of one array step; travels down the pipeline with its weights."""
    flags = ("valid", "bank", "plane_last", "run_first", "run_last")
    return data.StructLayout(
        {
            **dict.fromkeys(flags, 1),
            "entry": range(max(2, config.tiles)),  # accumulator
            "signs": config.depth,  # tables whose sign bit counts; see set_tag
        }
    )


class LookupTable(wiring.Component):
    """One table of every row, two banks, one read per lane in the same cycle.

    The index of a lane is the same for all rows, so their entries lie side by side in one word: in
    LUT RAM, of which synthesis makes a copy per lane, a word wastes less than the entries alone.
    In registers every lane has a multiplexer.

    Members
    -------
    write_address, write_data
        Entry in the low bits and bank on top; an entry for each row.
    value
        For each lane the entries of all rows.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.index_bits = (config.entries - 1).bit_length()
        self.word = data.ArrayLayout(signed(config.stored_width), config.rows)
        super().__init__(
            {
                "write_enable": In(1),
                "write_address": In(self.index_bits + 1),
                "write_data": In(self.word),
                "bank": In(1),
                "index": In(data.ArrayLayout(self.index_bits, config.lanes)),
                "value": Out(data.ArrayLayout(self.word, config.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        if cfg.table_store == "distributed":
            m.submodules.memory = memory = lut_ram(platform, shape=self.word, depth=2 * cfg.entries)
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
            cells = [
                Signal(self.word, name=f"entry_{bank}_{e}", reset_less=True)
                for e in range(cfg.entries)
            ]
            for e, cell in enumerate(cells):
                address = e | bank << self.index_bits
                with m.If(self.write_enable & (self.write_address == address)):
                    m.d.sync += cell.eq(self.write_data)
            banks.append(cells)
        # The bank is chosen once per table, not once per lane.
        live = [Signal(self.word, name=f"live_{e}") for e in range(cfg.entries)]
        m.d.comb += [
            live[e].eq(Mux(self.bank, banks[1][e], banks[0][e])) for e in range(cfg.entries)
        ]
        for n in range(cfg.lanes):
            m.d.comb += self.value[n].eq(Array(live)[self.index[n]])
        return m


class Lanes(wiring.Component):
    """The datapath: ``rows * lanes`` lanes without control of their own.

    Takes a word per cycle, with gaps at any place.

    Attributes
    ----------
    latency
        Cycles from the last word of a step to its sums.

    Members
    -------
    step
        Control of the word that is in ``weights`` in the same cycle.
    weights
        N·G·k bits: index bit j of table g of lane n at bit (g·k + j)·N + n.
    write_enable, write_address, write_data
        Entries of all tables: row m of table g at place m·G + g.
    o_write, o_sums
        While ``o_write`` is 1, ``o_sums`` has a run's sums of one tile (lane-major: n, then m).
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.latency = self.latency_of(config)
        tables = config.rows * config.depth
        self.index_bits = (config.entries - 1).bit_length()
        super().__init__(
            {
                "step": In(step_layout(config)),
                "weights": In(config.weight_bits),
                "write_enable": In(1),
                "write_address": In(self.index_bits + 1),
                "write_data": In(data.ArrayLayout(signed(config.entry_width), tables)),
                "o_write": Out(1),
                "o_sums": Out(
                    data.ArrayLayout(signed(config.acc_width), config.lanes * config.rows)
                ),
            }
        )

    @staticmethod
    def latency_of(config: CoreConfig) -> int:
        """``latency``, without making the lanes."""
        # The weights' register, the lookups, the tree, and the sum over planes.
        return 3 + tree_stages(config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        lanes, rows, depth, group = cfg.lanes, cfg.rows, cfg.depth, cfg.group

        bare = goes_without_reset(platform)
        # Cycle 2: the weights, registered close to the tables. In the plain Verilog, which becomes
        # the compiled model, they have a reset: without one CXXRTL would take the register bit by
        # bit, and C++ compilers give up on so deep a concatenation.
        weights = Signal(
            cfg.weight_bits, reset_less=bare and bool(getattr(platform, "family", None))
        )
        passed_on = data.StructLayout(
            {
                name: shape
                for name, shape in step_layout(cfg).members.items()
                if name not in ("valid", "signs")
            }
        )
        step = Signal(passed_on, reset_less=True)
        valid = Signal()
        m.d.sync += [step[name].eq(self.step[name]) for name in passed_on.members]
        m.d.sync += valid.eq(self.step.valid)
        with m.If(self.step.valid):
            m.d.sync += weights.eq(self.weights)
        if cfg.symmetric:
            # Columns past the end of a run meet zeros, whatever their bits; but the bit that is
            # the sign must be 0. As a synchronous reset it costs no logic.
            for g in range(depth):
                place = (g + 1) * group - 1
                with m.If(self.step.valid & ~self.step.signs[g]):
                    m.d.sync += weights[place * lanes : (place + 1) * lanes].eq(0)
        stages = tree_stages(cfg)
        control = fixed_delay(m, step, 1 + stages, "step", reset_less=True)
        valid = fixed_delay(m, valid, 1 + stages, "valid")

        # Cycle 3: lookups.
        looked_up: list[list[list]] = [[[] for _ in range(lanes)] for _ in range(rows)]
        signs: list[list] = [[] for _ in range(lanes)]
        for g in range(depth):
            m.submodules[f"table_{g}"] = table = LookupTable(cfg)
            m.d.comb += [
                table.write_enable.eq(self.write_enable),
                table.write_address.eq(self.write_address),
                table.bank.eq(step.bank),
                *(
                    table.write_data[r].eq(self.write_data[r * depth + g][cfg.halved :])
                    for r in range(rows)
                ),
            ]
            for n in range(lanes):
                bits = [weights[(g * group + j) * lanes + n] for j in range(group)]
                m.d.comb += table.index[n].eq(Cat(bits[: self.index_bits]))
                if cfg.symmetric:
                    sign = Signal(name=f"sign_{n}_{g}", reset_less=bare)
                    m.d.sync += sign.eq(bits[-1])
                    signs[n].append(sign)
                for r in range(rows):
                    value = Signal(
                        table.word.elem_shape, name=f"looked_{r}_{n}_{g}", reset_less=bare
                    )
                    m.d.sync += value.eq(table.value[n][r])
                    looked_up[r][n].append(value)

        low = [
            self._low_bits(m, platform, step.bank, r) if cfg.halved else None for r in range(rows)
        ]
        # The sum of each lane and row, and its sign or what is still to be added.
        sums: list[list] = [[None] * lanes for _ in range(rows)]
        final: list[list] = [[None] * lanes for _ in range(rows)]
        for n in range(lanes):
            if cfg.halved:
                delayed = [
                    fixed_delay(
                        m,
                        signs[n][g],
                        sign_delay(g, stages),
                        f"sign_{n}_{g}",
                        reset_less=bare,
                    )
                    for g in range(depth)
                ]
            elif cfg.symmetric:
                staged = [
                    _stages(m, signs[n][g], stages, f"sign_{n}_{g}", bare) for g in range(depth)
                ]
            for r in range(rows):
                name = f"tree_{r}_{n}"
                values = looked_up[r][n]
                if cfg.halved:
                    sums[r][n] = signed_tree(m, platform, values, delayed, low[r], name)
                    final[r][n] = delayed[0]
                elif cfg.symmetric:
                    sums[r][n], final[r][n] = inverting_tree(m, platform, values, staged, name)
                else:
                    sums[r][n] = plain_tree(m, platform, values, name)

        plane_end = valid & control.plane_last
        after = Signal.like(step)
        write_valid = Signal()
        m.d.sync += [after.eq(control), write_valid.eq(plane_end)]
        for r in range(rows):
            whole = [
                self._planes(m, platform, valid, plane_end, sums[r][n], final[r][n], f"{r}_{n}")
                for n in range(lanes)
            ]
            # Both banks of sums, the running and the finished, lie in LUT RAM, one word for all
            # lanes of a row.
            m.submodules[f"accumulators_{r}"] = memory = lut_ram(
                platform, shape=data.ArrayLayout(signed(cfg.acc_width), lanes), depth=cfg.tiles
            )
            write = memory.write_port()
            read = memory.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(write_valid),
                write.addr.eq(after.entry),
                read.addr.eq(control.entry),
            ]
            for n in range(lanes):
                # Read a cycle ahead, into a register that starts a run from its reset: gating the
                # adder's operand would cost a LUT per bit.
                before = Signal(signed(cfg.acc_width), name=f"before_{r}_{n}", reset_less=True)
                with m.If(control.run_first):
                    m.d.sync += before.eq(0)
                with m.Else():
                    m.d.sync += before.eq(read.data[n])
                total = Signal(signed(cfg.acc_width), name=f"total_{r}_{n}")
                value, last = whole[n]
                m.d.comb += [
                    total.eq(self._accumulate(m, platform, before, value, cfg.acc_width, last)),
                    write.data[n].eq(total),
                    self.o_sums[n * rows + r].eq(total),
                ]
        m.d.comb += self.o_write.eq(write_valid & after.run_last)
        return m

    def _low_bits(self, m: Module, platform: object, bank: Value, row: int) -> list[list[Signal]]:
        """The lowest bits of a row's lookups, the same for all entries of a table, and sums."""
        depth = self.config.depth
        bits = []
        for g in range(depth):
            held = Signal(2, name=f"low_{row}_{g}", reset_less=True)  # of both banks
            with m.If(self.write_enable):
                m.d.sync += held.bit_select(self.write_address[-1], 1).eq(
                    self.write_data[row * depth + g][0]
                )
            looked = Signal(name=f"low_looked_{row}_{g}", reset_less=goes_without_reset(platform))
            m.d.sync += looked.eq(held.bit_select(bank, 1))
            bits.append(looked)
        return low_bits(m, platform, bits, f"low_tree_{row}")

    def _accumulate(
        self,
        m: Module,
        platform: object,
        total: Value,
        value: Value,
        width: int,
        sign: Value | None,
    ) -> Value:
        """``total`` and a tree's sum, by what the tree left to do with ``sign``."""
        if sign is None:
            return add(m, platform, total, value, width)
        if self.config.halved:
            # The tables hold what sign 1 selects.
            return add(m, platform, total, value, width, ~sign)
        terms = plain(extend(total, width)), plain(extend(value, width))
        return fused_add(m, platform, *terms, width, carry_in=sign).as_signed()

    def _planes(
        self,
        m: Module,
        platform: object,
        valid: Value,
        plane_end: Value,
        value: Value,
        sign: Value,
        name: str,
    ) -> tuple[Signal, Signal | None]:
        """A step's sum over all planes, and its sign, or the one to be added, if it has but one."""
        cfg = self.config
        whole = Signal(signed(cfg.shift_width), name=f"whole_{name}", reset_less=True)
        if cfg.planes == 1:
            m.d.sync += whole.eq(value)
            if sign is None:
                return whole, None
            last = Signal(name=f"last_{name}", reset_less=True)
            m.d.sync += last.eq(sign)
            return whole, last
        # Two registers with one input: `h` goes on with the next plane and is reset after the
        # last, which is free, where gating the adder's operand would cost a LUT per bit; `whole`
        # takes the result.
        h = Signal(signed(cfg.shift_width - 1), name=f"planes_{name}")
        total = Signal(signed(cfg.shift_width), name=f"shifted_{name}")
        doubled = Cat(Const(0, 1), h).as_signed()
        m.d.comb += total.eq(self._accumulate(m, platform, doubled, value, cfg.shift_width, sign))
        m.d.sync += whole.eq(total)
        with m.If(plane_end):
            m.d.sync += h.eq(0)
        with m.Elif(valid):  # planes may come with gaps
            m.d.sync += h.eq(total)
        return whole, None


def _stages(m: Module, value: Signal, count: int, name: str, bare: bool) -> list[Signal]:
    """``value`` and its delays by 1 to ``count`` cycles."""
    found = [value]
    for stage in range(count):
        found.append(Signal(name=f"{name}_{stage + 1}", reset_less=bare))
        m.d.sync += found[-1].eq(found[-2])
    return found
