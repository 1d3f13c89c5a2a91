"""What a quantised layer means, and what it refuses."""

import re
from dataclasses import fields

import numpy as np
import pytest

from lutcore.sw.base.errors import LayerError, LutcoreError
from lutcore.sw.layers.layer import QuantLayer


def affine(**changes) -> QuantLayer:
    values = {
        "name": "a",
        "kind": "affine",
        "bits": 2,
        "codes": np.array([[0, 1, 2], [3, 2, 1]], np.uint8),
        "group_size": 2,
        "scales": np.array([[1, 2], [3, 4]], np.float16),
        "offsets": None,
        "bias": None,
        "checkpoint_bytes": 10,
    }
    return QuantLayer(**(values | changes))


def planes(**changes) -> QuantLayer:
    values = {
        "name": "p",
        "kind": "planes",
        "bits": 2,
        "codes": np.array([[[1, 1, -1]], [[1, -1, 1]]], np.int8),
        "group_size": 2,
        "scales": np.array([[[1, 2], [4, 8]]], np.float32),
        "offsets": None,
        "bias": None,
        "checkpoint_bytes": 17,
    }
    return QuantLayer(**(values | changes))


def ternary(**changes) -> QuantLayer:
    values = {
        "name": "t",
        "kind": "ternary",
        "bits": 2,
        "codes": np.array([[0, 1, -1], [-1, -1, 0]], np.int8),
        "group_size": 2,
        "scales": np.array([[1, 2], [3, -4]], np.float16),
        "offsets": None,
        "bias": None,
        "checkpoint_bytes": 10,
    }
    return QuantLayer(**(values | changes))


def test_affine_weights():
    layer = affine()
    assert (layer.n, layer.k, layer.groups) == (2, 3, 2)
    assert layer.dequantise().tolist() == [[-2, -1, 0], [3, 0, -4]]
    offsets = np.array([[10, 20], [30, 40]], np.float16)
    assert affine(offsets=offsets).dequantise().tolist() == [[10, 11, 24], [39, 36, 44]]


def test_weights_of_planes():
    assert planes().dequantise().tolist() == [[3, -1, 4]]
    offsets = np.array([[0.5, 0.25]], np.float32)
    assert planes(offsets=offsets).dequantise().tolist() == [[3.5, -0.5, 4.25]]


def test_ternary_weights():
    assert ternary().dequantise().tolist() == [[0, 1, -2], [-3, -3, 0]]
    offsets = np.array([[10, 20], [30, 40]], np.float16)
    assert ternary(offsets=offsets).dequantise().tolist() == [[10, 11, 18], [27, 27, 40]]
    tensor_wide = ternary(group_size=3, scales=np.array([[2], [2]], np.float32))
    assert tensor_wide.dequantise().tolist() == [[0, 2, -2], [-2, -2, 0]]


def test_arrays_are_read_only_and_the_callers_stay_writable():
    codes = np.zeros((2, 3), np.uint8)
    layer = affine(codes=codes)
    with pytest.raises(ValueError, match="read-only"):
        layer.codes[0, 0] = 1
    codes[0, 0] = 1


@pytest.mark.parametrize(
    ("build", "changes", "text"),
    [
        (affine, {"kind": "t"}, "kind must be one of 'affine', 'planes', 'ternary', not 't'"),
        (affine, {"bits": 0}, "bits must be an integer of 1 to 8, not 0"),
        (affine, {"bits": 9}, "bits must be an integer of 1 to 8, not 9"),
        (affine, {"bits": True}, "bits must be an integer of 1 to 8, not True"),
        (affine, {"bits": 1}, "code 3 does not fit in 1 bits: codes must be below 2"),
        (affine, {"codes": np.zeros((2, 3), np.int8)}, "array of uint8, not int8"),
        (affine, {"codes": [[0]]}, "array of uint8, not list"),
        (affine, {"codes": np.zeros(3, np.uint8)}, "axes [N, K], not the shape (3,)"),
        (affine, {"codes": np.zeros((0, 3), np.uint8)}, "shape (0, 3) hold no weight"),
        (affine, {"group_size": 0}, "group_size must be an integer of 1 to 3, not 0"),
        (affine, {"group_size": 4}, "group_size must be an integer of 1 to 3, not 4"),
        (affine, {"group_size": 3}, "2 x 3 weights in groups of 3 need (2, 1)"),
        (affine, {"scales": np.ones((2, 2))}, "float16 or float32, not float64"),
        (affine, {"scales": np.ones(2, np.float16)}, "axes [2, 2], not the shape (2,)"),
        (affine, {"offsets": np.ones((2, 1), np.float16)}, "offsets have the shape (2, 1)"),
        (affine, {"bias": np.ones(2, np.float16)}, "bias must be an array of float32"),
        (affine, {"bias": np.ones(3, np.float32)}, "bias have the shape (3,)"),
        (affine, {"checkpoint_bytes": 0}, "checkpoint_bytes must be an integer of 1 or more"),
        (planes, {"bits": 3}, "2 planes of codes, but bits is 3"),
        (planes, {"codes": np.zeros((2, 1, 3), np.int8)}, "plane value 0: planes must hold -1"),
        (planes, {"codes": np.full((2, 1, 3), -128, np.int8)}, "plane value -128"),
        (planes, {"scales": np.ones((1, 2, 3), np.float16)}, "need (1, 2, 2)"),
        (ternary, {"bits": 1}, "bits must be 2 for ternary codes, not 1"),
        (ternary, {"codes": np.zeros((2, 3), np.uint8)}, "array of int8, not uint8"),
        (ternary, {"codes": np.full((2, 3), 2, np.int8)}, "ternary code 2: codes must be -1, 0"),
        (ternary, {"codes": np.full((2, 3), -128, np.int8)}, "ternary code -128"),
        (ternary, {"codes": np.zeros((1, 2, 3), np.int8)}, "axes [N, K], not the shape (1, 2, 3)"),
        (ternary, {"scales": np.ones((2, 2, 1), np.float16)}, "axes [2, 2], not the shape"),
    ],
)
def test_contradictions_are_refused(build, changes, text):
    with pytest.raises(LayerError, match=re.escape(text)) as caught:
        build(**changes)
    assert str(caught.value).startswith("Layer '")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["scales", "offsets", "bias"])
@pytest.mark.parametrize("build", [affine, ternary])
def test_values_that_are_not_finite_are_refused(build, field, value):
    array = np.ones(2 if field == "bias" else (2, 2), np.float32)
    array[(1,) * array.ndim] = value
    where = "[1]" if field == "bias" else "[1, 1]"
    with pytest.raises(LayerError, match=re.escape(f"{field}{where} is {value}")):
        build(**{field: array})


def test_error_is_both_a_user_error_and_a_value_error():
    assert issubclass(LayerError, LutcoreError) and issubclass(LayerError, ValueError)


def test_every_field_is_documented():
    assert QuantLayer.__doc__ is not None
    for field in fields(QuantLayer):
        assert f"    {field.name} : " in QuantLayer.__doc__
