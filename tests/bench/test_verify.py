"""Recorded runs are trained again: what is the same, what is not, and how small a fault is seen elsewhere."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_records import METRICS, make_runs

from bench import cli
from bench.engine.interrupt import UserInterruptError
from bench.engine.runs import train_run
from bench.planning.plan import make_plan
from bench.planning.request import Request
from bench.records import RunRecord
from bench.report.pages.csv import csv_bytes
from bench.report.scores import tidy
from bench.report.tuned import from_store
from bench.spec import STL
from bench.store import Store
from bench.verify import again as verifying
from bench.verify.again import draw, read, with_upstream
from bench.verify.judge import judge
from bench.verify.pairs import OF_A_FILE, Recorded
from bench.verify.spread import changes

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
HERE = {"processor": "one", "machine": "m", "system": "s"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of real runs, among them students and what they distil."""
    out = tmp_path_factory.mktemp("trained") / "results"
    request = Request(methods="kd", tasks="scales", seeds=2, protocol="smoke", accelerator="cpu")
    store = Store(out)
    for planned in make_plan(request, store):  # in their order: what is read comes first
        train_run(planned, store)
    (out / "runs.csv").write_bytes(csv_bytes(tidy(from_store(store))))
    return out


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "copy")


def command(*arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", *map(str, arguments), "--engine", "inline"])
    return ended.value.code


def edited(folder, method, seed, change):
    """Edit the result of a record as somebody would who knows the file; return the run's name."""
    [name] = [n for n, r in Store(folder).records().items() if (r.method_label, r.spec.seed) == (method, seed)]
    file = folder / "runs" / f"{name}.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return name


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def by_a_millionth(document):
    [own] = document["result"]["scores"]["y1"].values()
    own["value"] += 1e-6


# With real training ----------------------------------------------------------------------------------------


def by_the_last_bit(document):
    own = document["result"]["points"][0]["losses"]
    own["y1"] = float(np.nextafter(own["y1"], 0))


def test_a_score_that_was_edited_by_a_millionth_is_named_and_so_is_the_last_bit_of_a_loss(folder, capsys):
    """And nothing else. All runs are trained again, without a look at what is there; the folder stays as it is."""
    name = edited(folder, "kd", 1, by_a_millionth)
    edited(folder, "equal", 0, by_the_last_bit)
    before = contents(folder)
    assert command(folder, "--share", 1) == 1
    said = capsys.readouterr()
    runs = 2 * (5 + 2)
    loss, fault = [line for line in said.out.splitlines() if line.startswith("does not reproduce")]
    assert "equal seed 0" in loss and "its scores agree to ten digits; what differs: points" in loss
    assert f"scales@smoke kd seed 1 (run {name[:10]}): y1.nrmse" in fault
    assert f"{runs - 2} of {runs} runs are the same; 2 faults found" in said.out
    assert f"seed 0: {runs} of {runs} runs are drawn, and trained again" in said.err
    assert f"{runs}/{runs}, 0 s left" in said.err
    assert contents(folder) == before


def test_a_part_of_the_runs_is_drawn_and_what_students_distil_is_trained_first(folder, capsys, monkeypatch):
    order = []
    monkeypatch.setattr(cli._Watcher, "done", lambda watcher, planned, record: order.append(planned.method_label))
    for seed in range(20):  # of which some draw a student
        drawn = draw(read(folder).runs, 0.1, seed)
        if any(Store(folder).get(name).method_label == "kd" for name in drawn):
            break
    assert command(folder, "--share", 0.1, "--seed", seed) == 0
    said = capsys.readouterr()
    assert f"seed {seed}: 2 of 14 runs are drawn, and " in said.err and "that these read" in said.err
    assert order.index("kd") >= 5 and set(order[:5]) == {STL}
    assert "no fault found" in said.out and "bytes" in said.out


def test_a_file_without_records_is_verified_by_its_digits(folder, tmp_path, capsys):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "runs.csv", alone / "runs.csv")
    lines = (alone / "runs.csv").read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if ",equal,1,y2," in line)
    value = lines[place].split(",")[6]
    lines[place] = lines[place].replace(value, f"{float(value) + 1e-6:.10g}")
    (alone / "runs.csv").write_text("\n".join(lines) + "\n")
    assert command(alone, "--share", 1) == 1
    said = capsys.readouterr().out
    assert "does not reproduce: scales@smoke equal seed 1" in said and "y2.nrmse" in said
    assert "13 of 14 runs are the same; 1 fault found" in said and "digits" in said


def test_ctrl_c_says_what_was_found_until_then_and_leaves_nothing(folder, capsys, monkeypatch, tmp_path):
    def done(watcher, planned, record):
        raise UserInterruptError

    monkeypatch.setattr(cli._Watcher, "done", done)
    monkeypatch.setattr(verifying.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert command(folder, "--share", 1) == 130
    said = capsys.readouterr().out
    assert "interrupted: 1 of 14 runs were trained again" in said and "1 of 1 runs are the same" in said
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_cannot_be_made_again_is_said_and_the_rest_is_verified(folder, capsys, made):
    store = Store(folder)
    store.put(made("nowhere", scores={METRICS[0]: 1.0}, task_set="scales", tasks=("line",)), None)
    store.put(made("equal", scores=None, task_set="scales", tasks=("line",)), None)  # it crashed: no result
    found = read(folder)
    assert len(found.runs) == 14
    [(why, [run])] = found.refused.items()
    assert "unknown method 'nowhere'" in why and "nowhere" in run
    for file in (folder / "runs").iterdir():
        if "nowhere" not in file.read_text("utf-8", errors="replace"):
            file.unlink()
    assert command(folder) == 3
    assert "none of its runs can be trained again: unknown method 'nowhere'" in capsys.readouterr().err


def test_a_file_that_was_edited_so_that_it_is_another_runs_is_named_and_stays(folder, capsys):
    name = edited(folder, "equal", 0, lambda document: document["spec"].update(seed=1))
    before = contents(folder)
    assert command(folder) == 1
    assert f"does not reproduce: {folder}/runs/{name}.json is another run's record, or was edited" in (
        capsys.readouterr().out
    )
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--share", 0], 2, "--share 0: write a number above 0, and at most 1 for all runs"),
        (["--seed", -1], 2, "--seed -1: write a whole number from 0 on"),
        ([], 3, "has no records and no runs.csv: python -m bench run --out"),
    ],
)
def test_a_wrong_call_is_one_line(tmp_path, capsys, arguments, code, says):
    assert command(tmp_path, *arguments) == code
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and says in line


# The reference, without training ---------------------------------------------------------------------------


@pytest.fixture
def part_of_reference(tmp_path):
    """The committed files, with the lines of one task set."""
    for name in ("runs.csv", "leaderboard.csv"):
        head, *lines = (REFERENCE / name).read_text("utf-8").splitlines()
        own = [line for line in lines if line.startswith("scales,")]
        (tmp_path / name).write_text("\n".join([head, *own]) + "\n")
    return tmp_path


def test_every_run_of_the_reference_can_be_made_again_at_its_rate(part_of_reference):
    found = read(part_of_reference)
    assert not found.refused
    methods = {run.method for run in found.runs}
    assert {"equal", "static", STL} <= methods
    assert len(found.runs) == 8 * (5 + len(methods) - 1)
    assert any(plan.spec.protocol.lr != plan.asked_protocol.lr for plan in found.plans.values())
    drawn = draw(found.runs, 0.5, 0)
    names = [plan.spec.name for plan in with_upstream(drawn, found.plans)]
    assert set(drawn) <= set(names)
    for place, name in enumerate(names):
        assert set(found.plans[name].parts.upstream) <= set(names[:place])


def test_a_run_of_another_rate_than_is_known_here_is_not_compared(part_of_reference):
    board = part_of_reference / "leaderboard.csv"
    head, *lines = board.read_text("utf-8").splitlines()
    column = head.split(",").index("lr_factor")
    cells = [line.split(",") for line in lines]
    for row in cells:
        if row[1] == "equal":
            row[column] = "3"
    board.write_text("\n".join([head, *map(",".join, cells)]) + "\n")
    [(why, runs)] = read(part_of_reference).refused.items()
    assert why.startswith("it was trained at 3 times the protocol's rate") and len(runs) == 8


# The draw --------------------------------------------------------------------------------------------------


def recorded(records):
    return [Recorded(r.spec, r.task_set_label, r.method_label, r.result.status, r.result.scores, r) for r in records]


def test_the_draw_meets_every_task_set_and_a_larger_share_has_the_smaller_one_in_it():
    runs = recorded(
        record
        for number, count in enumerate((1, 9, 30))
        for record in make_runs("equal", {s: [1.0, 1.0, 1.0] for s in range(count)}, task_set=f"set{number}")
    )
    where = {run.name: run.task_set for run in runs}
    tenth, half = draw(runs, 0.1, 0), draw(runs, 0.5, 0)
    assert [sum(where[name] == f"set{n}" for name in tenth) for n in range(3)] == [1, 1, 3]
    assert set(tenth) < set(half) and draw(runs, 0.1, 0) == tenth
    assert set(draw(runs, 0.1, 1)) != set(tenth)
    assert len(draw(runs, 1, 0)) == len(runs)


# Judging ---------------------------------------------------------------------------------------------------


def board(generator, sets=2, methods=5, seeds=8, spread=0.02):
    """Records of several methods: scores about 1, which spread by 2 % over seeds."""
    return [
        moved(record, {}, HERE)
        for place in range(sets)
        for method in range(methods)
        for record in make_runs(
            f"method{method}",
            dict(enumerate((1 + spread * generator.normal(size=(seeds, len(METRICS)))).tolist())),
            task_set=f"set{place}",
        )
    ]


def moved(record, factors, hardware=None) -> RunRecord:
    """A record with its scores multiplied, by metric, and made on other hardware."""
    scores = {
        task: {
            name: score.model_copy(update={"value": score.value * factors.get((task, name), 1.0)})
            for name, score in own.items()
        }
        for task, own in record.result.scores.items()
    }
    result = record.result.model_copy(update={"scores": scores})
    changed = {} if hardware is None else {"hardware": hardware}
    return record.model_copy(update={"result": result, "provenance": record.provenance.model_copy(update=changed)})


def on_another(records, generator, rounding=0.002, also=lambda record: 1.0):
    """The same runs trained on another processor, which moves scores by rounding, and some by more."""
    return {
        record.name: moved(
            record,
            {m[:2]: also(record) * (1 + rounding * generator.normal()) for m in METRICS},
            {**HERE, "processor": "two"},
        )
        for record in records
    }


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_on_another_processor_runs_agree_on_average_and_the_size_of_a_fault_that_is_seen_is_true(generator):
    records = board(generator)
    some = records[::2]
    found = judge(recorded(records), on_another(some, generator))
    assert not found.fails and found.shows and not found.faults
    assert {line.way for line in found.sets} == {"statistics"}
    assert [line.word for line in (*found.sets, *found.methods)] == ["agrees on average"] * 7
    assert found.excuses == {"the processor (was one)": len(some)}
    [first, _] = found.sets
    assert first.nearest > 0.9 * first.seeded and first.seeded == first.runs and first.chance == first.runs / 8
    assert 0 < first.shift < 1 and 2 < first.edit <= first.worst_edit < 30
    victim = some[0]
    for share, named in ((1.5 * first.worst_edit, True), (0.3 * first.edit, False)):
        false = [moved(r, {("left", "error"): 1 + share / 100}) if r is victim else r for r in records]
        again = on_another(some, np.random.default_rng(1))
        faults = judge(recorded(false), again).faults
        assert [fault.run.name for fault in faults] == [victim.name] * named
        assert not named or "left.error" in faults[0].why


def test_a_record_that_was_edited_does_not_hide_behind_the_spread_that_it_makes(generator):
    records = board(generator, methods=1)
    victim = records[0]
    false = [moved(r, {("right", "loss"): 50.0}) if r is victim else r for r in records]
    found = judge(recorded(false), on_another(records, generator))
    assert [fault.run.name for fault in found.faults] == [victim.name]


def test_a_method_that_has_changed_is_found_and_so_is_a_task_set(generator):
    records = board(generator, sets=3)
    rule = on_another(records, generator, also=lambda record: 1 + 0.03 * (record.spec.method == "method3"))
    found = judge(recorded(records), rule)
    assert [line.name for line in found.methods if line.word == "shifted"] == ["method3"] and found.fails
    place = on_another(records, generator, also=lambda record: 1 - 0.03 * (record.spec.task_set == "set2"))
    found = judge(recorded(records), place)
    assert [line.name for line in found.sets if line.word == "shifted"] == ["set2"]
    # Less by 3 %: better by 3 in one of two tasks; in the other one metric loses what the other one gains.
    assert found.sets[2].mean == pytest.approx(1.5, abs=0.2)


def test_too_few_runs_are_not_called_reproduced(generator):
    records = board(generator, sets=1)
    found = judge(recorded(records), on_another(records[:2], generator))
    [line] = found.sets
    assert line.word == "not shown" and line.shift == np.inf
    assert not found.fails and not found.shows


def test_where_seeds_are_too_few_to_know_their_spread_no_single_score_is_judged(generator):
    records = board(generator, seeds=1)
    found = judge(recorded(records), on_another(records, generator))
    assert all(line.edit == line.worst_edit == np.inf for line in found.sets)


def test_a_processor_of_another_name_is_no_excuse_where_most_runs_are_the_same(generator):
    records = board(generator, sets=1)
    again = on_another(records, generator, rounding=0.0)
    victim = records[7]
    again[victim.name] = moved(again[victim.name], {("left", "error"): 1 + 1e-6})
    found = judge(recorded(records), again)
    assert [fault.run.name for fault in found.faults] == [victim.name]
    [line] = found.sets
    assert (line.way, line.word, line.same) == ("bytes", "differs", len(records) - 1) and not found.methods


def test_without_any_other_name_all_runs_that_differ_are_named_and_another_processor_is_thought_of(generator):
    records = board(generator, sets=1)
    again = {name: moved(record, {}, HERE) for name, record in on_another(records, generator).items()}
    found = judge(recorded(records), again)
    assert len(found.faults) == len(records) and found.is_unalike


def test_another_outcome_is_named_wherever_the_run_was_made(generator, made):
    records = board(generator)
    again = on_another(records, generator)
    failed = made("method1", 2, None, task_set="set0", status="diverged", reason="the loss is not finite")
    assert failed.name in again
    again[failed.name] = failed
    [fault] = judge(recorded(records), again).faults
    assert fault.why == "it was ok, and is diverged: the loss is not finite"


def test_what_is_other_is_said(generator):
    record = board(generator)[0]
    parts = record.parts.model_copy(update={"sources": {"methods.x": "other"}, "versions": {"torch": "3"}})
    again = moved(record, {("left", "error"): 1.01}).model_copy(update={"parts": parts})
    found = judge(recorded([record]), {record.name: again})
    assert set(found.excuses) == {"torch", "the code of bench.training and 1 more"}
    table = [Recorded(r.spec, "set0", "m", "ok", r.result.scores) for r in [record]]
    assert set(judge(table, {record.name: again}).excuses) == {OF_A_FILE}


def test_no_score_is_named_more_often_than_promised_where_nothing_is_left_of_pairing():
    """The worst that rounding can do is to draw another seed."""
    generator = np.random.default_rng(3)
    alarms = nearest = seeded = 0
    for _ in range(60):
        records = board(generator, sets=1, methods=3)
        fresh = {record.name: other for record, other in zip(records, board(generator, sets=1, methods=3), strict=True)}
        elsewhere = {name: moved(other, {}, {**HERE, "processor": "two"}) for name, other in fresh.items()}
        found = judge(recorded(records), elsewhere)
        alarms += bool(found.faults)
        nearest, seeded = nearest + found.sets[0].nearest, seeded + found.sets[0].seeded
    assert nearest / seeded == pytest.approx(1 / 8, abs=0.04)
    assert alarms <= 8  # 5 % are 3; more than 8 have a probability of 0.2 %


def test_a_score_that_is_zero_is_left_out():
    records = make_runs("m", {s: [0.0, 1.0 + s / 100, 1.0] for s in range(4)})
    pairs = judge(recorded(records), {r.name: moved(r, {}, HERE) for r in records})
    assert not pairs.fails
    assert changes([], recorded(records)) == []
