"""What `list`, `plan` and `show` say, as plain data: a dictionary a row, which is printed as a table or as JSON."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import methods
from bench.catalogue import embedded
from methods.core.groups import groups
from methods.core.names import UsageError
from methods.core.options import REQUIRED, as_json
from methods.core.registry import Entry, Registry

if TYPE_CHECKING:  # they import what a listing of methods need not wait for
    from bench.planning.plan import Planned
    from bench.records import RunRecord

ROLES = {
    "trial": ", a trial: it serves to choose, and is in no table",
    "reference": ", of a reference curve: it is drawn, and tested against nobody",
}
"""What to say of a run that is not compared."""


def plugin_rows(registry: Registry, entries: Sequence[Entry], named: bool) -> list[dict[str, Any]]:
    """Describe methods or task sets.

    Args:
        registry: of which kind they are.
        entries: which.
        named: whether the user named them. What other distributions add is imported only then; before, its options are
            None.
    """
    built_in, rows = registry.built_in(), []
    inside = set(embedded()) if registry is not methods.registry else set()
    for entry in entries:
        row: dict[str, Any] = {"name": entry.name, "summary": None, "options": None, "groups": [], "written": []}
        if registry is not methods.registry:
            row["card"] = None
        if named or not entry.distribution:
            described = registry.describe(entry)
            options = sorted(described.options.items())
            row["summary"] = described.summary
            if "card" in row:
                row["card"] = described.facts["card"] or None
            row["options"] = {name: as_json(option) for name, option in options}
            row["written"] = [n if o.default is REQUIRED else f"{n}={o.write(o.default)}" for n, o in options]
            if entry.name in built_in and not entry.distribution:
                own = registry is methods.registry
                row["groups"] = groups(entry.name, described) if own else ["all"] * (entry.name in inside)
        rows.append({**row, "distribution": entry.distribution})
    return rows


def bibliography(name: str = "") -> str:
    """Return the BibTeX entries of all built-in methods' papers, or those of one method, as the file has them.

    Raises:
        UsageError: there is no method of this name, or the file has no entry of it.
    """
    if name:
        name = methods.registry.find(name).name
    text = (methods.registry.folder / "references.bib").read_text("ascii")
    entries = [entry.strip() for entry in re.split(r"^(?=@)", text, flags=re.MULTILINE)[1:]]
    found = [entry for entry in entries if not name or name in rules_of(entry)]
    if not found:
        raise UsageError(f"there is no reference for the method '{name}'")
    return "\n\n".join(found)


def rules_of(entry: str) -> list[str]:
    """Return the methods that a BibTeX entry is of: those that its field `rules` names."""
    named = re.search(r"^ *rules *= *\{(.*)\}", entry, re.MULTILINE)
    return re.findall(r"\w+", named[1]) if named else []


def run_rows(records: "Iterable[RunRecord]") -> list[dict[str, Any]]:
    """Describe stored runs, by task set, seed and method."""
    ordered = sorted(records, key=lambda r: (r.task_set_label, r.spec.seed, r.method_label, r.spec.tasks))
    return [
        {
            "run": record.name,
            "task_set": record.task_set_label,
            "method": record.method_label,
            "tasks": list(record.spec.tasks),
            "seed": record.spec.seed,
            "protocol": record.protocol_label or record.spec.protocol.name,
            "role": record.provenance.role,
            "status": record.result.status,
            "reason": record.result.reason,
        }
        for record in ordered
    ]


def plan_rows(runs: "Iterable[Planned]") -> list[dict[str, Any]]:
    """Describe the runs of a plan, in their order."""
    return [
        {
            "run": planned.spec.name,
            "task_set": planned.task_set_label,
            "method": planned.method_label,
            "tasks": list(planned.spec.tasks),
            "seed": planned.spec.seed,
            "protocol": planned.protocol_label,
            "role": planned.role,
            "to_do": planned.todo,
            "why": planned.why,
        }
        for planned in runs
    ]


def run_text(record: "RunRecord") -> list[str]:
    """Describe one run for a reader: what was asked, what came of it, what it cost, and the end of its log."""
    [row] = run_rows([record])
    result, cost, made = record.result, record.cost, record.provenance
    protocol = record.spec.protocol.model_dump(exclude={"name"})
    lines = [
        f"run       {record.name}",
        f"task set  {row['task_set']} (tasks {', '.join(row['tasks'])})",
        f"method    {row['method']}",
        f"seed      {row['seed']}{ROLES.get(record.provenance.role, '')}",
        f"protocol  {row['protocol']}: {', '.join(f'{name} {value}' for name, value in protocol.items())}",
        f"device    {record.parts.device}, {record.spec.precision}, {record.parts.threads} threads",
        f"status    {result.status}{': ' * bool(result.reason)}{result.reason}",
    ]
    for task, scores in result.scores.items():
        for name, score in scores.items():
            value = "not finite" if score.value is None else f"{score.value:.6g}"
            better = "higher" if score.higher_is_better else "lower"
            untrained = "" if score.untrained is None else f", untrained {score.untrained:.6g}"
            lines.append(f"score     {task} {name} {value} ({better} is better{untrained})")
    if result.degenerate:
        lines.append(f"steps     {result.degenerate} at which the rule's definition had no solution")
    step = "" if cost.step_seconds is None else f", {1000 * cost.step_seconds:.3g} ms a step"
    lines += [
        f"time      {cost.total_seconds:.1f} s{step}",
        f"code      {made.commit or 'unknown commit'}",
        f"versions  {', '.join(f'{name} {version}' for name, version in made.versions.items())}",
        f"machine   {', '.join(filter(None, [made.host, *made.hardware.values()]))}",
    ]
    return [*lines, *(["log"] if record.log else []), *(f"  {line}" for line in record.log)]
