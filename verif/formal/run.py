"""``lutcore prove``: runs properties and their twins side by side, and says what came of it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.files import write_file
from lutcore.sw.base.progress import progress
from lutcore.verif.formal.job import RESULT, Outcome
from lutcore.verif.formal.model import Property
from lutcore.verif.formal.registry import PROPERTIES

__all__ = ["ProveError", "Result", "junit", "prove", "rows", "select", "units"]

#: Seconds after which a job is given up.
TIME_LIMIT = 900


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
    *,
    jobs: int = 1,
    report: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run properties and their twins, ``jobs`` at a time; ``report`` is called as each is done."""
    outcomes: dict[tuple[str, bool], Outcome] = {}
    results: dict[str, Result] = {}
    with progress("Proving", 2 * len(proofs)) as bar, ThreadPoolExecutor(jobs) as pool:
        futures = {
            pool.submit(_job, proof, twin, folder / proof.name / ("twin" if twin else "holds")): (
                proof,
                twin,
            )
            for proof in proofs
            for twin in (False, True)
        }
        for future in as_completed(futures):
            proof, twin = futures[future]
            outcomes[proof.name, twin] = future.result()
            bar.advance()
            if (proof.name, not twin) in outcomes:
                result = Result(proof, outcomes[proof.name, False], outcomes[proof.name, True])
                results[proof.name] = result
                report(result)
    return [results[proof.name] for proof in proofs]


def _job(proof: Property, twin: bool, folder: Path) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).unlink(missing_ok=True)
    what = "twin" if twin else "holds"
    command = [sys.executable, "-m", "lutcore.verif.formal.job", proof.name, what, str(folder)]
    begin = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return Outcome(seconds=TIME_LIMIT, error=f"no verdict within {TIME_LIMIT} s")
    if not (folder / RESULT).exists():
        words = " / ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
        return Outcome(seconds=time.monotonic() - begin, error=f"the job ended early: {words}")
    return Outcome(**json.loads((folder / RESULT).read_text(encoding="utf-8")))


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
