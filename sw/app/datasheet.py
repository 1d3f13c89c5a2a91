"""What follows from a configuration: rates, memories, and where each of its parts binds.

Everything here is *derived* from the configuration, not measured.
"""

from dataclasses import dataclass

from lutcore.hw.contract.config import SLOTS, CoreConfig, ceil_div
from lutcore.hw.contract.isa import INSTRUCTION_BITS, PROGRAM_MAX

__all__ = ["Datasheet", "binding_group", "datasheet"]


@dataclass(frozen=True)
class Datasheet:
    """Derived figures of one core.

    Attributes
    ----------
    peak_macs_per_cycle
        Weight-bit multiply-accumulates: rows * lanes * depth * group.
    table_bits
        Bits of table storage, both banks; with distributed tables a copy for each lane.
    table_sets
        Different tables at a time: rows * depth.
    buffer_bits
        Bits of each double-buffered memory by name, and of the program memory.
    weight_bytes_per_cycle
        Codes that the array takes from the weight buffer in each cycle.
    bus_bytes_per_cycle
        What the bus brings at most.
    balanced_rows
        Rows from which the array no longer waits for codes, as it uses each of them for all row
        tiles.
    scale_terms_per_cycle
        Products of a scale and a sum; a sum takes one, and another if there is an offset.
    fill_channels
        Output channels, times planes, from which a table lasts as long as its successor's fill.
    fingerprint
        Of the configuration.
    """

    peak_macs_per_cycle: int
    table_bits: int
    table_sets: int
    buffer_bits: dict[str, int]
    weight_bytes_per_cycle: float
    bus_bytes_per_cycle: int
    balanced_rows: int
    scale_terms_per_cycle: int
    fill_channels: int
    fingerprint: int


def datasheet(config: CoreConfig) -> Datasheet:
    """Derive the figures of a configuration."""
    sets = config.rows * config.depth
    copies = config.lanes if config.table_store == "distributed" else 1
    return Datasheet(
        peak_macs_per_cycle=config.peak,
        table_bits=sets * SLOTS * config.entries * config.stored_width * copies,
        table_sets=sets,
        buffer_bits={
            "weights": SLOTS * config.weight_words * config.weight_bits,
            "scales": SLOTS * config.scale_words * config.scale_lanes * 16,
            "activations": SLOTS * config.x_words * config.x_word_bits,
            "bias": SLOTS * config.bias_words * 32,
            "sums": SLOTS * config.sum_words * config.scale_lanes * config.sum_width,
            "program": PROGRAM_MAX * INSTRUCTION_BITS,
        },
        weight_bytes_per_cycle=config.weight_bits / 8,
        bus_bytes_per_cycle=config.beat_bytes,
        balanced_rows=ceil_div(config.weight_bits, config.bus_width) * config.rows,
        scale_terms_per_cycle=config.scale_lanes,
        fill_channels=config.entries * config.lanes,
        fingerprint=config.fingerprint,
    )


def binding_group(config: CoreConfig, bits: int, terms: int) -> float:
    """Columns per group below which the scale unit is slower than the array at full use.

    A group of g columns keeps the array busy for ``g * bits / step`` cycles per tile, and the
    scale unit for ``terms * rows * lanes / scale_lanes``.

    Parameters
    ----------
    config : CoreConfig
        The core.
    bits : int
        Bits, or planes, of the weights.
    terms : int
        Products for each sum: 1, or 2 with an offset; with a scale per plane, that many more.
    """
    return terms * config.peak / (config.scale_lanes * bits)
