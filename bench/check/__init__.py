"""Whether a rule or a task set keeps its contract: small experiments, each of which can fail."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import methods
from bench.catalogue import PLACES, parse_task_set
from bench.catalogue import task_sets as registry
from bench.engine.interrupt import UserInterruptError
from methods.core.registry import PLACE, UsageError, canonical, did_you_mean
from tasks.core import hub
from tasks.core.errors import DataError


@dataclass(frozen=True)
class Finding:
    """What came of one check."""

    what: str
    """What should be so, in a sentence."""
    outcome: Literal["ok", "fails", "does not apply"]
    detail: str = ""


def check(variant: str) -> Iterator[Finding]:
    """Try a rule or a task set, check by check.

    Raises:
        UsageError: there is neither of this name, or an option is wrong.
        DataError: the data of the task set cannot be had.
    """
    is_task_set = _is_task_set(variant)
    # Imported here, because they import torch, which a wrong name need not pay for.
    from bench.check import rules, task_sets
    from bench.check.outcomes import CheckError, NotApplicableError

    for function in task_sets.CHECKS if is_task_set else rules.CHECKS:
        what = (function.__doc__ or "").removesuffix(".")
        try:
            function(variant)
        except NotApplicableError as why:
            yield Finding(what, "does not apply", str(why))
        except CheckError as why:
            yield Finding(what, "fails", str(why))
        except (UsageError, DataError):  # nothing was tried
            raise
        except UserInterruptError:
            raise
        except BaseException as problem:  # whatever somebody's code may raise, SystemExit too
            said = f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}".removesuffix(": ")
            yield Finding(what, "fails", said)
        else:
            yield Finding(what, "ok")


def _is_task_set(variant: str) -> bool:
    """Whether a variant is one of a task set; raise UsageError if it is nothing."""
    name = variant.partition("[")[0].partition("+")[0]
    sets = registry.entries()
    known = {**methods.registry.entries(), **sets}
    if name not in known and ".py" not in name:
        raise UsageError(f"there is no method or task set '{name}'{did_you_mean(name, known)}")
    try:
        part = parse_task_set(variant)
    except UsageError:
        if name in sets:
            raise
        methods.parse(variant)
        return False
    place = part.values.get(PLACE, "")
    if where := part.entry.attributes.get("hub"):
        hub.require(where, place)
    if place:
        PLACES[canonical([part])] = place
    return True
