"""The words of an MMA body: where they lie, and to which table set and run they belong."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.compute.tags import run_tag, set_tag
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import INSTRUCTIONS, LOOP_LEVELS, Opcode
from lutcore.hw.contract.ternary import GROUP as TRITS
from lutcore.hw.control.nest import body_layout
from lutcore.hw.util import first_at

__all__ = ["BodyWalk", "word_layout"]


def word_layout(config: CoreConfig) -> data.StructLayout:
    """What a word of the activation buffer is."""
    return data.StructLayout(
        {
            "header": 1,  # part of the header of a block, before its activations
            "header_last": 1,
            "keep_rows": 1,  # the block has the last columns: FINAL takes the row scales from it
            "run_start": 1,  # first word of a run
            "run_end": 1,  # last word of a run
            "set": set_tag(config),
            "run": run_tag(config),
        }
    )


class _Place:
    """Registers that say which word is issued next."""

    def __init__(self, config: CoreConfig) -> None:
        self.body = Signal(body_layout(), reset_less=True)
        # Columns of the body not yet begun.
        self.runs_left = Signal(range(config.weight_words * config.step + 1), reset_less=True)
        # Columns of the run not yet begun, this step included.
        self.run_left = Signal(range(config.run + 1), reset_less=True)
        self.headers = Signal(range(config.x_header_words + 1), reset_less=True)
        self.layer_index = Signal(range(config.group), reset_less=True)
        self.run_first = Signal(reset_less=True)
        self.body_first = Signal(reset_less=True)
        # Known with the body: in ARRAY the product would lie in the path of every lookup.
        self.last_entry = Signal(range(max(2, config.tiles)), reset_less=True)


class BodyWalk(wiring.Component):
    """Walks the bodies of an MMA instruction, word by word: headers, then runs, then their steps.

    A word per cycle, without a gap between bodies: the next one is taken in the cycle in which the
    last word of the one before is issued.

    Members
    -------
    body
        Bodies of the instruction's nest.
    fields, layer, start
        Levels of the instruction; layer registers; pulse: the instruction begins.
    x_take, x_available, x_give
        Activation slot tokens.
    request, issue
        To and from the reader: there are words left of a body; the next one is read.
    seek, seek_slot, seek_word
        To the reader, with the transfer of a body: where its first word lies.
    word
        What the word is that was issued last, from the next cycle on, in which the reader has it.
    operand_error
        With the transfer of a body: a run longer than the accumulators are wide for, too many
        tiles, more columns than a slot of weights has, or loops that do not end together with a
        sum slot.
    """

    body: stream.Interface
    fields: data.View
    layer: data.View
    start: Signal
    x_available: Signal
    x_take: Signal
    x_give: Signal
    request: Signal
    issue: Signal
    seek: Signal
    seek_slot: Signal
    seek_word: Signal
    word: data.View
    operand_error: Signal

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__(
            {
                "body": In(stream.Signature(body_layout())),
                "fields": In(INSTRUCTIONS[Opcode.MMA].layout),
                "layer": In(INSTRUCTIONS[Opcode.LAYER].layout),
                "start": In(1),
                "x_available": In(1),
                "x_take": Out(1),
                "x_give": Out(1),
                "request": Out(1),
                "issue": In(1),
                "seek": Out(1),
                "seek_slot": Out(1),
                "seek_word": Out(body_layout()["address"].shape),
                "word": Out(word_layout(config)),
                "operand_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        layer = self.layer
        place = _Place(cfg)
        held = Signal()  # a body is being read
        x_slot = Signal(reset_less=True)
        words_per_step = Mux(layer.ternary, TRITS, cfg.group) if cfg.ternary else cfg.group
        step_end = Signal()
        run_ends = Signal()
        body_ends = Signal()
        m.d.comb += [
            step_end.eq(place.layer_index == words_per_step - 1),
            run_ends.eq(place.run_left <= cfg.step),
            body_ends.eq(run_ends & (place.runs_left == 0)),
            self.request.eq(held),
        ]
        flags = Signal(word_layout(cfg))
        word = Signal(word_layout(cfg), reset_less=True)
        self._describe(m, place, step_end, run_ends, body_ends, flags)
        m.d.comb += self.word.eq(word)
        with m.If(self.issue):
            m.d.sync += word.eq(flags)

        # Taking the next body: at once when the last word of the current one is issued.
        taken = self.body.payload
        take = Signal()
        need_x = first_at(taken.first, self.fields.x_level)
        finish = Signal()
        next_slot = Signal()
        size = Signal.like(place.runs_left)
        first_run = Signal.like(size)
        m.d.comb += [
            finish.eq(self.issue & step_end & body_ends & (place.headers == 0)),
            take.eq(self.body.valid & (~held | finish) & (~need_x | self.x_available)),
            self.body.ready.eq(take),
            self.x_take.eq(take & need_x),
            self.x_give.eq(finish & first_at(place.body.last, self.fields.x_level)),
            next_slot.eq(x_slot ^ need_x),
            self.seek.eq(take),
            self.seek_slot.eq(next_slot),
            self.seek_word.eq(taken.address),
            size.eq(taken.k),
            first_run.eq(Mux(size > layer.group_size, layer.group_size, size)),
        ]
        entries = Mux(layer.per_plane, taken.n * layer.planes, taken.n)
        m.d.comb += self.operand_error.eq(take & self._wrong(first_run, entries))
        with m.If(take):
            m.d.sync += [
                held.eq(1),
                x_slot.eq(next_slot),
                place.last_entry.eq(entries - 1),
                place.body.eq(taken),
                place.runs_left.eq(size - first_run),
                place.run_left.eq(first_run),
                place.headers.eq(cfg.x_header_words),
                place.layer_index.eq(0),
                place.run_first.eq(1),
                place.body_first.eq(1),
            ]
        with m.Else():
            with m.If(finish):
                m.d.sync += held.eq(0)
            # Behind the last word of a body, too: the next one sets all of it.
            with m.If(self.issue):
                self._advance(m, place, step_end, run_ends)
        with m.If(self.start):
            m.d.sync += x_slot.eq(1)  # the first take turns it to slot 0
        return m

    def _advance(self, m: Module, place: _Place, step_end: Signal, run_ends: Signal) -> None:
        """To the next word: of the header, of the step, of the run, or of the next run."""
        with m.If(place.headers != 0):
            m.d.sync += place.headers.eq(place.headers - 1)
        with m.Elif(~step_end):
            m.d.sync += place.layer_index.eq(place.layer_index + 1)
        with m.Else():
            m.d.sync += place.layer_index.eq(0)
            with m.If(~run_ends):
                m.d.sync += [
                    place.run_left.eq(place.run_left - self.config.step),
                    place.run_first.eq(0),
                ]
            with m.Else():
                group_size = self.layer.group_size
                following = Mux(place.runs_left > group_size, group_size, place.runs_left)
                m.d.sync += [
                    place.run_left.eq(following),
                    place.runs_left.eq(place.runs_left - following),
                    place.run_first.eq(1),
                    place.body_first.eq(0),
                ]

    def _describe(
        self,
        m: Module,
        place: _Place,
        step_end: Signal,
        run_ends: Signal,
        body_ends: Signal,
        flags: data.View,
    ) -> None:
        """What the word is that is issued next."""
        cfg = self.config
        fields, layer, body = self.fields, self.layer, place.body
        run_first, body_first = place.run_first, place.body_first
        give_w = first_at(body.last, fields.w_level)
        give_s = first_at(body.last, fields.s_level)
        give_t = first_at(body.last, fields.t_level)
        take_w = first_at(body.first, fields.w_level)
        take_s = first_at(body.first, fields.s_level)
        take_t = first_at(body.first, fields.t_level)
        signs = Cat(place.run_left >= (g + 1) * cfg.group for g in range(cfg.depth))
        m.d.comb += [
            flags.header.eq(place.headers != 0),
            flags.header_last.eq(place.headers == 1),
            flags.keep_rows.eq(body.k_last),
            # Of a header, too, which is forgotten.
            flags.run_start.eq(run_first & (place.layer_index == 0)),
            flags.run_end.eq((place.headers == 0) & run_ends & step_end),
            flags.set.last_entry.eq(place.last_entry),
            flags.set.run_first.eq(run_first),
            flags.set.run_last.eq(run_ends),
            flags.set.body_first.eq(body_first & run_first),
            flags.set.w_take.eq(body_first & run_first & take_w),
            flags.set.w_give.eq(body_ends & give_w),
            flags.set.signs.eq(signs),
            flags.run.tiles.eq(body.n),
            flags.run.rows.eq(Mux(body.r_last, layer.last_rows, cfg.rows)),
            flags.run.body_first.eq(body_first),
            flags.run.s_take.eq(body_first & take_s),
            flags.run.s_give.eq(body_ends & give_s),
            flags.run.t_take.eq(body_first & take_t),
            flags.run.t_give.eq(body_ends & give_t),
            flags.run.t_first.eq(body_first & body.k_first),
            # The row tile's place within the sum slot: the innermost loop, if it is over rows.
            flags.run.t_zero.eq(~self._over_rows(body) | (body.index == 0)),
            # Bias is held with the weights or with the sums, whichever lasts longer.
            flags.run.b_take.eq(layer.bias & body_first & take_t & take_w),
            flags.run.b_give.eq(layer.bias & body_ends & give_t & give_w),
            flags.run.n_last.eq(body.n_last),
            flags.run.r_last.eq(body.r_last),
        ]

    def _over_rows(self, body: data.View) -> Value:
        """Whether the innermost loop is over row tiles, within a sum slot."""
        return body.inner_r & (body.inner > self.fields.t_level)

    def _wrong(self, first_run: Signal, entries: Value) -> Value:
        """Whether the body that is offered is not one that the core can compute."""
        cfg, body = self.config, self.body.payload
        # All of K has to be summed within a sum slot, and nothing else but row tiles: in the last
        # iteration over those (if they are the innermost loop) K ends where the slot does.
        innermost = (body.inner - 1)[: len(body.inner)]
        last_rows = ~self._over_rows(body) | first_at(body.last[:LOOP_LEVELS], innermost)
        ends = first_at(body.last, self.fields.t_level)
        return (
            (body.k > cfg.weight_words * cfg.step)
            | (first_run > cfg.run)
            | (entries > cfg.tiles)
            | (last_rows & (ends != body.k_last))
        )
