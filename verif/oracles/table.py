"""Tables and index words by the contract: what TABLE writes, and what the lanes make of it."""

import random

import numpy as np

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.ternary import GROUP, INDEX_BITS, index_of, triples

__all__ = [
    "dot_products",
    "draw_activations",
    "signs_of",
    "step_columns",
    "tables_of",
    "ternary_word",
    "weight_word",
]


def draw_activations(source: random.Random, config: CoreConfig, shape: tuple[int, ...]):
    """Activations int64 of a shape: random, extreme, or all at one end."""
    high = 1 << config.activation_bits - 1
    numbers = np.random.default_rng(source.getrandbits(64))
    manner = source.choice(["random", "random", "extreme", "lowest", "highest"])
    if manner == "random":
        return numbers.integers(-high, high, shape)
    if manner == "extreme":
        return numbers.choice(np.array([-high, high - 1, 0, -1]), shape)
    return np.full(shape, -high if manner == "lowest" else high - 1)


def step_columns(config: CoreConfig, ternary: bool) -> int:
    """Activations of one row in a step."""
    return config.depth * (GROUP if ternary else config.group)


def signs_of(config: CoreConfig, places: int) -> int:
    """`signs` of the set_tag of a step with as many places (index bits) left of the run."""
    return sum((places >= (g + 1) * config.group) << g for g in range(config.depth))


def tables_of(config: CoreConfig, step: np.ndarray, ternary: bool = False) -> np.ndarray:
    """Stored entries of all tables of a step [rows, columns]: [rows * depth, entries]."""
    group = GROUP if ternary else config.group
    a = step.reshape(config.rows * config.depth, group)
    if ternary:
        return a @ np.array(triples()).T
    # Of ±1-coded tables without a lowest bit the negation of what the index selects is stored.
    on, off = (1, -1) if config.symmetric else (1, 0)
    if config.halved:
        on, off = -1, 1
    entries = np.arange(config.entries)
    factors = np.where(entries[:, None] >> np.arange(group) & 1, on, off)
    return a @ factors.T


def weight_word(config: CoreConfig, bits: np.ndarray, signs: int, source: random.Random) -> int:
    """A word of the weight buffer, from the weight bits of a step [lanes, step].

    With symmetric tables the top bit of an index is its sign: where it is set the others are
    inverted. Halved tables have there the sign relative to that of the table with which the adder
    tree joins them. A top bit that does not count (``signs``) is noise in the word.
    """
    index = bits.reshape(config.lanes, config.depth, config.group).astype(np.uint8).copy()
    if config.symmetric:
        effective = np.zeros((config.lanes, config.depth), np.uint8)
        for g in range(config.depth):
            joined = effective[:, g & (g - 1)] if config.halved and g else 0
            if signs >> g & 1:
                effective[:, g] = index[:, g, -1]
                index[:, g, -1] ^= joined
            else:
                effective[:, g] = joined
                index[:, g, -1] = [source.getrandbits(1) for _ in range(config.lanes)]
            index[:, g, :-1] ^= effective[:, g, None]
    return _word(index.reshape(config.lanes, config.step))


def ternary_word(config: CoreConfig, trits: np.ndarray) -> int:
    """A word of the weight buffer, from trits [lanes, depth * 3]."""
    index = np.zeros((config.lanes, config.depth, INDEX_BITS), np.uint8)
    for n, row in enumerate(trits.reshape(config.lanes, config.depth, GROUP)):
        for g, triple in enumerate(row):
            entry, sign = index_of()[tuple(int(t) for t in triple)]
            code = entry | sign << INDEX_BITS - 1
            index[n, g] = code >> np.arange(INDEX_BITS) & 1
    return _word(index.reshape(config.lanes, config.step))


def _word(index: np.ndarray) -> int:
    """Index bit i of lane n at bit i * lanes + n."""
    packed = np.packbits(index.T.reshape(-1), bitorder="little")
    return int.from_bytes(packed.tobytes(), "little")


def dot_products(config: CoreConfig, bits: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sums of one plane of weights [lanes, step] and activations [rows, step]: [lanes, rows].

    ±1-coded or {0,1}-coded, as the tables are.
    """
    bits = bits.astype(np.int64)
    return (2 * bits - 1 if config.symmetric else bits) @ x.T
