"""The generated RTL as a Python object: compiled Verilog between a memory and a host.

The clock loop, the memory on the AXI4 master and the host on the AXI4-Lite slave run in C++
(``harness.cpp``); Python calls them in batches of cycles.
"""

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np

from lutcore.sim.rtl.build import Optimise, RtlModel, build_model
from lutcore.sw.base.errors import LutcoreError

__all__ = [
    "CsrError",
    "Fault",
    "FaultKind",
    "Optimise",
    "RtlModel",
    "RtlProtocolError",
    "RtlSim",
    "RtlStats",
]

FaultKind = Literal[
    "read_slverr",
    "read_decerr",
    "read_hang",
    "write_slverr",
    "write_decerr",
    "write_hang",
    "read_address_hang",
    "write_address_hang",
    "write_data_hang",
]
#: What goes wrong, and in which burst of its direction, counted from 0 since the construction.
Fault = tuple[FaultKind, int]

# In the order of `Fault` in harness.cpp, which starts with "none".
_FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)
_VIOLATION, _TIMEOUT, _IRQ = 2, 3, 1
#: Cycles per call into C++: Python sees a keyboard interrupt only in between.
_BATCH = 1 << 15
#: Cycles after which a register access has failed.
_CSR_CYCLES = 10_000


class RtlProtocolError(LutcoreError, RuntimeError):
    """The core broke a rule of its bus. The simulation cannot go on.

    Attributes
    ----------
    channel
        For example ``"m_axi AW"``.
    cycle
        Cycle of the violation.
    """

    def __init__(self, channel: str, cycle: int, text: str) -> None:
        super().__init__(f"{channel}, cycle {cycle}: {text}")
        self.channel, self.cycle = channel, cycle


class CsrError(LutcoreError, RuntimeError):
    """A register access was answered with an error, or not at all.

    Attributes
    ----------
    response
        The AXI response (2 SLVERR, 3 DECERR), or None if there was none.
    """

    def __init__(self, message: str, response: int | None) -> None:
        super().__init__(message)
        self.response = response


@dataclass(frozen=True)
class RtlStats:
    """What passed over the AXI4 master since the construction.

    Attributes
    ----------
    cycles
        Clock cycles, those in reset included.
    read_bursts, write_bursts
        Accepted addresses.
    read_beats, write_beats
        Transferred beats.
    bytes_read
        Bytes of all read beats.
    bytes_written
        Bytes whose strobe was set.
    """

    cycles: int
    read_bursts: int
    write_bursts: int
    read_beats: int
    write_beats: int
    bytes_read: int
    bytes_written: int


# These mirror the structures of harness.cpp.
class _Options(ctypes.Structure):
    _fields_ = (
        ("memory_bytes", ctypes.c_uint64),
        ("latency", ctypes.c_uint64),
        ("bandwidth", ctypes.c_double),
        ("stall_probability", ctypes.c_double),
        ("stall_seed", ctypes.c_uint64),
        ("fault_burst", ctypes.c_uint64),
        ("fault_kind", ctypes.c_uint32),
        ("trace", ctypes.c_uint32),
    )


class _Stats(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in RtlStats.__dataclass_fields__)


class _Access(ctypes.Structure):
    _fields_ = tuple((n, ctypes.c_uint32) for n in ("offset", "value", "strobe", "response"))


class _Violation(ctypes.Structure):
    _fields_ = (
        ("cycle", ctypes.c_uint64),
        ("channel", ctypes.c_char * 16),
        ("text", ctypes.c_char * 232),
    )


class RtlSim:
    """One core, its memory and its host.

    The simulation starts with the core in reset: call `reset` first. The core never sees a bus
    that stalls for no stated reason, and no call can hang: each is bounded in cycles.

    Parameters
    ----------
    model
        From `build`.
    memory
        uint8 [bytes], contiguous and writable: the memory at address 0. The core reads and writes
        this very array. Addresses beyond it are answered with DECERR.
    latency
        Cycles from a read's address to its first beat, and from the last beat of a write to its
        response, at least 1. Up to 32 bursts may be outstanding per direction; they are served in
        order.
    bandwidth
        Beats per cycle that the memory moves, reads and writes together, above 0 and at most 2. At
        1.0 the memory keeps one direction of the bus busy, at 2.0 both.
    stall_seed
        Seed of the random stalls. None is 0.
    stall_probability
        Chance, in every cycle, that the memory or the host holds back what it could offer or accept
        on a channel; drawn independently for the channels. At least 0 and less than 1.
    fault
        A fault to inject. An error response of a read comes with all beats of the burst, and a
        write with an error response leaves the memory as it was. After a hang that direction gives
        no data or responses again until `reset`. The hangs of a channel (addresses, written data)
        last: from that burst on it takes nothing.
    trace
        Record the state of every unit; see `trace`. Costs 8 bytes per change.

    Raises
    ------
    LutcoreError
        If an argument is out of range, the model cannot be loaded, or it has no such input.
    """

    def __init__(
        self,
        model: RtlModel,
        memory: np.ndarray,
        *,
        latency: int = 40,
        bandwidth: float = 1.0,
        stall_seed: int | None = None,
        stall_probability: float = 0.0,
        fault: Fault | None = None,
        trace: bool = False,
    ) -> None:
        if memory.dtype != np.uint8 or memory.ndim != 1:
            raise LutcoreError(
                f"the memory must be a uint8 array of one dimension, not {memory.dtype} of "
                f"{memory.ndim}"
            )
        if not (memory.flags.c_contiguous and memory.flags.writeable):
            raise LutcoreError("the memory must be contiguous and writable: pass a copy")
        if not 1 <= latency < 1 << 32:
            raise LutcoreError(f"latency must be 1 cycle or more, not {latency}")
        if not 0 < bandwidth <= 2:
            raise LutcoreError(
                f"bandwidth must be above 0 and at most 2 beats per cycle, not {bandwidth}"
            )
        if not 0 <= stall_probability < 1:
            raise LutcoreError(
                f"stall_probability must be at least 0 and less than 1, not {stall_probability}"
            )
        kind, burst = fault or (None, 0)
        if kind is not None and kind not in _FAULTS:
            raise LutcoreError(f"fault must be one of {', '.join(_FAULTS)}, not {kind!r}")
        if burst < 0:
            raise LutcoreError(f"the fault's burst must be 0 or more, not {burst}")
        # The C++ side holds a bare pointer: the array has to live as long as this object.
        self._memory = memory
        self._library = _load(model.path)
        options = _Options(
            memory_bytes=memory.size,
            latency=latency,
            bandwidth=bandwidth,
            stall_probability=stall_probability,
            stall_seed=(stall_seed or 0) & 0xFFFF_FFFF_FFFF_FFFF,
            fault_burst=burst,
            fault_kind=0 if kind is None else 1 + _FAULTS.index(kind),
            trace=trace,
        )
        self._handle = self._library.lutcore_new(memory.ctypes.data, ctypes.byref(options))
        weakref.finalize(self, self._library.lutcore_delete, self._handle)
        for name, value in model.inputs:
            mangled = name.replace("_", "__").encode()
            if not self._library.lutcore_set_input(self._handle, mangled, value):
                raise LutcoreError(f"the design has no input {name!r} besides the ports of a core")

    @classmethod
    def build(
        cls,
        verilog: str,
        *,
        bus_width: int,
        optimise: Optimise = "run",
        progress: bool = True,
    ) -> RtlModel:
        """Compile a core, or take it from the cache; see `build_model`."""
        return build_model(verilog, bus_width=bus_width, optimise=optimise, progress=progress)

    def reset(self, cycles: int = 4) -> Self:
        """Hold ``aresetn`` low for some cycles, at least 2; the memory forgets what was under way.

        Returns
        -------
        RtlSim
            This object.
        """
        if cycles < 2:
            raise LutcoreError(f"a reset lasts 2 cycles or more, not {cycles}")
        self._check(self._library.lutcore_reset(self._handle, cycles))
        return self

    def step(self, cycles: int = 1) -> None:
        """Run for a number of cycles."""
        self._run(cycles, until_irq=False)

    def run_until_irq(self, max_cycles: int) -> bool:
        """Run for at least one cycle, until ``irq`` is high.

        Returns
        -------
        bool
            False if it was not high within `max_cycles`.
        """
        return self._run(max_cycles, until_irq=True)

    def write_csr(self, offset: int, value: int, strobe: int = 0xF) -> None:
        """Write a 32-bit register over AXI4-Lite, and wait for the response.

        Only those bytes are written whose bit of `strobe` is set.

        Raises
        ------
        CsrError
            If the core answers with an error, or not within 10,000 cycles; after the latter only
            `reset` helps.
        """
        self.access_csrs([(offset, value, strobe)])

    def read_csr(self, offset: int) -> int:
        """Read a 32-bit register over AXI4-Lite; raises `CsrError` like `write_csr`."""
        return self.access_csrs(reads=[offset])[0]

    def access_csrs(
        self, writes: Sequence[tuple[int, int, int]] = (), reads: Sequence[int] = ()
    ) -> list[int]:
        """Write registers and read others at the same time, each channel as far ahead as it gets.

        Parameters
        ----------
        writes
            Offset, value, and strobes of its bytes.
        reads
            Offsets.

        Returns
        -------
        list of int
            The registers that were read.

        Raises
        ------
        CsrError
            As `write_csr`, of the first access that fails.
        """
        for offset, value, strobe in writes:
            _check_offset(offset)
            if not 0 <= value < 1 << 32:
                raise LutcoreError(f"a register holds 32 bits: {value:#x} does not fit")
            if not 0 <= strobe < 1 << 4:
                raise LutcoreError(f"a register has 4 bytes: {strobe:#x} are not their strobes")
        for offset in reads:
            _check_offset(offset)
        written = (_Access * len(writes))(*(_Access(*write) for write in writes))
        read = (_Access * len(reads))(*(_Access(offset) for offset in reads))
        code = self._library.lutcore_access_csrs(
            self._handle, written, len(written), read, len(read), _CSR_CYCLES
        )
        accesses = [(f"write of {a.value:#x} to register {a.offset:#05x}", a) for a in written]
        accesses += [(f"read of register {a.offset:#05x}", a) for a in read]
        more = f" and {len(accesses) - 1} more" if len(accesses) > 1 else ""
        self._check(code, accesses[0][0] + more if accesses else "")
        for text, access in accesses:
            if access.response != 0:
                raise CsrError(
                    f"{text}: the core answered {_RESPONSES[access.response]}", access.response
                )
        return [access.value for access in read]

    @property
    def cycle(self) -> int:
        """Number of cycles so far, those in reset included."""
        return self.stats.cycles

    @property
    def stats(self) -> RtlStats:
        """Counts of the bus so far."""
        counted = self._library.lutcore_get_stats(self._handle).contents
        return RtlStats(**{name: getattr(counted, name) for name in RtlStats.__dataclass_fields__})

    def trace(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """States of the units over time.

        Returns
        -------
        dict
            For every unit, by its place in ``trace_state``: the cycles at which a state began,
            int64 ascending, and the states, uint8. The first entry is the state in cycle 0. Empty
            without ``trace=True``, and for a core that has no ``trace_state``.
        """
        count = ctypes.c_uint64()
        pointer = self._library.lutcore_get_events(self._handle, ctypes.byref(count))
        if count.value == 0:
            return {}
        events = np.ctypeslib.as_array(pointer, (count.value,)).copy()
        cycles, units = (events >> 8).astype(np.int64), events >> 2 & 0x3F
        states = (events & 3).astype(np.uint8)
        return {
            int(unit): (cycles[units == unit], states[units == unit]) for unit in np.unique(units)
        }

    def _run(self, cycles: int, until_irq: bool) -> bool:
        while cycles > 0:
            batch = min(cycles, _BATCH)
            code = self._library.lutcore_run(self._handle, batch, until_irq)
            self._check(code)
            if code == _IRQ:
                return True
            cycles -= batch
        return False

    def _check(self, code: int, access: str = "") -> None:
        if code == _VIOLATION:
            found = self._library.lutcore_get_violation(self._handle).contents
            raise RtlProtocolError(found.channel.decode(), found.cycle, found.text.decode())
        if code == _TIMEOUT:
            raise CsrError(f"{access}: no answer within {_CSR_CYCLES} cycles", None)


_RESPONSES = ("OKAY", "EXOKAY", "SLVERR", "DECERR")


def _check_offset(offset: int) -> None:
    if offset % 4 or not 0 <= offset < 4096:
        raise LutcoreError(
            f"a register's offset is a multiple of 4 from 0 to 0xffc, not {offset:#x}"
        )


@cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise LutcoreError(f"{error}: delete {path} to have it built again") from error
    u64, i32, pointer = ctypes.c_uint64, ctypes.c_int32, ctypes.c_void_p
    accesses = ctypes.POINTER(_Access)
    for name, result, arguments in (
        ("new", pointer, (pointer, ctypes.POINTER(_Options))),
        ("delete", None, (pointer,)),
        ("set_input", i32, (pointer, ctypes.c_char_p, ctypes.c_uint32)),
        ("reset", i32, (pointer, u64)),
        ("run", i32, (pointer, u64, i32)),
        ("access_csrs", i32, (pointer, accesses, u64, accesses, u64, u64)),
        ("get_stats", ctypes.POINTER(_Stats), (pointer,)),
        ("get_violation", ctypes.POINTER(_Violation), (pointer,)),
        ("get_events", ctypes.POINTER(u64), (pointer, ctypes.POINTER(u64))),
    ):
        function = getattr(library, f"lutcore_{name}")
        function.restype, function.argtypes = result, arguments
    return library
