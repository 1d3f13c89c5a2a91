"""One proof in a process of its own: ``python -m lutcore.verif.formal.job NAME holds|twin FOLDER``.

The verdict is left in FOLDER/result.json. A process of its own, because a twin's broken source
takes the place of a module before anything else of the hardware is imported.
"""

import importlib
import importlib.util
import json
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.files import write_file
from lutcore.verif.formal.engine import Verdict, bounded, cover, induction, write_smt2
from lutcore.verif.formal.model import Break, Model, Property
from lutcore.verif.formal.registry import PROPERTIES

__all__ = ["RESULT", "Outcome", "broken_source", "main"]

RESULT = "result.json"
# What properties are written with, and therefore is the same for a twin.
_KEPT = {"lutcore.hw.contract.config", "lutcore.hw.contract.isa", "lutcore.hw.contract.ternary"}


class TwinError(LutcoreError, ValueError):
    """A twin that cannot be made; the message names the text that is not in the source."""


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


def broken_source(twin: Break) -> tuple[ModuleSpec, str]:
    """The module that a twin breaks, and its broken text.

    Raises
    ------
    TwinError
        If the text to replace is not there exactly once.
    """
    spec = importlib.util.find_spec(twin.module)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    found = source.count(twin.old)
    if found != 1:
        raise TwinError(
            f"{twin.module} has {twin.old!r} {found} times, not once: let the twin of this "
            f"property break another line"
        )
    return spec, source.replace(twin.old, twin.new)


def _broken(twin: Break) -> None:
    """Put a broken copy of a module in its place; what is imported later uses it."""
    spec, source = broken_source(twin)
    # Whatever has been imported of the hardware and the packer is imported again.
    for name in [n for n in sys.modules if n.startswith(("lutcore.hw.", "lutcore.sw."))]:
        if name not in _KEPT and name not in ("lutcore.sw.base.errors", "lutcore.sw.base.files"):
            del sys.modules[name]
    module = importlib.util.module_from_spec(spec)
    sys.modules[twin.module] = module
    exec(compile(source, spec.origin or twin.module, "exec"), module.__dict__)
    parent, _, name = twin.module.rpartition(".")
    setattr(importlib.import_module(parent), name, module)


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
    smt2 = write_smt2(model, folder, any_state=window)
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
        if twin:
            _broken(proof.twin)
        outcome = _exhaust(proof) if proof.check else _solve(proof, folder, twin)
    except LutcoreError as error:
        outcome = Outcome(error=str(error))
    except Exception:
        outcome = Outcome(error=traceback.format_exc(limit=-3).strip())
    seconds = round(time.monotonic() - begin, 2)
    return Outcome(**{**asdict(outcome), "seconds": seconds})


def main(arguments: list[str]) -> None:
    """Run one job and write its outcome."""
    name, what, folder = arguments
    outcome = run(name, what == "twin", Path(folder))
    write_file(Path(folder) / RESULT, json.dumps(asdict(outcome), indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
