"""Random back-pressure: patterns of pauses for the channels of a bus."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CHANNELS", "Stalls", "pauses"]

#: Channels of the core's buses. On AR, AW and W of m_axi (B and R of s_axi) a pause holds back
#: ready, on the others valid.
CHANNELS = (
    "m_ar", "m_r", "m_aw", "m_w", "m_b",
    "s_ar", "s_r", "s_aw", "s_w", "s_b",
)  # fmt: skip


def pauses(source: random.Random, share: float, length: float) -> Iterator[bool]:
    """Without end: whether to pause in a cycle.

    Parameters
    ----------
    source
        Random numbers.
    share
        Of the cycles that are pauses, below 1.
    length
        Mean number of cycles of a pause, at least 1.
    """
    resume = 1 / length
    # The chance to begin a pause that gives the share in the long run.
    begin = min(1.0, resume * share / (1 - share))
    paused = False
    while True:
        paused = source.random() >= resume if paused else source.random() < begin
        yield paused


@dataclass(frozen=True)
class Stalls:
    """How a memory and a host behave.

    Attributes
    ----------
    share, length
        By channel, share of pauses and mean length of one; a channel that is not there never
        pauses.
    latency
        Least and largest number of cycles from the address of a read, or the last beat of a
        write, to what the memory answers.
    depth
        Addresses that the memory accepts before it has served the first.
    """

    share: dict[str, float] = field(default_factory=dict)
    length: dict[str, float] = field(default_factory=dict)
    latency: tuple[int, int] = (0, 0)
    depth: int = 8

    @classmethod
    def draw(cls, source: random.Random) -> "Stalls":
        """One of the manners that find different bugs."""
        manner = source.choice(["none", "light", "heavy", "mixed", "one", "latency"])
        share: dict[str, float] = {}
        length: dict[str, float] = {}
        latency, depth = (0, 2), source.choice([1, 2, 4, 8, 16])
        if manner in ("light", "heavy"):
            value = source.uniform(0.05, 0.3) if manner == "light" else source.uniform(0.4, 0.8)
            share = dict.fromkeys(CHANNELS, value)
        elif manner == "mixed":
            share = {name: source.choice([0, 0.2, 0.5, 0.8]) for name in CHANNELS}
            length = {name: source.choice([1, 1, 4, 20]) for name in CHANNELS}
        elif manner == "one":
            # One channel is much slower than the others: what is behind it fills up.
            slow = source.choice(CHANNELS)
            share, length = {slow: source.uniform(0.7, 0.9)}, {slow: source.choice([1, 8, 30])}
        elif manner == "latency":
            low = source.choice([0, 5, 40])
            latency = (low, low + source.choice([0, 3, 100]))
        return cls(share, length, latency, depth)

    def apply(self, name: str, channel: Any, source: random.Random) -> None:
        """Give a channel of a cocotbext-axi model its pauses.

        Parameters
        ----------
        name
            One of `CHANNELS`.
        channel
            The source or sink.
        source
            Random numbers.
        """
        share = self.share.get(name, 0)
        channel.set_pause_generator(
            pauses(source, share, self.length.get(name, 1)) if share else None
        )
        # Without a generator it would stay as the one before left it.
        channel.pause = False
