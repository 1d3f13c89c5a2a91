"""Blocks, image sizes, instruction counts and refusals of the compiler."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.config import PRESETS, CoreConfig, ceil_div
from lutcore.hw.isa import Opcode, decode
from lutcore.sw.blocks import BlockFormat, x_memory_words, x_slot_words
from lutcore.sw.compile import CompileError, compile_layer
from lutcore.sw.layer import QuantLayer
from lutcore.sw.tiling import Tiling, plan_tiling
from lutcore.verif.strategies import configs, layers


def plan(config: CoreConfig, n: int, k: int, bits: int, group_size: int, **kind: bool) -> Tiling:
    values = {"per_plane": False, "offset": True, "wide": False, **kind}
    return plan_tiling(BlockFormat(config, planes=bits, group_size=group_size, **values), n, k)


cores = st.builds(
    CoreConfig,
    rows=st.integers(1, 16),
    lanes=st.integers(1, 16).map(lambda x: 8 * x),
    group=st.integers(2, 6),
    depth=st.integers(1, 16),
    bus_width=st.integers(5, 9).map(lambda x: 2**x),
    activation=st.sampled_from(["int8", "int16"]),
    table_form=st.sampled_from(["symmetric", "full"]),
)
shapes = st.integers(1, 65_536)


def check_blocks(tiling: Tiling) -> None:
    """Everything that the core's operand limits demand, and that blocks make up the layer."""
    form, config = tiling.format, tiling.format.config
    tiles = list(tiling.tile_blocks())
    columns = list(tiling.k_blocks())
    assert [start for start, _ in tiles] == [0, *(stop for _, stop in tiles[:-1])]
    assert [start for start, _ in columns] == [0, *(stop for _, stop in columns[:-1])]
    assert (tiles[-1][1], columns[-1][1]) == (tiling.total_tiles, tiling.k)
    assert tiling.tiles * form.entries <= config.tiles
    assert tiling.tiles * config.chunks * config.rows <= config.sum_words
    for start, stop in {(start % form.group_size, stop - start) for start, stop in columns}:
        size = stop
        assert start % config.step == 0
        assert start == 0 or start + size <= form.group_size
        assert min(form.group_size, size) <= config.run
        assert form.weight_words(tiling.tiles, size) <= config.weight_words
        assert form.scale_lines(tiling.tiles, size) <= config.scale_words
        assert x_memory_words(config, form.x_words(size)) <= x_slot_words(config)


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


@settings(max_examples=60, deadline=None, print_blob=True)
@given(st.data())
def test_image_is_the_same_for_any_rows(data: st.DataObject) -> None:
    config = data.draw(configs())
    layer = data.draw(layers(config.planes))
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
