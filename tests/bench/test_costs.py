"""What a step costs: measured side by side, counted exactly, shown relative to equal weights."""

import pytest
import torch

from bench import costs
from bench.planning.plan import make_plan
from bench.planning.request import Request
from bench.records import CostRecord, StepCost
from bench.report.board import Ratios
from bench.report.costs import costs as cost_table
from bench.report.costs import relative_costs
from bench.report.groups import groups
from bench.report.scores import from_records
from bench.spec import STL
from bench.store import Store
from bench.training.loop import Run
from bench.training.model import Model
from tasks.core.protocol import Protocol


@pytest.fixture
def plan(sets, rules, tmp_path):
    """The runs of some rules on the test's own task set, at one seed."""

    def make(*methods, seeds="1"):
        named = ",".join(f"{rules}:{name}" if name[0].isupper() else name for name in methods)
        request = Request(methods=named, tasks=sets, seeds=seeds, protocol="epochs", accelerator="cpu")
        return make_plan(request, Store(tmp_path / "none"))

    return make


def by_method(record):
    """The costs, by the rule's short name, or by the task of a single-task run."""
    shown = {cost: cost.method.rpartition(":")[2].partition("[")[0] for cost in record.costs}
    return {cost.tasks[0] if name == STL else name: cost for cost, name in shown.items()}


def test_what_a_step_allocates_is_the_same_on_every_repetition(plan):
    members = plan("mgda", "kd", "uncertainty")
    one, other = by_method(costs.measure(members)), by_method(costs.measure(members[::-1]))
    assert len(one) == 6
    for key, cost in one.items():
        assert cost.allocated_bytes == other[key].allocated_bytes, key
        assert cost.peak_bytes == other[key].peak_bytes, key
        assert cost.allocated_bytes > cost.peak_bytes > 0
        assert cost.step_seconds > 0
    assert one["mgda"].allocated_bytes > one["equal"].allocated_bytes > one["size"].allocated_bytes
    assert one["kd"].allocated_bytes > one["equal"].allocated_bytes


def test_an_added_backward_is_seen_in_what_is_allocated(plan, monkeypatch):
    members = plan("equal")
    before = by_method(costs.measure(members))["equal"].allocated_bytes
    step = Run.step

    def twice(run, chosen, **more):
        loss = run.model.forward(run.model.batch("train", chosen)).losses[0]
        torch.autograd.grad(loss, [p for _, p in run.model.shared])
        step(run, chosen, **more)

    monkeypatch.setattr(Run, "step", twice)
    assert by_method(costs.measure(members))["equal"].allocated_bytes > 1.3 * before


def test_every_method_has_its_turn_in_every_round_on_the_same_batches(plan, monkeypatch):
    taken = []
    step = Run.step

    def noted(run, chosen, **more):
        taken.append((run.spec.method, run.spec.tasks, run.steps, tuple(chosen.tolist())))
        step(run, chosen, **more)

    monkeypatch.setattr(Run, "step", noted)
    record = costs.measure(members := plan("mgda", "uncertainty"))
    assert record.rounds == (24 - 2) // costs.STEPS == 4
    expected = [p.spec for _ in range(2) for p in members]
    expected += [p.spec for _ in range(4) for p in members for _ in range(costs.STEPS)]
    assert [(method, tasks) for method, tasks, *_ in taken] == [(spec.method, spec.tasks) for spec in expected]
    batches = {}
    for _, _, number, chosen in taken:
        assert batches.setdefault(number, chosen) == chosen


def test_what_a_rule_asks_for_at_an_epochs_end_is_part_of_its_step(plan, monkeypatch):
    """An evaluation that took 8 seconds would cost one of the 8 steps of an epoch a second."""
    clock = {"now": 0.0}
    score = Model.score
    monkeypatch.setattr(costs.time, "perf_counter", lambda: clock["now"])

    def slow(run, split):
        clock["now"] += 8.0
        return score(run, split)

    monkeypatch.setattr(Model, "score", slow)
    found = by_method(costs.measure(plan("Validating", "dwa")))
    assert found["Validating"].step_seconds == pytest.approx(1.0)
    assert found["dwa"].step_seconds == found["equal"].step_seconds == 0.0


def test_only_what_has_trained_and_is_not_known_is_measured(plan, made):
    runs = plan("mgda", seeds="2")
    records = {p.spec.name: made(scores={("left", "accuracy", True): 0.5}) for p in runs}
    assert costs.to_measure(runs, [], {}) == []
    [members] = costs.to_measure(runs, [], records)
    assert [(p.spec.method, p.spec.tasks, p.spec.seed) for p in members] == [
        (p.spec.method, p.spec.tasks, 0) for p in runs[: len(runs) // 2]
    ]
    known = [costs.measure(members)]
    assert costs.to_measure(runs, known, records) == []
    failed = {**records, members[-1].spec.name: made(status="crashed")}
    [fewer] = costs.to_measure(plan("mgda"), known, failed)
    assert len(fewer) == len(members) - 1


def test_a_folder_keeps_what_was_measured(plan, tmp_path):
    store = Store(tmp_path)
    assert store.costs() == []
    record = costs.measure(plan("equal"))
    store.put_costs(record)
    store.put_costs(record)
    assert store.costs() == [record]
    (tmp_path / "costs" / "broken.json").write_text("{")
    assert store.costs() == [record]


@pytest.fixture
def session():
    protocol = Protocol(name="quick", steps=100, batch_size=8, lr=0.1, steps_per_epoch=10)

    def make(**seconds):
        both = ("left", "right")
        found = [
            StepCost(
                method=name.partition("_")[0],
                tasks=(name.partition("_")[2],) if "_" in name else both,
                step_seconds=value,
                allocated_bytes=1000,
                peak_bytes=int(100 * value),
            )
            for name, value in seconds.items()
        ]
        facts = {"precision": "32-true", "device": "cpu", "hardware": {}, "rounds": 9}
        return CostRecord(key=str(seconds), task_set="toy", protocol=protocol, costs=found, **facts)

    return make


def test_ratios_are_those_of_one_session_and_count_the_teachers(runs, session):
    values = {0: [0.5, 0.2, 1.0]}
    singles = runs("stl", values)
    upstream = {record.name: record.key for record in singles}
    records = [
        *singles,
        *runs("equal", values),
        *runs("mgda", values),
        *runs("kd", values, parts={"upstream": upstream}),
    ]
    measured = [
        session(equal=1.0, mgda=99.0),
        session(stl_left=2.0, stl_right=3.0, equal=4.0, mgda=10.0, kd=12.0),
    ]
    found = relative_costs(groups(from_records(records)), measured)
    assert found["toy", "mgda"] == Ratios(2.5, 2.5, 2.5)
    assert found["toy", "kd"] == Ratios(3.0, (12 + 2 + 3) / 4, 3.0)
    assert found["toy", "equal"] == Ratios(1, 1, 1)
    table = cost_table(from_records(records), measured).set_index("method")
    assert table.loc["kd", "step_seconds"] == 12.0
    assert table.loc["kd", "training_ratio"] == 17 / 4
    assert table.loc["mgda", "allocated_bytes"] == 1000


def test_without_a_session_the_runs_own_times_are_taken(runs, session):
    values = {0: [0.5, 0.2, 1.0]}
    records = [*runs("stl", values), *runs("equal", values), *runs("mgda", values)]
    found = relative_costs(groups(from_records(records)), [session(equal=1.0)])
    assert (found["toy", "mgda"].step, found["toy", "mgda"].training) == (1, 1)
    assert found["toy", "mgda"].memory != found["toy", "mgda"].memory
    assert cost_table(from_records(records)).set_index("method").step_seconds.isna().all()
