"""The writing side of slot buffers, for both loaders."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SlotWriter", "write_signature"]


def write_signature(width: int, piece: int, slot_words: int) -> wiring.Signature:
    """A loader's side of a :class:`lutcore.hw.memory.buffers.SlotBuffer`, seen from the loader."""
    return wiring.Signature(
        {
            "write_enable": Out(width // piece),
            "write_slot": Out(1),
            "write_word": Out(max(1, (slot_words - 1).bit_length())),
            "write_data": Out(piece),
            "begin": Out(1),
            "done": Out(1),
        }
    )


class SlotWriter(wiring.Component):
    """Writes consecutive beats into a slot of a buffer whose words are one or more beats.

    A beat is written in the cycle in which it is there; the two slots take turns.

    Parameters
    ----------
    write
        Of the buffer, see `write_signature`; a piece of its words is a beat.

    Members
    -------
    start
        Strobe: the next slot is slot 0.
    begin
        Strobe: the next slot begins. Never together with ``write``.
    rewind
        The next beat is the first of a slot.
    write, beat
        A beat is there, and its bits.
    port
        To the buffer.
    """

    def __init__(self, write: wiring.Signature) -> None:
        super().__init__(
            {
                "start": In(1),
                "begin": In(1),
                "rewind": In(1),
                "write": In(1),
                "beat": In(write.members["write_data"].shape),
                "port": Out(write),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        port = self.port
        pieces = len(port.write_enable)
        slot = Signal(reset_less=True)
        word = Signal.like(port.write_word, name="word", reset_less=True)
        piece = Signal(range(pieces), reset_less=True)
        wraps = piece == pieces - 1
        with m.If(self.start):
            m.d.sync += slot.eq(1)
        with m.If(self.begin):
            m.d.comb += [port.begin.eq(1), port.write_slot.eq(~slot)]
            m.d.sync += slot.eq(~slot)
        with m.If(self.write):
            m.d.comb += [
                port.write_slot.eq(slot),
                port.write_word.eq(word),
                port.write_data.eq(self.beat),
                port.write_enable.eq(1 << piece),
                port.done.eq(wraps),
            ]
            m.d.sync += [word.eq(word + wraps), piece.eq(Mux(wraps, 0, piece + 1))]
        with m.If(self.rewind):
            m.d.sync += [word.eq(0), piece.eq(0)]
        return m
