"""What trials try, and what is chosen by them."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import methods
from bench.evidence.search import expected_best
from bench.planning.plan import Planner
from bench.planning.request import Request
from bench.store import Store, StoreError
from bench.tuning import shipped
from bench.tuning.choose import Attempt, Choice, choose, scaled
from bench.tuning.space import AROUND, GRID, changed, require_sound_spaces, settings, spaces_of
from methods.core.groups import members
from methods.core.names import UsageError
from methods.core.search import Choice as OneOf
from methods.core.search import Log, Simplex
from tasks.core.errors import DataError
from tasks.core.protocol import Protocol

SPACES = {"alpha": OneOf(0.5, 1.5, 3.0), "lr": Log(1e-3, 1)}
METRICS = {("a", "accuracy"): True, ("b", "error"): False}
NAMED = "digits"
CONSTANT = {("a", "accuracy"): 0.2, ("b", "error"): 4.0}
REFERENCE = {seed: {"a": {"accuracy": 0.5}, "b": {"error": 2.0}} for seed in (1000, 1001)}


def tried(factor, accuracy, error, seed=1000, **options):
    """One attempt; without scores it failed."""
    failed = accuracy is None
    scores = {} if failed else {"a": {"accuracy": accuracy}, "b": {"error": error}}
    status = "diverged" if failed else "ok"
    return Attempt(factor=factor, options=options, seed=seed, run=f"{factor}-{seed}", status=status, validation=scores)


def chosen(*attempts, reference=None, higher=None, constant=None):
    return choose(attempts, reference or REFERENCE, higher or METRICS, CONSTANT if constant is None else constant)


def different(found):
    return len({(one.factor, tuple(sorted(one.options.items()))) for one in found})


# What is tried --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", range(1, 8))
def test_a_small_budget_takes_the_first_multiples_of_the_grid(budget):
    found = settings(budget, SPACES, num_tasks=3)
    assert [one.factor for one in found] == list(GRID[:budget])
    assert not any(one.options for one in found)


def test_the_grid_is_sevenfold_and_symmetric_about_the_protocols_rate():
    assert sorted(GRID) == [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
    assert GRID[0] == 1


@pytest.mark.parametrize("spaces", [{}, SPACES])
@pytest.mark.parametrize("budget", [8, 20, 50, 200, 1000])
def test_a_larger_budget_has_so_many_different_settings_in_the_range_the_grid_among_them(budget, spaces):
    found = settings(budget, spaces, num_tasks=3)
    assert len(found) == different(found) == budget
    assert tuple(one.factor for one in found[:7]) == GRID
    assert all(1 / 8 <= one.factor <= 8 for one in found)
    assert all(one.options.keys() == spaces.keys() for one in found[7:])


@given(st.integers(8, 120))
def test_the_draws_of_the_rate_lie_one_in_each_of_as_many_equal_parts(budget):
    drawn = [math.log(one.factor * 8, 64) * (budget - 7) for one in settings(budget, {}, num_tasks=2)[7:]]
    nearest = [abs(place - part - 0.5) for part, place in enumerate(sorted(drawn))]
    assert max(nearest) <= 0.5 + 0.005 * (budget - 7)  # the rates are rounded


@given(st.integers(8, 60), st.sampled_from(list(SPACES)))
def test_a_parameter_that_is_added_moves_no_others_draws(budget, kept):
    both, alone = settings(budget, SPACES, num_tasks=3), settings(budget, {kept: SPACES[kept]}, num_tasks=3)
    assert [one.factor for one in both] == [one.factor for one in alone]
    assert [one.options[kept] for one in both[7:]] == [one.options[kept] for one in alone[7:]]


def test_each_value_of_an_option_is_drawn_as_often_as_the_others():
    drawn = [one.options["alpha"] for one in settings(7 + 30, SPACES, num_tasks=3)[7:]]
    assert {value: drawn.count(value) for value in drawn} == {"0.5": 10, "1.5": 10, "3": 10}


@given(st.integers(1, 40), st.integers(2, 30), st.sampled_from([0.25, 1.0, 4.0]))
def test_drawn_weights_are_positive_and_sum_to_the_number_of_tasks(tasks, budget, start):
    first, *others = settings(budget, {"weights": Simplex()}, tasks, start)
    assert (first.factor, first.options) == (start, {})
    assert [one.factor / start for one in others] == [AROUND[i % 3] for i in range(budget - 1)]
    for one in others:
        weights = [float(weight) for weight in one.options["weights"].split(":")]
        assert len(weights) == tasks
        assert min(weights) > 0
        assert sum(weights) == pytest.approx(tasks, abs=1e-4 * (tasks + 1))


def test_a_budget_of_one_tries_equal_weights_alone():
    assert [one.factor for one in settings(1, {"weights": Simplex()}, num_tasks=3, start=2.0)] == [2.0]


def test_no_weight_is_rounded_to_nothing():
    drawn = settings(1000, {"weights": Simplex()}, num_tasks=40)[1:]
    assert all(float(weight) > 0 for one in drawn for weight in one.options["weights"].split(":"))


def test_weights_are_evenly_spread():
    """Of a uniform Dirichlet distribution every weight has the mean 1 and, of K = 3, the variance 1/2."""
    drawn = [one.options["weights"].split(":") for one in settings(601, {"weights": Simplex()}, num_tasks=3)[1:]]
    weights = np.array(drawn, float)
    assert weights.mean(0) == pytest.approx(np.ones(3), abs=0.06)
    assert weights.var(0) == pytest.approx(np.full(3, 0.5), abs=0.08)


def test_a_wrong_value_of_a_search_is_refused_before_anything_is_tried(tmp_path):
    rule = f"{Path(__file__).with_name('plugin_bad.py')}:Searching"
    request = Request(methods=rule, tasks="scales", protocol="smoke", tuning=8, out=tmp_path)
    with pytest.raises(UsageError, match=r"search of share has a wrong value: .*share=half"):
        Planner(request, Store(tmp_path))
    Planner(
        request.model_copy(update={"tuning": "none"}), Store(tmp_path)
    )  # where nothing is searched, nothing is wrong


@pytest.mark.parametrize("name", methods.registry.built_in())
def test_the_options_of_built_in_rules_take_what_is_searched(name):
    if name != "frozen":  # it needs a rule, and searches nothing
        require_sound_spaces(methods.parse(name))


def test_an_option_that_was_given_is_not_searched():
    assert spaces_of(methods.parse("gradnorm")).keys() == {"alpha", "lr"}
    assert spaces_of(methods.parse("gradnorm[alpha=3]")).keys() == {"lr"}
    assert not spaces_of(methods.parse("static[weights=1:2]"))
    assert not spaces_of(None)


def test_of_a_composed_rule_options_are_named_after_their_part():
    rule = methods.parse("kd+mgda")
    assert spaces_of(rule).keys() == {"kd.lr", "kd.weight", "mgda.normalize"}
    assert changed(rule, {"mgda.normalize": "l2", "kd.lr": "0.5"}) == methods.parse("kd[lr=0.5]+mgda[normalize=l2]")
    assert changed(methods.parse("mgda"), {"normalize": "l2"}) == methods.parse("mgda[normalize=l2]")


@pytest.mark.parametrize("name", [*members()["all"], "kd+gradnorm"])
def test_every_setting_of_a_built_in_rule_is_a_variant(name):
    rule = methods.parse(name)
    found = settings(25, spaces_of(rule), 3)
    variants = {changed(rule, one.options).stable for one in found}
    assert rule.stable in variants
    assert all(methods.parse(variant).stable == variant for variant in variants)


# What is chosen -------------------------------------------------------------------------------------------


def test_the_highest_mean_gain_is_chosen_tasks_weighing_the_same():
    found = chosen(tried(1.0, 0.5, 2.0), tried(2.0, 0.6, 1.8), tried(0.5, 0.55, 1.0))
    assert found["factor"] == 0.5
    assert found["gains"] == pytest.approx([0, (20 + 10) / 2, (10 + 50) / 2])


def test_metrics_of_a_task_weigh_the_same_within_it():
    higher = {("a", "one"): True, ("a", "two"): True, ("b", "one"): True}
    reference = {1000: {"a": {"one": 1.0, "two": 1.0}, "b": {"one": 1.0}}}
    scores = {"a": {"one": 2.0, "two": 1.0}, "b": {"one": 1.1}}
    attempt = Attempt(factor=1, seed=1000, run="", status="ok", validation=scores)
    assert chosen(attempt, reference=reference, higher=higher)["gains"] == pytest.approx([(50 + 10) / 2])


def test_gains_are_means_over_tuning_seeds_and_each_seed_has_its_own_choice():
    found = chosen(
        tried(1.0, 0.5, 2.0), tried(1.0, 0.5, 2.0, seed=1001), tried(2.0, 0.6, 2.0), tried(2.0, 0.45, 2.0, seed=1001)
    )
    assert found["gains"] == pytest.approx([0, (10 - 5) / 2])
    assert (found["factor"], found["by_seed"]) == (2.0, {1000: 2.0, 1001: 1.0})


@pytest.mark.parametrize(
    ("factors", "best"), [((8.0, 2.0, 4.0), 2.0), ((0.125, 1.0, 8.0), 1.0), ((0.25, 2.0), 2.0), ((0.5, 2.0), 2.0)]
)
def test_ties_go_to_the_factor_nearest_to_the_protocols_rate(factors, best):
    for order in itertools.permutations(factors):
        assert chosen(*(tried(factor, 0.6, 2.0) for factor in order))["factor"] == best


def test_a_failed_trial_counts_with_the_constant_predictor():
    found = chosen(tried(1.0, 0.1, 8.0), tried(2.0, None, None))
    assert found["gains"] == pytest.approx([(-80 - 300) / 2, (-60 - 100) / 2])
    assert found["factor"] == 2.0


def test_a_failed_trial_is_worse_than_any_where_the_constant_predictor_is_not_known():
    found = chosen(tried(1.0, 0.01, 99.0), tried(2.0, None, None), constant={})
    assert (found["factor"], found["gains"][1]) == (1.0, None)


def test_one_failed_seed_counts_with_the_other_that_did_not():
    found = chosen(tried(2.0, None, None), tried(2.0, 0.5, 2.0, seed=1001))
    assert found["gains"] == pytest.approx([-40])


def test_a_score_that_is_not_finite_counts_as_the_constant_predictors():
    found = chosen(tried(1.0, 0.5, None))
    assert found["gains"] == pytest.approx([-50])


def test_if_all_trials_fail_the_protocols_rate_stays():
    attempts = [tried(factor, None, None) for factor in GRID]
    assert chosen(*attempts)["factor"] == 1
    assert chosen(*attempts, constant={})["factor"] == 1


def test_a_failed_reference_is_the_constant_predictors():
    found = chosen(tried(1.0, 0.4, 4.0), reference={1000: {}})
    assert found["gains"] == pytest.approx([100 / 2])


def test_a_metric_whose_reference_is_zero_at_some_seed_is_left_out():
    reference = {1000: {"a": {"accuracy": 0.0}, "b": {"error": 2.0}}, 1001: REFERENCE[1001]}
    attempts = [tried(1.0, 0.5, 2.0, seed) for seed in reference]
    attempts += [tried(2.0, 0.9, 2.0, seed) for seed in reference]
    assert chosen(*attempts, reference=reference)["gains"] == [0, 0]


def test_less_is_better_where_the_metric_says_so():
    attempts = [tried(1.0, 0.5, 2.0), tried(2.0, 0.5, 1.0)]
    assert chosen(*attempts)["factor"] == 2.0
    assert chosen(*attempts, higher={**METRICS, ("b", "error"): True})["factor"] == 1.0


def test_the_sign_of_a_reference_does_not_turn_a_gain_round():
    reference = {1000: {"a": {"accuracy": -0.5}, "b": {"error": 2.0}}}
    assert chosen(tried(1.0, -0.25, 2.0), reference=reference)["gains"] == pytest.approx([25])


@pytest.mark.parametrize(
    ("factors", "best", "edge"),
    [(GRID, 8.0, True), (GRID, 0.125, True), (GRID, 4.0, False), (GRID[:3], 2.0, True), (GRID[:2], 2.0, False)],
)
def test_a_choice_at_the_end_of_three_multiples_or_more_is_at_the_edge(factors, best, edge):
    assert chosen(*(tried(factor, 0.6 if factor == best else 0.5, 2.0) for factor in factors))["edge"] is edge


def test_options_are_part_of_what_is_chosen():
    found = chosen(tried(1.0, 0.5, 2.0), tried(1.0, 0.6, 2.0, alpha="3"), tried(1.0, 0.55, 2.0, alpha="0.5"))
    assert (found["factor"], found["options"], len(found["gains"])) == (1.0, {"alpha": "3"}, 3)


ANY = st.sampled_from([0.1, 0.5, 0.6]) | st.none()


@given(st.lists(st.tuples(ANY, ANY), min_size=7, max_size=7), st.randoms())
def test_the_order_of_the_attempts_does_not_matter(scores, random):
    attempts = []
    for factor, pair in zip(GRID, scores, strict=True):
        attempts += [tried(factor, a, 2.0, seed) for a, seed in zip(pair, (1000, 1001), strict=True)]
    mixed = random.sample(attempts, len(attempts))
    kept = ("factor", "options", "by_seed", "edge")
    assert {name: chosen(*attempts)[name] for name in kept} == {name: chosen(*mixed)[name] for name in kept}


# The curve ------------------------------------------------------------------------------------------------


def brute_force(validation, test):
    """The mean over all subsets of b trials of what the best of each is worth; of equal ones, their mean."""
    found = []
    for size in range(1, len(test) + 1):
        worth = []
        for subset in itertools.combinations(range(len(test)), size):
            top = max(validation[i] for i in subset)
            worth.append(np.mean([test[i] for i in subset if validation[i] == top]))
        found.append(np.mean(worth))
    return found


TRIALS = st.lists(st.tuples(st.sampled_from([-math.inf, 0.0, 1.0, 2.0]), st.floats(-9, 9)), min_size=1, max_size=7)


@given(TRIALS)
def test_the_expected_best_is_the_mean_over_all_subsets_also_of_ties(trials):
    validation, test = np.array(trials).T
    assert expected_best(validation, test) == pytest.approx(np.array(brute_force(validation, test)), abs=1e-9)


def test_with_all_trials_the_best_of_them_is_expected():
    assert expected_best(np.array([3.0, 1.0, 2.0]), np.array([5.0, 6.0, 7.0]))[[0, -1]].tolist() == [6, 5]


# Documents ------------------------------------------------------------------------------------------------


def made_choice(**changed):
    protocol = Protocol(name="quick", steps=10, batch_size=8, lr=0.01, steps_per_epoch=5)
    attempts = [tried(factor, 0.5 + factor / 100, 2.0, seed) for factor in GRID[:3] for seed in (1000, 1001)]
    facts = {
        "task_set": NAMED, "task_set_label": NAMED, "method": "equal", "method_label": "equal", "variant": "equal",
        "tasks": ("a", "b"), "protocol": protocol, "protocol_label": "quick", "precision": "32-true", "budget": 3,
        "attempts": attempts, "data": "d", "code": "c", "commit": "",
    }  # fmt: skip
    return Choice(**{**facts, **chosen(*attempts), **changed})


def test_a_choice_is_read_back_as_it_was_written(tmp_path):
    choice = made_choice()
    Store(tmp_path).put_choice(choice)
    assert [file.name for file in (tmp_path / "choices").iterdir()] == [f"{choice.name}.json"]
    assert Store(tmp_path).choices() == {choice.name: choice}


@pytest.mark.parametrize("damage", ["", "{", "[]", "another", "more"])
def test_a_damaged_choice_is_not_there(tmp_path, damage):
    choice = made_choice()
    Store(tmp_path).put_choice(choice)
    [file] = (tmp_path / "choices").iterdir()
    document = json.loads(file.read_text())
    document |= {"budget": 4} if damage == "another" else {"test": 1.0} if damage == "more" else {}
    file.write_text(json.dumps(document) if damage in ("another", "more") else damage)
    assert Store(tmp_path).choices() == {}


def test_a_choice_of_a_newer_schema_is_refused_and_stays(tmp_path):
    Store(tmp_path).put_choice(made_choice())
    [file] = (tmp_path / "choices").iterdir()
    newer = json.dumps({**json.loads(file.read_text()), "schema_version": 2, "more": 1})
    file.write_text(newer)
    for use in (Store(tmp_path).choices, lambda: Store(tmp_path).put_choice(made_choice())):
        with pytest.raises(StoreError, match="has schema 2, and this mtl-bench knows those up to 1"):
            use()
    assert file.read_text() == newer


def test_a_damaged_choice_is_named_in_the_log(tmp_path, caplog):
    Store(tmp_path).put_choice(made_choice())
    [file] = (tmp_path / "choices").iterdir()
    file.write_text("{")
    with caplog.at_level("WARNING", "bench"):
        Store(tmp_path).choices()
    assert f"{file} is not a choice, and counts as missing" in caplog.text


def test_a_choice_that_trains_another_is_kept_where_it_is_replaced(tmp_path):
    first, alike, other = made_choice(factor=2.0), made_choice(factor=2.0, code="newer"), made_choice(factor=1.0)
    for choice in (first, alike):
        Store(tmp_path).put_choice(choice)
    assert Store(tmp_path).replaced() == []
    Store(tmp_path).put_choice(other)
    assert Store(tmp_path).replaced() == [alike]
    assert Store(tmp_path).choices() == {other.name: other}


def test_where_the_reference_failed_and_nothing_replaces_it_a_trial_with_scores_goes_before_one_without():
    attempts = [
        Attempt(factor=factor, seed=seed, run="", status=status, validation={"a": {"x": 0.5}} if status == "ok" else {})
        for factor, status in ((1.0, "diverged"), (0.5, "ok"))
        for seed in (1000, 1001)
    ]
    found = choose(attempts, {1000: {}, 1001: {}}, {("a", "x"): True}, {("a", "x"): None})
    assert found["factor"] == 0.5


def test_a_choice_says_what_is_trained_then():
    choice = made_choice()
    assert (choice.factor, choice.seeds, choice.seeds_agree, choice.edge) == (2.0, (1000, 1001), True, True)
    assert choice.chosen == choice.protocol.model_copy(update={"lr": 0.02})
    assert choice.setting == "learning rate 0.02 (×2)"
    assert choice.validation(1001) == {"a": {"accuracy": 0.52}, "b": {"error": 2.0}}
    assert choice.run(1000) == "2.0-1000"
    assert scaled(choice.protocol, 1.0) is choice.protocol


@pytest.mark.parametrize(
    ("part", "value"),
    [("task_set", "scales"), ("method", "mgda"), ("tasks", ("a",)), ("precision", "bf16-mixed"), ("budget", 7),
     ("by_seed", {1000: 2.0}), ("protocol", Protocol(name="quick", steps=9, batch_size=8, lr=1, steps_per_epoch=5))],
)  # fmt: skip
def test_another_question_has_another_name(part, value):
    assert made_choice(**{part: value}).name != made_choice().name


@pytest.mark.parametrize(("part", "value"), [("factor", 1.0), ("data", "x"), ("code", "x"), ("method_label", "x")])
def test_another_answer_has_the_same_name(part, value):
    assert made_choice(**{part: value}).name == made_choice().name


def test_an_attempt_has_no_place_for_test_scores():
    assert set(Attempt.model_fields) == {"factor", "options", "seed", "run", "status", "validation"}


@pytest.fixture
def shipped_file(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FILE", tmp_path / "choices.json")
    return tmp_path / "choices.json"


def test_the_shipped_file_is_read_as_it_was_written(shipped_file):
    choices = [made_choice(), made_choice(method="stl", tasks=("a",)), made_choice(task_set="a")]
    shipped_file.write_bytes(shipped.as_text(choices))
    assert shipped.shipped_choices() == {choice.name: choice for choice in choices}
    order = [(choice.task_set, choice.method) for choice in shipped.shipped_choices().values()]
    assert order == [("a", "equal"), (NAMED, "stl"), (NAMED, "equal")]
    assert shipped.as_text(choices[::-1]) == shipped_file.read_bytes()


def test_where_no_file_is_shipped_there_are_no_shipped_choices(shipped_file):
    assert shipped.shipped_choices() == {}


@pytest.mark.parametrize("text", ["", "{}", '[{"budget": 7}]'])
def test_a_damaged_shipped_file_is_said(shipped_file, text):
    shipped_file.write_text(text)
    with pytest.raises(DataError, match="the shipped choices of learning rates cannot be read"):
        shipped.shipped_choices()
