"""``lutcore prove``: runs properties and their twins side by side, and says what came of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.executor import Finished, Runner, execute, here
from lutcore.sw.base.files import write_file
from lutcore.sw.base.progress import progress
from lutcore.verif.formal.job import Outcome, ProofTask
from lutcore.verif.formal.model import Property
from lutcore.verif.formal.registry import PROPERTIES

__all__ = ["ProveError", "Result", "junit", "prove", "rows", "select", "units"]


class ProveError(LutcoreError, ValueError):
    """A property or unit that does not exist; the message lists those that do."""


@dataclass(frozen=True)
class Result:
    """A property, what came of it, and what came of its twin."""

    proof: Property
    holds: Outcome
    twin: Outcome

    @property
    def passed(self) -> bool:
        """The property holds, and its broken twin does not."""
        errors = self.holds.error or self.twin.error
        return not errors and self.holds.holds and not self.twin.holds

    @property
    def problem(self) -> str:
        """Why it has not passed."""
        if self.holds.error:
            return self.holds.error
        if not self.holds.holds:
            at = "" if self.holds.step is None else f" in cycle {self.holds.step}"
            trace = f"; trace: {self.holds.trace}" if self.holds.trace else ""
            return f"does not hold{at}: {self.holds.detail}{trace}"
        if self.twin.error:
            return f"twin: {self.twin.error}"
        if self.twin.holds:
            return f"the twin ({self.proof.twin.fault}) holds too: the claim says nothing about it"
        return ""


def units() -> list[str]:
    """What ``--unit`` takes."""
    return list(dict.fromkeys(proof.unit for proof in PROPERTIES.values()))


def select(names: Iterable[str], quick: bool = False) -> list[Property]:
    """Properties of units or with names, all of them if there are none given."""
    chosen: dict[str, Property] = {}
    for name in names:
        found = [p for p in PROPERTIES.values() if name in (p.unit, p.name)]
        if not found:
            raise ProveError(
                f"no unit and no property is called {name!r}; units: {', '.join(units())}; "
                f"`lutcore prove --list` lists the properties"
            )
        chosen |= {p.name: p for p in found}
    proofs = list(chosen.values()) or list(PROPERTIES.values())
    return [p for p in proofs if p.quick] if quick else proofs


def prove(
    proofs: list[Property],
    folder: Path,
    run: Runner = here,
    *,
    report: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run properties and their twins.

    Parameters
    ----------
    proofs
        What to prove.
    folder
        For files: two folders for each property.
    run
        Where: see `lutcore.sw.base.executor.runner`.
    report
        Called as each property is done.
    """
    tasks = [ProofTask(proof.name, twin, folder) for proof in proofs for twin in (False, True)]
    outcomes: dict[tuple[str, bool], Outcome] = {}
    results: dict[str, Result] = {}

    def finish(finished: Finished) -> None:
        task = finished.task
        assert isinstance(task, ProofTask)
        found = Outcome(error=finished.failure) if finished.error else Outcome(**finished.result)
        outcomes[task.name, task.twin] = found
        bar.advance()
        if (task.name, not task.twin) in outcomes:
            both = outcomes[task.name, False], outcomes[task.name, True]
            results[task.name] = Result(PROPERTIES[task.name], *both)
            report(results[task.name])

    with progress("Proving", len(tasks)) as bar:
        execute(tasks, run, report=finish)
    return [results[proof.name] for proof in proofs]


def rows(results: Iterable[Result]) -> list[tuple[str, ...]]:
    """The table on the screen, with its head."""
    head = ("property", "configuration", "engine", "depth", "seconds", "twin fails", "result")
    found: list[tuple[str, ...]] = [head]
    for result in results:
        proof = result.proof
        twin = result.twin
        fails = "-" if twin.error or twin.holds else "at once" if proof.check else f"in {twin.step}"
        found.append(
            (
                proof.name,
                proof.config,
                proof.method,
                "all" if proof.check else str(proof.depth),
                f"{result.holds.seconds + twin.seconds:.1f}",
                fails,
                "PASS" if result.passed else "FAIL",
            )
        )
    return found


def junit(results: Iterable[Result], path: Path) -> None:
    """Write the results as JUnit XML."""
    results = list(results)
    failures = sum(not result.passed for result in results)
    suite = ElementTree.Element(
        "testsuite", name="lutcore prove", tests=str(len(results)), failures=str(failures)
    )
    for result in results:
        seconds = f"{result.holds.seconds + result.twin.seconds:.2f}"
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"prove.{result.proof.unit}",
            name=result.proof.name,
            time=seconds,
        )
        if not result.passed:
            ElementTree.SubElement(case, "failure", message=result.problem)
    ElementTree.indent(suite)
    write_file(path, ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n")
