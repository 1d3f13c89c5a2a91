"""Layers out of weight images, against the layers that were packed."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import CoreConfig
from lutcore.sw.base.errors import ActivationError, LayerError
from lutcore.sw.layers.layer import Kind, QuantLayer
from lutcore.sw.program.compile import as_binary, compile_layer
from lutcore.sw.program.program import Program
from lutcore.sw.program.unpack import unpack_activations, unpack_layer
from lutcore.verif.kit.strategies import cases

CONFIGS = [
    CoreConfig(rows=1, lanes=8, group=4, depth=2, planes=4, bus_width=32),
    CoreConfig(rows=2, lanes=24, group=3, depth=3, bus_width=64, weight_words=64),
    CoreConfig(rows=1, lanes=16, group=5, depth=2, bus_width=128, table_form="full", run=16),
    CoreConfig(rows=3, lanes=8, group=4, depth=3, bus_width=256, activation="int16"),
    CoreConfig(rows=1, lanes=16, group=5, depth=7, bus_width=64, ternary=True),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["tiny", "odd", "full", "int16", "ternary"])
@settings(max_examples=40, deadline=None, print_blob=True)
@given(data=st.data())
def test_unpacking_inverts_packing(config, data):
    case = data.draw(cases(config))
    layer, rows = case.layer, case.rows
    if layer.kind == "ternary" and not config.ternary:
        layer = as_binary(layer)
    program = compile_layer(layer, config, rows)
    found = unpack_layer(program)
    assert (found.kind, found.bits, found.group_size) == (layer.kind, layer.bits, layer.group_size)
    for name in ("codes", "scales", "offsets", "bias"):
        expected, value = getattr(layer, name), getattr(found, name)
        assert (expected is None) == (value is None), name
        assert expected is None or np.array_equal(expected, value), name

    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    limits = np.iinfo(config.activation)
    q = rng.integers(limits.min, limits.max, (rows, layer.k), config.activation, endpoint=True)
    scale = np.ldexp(rng.uniform(1, 2, rows), rng.integers(-149, 127, rows)).astype(np.float32)
    unpacked, unpacked_scale = unpack_activations(program, program.pack_x(q, scale))
    assert unpacked.dtype == q.dtype and np.array_equal(unpacked, q)
    assert np.array_equal(unpacked_scale, scale)


def test_scales_of_rows_that_no_float32_has_are_refused():
    program = compile_layer(zeros("affine"), CONFIGS[0], 1)
    image = b"\xff" * program.x_bytes
    with pytest.raises(ActivationError, match="Activations of 'layer': Row-scale code 0xffffffff"):
        unpack_activations(program, image)


def with_image(program: Program, change: Callable[[bytearray], None]) -> Program:
    image = bytearray(program.image)
    change(image)
    return dataclasses.replace(program, image=bytes(image))


def zeros(kind: Kind) -> QuantLayer:
    return QuantLayer(
        name="layer",
        kind=kind,
        bits=2,
        codes=np.zeros((8, 16), np.int8 if kind == "ternary" else np.uint8),
        group_size=8,
        scales=np.ones((8, 2), np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=64,
    )


def test_a_flipped_bit_of_the_image_is_seen():
    def flip(image: bytearray) -> None:
        image[-1] ^= 1

    program = with_image(compile_layer(zeros("affine"), CONFIGS[0], rows=1), flip)
    assert unpack_layer(program).codes.any()


def test_an_index_that_no_triple_has_is_refused():
    def fill(image: bytearray) -> None:
        image[-16:] = bytes([255]) * 16

    program = with_image(compile_layer(zeros("ternary"), CONFIGS[-1], rows=1), fill)
    with pytest.raises(LayerError, match=r"ternary index 1[45], where 0 to 13 exist"):
        unpack_layer(program)
