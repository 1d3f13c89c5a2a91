"""Codes of a block of weights, from beats to words of the weight buffer."""

from math import gcd

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import CoreConfig, ceil_div

__all__ = ["Unpacker"]


class Unpacker(wiring.Component):
    """Turns the codes of a block, packed without gaps, into words of the weight buffer.

    Codes come as slices of ``lanes`` bits (one column of one plane); a word is a step's worth of
    slices, or fewer at the end of a run. Slices past the end keep what lay there before: they meet
    zero activations, and where they would be signs ARRAY takes zeros instead.

    A beat is there to be written from the cycle after it is taken. A group of `piece` bits is
    written per cycle, and a beat is taken per cycle for as long as there is room for it.

    Members
    -------
    start, columns, group_size, words
        Strobe: a block begins. Its columns, the columns of a run (the block's last run may have
        fewer), and the words of a step.
    active
        From the cycle after ``start`` to that of ``done``.
    i
        Beats of codes.
    write_enable, write_word, write_data
        To the weight buffer, in groups of ``slice_group`` slices: a bit per group of the word,
        which word, and the group.
    word_done
        Strobe: the last group of a word is written.
    overflow
        Strobe: a word is written beyond the last one of the buffer.
    done
        Strobe: the last word of the block is written.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.piece = config.slice_group * config.lanes
        self.groups = ceil_div(config.step, config.slice_group)
        super().__init__(
            {
                "start": In(1),
                "columns": In(range(config.weight_words * config.step + 1)),
                "group_size": In(17),
                "words": In(range(config.tiles * config.planes + 1)),
                "active": In(1),
                "i": In(stream.Signature(config.bus_width)),
                "write_enable": Out(self.groups),
                "write_word": Out((config.weight_words - 1).bit_length()),
                "write_data": Out(self.piece),
                "word_done": Out(1),
                "overflow": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        unit = gcd(cfg.lanes, cfg.bus_width)
        per_slice = cfg.lanes // unit
        per_beat = cfg.bus_width // unit
        # A beat is taken whether or not a piece is written in the same cycle, which is known late:
        # so there is room for one piece more.
        capacity = 2 * (self.piece // unit) + per_beat
        hold = Signal(capacity * unit, reset_less=True)
        level = Signal(range(capacity + 1), reset_less=True)

        run_left = Signal.like(self.columns, reset_less=True)  # of the run, this step included
        rest = Signal.like(self.columns, reset_less=True)  # behind the run
        word = Signal(len(self.words), reset_less=True)  # of the step
        slices_left = Signal(range(cfg.step + 1), reset_less=True)  # of the word
        group = Signal(range(self.groups), reset_less=True)
        address = Signal((cfg.weight_words - 1).bit_length() + 1, reset_less=True)

        def slices_of(run_size: Value) -> Value:
            return Mux(run_size > cfg.step, cfg.step, run_size)

        take = Signal(range(cfg.slice_group + 1))
        need = Signal(range(capacity + 1))
        emit = Signal()
        word_ends = Signal()
        step_ends = Signal()
        run_ends = Signal()
        m.d.comb += [
            take.eq(Mux(slices_left > cfg.slice_group, cfg.slice_group, slices_left)),
            need.eq(take * per_slice),
            emit.eq(self.active & (level >= need)),
            word_ends.eq(slices_left <= cfg.slice_group),
            step_ends.eq(word_ends & (word == self.words - 1)),
            run_ends.eq(run_left <= cfg.step),
            self.write_word.eq(address),
            self.write_data.eq(hold[: self.piece]),
            self.write_enable.eq(emit << group),
            self.word_done.eq(emit & word_ends),
            self.overflow.eq(emit & address[-1]),
            self.done.eq(emit & step_ends & run_ends & (rest == 0)),
        ]
        with m.If(emit):
            m.d.sync += [slices_left.eq(slices_left - take), group.eq(group + 1)]
            with m.If(word_ends):
                m.d.sync += [
                    group.eq(0),
                    address.eq(address + 1),
                    word.eq(word + 1),
                    slices_left.eq(slices_of(run_left)),
                ]
                with m.If(step_ends):
                    m.d.sync += word.eq(0)
                    with m.If(~run_ends):
                        after = run_left - cfg.step
                        m.d.sync += [run_left.eq(after), slices_left.eq(slices_of(after))]
                    with m.Else():
                        following = Mux(rest > self.group_size, self.group_size, rest)
                        m.d.sync += [
                            run_left.eq(following),
                            rest.eq(rest - following),
                            slices_left.eq(slices_of(following)),
                        ]

        # What is left after this cycle's piece moves down; a beat is appended above it.
        used = Mux(emit, need, 0)
        kept = level - used
        # A piece is a whole number of slices: few distances, not a shifter over units.
        moved = Array([hold[s * cfg.lanes :] for s in range(cfg.slice_group + 1)])[
            Mux(emit, take, 0)
        ]
        room = level <= capacity - per_beat
        accept = Signal()
        position = Signal(range(capacity + 1))
        m.d.comb += [
            self.i.ready.eq(self.active & room),
            accept.eq(self.i.valid & self.i.ready),
            position.eq(kept),
        ]
        placed = Signal(capacity * unit)
        with m.Switch(position):
            for start in range(capacity - per_beat + 1):
                with m.Case(start):
                    m.d.comb += placed.eq(self.i.payload << (start * unit))
        # Above `level` the register is zero, so that appending is an OR.
        m.d.sync += [
            hold.eq(moved | Mux(accept, placed, 0)),
            level.eq(kept + Mux(accept, per_beat, 0)),
        ]
        with m.If(self.start):
            size = Mux(self.columns > self.group_size, self.group_size, self.columns)
            m.d.sync += [
                hold.eq(0),
                level.eq(0),
                group.eq(0),
                word.eq(0),
                address.eq(0),
                run_left.eq(size),
                rest.eq(self.columns - size),
                slices_left.eq(slices_of(size)),
            ]
        return m
