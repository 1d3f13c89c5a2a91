"""The compiled RTL as a device."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import COUNTER_UNITS, CSRS, Control
from lutcore.sim.devices.device import MemoryDevice
from lutcore.sim.rtl.simulator import RtlModel, RtlSim
from lutcore.sim.rtl.verilog import verilog_of

__all__ = ["RtlDevice", "model_of"]


@lru_cache(maxsize=4)
def model_of(config: CoreConfig) -> RtlModel:
    """The compiled RTL of a configuration; built once, then kept on disk."""
    return RtlSim.build(verilog_of(config), bus_width=config.bus_width)


class RtlDevice(MemoryDevice):
    """A compiled core, fresh from its reset.

    Parameters
    ----------
    model
        For example of `model_of`.
    content
        Its memory, uint8.
    simulator
        Further arguments of `RtlSim`: the memory's latency and bandwidth, stalls, faults, a trace.

    Attributes
    ----------
    sim
        The simulation, for benches that look closer.
    """

    def __init__(self, model: RtlModel, content: np.ndarray, **simulator: Any) -> None:
        super().__init__(content)
        self.sim = RtlSim(model, content, **simulator)
        self.reset()

    def reset(self) -> None:
        self.sim.reset()
        self._before, self._started = self.sim.stats, self.sim.cycle

    def read_register(self, offset: int) -> int:
        return self.sim.read_csr(offset)

    def write_register(self, offset: int, value: int) -> None:
        before = self.sim.stats
        self.sim.write_csr(offset, value)
        if offset == CSRS["CONTROL"].offset and value >> Control.START & 1:
            self._before, self._started = before, self.sim.cycle

    def wait(self, cycles: int) -> bool:
        return self.sim.run_until_irq(cycles)

    @property
    def traffic(self) -> tuple[int, int]:
        now, before = self.sim.stats, self._before
        return now.bytes_read - before.bytes_read, now.bytes_written - before.bytes_written

    def trace(self, cycles: int) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        result = {}
        for index, (starts, states) in self.sim.trace().items():
            since = starts - self._started
            first = max(0, int(np.searchsorted(since, 0, side="right")) - 1)
            end = int(np.searchsorted(since, cycles))
            result[COUNTER_UNITS[index]] = np.maximum(since[first:end], 0), states[first:end]
        return result
