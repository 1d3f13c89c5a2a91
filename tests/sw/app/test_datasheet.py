"""Derived figures of configurations."""

import dataclasses

import pytest

from lutcore.hw.contract.config import PRESETS, CoreConfig
from lutcore.sw.app.datasheet import binding_group, datasheet


def test_paper():
    """Two rows of one symmetric table of four INT8 activations, 8 entries of 11 bits, 2 banks."""
    sheet = datasheet(PRESETS["paper"])
    assert sheet.peak_macs_per_cycle == 2 * 64 * 4
    assert sheet.table_bits == 2 * 8 * 9 * 2
    assert sheet.weight_bytes_per_cycle == 32
    assert sheet.balanced_rows == 2 * 2
    assert sheet.fill_channels == 8 * 64


def test_distributed_tables_are_copied_for_each_lane():
    distributed = CoreConfig(rows=2, lanes=32, group=4, depth=2, table_store="distributed")
    register = dataclasses.replace(distributed, table_store="register")
    assert datasheet(distributed).table_bits == 32 * datasheet(register).table_bits


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_groups_at_the_limit_take_array_and_scale_unit_equally_long(preset):
    bits, terms = 4, 2
    columns = binding_group(preset, bits, terms)
    array = columns * bits / preset.step
    scale = terms * preset.rows * preset.lanes / preset.scale_lanes
    assert array == scale
