"""The walk of an MMA instruction over its activations, word by word."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.compute.tags import run_tag, set_tag
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import INSTRUCTIONS, LOOP_LEVELS, Opcode
from lutcore.hw.contract.loops import EXTENT_BITS
from lutcore.hw.contract.ternary import GROUP as TRITS
from lutcore.hw.control.nest import body_layout
from lutcore.hw.util import first_at

__all__ = ["BodyQueue", "Walk", "plan_layout", "word_flags"]


def word_flags(config: CoreConfig) -> data.StructLayout:
    """What goes with a word of activations on its way to the tables."""
    flags = ("header", "header_last", "keep_rows", "run_start", "run_end")
    return data.StructLayout(
        {
            # A word of row scales; the last one of the body; they are those of a finished tile.
            **dict.fromkeys(flags[:3], 1),
            # The first and the last word of a run.
            **dict.fromkeys(flags[3:], 1),
            "tag": set_tag(config),
            "run": run_tag(config),
        }
    )


def plan_layout(config: CoreConfig) -> data.StructLayout:
    """What of a body is known before its first word is read."""
    columns = range(config.weight_words * config.step + 1)
    flags = ("k_first", "k_last", "n_last", "r_last", "zero")
    levels = ("w", "s", "x", "t")
    return data.StructLayout(
        {
            **dict.fromkeys(flags, 1),
            **{f"{verb}_{level}": 1 for verb in ("take", "give") for level in levels},
            "tiles": range(config.tiles + 1),
            "rows": range(config.rows + 1),
            "last_entry": range(max(2, config.tiles)),
            "one_entry": 1,
            "run": range(config.run + 1),  # columns of the first run
            "rest": columns,  # behind it
        }
    )


class BodyQueue(wiring.Component):
    """Takes a body of the nest while another one is walked, and works out what it needs.

    A body is ready `latency` cycles after it is taken, or later, when its activations are there.

    Members
    -------
    body
        Bodies of the instruction's nest.
    fields, layer
        Levels of the instruction; layer registers.
    start
        Pulse: the instruction begins.
    x_available, x_take
        A slot of activations is full; pulse: it is taken, and given back by WALK.
    valid, taken
        There is a body to be walked; it is.
    plan, slot, word
        The body; slot and first word of its activations in their buffer. They stand from the cycle
        before ``valid``.
    pending
        A body has been taken from the nest, and not yet by WALK.
    operand_error
        A run longer than the accumulators are wide for, too many tiles, more columns than a slot of
        weights has, or loops that do not end together with a sum slot. Nothing goes on then.
    """

    latency = 4

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        word_bits = max(1, (config.x_slot_words - 1).bit_length())
        super().__init__(
            {
                "body": In(stream.Signature(body_layout())),
                "fields": In(INSTRUCTIONS[Opcode.MMA].layout),
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "start": In(1),
                "x_available": In(1),
                "x_take": Out(1),
                "valid": Out(1),
                "taken": In(1),
                "plan": Out(plan_layout(config)),
                "slot": Out(1),
                "word": Out(word_bits),
                "pending": Out(1),
                "operand_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        body = Signal(body_layout(), reset_less=True)
        plan = Signal(plan_layout(cfg), reset_less=True)
        slot = Signal(reset_less=True)
        m.d.comb += [
            self.plan.eq(plan),
            self.slot.eq(slot),
            self.word.eq(body.address),
        ]
        wrong = Signal(reset_less=True)
        m.d.sync += wrong.eq(Cat(*self._plan(m, body, plan)).any())
        with m.If(self.start):
            m.d.sync += slot.eq(1)  # the first take turns it to slot 0
        m.d.comb += self.pending.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.body.ready.eq(1), self.pending.eq(0)]
                m.d.sync += body.eq(self.body.payload)
                with m.If(self.body.valid):
                    m.next = "SIZES"
            # Sizes and limits follow the body by one and two cycles, their verdict by three.
            with m.State("SIZES"):
                m.next = "LIMITS"
            with m.State("LIMITS"):
                m.next = "VERDICT"
            with m.State("VERDICT"):
                m.next = "SLOT"
            with m.State("SLOT"):
                with m.If(wrong):
                    m.d.comb += self.operand_error.eq(1)
                    m.next = "STOPPED"
                with m.Elif(~plan.take_x):
                    m.d.comb += self.valid.eq(1)
                    with m.If(self.taken):
                        m.next = "IDLE"
                with m.Elif(self.x_available):
                    m.d.comb += self.x_take.eq(1)
                    m.d.sync += slot.eq(~slot)
                    m.next = "READY"
            with m.State("READY"):
                m.d.comb += self.valid.eq(1)
                with m.If(self.taken):
                    m.next = "IDLE"
            with m.State("STOPPED"):
                pass
        return m

    def _plan(self, m: Module, body: Any, plan: Any) -> list[Signal]:
        """Fill the plan from the body; what is wrong with it, two cycles after the body."""
        cfg, layer, fields = self.config, self.layer, self.fields
        verbs = {"take": body.first, "give": body.last}
        for verb, levels in verbs.items():
            for level in ("w", "s", "x", "t"):
                chosen = first_at(levels, getattr(fields, f"{level}_level"))
                m.d.sync += plan[f"{verb}_{level}"].eq(chosen)
        columns = body.k
        most = cfg.weight_words * cfg.step  # columns of a body
        # In the first cycle.
        behind = Signal(signed(EXTENT_BITS + 1), reset_less=True)  # columns behind a whole run
        entries = Signal(range(cfg.tiles * cfg.planes + 1), reset_less=True)
        over_rows = Signal(reset_less=True)
        last_row = Signal(reset_less=True)
        ends = Signal(reset_less=True)
        long_run = Signal(reset_less=True)
        first = Signal(reset_less=True)
        beyond = [Signal(name=f"beyond_{n}", reset_less=True) for n in ("columns", "tiles")]
        # Of more tiles than there may be the product does not matter.
        tiles = body.n[: cfg.tiles.bit_length()]
        planes = layer.planes[: cfg.planes.bit_length()]
        inner_level = (body.inner - 1)[: len(body.inner)]
        m.d.sync += [
            beyond[0].eq(columns > most),
            beyond[1].eq(body.n > cfg.tiles),
            long_run.eq((columns > cfg.run) & (layer.group_size > cfg.run)),
            behind.eq(columns - layer.group_size),
            entries.eq(Mux(layer.per_plane, tiles * planes, tiles)),
            over_rows.eq(body.inner_r & (body.inner > fields.t_level)),
            last_row.eq(first_at(body.last[:LOOP_LEVELS], inner_level)),
            ends.eq(first_at(body.last, fields.t_level)),
            first.eq(body.index == 0),
        ]
        # In the second.
        many = Signal(reset_less=True)
        late = Signal(reset_less=True)
        whole = (behind <= 0) | beyond[0]  # a single run
        m.d.sync += [
            many.eq((entries > cfg.tiles) | Cat(*beyond).any() | long_run),
            # All of K has to be summed within a sum slot, and nothing else but row tiles: in the
            # last iteration over those (if they are the innermost loop) K ends where the slot does.
            late.eq((~over_rows | last_row) & (ends != body.k_last)),
            plan.run.eq(Mux(whole, columns, layer.group_size)),
            plan.rest.eq(Mux(whole, 0, behind)),
            plan.last_entry.eq(entries - 1),
            plan.one_entry.eq(entries == 1),
            # The row tile's place within the sum slot: the innermost loop, if it is over rows.
            plan.zero.eq(~over_rows | first),
            plan.k_first.eq(body.k_first),
            plan.k_last.eq(body.k_last),
            plan.n_last.eq(body.n_last),
            plan.r_last.eq(body.r_last),
            plan.tiles.eq(body.n),
            plan.rows.eq(Mux(body.r_last, layer.last_rows, cfg.rows)),
        ]
        return [many, late]


class Walk(wiring.Component):
    """Counts through the words of one body after the other.

    The next body begins in the cycle after the last word of the current one, if it is ready.

    Members
    -------
    layer
        Layer registers.
    valid, plan, taken
        A body to be walked, see `BodyQueue`; pulse: it is begun.
    request, issue, seek
        Words are wanted; one is issued in this cycle; the next one is the first of a body.
    flags
        What goes with it.
    x_give
        Pulse: the activations are done with.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__(
            {
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "valid": In(1),
                "plan": In(plan_layout(config)),
                "taken": Out(1),
                "request": Out(1),
                "issue": In(1),
                "seek": Out(1),
                "flags": Out(word_flags(config)),
                "x_give": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg, layer = self.config, self.layer
        plan = Signal.like(self.plan, reset_less=True)
        held = Signal()
        headers = Signal(range(cfg.x_header_words + 1), reset_less=True)
        in_header = Signal(reset_less=True)
        header_last = Signal(reset_less=True)
        place = Signal(range(cfg.group), reset_less=True)  # of the word in its step
        place_last = Signal(reset_less=True)
        run_left = Signal.like(plan.run, reset_less=True)  # columns, this step included
        rest = Signal.like(plan.rest, reset_less=True)  # columns behind the run
        run_first = Signal(reset_less=True)  # the first step of a run
        body_first = Signal(reset_less=True)  # the first run of a body
        run_start = Signal(reset_less=True)

        # A step has two words at least, so that what follows from its columns is known a cycle
        # after they are, and in time for its last word.
        run_ends = Signal(reset_less=True)
        none_left = Signal(reset_less=True)
        behind = Signal(signed(len(rest) + 1), reset_less=True)
        signs = Signal(cfg.depth, reset_less=True)
        group_size = Signal.like(layer.group_size, reset_less=True)
        # A group of more columns than a body has is one of as many.
        size = Mux(group_size[len(rest) :].any(), ~Const(0, len(rest)), group_size[: len(rest)])
        m.d.sync += [
            run_ends.eq(run_left <= cfg.step),
            none_left.eq(rest == 0),
            behind.eq(rest - size),
            signs.eq(Cat(run_left >= (g + 1) * cfg.group for g in range(cfg.depth))),
            group_size.eq(layer.group_size),
        ]
        body_ends = Signal()
        last = Signal()
        moves = Signal()
        m.d.comb += [
            body_ends.eq(run_ends & none_left),
            last.eq(place_last & body_ends & ~in_header),
            moves.eq(self.issue | ~held),
            self.request.eq(held),
            self.seek.eq(~held | last),
            self.taken.eq(self.valid & (~held | (self.issue & last))),
            self.x_give.eq(self.issue & last & plan.give_x),
        ]
        words = Mux(layer.ternary, TRITS, cfg.group) if cfg.ternary else cfg.group
        following = place + 1
        with m.If(moves):
            with m.If(~held | last):
                m.d.sync += [
                    held.eq(self.valid),
                    plan.eq(self.plan),
                    run_left.eq(self.plan.run),
                    rest.eq(self.plan.rest),
                    headers.eq(cfg.x_header_words),
                    in_header.eq(1),
                    header_last.eq(cfg.x_header_words == 1),
                    place.eq(0),
                    place_last.eq(0),
                    run_first.eq(1),
                    run_start.eq(1),
                    body_first.eq(1),
                ]
            with m.Elif(in_header):
                m.d.sync += [
                    headers.eq(headers - 1),
                    in_header.eq(headers != 1),
                    header_last.eq(headers == 2),
                ]
            with m.Elif(~place_last):
                m.d.sync += [place.eq(following), place_last.eq(following == words - 1)]
                m.d.sync += run_start.eq(0)
            with m.Else():
                m.d.sync += [place.eq(0), place_last.eq(0)]
                with m.If(~run_ends):
                    m.d.sync += [run_left.eq(run_left - cfg.step), run_first.eq(0)]
                with m.Else():
                    m.d.sync += [
                        run_left.eq(Mux(behind > 0, size, rest)),
                        rest.eq(Mux(behind > 0, behind, 0)),
                        run_first.eq(1),
                        run_start.eq(1),
                        body_first.eq(0),
                    ]
        flags, tag, run = self.flags, self.flags.tag, self.flags.run
        begins = body_first & run_first
        m.d.comb += [
            flags.header.eq(in_header),
            flags.header_last.eq(header_last & in_header),
            flags.keep_rows.eq(plan.k_last),
            flags.run_start.eq(run_start),  # and a header, which is forgotten
            flags.run_end.eq(run_ends & place_last & ~in_header),
            tag.last_entry.eq(plan.last_entry),
            tag.one_entry.eq(plan.one_entry),
            tag.run_first.eq(run_first),
            tag.run_last.eq(run_ends),
            tag.body_first.eq(begins),
            tag.w_take.eq(begins & plan.take_w),
            tag.w_give.eq(body_ends & plan.give_w),
            tag.signs.eq(signs),
            run.tiles.eq(plan.tiles),
            run.rows.eq(plan.rows),
            run.body_first.eq(body_first),
            run.s_take.eq(body_first & plan.take_s),
            run.s_give.eq(body_ends & plan.give_s),
            run.t_take.eq(body_first & plan.take_t),
            run.t_give.eq(body_ends & plan.give_t),
            run.t_first.eq(body_first & plan.k_first),
            run.t_zero.eq(plan.zero),
            # Bias is held with the weights or with the sums, whichever lasts longer.
            run.b_take.eq(layer.bias & body_first & plan.take_t & plan.take_w),
            run.b_give.eq(layer.bias & body_ends & plan.give_t & plan.give_w),
            run.n_last.eq(plan.n_last),
            run.r_last.eq(plan.r_last),
        ]
        return m
