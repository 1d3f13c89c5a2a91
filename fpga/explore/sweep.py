"""Sweep configurations for a target and a workload; find those that nothing beats."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lutcore.fpga.area.estimate import Area, combine, parts
from lutcore.fpga.explore.tasks import AreaTask, CyclesTask
from lutcore.fpga.explore.workload import Workload
from lutcore.hw.contract.config import CoreConfig
from lutcore.sw.base.executor import Finished, Runner, Task, execute

__all__ = ["Point", "Settings", "Sweep", "front", "sweep", "verify"]


@dataclass(frozen=True)
class Settings:
    """What all points of a sweep have in common.

    Attributes
    ----------
    target
        Of `lutcore.fpga.synth.flow`.
    workload
        What each core computes.
    latency
        Cycles from a read's address to its first beat.
    exact
        Synthesise every core whole.
    liberty
        cells: the library; None: the default one.
    """

    target: str
    workload: Workload
    latency: int = 40
    exact: bool = False
    liberty: Path | None = None


@dataclass(frozen=True)
class Point:
    """A configuration and its scores.

    Attributes
    ----------
    config
        The core.
    area
        Estimated, or measured.
    cycles
        Of the whole workload.
    utilisation
        Cycles at the core's peak over cycles, 0 to 1.
    bound
        What binds for most of the cycles: ``array``, ``fill``, ``scale`` or ``memory``.
    bound_share
        The share of these cycles.
    """

    config: CoreConfig
    area: Area
    cycles: int
    utilisation: float
    bound: str
    bound_share: float


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Attributes
    ----------
    points
        In the order of the configurations.
    failed
        Reason to number of configurations without a score.
    from_cache
        Configurations for which nothing had to be done.
    """

    points: tuple[Point, ...]
    failed: Mapping[str, int]
    from_cache: int


def sweep(
    configs: Sequence[CoreConfig],
    settings: Settings,
    runner: Runner,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sweep:
    """Score configurations.

    Every result is kept as soon as it is there, so that a sweep that is broken off goes on where it
    stopped. Results do not depend on where and in which order they come.

    Parameters
    ----------
    configs
        What to score.
    settings
        For what.
    runner
        Does the work that is not in the cache.
    progress
        Called with the number of tasks that are done, and of those that there are.

    Raises
    ------
    OutputError
        If the cache folder cannot be written.
    """
    designs = {config: _designs(config, settings) for config in configs}
    every = dict.fromkeys(task for some in designs.values() for task in some)
    counts = {
        config: CyclesTask(config, settings.workload.items, settings.latency) for config in configs
    }
    total = len(counts) + len(every)
    # The cycles first: they take no time, and a core that cannot do the work needs no area.
    results, errors, fresh = _results(
        list(counts.values()), runner, lambda done, _: progress(done, total)
    )
    able = [config for config in configs if counts[config] in results]
    wanted = list(dict.fromkeys(task for config in able for task in designs[config]))
    spared = len(counts) + len(every) - len(wanted)
    measured, failures, done_now = _results(
        wanted, runner, lambda done, _: progress(spared + done, total)
    )
    results |= measured
    errors |= failures
    fresh |= done_now
    points, failed, cached = [], Counter(), 0
    for config in configs:
        own = [counts[config], *designs[config]]
        cached += all(task in results and task not in fresh for task in own)
        error = next((errors[task] for task in own if task in errors), None)
        if error is not None:
            failed[error] += 1
            continue
        areas = {task.design: AreaTask.area(results[task]) for task in designs[config]}
        weights = {task.design: weight for task, weight in designs[config].items()}
        area = combine(weights, areas)
        points.append(_point(config, area, results[counts[config]], settings.workload))
    return Sweep(tuple(points), dict(failed), cached)


def verify(
    points: Sequence[Point],
    settings: Settings,
    runner: Runner,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Area | str]:
    """Synthesise the whole core of each point: what it takes, or the reason why it failed."""
    tasks = [
        AreaTask(design, settings.liberty)
        for point in points
        for design in parts(point.config, settings.target, exact=True)
    ]
    results, errors, _ = _results(list(dict.fromkeys(tasks)), runner, progress)
    return [AreaTask.area(results[task]) if task in results else errors[task] for task in tasks]


def front(sizes: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the pairs (area, time) than which no other is better in one and no worse in both.

    In ascending order of area, equal pairs in the order given.
    """
    order = sorted(range(len(sizes)), key=lambda i: (*sizes[i], i))
    found: list[int] = []
    for i in order:
        # Among what takes no more area, the last of the front is the fastest.
        if not found or sizes[i][1] < sizes[found[-1]][1] or sizes[i] == sizes[found[-1]]:
            found.append(i)
    return found


def _designs(config: CoreConfig, settings: Settings) -> dict[AreaTask, float]:
    weights = parts(config, settings.target, exact=settings.exact)
    return {AreaTask(design, settings.liberty): weight for design, weight in weights.items()}


def _results(
    tasks: Sequence[Task],
    runner: Runner,
    progress: Callable[[int, int], None],
) -> tuple[dict[Task, dict[str, Any]], dict[Task, str], set[Task]]:
    """Results, errors, and the tasks that were done now."""
    count = 0

    def report(finished: Finished) -> None:
        nonlocal count
        count += 1
        progress(count, len(tasks))

    progress(0, len(tasks))
    found = execute(tasks, runner, report=report)
    results = {one.task: one.result for one in found if not one.error}
    errors = {one.task: one.error for one in found if one.error}
    return results, errors, {one.task for one in found if not one.kept}


def _point(config: CoreConfig, area: Area, counted: Mapping[str, Any], workload: Workload) -> Point:
    total, least = 0, 0.0
    by_bound: Counter[str] = Counter()
    for item, cycles, bound in zip(
        workload.items, counted["cycles"], counted["bound"], strict=True
    ):
        total += item.count * cycles
        least += item.count * item.least_cycles(config)
        by_bound[bound] += item.count * cycles
    bound, share = by_bound.most_common(1)[0]
    return Point(config, area, total, least / total, bound, share / total)
