"""A job: one bench on one configuration, one simulator and one seed, in a process of its own."""

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from lutcore.hw.contract.config import PRESETS, CoreConfig
from lutcore.sw.base.files import write_file
from lutcore.verif.kit.bench import Outcome
from lutcore.verif.kit.env import Settings

__all__ = ["Job", "read_outcomes", "write_outcomes"]

_OUTCOMES = "outcomes.json"


@dataclass(frozen=True)
class Job:
    """What to run.

    Attributes
    ----------
    settings
        Bench, configuration, simulator, seed, effort and folder.
    config_name
        Short name of the configuration, for tables.
    test
        The only test to run, or None for all.
    rtl
        Verilog instead of the generated one.
    waves
        Record waveforms.
    """

    settings: Settings
    config_name: str
    test: str | None = None
    rtl: Path | None = None
    waves: bool = False

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.settings.results

    @property
    def config_file(self) -> Path:
        """The configuration, where it outlives the job: a command that repeats it may name it."""
        return self.folder.parent / "configs" / f"{self.config_name}.toml"

    def save(self) -> None:
        """Write the settings and the rest into the folder, which is made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings.save(self.folder / "settings.json")
        self.config_file.parent.mkdir(exist_ok=True)
        write_file(self.config_file, self.settings.config.to_toml())
        rest = {
            "config_name": self.config_name,
            "test": self.test,
            "rtl": None if self.rtl is None else str(self.rtl),
            "waves": self.waves,
        }
        write_file(self.folder / "job.json", json.dumps(rest, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Job":
        """Read what :meth:`save` wrote."""
        rest = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        rtl = rest.pop("rtl")
        settings = Settings.load(folder / "settings.json")
        return cls(settings=settings, rtl=None if rtl is None else Path(rtl), **rest)

    def repeat(self, outcome: Outcome) -> str:
        """The command that runs just one test again."""
        chosen = self.settings
        known = PRESETS.get(self.config_name) == chosen.config
        source = self.config_name if known else str(self.config_file)
        words = ["lutcore", "verify", "--unit", chosen.unit, "--config", source]
        if chosen.sim != "cxxrtl":
            words += ["--sim", chosen.sim]
        words += ["--seed", str(chosen.seed)]
        if chosen.effort != 1:
            words += ["--effort", str(chosen.effort)]
        if self.rtl is not None:
            words += ["--rtl", str(self.rtl)]
        if not outcome.name.startswith("("):
            words += ["--test", outcome.name]
        return shlex.join(words)


def config_named(name: str, config: CoreConfig) -> str:
    """A name for a configuration that may be the path of a file."""
    return name if name in PRESETS else Path(name).stem


def write_outcomes(folder: Path, outcomes: list[Outcome]) -> None:
    """Leave the verdicts where the runner finds them."""
    text = json.dumps([asdict(outcome) for outcome in outcomes], indent=2)
    write_file(folder / _OUTCOMES, text + "\n")


def read_outcomes(folder: Path) -> list[Outcome] | None:
    """The verdicts, or None if the job has not come to any."""
    file = folder / _OUTCOMES
    if not file.is_file():
        return None
    return [Outcome(**values) for values in json.loads(file.read_text(encoding="utf-8"))]
