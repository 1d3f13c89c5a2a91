"""The packer's coding of indices is the inverse of what the lanes do with them.

In software, through all patterns of weights of a step and all lengths of its last run: what the
packer stores is decoded as the proofs of the lanes read it (which entry, which sign), and the
factors of the entries (which the precompute unit is proved to write) must be the weights again.
Entries are linear in the activations, so equal factors are equal dot products for all activations.
"""

from functools import partial
from itertools import product
from typing import Any

import numpy as np

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.ternary import INDEX_BITS
from lutcore.verif.formal.contract import columns, factors_of
from lutcore.verif.formal.model import Patch, Property

__all__ = ["PROPERTIES"]


def _stored(config: CoreConfig, weights: np.ndarray) -> np.ndarray:
    """Index bits [N, places] that the packer makes of weights [N, K] of one run."""
    from lutcore.sw.layers.layer import QuantLayer
    from lutcore.sw.program.blocks import BlockFormat
    from lutcore.sw.program.pack import encode_scales, pack_weights
    from lutcore.sw.program.tiling import plan_tiling

    n, k = weights.shape
    kind = "ternary" if config.ternary else "planes"
    ones = np.ones((n, 1) if config.ternary else (n, 1, 1), np.float16)
    layer = QuantLayer(
        name="patterns",
        kind=kind,
        bits=2 if config.ternary else 1,
        codes=weights if config.ternary else weights[None],
        group_size=k,
        scales=ones,
        offsets=None,
        bias=None,
        checkpoint_bytes=n * k,
    )
    scales = encode_scales(layer)
    form = BlockFormat.for_layer(
        config, kind=layer.kind, bits=layer.bits, offset=False, wide=False, group_size=k
    )
    tiling = plan_tiling(form, n, k, k)
    image = np.frombuffer(pack_weights(layer, scales, tiling), np.uint8)
    (places,) = (stop - start for start, stop in tiling.k_blocks())
    beat, lanes = config.beat_bytes, config.lanes
    found, position = [], 0
    for first, last in tiling.tile_blocks():
        tiles = last - first
        position += -(-tiles * lanes * 2 // beat) * beat  # a float16 scale per channel
        size = tiles * places * lanes // 8
        bits = np.unpackbits(image[position : position + size], bitorder="little")
        found.append(bits.reshape(tiles, places, lanes).transpose(0, 2, 1).reshape(-1, places))
        position += -(-size // beat) * beat
    return np.concatenate(found)[:n]


def _check(config: CoreConfig) -> int:
    per_table = columns(config, config.ternary)
    values = (-1, 0, 1) if config.ternary else (-1, 1)
    cases = 0
    for k in range(1, config.depth * per_table + 1):
        weights = np.array(list(product(values, repeat=k)), np.int8)
        stored = _stored(config, weights)
        room = np.zeros((len(weights), config.step), np.uint8)
        room[:, : stored.shape[1]] = stored
        for row, bits in zip(weights.tolist(), room.tolist(), strict=True):
            tables = [bits[g * config.group :][: config.group] for g in range(config.depth)]
            factors = [f for t in factors_of(config, config.ternary, tables) for f in t]
            expected = row if config.symmetric else [(w + 1) // 2 for w in row]
            assert factors[:k] == expected, (
                f"weights {row} are stored as {bits} and read as {factors[:k]}"
            )
            cases += 1
    return cases


def _property(name: str, twin: Patch, **keys) -> Property:
    base: dict[str, Any] = {"rows": 1, "lanes": 8, "planes": 2, "bus_width": 32, "tiles": 2}
    config = CoreConfig(**(base | keys))
    return Property(
        name=f"coding-{name}-k{config.group}-g{config.depth}",
        unit="coding",
        claim="what the packer stores selects the entries whose factors are the weights",
        config=f"{config.table_form} k{config.group} G{config.depth}, all patterns and lengths",
        check=partial(_check, config),
        twin=twin,
        method="exhaustive",
        quick=name == "symmetric" and config.group == 4,
    )


def _opposite(bits: np.ndarray) -> np.ndarray:
    """Index bits of ternary weights with the other signs."""
    return bits ^ (np.arange(bits.shape[1]) % INDEX_BITS == INDEX_BITS - 1)


_PACK = "lutcore.sw.program.pack"
_SIGNS = Patch(
    _PACK, "_with_signs", lambda right: lambda planes, form: planes, "signs are stored as they are"
)
_PLANE = Patch(
    _PACK,
    "_index_bytes",
    lambda right: lambda layer, tiling: ~right(layer, tiling),
    "signs swapped",
)
_TRIT = Patch(
    _PACK,
    "_ternary_bits",
    lambda right: lambda layer, tiling: _opposite(right(layer, tiling)),
    "signs of trits swapped",
)

PROPERTIES = [
    *(
        _property("symmetric", _SIGNS, table_form="symmetric", group=k, depth=2)
        for k in range(2, 7)
    ),
    _property("symmetric", _SIGNS, table_form="symmetric", group=3, depth=4),
    _property("symmetric", _SIGNS, table_form="symmetric", group=2, depth=6),
    *(_property("full", _PLANE, table_form="full", group=k, depth=2) for k in range(2, 7)),
    *(_property("trits", _TRIT, group=5, depth=d, ternary=True) for d in (1, 2)),
]
