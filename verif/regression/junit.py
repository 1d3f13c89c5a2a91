"""Verdicts as JUnit XML, which continuous integration understands."""

import re
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from lutcore.verif.regression.runner import JobResult

__all__ = ["junit_xml"]

#: Characters that XML 1.0 cannot hold.
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(results: Iterable[JobResult], holes: Sequence[str]) -> ElementTree:
    """A test suite for each job, and one for coverage if it has holes.

    Parameters
    ----------
    results
        Of the jobs.
    holes
        Bins that count as failures.
    """
    root = Element("testsuites", name="lutcore verify")
    for result in results:
        job = result.job
        chosen = job.settings
        suite = SubElement(
            root,
            "testsuite",
            name=f"{chosen.unit}.{job.config_name}.{chosen.sim}",
            tests=str(len(result.outcomes)),
            failures=str(len(result.failures)),
            errors="0",
            skipped=str(sum(outcome.skipped for outcome in result.outcomes)),
            time=f"{result.seconds:.3f}",
        )
        properties = SubElement(suite, "properties")
        for name, value in (
            ("seed", chosen.seed),
            ("config", job.config_name),
            ("fingerprint", f"{chosen.config.fingerprint:#018x}"),
            ("effort", chosen.effort),
        ):
            SubElement(properties, "property", name=name, value=str(value))
        for outcome in result.outcomes:
            case = SubElement(
                suite,
                "testcase",
                classname=f"{chosen.unit}.{job.config_name}.{chosen.sim}",
                name=outcome.name,
                time=f"{outcome.seconds:.3f}",
            )
            if outcome.skipped:
                SubElement(case, "skipped")
            if outcome.failure is not None:
                text = f"{outcome.failure}\n\nrepeat with: {job.repeat(outcome)}"
                message = outcome.failure.partition("\n")[0]
                failure = SubElement(case, "failure", message=_clean(message))
                failure.text = _clean(text)
    if holes:
        count = str(len(holes))
        suite = SubElement(root, "testsuite", name="coverage", tests=count, failures=count)
        for hole in holes:
            case = SubElement(suite, "testcase", classname="coverage", name=_clean(hole))
            SubElement(case, "failure", message="no stimulus has reached it")
    indent(root)
    return ElementTree(root)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("?", text)
