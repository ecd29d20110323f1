"""The choices that the package ships are those of its trials: each is chosen again, and a few trials are made again."""

import pytest
from trained import train

from bench.catalogue import task_set
from bench.planning.plan import Planner
from bench.planning.request import Request
from bench.spec import STL, RunSpec
from bench.store import Store
from bench.tuning.choose import SEEDS, choose, scaled
from bench.tuning.shipped import shipped_choices

SHIPPED = shipped_choices()
CLOSE = 0.05
"""How far a validation score may be on another machine, relative to it: rounding grows over hundreds of steps."""


def called(choice):
    return f"{choice.task_set_label} {choice.method_label} {'+'.join(choice.tasks)}"


def plan_of(folder, **request):
    return Planner(Request(accelerator="cpu", **request), Store(folder))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """What the command without options asks for."""
    return plan_of(tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="module")
def planner(tmp_path_factory):
    return plan_of(tmp_path_factory.mktemp("empty"), methods="all")


def choices_of(planner):
    return {contestant.choice for contestant in planner.contestants()}


def test_the_first_command_makes_no_trial(first):
    assert first.open() == []
    assert first.to_try() == 0
    assert choices_of(first) <= SHIPPED.keys()


def test_every_choice_that_is_shipped_is_of_a_built_in_rule(planner):
    assert SHIPPED.keys() <= choices_of(planner)


def test_plan_says_that_rates_are_shipped(first):
    [line] = first.about()
    assert line.startswith(f"learning rates: {len(choices_of(first))} shipped")


@pytest.mark.parametrize("choice", SHIPPED.values(), ids=called)
def test_what_is_chosen_follows_from_its_trials(choice, planner):
    contestant = next(one for one in planner.contestants() if one.choice == choice.name)
    tasks = [task for task in contestant.contest.built.tasks if task.name in choice.tasks]
    metrics = {(task.name, name): metric for task in tasks for name, metric in task.metrics.items()}
    found = choose(
        choice.attempts,
        planner._reference(contestant, choice.attempts),
        {key: metric.higher_is_better for key, metric in metrics.items()},
        {key: metric.constant_score for key, metric in metrics.items()},
    )
    assert {name: getattr(choice, name) for name in found} == found
    assert len(choice.attempts) == choice.budget * len(SEEDS)
    assert {attempt.seed for attempt in choice.attempts} == set(SEEDS)


@pytest.mark.parametrize(
    ("label", "method", "tasks", "factor"),
    [("scales", STL, ("y1",), 0.25), ("scales", "equal", None, 2.0), ("digits", STL, ("reconstruction",), 1.0)],
)
def test_a_trial_that_is_made_again_scores_the_same_on_validation(label, method, tasks, factor):
    choice = next(
        choice
        for choice in SHIPPED.values()
        if (choice.task_set_label, choice.method_label) == (label, method) and tasks in (None, choice.tasks)
    )
    attempt = next(a for a in choice.attempts if (a.factor, a.seed) == (factor, SEEDS[0]))
    spec = RunSpec(
        task_set=choice.task_set,
        tasks=choice.tasks,
        method=choice.variant,
        seed=attempt.seed,
        protocol=scaled(task_set(choice.task_set).protocols["quick"], factor),
    )
    assert spec.name == attempt.run
    result, _, _ = train(spec)
    for task, scores in attempt.validation.items():
        for name, value in scores.items():
            assert result.points[-1].validation[task][name] == pytest.approx(value, rel=CLOSE)
