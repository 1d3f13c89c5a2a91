"""Row-wise quantisation of activations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lutcore.sw.base.errors import ActivationError
from lutcore.sw.layers.activations import quantise

TINY = np.float32(2.0**-149)


def test_by_hand():
    q, scale = quantise(np.array([[127, -63.5, 0.5, 1.5], [0, 0, 0, -254]], np.float32), 8)
    assert scale.tolist() == [1, 2] and scale.dtype == np.float32
    assert q.tolist() == [[127, -64, 0, 2], [0, 0, 0, -127]] and q.dtype == np.int8


def test_sixteen_bits():
    q, scale = quantise(np.array([[-32767, 0.5, 2.5]], np.float32), 16)
    assert (q.tolist(), scale.tolist(), q.dtype) == ([[-32767, 0, 2]], [1], np.int16)


def test_division_is_in_float32():
    # The quotient is just below 5.5; float32 rounds it to the tie, which goes to 6.
    x = np.float32(float.fromhex("0x1.62c58ap-5"))
    scale = np.float32(1) / np.float32(127)
    assert float(x) / float(scale) < 5.5
    q, found = quantise(np.array([[1, x]], np.float32), 8)
    assert found[0] == scale and q.tolist() == [[127, 6]]


@pytest.mark.parametrize("row", [[0, 0], [-0.0, 0], [63 * TINY, -TINY]])
def test_zero_scale_becomes_one(row):
    q, scale = quantise(np.array([row], np.float32), 8)
    assert scale.tolist() == [1] and not q.any()


def test_coarse_subnormal_scale_is_clipped():
    q, scale = quantise(np.array([[-190 * TINY, 100 * TINY]], np.float32), 8)
    assert scale.tolist() == [TINY] and q.tolist() == [[-127, 100]]


@pytest.mark.parametrize("bits", [8, 16])
def test_integers_pass(bits):
    x = np.array([[-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]]).astype(f"int{bits}")
    q, scale = quantise(x, bits)
    assert np.array_equal(q, x) and q.dtype == x.dtype
    assert scale.tolist() == [1] and scale.dtype == np.float32


@settings(max_examples=200, print_blob=True)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(-(2.0**127), 2.0**127, width=32),
    ),
    st.sampled_from([8, 16]),
)
def test_error_is_half_a_step(x, bits):
    q, scale = quantise(x, bits)
    assert scale.shape == (len(x),) and (scale > 0).all()
    limit = 2 ** (bits - 1) - 1
    assert np.abs(q.astype(int)).max() <= limit
    normal = scale > 2.0**-126
    step = scale[normal, None].astype(np.float64)
    error = np.abs(q[normal] * step - x[normal])
    assert (error <= step * (0.5 + limit * 2.0**-22)).all()


@pytest.mark.parametrize(
    ("x", "bits", "text"),
    [
        (np.zeros((1, 2)), 8, r"float64, .* float32 or int8: .*astype\('float32'\)"),
        (np.zeros((1, 2), np.int16), 8, "int16, but this core takes float32 or int8"),
        (np.zeros((1, 2), np.int8), 16, "int8, but this core takes float32 or int16"),
        (np.zeros(2, np.float32), 8, r"shape \[rows, K\], not \(2,\)"),
        (np.zeros((0, 2), np.float32), 8, r"shape \[rows, K\], not \(0, 2\)"),
        (np.array([[0, np.nan]], np.float32), 8, r"\[0, 1\] is nan"),
        (np.array([[0, 1], [-np.inf, 0]], np.float32), 16, r"\[1, 0\] is -inf"),
        (np.zeros((1, 2), np.float32), 4, "8 or 16 bits, not 4"),
    ],
)
def test_refusals(x, bits, text):
    with pytest.raises(ActivationError, match=text):
        quantise(x, bits)
