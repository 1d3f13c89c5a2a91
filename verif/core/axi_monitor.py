"""Watches the core's buses for breaches of the rules of AXI, and measures what they waited for."""

from dataclasses import dataclass, field
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.memory.axi import BOUNDARY, BURST_INCR
from lutcore.verif.kit.env import Mismatch, cover, cycle_of

__all__ = ["AxiMonitor"]

#: Payload of the channels that the core drives: to stay as it is until it is taken.
_DRIVEN = {
    "m_axi_ar": ("addr", "len", "size", "burst", "prot", "cache"),
    "m_axi_aw": ("addr", "len", "size", "burst", "prot", "cache"),
    "m_axi_w": ("data", "strb", "last"),
    "s_axi_b": ("resp",),
    "s_axi_r": ("data", "resp"),
}
#: The channels that the bench drives.
_RECEIVED = ("m_axi_r", "m_axi_b", "s_axi_aw", "s_axi_w", "s_axi_ar")


@dataclass
class _Channel:
    """A channel's handshake, and what was offered and not yet taken."""

    name: str
    valid: Any
    ready: Any
    payload: dict[str, Any] = field(default_factory=dict)
    offered: dict[str, int] | None = None


class AxiMonitor:
    """Checks every cycle; a breach fails the test.

    Valid and payload have to stay until they are taken. Bursts are INCR, of whole beats, aligned,
    and within 4 KiB. A write has as many beats as its address said, WLAST on the last one. No
    address comes when the core is in reset.

    Attributes
    ----------
    outstanding_reads, outstanding_writes
        Bursts whose address was taken and whose last beat or response was not.
    reads, writes
        Beats of data so far.
    last_read
        Address of the last read.
    """

    def __init__(self, dut: Any, config: CoreConfig) -> None:
        self._dut, self._bytes = dut, config.beat_bytes
        self._channels = {
            name: _Channel(
                name,
                getattr(dut, f"{name}valid"),
                getattr(dut, f"{name}ready"),
                {key: getattr(dut, f"{name}{key}") for key in _DRIVEN.get(name, ())},
            )
            for name in (*_DRIVEN, *_RECEIVED)
        }
        self._beats: list[int] = []  # in bursts whose data has not all been matched
        self._lasts: list[int] = []  # WLAST of beats whose address has not come
        self._sent = 0  # beats matched of the first burst
        self.outstanding_reads = self.outstanding_writes = 0
        self.reads = self.writes = self.last_read = 0
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        edge = RisingEdge(self._dut.aclk)
        while True:
            await edge
            if int(self._dut.aresetn.value):
                self._check()
            else:
                self._forget()

    def _forget(self) -> None:
        for channel in self._channels.values():
            channel.offered = None
        self._beats, self._lasts, self._sent = [], [], 0
        self.outstanding_reads = self.outstanding_writes = 0

    def _check(self) -> None:
        taken: dict[str, dict[str, int]] = {}
        for name, channel in self._channels.items():
            valid, ready = self._known(channel.valid), self._known(channel.ready)
            if channel.payload:
                self._check_stable(channel, valid, ready)
            if valid and ready:
                taken[name] = {key: self._known(port) for key, port in channel.payload.items()}
            elif valid:
                cover("back-pressure", name)
            elif ready:
                cover("starvation", name)
        # An address and its data may be taken in the same cycle, or the data before it.
        if "m_axi_ar" in taken:
            self._check_burst("m_axi AR", taken["m_axi_ar"])
            self.outstanding_reads += 1
            self.last_read = taken["m_axi_ar"]["addr"]
        if "m_axi_aw" in taken:
            self._check_burst("m_axi AW", taken["m_axi_aw"])
            self._beats.append(taken["m_axi_aw"]["len"] + 1)
            self.outstanding_writes += 1
        if "m_axi_w" in taken:
            early = not self._beats
            cover("write order", "data before address" if early else "address before data")
            self._lasts.append(taken["m_axi_w"]["last"])
        self._match_data()
        self.reads += "m_axi_r" in taken
        self.writes += "m_axi_w" in taken
        if "m_axi_r" in taken:
            self.outstanding_reads -= int(self._dut.m_axi_rlast.value)
        if "m_axi_b" in taken:
            self.outstanding_writes -= 1

    def _check_stable(self, channel: _Channel, valid: int, ready: int) -> None:
        before, channel.offered = channel.offered, None
        if before is None and not (valid and not ready):
            return
        if not valid:
            self._fail(channel.name, "valid was withdrawn before it was taken")
        now = {key: self._known(port) for key, port in channel.payload.items()}
        for key, value in (before or {}).items():
            if now[key] != value:
                self._fail(
                    channel.name,
                    f"{key} changed from {value:#x} to {now[key]:#x} before it was taken",
                )
        if not ready:
            channel.offered = now

    def _check_burst(self, channel: str, burst: dict[str, int]) -> None:
        size = (burst["len"] + 1) * self._bytes
        address = burst["addr"]
        if burst["burst"] != BURST_INCR or 1 << burst["size"] != self._bytes:
            self._fail(channel, f"burst at {address:#x} is no INCR burst of whole beats")
        if address % self._bytes:
            self._fail(channel, f"burst at {address:#x} is not aligned to its beats")
        if address // BOUNDARY != (address + size - 1) // BOUNDARY:
            self._fail(channel, f"burst of {size} bytes at {address:#x} crosses 4 KiB")
        beats = burst["len"] + 1
        cover("burst", "1" if beats == 1 else "2-15" if beats < 16 else "16 or more")

    def _match_data(self) -> None:
        """Compare WLAST with the length of the burst, when both have come."""
        while self._beats and self._lasts:
            last = self._lasts.pop(0)
            self._sent += 1
            if last != (self._sent == self._beats[0]):
                self._fail("m_axi W", f"last is {last} on beat {self._sent} of {self._beats[0]}")
            if last:
                self._beats.pop(0)
                self._sent = 0

    def _known(self, port: Any) -> int:
        """Value of a port where it must not be unknown."""
        value = port.value
        if not value.is_resolvable:
            self._fail(port._name, f"is {value}")
        return int(value)

    @staticmethod
    def _fail(channel: str, text: str) -> None:
        raise Mismatch(f"cycle {cycle_of()}: {channel}: {text}")
