"""What the gate found → a summary for a pull request, JUnit XML and JSON for any CI."""

import json
import math
from collections import Counter
from dataclasses import asdict
from xml.etree import ElementTree

from bench.gate import Finding, Outcome, State
from bench.report.findings import number, p_value, signed
from bench.report.text import escape_markdown

MARKS: dict[State, str] = {
    **{"regressed": "▼", "suspect": "?", "improved": "▲", "stale": "–", "missing": "✕", "ok": "·", "identical": "="},
}
"""A sign for each state, those that want a look first."""
OPEN: tuple[State, ...] = ("regressed", "suspect", "improved", "stale", "missing")
"""States that want a look."""


def markdown(outcome: Outcome) -> bytes:
    """Write a summary: the headline, what wants a look, what could have been seen, and the rest folded away."""
    counts = Counter(finding.state for finding in outcome.findings)
    order = [f"{counts[state]} {state}" for state in MARKS if counts[state]]
    shown = [finding for state in OPEN for finding in outcome.having(state)]
    rest = outcome.having("ok", "identical")
    lines = [f"## {_headline(outcome)}", "", f"{', '.join(order)}. {_power(outcome)}", ""]
    if shown:
        lines += [*_table(shown), ""]
    if rest:
        lines += [
            "<details><summary>What has not changed for the worse</summary>",
            "",
            *_table(rest),
            "",
            "</details>",
            "",
        ]
    return "\n".join(lines).encode()


def junit(outcome: Outcome) -> bytes:
    """Write JUnit XML: a test case a finding; regressed is a failure, stale is skipped, missing is an error."""
    kinds = {"regressed": "failure", "stale": "skipped", "missing": "error"}
    totals = Counter(kinds.get(finding.state, "") for finding in outcome.findings)
    suite = ElementTree.Element(
        "testsuite",
        {
            **{"name": "mtl-bench", "tests": str(len(outcome.findings)), "failures": str(totals["failure"])},
            **{"errors": str(totals["error"]), "skipped": str(totals["skipped"])},
        },
    )
    for finding in outcome.findings:
        place = finding.task_set or "all task sets"
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": place, "name": f"{finding.method} {finding.what}"}
        )
        if finding.state in kinds:
            ElementTree.SubElement(case, kinds[finding.state], {"message": _said(finding)})
    text: bytes = ElementTree.tostring(suite, "utf-8", xml_declaration=True)
    return text + b"\n"


def as_json(outcome: Outcome) -> bytes:
    """Write everything as JSON; what is not known is null."""

    def plain(value: object) -> object:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    found = [{name: plain(value) for name, value in asdict(finding).items()} for finding in outcome.findings]
    content = {"tolerance": outcome.tolerance, "detectable": plain(outcome.detectable), "findings": found}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _headline(outcome: Outcome) -> str:
    regressed = outcome.having("regressed")
    if regressed:
        return f"{len({finding.method for finding in regressed})} of the methods regressed"
    if outcome.having("missing"):
        return "Some runs of the baseline are missing"
    if all(finding.state == "identical" for finding in outcome.findings):
        return "Every number is the same"
    return "No regression"


def _power(outcome: Outcome) -> str:
    if math.isnan(outcome.detectable):
        return "Nothing had to be tested: what was compared is the same to six digits, or has too few seeds for a test."
    return (
        f"A fall of {number(outcome.detectable, 2)} points or more would have been found with a power of 80 %; falls "
        f"below {outcome.tolerance:g} are let pass."
    )


def _table(findings: list[Finding]) -> list[str]:
    head = "| | Task set | Method | Change, pp | p | Seeds | |"
    lines = [head, "| :-: | :-- | :-- | --: | --: | --: | :-- |"]
    for f in findings:
        change = "" if math.isnan(f.mean) else signed(f.mean)
        change += "" if math.isnan(f.low) or f.state == "identical" else f" [{signed(f.low)} to {signed(f.high)}]"
        place, method, note = map(escape_markdown, (f.task_set or "all", f.method, f.note))
        cells = [f"{MARKS[f.state]} {f.state}", place, method, change, _p(f), str(f.seeds or ""), note]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _p(finding: Finding) -> str:
    return "" if math.isnan(finding.p) else p_value(finding.p)


def _said(finding: Finding) -> str:
    change = "" if math.isnan(finding.mean) else f" by {signed(finding.mean)} points (p {_p(finding)})"
    return f"{finding.state}{change}{': ' + finding.note if finding.note else ''}"
