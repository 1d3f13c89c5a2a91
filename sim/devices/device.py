"""The interface of whatever can run a program."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from lutcore.sw.base.errors import LutcoreError

__all__ = ["Device", "MemoryDevice"]


class Device(ABC):
    """A core with its registers, its interrupt, and memory that it shares with the host.

    Attributes
    ----------
    memory
        Byte addresses that host and core may use.
    has_clock
        Whether the core counts cycles. If not, a program has no budget, the counters cannot be
        read, and a program has ended when the write that starts it returns.
    """

    memory: range
    has_clock: bool = True

    @abstractmethod
    def reset(self) -> None:
        """Bring the core into the state after power-up; the memory keeps its content."""

    @abstractmethod
    def read_memory(self, address: int, size: int) -> bytes:
        """Bytes of memory.

        Raises
        ------
        LutcoreError
            If they are not all within `memory`.
        """

    @abstractmethod
    def write_memory(self, address: int, content: bytes) -> None:
        """Put bytes into memory; raises like `read_memory`."""

    @abstractmethod
    def read_register(self, offset: int) -> int:
        """The 32 bits of a register, by its byte offset.

        Raises
        ------
        LutcoreError
            If the core refuses, does not answer, or has no such register.
        """

    @abstractmethod
    def write_register(self, offset: int, value: int) -> None:
        """Write 32 bits; raises like `read_register`."""

    @abstractmethod
    def wait(self, cycles: int) -> bool:
        """Let the core run until it raises its interrupt.

        Returns
        -------
        bool
            False if it has not within at least so many cycles of the core.
        """

    # What only some devices can tell ---------------------------------------------------------

    @property
    def explanation(self) -> str:
        """The value that stopped the last program, in words; empty if that is not known."""
        return ""

    @property
    def traffic(self) -> tuple[int, int] | None:
        """Bytes read and bytes written over the core's memory bus since the last start.

        Of written ones only those whose strobe was set. None: not counted.
        """
        return None

    def trace(self, cycles: int) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """What the units did in the first so many cycles since the last start.

        For each unit of `COUNTER_UNITS` the cycles at which its state changed, int64, and the
        states (0 idle, 1 busy, 2 waits for input, 3 waits for output), uint8. Empty: not recorded.
        """
        return {}


class MemoryDevice(Device):
    """A device whose memory is an array of this process, at address 0.

    Parameters
    ----------
    content
        uint8, which the core reads and writes.
    """

    def __init__(self, content: np.ndarray) -> None:
        self.content = content
        self.memory = range(len(content))

    def read_memory(self, address: int, size: int) -> bytes:
        return self.content[self._span(address, size)].tobytes()

    def write_memory(self, address: int, content: bytes) -> None:
        self.content[self._span(address, len(content))] = np.frombuffer(content, np.uint8)

    def _span(self, address: int, size: int) -> slice:
        if not 0 <= address <= address + size <= len(self.content):
            raise LutcoreError(
                f"{size} bytes at {address:#x} are not within the device's memory, which has "
                f"{len(self.content)} bytes"
            )
        return slice(address, address + size)
