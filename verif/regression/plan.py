"""The jobs of the full regression."""

from collections.abc import Iterable
from pathlib import Path

from lutcore.verif.kit.bench import Bench
from lutcore.verif.kit.configurations import CONFIGURATIONS
from lutcore.verif.kit.env import Settings
from lutcore.verif.regression.jobs import Job

__all__ = ["full_jobs"]

#: Configurations on which the core is simulated with Verilator too.
_BOTH = ("tiny", "ternary-g2", "register-full-k2-g4")
#: Configurations for the benches that take long, or whose subject is the same in all.
_ONLY: dict[str, tuple[str, ...]] = {
    "faults": ("tiny", "register-full-k2-g4", "distributed-full-k4-g8"),
    "programs": ("tiny", "distributed-k5-g3", "ternary-g4-int16", "register-full-k2-g4"),
    "directed": (
        "tiny", "distributed-k5-g3", "ternary-g4-int16", "register-full-k2-g4",
        "register-k3-g5", "distributed-full-k4-g8",
    ),
    "gates": ("register-full-k2-g4",),
}  # fmt: skip
#: How much more stimulus than in a short run.
_EFFORT = {"core": 2, "programs": 4}


def full_jobs(
    benches: Iterable[Bench],
    *,
    seed: int,
    effort: int,
    sim: str | None,
    folder: Path,
    waves: bool,
) -> list[Job]:
    """Every bench on the configurations that it is for.

    Parameters
    ----------
    benches
        Benches to take.
    seed, effort, waves
        Of all jobs; `effort` multiplies what the regression takes by itself.
    sim
        The only simulator, or None for Icarus and, on some configurations, Verilator too.
    folder
        In which each job has a folder of its own.
    """
    jobs = []
    for bench in benches:
        for name in _configurations(bench):
            config = CONFIGURATIONS[name]
            if not bench.applies(config):
                continue
            for one in _simulators(bench, name, sim):
                settings = Settings(
                    config=config,
                    seed=seed,
                    unit=bench.name,
                    sim=one,
                    effort=effort * _EFFORT.get(bench.name, 1),
                    results=folder / f"{bench.name}-{name}-{one}",
                )
                jobs.append(Job(settings, name, waves=waves))
    return jobs


def _configurations(bench: Bench) -> Iterable[str]:
    return _ONLY.get(bench.name, CONFIGURATIONS)


def _simulators(bench: Bench, name: str, sim: str | None) -> tuple[str, ...]:
    if bench.runs is not None:
        return ("cxxrtl",)
    if sim is not None:
        return (sim,)
    both = bench.core and not bench.slow and name in _BOTH
    return ("icarus", "verilator") if both else ("icarus",)
