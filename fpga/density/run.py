"""Runs a density comparison from the command line."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from lutcore.fpga.density import compare as density
from lutcore.fpga.density import report as density_report
from lutcore.fpga.density.compare import Contender, Score, Size, Workload, usual_size
from lutcore.hw.contract.config import PRESETS
from lutcore.sw.base.executor import Runner
from lutcore.sw.base.files import write_file
from lutcore.sw.base.progress import progress

if TYPE_CHECKING:
    from lutcore.fpga.density.claims import Claim

__all__ = ["run"]

#: Forms of each letter that are counted at full size, of those that were best in the ranking.
KEPT = {"LUT": 2, "a": 1, "b": 2, "c": 2, "d": 1}


def run(
    target: str,
    *,
    workloads: Sequence[Workload],
    size: tuple[int | None, int | None, int | None],
    every: bool,
    route: bool,
    core: bool,
    liberty: Path | None,
    runner: Runner,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Score, print and write; see ``lutcore bench density --help``."""
    scores: list[Score] = []
    for workload in workloads:
        usual = _tuple(usual_size(target, workload))
        size_of = Size(*(new or old for new, old in zip(size, usual, strict=True)))
        some = list(density.contenders(workload, target, size_of))
        if not every:
            some = _ranked(some, scores, runner, liberty)
        found = _score(some, f"{workload.name}: synthesising", runner, liberty)
        scores += found
        typer.echo(density_report.table(workload, found), nl=False)
        typer.echo(density_report.verdict(workload, found) + "\n")
        # What there is so far, should the run be broken off.
        _write(scores, None, json_file, plot_file)
    units = None
    if core and target in ("xc7", "ecp5"):
        from lutcore.fpga.area.by_unit import core_units, units_table

        with Console(stderr=True).status("Synthesising the core by unit"):
            units = core_units(PRESETS["default"], target)
        typer.echo(units_table("default", target, units), nl=False)
    claims = []
    if core and target == "cells":
        claims = _claims(scores, runner, liberty)
    routed = []
    if route and target == "ecp5":
        from lutcore.fpga.density.route import route_best, routes_table

        routed = route_best(scores, Console(stderr=True))
        typer.echo(routes_table(routed), nl=False)
    more = {"core_by_unit": units, "routed": routed, "claims": [c.as_dict() for c in claims]}
    _write(scores, more, json_file, plot_file)


def _claims(scores: Sequence[Score], run: Runner, liberty: Path | None) -> "list[Claim]":
    """The paper's claims, with the activations of the first workload."""
    from lutcore.fpga.density.claims import claims_table, measure, units, widths

    work = scores[0].contender.workload
    with progress("The paper's claims: synthesising", len(units())) as bar:
        found = measure(
            work.activation,
            run,
            liberty=liberty,
            bits=work.bits,
            done=bar.advance,
        )
    typer.echo(claims_table(found, work), nl=False)
    by_width = list(widths(scores))
    typer.echo(claims_table(by_width), nl=False)
    return found + by_width


def _tuple(size: Size) -> tuple[int, int, int]:
    return size.rows, size.lanes, size.columns


def _ranked(
    some: list[Contender], scores: Sequence[Score], run: Runner, liberty: Path | None
) -> list[Contender]:
    """The forms that were best: baselines in a small size, LUT arrays in what is counted so far."""
    theirs = [c for c in some if c.letter != "LUT"]
    ranking = [replace(c, size=_least(c.size, density.RANKING)) for c in theirs]
    name = some[0].workload.name
    small = _score(ranking, f"{name}: ranking baselines in a small size", run, liberty)
    sort = some[0].workload.ternary
    kept = best_forms([*small, *(s for s in scores if s.contender.workload.ternary == sort)])
    ours = [c for c in some if c.letter == "LUT"]
    tried = {_form(s.contender) for s in scores}
    return [c for c in ours if _form(c) in kept or _form(c) not in tried] + [
        c for c in theirs if _form(c) in kept or c.dsp
    ]


def best_forms(scores: Sequence[Score]) -> set[tuple[str, str, bool]]:
    """The best forms of each letter, without those that need DSP blocks."""
    found: dict[str, dict[tuple[str, str, bool], float]] = defaultdict(dict)
    for score in scores:
        if not score.contender.dsp:
            forms = found[score.contender.letter]
            cost = score.effective(density.GROUPS[0])
            form = _form(score.contender)
            forms[form] = min(cost, forms.get(form, cost))
    return {
        form
        for letter, forms in found.items()
        for form in sorted(forms, key=lambda f, forms=forms: forms[f])[: KEPT[letter]]
    }


def _least(size: Size, limit: Size) -> Size:
    return Size(*map(min, _tuple(size), _tuple(limit)))


def _form(contender: Contender) -> tuple[str, str, bool]:
    return contender.letter, contender.name, contender.dsp


def _score(some: list[Contender], title: str, run: Runner, liberty: Path | None) -> list[Score]:
    with progress(title, len(some)) as bar:
        return density.score_all(some, run, liberty=liberty, done=bar.advance)


def _write(
    scores: Sequence[Score],
    more: dict[str, object] | None,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    if json_file is not None:
        write_file(json_file, density_report.as_json(scores, more))
    if plot_file is not None:
        density_report.plot(scores, plot_file)
