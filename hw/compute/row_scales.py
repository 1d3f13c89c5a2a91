"""The row scales of a block of activations, on their way from its header to FINAL."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.memory.queue import Queue

__all__ = ["RowScales"]


class RowScales(wiring.Component):
    """Gathers row scales from header words, and queues them for FINAL.

    Takes a word per cycle.

    Attributes
    ----------
    latency
        Cycles from the last word of a header to the offer of its row scales, if none are before
        them.

    Members
    -------
    valid, word, keep
        A header word; it is the last one of a header whose row scales go to FINAL.
    room
        The queue has room for the row scales of the header that is being read.
    o
        Row scales of row tiles, in order: 32 bits for each row.
    active
        Row scales are on their way to the queue.
    """

    # The header's register, and the queue with its own.
    latency = 3

    valid: Signal
    word: Signal
    keep: Signal
    room: Signal
    o: stream.Interface
    active: Signal

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__(
            {
                "valid": In(1),
                "word": In(config.x_word_bits),
                "keep": In(1),
                "room": Out(1),
                "o": Out(stream.Signature(data.ArrayLayout(32, config.rows))),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        m.submodules.queue = queue = Queue(
            width=32 * cfg.rows, depth=2 * max(2, cfg.sum_words // cfg.tile_sums), buffered=True
        )
        header = Signal(cfg.x_header_words * cfg.x_word_bits, reset_less=True)
        push = Signal()
        room = Signal(init=1)
        m.d.sync += [push.eq(self.valid & self.keep), room.eq(queue.w_rdy)]
        with m.If(self.valid):
            m.d.sync += header.eq(Cat(header, self.word)[cfg.x_word_bits :])
        m.d.comb += [
            queue.w_en.eq(push),
            queue.w_data.eq(header[: 32 * cfg.rows]),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
            # Between two headers lie the words of a body, so that it may be told late.
            self.room.eq(room),
            self.active.eq(push),
        ]
        return m
