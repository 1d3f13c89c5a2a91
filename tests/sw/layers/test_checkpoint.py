"""Checkpoint readers, with `gguf.dequantize` as the oracle of the GGUF ones."""

import re
from pathlib import Path

import gguf
import numpy as np
import pytest

from lutcore.sim.golden import MAX_SCALE_BITS, scale_range
from lutcore.sw.base.errors import CheckpointError, LayerError
from lutcore.sw.layers.checkpoint import list_tensors, read_layer
from lutcore.sw.layers.gguf_blocks import BLOCK_DECODERS

Q = gguf.GGMLQuantizationType

FLOAT16_FIELDS = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "TQ1_0": [52],
    "TQ2_0": [64],
}
"""Bytes of a block at which it holds a float16, by format."""

EXPECTED = {
    "Q4_0": ("affine", 4, 32, np.float16),
    "Q4_1": ("affine", 4, 32, np.float16),
    "Q5_0": ("affine", 5, 32, np.float16),
    "Q5_1": ("affine", 5, 32, np.float16),
    "Q8_0": ("affine", 8, 32, np.float16),
    "Q2_K": ("affine", 2, 16, np.float32),
    "Q3_K": ("affine", 3, 16, np.float32),
    "Q4_K": ("affine", 4, 32, np.float32),
    "Q5_K": ("affine", 5, 32, np.float32),
    "Q6_K": ("affine", 6, 16, np.float32),
    "TQ1_0": ("ternary", 2, 256, np.float16),
    "TQ2_0": ("ternary", 2, 256, np.float16),
}
"""Kind, bits, group size and scale type, by format."""


def random_blocks(form: str, n: int, blocks: int, seed: int) -> np.ndarray:
    """Blocks [n, bytes] of random bits, except that scales are in a checkpoint's usual range."""
    rng = np.random.default_rng(seed)
    _, size = gguf.GGML_QUANT_SIZES[Q[form]]
    data = rng.integers(0, 256, (n, blocks, size), dtype=np.uint8)
    if form == "TQ2_0":
        data[..., :64] = sum(rng.integers(0, 3, (n, blocks, 64)) << 2 * i for i in range(4))
    for at in FLOAT16_FIELDS[form]:
        scales = (rng.uniform(0.001, 1, (n, blocks)) * rng.choice([-1, 1], (n, blocks))).astype(
            "<f2"
        )
        data[..., at : at + 2] = scales.view(np.uint8).reshape(n, blocks, 2)
    return data.reshape(n, -1)


def write_gguf(
    path: Path, tensors: dict[str, tuple[np.ndarray, gguf.GGMLQuantizationType]]
) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.name", "made by a test")
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.5, 2.5])
    for name, (data, form) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def every_format(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A file with one tensor of every format that compiles, and the raw data."""
    data = {
        form: random_blocks(form, 5, 512 // gguf.GGML_QUANT_SIZES[Q[form]][0], seed)
        for seed, form in enumerate(EXPECTED)
    }
    path = tmp_path_factory.mktemp("gguf") / "every.gguf"
    return write_gguf(path, {form: (raw, Q[form]) for form, raw in data.items()}), data


def test_every_decoder_is_tested():
    assert set(BLOCK_DECODERS) == set(EXPECTED) == set(FLOAT16_FIELDS)


@pytest.mark.parametrize("form", EXPECTED)
def test_decoded_equals_the_reference(every_format, form):
    path, data = every_format
    layer = read_layer(path, form)
    assert (layer.kind, layer.bits, layer.group_size, layer.scales.dtype) == EXPECTED[form]
    assert (layer.n, layer.k, layer.checkpoint_bytes) == (5, 512, data[form].nbytes)
    # The oracle forms code * scale exactly and rounds the sum with the minimum once, to float32.
    oracle = gguf.dequantize(data[form], Q[form])
    assert np.array_equal(layer.dequantise().astype(np.float32), oracle)
    assert scale_range(layer)[1] <= MAX_SCALE_BITS


@pytest.mark.parametrize("form", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0"])
def test_quantised_by_the_library(tmp_path, form):
    weights = np.random.default_rng(7).normal(size=(6, 256)).astype(np.float32)
    raw = gguf.quantize(weights, Q[form])
    layer = read_layer(write_gguf(tmp_path / "one.gguf", {"w": (raw, Q[form])}))
    assert layer.name == "w"
    assert np.array_equal(layer.dequantise().astype(np.float32), gguf.dequantize(raw, Q[form]))


def test_bad_ternary_code_is_refused(tmp_path):
    raw = random_blocks("TQ2_0", 1, 1, 3)
    raw[0, 5] = 0xFF
    path = write_gguf(tmp_path / "t.gguf", {"w": (raw, Q.TQ2_0)})
    with pytest.raises(CheckpointError, match="w: a ternary code is 3"):
        read_layer(path)


def test_scale_that_is_nan_is_refused(tmp_path):
    raw = random_blocks("Q4_0", 1, 1, 3)
    raw[0, :2] = np.array([np.nan], "<f2").view(np.uint8)
    path = write_gguf(tmp_path / "t.gguf", {"w": (raw, Q.Q4_0)})
    with pytest.raises(LayerError, match=r"'w': scales\[0, 0\] is nan"):
        read_layer(path)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """A file with tensors that compile and tensors that do not."""
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(4, 256)).astype(np.float32)
    sizes = gguf.GGML_QUANT_SIZES
    bytes_of = {form: np.zeros((4, 256 // sizes[form][0] * sizes[form][1]), np.uint8) for form in Q}
    tensors = {
        "norm": (matrix[0], Q.F32),
        "plain": (matrix, Q.F32),
        "half": (matrix.astype(np.float16), Q.F16),
        "experts": (gguf.quantize(np.stack([matrix, matrix]), Q.Q4_0), Q.Q4_0),
        "lattice": (bytes_of[Q.IQ2_XS], Q.IQ2_XS),
        "micro": (bytes_of[Q.MXFP4], Q.MXFP4),
        "eight": (bytes_of[Q.Q8_K], Q.Q8_K),
        "blk.0.up": (gguf.quantize(matrix, Q.Q4_1), Q.Q4_1),
        "blk.1.up": (gguf.quantize(matrix, Q.Q4_1), Q.Q4_1),
    }
    return write_gguf(tmp_path_factory.mktemp("gguf") / "mixed.gguf", tensors)


def test_listing(mixed):
    listed = {tensor.name: tensor for tensor in list_tensors(mixed)}
    assert [name for name, tensor in listed.items() if tensor.compiles] == ["blk.0.up", "blk.1.up"]
    assert (listed["blk.0.up"].format, listed["blk.0.up"].shape) == ("Q4_1", (4, 256))
    assert listed["experts"].shape == (2, 4, 256)
    for name, text in {
        "norm": "a vector",
        "plain": "not quantised: requantise it, e.g. to Q4_1",
        "half": "not quantised",
        "experts": "split it into matrices",
        "lattice": "table of uneven values: requantise",
        "micro": "floating-point numbers: requantise",
        "eight": "no reader for Q8_K: requantise it to one of Q4_0",
        "blk.0.up": "",
    }.items():
        assert text in listed[name].reason
        assert bool(listed[name].reason) != listed[name].compiles


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain", "plain (F32 [4, 256]) does not compile: not quantised"),
        ("blk.0.pu", "no layer 'blk.0.pu': did you mean blk.0.up"),
        ("#", "no layer '#': did you mean norm or plain or half?"),
        (None, "holds 2 layers that compile: name one, e.g. blk.0.up"),
    ],
)
def test_layer_that_cannot_be_read(mixed, name, text):
    with pytest.raises(CheckpointError, match=re.escape(text)):
        read_layer(mixed, name)


def test_every_truncation_is_refused(mixed, tmp_path):
    whole = mixed.read_bytes()
    short = tmp_path / "short.gguf"
    for size in [0, 3, 4, 11, 24, 30, *range(40, len(whole) - 1, 97), len(whole) - 32]:
        short.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"damaged or no GGUF file.*fetch it again"):
            list_tensors(short)


def test_huge_lengths_end_quickly(mixed, tmp_path):
    whole = bytearray(mixed.read_bytes())
    at = whole.index(b"tokenizer.ggml.scores") + len("tokenizer.ggml.scores") + 8
    assert whole[at : at + 8] == (3).to_bytes(8, "little")
    whole[at : at + 8] = (2**60).to_bytes(8, "little")
    path = tmp_path / "huge.gguf"
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="ends at byte"):
        list_tensors(path)


def test_random_damage_never_escapes(mixed, tmp_path):
    rng = np.random.default_rng(11)
    whole = np.frombuffer(mixed.read_bytes(), np.uint8)
    path = tmp_path / "damaged.gguf"
    for _ in range(200):
        damaged = whole.copy()
        damaged[rng.integers(0, 700, 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            for tensor in list_tensors(path):
                if tensor.compiles:
                    read_layer(path, tensor.name)
        except (CheckpointError, LayerError) as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("suffix", [".gguf", ".npz"])
def test_missing_file(tmp_path, suffix):
    with pytest.raises(CheckpointError, match=r"Cannot read .*none.*No such file"):
        read_layer(tmp_path / f"none{suffix}")


@pytest.mark.parametrize("name", ["model.safetensors", "model"])
def test_unknown_suffix(tmp_path, name):
    with pytest.raises(CheckpointError, match=r"a checkpoint is a \.gguf or \.npz file"):
        list_tensors(tmp_path / name)


AFFINE = {
    "codes": np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8),
    "bits": np.array(2),
    "scales": np.array([[1, 2], [3, 4]], np.float16),
}
TERNARY = {
    "trits": np.array([[0, 1, -1, 1, 0], [1, 1, 0, 0, -1]], np.int8),
    "scales": np.array([[2], [4]], np.float16),
}
PLANES = {
    "planes": np.array([[[1, -1, 1]], [[-1, -1, 1]], [[1, 1, 1]]], np.int8),
    "plane_scales": np.array([[[1, 2, 4]]], np.float32),
}


def npz(tmp_path: Path, arrays: dict, name: str = "some_layer.npz") -> Path:
    path = tmp_path / name
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_npz_affine(tmp_path):
    layer = read_layer(npz(tmp_path, AFFINE))
    assert (layer.name, layer.kind, layer.bits, layer.group_size) == ("some_layer", "affine", 2, 2)
    assert layer.checkpoint_bytes == 2 + 8
    assert layer.dequantise().tolist() == [[-2, -1, 0, 2], [3, 0, -4, -8]]

    extra = {"offsets": np.ones((2, 2), np.float32), "bias": np.array([5, 6], np.float32)}
    layer = read_layer(npz(tmp_path, AFFINE | extra), "some_layer")
    assert layer.checkpoint_bytes == 2 + 8 + 16
    assert layer.dequantise().tolist() == [[1, 2, 5, 7], [10, 7, 5, 1]]
    assert layer.bias is not None and layer.bias.tolist() == [5, 6]


def test_npz_planes(tmp_path):
    layer = read_layer(npz(tmp_path, PLANES))
    assert (layer.kind, layer.bits, layer.group_size, layer.offsets) == ("planes", 3, 3, None)
    assert layer.checkpoint_bytes == 2 + 12
    assert layer.dequantise().tolist() == [[3, 1, 7]]


def test_npz_ternary(tmp_path):
    layer = read_layer(npz(tmp_path, TERNARY))
    assert (layer.kind, layer.bits, layer.group_size, layer.offsets) == ("ternary", 2, 5, None)
    assert layer.checkpoint_bytes == 2 + 4  # five trits a byte
    assert layer.dequantise().tolist() == [[0, 2, -2, 2, 0], [4, 4, 0, 0, -4]]


def test_npz_with_a_short_last_group(tmp_path):
    layer = read_layer(npz(tmp_path, AFFINE | {"group_size": np.array([3])}))
    assert (layer.group_size, layer.groups) == (3, 2)
    assert layer.dequantise()[0].tolist() == [-2, -1, 0, 2]


def test_npz_of_another_byte_order(tmp_path):
    layer = read_layer(npz(tmp_path, AFFINE | {"scales": AFFINE["scales"].astype(">f2")}))
    assert layer.scales.tolist() == [[1, 2], [3, 4]]


def test_npz_listing(tmp_path):
    (tensor,) = list_tensors(npz(tmp_path, AFFINE))
    assert (tensor.name, tensor.shape, tensor.compiles) == ("some_layer", (2, 4), True)
    assert tensor.format == "npz affine 2-bit, groups of 2"
    (tensor,) = list_tensors(npz(tmp_path, AFFINE | {"bits": np.array(1)}))
    assert not tensor.compiles and "does not fit in 1 bits" in tensor.reason


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        (AFFINE | {"scale": np.ones(1)}, "unknown key 'scale' (did you mean 'scales'?)"),
        (AFFINE | {"planes": PLANES["planes"]}, "unknown key 'codes'"),
        (TERNARY | {"bits": np.array(2)}, "a layer of trits has the keys trits, scales, offsets"),
        ({"trits": TERNARY["trits"]}, "the key 'scales' is missing"),
        (TERNARY | {"trits": TERNARY["trits"] * np.int8(2)}, "ternary code 2"),
        (PLANES | {"bits": np.array(3)}, "a layer of planes has the keys planes, plane_scales"),
        (AFFINE | {"bits": None}, "the key 'bits' is missing"),
        ({"bits": np.array(2)}, "the key 'codes' is missing"),
        ({"planes": PLANES["planes"]}, "the key 'plane_scales' is missing"),
        (AFFINE | {"bits": np.array(2.0)}, "bits must be one integer, not float64"),
        (AFFINE | {"group_size": np.array([2, 2])}, "group_size must be one integer"),
        (AFFINE | {"group_size": np.array(-1)}, "group_size must be an integer of 1 to 4, not -1"),
        (AFFINE | {"scales": np.ones((2, 3), np.float16)}, "group_size must be given"),
        (AFFINE | {"scales": np.ones((3, 2), np.float16)}, "scales have the shape (3, 2)"),
        (AFFINE | {"scales": np.ones((2, 0), np.float16)}, "group_size must be given"),
        (AFFINE | {"scales": np.ones(2, np.float16)}, "must have 2 axes each"),
        (AFFINE | {"codes": np.uint8(0)}, "must have 2 axes each"),
        (AFFINE | {"codes": AFFINE["codes"].astype(np.int32)}, "array of uint8, not int32"),
        (AFFINE | {"offsets": np.ones((2, 1), np.float16)}, "offsets have the shape (2, 1)"),
        (AFFINE | {"group_size": np.array(4)}, "in groups of 4 need (2, 1)"),
        (PLANES | {"planes": np.ones((9, 1, 3), np.int8)}, "bits must be an integer of 1 to 8"),
    ],
)
def test_npz_refusals(tmp_path, arrays, text):
    path = npz(tmp_path, arrays)
    with pytest.raises((CheckpointError, LayerError), match=re.escape(text)):
        read_layer(path)


def test_npz_of_another_name(tmp_path):
    path = npz(tmp_path, AFFINE)
    with pytest.raises(CheckpointError, match="no layer 'other': did you mean some_layer"):
        read_layer(path, "other")


def test_pickles_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    path = tmp_path / "trap.npz"
    np.savez(path, **AFFINE, bias=np.array([Trap()], object))
    with pytest.raises(CheckpointError, match=r"not a whole \.npz archive of plain arrays"):
        read_layer(path)


def test_damaged_npz(tmp_path):
    path = npz(tmp_path, AFFINE)
    whole = path.read_bytes()
    for size in (0, 10, 200, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"not a whole \.npz archive"):
            read_layer(path)
    flipped = bytearray(whole)
    flipped[whole.index(AFFINE["codes"].tobytes())] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(CheckpointError, match="Bad CRC-32"):
        read_layer(path)


def test_npy_under_the_name_of_an_npz(tmp_path):
    path = tmp_path / "x.npz"
    with path.open("wb") as file:
        np.save(file, AFFINE["codes"])
    with pytest.raises(CheckpointError, match=r"is one array: .*numpy\.savez"):
        read_layer(path)
