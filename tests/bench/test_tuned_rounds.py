"""Trials, what they choose, and the runs that are reported then: the rounds of a tuned campaign and its boards."""

import json
import logging
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from trained import loop

import bench.campaign
import bench.planning.plan
from bench.api import publish
from bench.campaign import Campaign
from bench.catalogue import parse_task_set, task_set
from bench.planning.plan import Planner
from bench.planning.request import Request
from bench.report.scores import from_records
from bench.report.tuned import from_store
from bench.spec import STL, RunSpec
from bench.store import Store
from bench.tuning.choose import Choice
from bench.tuning.space import GRID
from methods.core.compose import compose
from methods.core.names import UsageError
from methods.core.rules import parse
from methods.frozen import Average

HERE = Path(__file__).parent
TOY, RULES = f"{HERE / 'plugin_sets.py'}:Wobbly", HERE / "plugin_rules.py"
FROZEN = "frozen[of=[mgda]]"
ASKED = {
    "methods": f"kd,mgda,static,{FROZEN}", "tasks": TOY, "seeds": "0-1", "protocol": "epochs", "tuning": 3,
    "accelerator": "cpu", "engine": "inline", "figures": False,
}  # fmt: skip
BOARD = "plugin_sets.py:Wobbly@epochs@tuning=3"


class Stop(Exception):
    """Somebody ends the command."""


class Listener:
    """Writes down what it hears, and may end the command after so many runs."""

    def __init__(self, most=10**6):
        self.rounds, self.chosen_in_turn, self.done_runs, self.most, self.forecast = [], [], [], most, []
        self.later = []

    def planned(self, runs, forecast):
        self.forecast = list(forecast)

    def round(self, name, runs, later):
        self.rounds.append((name, list(runs)))
        self.later.append(later)

    def done(self, planned, record):
        self.done_runs.append(record.name)
        if len(self.done_runs) == self.most:
            raise Stop

    def chosen(self, choices):
        self.chosen_in_turn.append([choice.method_label for choice in choices])

    def measuring(self, members):
        pass


@pytest.fixture(autouse=True, scope="module")
def costs_are_not_measured():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.campaign, "_measure_costs", lambda *_, **__: None)
        yield


def run(out, most=10**6, **changed):
    heard = Listener(most)
    Campaign(Request(**{**ASKED, **changed}, out=out), Store(out), heard).run()
    return heard


def planner(out, **changed):
    return Planner(Request(**{**ASKED, **changed}, out=out), Store(out))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """One campaign with three trials each; nobody may change its folder."""
    out = tmp_path_factory.mktemp("tuned")
    heard = run(out)
    store = Store(out)
    return SimpleNamespace(out=out, heard=heard, records=store.records(), choices=store.choices())


@pytest.fixture
def folder(tuned, tmp_path):
    """A copy of that campaign's folder, to change."""
    shutil.copytree(tuned.out, tmp_path / "copy")
    return tmp_path / "copy"


def by_method(runs):
    return Counter(one.method_label for one in runs)


def choice_of(tuned, label, task=""):
    return next(c for c in tuned.choices.values() if c.method_label == label and (not task or c.tasks == (task,)))


def edit_choices(folder, label, **changed):
    """Change what a folder's choices of some contestant say."""
    for choice in Store(folder).choices().values():
        if choice.method_label == label:
            Store(folder).put_choice(choice.model_copy(update=changed))


# Rounds ---------------------------------------------------------------------------------------------------


def test_single_task_learning_is_tried_first_then_rules_then_what_builds_on_them(tuned):
    trials = [runs for name, runs in tuned.heard.rounds if name == "trials"]
    made = [by_method(one for one in runs if one.todo) for runs in trials]
    assert made[:2] == [{STL: 12}, {"equal": 6, "kd": 6, "mgda": 6}]
    assert Counter(label.partition("[")[0] for label in made[2].elements()) == {"static": 6, "frozen": 6}
    assert tuned.heard.chosen_in_turn == [[STL, STL], ["equal", "kd", "mgda"], ["static", FROZEN]]


def test_reported_runs_follow_the_trials_tuned_ones_first(tuned):
    names = [name for name, _ in tuned.heard.rounds]
    assert names == ["trials"] * 3 + ["runs at the tuned rates", "runs at the own rates"]


def test_each_contestant_has_the_same_number_of_trials_on_the_same_two_seeds(tuned):
    for choice in tuned.choices.values():
        assert len(choice.attempts) == 6
        assert Counter(attempt.seed for attempt in choice.attempts) == {1000: 3, 1001: 3}
        assert len(choice.gains) == choice.budget == 3
    assert len(tuned.choices) == 7


def test_the_forecast_says_how_many_trials_come_first(tuned):
    assert "learning rates: 7 to be tried" in tuned.heard.forecast
    assert any(line.startswith("trials: 42 in all, on seeds 1000 and 1001") for line in tuned.heard.forecast)


def test_trials_are_told_from_runs(tuned):
    roles = {record.provenance.role: {r.spec.seed for r in tuned.records.values() if r.provenance.role == role}
             for record in tuned.records.values() for role in [record.provenance.role]}  # fmt: skip
    assert roles == {"trial": {1000, 1001}, "run": {0, 1}}


def test_what_trials_tried_is_the_protocol_at_multiples_of_its_rate(tuned):
    own = task_set(TOY).protocols["epochs"]
    for choice in tuned.choices.values():
        for attempt in choice.attempts:
            protocol = tuned.records[attempt.run].spec.protocol
            assert protocol == own.model_copy(update={"lr": own.lr * attempt.factor})
            assert attempt.validation == tuned.records[attempt.run].result.points[-1].validation
        if choice.method_label != "static":
            assert [a.factor for a in choice.attempts[::2]] == list(GRID[:3])


def test_fixed_weights_are_drawn_around_the_choice_of_equal_weights(tuned):
    start, static = choice_of(tuned, "equal").factor, choice_of(tuned, "static")
    assert [a.factor for a in static.attempts[::2]] == [start, start / 2, start]
    assert [bool(a.options) for a in static.attempts[::2]] == [False, True, True]


def test_a_trial_at_the_protocols_rate_and_a_run_of_that_seed_are_one_run(tuned, folder):
    heard = run(folder, tuning="none", seeds="1000-1001", methods="mgda")
    assert not any(one.todo for _, runs in heard.rounds for one in runs)


def test_single_task_trials_keep_their_weights_and_trials_of_students_read_the_tuned_ones(tuned):
    teachers = {seed: {choice_of(tuned, STL, task).run(seed) for task in ("size", "kind")} for seed in (1000, 1001)}
    for attempt in choice_of(tuned, "kd").attempts:
        record = tuned.records[attempt.run]
        assert record.parts.upstream.keys() == teachers[attempt.seed]
        assert all(Store(tuned.out).has_weights(tuned.records[name]) for name in teachers[attempt.seed])


@pytest.mark.parametrize("most", [3, 12, 20, 31, 47])
def test_an_interrupted_campaign_goes_on_and_ends_as_one_that_was_not(tuned, tmp_path, most):
    with pytest.raises(Stop):
        run(tmp_path, most=most)
    heard = run(tmp_path)
    assert most + len(heard.done_runs) == len(tuned.records)
    assert Store(tmp_path).choices() == tuned.choices
    assert (tmp_path / "runs.csv").read_bytes() == (tuned.out / "runs.csv").read_bytes()


def test_trials_that_were_lost_with_their_choice_are_made_again_and_choose_the_same(tuned, folder):
    choice = choice_of(tuned, "mgda")
    (folder / "choices" / f"{choice.name}.json").unlink()
    lost = {attempt.run for attempt in choice.attempts[:2]}
    for name in lost:
        (folder / "runs" / f"{name}.json").unlink()
    assert set(run(folder).done_runs) == lost
    assert Store(folder).choices() == tuned.choices


def test_of_a_choice_that_is_there_no_trial_is_made_again(tuned, folder):
    for attempt in choice_of(tuned, "mgda").attempts:
        (folder / "runs" / f"{attempt.run}.json").unlink()
    heard = run(folder)
    assert not {name for name, _ in heard.rounds} & {"trials"}
    assert not any(r.spec.seed in (1000, 1001) and r.method_label == "mgda" for r in Store(folder).records().values())


@pytest.mark.parametrize("rule", ["Raising", "Inflating"])
def test_a_rule_whose_trials_all_fail_stays_at_the_protocols_rate(tmp_path, rule):
    run(tmp_path, methods=f"{RULES}:{rule}", seeds="1")
    [choice] = [c for c in Store(tmp_path).choices().values() if c.method_label.endswith(rule)]
    assert (choice.factor, len(set(choice.gains))) == (1.0, 1)
    assert {attempt.status for attempt in choice.attempts} == {"crashed" if rule == "Raising" else "diverged"}


# Seeds ----------------------------------------------------------------------------------------------------


def test_the_seeds_of_trials_are_in_no_table(tuned):
    assert set(pd.read_csv(tuned.out / "runs.csv").seed) == {0, 1}
    assert set(pd.read_csv(tuned.out / "leaderboard.csv").seeds) == {2}
    scores = from_store(Store(tuned.out))
    assert {run.seed for table in (scores, scores.untuned) for run in table.runs} == {0, 1}


def test_seeds_that_serve_for_tuning_are_left_out_with_a_note(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "bench"):
        assert planner(tmp_path, seeds="0,1000-1002").seeds == (0, 1002)
    assert "seeds 1000 and 1001 serve for tuning: they are not reported" in caplog.text


def test_asking_for_those_seeds_alone_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError) as raised:
        planner(tmp_path, seeds="1000-1001")
    assert str(raised.value) == (
        "seeds 1000 and 1001 serve for tuning and are never reported: ask for others, or for --tuning none"
    )
    assert planner(tmp_path, seeds="1000-1001", tuning="none").seeds == (1000, 1001)


# Boards ---------------------------------------------------------------------------------------------------


def values(scores):
    return {(run.method, run.seed, run.tasks): run.values for run in scores.runs}


def test_without_tuning_there_are_the_boards_that_records_alone_give(tmp_path):
    run(tmp_path, tuning="none", methods="kd,mgda")
    store = Store(tmp_path)
    assert {record.provenance.role for record in store.records().values()} == {"run"}
    assert store.choices() == {}
    assert from_store(store) == from_records(store.records().values())
    assert {r.spec.protocol for r in store.records().values()} == {task_set(TOY).protocols["epochs"]}
    [board] = pd.read_csv(tmp_path / "leaderboard.csv").task_set.unique()
    assert board == "plugin_sets.py:Wobbly@epochs"


def test_the_untuned_column_is_the_board_without_tuning(tuned, tmp_path):
    run(tmp_path, tuning="none", methods="kd,mgda")
    alone, beside = values(from_store(Store(tmp_path))), values(from_store(Store(tuned.out)).untuned)
    assert {key: found for key, found in beside.items() if key[0] != FROZEN} == alone


def test_the_tuned_board_is_the_runs_at_the_chosen_rates(tuned):
    scores = from_store(Store(tuned.out))
    found = {(run.method, run.seed, run.tasks) for run in scores.runs}
    joint = [(method, ("size", "kind")) for method in ("equal", "kd", "mgda", "static", FROZEN)]
    everyone = [*joint, (STL, ("size",)), (STL, ("kind",))]
    assert found == {(method, seed, tasks) for method, tasks in everyone for seed in (0, 1)}
    for one in scores.runs:
        assert one.spec.protocol == one.choice.chosen
        assert one.spec.method == one.choice.variant
    assert {run.task_set for run in scores.runs} == {BOARD}


def test_two_budgets_in_one_folder_are_two_boards_and_each_is_what_it_is_alone(tuned, folder, tmp_path):
    heard = run(folder, tuning=1)
    made = [one for name, runs in heard.rounds if name == "trials" for one in runs if one.todo]
    assert not any(one.rule is None for one in made)  # a smaller budget tries a part of what a larger one has tried
    run(tmp_path / "alone", tuning=1)
    alone, first = (from_store(Store(place)) for place in (tmp_path / "alone", tuned.out))
    both = from_store(Store(folder))
    other = BOARD.replace("=3", "=1")
    assert {one.task_set for one in both.runs} == {BOARD, other}
    for label, scores in ((other, alone), (BOARD, first)):
        assert [r.name for r in both.runs if r.task_set == label] == [r.name for r in scores.runs]
        untuned = [r.name for r in both.untuned.runs if r.task_set == label and r.method != "static"]
        assert untuned == [r.name for r in scores.untuned.runs if r.method != "static"]
    assert set(pd.read_csv(folder / "leaderboard.csv").task_set) == {BOARD, other}


def test_weights_that_were_drawn_are_on_no_board_of_the_protocols_own_rate(tuned, folder):
    """Also where they are trained at that rate: there they would cost the others power."""
    static = choice_of(tuned, "static")
    options = next(attempt.options for attempt in static.attempts if attempt.options)
    variant = f"static[weights={options['weights']}]"
    edit_choices(folder, "static", factor=1.0, options=options, variant=variant)
    run(folder)
    scores = from_store(Store(folder))
    tuned_runs = [one for one in scores.runs if (one.task_set, one.method) == (BOARD, "static")]
    assert {one.spec.method for one in tuned_runs} == {variant}
    assert not [one for one in scores.untuned.runs if one.method.startswith("static[")]


def test_a_contestant_whose_trials_choose_the_options_of_another_is_on_the_board_beside_it(tmp_path):
    asked = {"methods": "mgda,mgda[normalize=l2]", "seeds": "1", "tuning": 1}
    run(tmp_path, **asked)
    normal = next(c for c in Store(tmp_path).choices().values() if c.method_label == "mgda[normalize=l2]")
    edit_choices(tmp_path, "mgda", options={"normalize": "l2"}, variant=normal.variant)
    run(tmp_path, **asked)
    scores = from_store(Store(tmp_path))
    [one, other] = [one for one in scores.runs if one.method.startswith("mgda")]
    assert {one.method, other.method} == {"mgda", "mgda[normalize=l2]"}
    assert one.name == other.name
    assert {one.method for one in scores.untuned.runs} == {STL, "equal", "mgda", "mgda[normalize=l2]"}


def students(records, seed=0):
    return [r for r in records.values() if r.method_label == "kd" and r.spec.seed == seed]


def test_a_tuned_student_reads_tuned_teachers_and_an_untuned_one_untuned_ones(folder):
    """Also where the student's own rate is the same, and only its teachers' differ."""
    edit_choices(folder, "kd", factor=1.0)
    edit_choices(folder, STL, factor=2.0)
    run(folder, methods="kd")
    store = Store(folder)
    own = task_set(TOY).protocols["epochs"]
    at_own = [r for r in students(store.records()) if r.spec.protocol == own]
    assert len(at_own) == 2
    reads = {}
    for student in at_own:
        rates = {store.records()[name].spec.protocol.lr / own.lr for name in student.parts.upstream}
        reads[bool(student.spec.reads)] = rates
        if student.spec.reads:
            assert set(student.spec.reads) == student.parts.upstream.keys()
    assert reads == {False: {1.0}, True: {2.0}}
    scores = from_store(store)
    for table, named in ((scores, True), (scores.untuned, False)):
        [shown] = [one for one in table.runs if (one.task_set, one.method, one.seed) == (BOARD, "kd", 0)]
        assert bool(shown.spec.reads) is named


def test_frozen_weights_of_a_tuned_student_are_not_taken_for_those_of_an_untuned_one(tmp_path):
    """Each reads a run that reads: all of it has to belong to the same board."""
    of = "frozen[of=[kd+mgda]]"
    asked = {"methods": f"kd+mgda,{of}", "seeds": "1", "tuning": 2}
    run(tmp_path, **asked)
    for label in ("kd+mgda", of):
        edit_choices(tmp_path, label, factor=1.0)
    edit_choices(tmp_path, STL, factor=2.0)
    run(tmp_path, **asked)
    scores = from_store(Store(tmp_path))
    found = []
    for table in (scores, scores.untuned):
        own = [one for one in table.runs if "tuning=2" in one.task_set]
        names = {one.name for one in own}
        [shown] = [one for one in own if one.method == of]
        assert shown.parts.upstream.keys() <= names
        found.append(shown.name)
    assert len(set(found)) == 2


def test_a_student_of_teachers_of_a_tuning_seed_is_on_the_board(tmp_path):
    run(tmp_path, methods="kd[teacher_seed=1000]", seeds="1", tuning=1)
    scores = from_store(Store(tmp_path))
    for table in (scores, scores.untuned):
        assert "kd[teacher_seed=1000]" in {one.method for one in table.runs}
        assert {one.seed for one in table.runs} == {0}


def test_the_pages_are_a_function_of_the_folder_alone(tuned, folder, tmp_path):
    pages = []
    for source, name in ((tuned.out, "one"), (folder, "two")):
        publish(source, tmp_path / name, margin=1.0, correction="max-t", figures=False)
        pages.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir() if file.is_file()})
    assert pages[0] == pages[1]
    assert pages[0]["leaderboard.csv"] == (tuned.out / "leaderboard.csv").read_bytes()
    assert pages[0]["runs.csv"] == (tuned.out / "runs.csv").read_bytes()


def test_the_table_has_the_chosen_factor_and_the_untuned_result(tuned):
    table = pd.read_csv(tuned.out / "leaderboard.csv").set_index("method")
    for label in ("equal", "kd", "mgda", "static"):
        assert float(table.lr_factor[label]) == choice_of(tuned, label).factor
    assert np.isfinite(table.untuned_delta_task["mgda"])
    assert np.isnan(table.untuned_delta_task["static"])  # at the protocol's own rate it has no weights
    assert FROZEN not in table.index
    assert FROZEN in set(pd.read_csv(tuned.out / "frozen.csv").method)


# Where choices come from ----------------------------------------------------------------------------------


def origins(plan):
    return {plan.origin(contestant) for contestant in plan.contestants()}


def test_choices_of_this_folder_and_code_need_no_trial(tuned):
    plan = planner(tuned.out)
    assert (origins(plan), plan.trials(), plan.to_try()) == ({"tried here"}, [], 0)
    assert plan.about() == ["learning rates: 7 tried here"]


def test_a_choice_on_other_data_is_not_used(folder):
    edit_choices(folder, "mgda", data="of another version")
    plan = planner(folder)
    [mgda] = [contestant for contestant in plan.contestants() if contestant.label == "mgda"]
    assert plan.choice(mgda) is None
    assert plan.origin(mgda) == "to be tried"
    assert plan.open() == [mgda]
    assert plan.about()[0] == "learning rates: 6 tried here, 1 to be tried"


def test_a_choice_by_other_code_is_used_and_named_as_such(folder):
    edit_choices(folder, "mgda", code="older", factor=0.5)
    plan = planner(folder)
    [mgda] = [contestant for contestant in plan.contestants() if contestant.label == "mgda"]
    assert plan.choice(mgda).factor == 0.5
    assert plan.origin(mgda) == "tried here, by other code or versions"
    assert plan.about() == ["learning rates: 6 tried here, 1 tried here, by other code or versions"]
    assert plan.trials() == []


def test_tuning_anew_replaces_a_choice_by_other_code(tuned, folder):
    edit_choices(folder, "mgda", code="older", factor=0.5)
    request = Request(**ASKED, out=folder)
    found = Campaign(request, Store(folder)).tune()
    assert {choice.name: choice for choice in found} == Store(folder).choices() == tuned.choices


def test_nothing_is_tuned_where_there_are_no_trials(tmp_path):
    with pytest.raises(UsageError, match="nothing is tuned under protocol epochs: give --tuning 7"):
        Campaign(Request(**{**ASKED, "tuning": "default"}, out=tmp_path), Store(tmp_path)).tune()


@pytest.fixture
def ships(monkeypatch):
    def ship(choices):
        monkeypatch.setattr(bench.planning.plan, "shipped_choices", lambda: {one.name: one for one in choices})

    return ship


def test_shipped_choices_are_used_and_kept_in_the_folder(tuned, ships, tmp_path):
    ships(tuned.choices.values())
    assert origins(planner(tmp_path)) == {"shipped"}
    assert planner(tmp_path).about() == ["learning rates: 7 shipped"]
    heard = run(tmp_path)
    assert {name for name, _ in heard.rounds} == {"runs at the tuned rates", "runs at the own rates"}
    assert not any(record.provenance.role == "trial" for record in Store(tmp_path).records().values())
    ships([])
    assert Store(tmp_path).choices() == tuned.choices
    assert publish(tmp_path, tmp_path / "again", margin=1.0, correction="max-t", figures=False).boards[0].label == BOARD
    assert (tmp_path / "runs.csv").read_bytes() == (tuned.out / "runs.csv").read_bytes()
    assert origins(planner(tmp_path)) == {"tried here"}


@pytest.mark.parametrize(
    ("changed", "origin"),
    [({"code": "older"}, "shipped, by other code or versions"), ({"data": "other"}, "to be tried"),
     ({"budget": 4}, "to be tried")],
)  # fmt: skip
def test_a_shipped_choice_is_used_for_its_question_and_its_data_alone(tuned, ships, tmp_path, changed, origin):
    ships([choice.model_copy(update=changed) for choice in tuned.choices.values()])
    assert origins(planner(tmp_path)) == {origin}


def test_a_choice_of_the_folder_goes_before_a_shipped_one(tuned, ships, folder):
    ships([choice.model_copy(update={"factor": 0.5}) for choice in tuned.choices.values()])
    plan = planner(folder)
    assert {plan.choice(one).name: plan.choice(one) for one in plan.contestants()} == tuned.choices


def test_tuning_makes_the_trials_also_of_what_is_shipped(tuned, ships, tmp_path):
    ships(tuned.choices.values())
    Campaign(Request(**{**ASKED, "methods": "mgda"}, out=tmp_path), Store(tmp_path)).tune()
    made = Counter(record.method_label for record in Store(tmp_path).records().values())
    assert made == {STL: 12, "equal": 6, "mgda": 6}


def test_test_scores_are_never_a_part_of_the_choice(tuned, folder):
    """The same trials with other test scores choose the same."""
    store = Store(folder)
    for file in (folder / "choices").iterdir():
        file.unlink()
    for record in store.records().values():
        scores = {
            task: {name: score.model_copy(update={"value": -1.0}) for name, score in own.items()}
            for task, own in record.result.scores.items()
        }
        document = record.model_copy(update={"result": record.result.model_copy(update={"scores": scores})})
        (folder / "runs" / f"{record.name}.json").write_text(document.model_dump_json())
    plan = planner(folder)
    plan.choose()
    assert {choice.name: choice for choice in plan.choices.values()} == tuned.choices


def test_a_choice_is_written_as_json_that_a_person_can_read(tuned):
    [file] = [f for f in (tuned.out / "choices").iterdir() if f.stem == choice_of(tuned, "mgda").name]
    document = json.loads(file.read_text())
    assert Choice.model_validate(document) == choice_of(tuned, "mgda")
    assert document["method_label"] == "mgda"


# Frozen weights -------------------------------------------------------------------------------------------


def record_of(tuned, label, seed):
    choice = choice_of(tuned, label)
    [found] = [r for r in tuned.records.values() if r.method_label == label and r.spec.seed == seed
               and r.spec.protocol == choice.chosen and r.provenance.role == "run"]  # fmt: skip
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_frozen_fixes_the_mean_weights_of_the_other_rules_run_of_the_same_seed(tuned, seed):
    """MGDA's weights sum to 1, so that the mean over its points (of eight steps each) is the average that is fixed."""
    other, frozen = record_of(tuned, "mgda", seed), record_of(tuned, FROZEN, seed)
    assert list(frozen.parts.upstream) == [other.name]
    means = {task: np.mean([point.weights[task] for point in other.result.points]) for task in ("size", "kind")}
    assert other.result.mean_weights == pytest.approx(means, abs=1e-6)
    for point in frozen.result.points:
        assert point.weights == pytest.approx(means, abs=1e-6)
    assert abs(means["size"] - means["kind"]) > 0.01


def test_a_trial_of_frozen_reads_the_trial_of_its_rule_at_the_chosen_rate(tuned):
    for attempt in choice_of(tuned, FROZEN).attempts:
        assert list(tuned.records[attempt.run].parts.upstream) == [choice_of(tuned, "mgda").run(attempt.seed)]


def one_step(rule):
    """The heads and the trunk after one step without moments."""
    toy = task_set(TOY)
    protocol = toy.protocols["epochs"].model_copy(update={"steps": 1, "points": 1, "optimizer": "sgd"})
    spec = RunSpec(task_set=parse_task_set(TOY).stable, tasks=("size", "kind"), method="x", seed=0, protocol=protocol)
    loop.train(spec, lambda: toy, rule)
    state = toy.built[-1].state_dict()
    return {part: torch.cat([v.flatten() for n, v in state.items() if n.startswith(part) and v.is_floating_point()])
            for part in ("heads", "trunk")}  # fmt: skip


def test_frozen_leaves_heads_plain_where_its_rule_does():
    def built(name, average=None):
        return lambda **given: compose(parse(name).parts, average=average, **given)

    weights = (1.5, 0.25)
    equal, static = one_step(built("equal")), one_step(built("static[weights=1.5:0.25]"))
    plain, weighted = (one_step(built(FROZEN, Average(weights, heads))) for heads in ("plain", "weighted"))
    assert torch.equal(plain["heads"], equal["heads"])
    assert torch.allclose(plain["trunk"], static["trunk"], atol=1e-7)
    assert not torch.allclose(plain["trunk"], equal["trunk"], atol=1e-4)
    for part in ("heads", "trunk"):
        assert torch.equal(weighted[part], static[part])
    assert not torch.allclose(static["heads"], equal["heads"], atol=1e-4)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ("mgda", r"write the whole rule in brackets, frozen\[of=\[mgda\]\]"),
        (f"[{RULES}:Whole]", "plugin_rules.py:Whole has no weights of its own that could be frozen"),
        ("[frozen[of=[mgda]]]", "has no weights of its own that could be frozen"),
        ("[mdga]", "unknown method 'mdga': did you mean 'mgda'"),
    ],
)
def test_what_cannot_be_frozen_is_refused_in_one_line(tmp_path, of, said):
    with pytest.raises(UsageError, match=said) as raised:
        planner(tmp_path, methods=f"frozen[of={of}]")
    assert "\n" not in str(raised.value)


# Trials that failed, choices that were replaced, seeds that served -------------------------------------------


MOODY = f"{HERE / 'plugin_tuned.py'}:Moody"
FEW = {"methods": MOODY, "seeds": "1", "tuning": 2}


def trials_made(heard):
    return [one for name, runs in heard.rounds if name == "trials" for one in runs if one.todo]


@pytest.fixture
def crashed(tmp_path, monkeypatch):
    """A folder where all trials of one rule crashed for a reason of the machine."""
    monkeypatch.setenv("MOODY", "1")
    run(tmp_path, **FEW)
    monkeypatch.delenv("MOODY")
    return tmp_path


def moody_choice(folder):
    [choice] = [c for c in Store(folder).choices().values() if c.method_label.endswith("Moody")]
    return choice


def test_retry_repeats_trials_that_crashed_and_chooses_anew(crashed):
    assert {attempt.status for attempt in moody_choice(crashed).attempts} == {"crashed"}
    assert trials_made(run(crashed, **FEW)) == []
    heard = run(crashed, **FEW, retry=True)
    assert by_method(trials_made(heard)) == {"plugin_tuned.py:Moody": 4}
    assert {attempt.status for attempt in moody_choice(crashed).attempts} == {"ok"}
    assert {run.status for run in from_store(Store(crashed)).runs} == {"ok"}
    assert trials_made(run(crashed, **FEW, retry=True)) == []


def test_retry_repeats_a_crashed_trial_also_before_anything_was_chosen(crashed):
    for file in (crashed / "choices").glob(f"{moody_choice(crashed).name}.json"):
        file.unlink()
    assert len(trials_made(run(crashed, **FEW, retry=True))) == 4


def test_tuning_with_retry_repeats_crashed_trials(crashed):
    Campaign(Request(**{**ASKED, **FEW}, out=crashed, retry=True), Store(crashed)).tune()
    assert {attempt.status for attempt in moody_choice(crashed).attempts} == {"ok"}


def test_a_run_that_crashes_again_is_repeated_once_a_command(crashed, monkeypatch):
    monkeypatch.setenv("MOODY", "1")
    heard = run(crashed, **FEW, retry=True)
    assert max(Counter(heard.done_runs).values()) == 1
    assert {attempt.status for attempt in moody_choice(crashed).attempts} == {"crashed"}


def test_what_builds_on_a_choice_is_chosen_again_where_that_has_changed(tuned, folder):
    """Single-task learning at another rate is another reference, and has other teachers."""
    store = Store(folder)
    [size] = [c for c in store.choices().values() if c.tasks == ("size",)]
    edit = size.model_copy(update={"factor": next(f for f in (1.0, 2.0, 0.5) if f != size.factor), "code": "older"})
    store.put_choice(edit)
    heard = Listener()
    Campaign(Request(**ASKED, out=folder), store, heard).tune()
    assert heard.chosen_in_turn == [[STL, "equal", "kd", "mgda", "static", FROZEN]]
    assert store.choices() == tuned.choices


def test_runs_at_a_choice_that_was_replaced_are_on_no_board(folder, caplog):
    own = {one.name for one in from_store(Store(folder)).runs}
    now = {c.name: c.factor for c in Store(folder).choices().values()}
    other = {1.0: 2.0, 2.0: 0.5, 0.5: 2.0}
    edit_choices(folder, "mgda", code="older", factor=other[next(
        c.factor for c in Store(folder).choices().values() if c.method_label == "mgda")])  # fmt: skip
    run(folder)
    [of_old] = Store(folder).replaced()
    assert of_old.method_label == "mgda"
    with caplog.at_level(logging.WARNING, "bench"):
        Campaign(Request(**ASKED, out=folder), Store(folder)).tune()
    assert "was chosen before; runs with that are on no board any more" in caplog.text
    assert {c.name: c.factor for c in Store(folder).choices().values()} == now
    scores = from_store(Store(folder))
    assert {one.name for one in scores.runs} == own
    assert {one.task_set for one in scores.runs} == {BOARD}


def test_runs_that_read_networks_of_a_replaced_choice_are_on_no_board(folder):
    own = {one.name for one in from_store(Store(folder)).runs}
    size = next(c for c in Store(folder).choices().values() if c.tasks == ("size",))
    Store(folder).put_choice(size.model_copy(update={"factor": 0.5 if size.factor != 0.5 else 2.0, "code": "older"}))
    run(folder)
    Store(folder).put_choice(size)
    scores = from_store(Store(folder))
    assert {one.name for one in scores.runs} == own
    assert {one.task_set for one in scores.runs} == {BOARD}


def test_seeds_that_served_for_tuning_are_a_board_in_another_folder_and_one_line_says_so(folder, tmp_path, caplog):
    asked = {"methods": "mgda", "tuning": "none", "seeds": "1000-1001"}
    with caplog.at_level(logging.WARNING, "bench"):
        run(folder, **asked)
    assert f"seeds 1000 and 1001 served for tuning in {folder}: no board there has them" in caplog.text
    assert {one.task_set for one in from_store(Store(folder)).runs} == {BOARD}
    heard = run(tmp_path / "other", **asked, reuse=folder)
    assert heard.done_runs == []
    scores = from_store(Store(tmp_path / "other"))
    assert {(one.method, one.seed) for one in scores.runs} == {
        (method, seed) for method in (STL, "equal", "mgda") for seed in (1000, 1001)
    }


def test_each_round_says_how_many_runs_come_after_it(tuned, tmp_path):
    assert "and up to 44 runs that are planned when trials have chosen" in tuned.heard.forecast
    made = [sum(one.todo for one in runs) for _, runs in tuned.heard.rounds]
    after = [sum(made[n + 1 :]) for n in range(len(made))]
    assert all(0 <= said - real <= 10 for said, real in zip(tuned.heard.later, after, strict=True))
    assert tuned.heard.later[-2:] == after[-2:]


@pytest.mark.parametrize("of", ["equal", "kd", "static", "static[weights=1:2]", "kd+equal"])
def test_weights_that_never_change_cannot_be_frozen(tmp_path, of):
    with pytest.raises(UsageError, match="never change, so there is nothing to freeze"):
        planner(tmp_path, methods=f"frozen[of=[{of}]]")


def test_a_trial_that_is_a_teacher_of_reported_runs_says_nothing_about_seeds_that_were_added(tmp_path):
    run(tmp_path, methods="kd[teacher_seed=7]", seeds="1", tuning=1)
    report = publish(tmp_path, tmp_path / "pages", margin=1.0, correction="max-t", figures=False)
    assert not [note for board in report.boards for note in board.notes if "not asked for together" in note]


def test_a_choice_on_trials_that_crashed_is_said_on_the_page(crashed):
    report = publish(crashed, crashed / "pages", margin=1.0, correction="max-t", figures=False)
    [board] = report.boards
    said = "trials that crashed or took too long count as failed, and --retry repeats them: plugin_tuned.py:Moody"
    assert said in board.notes
