"""One proof: of a property, or the refutation of its twin."""

import time
import traceback
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.executor import Task
from lutcore.verif.formal.engine import Verdict, bounded, cover, induction, write_smt2
from lutcore.verif.formal.model import Model, Net, Patch, Property
from lutcore.verif.formal.registry import PROPERTIES

__all__ = ["Outcome", "ProofTask", "run"]

#: Seconds after which a proof is given up.
TIME_LIMIT = 900.0


@dataclass(frozen=True)
class Outcome:
    """What a job found.

    Attributes
    ----------
    holds
        No claim is contradicted, and all that should be reachable is reached.
    step
        The cycle of the contradiction; None if there is none, or it is one of the induction's.
    detail
        Claims that fail, what is not reached, or how many cases were gone through.
    trace
        Path of a VCD file, or "".
    seconds
        Time taken.
    error
        The job did not come to a verdict, and why.
    """

    holds: bool = False
    step: int | None = None
    detail: str = ""
    trace: str = ""
    seconds: float = 0.0
    error: str = ""


def _exhaust(proof: Property) -> Outcome:
    assert proof.check is not None
    try:
        return Outcome(True, detail=f"{proof.check():,} cases")
    except AssertionError as error:
        return Outcome(False, step=0, detail=str(error))


def _of(verdict: Verdict) -> Outcome:
    trace = str(verdict.trace) if verdict.trace else ""
    return Outcome(verdict.holds, verdict.step, ", ".join(verdict.claims), trace)


def _solve(proof: Property, folder: Path, twin: bool) -> Outcome:
    assert proof.build is not None
    model = Model()
    proof.build(model)
    window = proof.method == "window"
    net = proof.twin if twin and isinstance(proof.twin, Net) else None
    smt2 = write_smt2(model, folder, any_state=window, twin=net)
    depth = proof.twin_depth if twin and proof.twin_depth else proof.depth
    outcome = _of(bounded(smt2, depth, only_last=window))
    if not outcome.holds or twin:
        return outcome
    if proof.method == "induction":
        verdict = induction(smt2, proof.depth)
        if not verdict.holds:
            outcome = _of(verdict)
            return Outcome(False, None, f"induction: {outcome.detail}", outcome.trace)
    if proof.cover_depth:
        missing = cover(smt2, proof.cover_depth)
        if missing:
            return Outcome(False, None, f"never happens: {', '.join(missing)}")
    return outcome


def run(name: str, twin: bool, folder: Path) -> Outcome:
    """The property ``name``, or its twin; files are left in ``folder``."""
    proof = PROPERTIES[name]
    begin = time.monotonic()
    try:
        broken = proof.twin if twin and isinstance(proof.twin, Patch) else None
        with broken.applied() if broken is not None else nullcontext():
            outcome = _exhaust(proof) if proof.check else _solve(proof, folder, twin)
    except LutcoreError as error:
        outcome = Outcome(error=str(error))
    except Exception:
        outcome = Outcome(error=traceback.format_exc(limit=-3).strip())
    seconds = round(time.monotonic() - begin, 2)
    return Outcome(**{**asdict(outcome), "seconds": seconds})


@dataclass(frozen=True)
class ProofTask(Task):
    """Prove a property, or refute its twin.

    Attributes
    ----------
    name
        Of the property.
    twin
        Whether it is the twin's turn.
    folder
        In it are folders for each property.
    """

    name: str
    twin: bool
    folder: Path
    limit = TIME_LIMIT

    def run(self) -> dict[str, Any]:
        folder = self.folder / self.name / ("twin" if self.twin else "holds")
        folder.mkdir(parents=True, exist_ok=True)
        return asdict(run(self.name, self.twin, folder))
