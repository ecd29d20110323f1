"""Distillation in the harness: teachers are the planned baselines; and what the rules of the origin do on real sets."""

import pytest
import torch
from trained import train

from bench.catalogue import task_set
from bench.engine.base import Setting
from bench.engine.inline import InlineEngine
from bench.engine.local import LocalEngine
from bench.engine.schedule import execute
from bench.planning.plan import make_plan
from bench.planning.request import Request
from bench.report.analyse import analyse
from bench.report.costs import relative_costs
from bench.report.groups import groups
from bench.report.pages.csv import leaderboard
from bench.report.scores import from_records
from bench.spec import STL, RunSpec
from bench.store import Store

ASKED = Request(methods="kd", tasks="scales[tasks=2]", seeds="0-0", protocol="smoke", accelerator="cpu")


def plan(store, **changed):
    return make_plan(Request(**{**ASKED.__dict__, **changed}), store)


def make(runs, store, engine=InlineEngine, debug=False):
    """Execute runs, in this process if no other engine is named."""
    with engine(Setting(store, debug=debug)) as engine:
        execute(runs, engine, store, lambda planned, record: None)


def names(runs):
    return [(run.method_label, run.spec.tasks, run.spec.seed) for run in runs]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_teachers_are_the_runs_own_baselines_and_part_of_its_key(store):
    runs = plan(store)
    assert names(runs) == [(STL, ("y1",), 0), (STL, ("y2",), 0), ("equal", ("y1", "y2"), 0), ("kd", ("y1", "y2"), 0)]
    kd = runs[-1]
    assert kd.parts.upstream == {run.spec.name: run.key for run in runs[:2]}
    assert runs[-2].parts.upstream == {}


def test_teachers_of_another_seed_come_first_and_are_no_baselines(store):
    runs = plan(store, methods="kd[teacher_seed=7]")
    assert [run.spec.seed for run in runs if run.spec.method == STL] == [0, 0, 7, 7]
    assert runs[-1].parts.upstream.keys() == {run.spec.name for run in runs[-3:-1]}
    make(runs, store, debug=True)
    board = leaderboard(analyse(from_records(store.records().values()))).set_index("method")
    assert board.seeds[STL] == 1
    assert board.seeds["kd[teacher_seed=7]"] == 1


def test_a_student_reads_its_teachers_and_pays_for_them(store):
    make(plan(store, methods="kd,kd+mgda"), store, debug=True)
    records = store.records().values()
    kd = next(record for record in records if record.method_label == "kd")
    assert (kd.result.status, kd.cost.passes["teacher"], kd.cost.passes["trunk"]) == ("ok", 2, 1)
    ratios = relative_costs(groups(from_records(records)))["scales[tasks=2]@smoke", "kd"]
    assert ratios.training > ratios.step


def test_other_teachers_give_another_student(store):
    set_name, tasks = "scales[ratio=100,tasks=2]", ("y1", "y2")
    protocol = task_set(set_name).protocols["smoke"]
    method = plan(store)[-1].spec.method

    def taught_by(seed):
        single = [
            train(RunSpec(task_set=set_name, tasks=(t,), method=STL, seed=seed, protocol=protocol))[2] for t in tasks
        ]
        spec = RunSpec(task_set=set_name, tasks=tasks, method=method, seed=0, protocol=protocol)
        return train(spec, single)[0].scores

    assert taught_by(0) == taught_by(0)
    assert taught_by(0) != taught_by(1)


@pytest.mark.parametrize("engine", [InlineEngine, LocalEngine])
def test_without_its_teacher_a_run_is_skipped_and_made_when_there_is_one(store, engine):
    runs = plan(store)
    make(runs[1:], store, engine)
    skipped = store.get(runs[-1].spec.name)
    assert (skipped.result.status, skipped.result.reason) == ("skipped", "its teacher is missing")
    again = plan(store)
    assert [run.todo for run in again] == [True, False, False, True]
    make([run for run in again if run.todo], store, engine)
    assert store.get(runs[-1].spec.name).result.status == "ok"


@pytest.mark.parametrize("engine", [InlineEngine, LocalEngine])
def test_a_teacher_whose_weights_are_lost_is_made_again(store, engine):
    teacher = plan(store)[0]
    make([teacher], store, engine)
    (store.folder / "runs" / f"{teacher.spec.name}.safetensors").unlink()
    [again] = [run for run in plan(store)[:1] if run.todo]
    make([again], store, engine)
    assert store.has_weights(store.get(teacher.spec.name))


def weights(method, protocol, name="scales[ratio=100,tasks=5]", steps=None):
    tasks = tuple(task.name for task in task_set(name).tasks)
    asked = task_set(name).protocols[protocol]
    asked = asked if steps is None else asked.model_copy(update={"steps": steps})
    result, _, _ = train(RunSpec(task_set=name, tasks=tasks, method=method, seed=1000, protocol=asked))
    return [torch.tensor(list(point.weights.values())) for point in result.points]


def test_gradnorm_really_moves_its_weights():
    """In a public suite they share the network's optimiser and stay at 1 for ever."""
    moved = weights("gradnorm[alpha=1.5,at=last,lr=0.025,norm=own]", "quick")[-1]
    assert float(moved.sum()) == pytest.approx(5, rel=1e-4)
    assert moved.max() > 2
    assert moved.min() < 0.5


def test_dwa_weighs_alike_for_two_epochs_and_not_after():
    protocol = task_set("scales[ratio=100,tasks=5]").protocols["smoke"]  # an epoch is 5 steps, a point 10
    first, second = weights("dwa[temperature=2]", "smoke")
    assert protocol.steps_per_epoch * 2 == 10
    assert first.tolist() == [1] * 5
    assert second.tolist() != [1] * 5
    assert float(second.sum()) == pytest.approx(5)
