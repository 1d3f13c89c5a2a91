"""A memory behind AXI4 that goes wrong: error responses, and channels that stop or hold back."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from cocotb.triggers import Event

from lutcore.verif.core.memory import ReadPort, WritePort

__all__ = ["CHANNELS", "DECERR", "OKAY", "SLVERR", "FaultReadPort", "FaultWritePort", "Faults"]

OKAY, SLVERR, DECERR = 0, 2, 3
#: The channels of the core's memory bus, as `Faults.stop` names them.
CHANNELS = ("AR", "R", "AW", "W", "B")


@dataclass(frozen=True)
class Faults:
    """What a memory does wrong.

    Attributes
    ----------
    read
        By address of a beat: its RRESP. Its data are inverted.
    write
        By address of a beat: BRESP of the burst that it is in. The burst is written all the
        same, which a slave may do.
    stop
        By channel: transfers after which it moves no more.
    """

    read: dict[int, int] = field(default_factory=dict)
    write: dict[int, int] = field(default_factory=dict)
    stop: dict[str, int] = field(default_factory=dict)


class _Gate:
    """What both directions have in common: transfers are counted, and stop where they have to.

    Attributes
    ----------
    faults
        What goes wrong.
    moved
        Transfers of each channel since `begin`; of R and B, those that were offered to the core.
    bursts
        Address and number of beats of each burst since `begin` that was, or is being, served.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.faults = Faults()
        self.moved: Counter[str] = Counter()
        self.bursts: list[tuple[int, int]] = []
        self._sinks: dict[str, Any] = {}
        self._waiting: set[str] = set()
        self._resumed = Event()

    def begin(self, faults: Faults) -> None:
        """Before a program, with nothing under way: what is to go wrong from here on."""
        self.faults = faults
        self.moved.clear()
        self.bursts.clear()
        self._waiting.clear()
        for channel, sink in self._sinks.items():
            # One transfer at a time where the channel has to stop at an exact one.
            sink.queue_occupancy_limit = 1 if channel in faults.stop else 8
            sink.pause = self._stopped(channel)

    def stop(self, channel: str) -> None:
        """Move nothing more on a channel from now on."""
        self.faults = replace(self.faults, stop={**self.faults.stop, channel: 0})
        if channel in self._sinks:
            self._sinks[channel].pause = True

    def resume(self) -> None:
        """Let all channels that stopped go on."""
        self.faults = replace(self.faults, stop={})
        for sink in self._sinks.values():
            sink.pause = False
        self._resumed.set()

    def refuses(self, channel: str) -> bool:
        """Whether a channel has stopped, and the core waits for it now."""
        if channel in self._sinks:
            sink = self._sinks[channel]
            return sink.pause and not int(sink.ready.value) and bool(int(sink.valid.value))
        return channel in self._waiting

    def _stopped(self, channel: str) -> bool:
        return channel in self.faults.stop and self.moved[channel] >= self.faults.stop[channel]

    def _guard_sink(self, channel: str, sink: Any) -> None:
        """Count what a channel takes, and let it stop."""
        self._sinks[channel] = sink
        receive = sink.recv

        async def counted() -> Any:
            await sink.wait()
            self.moved[channel] += 1
            # Before the transfer leaves the queue, which would make the sink ready again.
            if self._stopped(channel):
                sink.pause = True
            return await receive()

        sink.recv = counted

    async def _may_send(self, channel: str) -> None:
        while self._stopped(channel):
            self._waiting.add(channel)
            self._resumed.clear()
            await self._resumed.wait()
        self._waiting.discard(channel)
        self.moved[channel] += 1


class FaultReadPort(_Gate, ReadPort):
    """Channels AR and R with faults; arguments as for `ReadPort`.

    Attributes
    ----------
    address
        Of the beat that is sent next.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.address = 0
        self._guard_sink("AR", self.ar_channel)
        receive, send = self.ar_channel.recv, self.r_channel.send

        async def receive_burst() -> Any:
            burst = await receive()
            self.bursts.append((int(burst.araddr), int(burst.arlen) + 1))
            return burst

        async def send_beat(beat: Any) -> None:
            response = self.faults.read.get(self.address, OKAY)
            if response != OKAY:
                beat.rresp = response
                beat.rdata = ~beat.rdata & (1 << self.width) - 1
            await self._may_send("R")
            await send(beat)

        self.ar_channel.recv = receive_burst
        self.r_channel.send = send_beat

    async def _read(self, address: int, length: int) -> bytes:
        self.address = address
        return await super()._read(address, length)


class FaultWritePort(_Gate, WritePort):
    """Channels AW, W and B with faults; arguments as for `WritePort`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._response = OKAY
        self._guard_sink("AW", self.aw_channel)
        self._guard_sink("W", self.w_channel)
        receive, send = self.aw_channel.recv, self.b_channel.send

        async def receive_burst() -> Any:
            burst = await receive()
            address, beats = int(burst.awaddr), int(burst.awlen) + 1
            self.bursts.append((address, beats))
            end = address + beats * self.byte_lanes
            found = [bad for place, bad in self.faults.write.items() if address <= place < end]
            self._response = max(found, default=OKAY)
            return burst

        async def send_response(response: Any) -> None:
            response.bresp = max(int(response.bresp), self._response)
            await self._may_send("B")
            await send(response)

        self.aw_channel.recv = receive_burst
        self.b_channel.send = send_response
