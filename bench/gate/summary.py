"""Write the findings of a comparison: Markdown for a pull request, JUnit XML and JSON for any CI."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from xml.etree import ElementTree

from bench.gate.baseline import commands
from bench.gate.judge import NOT_COMPARED, Finding, Outcome, State
from bench.plain import one_line
from bench.report.findings import number, p_value, signed
from bench.report.pages.text import escape_markdown

MARKS: dict[State, str] = {
    "regressed": "▼",
    "suspect": "?",
    "improved": "▲",
    "rechosen": "↻",
    "stale": "–",
    "missing": "✕",
    "ok": "·",
    "identical": "=",
}
"""A sign for each state. The states that a person should look at come first."""
OPEN: tuple[State, ...] = ("regressed", "suspect", "improved", "rechosen", "stale", "missing")
"""States that a person should look at."""


def markdown(outcome: Outcome) -> bytes:
    """Write a summary: the headline, the smallest visible fall, the findings to look at, and the others folded."""
    counts = Counter(finding.state for finding in outcome.findings)
    order = [f"{counts[state]} {state}" for state in MARKS if counts[state]]
    shown = [finding for state in OPEN for finding in outcome.having(state)]
    moved = _moved(outcome)
    shown += [f for f in outcome.having("ok") if f.what == "quality" and f.method in moved]
    rest = [finding for finding in outcome.having("ok", "identical") if finding not in shown]
    lines = [f"## {_headline(outcome)}", "", f"{', '.join(order)}. {_power(outcome)}", "", _conditions(outcome), ""]
    lines += _tables(shown)
    if shown:
        lines += ["The same runs:", "", "```console", *_again(shown, outcome), "```", ""]
    if rest:
        lines += [
            "<details><summary>What has not changed for the worse</summary>",
            "",
            *_tables(rest),
            "</details>",
            "",
        ]
    return "\n".join(lines).encode()


def junit(outcome: Outcome) -> bytes:
    """Write JUnit XML with a test case for each finding.

    Regressed is a failure, missing is an error. Rechosen and stale are skipped.
    """
    kinds = {"regressed": "failure", "rechosen": "skipped", "stale": "skipped", "missing": "error"}
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
            suite, "testcase", {"classname": one_line(place), "name": one_line(f"{finding.method} {finding.what}")}
        )
        if finding.state in kinds:
            ElementTree.SubElement(case, kinds[finding.state], {"message": _said(finding)})
    text: bytes = ElementTree.tostring(suite, "utf-8", xml_declaration=True)
    return text + b"\n"


def as_json(outcome: Outcome) -> bytes:
    """Write everything as JSON. Unknown values are null."""

    def plain(value: object) -> object:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    found = [{name: plain(value) for name, value in asdict(finding).items()} for finding in outcome.findings]
    sides = {"before": outcome.before, "now": outcome.now}
    content = {
        **{
            name: side.model_dump(mode="json", include={"commits", "versions", "hardware"})
            for name, side in sides.items()
        },
        **{"tolerance": outcome.tolerance, "detectable": plain(outcome.detectable), "times": outcome.times},
        **{"not in the baseline": [list(cell.key) for cell in outcome.unknown], "findings": found},
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _headline(outcome: Outcome) -> str:
    regressed = {finding.method for finding in outcome.having("regressed")}
    if regressed:
        everyone = {cell.method for cell in outcome.before.cells}
        return f"{len(regressed)} of {len(everyone)} methods regressed"
    if outcome.having("missing"):
        return "Some of what the baseline has is missing"
    if all(finding.state == "identical" for finding in outcome.findings if finding.what == "quality"):
        return "Every result is the same"
    said = "No regression"
    if moved := _moved(outcome):
        said += f"; results of {', '.join(map(escape_markdown, moved))} have changed"
    if rechosen := sorted({finding.method for finding in outcome.having("rechosen")}):
        said += f"; the choice of {', '.join(map(escape_markdown, rechosen))} would change"
    return said


def _moved(outcome: Outcome) -> list[str]:
    """The methods whose results have changed, if those of others have not: they show what was touched."""
    everywhere = [f for f in outcome.findings if f.what == "quality" and not f.task_set]
    moved = [f.method for f in everywhere if f.state != "identical" and f.state not in NOT_COMPARED]
    return moved if any(f.state == "identical" for f in everywhere) else []


def _power(outcome: Outcome) -> str:
    if math.isnan(outcome.detectable):
        return "No quality had to be tested: results are the same to six digits, or there are too few seeds for a test."
    return (
        f"A fall of {number(outcome.detectable, 2)} points or more would have been found with a power of 80 %; "
        f"smaller falls than {outcome.tolerance:g} are accepted."
    )


def _conditions(outcome: Outcome) -> str:
    """Say which commits, versions and hardware were compared."""
    before, now = outcome.before, outcome.now
    said = [_commits(outcome)]
    for name in sorted((before.versions.keys() & now.versions.keys()) - {"mtl-bench"}):  # which the commit tells
        old, new = before.versions[name], now.versions[name]
        if old != new:
            said.append(escape_markdown(f"{name} {old} → {new}") + ".")
    if before.hardware != now.hardware:
        said.append("Other hardware.")
    said.append(f"Times of steps: {outcome.times}.")
    if unknown := outcome.unknown:
        names = ", ".join(escape_markdown(f"{cell.method} on {cell.task_set}") for cell in unknown)
        said.append(f"Not in the baseline: {names}.")
    return " ".join(said)


def _commits(outcome: Outcome) -> str:
    """Say which commits made the runs, and whether runs of the baseline were reused."""
    before, now = outcome.before.commits, outcome.now.commits
    # A commit with changes stands for several versions of the code, so that its runs may be new ones.
    reused = [commit for commit in now if commit in before and commit and not commit.endswith("+changes")]
    new = [commit for commit in now if commit not in reused]
    if reused and new:
        return f"Commit {_shown(before)} → {_shown(new)}; runs that the change cannot have touched were reused."
    if reused:
        return f"Commit {_shown(reused)} made all runs, those of the baseline and these."
    return f"Commit {_shown(before)} → {_shown(now)}."


def _shown(commits: Sequence[str]) -> str:
    short = [f"{commit[:10]}{' with changes' * commit.endswith('+changes')}" for commit in commits if commit]
    return escape_markdown(", ".join(short) or "unknown")


def _again(findings: Sequence[Finding], outcome: Outcome) -> list[str]:
    """Return the commands that make the runs of these findings."""
    wanted = {(finding.task_set, finding.method) for finding in findings}
    return commands(c for c in outcome.before.cells if {c.key, ("", c.method)} & wanted)


def _tables(findings: Sequence[Finding]) -> list[str]:
    """Write a table of the findings about quality, then one of those about cost."""
    quality = [finding for finding in findings if finding.what == "quality"]
    cost = [finding for finding in findings if finding.what == "cost"]
    lines = []
    if quality:
        lines += [
            "| Quality | Task set | Method | Change, pp | p | Seeds | |",
            "| :-- | :-- | :-- | --: | --: | --: | :-- |",
        ]
        for f in quality:
            change = "" if math.isnan(f.mean) else signed(f.mean)
            change += "" if math.isnan(f.low) or f.state == "identical" else f" [{signed(f.low)} to {signed(f.high)}]"
            lines.append(f"{_first(f)} {change} | {_p(f)} | {f.seeds or ''} | {f.note} |")
        lines.append("")
    if cost:
        lines += ["| Cost of a step | Task set | Method | |", "| :-- | :-- | :-- | :-- |"]
        lines += [f"{_first(f)} {f.note} |" for f in cost]
        lines.append("")
    return lines


def _first(finding: Finding) -> str:
    place, method = map(escape_markdown, (finding.task_set or "all", finding.method))
    return f"| {MARKS[finding.state]} {finding.state} | {place} | {method} |"


def _p(finding: Finding) -> str:
    return "" if math.isnan(finding.p) else p_value(finding.p)


def _said(finding: Finding) -> str:
    change = "" if math.isnan(finding.mean) else f" by {signed(finding.mean)} points (p {_p(finding)})"
    return f"{finding.state}{change}{': ' + finding.note if finding.note else ''}"
