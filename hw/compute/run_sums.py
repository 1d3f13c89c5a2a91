"""Sums of the activations of each run, for the offsets of its weights."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.compute.tags import run_layout, run_tag
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.memory.queue import Queue

__all__ = ["RunSums"]


class RunSums(wiring.Component):
    """Adds up the activations of a run, row by row.

    A run is in the queue `latency` cycles after its last word.

    Members
    -------
    valid, words
        A word is taken; its activations, row by row.
    run_start, run_end, tag
        It is the first or the last of a run; the run's tag.
    o
        Runs with their sums.
    busy
        A word is being added.
    """

    latency = 2

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        words = data.ArrayLayout(signed(config.activation_bits), config.rows * config.depth)
        super().__init__(
            {
                "valid": In(1),
                "words": In(words),
                "run_start": In(1),
                "run_end": In(1),
                "tag": In(run_tag(config)),
                "o": Out(stream.Signature(run_layout(config))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        valid = [self.valid, Signal(name="valid_1"), Signal(name="valid_2")]
        start = Signal(reset_less=True)
        end = [Signal(name=f"end_{n}", reset_less=True) for n in (1, 2)]
        tag = [Signal(run_tag(cfg), name=f"tag_{n}", reset_less=True) for n in (1, 2)]
        totals = Signal(data.ArrayLayout(signed(cfg.asum_width), cfg.rows), reset_less=True)
        m.d.sync += [
            valid[1].eq(valid[0]),
            valid[2].eq(valid[1]),
            start.eq(self.run_start),
            end[0].eq(self.run_end),
            end[1].eq(end[0]),
            tag[0].eq(self.tag),
            tag[1].eq(tag[0]),
        ]
        for r in range(cfg.rows):
            row = [self.words[r * cfg.depth + g] for g in range(cfg.depth)]
            partial = Signal(signed(cfg.asum_width), name=f"partial_{r}", reset_less=True)
            m.d.sync += partial.eq(_tree(row))
            # What header words add is forgotten at the start of the run behind them.
            with m.If(valid[1]):
                m.d.sync += totals[r].eq(Mux(start, 0, totals[r]) + partial)
        # A run is in the fill or in a bank of the tables, which have room for three, or it has
        # finished a tile, which has one of ARRAY's accumulators until SCALE is done with it.
        depth = cfg.tiles + 4
        m.submodules.queue = queue = Queue(
            width=run_layout(cfg).size, depth=depth, buffered=True, bounded=False
        )
        m.d.comb += [
            queue.w_en.eq(valid[2] & end[1]),
            queue.w_data.eq(Cat(tag[1], totals)),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
            self.busy.eq(valid[1] | valid[2]),
        ]
        return m


def _tree(values: list[Value]) -> Value:
    """Their sum, by adders in as few levels as can be."""
    while len(values) > 1:
        pairs = [a + b for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(pairs) * 2 :]
    return values[0]
