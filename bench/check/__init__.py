"""Tries whether a rule or a task set keeps its contract: small experiments, each of which can fail.

`check` yields what came of them, one by one. `parametrize_with_checks` makes them tests of somebody's own pytest.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import methods
from bench.catalogue import construct, parse_task_set, place
from bench.catalogue import task_sets as registry
from bench.engine.interrupt import UserInterruptError
from methods.core import names
from methods.core.names import UsageError, did_you_mean
from methods.core.registry import Variant
from tasks.core import hub
from tasks.core.errors import DataError, in_words

if TYPE_CHECKING:
    from bench.check.grid import parametrize_with_checks

__all__ = ["Finding", "check", "checks_of", "parametrize_with_checks", "parsed", "sentence"]

Check = Callable[[Variant], None]
"""One experiment. Its name is short and stays the same; its docstring says what should be so."""


def __getattr__(name: str) -> Any:
    if name != "parametrize_with_checks":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    try:
        from bench.check import grid  # here, as it imports pytest, which only authors' tests need
    except ModuleNotFoundError as problem:
        if problem.name != "pytest":
            raise
        raise ImportError("parametrize_with_checks needs pytest, which is not installed: pip install pytest") from None
    return grid.parametrize_with_checks


@dataclass(frozen=True)
class Finding:
    """What came of one check."""

    what: str
    """What should be so, in a sentence."""
    outcome: Literal["ok", "fails", "does not apply"]
    detail: str = ""


def check(name: str | type) -> Iterator[Finding]:
    """Try a rule or a task set, check by check.

    Raises:
        UsageError: there is neither of this name, or an option is wrong.
        DataError: the data of the task set is not where it should be.
    """
    variant, is_task_set = parsed(name)
    if is_task_set:
        construct(variant)
    checks = checks_of(is_task_set)
    from bench.check.outcomes import CheckError, NotApplicableError  # with torch, which a wrong name need not pay for

    for function in checks:
        what = sentence(function)
        try:
            function(variant)
        except NotApplicableError as why:
            yield Finding(what, "does not apply", str(why))
        except CheckError as why:
            yield Finding(what, "fails", str(why))
        except (UsageError, DataError) as why:
            if not is_task_set:  # nothing was tried
                raise
            yield Finding(what, "fails", str(why))
            return  # what cannot be built can be tried no further
        except UserInterruptError:
            raise
        except BaseException as problem:  # whatever somebody's code may raise, SystemExit too
            yield Finding(what, "fails", in_words(problem))
        else:
            yield Finding(what, "ok")


def checks_of(is_task_set: bool) -> tuple[Check, ...]:
    """Return what is tried on a task set, or on a rule, in the order in which it is tried."""
    from bench.check import rules, task_sets  # with torch, which a wrong name need not pay for

    return task_sets.CHECKS if is_task_set else rules.CHECKS


def sentence(check: Check) -> str:
    """Return what a check holds true, without the full stop."""
    return (check.__doc__ or "").removesuffix(".")


def parsed(name: str | type) -> tuple[Variant, bool]:
    """Read a variant; say, too, whether it is one of a task set. Raise UsageError if there is no such thing."""
    sets, rules = registry.entries(), methods.registry.entries()
    first = name if isinstance(name, type) else names.read(names.split(name, "+")[0]).name
    if isinstance(first, str) and first not in {**sets, **rules} and ".py" not in first:
        raise UsageError(f"there is no method or task set '{first}'{did_you_mean(first, {**rules, **sets})}")
    try:
        variant = parse_task_set(name)
    except UsageError:
        if first in sets:
            raise
        return methods.parse(name), False
    if where := variant.parts[0].facts["hub"]:
        hub.require(where, place(variant))
    return variant, True
