"""Layers out of weight images, against the layers that were packed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.config import CoreConfig
from lutcore.sw.compile import compile_layer
from lutcore.sw.layer import QuantLayer
from lutcore.sw.unpack import unpack_layer

CONFIGS = [
    CoreConfig(rows=1, lanes=8, group=4, depth=2, planes=4, bus_width=32),
    CoreConfig(rows=2, lanes=24, group=3, depth=3, bus_width=64, weight_words=64),
    CoreConfig(rows=1, lanes=16, group=5, depth=2, bus_width=128, table_form="full", run=16),
]


@st.composite
def layers(draw, planes_max: int) -> QuantLayer:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, k = draw(st.integers(1, 60)), draw(st.integers(1, 90))
    size = min(k, draw(st.sampled_from([8, 16, 24, 40, 90])))
    bits = draw(st.integers(1, planes_max))
    kind = draw(st.sampled_from(["affine", "planes"]))
    shape = (n, -(-k // size))
    dtype = draw(st.sampled_from([np.float16, np.float32]))

    def values(*shape: int) -> np.ndarray:
        # 21-bit integers need the 32-bit form, and stay within its range.
        limit = 2**11 if dtype == np.float16 else 2**21
        return (rng.integers(-limit, limit, shape) / 2**9).astype(dtype)

    if kind == "affine":
        codes = rng.integers(0, 2**bits, (n, k), dtype=np.uint8)
    else:
        codes = rng.choice(np.array([-1, 1], np.int8), (bits, n, k))
    return QuantLayer(
        name="layer",
        kind=kind,
        bits=bits,
        codes=codes,
        group_size=size,
        scales=values(*shape) if kind == "affine" else values(*shape, bits),
        offsets=values(*shape) if draw(st.booleans()) else None,
        bias=rng.normal(size=n).astype(np.float32) if draw(st.booleans()) else None,
        checkpoint_bytes=n * k,
    )


@pytest.mark.parametrize("config", CONFIGS, ids=["tiny", "odd", "full"])
@settings(max_examples=40, deadline=None, print_blob=True)
@given(data=st.data())
def test_unpacking_inverts_packing(config, data):
    layer = data.draw(layers(config.planes))
    found = unpack_layer(compile_layer(layer, config, rows=1))
    assert (found.kind, found.bits, found.group_size) == (layer.kind, layer.bits, layer.group_size)
    for name in ("codes", "scales", "offsets", "bias"):
        expected, value = getattr(layer, name), getattr(found, name)
        assert (expected is None) == (value is None), name
        assert expected is None or np.array_equal(expected, value), name


def test_a_flipped_bit_of_the_image_is_seen():
    layer = QuantLayer(
        name="layer",
        kind="affine",
        bits=2,
        codes=np.zeros((8, 16), np.uint8),
        group_size=8,
        scales=np.ones((8, 2), np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=64,
    )
    program = compile_layer(layer, CONFIGS[0], rows=1)
    image = bytearray(program.image)
    image[-1] ^= 1
    object.__setattr__(program, "image", bytes(image))
    assert not np.array_equal(unpack_layer(program).codes, layer.codes)
