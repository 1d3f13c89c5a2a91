"""The pieces of work of a sweep: each runs anywhere, and its result is kept."""

import json
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from amaranth.hdl import UnusedElaboratable

from lutcore.fpga.area import estimate as area
from lutcore.fpga.area.estimate import Area, Design
from lutcore.fpga.explore.workload import WorkItem
from lutcore.fpga.synth.yosys import yosys_version
from lutcore.hw.contract.config import CoreConfig
from lutcore.sim.cycles.model import estimate_cycles
from lutcore.sw.base.cache import Kept, source_digest
from lutcore.sw.base.executor import Task

__all__ = ["AreaTask", "CyclesTask", "source_version"]


@dataclass(frozen=True)
class AreaTask(Task):
    """Synthesise a design.

    Attributes
    ----------
    design
        What.
    liberty
        cells: the library; None: the default one.
    """

    design: Design
    liberty: Path | None = None

    def run(self) -> dict[str, Any]:
        # Units are also made to ask them for their sizes.
        warnings.simplefilter("ignore", UnusedElaboratable)
        return area.measure(self.design, liberty=self.liberty).as_dict()

    def kept(self) -> Kept:
        library = self.liberty.read_bytes() if self.liberty else b""
        what = [self.design.unit, self.design.target, self.design.config.as_dict()]
        text = json.dumps(what, sort_keys=True)
        return Kept("explore", "area", text, library, yosys_version(), source_version("area"))

    @staticmethod
    def area(result: dict[str, Any]) -> Area:
        """The figures in a result."""
        return Area(**result)


@dataclass(frozen=True)
class CyclesTask(Task):
    """Count the cycles of a workload's items on a core.

    Attributes
    ----------
    config
        The core.
    items
        The workload's.
    latency
        Of the memory, in cycles.
    """

    config: CoreConfig
    items: tuple[WorkItem, ...]
    latency: int

    def run(self) -> dict[str, Any]:
        found = [
            estimate_cycles(self.config, item.shape, item.rows, latency=self.latency)
            for item in self.items
        ]
        return {"cycles": [one.cycles for one in found], "bound": [one.bound for one in found]}

    def kept(self) -> Kept:
        # No figure depends on the name of an item.
        items = [{**vars(item), "name": ""} for item in self.items]
        text = json.dumps([self.config.as_dict(), items, self.latency], sort_keys=True)
        return Kept("explore", "cycles", text, source_version("cycles"))


#: Modules and packages that decide the results of each kind of task.
_SOURCES = {
    "area": (
        "lutcore.hw",
        "lutcore.fpga.area.estimate",
        "lutcore.fpga.area.parts",
        "lutcore.fpga.synth.flow",
        "lutcore.fpga.synth.resources",
        "lutcore.fpga.synth.sites",
        "lutcore.fpga.synth.yosys",
        "lutcore.fpga.synth.cells",
        "lutcore.fpga.synth.liberty",
        "lutcore.fpga.synth.timing",
    ),
    "cycles": (
        "lutcore.hw",
        "lutcore.sim.cycles.model",
        "lutcore.sim.cycles.bus",
        "lutcore.sim.cycles.chain",
        "lutcore.sim.cycles.latencies",
        "lutcore.sim.cycles.loads",
        "lutcore.sim.cycles.memory",
        "lutcore.sim.cycles.plan",
        "lutcore.sim.cycles.results",
        "lutcore.sim.cycles.steady",
        "lutcore.sw.program.blocks",
        "lutcore.sw.program.compile",
        "lutcore.sw.program.memory",
        "lutcore.sw.program.pack",
        "lutcore.sw.program.program",
        "lutcore.sw.program.tiling",
    ),
}


@cache
def source_version(kind: str) -> str:
    """Digest of the sources behind the results of ``"area"`` or ``"cycles"``."""
    return source_digest(*_SOURCES[kind])
