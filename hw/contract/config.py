"""The configuration of a core: what the user chooses, and everything that follows from it.

Every width, depth and rate in the generated hardware, in the compiler and in the simulators is
derived here and nowhere else.
"""

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lutcore.hw.contract.ternary import INDEX_BITS

__all__ = [
    "DERIVED",
    "PRESETS",
    "ConfigError",
    "CoreConfig",
    "ceil_div",
    "ceil_pow2",
    "load_config",
]

#: The longest K and N that a layer may have; the exact sums are wide enough for it.
COLUMNS_MAX = 65_536
#: Scales are integers of fewer bits than this, times one power of two per layer.
SCALE_BITS = 40
#: Slots of every double-buffered memory (and so the largest value of a token counter).
SLOTS = 2
#: The sizes whose value 0 means "derive it", each derived from those before it and the machine.
DERIVED = (
    "tiles",
    "run",
    "scale_lanes",
    "final_lanes",
    "weight_words",
    "scale_words",
    "x_words",
    "sum_words",
)


class ConfigError(ValueError):
    """A configuration that cannot be built; the message names the value and the remedy."""


def ceil_div(a: int, b: int) -> int:
    """``a / b`` rounded up."""
    return -(-a // b)


def ceil_pow2(n: int) -> int:
    """The smallest power of two that is not below ``n`` (at least 1)."""
    return 1 << max(0, n - 1).bit_length()


def _largest_pow2_divisor(n: int) -> int:
    return n & -n


def _check(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ConfigError(f"{name} must be in {low}..{high}, not {value}")


@dataclass(frozen=True)
class CoreConfig:
    """Parameters of one core.

    The keys up to ``bus_width`` describe the machine; the others, `DERIVED`, are sizes whose value
    0 means "derive it", and which read as the derived number afterwards.

    Attributes
    ----------
    rows
        M, rows of activations (output rows) computed side by side, 1..16.
    lanes
        N, output channels computed side by side, a multiple of 8 in 8..128.
    group
        k, activations per lookup table, 2..6.
    depth
        G, tables summed per lane and step, 1..32.
    activation
        ``"int8"`` or ``"int16"``.
    planes
        P, the largest number of bit-planes (weight bits), 1..8.
    table_store
        ``"distributed"``: tables in LUT RAM, one copy per lane; ``"register"``: flip-flops and a
        multiplexer per lane, as in the paper.
    table_form
        ``"symmetric"``: 2^(k-1) entries of ±1-coded sums, the sign of the lookup applied in the
        adder tree; ``"full"``: 2^k entries of {0,1}-coded sums.
    ternary
        Whether the tables also serve ternary weights, three to an index of five bits: for
        symmetric tables of ``group`` 5, whose lanes it leaves as they are.
    bus_width
        Bits of the AXI4 data bus, a power of two in 32..512.
    tiles
        Accumulators per lane and row: output tiles (of ``lanes`` channels) in one block.
    run
        The longest run of columns between two drains of the accumulators.
    weight_words, scale_words, x_words, sum_words
        Words per slot of the weight, scale, activation and sum buffers (two slots each).
    scale_lanes
        S, multiply-accumulate terms of the scale unit per cycle.
    final_lanes
        F, float32 results per cycle.
    """

    rows: int = 2
    lanes: int = 64
    group: int = 4
    depth: int = 4
    activation: str = "int8"
    planes: int = 8
    table_store: str = "distributed"
    table_form: str = "symmetric"
    ternary: bool = False
    bus_width: int = 128
    tiles: int = 0
    run: int = 0
    weight_words: int = 0
    scale_words: int = 0
    x_words: int = 0
    sum_words: int = 0
    scale_lanes: int = 0
    final_lanes: int = 0

    def __post_init__(self) -> None:
        _check("rows", self.rows, 1, 16)
        _check("lanes", self.lanes, 8, 128)
        _check("group", self.group, 2, 6)
        _check("depth", self.depth, 1, 32)
        _check("planes", self.planes, 1, 8)
        _check("bus_width", self.bus_width, 32, 512)
        if self.lanes % 8:
            raise ConfigError(
                f"lanes must be a multiple of 8, not {self.lanes}: weights are fetched in whole "
                f"bytes per column; take {self.lanes // 8 * 8} or {ceil_div(self.lanes, 8) * 8}"
            )
        if self.bus_width & (self.bus_width - 1):
            raise ConfigError(
                f"bus_width must be a power of two (AXI4 has no other), not {self.bus_width}; "
                f"take {ceil_pow2(self.bus_width)}"
            )
        for name, choices in (
            ("activation", ("int8", "int16")),
            ("table_store", ("register", "distributed")),
            ("table_form", ("symmetric", "full")),
        ):
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}"
                )
        if not isinstance(self.ternary, bool):
            raise ConfigError(f"ternary must be true or false, not {self.ternary!r}")
        if self.ternary and (self.group != INDEX_BITS or not self.symmetric):
            raise ConfigError(
                f"ternary needs indices of {INDEX_BITS} bits with a sign: take group = "
                f'{INDEX_BITS} and table_form = "symmetric", not group = {self.group} and '
                f'"{self.table_form}"'
            )
        # Sizes left at 0 are replaced once, so that equal machines have equal configurations.
        for name in DERIVED:
            if getattr(self, name) == 0:
                object.__setattr__(self, name, getattr(self, f"_derive_{name}")())
        _check("tiles", self.tiles, 1, 64)
        _check("run", self.run, 8, COLUMNS_MAX)
        _check("scale_lanes", self.scale_lanes, 1, 128)
        _check("final_lanes", self.final_lanes, 1, 8)
        if self.tiles < self.planes:
            raise ConfigError(
                f"tiles must be at least planes ({self.planes}), not {self.tiles}: a layer with a "
                f"scale per plane keeps one accumulator for each"
            )
        if self.run < self.step:
            raise ConfigError(
                f"run must be at least depth*group = {self.step} columns, not {self.run}"
            )
        if self.scale_lanes & (self.scale_lanes - 1) or self.lanes % self.scale_lanes:
            raise ConfigError(
                f"scale_lanes must be a power of two that divides lanes={self.lanes}, "
                f"not {self.scale_lanes}"
            )
        if self.scale_lanes % self.final_lanes or self.final_lanes * 32 > self.bus_width:
            raise ConfigError(
                f"final_lanes must divide scale_lanes={self.scale_lanes} and fit the bus "
                f"({self.bus_width // 32} results per beat), not {self.final_lanes}"
            )
        contents = {
            "weight_words": "one step of all planes",
            "scale_words": "the scales of one tile",
            "x_words": "one step and its header",
            "sum_words": "one tile of sums",
        }
        for name, least in self.least_words.items():
            if isinstance(getattr(self, name), int) and getattr(self, name) < least:
                raise ConfigError(
                    f"{name} must be at least {least}, to hold {contents[name]}, not "
                    f"{getattr(self, name)}"
                )
            _check(name, getattr(self, name), least, 65_536)
            if getattr(self, name) & (getattr(self, name) - 1):
                raise ConfigError(
                    f"{name} must be a power of two, not {getattr(self, name)}; "
                    f"take {ceil_pow2(getattr(self, name))}"
                )

    # Sizes -----------------------------------------------------------------------------------

    def _derive_tiles(self) -> int:
        return 16

    def _derive_run(self) -> int:
        return max(512, ceil_pow2(self.step))

    def _derive_scale_lanes(self) -> int:
        # Two demands: 4-bit weights in groups of 32 with scale and offset (20 bytes) as fast as
        # the bus brings them, and groups of 128 at the array's peak; two terms for each sum.
        decode = 2 * self.rows * self.bus_width / 160
        prefill = 2 * self.peak / (4 * 128)
        wanted = ceil_pow2(max(1, int(max(decode, prefill) + 0.999)))
        return min(wanted, _largest_pow2_divisor(self.lanes), 64)

    def _derive_final_lanes(self) -> int:
        # A quarter more than what K = 512 at 4 bits and full use asks for.
        wanted = ceil_pow2(max(1, int(1.25 * self.peak / (4 * 512) + 0.999)))
        return min(wanted, self.scale_lanes, self.bus_width // 32, 8)

    def _derive_weight_words(self) -> int:
        return max(64, min(1024, ceil_pow2(2**19 // self.weight_bits)))

    def _derive_scale_words(self) -> int:
        # Groups of 32 with scale and offset have a quarter as many bits as their 4-bit codes.
        bits = self.weight_words * self.weight_bits // 4
        return ceil_pow2(max(128, 8 * self.planes * self.chunks, bits // (16 * self.scale_lanes)))

    def _derive_x_words(self) -> int:
        return max(512, min(4096, ceil_pow2(4096 // self.depth)))

    def _derive_sum_words(self) -> int:
        # Sixteen row tiles of four tiles each on `default`: a weight block that all of K does not
        # fit into is used as long as the next one takes to arrive.
        return max(1024, ceil_pow2(8 * self.tile_sums))

    # The array -------------------------------------------------------------------------------

    @property
    def symmetric(self) -> bool:
        """Whether only half of each table is stored (±1-coded)."""
        return self.table_form == "symmetric"

    @property
    def activation_bits(self) -> int:
        """b, bits of an activation."""
        return 16 if self.activation == "int16" else 8

    @property
    def step(self) -> int:
        """Columns of K per array step: depth * group."""
        return self.depth * self.group

    @property
    def peak(self) -> int:
        """Weight-bit multiply-accumulates per cycle: rows * lanes * depth * group."""
        return self.rows * self.lanes * self.step

    @property
    def entries(self) -> int:
        """Stored entries per table, and the cycles that filling it takes."""
        return 1 << (self.group - 1 if self.symmetric else self.group)

    @property
    def weight_bits(self) -> int:
        """Bits of one word of the weight buffer: one plane of one step for all lanes."""
        return self.lanes * self.step

    @property
    def entry_width(self) -> int:
        """Bits of a table entry.

        Of the two halves of a ±1-coded table the one is stored in which the last activation counts
        as it is, so that the sum of k negated minima, the one value that could need another bit,
        is not in it (in ternary cores it is, but the k = 5 of those is no power of two).
        """
        return self.activation_bits + (self.group - 1).bit_length()

    @property
    def halved(self) -> bool:
        """Whether tables are stored without the lowest bit of their entries.

        The signed sums of a group of activations are all even or all odd; those of trits are not.
        The adder tree of such a core goes by relative signs.
        """
        return self.symmetric and not self.ternary

    @property
    def stored_width(self) -> int:
        """Bits of an entry as stored."""
        return self.entry_width - self.halved

    def _product_width(self, columns: int) -> int:
        return (columns * 2 ** (self.activation_bits - 1) * (2**self.planes - 1)).bit_length() + 1

    @property
    def shift_width(self) -> int:
        """Bits of one step's sum over all planes."""
        return self._product_width(self.step)

    @property
    def acc_width(self) -> int:
        """Bits of a lane accumulator: the longest run at full scale, and its sign."""
        return self._product_width(self.run)

    @property
    def asum_width(self) -> int:
        """Bits of a run's sum of activations."""
        return (self.run * 2 ** (self.activation_bits - 1)).bit_length() + 1

    # The scale unit --------------------------------------------------------------------------

    @property
    def chunks(self) -> int:
        """Words of ``scale_lanes`` sums per row of a tile."""
        return self.lanes // self.scale_lanes

    @property
    def tile_sums(self) -> int:
        """Words of the sum buffer that a tile takes."""
        return self.chunks * self.rows

    @property
    def sum_width(self) -> int:
        """Bits of the exact fixed-point sum T (72 for int8 and 8 planes)."""
        return SCALE_BITS + self.planes + COLUMNS_MAX.bit_length() - 1 + self.activation_bits

    # Memories --------------------------------------------------------------------------------

    @property
    def least_words(self) -> dict[str, int]:
        """The fewest words that a slot of each buffer can have, by the buffer's key."""
        return {
            "weight_words": self.planes,
            "scale_words": 8 * self.planes * self.chunks,
            "x_words": self.x_header_words + self.group,
            "sum_words": self.tile_sums,
        }

    @property
    def beat_bytes(self) -> int:
        """Bytes of a bus beat."""
        return self.bus_width // 8

    @property
    def beat_shift(self) -> int:
        """Bits of an address within a bus beat."""
        return self.beat_bytes.bit_length() - 1

    @property
    def slice_group(self) -> int:
        """Columns (slices of ``lanes`` bits) that the weight unpacker delivers per cycle.

        The smallest number that keeps up with the bus, counting that a step is delivered in
        whole groups of slices.
        """
        bursts = max(1, self.step * self.lanes // self.bus_width)
        return ceil_div(self.step, bursts)

    @property
    def x_word_bits(self) -> int:
        """Bits of a word of the activation buffer: one activation for each table of each row."""
        return max(8, ceil_pow2(self.rows * self.depth * self.activation_bits))

    @property
    def x_memory_bits(self) -> int:
        """Bits of a memory word of the activation buffer: a beat, or one of its words."""
        return max(self.bus_width, self.x_word_bits)

    @property
    def x_memory_bytes(self) -> int:
        """The same in bytes."""
        return self.x_memory_bits // 8

    @property
    def x_items(self) -> int:
        """Words of the activation buffer in a memory word."""
        return self.x_memory_bits // self.x_word_bits

    @property
    def x_slot_words(self) -> int:
        """Memory words in a slot of the activation buffer, at least two."""
        return max(2, self.x_words // self.x_items)

    @property
    def x_header_words(self) -> int:
        """Words before the activations of a block: the rows' scales, 32 bits each."""
        return ceil_div(self.rows * 32, self.x_word_bits)

    @property
    def bias_words(self) -> int:
        """Float32 values per slot of the bias buffer."""
        return ceil_pow2(self.tiles * self.lanes)

    # Others ----------------------------------------------------------------------------------

    def with_derived(self, **changes: Any) -> "CoreConfig":
        """The same machine with every size of `DERIVED` derived anew, but for what `changes` says.

        Raises
        ------
        ConfigError
            If the changes give a configuration that cannot be built.
        """
        return dataclasses.replace(self, **(dict.fromkeys(DERIVED, 0) | changes))

    # Identity --------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, object]:
        """Every key with its resolved value."""
        return dataclasses.asdict(self)

    @property
    def fingerprint(self) -> int:
        """64 bits that identify the configuration and the version of its interfaces."""
        from lutcore.hw.contract.isa import ISA_VERSION

        text = json.dumps({"isa": ISA_VERSION, **self.as_dict()}, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> "CoreConfig":
        """Build from a mapping; unknown keys are refused with the nearest known one."""
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise ConfigError(f"unknown configuration key {key!r}; known: {', '.join(known)}")
        return cls(**values)  # type: ignore[arg-type]

    def to_toml(self) -> str:
        """The configuration file that gives this configuration."""
        lines = (f"{key} = {json.dumps(value)}" for key, value in self.as_dict().items())
        return "\n".join(lines) + "\n"


PRESETS: dict[str, CoreConfig] = {
    # Fits an ECP5-85F: 2,048 weight-bit MACs per cycle, with scales for groups of 128. On the front
    # of the cores of that size, see docs/explore.md.
    "default": CoreConfig(),
    # The fastest for SmolLM2 in groups of 32 of those that fit an ECP5-85F, see docs/explore.md.
    "groups32": CoreConfig(rows=4, lanes=16, scale_lanes=16),
    # The shape of the paper: two rows, 64 lanes, one symmetric table of four, multiplexers.
    "paper": CoreConfig(rows=2, lanes=64, group=4, depth=1, table_store="register"),
    # Small enough to read its Verilog and to simulate with any simulator.
    "tiny": CoreConfig(rows=1, lanes=8, group=4, depth=2, planes=4, bus_width=32),
}


def load_config(source: str | Path) -> CoreConfig:
    """A preset by name, or a TOML file.

    Raises
    ------
    ConfigError
        Neither a preset nor a readable file, or a configuration that cannot be built.
    """
    if str(source) in PRESETS:
        return PRESETS[str(source)]
    path = Path(source)
    if not path.is_file():
        raise ConfigError(
            f"{str(source)!r} is neither a preset ({', '.join(PRESETS)}) nor a configuration file"
        )
    try:
        return CoreConfig.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
