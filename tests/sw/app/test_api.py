"""The names that `lutcore.sw` offers, and the example in the README."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lutcore.sw
from lutcore.sw import QuantLayer, compile_layer, load_config, run

README = Path(__file__).resolve().parents[3] / "README.md"


@pytest.mark.parametrize("name", lutcore.sw.__all__)
def test_every_name_is_there(name):
    assert getattr(lutcore.sw, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lutcore.sw.nothing  # noqa: B018


def test_importing_the_package_loads_nothing():
    code = "import sys, lutcore.sw; sys.exit('numpy' in sys.modules or 'amaranth' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_example_of_the_readme(monkeypatch):
    """Run it with the checkpoint replaced by a small layer and the RTL by the simulator."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    rng = np.random.default_rng(3)
    layer = QuantLayer(
        name="layer",
        kind="affine",
        bits=4,
        codes=rng.integers(0, 16, (8, 32), dtype=np.uint8),
        group_size=32,
        scales=np.ones((8, 1), np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=144,
    )
    asked = []

    def read_layer(path: str, name: str) -> QuantLayer:
        asked.append(name)
        return layer

    def run_without_rtl(program, x, on):
        asked.append(on)
        return run(program, x, on="iss" if on == "rtl" else on)

    monkeypatch.setattr("lutcore.sw.layers.checkpoint.read_layer", read_layer)
    monkeypatch.setattr("lutcore.sw.app.execute.run", run_without_rtl)
    exec(compile(code, str(README), "exec"), {})
    assert asked == ["blk.0.ffn_up.weight", "rtl", "golden"]
    assert compile_layer(layer, load_config("default"), rows=1).n == 8
