"""The instruction-set simulator: what a program does to memory, without cycles.

It knows the program, the memory and the configuration, as the core does: instructions are fetched
from memory, the buffers hold the words that the hardware's hold, and the four units run as
coroutines that meet at token counters. Only the arithmetic is done on whole blocks, in numpy.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import numpy as np

from lutcore.hw.config import CoreConfig, ceil_div
from lutcore.hw.csr import Region
from lutcore.hw.isa import (
    INSTRUCTION_BITS,
    PROGRAM_MAX,
    Axis,
    Cause,
    Opcode,
    Token,
    Unit,
    decode,
)
from lutcore.hw.loops import Body, Loop, walk
from lutcore.sim.iss_math import (
    Sums,
    columns_of_words,
    decode_scales,
    decode_weights,
    multiply,
    words_of_codes,
)
from lutcore.sw.blocks import BlockFormat, x_memory_bytes, x_memory_words, x_slot_words
from lutcore.sw.legal import check
from lutcore.sw.memory import MemoryMap, load, read_y
from lutcore.sw.program import Program

__all__ = ["Iss", "IssCounts", "IssResult", "run_program"]

_SLOTS = 2
#: Blocks of results and their rows start at multiples of this many bytes.
_RESULT_ALIGNMENT = 32
#: A unit's coroutine stops wherever it waits; what it yields means nothing.
_Waiting = Generator[None, None, None]


@dataclass
class IssCounts:
    """What a program moved and computed, as the core's counters count it.

    Attributes
    ----------
    lookups
        Array steps: one plane of one step of one tile.
    read_beats
        Beats read, the program's own included.
    write_beats
        Beats written; each row of a block of results begins a new one.
    """

    lookups: int = 0
    read_beats: int = 0
    write_beats: int = 0


@dataclass(frozen=True)
class IssResult:
    """How a program ended.

    Attributes
    ----------
    cause
        ``Cause.NONE`` if it reached its END.
    instruction
        Number of the instruction that stopped the core; of END otherwise.
    counts
        Counters.
    message
        The value that was refused, in words; empty if none was.
    """

    cause: Cause
    instruction: int
    counts: IssCounts
    message: str = ""


class _Stop(Exception):
    """The core stops."""

    def __init__(self, cause: Cause, instruction: int, message: str) -> None:
        super().__init__(message)
        self.cause, self.instruction = cause, instruction


@dataclass
class _Buffer:
    """A memory of two slots, and how far its loader has come.

    As in hardware, a reader waits for words of the slot that is being written, and takes those of
    the other one as they are.
    """

    words: np.ndarray
    slot: int = 0
    count: int = 0
    generation: list[int] = field(default_factory=lambda: [0] * _SLOTS)

    def begin(self, slot: int) -> None:
        self.slot, self.count = slot, 0

    def write(self, data: np.ndarray) -> None:
        self.words[self.slot, self.count : self.count + len(data)] = data
        self.count += len(data)
        self.generation[self.slot] += 1

    def has(self, slot: int, count: int) -> bool:
        return self.slot != slot or self.count >= count


@dataclass(frozen=True)
class _Layer:
    """The layer registers: set by LAYER, zero before."""

    format: BlockFormat
    bias: bool
    exponent: int
    last_lanes: int
    last_rows: int
    row_stride: int


class _Nest:
    """The bodies of an instruction; the unit says where each one ended."""

    def __init__(self, loops: list[Loop], base: int = 0) -> None:
        self.end = 0
        self._bodies = walk(loops, base, end=lambda _: self.end)

    def __iter__(self) -> Iterator[Body]:
        return self._bodies


class Iss:
    """A core with its memory.

    Parameters
    ----------
    config
        The core.
    memory
        uint8; addresses count from its first byte. Results are written into it.
    regions
        Base address and size of each region, as the host sets them in the registers.
    """

    def __init__(
        self, config: CoreConfig, memory: np.ndarray, regions: dict[Region, tuple[int, int]]
    ) -> None:
        self.config = config
        self.memory = memory
        self.regions = regions
        cfg = config
        self._weights = self._buffer(cfg.weight_words, (cfg.step, cfg.lanes // 8), np.uint8)
        self._scales = self._buffer(cfg.scale_words, (cfg.scale_lanes,), np.uint16)
        self._bias = self._buffer(cfg.bias_words, (), np.uint32)
        self._x = self._buffer(x_slot_words(cfg), (x_memory_bytes(cfg),), np.uint8)
        self._sums = [Sums(cfg) for _ in range(_SLOTS)]

    @staticmethod
    def _buffer(words: int, shape: tuple[int, ...], dtype: type) -> _Buffer:
        return _Buffer(np.zeros((_SLOTS, words, *shape), dtype))

    def run(self, length: int, expect: int | None = None) -> IssResult:
        """Execute the program in its region.

        Parameters
        ----------
        length
            Instructions in the program.
        expect
            Fingerprint that it was made for; None: this core's.

        Returns
        -------
        IssResult
            Errors of the program are results, not exceptions.
        """
        counts = IssCounts()
        try:
            if expect is not None and expect != self.config.fingerprint:
                raise _Stop(Cause.FINGERPRINT, 0, f"the program is for {expect:#018x}")
            words = self._fetch(length, counts)
            problems = check(words, self.config)
            if problems:
                raise _Stop(problems[0].cause, problems[0].index, problems[0].message)
            _Execution(self, words, counts).run()
        except _Stop as stop:
            return IssResult(stop.cause, stop.instruction, counts, str(stop))
        return IssResult(Cause.NONE, length - 1, counts)

    def _fetch(self, length: int, counts: IssCounts) -> list[int]:
        if not 1 <= length <= PROGRAM_MAX:
            raise _Stop(Cause.LENGTH, 0, f"1 to {PROGRAM_MAX} instructions, not {length}")
        size = INSTRUCTION_BITS // 8
        base, room = self.regions[Region.PROGRAM]
        if length * size > room:
            raise _Stop(Cause.BOUNDS, 0, f"{length} instructions in a region of {room} bytes")
        counts.read_beats += ceil_div(length * size, self.config.beat_bytes)
        code = self.memory[base : base + length * size].tobytes()
        return [int.from_bytes(code[i : i + size], "little") for i in range(0, len(code), size)]


class _Execution:
    """One run of a program: token counters, layer registers, units."""

    def __init__(self, core: Iss, instructions: list[int], counts: IssCounts) -> None:
        self.core = core
        self.config = core.config
        self.instructions = instructions
        self.counts = counts
        self.tokens = dict.fromkeys(Token, 0)
        self.layer: _Layer | None = None
        self.loops: dict[Unit, list[Loop]] = {unit: [] for unit in Unit}
        self.units: dict[Unit, tuple[int, _Waiting]] = {}
        self.next = 0
        self.steps = 0
        # From FINAL to STY: a row tile's results [n, M, N], and whether they free a sum slot.
        self.results: deque[tuple[np.ndarray, bool]] = deque()
        self.free_sums = _SLOTS
        self._weight_cache: tuple[tuple, list[np.ndarray]] | None = None
        self._scale_cache: tuple[tuple, np.ndarray] | None = None

    # Scheduling ------------------------------------------------------------------------------

    def run(self) -> None:
        """Run every unit as far as it goes, in turn, until the program ends or nothing moves."""
        fetch = self._dispatch()
        while True:
            before = self.steps
            if next(fetch, True):
                return
            for unit, (_, body) in list(self.units.items()):
                if next(body, True) is True:
                    del self.units[unit]
                    self.steps += 1
            if self.steps == before:
                unfinished = min([self.next, *(number for number, _ in self.units.values())])
                raise _Stop(Cause.DEADLOCK, unfinished, "every unit waits")

    def _dispatch(self) -> Generator[bool, None, None]:
        starters: dict[Opcode, Callable[[int, dict[str, int], list[Loop]], _Waiting]] = {
            Opcode.LDW: self._ldw,
            Opcode.LDX: self._ldx,
            Opcode.MMA: self._mma,
            Opcode.STY: self._sty,
        }
        for number, word in enumerate(self.instructions):
            self.next = number
            instruction, fields = decode(word)
            opcode = instruction.opcode
            if opcode in (Opcode.END, Opcode.LAYER, Opcode.TOKEN):
                while self.units:
                    yield False
                if opcode == Opcode.LAYER:
                    self.layer = self._layer(fields)
                elif opcode == Opcode.TOKEN:
                    self._give(Token(fields["counter"]), number, fields["count"])
            else:
                unit = Unit(fields["unit"]) if opcode == Opcode.LOOP else Unit[opcode.name]
                while unit in self.units:
                    yield False
                if opcode == Opcode.LOOP:
                    self.loops[unit].append(_loop(fields))
                else:
                    self.units[unit] = number, starters[opcode](number, fields, self.loops[unit])
                    self.loops[unit] = []
            self.steps += 1

    def _give(self, token: Token, number: int, count: int = 1) -> None:
        self.tokens[token] += count
        self.steps += 1
        if self.tokens[token] > _SLOTS:
            raise _Stop(
                Cause.TOKEN,
                number,
                f"{self.tokens[token]} tokens in {token.name}, {_SLOTS} at most",
            )

    def _take(self, token: Token) -> _Waiting:
        while not self.tokens[token]:
            yield
        self.tokens[token] -= 1
        self.steps += 1

    @staticmethod
    def _filled(buffer: _Buffer, slot: int, count: int) -> _Waiting:
        """Wait for words of a slot; for more than it holds, until nothing moves any more."""
        while count > buffer.words.shape[1] or not buffer.has(slot, count):
            yield

    # Registers and memory --------------------------------------------------------------------

    def _layer(self, fields: dict[str, int]) -> _Layer:
        form = BlockFormat(
            self.config,
            planes=fields["planes"],
            per_plane=bool(fields["per_plane"]),
            ternary=bool(fields["ternary"]),
            offset=bool(fields["offset"]),
            wide=bool(fields["wide"]),
            group_size=fields["group_size"],
        )
        return _Layer(
            form,
            bool(fields["bias"]),
            fields["exponent"],
            fields["last_lanes"],
            fields["last_rows"],
            fields["row_stride"],
        )

    def _needs_layer(self, number: int) -> _Layer:
        if self.layer is None:
            raise _Stop(Cause.OPERAND, number, "no layer before it")
        return self.layer

    @staticmethod
    def _limit(number: int, what: str, value: int, limit: int) -> None:
        if value > limit:
            raise _Stop(Cause.OPERAND, number, f"{what}: {value}, but there is room for {limit}")

    def _window(self, number: int, region: Region, address: int, size: int) -> np.ndarray:
        """Bytes of a region, as a view of memory."""
        base, room = self.core.regions[region]
        if address + size > room:
            raise _Stop(
                Cause.BOUNDS,
                number,
                f"bytes {address} to {address + size} of the {region.name.lower()}, "
                f"whose region has {room}",
            )
        return self.core.memory[base + address : base + address + size]

    def _read(self, number: int, region: Region, address: int, size: int) -> np.ndarray:
        beat = self.config.beat_bytes
        if address % beat:
            raise _Stop(Cause.OPERAND, number, f"address {address} is no multiple of {beat}")
        self.counts.read_beats += ceil_div(size, beat)
        return self._window(number, region, address, size)

    # Units -----------------------------------------------------------------------------------

    def _ldw(self, number: int, fields: dict[str, int], loops: list[Loop]) -> _Waiting:
        layer = self._needs_layer(number)
        form, core = layer.format, self.core
        w_slots, s_slots, b_slots = _slots(), _slots(), _slots()
        nest = _Nest(loops, fields["base"])
        for body in nest:
            n, k = body.n, body.k
            with_scales = body.first[fields["scale_level"]]
            with_bias = layer.bias and body.first[fields["bias_level"]]
            self._limit(number, "tiles", n, self.config.tiles)
            self._limit(number, "weight words", form.weight_words(n, k), self.config.weight_words)
            if with_scales:
                self._limit(number, "scale lines", form.scale_lines(n, k), self.config.scale_words)

            wanted = [
                (Token.W_FREE, Token.W_FULL, core._weights, w_slots, True),
                (Token.S_FREE, Token.S_FULL, core._scales, s_slots, with_scales),
                (Token.B_FREE, Token.B_FULL, core._bias, b_slots, with_bias),
            ]
            used = [entry for entry in wanted if entry[-1]]
            for free, _, _, _, _ in used:
                yield from self._take(free)
            for _, full, buffer, slots, _ in used:
                buffer.begin(next(slots))
                self._give(full, number)

            address = body.address
            for size, write in (
                (form.bias_bytes(n) if with_bias else 0, self._write_bias),
                (form.scale_bytes(n, k) if with_scales else 0, self._write_scales),
                (form.code_bytes(n, k), lambda data, n=n, k=k: self._write_codes(data, form, n, k)),
            ):
                if size:
                    section = self._read(number, Region.WEIGHTS, address, form.padded(size))
                    write(section[:size])
                    address += form.padded(size)
            nest.end = address

    def _write_bias(self, data: np.ndarray) -> None:
        self.core._bias.write(data.view("<u4"))

    def _write_scales(self, data: np.ndarray) -> None:
        lines = data.view("<u2").reshape(-1, self.config.scale_lanes)
        self.core._scales.write(lines)

    def _write_codes(self, data: np.ndarray, form: BlockFormat, n: int, k: int) -> None:
        self.core._weights.write(words_of_codes(data, form, n, k))

    def _ldx(self, number: int, fields: dict[str, int], loops: list[Loop]) -> _Waiting:
        buffer, slots = self.core._x, _slots()
        memory_bytes = x_memory_bytes(self.config)
        nest = _Nest(loops, fields["base"])
        for body in nest:
            words = x_memory_words(self.config, body.k)
            if body.first[fields["level"]]:
                yield from self._take(Token.X_FREE)
                buffer.begin(next(slots))
                self._give(Token.X_FULL, number)
            self._limit(number, "activation words", buffer.count + words, x_slot_words(self.config))
            data = self._read(number, Region.ACTIVATIONS, body.address, words * memory_bytes)
            buffer.write(data.reshape(words, memory_bytes))
            nest.end = body.address + words * memory_bytes
            self.steps += 1

    def _mma(self, number: int, fields: dict[str, int], loops: list[Loop]) -> _Waiting:
        layer = self._needs_layer(number)
        form, core, cfg = layer.format, self.core, self.config
        # With bias: taken and given back with whichever of weights and sums lasts longer.
        levels = [
            (Token.X_FULL, Token.X_FREE, fields["x_level"]),
            (Token.W_FULL, Token.W_FREE, fields["w_level"]),
            (Token.S_FULL, Token.S_FREE, fields["s_level"]),
        ]
        if layer.bias:
            b_level = min(fields["w_level"], fields["t_level"])
            levels.append((Token.B_FULL, Token.B_FREE, b_level))
        t_level = fields["t_level"]
        # The first take turns each of these to slot 0.
        slots: dict[Token, int] = dict.fromkeys(Token, 1)
        t_slot = 1
        nest = _Nest(loops)
        for body in nest:
            n, k = body.n, body.k
            row_tile = body.index if body.inner_r and body.inner > t_level else 0
            sums = n * cfg.chunks * cfg.rows
            self._limit(number, "accumulators", n * form.entries, cfg.tiles)
            self._limit(number, "places of a run", min(form.group_size, k), cfg.run)
            self._limit(number, "sums", (row_tile + 1) * sums, cfg.sum_words)

            for full, _, level in levels:
                if body.first[level]:
                    yield from self._take(full)
                    slots[full] ^= 1
            if body.first[t_level]:
                while not self.free_sums:
                    yield
                self.free_sums -= 1
                t_slot ^= 1

            nest.end = body.address + x_memory_words(cfg, form.x_words(k))
            x_slot, w_slot = slots[Token.X_FULL], slots[Token.W_FULL]
            s_slot, b_slot = slots[Token.S_FULL], slots[Token.B_FULL]
            yield from self._filled(core._x, x_slot, nest.end)
            yield from self._filled(core._weights, w_slot, form.weight_words(n, k))
            yield from self._filled(core._scales, s_slot, form.scale_lines(n, k))
            rows, columns = columns_of_words(
                core._x.words[x_slot, body.address : nest.end], form, k
            )
            products = multiply(self._decoded_weights(form, w_slot, n, k), columns, form, n)
            scales = self._decoded_scales(form, s_slot, n, k)
            total = core._sums[t_slot]
            total.add(row_tile * sums, products, scales, fresh=body.k_first)
            self.counts.lookups += form.weight_words(n, k)

            if body.k_last:
                bias = None
                if layer.bias:
                    count = n * cfg.lanes
                    yield from self._filled(core._bias, b_slot, count)
                    bias = core._bias.words[b_slot, :count].reshape(n, 1, cfg.lanes)
                y = total.finalise(row_tile * sums, n, layer.exponent, rows, bias)
                self.results.append((y, body.last[t_level]))
            elif body.last[t_level]:
                self.free_sums += 1
            for _, free, level in levels:
                if body.last[level]:
                    self._give(free, number)
            self.steps += 1
        while self.results:
            yield

    def _decoded_weights(self, form: BlockFormat, slot: int, n: int, k: int) -> list[np.ndarray]:
        """The factors of a weight block; kept for the row tiles that come to the same block."""
        buffer = self.core._weights
        key = (form, slot, buffer.generation[slot], n, k)
        if self._weight_cache is None or self._weight_cache[0] != key:
            words = buffer.words[slot, : form.weight_words(n, k)]
            self._weight_cache = key, decode_weights(words, form, n, k)
        return self._weight_cache[1]

    def _decoded_scales(self, form: BlockFormat, slot: int, n: int, k: int) -> np.ndarray:
        """The scales of a block, kept likewise."""
        buffer = self.core._scales
        key = (form, slot, buffer.generation[slot], n, k)
        if self._scale_cache is None or self._scale_cache[0] != key:
            lines = buffer.words[slot, : form.scale_lines(n, k)]
            self._scale_cache = key, decode_scales(lines, form, n, k)
        return self._scale_cache[1]

    def _sty(self, number: int, fields: dict[str, int], loops: list[Loop]) -> _Waiting:
        layer = self._needs_layer(number)
        cfg = self.config
        nest = _Nest(loops, fields["base"])
        for body in nest:
            while not self.results:
                yield
            y, frees = self.results.popleft()
            self.free_sums += frees
            if len(y) != body.n:
                message = f"{body.n} tiles to store, but {len(y)} were computed"
                raise _Stop(Cause.OPERAND, number, message)
            unaligned = [v for v in (body.address, layer.row_stride) if v % _RESULT_ALIGNMENT]
            if unaligned:
                message = f"{unaligned[0]} is no multiple of {_RESULT_ALIGNMENT} bytes"
                raise _Stop(Cause.OPERAND, number, message)
            channels = body.n * cfg.lanes
            if body.n_last:
                channels += layer.last_lanes - cfg.lanes
            rows = layer.last_rows if body.r_last else cfg.rows
            table = y.transpose(1, 0, 2).reshape(cfg.rows, -1)[:rows, :channels]
            for row in range(rows):
                address = body.address + row * layer.row_stride
                window = self._window(number, Region.RESULTS, address, 4 * channels)
                window[:] = np.ascontiguousarray(table[row], "<u4").view(np.uint8)
                beat = cfg.beat_bytes
                first, last = address // beat, (address + 4 * channels - 1) // beat
                self.counts.write_beats += last - first + 1
            nest.end = body.address + rows * layer.row_stride
            self.steps += 1


def _loop(fields: dict[str, int]) -> Loop:
    return Loop(
        axis=Axis(fields["axis"]),
        total=fields["total"],
        step=fields["step"],
        stride=fields["stride"],
        auto=bool(fields["auto"]),
    )


def _slots() -> Iterator[int]:
    while True:
        yield from range(_SLOTS)


def run_program(program: Program, q: np.ndarray, row_scale: np.ndarray) -> np.ndarray:
    """Run a program on activations.

    Parameters
    ----------
    program
        From the compiler or a file.
    q
        int8 or int16 [rows, K].
    row_scale
        float32 [rows].

    Returns
    -------
    ndarray
        float32 [rows, N].

    Raises
    ------
    RuntimeError
        If the core stops with an error, which no compiled program makes it do.
    """
    layout = MemoryMap.for_program(program)
    memory = layout.allocate()
    load(memory, layout, program, program.pack_x(q, row_scale))
    core = Iss(program.config, memory, layout.regions)
    result = core.run(len(program.instructions), program.fingerprint)
    if result.cause != Cause.NONE:
        raise RuntimeError(
            f"Program {program.name!r} stopped with {result.cause.name} at instruction "
            f"{result.instruction}: {result.message}"
        )
    return read_y(memory, layout, program)
