"""Random programs on the RTL against the instruction-set simulator: a bench without cocotb.

Programs run one after the other on the same core, legal ones between illegal ones, so that what
one leaves behind would show in the next.
"""

import random
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import Cause
from lutcore.sim.rtl.build import build_model
from lutcore.sim.rtl.simulator import CsrError, RtlModel, RtlProtocolError
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.files import write_file
from lutcore.sw.program.asm import format_instruction
from lutcore.verif.core.wrapper import read_core
from lutcore.verif.kit.bench import Outcome
from lutcore.verif.kit.env import Settings, cover
from lutcore.verif.programs.case import Case
from lutcore.verif.programs.illegal import illegal_case
from lutcore.verif.programs.legal import legal_case
from lutcore.verif.programs.run import Expected, Host, compare, expected_of, judge
from lutcore.verif.programs.shrink import shrunk

__all__ = [
    "KINDS",
    "Failure",
    "Tally",
    "case_of",
    "listing",
    "model_of_file",
    "run_programs",
    "runs",
]

#: Legal programs, and as many illegal ones, for an effort of 1.
PROGRAMS = 64
#: Programs that share a simulated core.
_BATCH = 8
KINDS = ("legal", "illegal")


@dataclass
class Tally:
    """Figures of the programs that ran as expected.

    Attributes
    ----------
    programs
        How many ran.
    cycles
        Of the RTL.
    causes
        How many ended with each cause; NONE is END.
    doubtful
        Illegal programs that could end in more than one way.
    undefined
        Illegal programs whose results depend on the moment, and are not compared.
    """

    programs: int = 0
    cycles: int = 0
    causes: Counter[Cause] = field(default_factory=Counter)
    doubtful: int = 0
    undefined: int = 0


@dataclass(frozen=True)
class Failure:
    """A program on which RTL and simulator differ.

    Attributes
    ----------
    number
        Of the program.
    why
        What differs.
    case
        The smallest program found that still fails.
    smaller
        What differs there.
    """

    number: int
    why: str
    case: Case
    smaller: str


def case_of(config: CoreConfig, kind: str, seed: int, number: int) -> Case:
    """A program from its number."""
    source = random.Random(f"{seed}/{kind}/{number}")
    return (legal_case if kind == "legal" else illegal_case)(config, source)


def run_programs(
    config: CoreConfig,
    kind: str,
    seed: int,
    numbers: range,
    tally: Tally,
    model: RtlModel | None = None,
) -> Failure | None:
    """Run programs until one fails.

    Parameters
    ----------
    config
        The core.
    kind
        One of `KINDS`. Between illegal programs every fourth is a legal one.
    seed, numbers
        Which programs.
    tally
        Is added to.
    model
        A compiled core other than the generated one.
    """
    host = None
    for number in numbers:
        if host is None or number % _BATCH == 0:
            host = Host(config, random.Random(f"{seed}/{kind}/{number // _BATCH}/memory"), model)
        chosen = "legal" if number % 4 == 3 else kind
        case = case_of(config, chosen, seed, number)
        expected = expected_of(case)
        why = _run(host, case, expected, tally)
        if not why and chosen == "legal" and (expected.undefined or expected.result.faults):
            why = f"a program that is legal: {expected.undefined or expected.result.message}"
        if why:
            return _failure(case, number, why, seed, model)
    return None


def _run(host: Host, case: Case, expected: Expected, tally: Tally) -> str:
    try:
        seen = host.run(case, expected.before, expected.budget)
    except (RtlProtocolError, CsrError) as error:
        return str(error)
    wrong = compare(case, expected, seen, host.memory)
    if seen is None:
        return wrong
    if wrong:
        return f"after {seen.cycles} cycles: {wrong}"
    tally.programs += 1
    tally.cycles += seen.cycles
    tally.causes[seen.cause] += 1
    tally.doubtful += len({cause for cause, _ in expected.outcomes}) > 1 or (
        len(expected.outcomes) > 1 and not expected.result.unfinished
    )
    tally.undefined += bool(expected.undefined)
    return ""


def _failure(case: Case, number: int, why: str, seed: int, model: RtlModel | None) -> Failure:
    """Make the program smaller, on a core of its own for every attempt."""
    smaller = why

    def fails(candidate: Case) -> bool:
        nonlocal smaller
        try:
            found = judge(candidate, random.Random(f"{seed}/{number}/shrink"), model)
        except (RtlProtocolError, CsrError) as error:
            found = str(error)
        smaller = found or smaller
        return bool(found)

    # Nothing to shrink if it takes the programs before it to make this one fail.
    small = shrunk(case, fails) if fails(case) else replace(case, note="after other programs")
    return Failure(number, why, small, smaller)


def listing(failure: Failure) -> str:
    """A failing program as text, with what it runs on."""
    case = failure.case
    lines = [
        f"; {failure.why}",
        f"; shrunk to this ({case.note}): {failure.smaller}",
        f"; length {case.program_length}, expects {case.fingerprint:#018x}, budget {case.budget}",
        *(f"; {r.name.lower()} at {case.regions[r][0]:#x}, {case.regions[r][1]} bytes"
          for r in Region),
        *(f"{n:4}  {format_instruction(word)}" for n, word in enumerate(case.words)),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def model_of_file(rtl: Path, config: CoreConfig) -> RtlModel:
    """Verilog of a core, from a file, compiled.

    Raises
    ------
    LutcoreError
        If it cannot be read, has not the ports of the configuration, or Yosys refuses it.
    """
    return build_model(read_core(rtl, config), bus_width=config.bus_width, progress=False)


def runs(settings: Settings, rtl: Path | None, test: str | None) -> list[Outcome]:
    """The bench: legal programs, then illegal ones, on the generated core or on `rtl`."""
    names = {kind: f"{kind} programs" for kind in KINDS}
    chosen = [kind for kind, name in names.items() if test in (None, name)]
    if not chosen:
        known = ", ".join(names.values())
        raise LutcoreError(f"bench programs has no test {test}: there are {known}")
    model = None if rtl is None else model_of_file(rtl, settings.config)
    outcomes = []
    for kind in chosen:
        started, tally = time.monotonic(), Tally()
        numbers = range(PROGRAMS * settings.effort)
        failure = run_programs(settings.config, kind, settings.seed, numbers, tally, model)
        text = None
        if failure is not None:
            path = settings.results / f"{kind}-{failure.number}.lasm"
            write_file(path, listing(failure))
            text = _message(failure, kind, settings, path, rtl)
        for cause in tally.causes:
            cover("cause", cause.name)
        figures = {"programs": tally.programs, "cycles": tally.cycles}
        figures |= {f"stopped with {c.name}": n for c, n in sorted(tally.causes.items()) if c}
        figures |= {"undefined": tally.undefined, "doubtful": tally.doubtful}
        seconds = time.monotonic() - started
        outcomes.append(Outcome(names[kind], seconds, text, figures=figures))
    return outcomes


def _message(failure: Failure, kind: str, settings: Settings, path: Path, rtl: Path | None) -> str:
    config = path.with_name("config.toml")
    write_file(config, settings.config.to_toml())
    other = "" if rtl is None else f" --rtl {rtl}"
    return (
        f"{kind} program {failure.number}: {failure.why}\n"
        f"seed {settings.seed}, {len(failure.case.words)} instructions after shrinking, in {path}\n"
        f"repeat: python -m lutcore.verif.programs.by_hand --config {config} --kind {kind} "
        f"--seed {settings.seed} --first {failure.number} --count 1{other}"
    )
