"""Devices without a clock: the golden model and the instruction-set simulator."""

import dataclasses
from abc import abstractmethod

import numpy as np

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import CSRS, ID_VALUE, Control, Region, Status
from lutcore.hw.contract.isa import Cause
from lutcore.sim.devices.device import MemoryDevice
from lutcore.sim.devices.registers import CoreState
from lutcore.sim.golden import golden
from lutcore.sim.machine.iss import Iss
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.program.program import Program
from lutcore.sw.program.unpack import unpack_activations, unpack_layer

__all__ = ["GoldenDevice", "IssDevice"]

_BY_OFFSET = {csr.offset: csr for csr in CSRS.values()}
_WRITABLE = [csr.name for csr in CSRS.values() if csr.access == "rw"]


class _ModelDevice(MemoryDevice):
    """Registers around a model that runs a whole program at once.

    There are those of identity and control, and the settings of a program; counters are not there.
    """

    has_clock = False

    def __init__(self, config: CoreConfig, memory_bytes: int) -> None:
        super().__init__(np.zeros(memory_bytes, np.uint8))
        self.config = config
        self._explanation = ""
        self.reset()

    @property
    def explanation(self) -> str:
        return self._explanation

    def reset(self) -> None:
        fingerprint = self.config.fingerprint
        self._registers = {
            **dict.fromkeys([*_WRITABLE, "STATUS", "IRQ"], 0),
            "ID": ID_VALUE,
            "FINGERPRINT_LO": fingerprint & 0xFFFF_FFFF,
            "FINGERPRINT_HI": fingerprint >> 32,
        }

    def read_register(self, offset: int) -> int:
        return self._registers[self._name(offset)]

    def write_register(self, offset: int, value: int) -> None:
        name = self._name(offset)
        if CSRS[name].access == "ro":
            raise LutcoreError(f"register {name} is read-only")
        if name == "IRQ":
            self._registers["IRQ"] &= ~value
        elif name != "CONTROL":
            self._registers[name] = value
        else:
            self._registers["CONTROL"] = value & 1 << Control.IRQ_ENABLE
            if value >> Control.RESET & 1:
                self._registers["STATUS"] = 0
            elif value >> Control.START & 1:
                self._start()

    def wait(self, cycles: int) -> bool:
        return bool(self._registers["IRQ"] and self._registers["CONTROL"])

    @abstractmethod
    def _run(self, regions: dict[Region, tuple[int, int]]) -> tuple[Cause, int, str]:
        """Run what is set up: why and at which instruction it stopped, and what is to be said."""

    def _start(self) -> None:
        registers = self._registers
        regions = {}
        for region in Region:
            base, size = self.wide(f"{region.name}_BASE"), registers[f"{region.name}_SIZE"]
            if base + size > len(self.content):
                raise LutcoreError(
                    f"the region of {region.name.lower()}, {size} bytes at {base:#x}, is not "
                    f"within the device's memory, which has {len(self.content)} bytes"
                )
            regions[region] = base, size
        cause, instruction, self._explanation = self._run(regions)
        if cause == Cause.NONE:
            state = CoreState.of([Status.DONE])
        else:
            state = CoreState.of([Status.ERROR], cause, instruction)
        registers["STATUS"], registers["IRQ"] = state.word, 1

    def wide(self, name: str) -> int:
        """A register of 64 bits."""
        return self._registers[f"{name}_LO"] | self._registers[f"{name}_HI"] << 32

    def _name(self, offset: int) -> str:
        csr = _BY_OFFSET.get(offset)
        if csr is None or csr.name not in self._registers:
            known = f"register {offset:#05x}" if csr is None else f"register {csr.name}"
            raise LutcoreError(f"a model without a clock has no {known}")
        return csr.name


class IssDevice(_ModelDevice):
    """The instruction-set simulator.

    Parameters
    ----------
    config
        The core.
    memory_bytes
        Size of its memory.
    """

    def _run(self, regions: dict[Region, tuple[int, int]]) -> tuple[Cause, int, str]:
        core = Iss(self.config, self.content, regions)
        result = core.run(self._registers["PROGRAM_LENGTH"], self.wide("EXPECT"))
        return result.cause, result.instruction, result.message


class GoldenDevice(_ModelDevice):
    """The golden model, for one program: it takes weights and activations out of their images.

    It executes no instructions: those in memory are not read.

    Parameters
    ----------
    program
        Tells the shape of the layer and the layout of its images.
    memory_bytes
        Size of its memory.
    """

    def __init__(self, program: Program, memory_bytes: int) -> None:
        super().__init__(program.config, memory_bytes)
        self.program = program

    def _run(self, regions: dict[Region, tuple[int, int]]) -> tuple[Cause, int, str]:
        program = self.program
        expect = self.wide("EXPECT")
        if expect != self.config.fingerprint:
            return Cause.FINGERPRINT, 0, f"the program is for {expect:#018x}"
        image = self.read_memory(regions[Region.WEIGHTS][0], len(program.image))
        layer = unpack_layer(dataclasses.replace(program, image=image))
        q, scale = unpack_activations(
            program, self.read_memory(regions[Region.ACTIVATIONS][0], program.x_bytes)
        )
        y = np.zeros((program.rows, program.row_stride // 4), "<f4")
        y[:, : program.n] = golden(layer, q, scale)
        self.write_memory(regions[Region.RESULTS][0], y.tobytes())
        return Cause.NONE, 0, ""
