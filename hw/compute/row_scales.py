"""Scales of rows, gathered from the headers of blocks of activations."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.memory.queue import Queue

__all__ = ["RowScales"]


class RowScales(wiring.Component):
    """Keeps the row scales of each finished row tile until FINAL takes them.

    Members
    -------
    valid, word, last, keep
        A header word is taken; it is the last of its body, whose scales are kept.
    room
        A header may be taken; what is on its way when this falls has room.
    o
        Float32 scales of a row tile.
    busy
        Scales are on their way into the queue.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__(
            {
                "valid": In(1),
                "word": In(config.x_word_bits),
                "last": In(1),
                "keep": In(1),
                "room": Out(1),
                "o": Out(stream.Signature(data.ArrayLayout(32, config.rows))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        # All sum slots, and as many tiles again that are still being summed.
        depth = 2 * max(2, cfg.sum_words // cfg.tile_sums)
        m.submodules.queue = queue = Queue(width=32 * cfg.rows, depth=depth, buffered=True)
        header = Signal(cfg.x_header_words * cfg.x_word_bits, reset_less=True)
        push = Signal()
        room = Signal(init=1)
        m.d.sync += [push.eq(self.valid & self.last & self.keep), room.eq(queue.w_rdy)]
        with m.If(self.valid):
            m.d.sync += header.eq(Cat(header, self.word)[cfg.x_word_bits :])
        m.d.comb += [
            # Between two pushes lie the words of a body, so that a late answer is no wrong one.
            self.room.eq(room),
            queue.w_en.eq(push),
            queue.w_data.eq(header[: 32 * cfg.rows]),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
            self.busy.eq(push),
        ]
        return m
