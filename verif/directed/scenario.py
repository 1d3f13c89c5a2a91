"""Directed scenarios, the jobs that they share, and the cores that they run on."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lutcore.hw.contract.config import CoreConfig
from lutcore.sim.rtl.simulator import RtlModel
from lutcore.verif.directed.host import Host, Killed, Record
from lutcore.verif.directed.jobs import Job, layer_job
from lutcore.verif.kit.layers import draw_case

__all__ = ["Bench", "Jobs", "Scenario", "scenario"]


@dataclass(frozen=True)
class Scenario:
    """A part of the regression.

    Attributes
    ----------
    name
        For the report.
    run
        Raises if the core does anything wrong.
    """

    name: str
    run: Callable[["Bench"], None]


def scenario(collection: list[Scenario], name: str) -> Callable[[Any], Any]:
    """Decorator that adds a function to a list of scenarios."""

    def add(function: Callable[["Bench"], None]) -> Callable[["Bench"], None]:
        collection.append(Scenario(name, function))
        return function

    return add


#: Draws n, k and group size of a layer; None: any.
_DrawShape = Callable[[random.Random], tuple[int, int, int] | None]


class Jobs:
    """Jobs for a configuration, made when they are first asked for, from one seed.

    Parameters
    ----------
    config
        The core.
    seed
        Of all that is random.
    """

    def __init__(self, config: CoreConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self._made: dict[str, Any] = {}

    def random(self, name: str) -> random.Random:
        """Random numbers of their own for each name."""
        return random.Random(f"{self.seed}/{name}")

    def numbers(self, name: str) -> np.random.Generator:
        """The same for arrays."""
        return np.random.default_rng(self.random(name).getrandbits(64))

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, kept: a mutant must see the very jobs of the core without faults."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def layers(
        self,
        name: str,
        count: int,
        shape: _DrawShape = lambda source: None,
    ) -> list[Job]:
        """Random layers of all kinds, of any shape or of those that are drawn."""

        def make() -> list[Job]:
            source, numbers = self.random(name), self.numbers(name)
            made = []
            for index in range(count):
                case = draw_case(source, numbers, self.config, shape=shape(source))
                made.append(layer_job(case, self.config, source, f"{name} {index}"))
            return made

        return self.once(name, make)


@dataclass
class Bench:
    """What a scenario runs on: hosts with the same fault, or none.

    Attributes
    ----------
    jobs, model, memory
        Shared by all.
    records
        What the hosts of the core without faults did, in the order of their creation.
    learning
        Whether this is the core without faults.
    """

    jobs: Jobs
    model: RtlModel
    memory: np.ndarray
    records: list[Record] = field(default_factory=list)
    learning: bool = True
    hosts: list[Host] = field(default_factory=list)

    @property
    def config(self) -> CoreConfig:
        """The core."""
        return self.jobs.config

    def host(self, **simulator: Any) -> Host:
        """A core fresh from reset, with arguments of `RtlSim`."""
        if self.learning:
            self.records.append(Record())
        elif len(self.hosts) >= len(self.records):
            raise Killed("the scenario went another way")
        host = Host(
            self.model,
            self.memory,
            self.records[len(self.hosts)],
            learning=self.learning,
            **simulator,
        )
        self.hosts.append(host)
        return host

    def finish(self) -> str | None:
        """After a scenario: None, or what differs in time from the core without faults."""
        for host, record in zip(self.hosts, self.records, strict=True):
            if self.learning:
                record.timing = host.timing
            elif host.timing != record.timing:
                pairs = zip(host.timing, record.timing, strict=True)
                got, expected = next(pair for pair in pairs if pair[0] != pair[1])
                return f"{got} cycles instead of {expected}"
        return None


def every(items: Sequence[Any], step: int) -> Iterator[tuple[Any, bool]]:
    """Items, with True at every `step`-th."""
    for index, item in enumerate(items):
        yield item, index % step == 0
