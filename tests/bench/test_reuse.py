"""Another folder's runs are reused where nothing that they depend on has changed, and nowhere else."""

import pytest

import bench
from bench import cli
from bench.planning import plan
from bench.store import Store

ASKED = {"methods": "uncertainty,mgda", "tasks": "digits,scales", "seeds": 1, "protocol": "smoke"}
HERE = {"accelerator": "cpu", "engine": "inline", "figures": False}


class Watcher:
    """Writes down what is trained, and on which task sets steps are measured."""

    def __init__(self):
        self.trained, self.measured, self.choices, self.todo_by_round = [], [], [], {}

    def planned(self, runs, forecast):
        self.todo = sum(planned.todo for planned in runs)

    def round(self, name, runs, later):
        self.todo_by_round[name] = sum(planned.todo for planned in runs)

    def chosen(self, choices):
        self.choices += choices

    def done(self, planned, record):
        self.trained.append((planned.task_set_label, planned.method_label))

    def measuring(self, members):
        self.measured.append(members[0].task_set_label)


@pytest.fixture
def rerun(smoke, tmp_path):
    """Run into an empty folder, with the records of the smoke run to reuse."""

    def make(**asked):
        watcher = Watcher()
        bench.run(**{**ASKED, **HERE, **asked}, out=tmp_path / "out", reuse=smoke.out, watcher=watcher)
        return watcher, Store(tmp_path / "out")

    return make


@pytest.fixture
def edited(monkeypatch):
    """Let the code of a rule, or of all that trains, be another."""
    before = plan.sources_of

    def edit(method):
        def sources_of(task_set, rule):
            found = before(task_set, rule)
            touched = method == "all" or (rule is not None and rule.label == method)
            return found | ({"bench.training.loop": "edited"} if touched else {})

        monkeypatch.setattr(plan, "sources_of", sources_of)

    return edit


def files(store, ending):
    return {file.relative_to(store.folder): file.read_bytes() for file in store.folder.rglob(f"*.{ending}")}


def test_where_nothing_has_changed_nothing_is_trained_and_nothing_measured(rerun, smoke):
    watcher, store = rerun()
    assert (watcher.todo, watcher.trained, watcher.measured) == (0, [], [])
    there = Store(smoke.out)
    assert files(store, "json") == files(there, "json")
    assert len(files(store, "safetensors")) == 3 + 5
    assert files(store, "safetensors") == files(there, "safetensors")


def test_after_an_edit_of_a_rule_its_runs_are_trained_and_steps_are_measured_anew(rerun, edited, smoke):
    edited("mgda")
    watcher, store = rerun()
    assert sorted(watcher.trained) == [("digits", "mgda"), ("scales", "mgda")]
    assert sorted(watcher.measured) == ["digits", "scales"]
    stale = {record.key for record in Store(smoke.out).costs()}
    assert len(stale) == 2
    assert not {record.key for record in store.costs()} & stale


def test_after_an_edit_of_the_loop_nothing_of_the_other_folder_is_there(rerun, edited):
    edited("all")
    watcher, _ = rerun(tasks="digits", methods="uncertainty")
    assert sorted(watcher.trained) == [("digits", name) for name in ("equal", "stl", "stl", "stl", "uncertainty")]


def test_runs_that_are_not_asked_for_are_not_taken_over(rerun):
    watcher, store = rerun(methods="uncertainty", tasks="digits")
    assert watcher.trained == []
    assert {record.method_label for record in store.records().values()} == {"equal", "stl", "uncertainty"}
    assert {record.task_set_label for record in store.records().values()} == {"digits"}
    assert watcher.measured == ["digits"]  # it was measured beside another rule


def test_what_failed_for_a_reason_of_the_machine_is_trained(rerun, smoke, tmp_path):
    [one] = [r for r in smoke.records.values() if (r.task_set_label, r.method_label) == ("digits", "mgda")]
    lost = one.result.model_copy(update={"status": "crashed", "scores": {}})
    failed = one.model_copy(update={"result": lost})
    source = Store(tmp_path / "source")
    for name in smoke.records:
        source.copy(name, Store(smoke.out))
    source.put(failed, None)
    watcher = Watcher()
    asked = {**ASKED, "tasks": "digits", **HERE}
    bench.run(**asked, out=tmp_path / "out", reuse=source.folder, watcher=watcher)
    assert watcher.trained == [("digits", "mgda")]


def test_a_baseline_whose_weights_are_damaged_is_trained(smoke, tmp_path):
    source = Store(tmp_path / "source")
    for name in smoke.records:
        source.copy(name, Store(smoke.out))
    [name] = [
        n for n, r in smoke.records.items() if (r.task_set_label, r.spec.tasks) == ("digits", ("reconstruction",))
    ]
    (source.folder / "runs" / f"{name}.safetensors").write_bytes(b"damaged")
    watcher = Watcher()
    bench.run(**{**ASKED, "tasks": "digits", **HERE}, out=tmp_path / "out", reuse=source.folder, watcher=watcher)
    assert watcher.trained == [("digits", "stl")]


TUNED = {"methods": "equal", "tasks": "scales[tasks=2]", "seeds": 1, "protocol": "smoke", "tuning": 2, **HERE}


def test_trials_are_reused_and_decide_anew(tmp_path):
    first, again = Watcher(), Watcher()
    bench.run(**TUNED, untuned=False, out=tmp_path / "first", watcher=first)
    bench.run(**TUNED, untuned=False, out=tmp_path / "again", reuse=tmp_path / "first", watcher=again)
    assert len(first.trained) == 3 * 2 * 2 + 3
    assert (again.trained, again.measured) == ([], [])
    assert len(again.choices) == len(first.choices) == 3
    there, here = Store(tmp_path / "first"), Store(tmp_path / "again")
    assert (here.choices(), files(here, "json")) == (there.choices(), files(there, "json"))


def test_without_untuned_only_the_tuned_board_is_trained(tmp_path):
    rounds, more = Watcher(), Watcher()
    bench.run(**TUNED, untuned=False, out=tmp_path, watcher=rounds)
    assert list(rounds.todo_by_round) == ["trials", "runs at the tuned rates"]
    bench.run(**TUNED, out=tmp_path, watcher=more)
    assert list(more.todo_by_round) == ["runs at the tuned rates", "runs at the own rates"]


def test_without_untuned_and_without_tuning_the_runs_are_those_of_the_protocol(tmp_path):
    watcher = Watcher()
    bench.run(**{**TUNED, "tuning": "none"}, untuned=False, out=tmp_path, watcher=watcher)
    assert watcher.todo_by_round == {"runs": 3}


def test_a_folder_without_records_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", "--tasks", "scales", "--out", str(tmp_path / "out"), "--reuse", str(tmp_path / "none")])
    assert caught.value.code == 2
    assert "none: there are no records in this folder" in capsys.readouterr().err
