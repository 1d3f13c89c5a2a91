"""The sums of activations, by which SCALE applies the offsets of a run."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.compute.operands import operand_word
from lutcore.hw.compute.tags import run_layout, run_tag
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.memory.queue import Queue

__all__ = ["RunSums"]


class RunSums(wiring.Component):
    """Adds up the activations of each run, row by row, and queues them with the run's tag.

    Takes a word per cycle.

    Attributes
    ----------
    latency
        Cycles from the last word of a run to its offer, if none is before it.

    Members
    -------
    valid, a
        A word, and its ``rows * depth`` activations, those of a row side by side. There may be any
        words before the first one of a run.
    run_start, run_end, tag
        The word is the first of a run, or the last; the run's tag, with its last word.
    o
        Runs, in order. The queue has room for all runs that the tables and ARRAY can be at work on.
    active
        A word is on its way to the queue.
    """

    # Two stages of adders, and the queue with its register.
    latency = 4

    valid: Signal
    a: data.View
    run_start: Signal
    run_end: Signal
    tag: data.View
    o: stream.Interface
    active: Signal

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__(
            {
                "valid": In(1),
                "a": In(operand_word(config)["a"].shape),
                "run_start": In(1),
                "run_end": In(1),
                "tag": In(run_tag(config)),
                "o": Out(stream.Signature(run_layout(config))),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        # A run is in the fill or in a bank of the tables, which have room for three, or it has
        # finished a tile, which has one of ARRAY's accumulators until SCALE is done with it.
        m.submodules.queue = queue = Queue(
            width=run_layout(cfg).size, depth=cfg.tiles + 4, buffered=True, bounded=False
        )
        # The first stage adds within a word, the second one adds words.
        added = Signal()
        complete = Signal()
        run_start = Signal(reset_less=True)
        run_end = Signal(reset_less=True)
        tag = Signal(run_tag(cfg), reset_less=True)
        totals = Signal(run_layout(cfg)["sums"].shape, reset_less=True)
        total_tag = Signal(run_tag(cfg), reset_less=True)
        m.d.sync += [added.eq(self.valid), complete.eq(0)]
        with m.If(self.valid):
            m.d.sync += [
                run_start.eq(self.run_start),
                run_end.eq(self.run_end),
                tag.eq(self.tag),
            ]
        with m.If(added):
            m.d.sync += [complete.eq(run_end), total_tag.eq(tag)]
        for r in range(cfg.rows):
            partial = Signal(signed(cfg.asum_width), name=f"partial_{r}", reset_less=True)
            row = [self.a[r * cfg.depth + g] for g in range(cfg.depth)]
            with m.If(self.valid):
                m.d.sync += partial.eq(_tree(row))
            with m.If(added):
                m.d.sync += totals[r].eq(Mux(run_start, 0, totals[r]) + partial)
        m.d.comb += [
            queue.w_en.eq(complete),
            queue.w_data.eq(Cat(total_tag, totals)),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
            self.active.eq(added | complete),
        ]
        return m


def _tree(values: list[Value]) -> Value:
    """Their sum, by adders in as few levels as can be."""
    while len(values) > 1:
        pairs = [a + b for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(pairs) * 2 :]
    return values[0]
