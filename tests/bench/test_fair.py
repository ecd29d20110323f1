"""A rule that differs from equal weights by a factor, which a learning rate makes up for, ends as they do."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from trained import rule

import bench.campaign
from bench.campaign import Campaign
from bench.catalogue import task_set
from bench.planning.request import Request
from bench.report.tuned import from_store
from bench.store import Store
from bench.training import loop

PLUGIN = Path(__file__).with_name("plugin_tuned.py")
GENTLE, QUARTER = f"{PLUGIN}:Gentle", f"{PLUGIN}:Quarter"
ASKED = {"methods": QUARTER, "tasks": GENTLE, "protocol": "quick", "accelerator": "cpu", "engine": "inline"}


@pytest.fixture(scope="module")
def gentle(tmp_path_factory):
    """A campaign of equal weights and of equal weights divided by four, with seven trials each."""
    out = tmp_path_factory.mktemp("gentle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.campaign, "_measure_costs", lambda *_, **__: None)
        Campaign(Request(**ASKED, seeds=3, out=out, figures=False), Store(out)).run()
    scores = from_store(Store(out))
    choices = {choice.method_label: choice for choice in scores.choices if choice.method != "stl"}
    return SimpleNamespace(scores=scores, choices=choices, equal="equal", quarter="plugin_tuned.py:Quarter")


def of(scores, method):
    return {run.seed: run.values for run in scores.runs if run.method == method}


def test_its_factor_is_four_times_that_of_equal_weights(gentle):
    equal, quarter = (gentle.choices[name] for name in (gentle.equal, gentle.quarter))
    assert equal.factor <= 2  # so that four times as much is on the grid
    assert quarter.factor == 4 * equal.factor


def test_untuned_it_scores_otherwise_than_equal_weights(gentle):
    untuned = gentle.scores.untuned
    equal, quarter = of(untuned, gentle.equal), of(untuned, gentle.quarter)
    assert equal.keys() == quarter.keys() == {0, 1, 2}
    assert all(equal[seed] != quarter[seed] for seed in equal)


def test_tuned_it_scores_the_same_to_the_last_digit(gentle):
    equal, quarter = of(gentle.scores, gentle.equal), of(gentle.scores, gentle.quarter)
    assert equal.keys() == {0, 1, 2}
    assert equal == quarter


def test_tuned_its_network_is_the_same_to_the_last_digit(gentle):
    found = []
    for method in (gentle.equal, gentle.quarter):
        spec = next(run.spec for run in gentle.scores.runs if (run.method, run.seed) == (method, 0))
        loop.train(spec, lambda spec=spec: task_set(spec.task_set), rule(spec))
        found.append(task_set(spec.task_set).built[-1].state_dict())
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_test_targets_in_another_order_change_no_choice(command, environment, tmp_path):
    """Most test scores do change, so that it is known that other targets were scored."""
    choices, tests = [], []
    for name, env in (("as-they-are", environment()), ("permuted", environment(PERMUTED="1"))):
        (tmp_path / name).mkdir()
        asked = ["--methods", f"uncertainty,{QUARTER}", "--tasks", GENTLE, "--tuning", "3"]
        done = command(
            "tune", *asked, "--engine", "inline", "--accelerator", "cpu", "--out", "out", cwd=tmp_path / name, env=env
        )
        assert done.returncode == 0, done.stderr
        store = Store(tmp_path / name / "out")
        same = [choice.model_dump(exclude={"data", "commit"}, mode="json") for choice in store.choices().values()]
        choices.append(json.dumps(same, sort_keys=True))
        tests.append({name: record.result.scores for name, record in store.records().items()})
    assert choices[0] == choices[1]
    assert tests[0].keys() == tests[1].keys()
    assert sum(tests[0][name] != tests[1][name] for name in tests[0]) > len(tests[0]) / 2
