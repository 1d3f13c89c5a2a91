"""What every unit has of its instruction: the loops, the fields and the number in the program."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import (
    INSTRUCTION_BITS,
    INSTRUCTIONS,
    PROGRAM_MAX,
    RESULT_ALIGNMENT,
    Unit,
)
from lutcore.hw.contract.loops import ADDRESS_BITS
from lutcore.hw.control.nest import Nest, body_layout, loop_layout
from lutcore.hw.memory.dma import REGION_BITS
from lutcore.hw.util import low_zeros

__all__ = ["Issue"]


class Issue(wiring.Component):
    """Holds the instruction that a unit works on, and walks its loops.

    Parameters
    ----------
    config
        The core.
    unit
        The unit.
    offset_bits
        Bits of the offsets that MMA's strides are; other units have addresses within a region.

    Members
    -------
    loop_valid, loop
        Pulse from FETCH: a loop of the instruction to come.
    start, word, instruction
        Pulse from FETCH: the instruction, and its number.
    body, next_address
        See `Nest`.
    fields, number
        Of the instruction at work, from the cycle after ``start``.
    busy
        Bodies are to come.
    """

    def __init__(self, config: CoreConfig, unit: Unit, *, offset_bits: int) -> None:
        self.unit = unit
        computes = unit == Unit.MMA
        # What is not whole beats from the region's start is out of bounds to a loader; STORE
        # refuses what does not begin where a row of results may.
        aligned = {Unit.MMA: 0, Unit.STY: low_zeros(RESULT_ALIGNMENT)}
        # All but TABLE look at a body first, and take it later.
        self.nest = Nest(
            address_width=offset_bits if computes else ADDRESS_BITS,
            region_bits=None if computes else REGION_BITS,
            aligned=aligned.get(unit, config.beat_shift),
            prompt=computes,
        )
        self.layout = INSTRUCTIONS[unit.opcode].layout
        super().__init__(
            {
                "loop_valid": In(1),
                "loop": In(loop_layout()),
                "start": In(1),
                "word": In(INSTRUCTION_BITS),
                "instruction": In(range(PROGRAM_MAX)),
                "body": Out(stream.Signature(body_layout(self.nest.address_width))),
                "next_address": In(self.nest.address_width),
                "fields": Out(self.layout),
                "number": Out(range(PROGRAM_MAX)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.nest = nest = self.nest
        wiring.connect(m, nest.o, wiring.flipped(self.body))
        m.d.comb += [
            nest.push.valid.eq(self.loop_valid),
            nest.push.payload.eq(self.loop),
            nest.start.eq(self.start),
            nest.next_address.eq(self.next_address),
            self.busy.eq(nest.busy),
        ]
        if self.unit != Unit.MMA:
            m.d.comb += nest.base.eq(data.View(self.layout, self.word).base)
        fields = Signal(self.layout, reset_less=True)
        number = Signal.like(self.number, reset_less=True)
        with m.If(self.start):
            m.d.sync += [fields.eq(self.word), number.eq(self.instruction)]
        m.d.comb += [self.fields.eq(fields), self.number.eq(number)]
        return m
