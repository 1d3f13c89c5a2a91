"""The packer against the image format of docs/architecture.md, written down again bit by bit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.config import CoreConfig, ceil_div
from lutcore.hw.float32 import row_scale_encode
from lutcore.sw.blocks import BlockFormat
from lutcore.sw.errors import LayerError
from lutcore.sw.layer import QuantLayer
from lutcore.sw.pack import encode_scales, pack_activations, pack_weights
from lutcore.sw.tiling import Tiling, plan_tiling
from lutcore.verif.strategies import activations, configs, layers


class Bits:
    """A string of bits, lowest first."""

    def __init__(self) -> None:
        self.value, self.length = 0, 0

    def put(self, value: int, width: int) -> None:
        assert 0 <= value < 1 << width
        self.value |= value << self.length
        self.length += width

    def pad(self, unit: int) -> None:
        self.length = ceil_div(self.length, unit) * unit

    def to_bytes(self) -> bytes:
        return self.value.to_bytes(self.length // 8, "little")


def plan(layer: QuantLayer, config: CoreConfig) -> Tiling:
    form = BlockFormat(
        config,
        planes=layer.bits,
        per_plane=layer.kind == "planes",
        offset=layer.offsets is not None,
        wide=encode_scales(layer).wide,
        group_size=layer.group_size,
    )
    return plan_tiling(form, layer.n, layer.k)


def steps_of(start: int, stop: int, group_size: int, step: int) -> list[list[int]]:
    """The columns of each step of a block that begins at a group or within one."""
    steps: list[list[int]] = []
    for column in range(start, stop):
        place = column - max(start, column // group_size * group_size)
        if place % step == 0:
            steps.append([])
        steps[-1].append(column)
    return steps


def reference_weights(layer: QuantLayer, tiling: Tiling) -> bytes:
    config = tiling.format.config
    encoded = encode_scales(layer)
    lanes, top = config.lanes, config.group - 1

    def bit(plane: int, channel: int, column: int) -> int:
        if channel >= layer.n:
            return 0
        if layer.kind == "planes":
            return int(layer.codes[plane, channel, column] > 0)
        return int(layer.codes[channel, column]) >> plane & 1

    planes = range(layer.bits) if layer.kind == "planes" else reversed(range(layer.bits))
    planes = list(planes)
    image = Bits()
    for first, last in tiling.tile_blocks():
        for start, stop in tiling.k_blocks():
            if layer.bias is not None and start == 0:
                for channel in range(first * lanes, last * lanes):
                    value = layer.bias[channel] if channel < layer.n else np.float32(0)
                    image.put(int(value.view(np.uint32)), 32)
                image.pad(config.bus_width)
            if start % layer.group_size == 0:
                for group in range(start // layer.group_size, ceil_div(stop, layer.group_size)):
                    for tile in range(first, last):
                        put_scales(image, encoded.words[group], layer, config, tile)
                image.pad(config.bus_width)
            for columns in steps_of(start, stop, layer.group_size, config.step):
                for tile in range(first, last):
                    for plane in planes:
                        for place, column in enumerate(columns):
                            table, digit = place % config.depth, place // config.depth
                            sign = top * config.depth + table
                            for lane in range(lanes):
                                value = bit(plane, tile * lanes + lane, column)
                                if config.symmetric and digit < top and sign < len(columns):
                                    value ^= bit(plane, tile * lanes + lane, columns[sign])
                                image.put(value, 1)
            image.pad(config.bus_width)
    return image.to_bytes()


def put_scales(
    image: Bits, words: np.ndarray, layer: QuantLayer, config: CoreConfig, tile: int
) -> None:
    entries = layer.bits if layer.kind == "planes" else 1
    for entry in range(entries):
        terms = [entry]
        if entry == entries - 1 and layer.offsets is not None:
            terms.append(entries)
        for chunk in range(config.chunks):
            for term in terms:
                for part in range(words.shape[-1]):
                    for lane in range(config.scale_lanes):
                        channel = tile * config.lanes + chunk * config.scale_lanes + lane
                        value = words[channel, term, part] if channel < layer.n else 0
                        image.put(int(value), 16)


def reference_activations(q: np.ndarray, scale: np.ndarray, tiling: Tiling) -> bytes:
    config = tiling.format.config
    width, word_bits = config.activation_bits, config.x_word_bits
    codes = row_scale_encode(scale)
    image = Bits()
    for first in range(0, len(q), config.rows):
        for start, stop in tiling.k_blocks():
            for row in range(first, first + config.rows):
                image.put(int(codes[row]) if row < len(q) else 0, 32)
            image.pad(word_bits)
            for columns in steps_of(start, stop, tiling.format.group_size, config.step):
                for digit in range(config.group):
                    for row in range(first, first + config.rows):
                        for table in range(config.depth):
                            place = digit * config.depth + table
                            value = 0
                            if place < len(columns) and row < len(q):
                                value = int(q[row, columns[place]]) % (1 << width)
                            image.put(value, width)
                    image.pad(word_bits)
            image.pad(max(config.bus_width, word_bits))
    return image.to_bytes()


@settings(max_examples=40, deadline=None, print_blob=True)
@given(st.data())
def test_images_are_as_the_format_says(data: st.DataObject) -> None:
    config = data.draw(configs())
    layer = data.draw(layers(config.planes))
    tiling = plan(layer, config)
    image = pack_weights(layer, encode_scales(layer), tiling)
    assert image == reference_weights(layer, tiling)
    assert len(image) == tiling.image_bytes(bias=layer.bias is not None)
    q, scale = data.draw(activations(config, layer.k))
    assert pack_activations(q, scale, tiling) == reference_activations(q, scale, tiling)


def scale_layer(scales: np.ndarray, offsets: np.ndarray | None = None) -> QuantLayer:
    n = len(scales)
    return QuantLayer(
        name="scales",
        kind="affine",
        bits=1,
        codes=np.zeros((n, 1), np.uint8),
        group_size=1,
        scales=scales[:, None],
        offsets=None if offsets is None else offsets[:, None],
        bias=None,
        checkpoint_bytes=1,
    )


def decoded(layer: QuantLayer) -> list[Fraction]:
    """The values that the encoded words stand for, by the format's own words."""
    encoded = encode_scales(layer)
    unit = Fraction(2) ** encoded.exponent
    values = []
    for words in encoded.words.reshape(-1, encoded.words.shape[-1]).tolist():
        if encoded.wide:
            high, low = words
            assert high >> 13 & 3 == 0
            shift = high >> 8 & 31
            assert shift <= 16
            magnitude = ((high & 0xFF) << 16 | low) << shift
            values.append((-1 if high >> 15 else 1) * magnitude * unit)
        else:
            values.append(Fraction(float(np.array(words, np.uint16).view(np.float16)[0])))
    return values


def exact(values: np.ndarray) -> list[Fraction]:
    return [Fraction(float(value)) for value in values]


def test_all_float16_stay_float16() -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values)]
    for dtype in (np.float16, np.float32):
        layer = scale_layer(values.astype(dtype))
        encoded = encode_scales(layer)
        assert (encoded.wide, encoded.exponent) == (False, -24)
        assert decoded(layer) == exact(values)


def test_minus_zero_becomes_zero() -> None:
    layer = scale_layer(np.array([-0.0, 1.0], np.float16), np.array([-0.0, 0.0], np.float32))
    assert encode_scales(layer).words.ravel().tolist() == [0, 0, 0x3C00, 0]
    wide = encode_scales(scale_layer(np.array([-0.0, 1 + 2.0**-20], np.float32)))
    assert wide.words.reshape(2, 2)[0].tolist() == [0, 0]


@given(st.integers(-149, 87), st.lists(st.integers(-(2**24) + 1, 2**24 - 1), min_size=1), st.data())
def test_wide_scales_are_exact(low: int, integers: list[int], data: st.DataObject) -> None:
    shifts = data.draw(st.lists(st.integers(0, 16), min_size=len(integers), max_size=len(integers)))
    values = [np.ldexp(float(i), s + low) for i, s in zip(integers, shifts, strict=True)]
    layer = scale_layer(np.array(values).astype(np.float32))
    assert decoded(layer) == exact(layer.scales[:, 0])


def test_scales_out_of_range_are_refused() -> None:
    good = np.ldexp(np.array([1.0, 2.0**39]), -60).astype(np.float32)
    assert decoded(scale_layer(good)) == exact(good)
    bad = np.ldexp(np.array([1.0, 2.0**40]), -60).astype(np.float32)
    with pytest.raises(LayerError, match=r"'scales'.*2\*\*-60 to 2\*\*-19, 41 bits.*float16"):
        encode_scales(scale_layer(bad))
