"""Double-buffered memories between a loader and a unit, with an interlock within the slot.

A loader takes a free slot, says so to the reader at once, and fills it word by word; the reader may
follow it within the slot, because it only issues words that the loader has completed. That makes a
stream of a block without cutting it into small ones.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
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

    Members
    -------
    seek, seek_slot, seek_word
        The next item is the first of this word.
    request, issue
        The unit wants items; one is issued in this cycle (its value comes with ``valid``).
    valid, ready, item
        The item read; held until taken. While it is reset the unit has to be ready.
    """

    def __init__(self, *, width: int, item_bits: int, slot_words: int) -> None:
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
                "issue": Out(1),
                "valid": Out(1),
                "ready": In(1),
                "item": Out(item_bits),
                "port": Out(self.port_signature),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        slot = Signal(reset_less=True)
        word = Signal.like(self.seek_word, reset_less=True)
        part = Signal(range(self.per_word), reset_less=True)
        part_read = Signal.like(part)
        # No reset: the unit takes what it finds before a program can begin.
        valid = Signal(reset_less=True)
        wraps = part == self.per_word - 1
        available = (self.port.writer_slot != slot) | (self.port.writer_count > word)
        m.d.comb += [
            self.valid.eq(valid),
            self.issue.eq(self.request & available & (~valid | self.ready)),
            self.port.slot.eq(slot),
            self.port.word.eq(word),
            self.port.enable.eq(self.issue),
            self.item.eq(self.port.data.word_select(part_read, self.item_bits)),
        ]
        with m.If(self.issue):
            m.d.sync += [
                valid.eq(1),
                part_read.eq(part),
                part.eq(Mux(wraps, 0, part + 1)),
                word.eq(word + wraps),
            ]
        with m.Elif(self.ready):
            m.d.sync += valid.eq(0)
        with m.If(self.seek):
            m.d.sync += [slot.eq(self.seek_slot), word.eq(self.seek_word), part.eq(0)]
        return m
