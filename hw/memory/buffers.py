"""Double-buffered memories between a loader and a unit, with an interlock within the slot.

A loader takes a free slot, says so to the reader at once, and fills it word by word; the reader may
follow it within the slot, because it only issues words that the loader has completed. That makes a
stream of a block without cutting it into small ones.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["BufferReader", "SlotBuffer"]


class SlotBuffer(wiring.Component):
    """A memory of two slots, written in pieces, read in words.

    Parameters
    ----------
    width
        Bits of a word.
    piece
        Bits of a written piece; divides ``width``.
    slot_words
        Words per slot, a power of two.
    reset_less
        Whether no reader looks at a slot before it has begun, whatever the program says.

    Members
    -------
    write_enable, write_slot, write_word, write_data
        A bit per piece of the word; which slot, which word of it; one piece.
    begin, done
        Strobes: a slot begins (``write_slot``), a word is complete.
    read
        ``slot``, ``word``, ``enable``; ``data`` a cycle later. ``writer_slot`` and
        ``writer_count`` for the interlock.
    """

    def __init__(
        self, *, width: int, piece: int, slot_words: int, reset_less: bool = False
    ) -> None:
        self.width, self.piece, self.slot_words = width, piece, slot_words
        self.reset_less = reset_less
        self.word_bits = max(1, (slot_words - 1).bit_length())
        super().__init__(
            {
                "write_enable": In(width // piece),
                "write_slot": In(1),
                "write_word": In(self.word_bits),
                "write_data": In(piece),
                "begin": In(1),
                "done": In(1),
                "read": In(read_signature(width, slot_words)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = 2 * (1 << self.word_bits)
        m.submodules.memory = memory = Memory(shape=self.width, depth=depth, init=[])
        write = memory.write_port(granularity=self.piece)
        read = memory.read_port()
        pieces = self.width // self.piece
        m.d.comb += [
            write.en.eq(self.write_enable),
            write.addr.eq((self.write_slot << self.word_bits) | self.write_word),
            write.data.eq(self.write_data.replicate(pieces)),
            read.en.eq(self.read.enable),
            read.addr.eq((self.read.slot << self.word_bits) | self.read.word),
            self.read.data.eq(read.data),
        ]
        # A full slot is full until the next one begins, whatever else is counted. After a reset it
        # is empty: what is left of another program must not be read.
        count = Signal(self.word_bits, reset_less=self.reset_less)
        full, slot = (Signal(name=n, reset_less=self.reset_less) for n in ("full", "slot"))
        with m.If(self.begin):
            m.d.sync += [slot.eq(self.write_slot), count.eq(0), full.eq(0)]
        with m.Elif(self.done):
            m.d.sync += [count.eq(count + 1), full.eq(full | count.all())]
        m.d.comb += [
            self.read.writer_slot.eq(slot),
            self.read.writer_count.eq(Cat(count, full)),
        ]
        return m


def read_signature(width: int, slot_words: int) -> wiring.Signature:
    """The reader's side of a :class:`SlotBuffer`, seen from the reader."""
    bits = max(1, (slot_words - 1).bit_length())
    return wiring.Signature(
        {
            "slot": Out(1),
            "word": Out(bits),
            "enable": Out(1),
            "data": In(width),
            "writer_slot": In(1),
            "writer_count": In(bits + 1),
        }
    )


class BufferReader(wiring.Component):
    """Reads consecutive items (parts of a word) of a slot, one per cycle.

    An item is there `latency` cycles after it is issued. That a word is complete is known a cycle
    later than it could be.

    Parameters
    ----------
    width, slot_words
        Of the buffer.
    item_bits
        Bits of an item; divides ``width``.
    tag
        Layout of what goes with an item.

    Members
    -------
    seek, seek_slot, seek_word
        Level: the item behind the one that is issued, or, without a request, the next one, is the
        first of this word.
    request, i_tag, issue
        The unit wants items; what goes with the next one; one is issued in this cycle.
    valid, ready, item, tag
        The item read; held until taken. While it is reset the unit has to be ready.
    busy
        Items have been issued, and not been taken.
    """

    latency = 2

    def __init__(self, *, width: int, item_bits: int, slot_words: int, tag: Any = 1) -> None:
        self.per_word = width // item_bits
        self.item_bits = item_bits
        self.slot_words = slot_words
        self.port_signature = read_signature(width, self.slot_words)
        word_bits = max(1, (self.slot_words - 1).bit_length())
        super().__init__(
            {
                "seek": In(1),
                "seek_slot": In(1),
                "seek_word": In(word_bits),
                "request": In(1),
                "i_tag": In(tag),
                "issue": Out(1),
                "valid": Out(1),
                "ready": In(1),
                "item": Out(item_bits),
                "tag": Out(tag),
                "busy": Out(1),
                "port": Out(self.port_signature),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        slot = Signal(reset_less=True)
        word = Signal.like(self.seek_word, reset_less=True)
        part = Signal(range(self.per_word), reset_less=True)
        wraps = part == self.per_word - 1

        # Whether the word is complete, by what was known a cycle ago: of this one, of the one
        # behind it, and of the one that is sought.
        def complete(of_slot: Value, of_word: Value) -> Value:
            return (self.port.writer_slot != of_slot) | (self.port.writer_count > of_word)

        current, following, sought = (
            Signal(name=name, reset_less=True) for name in ("current", "following", "sought")
        )
        wrapped, seeks = (Signal(name=name, reset_less=True) for name in ("wrapped", "seeks"))
        m.d.sync += [
            current.eq(complete(slot, word)),
            following.eq(complete(slot, word + 1)),
            sought.eq(complete(self.seek_slot, self.seek_word)),
            wrapped.eq(self.issue & wraps),
            seeks.eq(self.seek & (self.issue | ~self.request)),
        ]
        available = Mux(seeks, sought, Mux(wrapped, following, current))

        # The memory's output, and the item behind a register. No resets: the unit takes what it
        # finds before a program can begin.
        read = Signal(reset_less=True)
        read_part = Signal.like(part, reset_less=True)
        read_tag = Signal.like(self.tag, reset_less=True)
        valid = Signal(reset_less=True)
        item = Signal(self.item_bits, reset_less=True)
        tag = Signal.like(self.tag, reset_less=True)
        moves = Signal()
        m.d.comb += [
            moves.eq(~valid | self.ready),
            self.issue.eq(self.request & available & (~read | moves)),
            self.valid.eq(valid),
            self.item.eq(item),
            self.tag.eq(tag),
            self.busy.eq(read | valid),
            self.port.slot.eq(slot),
            self.port.word.eq(word),
            self.port.enable.eq(self.issue),
        ]
        with m.If(~read | moves):
            m.d.sync += read.eq(self.issue)
        with m.If(self.issue):
            m.d.sync += [
                read_part.eq(part),
                read_tag.eq(self.i_tag),
            ]
        # Where it goes on does not depend on whether it does: that is known late.
        with m.If(self.issue | (self.seek & ~self.request)):
            with m.If(self.seek):
                m.d.sync += [slot.eq(self.seek_slot), word.eq(self.seek_word), part.eq(0)]
            with m.Else():
                m.d.sync += [word.eq(word + wraps), part.eq(Mux(wraps, 0, part + 1))]
        with m.If(moves):
            m.d.sync += [
                valid.eq(read),
                item.eq(self.port.data.word_select(read_part, self.item_bits)),
                tag.eq(read_tag),
            ]
        return m
