"""Layers and golden model against ONNX Runtime's `MatMulNBits`, an independent implementation."""

import numpy as np
import onnxruntime as ort
import pytest

from lutcore.sim.golden import golden, reference
from lutcore.sw.layers.activations import quantise
from lutcore.sw.layers.layer import QuantLayer

FLOAT, UINT8 = 1, 2
"""Element types of ONNX tensors."""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A protobuf message of varints and length-delimited fields: all that a model needs."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def _tensor(name: str, array: np.ndarray) -> bytes:
    kind = UINT8 if array.dtype == np.uint8 else FLOAT
    dims = [(1, size) for size in array.shape]
    return _message(*dims, (2, kind), (8, name), (9, array.tobytes()))


def _matrix(name: str, *shape: int) -> bytes:
    dims = _message(*((1, _message((1, size))) for size in shape))
    return _message((1, name), (2, _message((1, _message((1, FLOAT), (2, dims))))))


def matmul_nbits(
    x: np.ndarray,
    codes: np.ndarray,
    bits: int,
    block: int,
    scales: np.ndarray,
    zeros: np.ndarray | None,
) -> np.ndarray:
    """``x @ ((codes - zeros) * scales).T`` by ONNX Runtime, in float32."""

    def pack(values: np.ndarray) -> np.ndarray:
        per_byte = 8 // bits
        lanes = values.reshape(*values.shape[:-1], -1, per_byte).astype(np.uint8)
        shifts = np.arange(per_byte, dtype=np.uint8) * bits
        return np.bitwise_or.reduce(lanes << shifts, axis=-1)

    n, k = codes.shape
    groups = -(-k // block)
    padded = np.zeros((n, groups * block), np.uint8)
    padded[:, :k] = codes
    initializers = [
        _tensor("B", pack(padded.reshape(n, groups, block))),
        _tensor("scales", scales.astype(np.float32)),
    ]
    inputs = ["A", "B", "scales"]
    if zeros is not None:
        padding = -groups % (8 // bits)
        initializers.append(_tensor("zeros", pack(np.pad(zeros, ((0, 0), (0, padding))))))
        inputs.append("zeros")
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block, "accuracy_level": 1}
    node = _message(
        *((1, name) for name in inputs),
        (2, "Y"),
        (4, "MatMulNBits"),
        *((5, _message((1, name), (3, value), (20, 2))) for name, value in attributes.items()),
        (7, "com.microsoft"),
    )
    graph = _message(
        (1, node),
        (2, "graph"),
        *((5, tensor) for tensor in initializers),
        (11, _matrix("A", *x.shape)),
        (12, _matrix("Y", len(x), n)),
    )
    opsets = [_message((1, ""), (2, 21)), _message((1, "com.microsoft"), (2, 1))]
    model = _message((1, 10), (7, graph), *((8, opset) for opset in opsets))
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"A": x})
    return np.asarray(y)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("block", [16, 32, 128])
@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("k", [256, 200])
def test_golden_agrees(bits, block, asymmetric, k):
    rng = np.random.default_rng([bits, block, asymmetric, k])
    n, rows = 24, 3
    groups = -(-k // block)
    codes = rng.integers(0, 2**bits, (n, k), dtype=np.uint8)
    scales = rng.uniform(0.01, 0.1, (n, groups)).astype(np.float16)
    zeros = rng.integers(0, 2**bits, (n, groups), dtype=np.uint8) if asymmetric else None
    # A float16 times an 8-bit integer is exact in float32.
    offsets = None if zeros is None else -zeros.astype(np.float32) * scales.astype(np.float32)
    layer = QuantLayer("onnx", "affine", bits, codes, block, scales, offsets, None, 1)

    x = rng.normal(size=(rows, k)).astype(np.float32)
    q, row_scale = quantise(x, 16)
    x_seen = q.astype(np.float32) * row_scale[:, None]
    oracle = matmul_nbits(x_seen, codes, bits, block, scales, zeros)
    # Error bound of a float32 sum, relative to the sum of magnitudes.
    magnitude = np.abs(x_seen) @ np.abs(layer.dequantise()).T
    for ours in (golden(layer, q, row_scale), reference(layer, q, row_scale)):
        assert (np.abs(ours - oracle) <= 2.0**-20 * magnitude).all()
