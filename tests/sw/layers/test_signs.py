"""Coding of indices: what an adder tree over coded lookups gives is the dot product."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import CoreConfig, ceil_pow2
from lutcore.hw.contract.ternary import triples
from lutcore.sw.layers.layer import Kind, QuantLayer
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.program import Program
from lutcore.sw.program.unpack import unpack_layer

LANES = 8


def one_group(kind: Kind, codes: np.ndarray, config: CoreConfig) -> Program:
    """A layer of `LANES` channels and one group, compiled."""
    shape = (LANES, 1, 1) if kind == "planes" else (LANES, 1)
    layer = QuantLayer(
        name="one group",
        kind=kind,
        bits=1 if kind == "planes" else 2,
        codes=codes,
        group_size=codes.shape[-1],
        scales=np.ones(shape, np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=1,
    )
    return compile_layer(layer, config, rows=1)


def stored_bits(program: Program) -> np.ndarray:
    """Index bits [places, LANES] of the image's one codes section."""
    form, places = program.tiling.format, program.tiling.places
    codes = program.image[form.padded(form.scale_bytes(1, places)) :]
    bits = np.unpackbits(np.frombuffer(codes, np.uint8), bitorder="little")
    return bits[: places * LANES].reshape(places, LANES).astype(int)


def tree(lookups: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Pairwise sums, in which a sign tells whether the right operand is subtracted."""
    size = ceil_pow2(len(lookups))
    values = np.zeros((size, LANES), int)
    relative = np.zeros((size, LANES), int)
    values[: len(lookups)], relative[: len(signs)] = lookups, signs
    stride = 1
    while len(values) > 1:
        values = values[::2] + np.where(relative[stride :: 2 * stride], -1, 1) * values[1::2]
        stride *= 2
    return np.where(relative[0], -1, 1) * values[0]


@settings(max_examples=200, deadline=None, print_blob=True)
@given(st.data())
def test_signed_lookups_of_a_step_sum_up(data: st.DataObject) -> None:
    group, depth = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 32))
    width = data.draw(st.integers(1, group * depth))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weights = rng.choice(np.array([-1, 1], np.int8), (1, LANES, width))
    config = CoreConfig(rows=1, lanes=LANES, group=group, depth=depth, bus_width=32)
    bits = stored_bits(one_group("planes", weights, config))

    indices = np.zeros((depth * group, LANES), int)
    indices[:width] = bits
    indices = indices.reshape(depth, group, LANES)
    x = np.zeros(depth * group, int)
    x[:width] = rng.integers(-128, 128, width)
    # The half of a table in which the last activation is subtracted.
    coded = np.concatenate([2 * indices[:, :-1] - 1, np.full((depth, 1, LANES), -1)], axis=1)
    lookups = np.einsum("tk,tkn->tn", x.reshape(depth, group), coded)
    expected = weights[0].astype(int) @ x[:width]
    assert tree(lookups, indices[:, -1]).tolist() == expected.tolist()


@settings(max_examples=200, deadline=None, print_blob=True)
@given(st.data())
def test_signed_ternary_lookups_of_a_step_sum_up(data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, 32))
    width = data.draw(st.integers(1, 3 * depth))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weights = rng.integers(-1, 2, (LANES, width)).astype(np.int8)
    config = CoreConfig(rows=1, lanes=LANES, group=5, depth=depth, bus_width=32, ternary=True)
    indices = stored_bits(one_group("ternary", weights, config)).reshape(-1, 5, LANES)

    x = np.zeros(3 * len(indices), int)
    x[:width] = rng.integers(-128, 128, width)
    entries = np.einsum("tkn,k->tn", indices[:, :4], [1, 2, 4, 8])
    lookups = np.einsum("tk,tnk->tn", x.reshape(-1, 3), np.array(triples())[entries])
    signed = np.where(indices[:, 4], -1, 1) * lookups
    assert signed.sum(axis=0).tolist() == (weights.astype(int) @ x[:width]).tolist()


def test_every_triple_comes_back() -> None:
    all_triples = np.array(list(product((-1, 0, 1), repeat=3)), np.int8).ravel()
    codes = np.stack([np.roll(all_triples, 3 * lane) for lane in range(LANES)])
    config = CoreConfig(rows=1, lanes=LANES, group=5, depth=4, bus_width=32, ternary=True)
    program = one_group("ternary", codes, config)
    assert np.array_equal(unpack_layer(program).codes, codes)
    used = stored_bits(program).reshape(-1, 5, LANES)[:, :4]
    assert set(np.einsum("tkn,k->tn", used, [1, 2, 4, 8]).ravel().tolist()) == set(range(14))
