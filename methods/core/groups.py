"""Groups of built-in rules, which can be named in the place of single rules.

`standard` is declared here; the other groups follow from what a rule asks for. A rule that needs an option is in no
group, and neither is a plug-in: to install one changes nobody's comparison.
"""

from methods.core.options import REQUIRED
from methods.core.registry import Description
from methods.core.rules import GROUPS, registry

STANDARD = ("dwa", "equal", "gradnorm", "kd", "mgda", "uncertainty")
"""The rules that people know."""


def members() -> dict[str, list[str]]:
    """Return the names of the rules in each group, by group. No rule is imported."""
    found: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name, entry in registry.built_in().items():
        for group in groups(name, registry.describe(entry)):
            found[group].append(name)
    return found


def groups(name: str, described: Description) -> list[str]:
    """Return the groups of a built-in rule, from its name and from what it says of itself."""
    if any(option.default is REQUIRED for option in described.options.values()):
        return []
    standard = ["standard"] if name in STANDARD else []
    kind = _kind(described)
    return [*standard, "all", *([kind] if kind else [])]


def _kind(described: Description) -> str:
    """Return the group of a rule's kind; nothing for one that is a training of its own."""
    asks = set(described.facts["asks"])
    if described.facts["teachers"]:
        return "distillation"
    if asks & {"gramian", "jacobian", "features"}:
        return "gradient"
    return "loss" if asks == {"losses"} else ""
