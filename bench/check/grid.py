"""Makes the checks tests of an author's own pytest: one test for each check of each plug-in."""

from collections.abc import Callable
from functools import partial

import pytest

from bench.check import checks_of, parsed, sentence
from bench.check.outcomes import CheckError, NotApplicableError
from methods.core.names import UsageError
from methods.core.registry import Variant


def parametrize_with_checks(*plugins: str | type) -> pytest.MarkDecorator:
    """Run every check that there is for these plug-ins, as tests of their own.

    The decorated function has one argument, `check`, and calls it:

        from bench.check import parametrize_with_checks


        @parametrize_with_checks("mine.py:Rule", "mine.py:Rule[beta=0.5]")
        def test_it_keeps_its_contract(check):
            check()

    A test's id is the plug-in and the name of the check, `mine.py:Rule-bears_absent_tasks`. A check that does not apply
    is skipped, with the reason. `pytest --durations=5` shows which take long.

    Args:
        plugins: rules and task sets, each as `python -m bench check` takes it, or as a class. A path counts from the
            folder in which pytest is started.

    Raises:
        UsageError: there is no such plug-in, an option is wrong, or no plug-in is given.
    """
    if not plugins:
        raise UsageError("parametrize_with_checks needs a plug-in: 'mine.py:Rule', or a class")
    cases = []
    for plugin in plugins:
        variant, is_task_set = parsed(plugin)
        for function in checks_of(is_task_set):
            identity = f"{variant.label}-{function.__name__}"
            cases.append(pytest.param(partial(_try, function, variant), id=identity))
    return pytest.mark.parametrize("check", cases)


def _try(function: Callable[[Variant], None], variant: Variant) -> None:
    """Fail with the check's sentence and what is wrong; of what the plug-in raises, pytest shows the place."""
    try:
        function(variant)
    except NotApplicableError as why:
        pytest.skip(str(why))
    except CheckError as why:
        pytest.fail(f"{sentence(function)}: {why}", pytrace=False)
