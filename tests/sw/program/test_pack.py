"""The packer against the image format of docs/architecture.md, written down again bit by bit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.contract.float32 import row_scale_encode
from lutcore.hw.contract.ternary import index_of
from lutcore.sw.base.errors import LayerError
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.blocks import BlockFormat
from lutcore.sw.program.compile import as_binary
from lutcore.sw.program.pack import encode_scales, pack_activations, pack_weights
from lutcore.sw.program.tiling import Tiling, plan_tiling
from lutcore.verif.kit.strategies import cases, configs


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
    form = BlockFormat.for_layer(
        config,
        kind=layer.kind,
        bits=layer.bits,
        offset=layer.offsets is not None,
        wide=encode_scales(layer).wide,
        group_size=layer.group_size,
    )
    return plan_tiling(form, layer.n, layer.k, layer.group_size)


def steps_of(start: int, stop: int, tiling: Tiling) -> list[list[int]]:
    """The places of each step of a block that begins at a group or within one."""
    group_size, steps = tiling.format.group_size, []
    for place in range(start, stop):
        within = place - max(start, place // group_size * group_size)
        if within % tiling.format.config.step == 0:
            steps.append([])
        steps[-1].append(place)
    return steps


def table_columns(place: int, tiling: Tiling) -> list[int | None]:
    """The three columns of the ternary table that a place belongs to; None past the group's end."""
    group, within = divmod(place, tiling.format.group_size)
    first = group * tiling.group_columns
    end = min(first + tiling.group_columns, tiling.k)
    columns = [first + within // 5 * 3 + trit for trit in range(3)]
    return [column if column < end else None for column in columns]


def reference_weights(layer: QuantLayer, tiling: Tiling) -> bytes:
    config = tiling.format.config
    encoded = encode_scales(layer)
    lanes = config.lanes

    def bit(plane: int, channel: int, place: int) -> int:
        if channel >= layer.n:
            return 0
        if layer.kind == "planes":
            return int(layer.codes[plane, channel, place] > 0)
        if layer.kind == "affine":
            return int(layer.codes[channel, place]) >> plane & 1
        columns = table_columns(place, tiling)
        entry, sign = index_of()[
            tuple(0 if c is None else int(layer.codes[channel, c]) for c in columns)
        ]
        return (entry | sign << 4) >> place % tiling.format.group_size % 5 & 1

    planes = list(range(tiling.format.planes))
    if layer.kind == "affine":
        planes.reverse()
    group_size = tiling.format.group_size
    image = Bits()
    for first, last in tiling.tile_blocks():
        for start, stop in tiling.k_blocks():
            if layer.bias is not None and start == 0:
                for channel in range(first * lanes, last * lanes):
                    value = layer.bias[channel] if channel < layer.n else np.float32(0)
                    image.put(int(value.view(np.uint32)), 32)
                image.pad(config.bus_width)
            if start % group_size == 0:
                for group in range(start // group_size, ceil_div(stop, group_size)):
                    for tile in range(first, last):
                        put_scales(image, encoded.words[group], layer, config, tile)
                image.pad(config.bus_width)
            for places in steps_of(start, stop, tiling):
                for tile in range(first, last):
                    for plane in planes:
                        channels = range(tile * lanes, (tile + 1) * lanes)
                        stored = [
                            stored_bits([bit(plane, channel, p) for p in places], tiling)
                            for channel in channels
                        ]
                        for column in zip(*stored, strict=True):
                            for value in column:
                                image.put(value, 1)
            image.pad(config.bus_width)
    return image.to_bytes()


def stored_bits(bits: list[int], tiling: Tiling) -> list[int]:
    """What the image holds of the bits of one step, plane and channel."""
    config = tiling.format.config
    if not config.symmetric:
        return bits
    stored, signs = [], []
    for table, start in enumerate(range(0, len(bits), config.group)):
        index = bits[start : start + config.group]
        parent = signs[table & table - 1] if table and config.halved else 0
        whole = len(index) == config.group
        signs.append(index[-1] if whole else parent)
        inner = index[:-1] if whole else index
        stored += inner if tiling.format.ternary else [bit ^ signs[table] for bit in inner]
        stored += [signs[table] ^ parent] if whole else []
    return stored


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
            for places in steps_of(start, stop, tiling):
                columns: list[int | None] = [*places]
                if tiling.format.ternary:
                    columns = [c for place in places[::5] for c in table_columns(place, tiling)]
                size = 3 if tiling.format.ternary else config.group
                columns += [None] * (config.depth * size - len(columns))
                for digit in range(size):
                    for row in range(first, first + config.rows):
                        for column in columns[digit::size]:
                            value = 0
                            if column is not None and row < len(q):
                                value = int(q[row, column]) % (1 << width)
                            image.put(value, width)
                    image.pad(word_bits)
            image.pad(max(config.bus_width, word_bits))
    return image.to_bytes()


@settings(max_examples=40, deadline=None, print_blob=True)
@given(st.data())
def test_images_are_as_the_format_says(data: st.DataObject) -> None:
    config = data.draw(configs())
    case = data.draw(cases(config))
    layer = case.layer
    if layer.kind == "ternary" and not config.ternary:
        layer = as_binary(layer)
    tiling = plan(layer, config)
    image = pack_weights(layer, encode_scales(layer), tiling)
    assert image == reference_weights(layer, tiling)
    assert len(image) == tiling.image_bytes(bias=layer.bias is not None)
    image = pack_activations(case.q, case.scale, tiling)
    assert image == reference_activations(case.q, case.scale, tiling)


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
