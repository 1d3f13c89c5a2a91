"""What a mutation campaign says: on the screen, and as JSON."""

import json
from collections import Counter
from dataclasses import asdict

from rich.table import Table

from lutcore.verif.mutation.campaign import Campaign
from lutcore.verif.mutation.judge import SCENARIOS

__all__ = ["json_text", "lines", "table"]

_OUTCOMES = ("killed", "timing", "equivalent", "undecided")


def table(campaign: Campaign) -> Table:
    """Outcomes by unit."""
    counts: dict[str, Counter[str]] = {}
    for verdict in campaign.verdicts:
        counts.setdefault(verdict.mutant.unit, Counter())[verdict.outcome] += 1
    total = sum(counts.values(), Counter())
    result = Table("unit", "faults", *_OUTCOMES)
    for unit, found in (*counts.items(), ("all", total)):
        if unit == "all":
            result.add_section()
        cells = (str(found[outcome]) for outcome in _OUTCOMES)
        result.add_row(unit, str(found.total()), *cells)
    for column in result.columns[1:]:
        column.justify = "right"
    return result


def lines(campaign: Campaign) -> list[str]:
    """Kills by scenario, then every fault that was not killed by a wrong value."""
    killers = Counter(v.by for v in campaign.verdicts if v.outcome == "killed")
    order = [s.name for s in SCENARIOS if s.name in killers]
    order += sorted(set(killers) - set(order))
    text = []
    if killers:
        text.append("killed by " + ", ".join(f"{name} {killers[name]}" for name in order))
    for outcome in _OUTCOMES[1:]:
        for verdict in campaign.verdicts:
            if verdict.outcome == outcome:
                how = f" [{verdict.by}]" if verdict.by else ""
                text.append(f"{outcome}{how}: fault {verdict.number}, {verdict.mutant}")
                if outcome == "undecided":
                    text.append(f"  again: {_command(campaign, verdict.number)}")
    return text


def _command(campaign: Campaign, number: int) -> str:
    request = campaign.request
    where = "".join(f" --unit {unit}" for unit in request.units)
    if request.source is not None:
        where += f" --config {request.source}"
    return f"lutcore mutate{where} --count {request.count} --seed {request.seed} --only {number}"


def json_text(campaign: Campaign) -> str:
    """Everything, for other programs."""
    request = campaign.request
    totals = Counter(verdict.outcome for verdict in campaign.verdicts)
    return (
        json.dumps(
            {
                "config": request.config.as_dict(),
                "fingerprint": f"{request.config.fingerprint:#018x}",
                "units": request.units,
                "seed": request.seed,
                "count": request.count,
                "regression_cycles": campaign.cycles,
                "totals": {outcome: totals[outcome] for outcome in _OUTCOMES},
                "faults": [
                    {
                        "number": verdict.number,
                        "unit": verdict.mutant.unit,
                        **asdict(verdict.mutant),
                        "outcome": verdict.outcome,
                        "by": verdict.by,
                        "detail": verdict.detail,
                    }
                    for verdict in campaign.verdicts
                ],
            },
            indent=2,
        )
        + "\n"
    )
