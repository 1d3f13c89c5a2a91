"""The cache of generated Verilog."""

import pytest

from lutcore.hw.contract.config import PRESETS, CoreConfig
from lutcore.sim.rtl import verilog

TINY = PRESETS["tiny"]


@pytest.fixture
def generated(tmp_path, monkeypatch):
    """Configurations that had to be generated, by a generator that is quick."""
    calls = []

    def generate(config: CoreConfig) -> str:
        calls.append(config)
        return f"// {config.fingerprint}\n"

    monkeypatch.setenv("LUTCORE_CACHE", str(tmp_path))
    monkeypatch.setattr("lutcore.hw.export.generate_verilog", generate)
    return calls


def text_of(config: CoreConfig) -> str:
    verilog.verilog_of.cache_clear()
    return verilog.verilog_of(config)


def test_generated_once(generated):
    assert text_of(TINY) == text_of(TINY) == f"// {TINY.fingerprint}\n"
    assert generated == [TINY]


def test_another_configuration_is_another_text(generated):
    assert text_of(TINY) != text_of(PRESETS["paper"])
    assert generated == [TINY, PRESETS["paper"]]


def test_changed_sources_are_generated_again(generated, monkeypatch):
    text_of(TINY)
    monkeypatch.setattr(verilog, "source_digest", lambda *names: f"changed {names}")
    text_of(TINY)
    text_of(TINY)
    assert generated == [TINY, TINY]


def test_another_translator_is_generated_again(generated, monkeypatch):
    text_of(TINY)
    monkeypatch.setattr(verilog, "version", lambda _: "0")
    text_of(TINY)
    assert generated == [TINY, TINY]


@pytest.fixture(autouse=True)
def forget():
    yield
    verilog.verilog_of.cache_clear()
