"""The units under test as components of their own, wired as they are in the core."""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Module, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.compute.array import ArrayUnit
from lutcore.hw.compute.lanes import Lanes
from lutcore.hw.compute.scale import ScaleUnit
from lutcore.hw.compute.table import TableUnit
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import ADDRESS_WIDTH, COUNTER_UNITS
from lutcore.hw.control.csr_file import EXTRA_COUNTERS, CounterBank, CsrFile, event_bits
from lutcore.hw.control.fetch import Fetch
from lutcore.hw.core import READERS
from lutcore.hw.export import component_verilog
from lutcore.hw.memory.axi import Axi4Lite, Axi4Read, Axi4Write
from lutcore.hw.memory.dma import ReadMaster, Window, WriteMaster, request_layout
from lutcore.hw.util import State

__all__ = ["COMPONENTS", "Csrs", "DmaRead", "DmaWrite", "unit_verilog"]

# Members are made from signatures, which a type checker does not see: components are `Any` here.

_REQUEST = request_layout()


class DmaRead(wiring.Component):
    """The read master with a window for each of the core's readers.

    Members
    -------
    bases, sizes
        The region of each reader.
    requests, responses
        Streams of each reader.
    refused, checking
        For each reader: its request leaves the region, or is being checked.
    bus, abort, idle, owed, moved, error, error_client
        Those of :class:`ReadMaster`.
    """

    def __init__(self, config: CoreConfig) -> None:
        clients = len(READERS)
        self.master = ReadMaster(config.bus_width, clients)
        response = data.StructLayout({"data": config.bus_width, "last": 1})
        super().__init__(
            {
                "bases": In(data.ArrayLayout(ADDRESS_WIDTH, clients)),
                "sizes": In(data.ArrayLayout(32, clients)),
                "requests": In(stream.Signature(_REQUEST)).array(clients),
                "responses": Out(stream.Signature(response)).array(clients),
                "refused": Out(clients),
                "checking": Out(clients),
                "bus": Out(Axi4Read(config.bus_width)),
                "abort": In(1),
                "idle": Out(1),
                "owed": Out(1),
                "moved": Out(1),
                "error": Out(1),
                "error_client": Out(range(clients)),
            }
        )

    def elaborate(self: Any, platform: object) -> Module:
        m = Module()
        m.submodules.master = master = self.master
        wiring.connect(m, wiring.flipped(self.bus), master.bus)
        for client, (request, response) in enumerate(
            zip(self.requests, self.responses, strict=True)
        ):
            window: Any = Window(master.bus_width)
            m.submodules[f"window_{client}"] = window
            wiring.connect(m, wiring.flipped(request), window.i)
            wiring.connect(m, window.o, master.commands[client])
            wiring.connect(m, master.responses[client], wiring.flipped(response))
            m.d.comb += [
                window.base.eq(self.bases[client]),
                window.size.eq(self.sizes[client]),
                self.refused[client].eq(window.error),
                self.checking[client].eq(window.busy),
            ]
        m.d.comb += [
            master.abort.eq(self.abort),
            self.idle.eq(master.idle),
            self.owed.eq(master.owed),
            self.moved.eq(master.moved),
            self.error.eq(master.error),
            self.error_client.eq(master.error_client),
        ]
        return m


class DmaWrite(wiring.Component):
    """The write master behind the window of results.

    Members
    -------
    base, size
        The region.
    request, beats
        Byte offset, a multiple of 4, and words; data of the beats that hold them.
    refused, checking
        The request leaves the region, or is being checked.
    bus, abort, idle, owed, moved, error
        Those of :class:`WriteMaster`.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.window = Window(config.bus_width, lengths="words")
        self.master = WriteMaster(config.bus_width, longest=self.window.most_beats)
        beat = data.StructLayout({"data": config.bus_width, "strobe": config.beat_bytes})
        super().__init__(
            {
                "base": In(ADDRESS_WIDTH),
                "size": In(32),
                "request": In(stream.Signature(_REQUEST)),
                "beats": In(stream.Signature(beat)),
                "refused": Out(1),
                "checking": Out(1),
                "bus": Out(Axi4Write(config.bus_width)),
                "abort": In(1),
                "idle": Out(1),
                "owed": Out(1),
                "moved": Out(1),
                "error": Out(1),
            }
        )

    def elaborate(self: Any, platform: object) -> Module:
        m = Module()
        m.submodules.master = master = self.master
        window: Any = self.window
        m.submodules.window = window
        wiring.connect(m, wiring.flipped(self.bus), master.bus)
        wiring.connect(m, wiring.flipped(self.request), window.i)
        wiring.connect(m, window.o, master.command)
        wiring.connect(m, wiring.flipped(self.beats), master.i)
        m.d.comb += [
            window.base.eq(self.base),
            window.size.eq(self.size),
            self.refused.eq(window.error),
            self.checking.eq(window.busy),
            master.abort.eq(self.abort),
            self.idle.eq(master.idle),
            self.owed.eq(master.owed),
            self.moved.eq(master.moved),
            self.error.eq(master.error),
        ]
        return m


class Csrs(wiring.Component):
    """The register file with its counters.

    Members
    -------
    axi, start, soft_reset, irq, interrupt, busy, values, settings
        Those of :class:`CsrFile`.
    clear, run, states, extra
        What is counted: see :func:`lutcore.hw.control.csr_file.event_bits`.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.file: Any = CsrFile(config)
        super().__init__(
            {
                "axi": In(Axi4Lite(12)),
                "start": Out(1),
                "soft_reset": Out(1),
                "irq": Out(1),
                "interrupt": In(1),
                "busy": In(1),
                "values": In(self.file.values.shape()),
                "settings": Out(self.file.settings.shape()),
                "clear": In(1),
                "run": In(1),
                "states": In(data.ArrayLayout(State, len(COUNTER_UNITS))),
                "extra": In(len(EXTRA_COUNTERS)),
            }
        )

    def elaborate(self: Any, platform: object) -> Module:
        m = Module()
        m.submodules.file = file = self.file
        counters: Any = CounterBank()
        m.submodules.counters = counters
        wiring.connect(m, wiring.flipped(self.axi), file.axi)
        states = [self.states[unit] for unit in range(len(COUNTER_UNITS))]
        extra = {name: self.extra[bit] for bit, name in enumerate(EXTRA_COUNTERS)}
        m.d.comb += [
            self.start.eq(file.start),
            self.soft_reset.eq(file.soft_reset),
            self.irq.eq(file.irq),
            file.interrupt.eq(self.interrupt),
            file.busy.eq(self.busy),
            file.values.eq(self.values),
            self.settings.eq(file.settings),
            counters.clear.eq(self.clear),
            counters.events.eq(event_bits(self.run, states, extra)),
            counters.select.eq(file.counter_select),
            file.counter_hit.eq(counters.hit),
            file.counter_value.eq(counters.value),
        ]
        return m


#: The component of each unit bench.
COMPONENTS: dict[str, Callable[[CoreConfig], wiring.Component]] = {
    "table": TableUnit,
    "lanes": Lanes,
    "accumulators": ArrayUnit,
    "scale": ScaleUnit,
    "dma_read": DmaRead,
    "dma_write": DmaWrite,
    "fetch": Fetch,
    "csr": Csrs,
}


def unit_verilog(unit: str, config: CoreConfig) -> str:
    """Verilog of a unit, module ``lutcore_<unit>``, with a port for each member's signal."""
    component = COMPONENTS[unit](config)
    values = [value for *_, value in component.signature.flatten(component)]
    ports = [value for value in values if len(Value.cast(value))]
    return component_verilog(component, f"lutcore_{unit}", ports)
