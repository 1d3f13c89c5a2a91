"""Benches of single units: ports by name, streams with pauses, scenarios that end or fail.

A unit's Verilog has one port for each member of its signature; names of nested members are joined
by ``__``, as in ``o__valid``. Everything is sampled at the rising edge of the clock, and driven
after it.
"""

import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import cocotb
from amaranth.lib import wiring
from cocotb.triggers import RisingEdge, Timer

from lutcore.verif.kit import env
from lutcore.verif.kit.points import points
from lutcore.verif.units.layouts import codec

__all__ = ["Port", "Process", "Stream", "UnitBench", "draw_pressure"]

#: A part of a scenario: a coroutine function without arguments.
Process = Callable[[], Coroutine[Any, Any, None]]
#: Names of the handshake's members, and of the same in the channels of AXI.
_VALID, _READY, _PAYLOAD = "__valid", "__ready", "__payload"


def draw_pressure(source: random.Random) -> float:
    """Chance of a pause before a transfer: none, some or much."""
    return source.choice([0.0, 0.0, 0.2, 0.5, 0.85])


class Port:
    """One port of a unit.

    Parameters
    ----------
    handle
        Of the simulator; None if the port has no bits.
    shape
        What its bits mean.
    driven
        By the bench, not by the unit.
    """

    def __init__(self, handle: Any, shape: Any, driven: bool) -> None:
        self.handle, self.codec, self.driven = handle, codec(shape), driven
        self.width = 0 if handle is None else len(handle)

    def set(self, value: Any) -> None:
        """Drive it after the current edge: a number, or a mapping or sequence for a layout."""
        if self.handle is not None:
            self.handle.value = self.codec.pack(value)

    def bits(self) -> int:
        """What it is at the current edge."""
        if self.handle is None:
            return 0
        value = self.handle.value
        try:
            return int(value)
        except ValueError:
            raise env.Mismatch(f"{self.handle._name} has unknown bits: {value}") from None

    def get(self) -> Any:
        """The same as a number, a dictionary or a list."""
        return self.codec.unpack(self.bits())


class UnitBench:
    """A unit in a simulation.

    Parameters
    ----------
    dut
        Its top module.
    component
        The component that the Verilog was made from; only its signature is looked at.
    name
        Of the test: seeds the random numbers.
    unit
        Name of the unit, in the names of its coverage points.

    Attributes
    ----------
    random, numbers
        Random numbers of the test, as Python's and as NumPy's.
    edge
        Trigger: the rising edge of the clock.
    """

    def __init__(self, dut: Any, component: wiring.Component, name: str, unit: str) -> None:
        self.dut, self.unit = dut, unit
        self.random, self.numbers = env.rng(name), env.np_rng(name)
        self.edge = RisingEdge(dut.clk)
        self.ports: dict[str, Port] = {}
        for path, member, _ in component.signature.flatten(component):
            full = "__".join(map(str, path))
            driven = member.flow is wiring.In
            self.ports[full] = Port(getattr(dut, full, None), member.shape, driven)
        self._streams: dict[str, Stream] = {}
        self._forked: list[Any] = []
        env.start_clock(dut)

    def __getitem__(self, name: str) -> Port:
        return self.ports[name]

    def stream(self, name: str, valid: str = "", ready: str = "", payload: str = "") -> "Stream":
        """The stream with a name; the names of its ports, if they are no usual ones."""
        if name not in self._streams:
            ports = (valid or name + _VALID, ready or name + _READY, payload or name + _PAYLOAD)
            self._streams[name] = Stream(self, name, *(self.ports[port] for port in ports))
        return self._streams[name]

    async def restart(self) -> None:
        """Reset the unit, with all of its inputs at 0."""
        for port in self.ports.values():
            if port.driven:
                port.set(0)
        await env.reset(self.dut)

    async def pause(self, chance: float) -> None:
        """Wait for cycles, each with the given chance of another one."""
        while self.random.random() < chance:
            await self.edge

    async def cycles(self, count: int) -> None:
        """Wait for a number of cycles."""
        for _ in range(count):
            await self.edge

    async def until(self, port: str) -> None:
        """Wait for the edge at which a port is not 0."""
        await self.edge
        while not self[port].bits():
            await self.edge

    def fork(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Begin something that runs beside its process, until :meth:`run` ends at the latest."""
        task = cocotb.start_soon(work)
        self._forked.append(task)
        return task

    async def run(
        self,
        processes: Sequence[Process],
        background: Sequence[Process] = (),
        *,
        limit: int,
        stop_after: int | None = None,
    ) -> None:
        """Run processes side by side, until all of them have ended.

        All streams that the unit drives are watched meanwhile: valid and payload have to stay
        until they are taken.

        Parameters
        ----------
        processes, background
            What has to end, and what is stopped then.
        limit
            Cycles that the scenario may take.
        stop_after
            Abandon the scenario after as many cycles, for a reset in mid-flight.

        Raises
        ------
        Mismatch
            If it takes longer.
        """
        front = [cocotb.start_soon(process()) for process in processes]
        back = [cocotb.start_soon(process()) for process in (*background, self._watch)]
        for _ in range(min(limit, stop_after or limit)):
            await self.edge
            if all(task.done() for task in front):
                break
        else:
            if stop_after is None:
                waiting = [
                    p.__name__ for p, t in zip(processes, front, strict=True) if not t.done()
                ]
                raise env.Mismatch(
                    f"cycle {env.cycle_of()}: {', '.join(waiting)} of {self.unit} have not ended "
                    f"after {limit} cycles"
                )
        # The others have not all seen this edge yet.
        await Timer(1, "step")
        for task in (*front, *back, *self._forked):
            if not task.done():
                task.cancel()
        self._forked.clear()

    async def interrupt(
        self, processes: Sequence[Process], background: Sequence[Process] = (), *, within: int
    ) -> None:
        """Begin a scenario, and reset the unit in the midst of it, within a number of cycles."""
        moment = self.random.randint(1, within)
        await self.run(processes, background, limit=moment, stop_after=moment)
        env.cover(f"{self.unit}: reset", "under way")
        await self.restart()

    async def _watch(self) -> None:
        """Watch the streams until cancelled."""
        for stream in self._streams.values():
            stream.forget()
        while True:
            await self.edge
            for stream in self._streams.values():
                stream.check()


class Stream:
    """A stream of a unit, to or from it.

    Parameters
    ----------
    bench, name
        The unit, and the stream's name; its first word is that in the coverage points.
    valid, ready, payload
        Its ports.

    Attributes
    ----------
    withdrawn_by
        Port that lets the unit take back what it has offered, if there is one.
    """

    def __init__(
        self, bench: UnitBench, name: str, valid: Port, ready: Port, payload: Port
    ) -> None:
        self.bench, self.name = bench, name
        self.valid, self.ready, self.payload = valid, ready, payload
        self.withdrawn_by: Port | None = None
        self._offered: int | None = None
        self._seen: set[str] = set()

    async def put(self, value: Any, pressure: float = 0.0) -> None:
        """Offer a payload until it is taken, after a random pause.

        Without a payload on offer there is noise on the port.
        """
        source = self.bench.random
        await self.bench.pause(pressure)
        self.payload.set(value)
        self.valid.set(1)
        await self.bench.edge
        while not self.ready.bits():
            await self.bench.edge
        self.valid.set(0)
        if self.payload.handle is not None:
            self.payload.handle.value = source.getrandbits(self.payload.width)

    async def get(self, pressure: float = 0.0) -> Any:
        """Take a payload, after a random pause."""
        await self.bench.pause(pressure)
        self.ready.set(1)
        await self.bench.edge
        while not self.valid.bits():
            await self.bench.edge
        self.ready.set(0)
        return self.payload.get()

    def forget(self) -> None:
        """Nothing is on offer: the unit was reset, or stands between two scenarios."""
        self._offered = None

    def check(self) -> None:
        """Check an edge: what was offered before and not taken must still be on offer."""
        valid, ready = self.valid.bits(), self.ready.bits()
        if valid != ready:
            self._cover("full" if valid else "empty")
        if self.valid.driven:
            return
        if self.withdrawn_by is not None and self.withdrawn_by.bits():
            self._offered = None
        if self._offered is not None:
            name = f"{self.bench.unit}: {self.name}"
            env.expect(f"{name}.valid before the transfer", valid, 1)
            env.expect(f"{name}.payload before the transfer", self.payload.bits(), self._offered)
        self._offered = self.payload.bits() if valid and not ready else None

    def _cover(self, state: str) -> None:
        if state in self._seen:
            return
        self._seen.add(state)
        point, bin = f"{self.bench.unit}: streams", f"{self.name.split()[0]} {state}"
        # Some streams never wait, or never make wait.
        if point in points() and bin in points()[point].bins:
            env.cover(point, bin)
