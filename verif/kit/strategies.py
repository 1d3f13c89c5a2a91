"""Hypothesis strategies for what the regression draws: configurations, layers with activations.

The functions that draw from a `random.Random` are given one that Hypothesis decides, so that what
fails is shrunk.
"""

import random
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from hypothesis import strategies as st

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.verif.kit.configurations import draw_config
from lutcore.verif.kit.layers import Case, draw_case

__all__ = ["cases", "configs", "drawn"]

#: The longest layers, where a core's three steps are not longer.
_LONGEST = 150
#: Bytes of random numbers that are shrunk: more than a configuration or a layer takes.
_BYTES = 1024
_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Source(random.Random):
    """Random numbers out of bytes, zeros for zeros; behind their end out of a generator."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._rest = content

    def random(self) -> float:
        """A number from 0 up to 1, without it."""
        return self.getrandbits(16) / (1 << 16)

    def getrandbits(self, k: int, /) -> int:
        """An integer of so many bits."""
        size = ceil_div(k, 8)
        if len(self._rest) < size:
            return super().getrandbits(k)
        part, self._rest = self._rest[:size], self._rest[size:]
        return int.from_bytes(part, "little") & (1 << k) - 1

    def _randbelow(self, n: int) -> int:
        # All other methods go by this one and by `random`.
        return self.getrandbits(n.bit_length() + 8) % n


def drawn(
    function: Callable[Concatenate[random.Random, _P], _T], *args: _P.args, **wanted: _P.kwargs
) -> st.SearchStrategy[_T]:
    """What a function makes of random numbers, its first argument, and of other arguments.

    The numbers come out of one string of bytes: of many small draws Hypothesis repeats parts, and
    so gives mostly the first of all choices.
    """
    content = st.binary(min_size=_BYTES, max_size=_BYTES)
    return content.map(lambda content: function(_Source(content), *args, **wanted))


def configs(**wanted: Any) -> st.SearchStrategy[CoreConfig]:
    """Small cores; `wanted` as in :func:`lutcore.verif.kit.configurations.draw_config`."""
    return drawn(draw_config, **wanted)


def cases(config: CoreConfig, **wanted: Any) -> st.SearchStrategy[Case]:
    """Layers that a core computes; `wanted` as in :func:`lutcore.verif.kit.layers.draw_layer`."""
    return drawn(_draw_case, config, **wanted)


def _draw_case(source: random.Random, config: CoreConfig, **wanted: Any) -> Case:
    numbers = np.random.default_rng(source.getrandbits(32))
    return draw_case(source, numbers, config, longest=_LONGEST, **wanted)
