"""Blocks, image sizes, instruction counts and refusals of the compiler."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import PRESETS, CoreConfig, ceil_div
from lutcore.hw.contract.isa import Opcode, decode
from lutcore.sw.base.errors import LayerError
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.blocks import BlockFormat, x_memory_words
from lutcore.sw.program.compile import CompileError, as_binary, compile_layer
from lutcore.sw.program.tiling import Tiling, plan_tiling
from lutcore.verif.kit.strategies import cases, configs


def plan_ternary(config: CoreConfig, n: int, k: int, group_size: int, *, offset: bool) -> Tiling:
    form = BlockFormat.for_layer(
        config, kind="ternary", bits=2, offset=offset, wide=False, group_size=group_size
    )
    return plan_tiling(form, n, k, group_size)


def plan(config: CoreConfig, n: int, k: int, bits: int, group_size: int, **kind: bool) -> Tiling:
    values = {"per_plane": False, "offset": True, "wide": False, **kind}
    form = BlockFormat(config, planes=bits, group_size=group_size, **values)
    return plan_tiling(form, n, k, group_size)


cores = st.builds(
    CoreConfig,
    rows=st.integers(1, 16),
    lanes=st.integers(1, 16).map(lambda x: 8 * x),
    group=st.integers(2, 6),
    depth=st.integers(1, 32),
    bus_width=st.integers(5, 9).map(lambda x: 2**x),
    activation=st.sampled_from(["int8", "int16"]),
    table_form=st.sampled_from(["symmetric", "full"]),
)
ternary_cores = st.builds(
    CoreConfig,
    rows=st.integers(1, 16),
    lanes=st.integers(1, 16).map(lambda x: 8 * x),
    group=st.just(5),
    depth=st.integers(1, 32),
    bus_width=st.integers(5, 9).map(lambda x: 2**x),
    planes=st.integers(1, 8),
    ternary=st.just(True),
)
shapes = st.integers(1, 65_536)


def check_blocks(tiling: Tiling) -> None:
    """Everything that the core's operand limits demand, and that blocks make up the layer."""
    form, config = tiling.format, tiling.format.config
    tiles = list(tiling.tile_blocks())
    blocks = list(tiling.k_blocks())
    assert [start for start, _ in tiles] == [0, *(stop for _, stop in tiles[:-1])]
    assert [start for start, _ in blocks] == [0, *(stop for _, stop in blocks[:-1])]
    assert (tiles[-1][1], blocks[-1][1]) == (tiling.total_tiles, tiling.places)
    assert tiling.tiles * form.entries <= config.tiles
    assert tiling.tiles * config.tile_sums <= config.sum_words
    for start, size in {(start % form.group_size, stop - start) for start, stop in blocks}:
        assert start % config.step == 0
        assert start == 0 or start + size <= form.group_size
        assert min(form.group_size, size) <= config.run
        assert form.weight_words(tiling.tiles, size) <= config.weight_words
        assert form.scale_lines(tiling.tiles, size) <= config.scale_words
        assert x_memory_words(config, form.x_words(size)) <= config.x_slot_words


@settings(max_examples=150, deadline=None, print_blob=True)
@given(cores, shapes, shapes, st.integers(1, 8), st.data())
def test_blocks_fit_any_core(config: CoreConfig, n: int, k: int, bits: int, data: Any) -> None:
    group_size = data.draw(st.sampled_from([g for g in (8, 24, 32, 40, 128, k) if g <= k]))
    flags = {name: data.draw(st.booleans()) for name in ("per_plane", "offset", "wide")}
    check_blocks(plan(config, n, k, bits, group_size, **flags))


@settings(max_examples=100, deadline=None, print_blob=True)
@given(st.data())
def test_blocks_fit_the_smallest_buffers(data: st.DataObject) -> None:
    config = data.draw(configs())
    k = data.draw(st.integers(1, 5000))
    group_size = data.draw(st.integers(1, k))
    bits = data.draw(st.integers(1, config.planes))
    flags = {name: data.draw(st.booleans()) for name in ("per_plane", "offset", "wide")}
    check_blocks(plan(config, data.draw(st.integers(1, 300)), k, bits, group_size, **flags))


@settings(max_examples=100, deadline=None, print_blob=True)
@given(ternary_cores, shapes, shapes, st.booleans(), st.data())
def test_ternary_blocks_fit_any_core(
    config: CoreConfig, n: int, k: int, offset: bool, data: Any
) -> None:
    group_size = data.draw(st.sampled_from([g for g in (1, 8, 32, 40, 256, k) if g <= k]))
    check_blocks(plan_ternary(config, n, k, group_size, offset=offset))


@settings(max_examples=100, deadline=None, print_blob=True)
@given(configs(ternary=True), st.integers(1, 300), st.integers(1, 5000), st.booleans(), st.data())
def test_ternary_blocks_fit_the_smallest_buffers(
    config: CoreConfig, n: int, k: int, offset: bool, data: Any
) -> None:
    check_blocks(plan_ternary(config, n, k, data.draw(st.integers(1, k)), offset=offset))


@settings(max_examples=150, deadline=None, print_blob=True)
@given(
    cores,
    st.sampled_from([192, 576, 1536, 4096, 49_152]),
    st.sampled_from([512, 576, 1000, 1536, 4096, 14_336]),
    st.integers(1, 8),
    st.sampled_from([16, 32, 40, 128, None]),
    st.booleans(),
    st.booleans(),
)
def test_image_is_at_most_2_percent_above_the_checkpoint(
    config: CoreConfig,
    n: int,
    k: int,
    bits: int,
    group_size: int | None,
    per_plane: bool,
    offset: bool,
) -> None:
    group_size = group_size or k
    tiling = plan(config, n, k, bits, group_size, per_plane=per_plane, offset=offset)
    padded = tiling.total_tiles * config.lanes
    scales = padded * ceil_div(k, group_size) * ((bits if per_plane else 1) + offset)
    checkpoint = padded * k * bits / 8 + 2 * scales
    assert tiling.image_bytes(bias=False) <= 1.02 * checkpoint


@settings(max_examples=100, deadline=None, print_blob=True)
@given(
    ternary_cores,
    st.sampled_from([192, 576, 1536, 4096, 49_152]),
    st.sampled_from([512, 1536, 4096, 14_336]),
    st.sampled_from([(32, 1.72), (256, 1.68), (512, 1.68), (None, 1.68)]),
    st.booleans(),
)
def test_ternary_image_is_small(
    config: CoreConfig, n: int, k: int, group: tuple[int | None, float], offset: bool
) -> None:
    group_size, code_bits = group
    tiling = plan_ternary(config, n, k, group_size or k, offset=offset)
    channels = tiling.total_tiles * config.lanes
    groups = ceil_div(k, group_size or k)
    codes = tiling.format.code_bytes(tiling.total_tiles, tiling.places)
    assert 8 * codes <= code_bits * channels * k
    scales = 2 * channels * groups * (1 + offset)
    assert tiling.image_bytes(bias=False) < 1.02 * (codes + scales)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_table_fill_is_hidden(preset: str) -> None:
    config = PRESETS[preset]
    for n in (192, 576, 1536, 4096):
        tiling = plan(config, n, 576, 4, 32)
        assert tiling.tiles * 4 >= config.entries + 2
        assert tiling.step_fill == 1


def test_short_groups_leave_steps_unfilled() -> None:
    config = CoreConfig(group=5, depth=4)
    assert plan(config, 64, 512, 4, 32).step_fill == pytest.approx(32 / 40)
    assert plan(config, 64, 512, 4, 8).step_fill == pytest.approx(8 / 20)


def make_layer(n: int, k: int, group_size: int, bits: int = 4) -> QuantLayer:
    return QuantLayer(
        name="made",
        kind="affine",
        bits=bits,
        codes=np.zeros((n, k), np.uint8),
        group_size=group_size,
        scales=np.ones((n, ceil_div(k, group_size)), np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=1,
    )


def make_ternary(scale: np.float16 | np.float32, offset: float | None = None) -> QuantLayer:
    """Eight channels of all nine pairs of trits."""
    pairs = [trit for pair in itertools.product((-1, 0, 1), repeat=2) for trit in pair]
    return dataclasses.replace(
        make_layer(8, 18, 6, bits=2),
        kind="ternary",
        codes=np.tile(np.array(pairs, np.int8), (8, 1)),
        scales=np.full((8, 3), scale),
        offsets=None if offset is None else np.full((8, 3), offset, np.float32),
    )


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [
        (np.float16(0.3), np.float16),
        (np.float16(2.0**-24), np.float32),  # half of an odd subnormal is no float16
        (np.float32(1 / 3), np.float32),
    ],
)
@pytest.mark.parametrize("offset", [None, 0.25])
def test_ternary_as_binary(
    scale: np.float16 | np.float32, dtype: type, offset: float | None
) -> None:
    layer = make_ternary(scale, offset)
    binary = as_binary(layer)
    assert binary.bits == 2
    if offset is None:
        assert (binary.kind, binary.scales.dtype) == ("affine", layer.scales.dtype)
    else:
        assert (binary.kind, binary.scales.dtype) == ("planes", dtype)
    assert np.array_equal(binary.dequantise(), layer.dequantise())


def test_half_of_the_least_float32_is_refused() -> None:
    layer = make_ternary(np.float32(3 * 2.0**-149), 0.0)
    with pytest.raises(
        LayerError, match=r"half of the scale 4.2e-45 is no float32: .*ternary = true"
    ):
        compile_layer(layer, PRESETS["default"], 1)
    assert compile_layer(layer, TERNARY, 1).kind == "ternary"


TERNARY = CoreConfig(lanes=8, group=5, depth=2, planes=1, ternary=True)


def test_ternary_is_looked_up_where_it_can_be() -> None:
    layer = make_ternary(np.float16(0.3))
    native, binary = (compile_layer(layer, core, 3) for core in (TERNARY, PRESETS["default"]))
    assert (native.kind, native.bits, native.group_size) == ("ternary", 2, 6)
    assert (native.macs, native.peak) == (3 * 8 * 18, 2 * 8 * 2 * 3)
    assert (binary.kind, binary.bits, binary.group_size) == ("affine", 2, 6)
    assert (binary.macs, binary.peak) == (2 * 3 * 8 * 18, PRESETS["default"].peak)
    (fields,) = [
        fields
        for instruction, fields in map(decode, native.instructions)
        if instruction.opcode == Opcode.LAYER
    ]
    assert (fields["ternary"], fields["planes"], fields["per_plane"]) == (1, 1, 1)
    assert fields["group_size"] == 10
    with pytest.raises(CompileError, match=r"2 bits, but the core has 1 planes"):
        compile_layer(layer, dataclasses.replace(TERNARY, ternary=False), 1)


def test_longest_ternary_layer() -> None:
    trits = np.zeros((8, 65_536), np.int8)
    for group_size in (1, 32, 65_536):
        layer = dataclasses.replace(
            make_layer(8, 65_536, group_size, bits=2), kind="ternary", codes=trits
        )
        assert len(compile_layer(layer, TERNARY, 4096).instructions) <= 64


@settings(max_examples=60, deadline=None, print_blob=True)
@given(st.data())
def test_image_is_the_same_for_any_rows(data: st.DataObject) -> None:
    config = data.draw(configs())
    layer = data.draw(cases(config)).layer
    rows = data.draw(st.lists(st.integers(1, 4096), min_size=2, max_size=3))
    programs = [compile_layer(layer, config, r) for r in rows]
    assert len({program.image for program in programs}) == 1
    assert len({program.tiling for program in programs}) == 1
    for program in programs:
        assert len(program.instructions) <= 64
        assert decode(program.instructions[-1])[0].opcode == Opcode.END


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("n", "k"), [(65_536, 64), (64, 65_536)])
def test_largest_layers(preset: str, n: int, k: int) -> None:
    for group_size in (8, k):
        layer = make_layer(n, k, group_size)
        assert len(compile_layer(layer, PRESETS[preset], 4096).instructions) <= 64


def test_refusals() -> None:
    tiny = PRESETS["tiny"]
    with pytest.raises(
        CompileError, match=r"'made': 8 bits, but the core has 4 planes: .*planes >= 8"
    ):
        compile_layer(make_layer(8, 8, 8, bits=8), tiny, 1)
    with pytest.raises(CompileError, match="65537 channels are more than 65536"):
        compile_layer(make_layer(65_537, 1, 1), tiny, 1)
    with pytest.raises(CompileError, match="65537 columns are more than 65536"):
        compile_layer(make_layer(1, 65_537, 65_537), tiny, 1)
    with pytest.raises(CompileError, match=r"rows must be in 1\.\.1048575, not 0"):
        compile_layer(make_layer(8, 8, 8), tiny, 0)
    with pytest.raises(CompileError, match="results of 1000000 rows do not fit a region"):
        compile_layer(make_layer(8192, 8, 8), tiny, 1_000_000)


def test_image_beyond_a_region_is_refused_before_it_is_made() -> None:
    config = dataclasses.replace(PRESETS["default"], planes=8)
    tiling = plan(config, 65_536, 65_536, 8, 32)
    assert tiling.image_bytes(bias=False) > 2**32


def test_counted_image_size_equals_the_packed_one() -> None:
    layer = make_layer(100, 700, 128)
    program = compile_layer(layer, PRESETS["default"], 1)
    assert program.tiling.image_bytes(bias=False) == len(program.image)
