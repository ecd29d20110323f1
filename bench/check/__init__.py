"""Whether a rule or a task set keeps its contract: small experiments, each of which can fail."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import methods
from bench.catalogue import construct, parse_task_set, place
from bench.catalogue import task_sets as registry
from bench.engine.interrupt import UserInterruptError
from methods.core import names
from methods.core.names import UsageError, did_you_mean
from methods.core.registry import Variant
from tasks.core import hub
from tasks.core.errors import DataError, in_words


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
    variant, is_task_set = _parsed(name)
    if is_task_set:
        construct(variant)
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


def _parsed(name: str | type) -> tuple[Variant, bool]:
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
