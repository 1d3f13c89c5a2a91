"""The configuration: which keys are derived, and from what."""

import dataclasses

import pytest

from lutcore.hw.contract.config import DERIVED, PRESETS, ConfigError, CoreConfig


def test_sizes_with_the_default_zero_are_derived() -> None:
    fields = dataclasses.fields(CoreConfig)
    assert set(DERIVED) == {field.name for field in fields if repr(field.default) == "0"}


@pytest.mark.parametrize("name", PRESETS)
def test_with_derived(name: str) -> None:
    config = PRESETS[name]
    machine = {key: value for key, value in config.as_dict().items() if key not in DERIVED}
    assert config.with_derived() == CoreConfig(**machine)
    changed = config.with_derived(planes=1, x_words=1024)
    assert changed == CoreConfig(**machine | {"planes": 1, "x_words": 1024})


def test_with_derived_refuses_what_cannot_be_built() -> None:
    with pytest.raises(ConfigError, match=r"rows must be in 1\.\.16, not 0"):
        PRESETS["tiny"].with_derived(rows=0)
