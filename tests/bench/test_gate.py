"""The gate: alarms where something became worse, and nowhere else; and says so where it cannot tell."""

import csv
import inspect
import json
import re
import shlex
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulate_gate import STREAMS, Fall, measure, rounded, simulated, write_tables

import bench
from bench import cli
from bench.gate.baseline import (
    DEFAULTS,
    Baseline,
    Cell,
    Chosen,
    SeedValues,
    Snapshot,
    commands,
    make_baseline,
    read_baseline,
    snapshot,
    write_baseline,
)
from bench.gate.judge import ALPHA, gained, judge
from bench.gate.summary import as_json, junit, markdown
from bench.planning.seeds import parse_seeds, write_seeds
from bench.records import CostRecord, StepCost
from bench.spec import STL, Cost
from bench.store import NothingToCompareError, Store
from bench.tuning.choose import Choice, scaled
from tasks.core.protocol import Protocol

METRICS = [("one", "accuracy", True), ("two", "error", False)]
SETS = ("digits", "scales", "scenes")
METHODS = ("equal", "mgda", "uncertainty")
RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def play(runs):
    """Records of three methods on three task sets; `shift` moves a method, in per cent, for the worse if negative."""

    def make(seeds=8, shift=None, noise=None, spread=0.01, failed=(), **changed):
        draw, moved = np.random.default_rng(0), np.random.default_rng(noise)
        found = []
        for task_set in SETS:
            for method in (STL, *METHODS):
                rows = {}
                for seed in range(seeds):
                    accuracy, error = 0.8 + 0.02 * draw.normal(), 0.3 + 0.01 * draw.normal()
                    factor = 1 + (shift or {}).get((task_set, method), (shift or {}).get(method, 0)) / 100
                    if noise is not None:
                        factor += spread * moved.normal()
                    rows[seed] = None if (method, seed) in failed else [accuracy * factor, error / factor]
                found += runs(method, rows, METRICS, task_set=task_set, **changed)
        return found

    return make


def judged(before, after, **more):
    baseline = make_baseline(before, [], "a test")
    return judge(baseline, snapshot(after), **more)


def states(outcome, over_sets=True):
    return {f.method: f.state for f in outcome.findings if f.what == "quality" and (f.task_set == "") == over_sets}


def test_the_same_numbers_are_identical(play):
    outcome = judged(play(), play())
    assert set(states(outcome).values()) == {"identical"}
    assert len([f for f in outcome.findings if f.what == "quality"]) == 4 + 12
    assert np.isnan(outcome.detectable)
    assert b"Every result is the same" in markdown(outcome)


def test_a_fall_of_five_points_is_a_regression_of_that_method_alone(play):
    outcome = judged(play(), play(noise=1, shift={"mgda": -5}))
    assert states(outcome) == {STL: "ok", "equal": "ok", "mgda": "regressed", "uncertainty": "ok"}
    [found] = [f for f in outcome.findings if f.state == "regressed" and f.task_set == ""]
    assert found.mean == pytest.approx(-5, abs=1.0)
    assert found.low < found.mean < found.high < -1
    assert found.p <= 0.05
    assert "regressed" in markdown(outcome).decode()


def test_a_rise_is_an_improvement_and_a_small_fall_is_neither(play):
    assert states(judged(play(), play(noise=1, shift={"mgda": +5})))["mgda"] == "improved"
    assert states(judged(play(), play(shift={"mgda": -0.5})))["mgda"] == "ok"  # sure, but within the tolerance
    assert states(judged(play(), play(shift={"mgda": -0.5}), tolerance=0.2))["mgda"] == "regressed"


def test_a_fall_that_is_not_sure_is_suspect(play):
    wild = judged(play(seeds=3), play(seeds=3, noise=5, spread=0.3, shift={"mgda": -12}))
    assert states(wild)["mgda"] == "suspect"


def test_a_better_single_task_network_flags_nobody_else(play):
    outcome = judged(play(), play(shift={STL: 8}))
    assert states(outcome) == {STL: "improved", "equal": "identical", "mgda": "identical", "uncertainty": "identical"}


def test_a_run_that_was_ok_and_fails_is_a_regression(play):
    outcome = judged(play(), play(failed=[("mgda", 3)]))
    assert states(outcome)["mgda"] == "regressed"
    assert {f.note for f in outcome.having("regressed") if f.task_set} == {"seeds that were ok fail: 3"}


def test_another_protocol_is_stale_and_what_was_not_run_is_missing(play):
    before = play()
    part = [r for r in play() if r.spec.method != "mgda"]
    outcome = judged(before, part)
    assert {f.state for f in outcome.findings if f.method == "mgda"} == {"missing"}
    assert {f.state for f in outcome.findings if f.method != "mgda" and f.what == "quality"} == {"identical"}
    mixed = [r for r in play() if r.spec.task_set != "digits"] + [
        r for r in play(steps=7) if r.spec.task_set == "digits"
    ]
    assert {f.state for f in judged(before, mixed).findings if f.task_set == "digits"} == {"stale"}


def test_an_edit_of_code_that_leaves_the_numbers_is_identical(play):
    outcome = judged(play(), play(parts={"sources": {"bench.training": "edited"}}))
    assert set(states(outcome).values()) == {"identical"}


@pytest.mark.parametrize("change", ["nothing", "other seeds", "other protocol"])
def test_nothing_comparable_is_said(play, change):
    after = {"nothing": [], "other protocol": play(steps=7)}.get(change)
    if after is None:
        after = [r for r in play(seeds=16) if r.spec.seed >= 8]
    with pytest.raises(
        NothingToCompareError, match=r"no run here is also in the baseline.*python -m bench run --methods"
    ):
        judged(play(), after)


def test_what_the_baseline_does_not_have_is_named(play):
    part = [r for r in play() if r.spec.method != "mgda"]
    outcome = judged(part, play())
    assert [cell.key for cell in outcome.unknown] == [(name, "mgda") for name in SETS]
    assert "Not in the baseline: mgda on digits, mgda on scales, mgda on scenes" in markdown(outcome).decode()
    assert json.loads(as_json(outcome))["not in the baseline"] == [[name, "mgda"] for name in SETS]


def test_other_versions_are_named(play):
    def of(version):
        changed = {"versions": {"torch": version}, "commit": version * 3}
        return [r.model_copy(update={"provenance": r.provenance.model_copy(update=changed)}) for r in play()]

    text = markdown(judged(of("2-13"), of("2-14"))).decode().replace("\\", "")
    assert "Commit 2-132-132- → 2-142-142-. torch 2-13 → 2-14. Times of steps: relative to equal weights." in text


# On the spread and correlation of the suite's own runs -------------------------------------------------------


@pytest.fixture(scope="module")
def own():
    """The committed runs, and the same with other rounding."""
    return read_baseline(RESULTS / "baseline.json"), read_baseline(RESULTS / "calibration" / "rounding.json")


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("seeds", [5, 8])
def test_of_two_hundred_comparisons_without_a_change_fewer_than_one_in_twenty_alarm(own, seeds, streams):
    alike = (simulated(*own, seeds, number, streams=streams) for number in range(200))
    assert sum(bool(judge(*sides).having("regressed")) for sides in alike) < 10


def test_a_fall_of_five_points_of_any_method_is_seen_by_five_seeds(own):
    for method in ("equal", "gradnorm", "kd", "mgda", STL):
        fallen = (simulated(*own, 5, number, fall=Fall(method, 5.0, "")) for number in range(20))
        assert all(states(judge(*sides))[method] == "regressed" for sides in fallen)


def test_simulated_runs_spread_as_the_stored_ones_and_fall_by_what_is_said(own):
    before, after = own
    [one] = [cell for cell in before.cells if cell.key == ("digits", "mgda")]
    [again] = [cell for cell in after.cells if cell.key == one.key]
    fall = Fall("mgda", 5.0, "digits")
    sides = simulated(before, after, 5_000, 0, fall=fall)
    made = [next(cell for cell in side.cells if cell.key == one.key).values(range(5_000)) for side in sides]
    both = np.concatenate([one.values(range(8)), again.values(range(8))], axis=1)
    scale = np.outer(both.std(0, ddof=1), both.std(0, ddof=1))
    np.testing.assert_allclose(np.cov(np.concatenate(made, axis=1).T) / scale, np.cov(both.T) / scale, atol=0.05)
    assert gained(one, *made).mean() == pytest.approx(-5, abs=0.05)
    assert gained(one, *(s.cells[0].values(range(5_000)) for s in sides)).mean() == pytest.approx(0, abs=0.05)


def test_a_millionth_on_the_initial_weights_moves_every_run_a_little(smoke):
    before = make_baseline(list(smoke.records.values()), [], "a test")
    after = rounded(before)
    assert [cell.key for cell in after.cells] == [cell.key for cell in before.cells]
    for one, again in zip(before.cells, after.cells, strict=True):
        assert {seed: own.names for seed, own in one.seeds.items()} == {s: o.names for s, o in again.seeds.items()}
        np.testing.assert_allclose(again.values(again.seeds), one.values(one.seeds), rtol=0.02)
    assert any(one.seeds != again.seeds for one, again in zip(before.cells, after.cells, strict=True))


def test_the_committed_tables_are_those_that_the_program_writes(own, tmp_path):
    rows = list(csv.DictReader((RESULTS / "calibration" / "gate.csv").open(encoding="utf-8")))
    assert len(rows) == 2 * 3 * (1 + 2 * 4 * 7)
    assert all(float(row["rate"]) <= ALPHA for row in rows if row["what"] == "false alarm")
    what = {"what": "power", "streams": "others", "seeds": "5", "place": "", "points": "5.0", "method": "mgda"}
    [stored] = [row for row in rows if what.items() <= row.items()]
    fallen = (simulated(*own, 5, n, streams="others", fall=Fall("mgda", 5.0, "")) for n in range(40))
    found = [{f.method for f in judge(*sides).having("regressed")} for sides in fallen]
    assert sum("mgda" in names for names in found) / 40 == float(stored["rate"]) < 1
    write_tables(list(measure(*own, alarms=2, falls=1)), *own, tmp_path)
    made, committed = ((folder / "gate.md").read_text("utf-8") for folder in (tmp_path, RESULTS / "calibration"))
    assert made.partition("## What rounding does")[2] == committed.partition("## What rounding does")[2] != ""


# Costs -------------------------------------------------------------------------------------------------------


def costly(records, forward=1.0, teacher=0.0, step_bytes=1000, seconds=1.0):
    cost = Cost(step_seconds=0.01, passes={"forward": forward, "heads": 1.0, "trunk": 1.0, "teacher": teacher})
    changed = [r.model_copy(update={"cost": cost}) if r.spec.method == "mgda" else r for r in records]
    protocol = Protocol(name="quick", steps=100, batch_size=8, lr=0.1, steps_per_epoch=10)
    steps = [
        StepCost(method=m, tasks=("one", "two"), step_seconds=s, allocated_bytes=b, peak_bytes=10)
        for m, s, b in (("equal", 1.0, 1000), ("mgda", seconds, step_bytes))
    ]
    facts = {"precision": "32-true", "device": "cpu", "hardware": {}, "rounds": 9, "key": "k"}
    return changed, [CostRecord(task_set=name, protocol=protocol, costs=steps, **facts) for name in SETS]


@pytest.mark.parametrize(
    ("change", "hardware", "state", "note"),
    [
        ({"forward": 2.0}, {}, "regressed", "forward passes 1 → 2"),
        ({"teacher": 3.0}, {}, "regressed", "teacher passes 0 → 3"),
        ({"step_bytes": 1200}, {}, "regressed", "allocation × 1.20 (1,000 → 1,200 bytes)"),
        ({"step_bytes": 1040}, {}, "ok", "allocation × 1.04 (1,000 → 1,040 bytes); time ÷ equal weights' 1 → 1"),
        ({"step_bytes": 700}, {}, "improved", "allocation × 0.70 (1,000 → 700 bytes)"),
        ({"seconds": 2.0}, {}, "regressed", "time ÷ equal weights' 1 → 2"),
        ({"seconds": 1.3}, {}, "ok", "allocation × 1.00; time ÷ equal weights' 1 → 1.3"),
        ({"seconds": 2.0}, {"machine": "another"}, "ok", "allocation × 1.00"),
    ],
)
def test_a_step_that_costs_more_is_a_regression(play, change, hardware, state, note):
    baseline = make_baseline(*costly(play()), "a test")
    now = snapshot(*costly(play(), **change)).model_copy(update={"hardware": hardware} if hardware else {})
    outcome = judge(baseline, now)
    assert {(f.state, f.note) for f in outcome.findings if f.what == "cost" and f.method == "mgda"} == {(state, note)}
    assert {f.state for f in outcome.findings if f.what == "cost" and f.method != "mgda"} == {"ok"}
    assert outcome.times == ("not compared" if hardware else "relative to equal weights")


@pytest.mark.parametrize(("factor", "state"), [(1.3, "regressed"), (1.1, "ok"), (0.7, "improved")])
def test_times_taken_in_turn_count_in_place_of_ratios(play, factor, state):
    baseline = make_baseline(*costly(play()), "a test")
    now = snapshot(*costly(play(), seconds=9.0))
    outcome = judge(baseline, now, slowdowns={("digits", "mgda"): factor, ("digits", "equal"): 1.0})
    found = {f.task_set: f for f in outcome.findings if f.what == "cost" and f.method == "mgda"}
    assert found["digits"].state == state and found["digits"].note.endswith(f"time × {factor:.2f}")
    assert found["scales"].state == "ok" and "time" not in found["scales"].note
    assert outcome.times == "in turn"


def test_what_a_step_allocates_being_unknown_is_no_pass(play):
    """A plug-in may make the measurement fail; that it was not compared must not look like nothing found."""
    records, measured = costly(play())
    outcome = judged_costs(records, measured, records, [])
    lost = {(f.task_set, f.note) for f in outcome.having("missing")}
    assert lost == {(name, "allocation not measured") for name in SETS}


def test_what_is_not_measured_hides_no_regression(play):
    records, measured = costly(play())
    worse, _ = costly(play(), forward=2.0)
    outcome = judged_costs(records, measured, worse, [])
    notes = {f.note for f in outcome.having("regressed")}
    assert notes == {"forward passes 1 → 2; allocation not measured"}


def test_a_score_that_is_not_finite_is_no_zero(play):
    """Of an error, 0 would be the best there is."""
    records = play()
    place = next(i for i, r in enumerate(records) if (r.spec.method, r.spec.seed) == ("mgda", 3))
    scores = {
        k: {m: s.model_copy(update={"value": None}) for m, s in v.items()}
        for k, v in records[place].result.scores.items()
    }
    broken = records[place].model_copy(update={"result": records[place].result.model_copy(update={"scores": scores})})
    assert states(judged(play(), [*records[:place], broken, *records[place + 1 :]]))["mgda"] == "regressed"


def test_single_task_learning_has_a_cost_too(play):
    records, measured = costly(play())
    for record in measured:
        facts = {"method": STL, "step_seconds": 1.0, "allocated_bytes": 500, "peak_bytes": 1}
        record.costs.extend(StepCost(tasks=(task,), **facts) for task in ("one", "two"))
    stored = {cell.key: cell for cell in snapshot(records, measured).cells}
    assert stored["digits", STL].allocated_bytes == 1000
    assert stored["digits", "equal"].allocated_bytes == 1000


def judged_costs(before, measured_before, after, measured_after):
    return judge(make_baseline(before, measured_before, "a test"), snapshot(after, measured_after))


# Choices -----------------------------------------------------------------------------------------------------

OWN = Protocol(name="quick", steps=100, batch_size=8, lr=0.1, steps_per_epoch=10)


def at(records, factors):
    """The records as if they had been trained at these multiples of the protocol's rate, by method."""
    found = []
    for record in records:
        factor = factors.get(record.spec.method, 1)
        spec = record.spec.model_copy(update={"protocol": scaled(record.spec.protocol, factor)})
        found.append(
            record.model_copy(update={"spec": spec, "name": spec.name, "key": record.parts.key(spec.name)}),
        )
    return found


def choices(factors, budget=7):
    """What trials chose on each task set: these multiples of the rate, by method."""
    found = []
    for task_set in SETS:
        for method in (STL, *METHODS):
            for tasks in [("one",), ("two",)] if method == STL else [("one", "two")]:
                factor = factors.get(method, 1)
                found.append(
                    Choice(
                        **{"task_set": task_set, "task_set_label": task_set, "method": method, "method_label": method},
                        **{"variant": method, "tasks": tasks, "protocol": OWN, "protocol_label": "quick"},
                        **{"precision": "32-true", "budget": budget, "factor": factor, "gains": [0.0], "edge": False},
                        **{"by_seed": {1000: factor, 1001: factor}, "attempts": []},
                        **{"data": "d", "code": "c", "commit": ""},
                    )
                )
    return found


CHOSEN = {"mgda": 2, STL: 4}


def judged_at(before, after, factors):
    """Compare a board that was tuned to CHOSEN with one that was tuned to other factors."""
    baseline = make_baseline(at(before, CHOSEN), [], "a test", choices(CHOSEN))
    return judge(baseline, snapshot(at(after, factors), [], choices(factors)))


def test_a_tuned_board_is_compared_at_its_choices(play):
    assert set(states(judged_at(play(), play(), CHOSEN)).values()) == {"identical"}
    fallen = states(judged_at(play(), play(shift={"mgda": -5}, noise=1), CHOSEN))
    assert fallen.pop("mgda") == "regressed"
    assert set(fallen.values()) == {"ok"}


def test_a_method_whose_choice_would_change_is_told_and_not_compared(play):
    outcome = judged_at(play(), play(shift={"mgda": -50}), {**CHOSEN, "mgda": 0.5})
    found = {(f.task_set, f.state, f.note) for f in outcome.findings if f.method == "mgda"}
    assert found == {(name, "rechosen", "its choice would change: learning rate ×2 → ×0.5") for name in SETS}
    assert {f.state for f in outcome.findings if f.method != "mgda" and f.what == "quality"} == {"identical"}
    text = markdown(outcome).decode()
    assert text.startswith("## No regression; the choice of mgda would change\n")
    assert "| ↻ rechosen | digits | mgda | " in text
    assert len(ElementTree.fromstring(junit(outcome)).findall("testcase/skipped")) == 3
    assert not outcome.having("regressed", "suspect", "missing")


def test_single_task_learning_names_the_rate_of_each_task(play):
    outcome = judged_at(play(), play(), {**CHOSEN, STL: 1})
    assert {f.note for f in outcome.having("rechosen")} == {"its choice would change: learning rate ×4, ×4 → ×1, ×1"}


def test_where_every_choice_would_change_that_is_what_is_said(play):
    everyone = dict.fromkeys((STL, *METHODS), 8)
    outcome = judged_at(play(), play(), everyone)
    assert {f.state for f in outcome.findings} == {"rechosen"}
    assert markdown(outcome).startswith(b"## No regression; the choice of equal, mgda, stl, uncertainty would change")


def test_options_that_were_chosen_count_and_so_do_choices_of_runs_that_are_read():
    def cell(*chosen, name="a"):
        return Cell(
            **{"task_set": "toy", "method": "kd", "asked": {}, "metrics": ()},
            **{"seeds": {0: SeedValues(names=(name,), ok=True)}, "chosen": chosen},
        )

    def said(before, after):
        with_runs = [Snapshot(cells=(cell(*own, name=name),)) for own, name in ((before, "a"), (after, "b"))]
        [finding] = judge(*with_runs).findings
        assert finding.state == "rechosen"
        return finding.note

    own = Chosen(method="kd", tasks=("one",), factor=2)
    read = Chosen(method=STL, tasks=("one",), factor=2)
    other = own.model_copy(update={"options": {"weights": "1:2"}})
    assert said([own], [other]) == "its choice would change: the same learning rate, other options"
    assert said([own, read], [own, read.model_copy(update={"factor": 4})]) == (
        "its choice is the same, and that of a run that it reads would change"
    )
    assert said([own], []) == "its choice would change: the protocol's own rate now"
    assert said([], [own]) == "its choice would change: the protocol's own rate before"


def test_a_baseline_without_choices_is_compared_with_the_runs_at_the_protocols_own_rate(play, tmp_path, capsys):
    write_baseline(make_baseline(play(), [], "before tuning"), tmp_path / "baseline.json")
    store = Store(tmp_path / "now")
    for record in [*play(), *at(play(shift={"mgda": -50}), CHOSEN)]:
        store.put(record, None)
    for choice in choices(CHOSEN):
        store.put_choice(choice)
    assert compared(store.folder, tmp_path / "baseline.json") == 0
    assert "## Every result is the same" in capsys.readouterr().out
    write_baseline(
        make_baseline(at(play(), CHOSEN), [], "tuned", choices(CHOSEN)),
        tmp_path / "tuned.json",
    )
    assert compared(store.folder, tmp_path / "tuned.json") == 1
    assert "1 of 4 methods regressed" in capsys.readouterr().out


def compared(folder, baseline):
    """The exit code of `compare`."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["compare", str(folder), "--baseline", str(baseline)])
    return caught.value.code


def test_what_was_chosen_is_read_back(play, tmp_path):
    made = make_baseline(at(play(), CHOSEN), [], "tuned", choices(CHOSEN))
    write_baseline(made, tmp_path / "baseline.json")
    assert read_baseline(tmp_path / "baseline.json") == made
    assert made.tuned
    found = {(cell.method, tuple((chosen.tasks, chosen.factor) for chosen in cell.chosen)) for cell in made.cells}
    assert found == {
        *((method, ((("one", "two"), CHOSEN.get(method, 1)),)) for method in METHODS),
        (STL, ((("one",), 4), (("two",), 4))),
    }


@pytest.mark.parametrize("file", sorted(RESULTS.glob("baseline*.json")), ids=lambda file: file.stem)
def test_the_stored_baselines_are_read_and_say_whether_they_were_tuned(file):
    assert read_baseline(file).cells
    assert read_baseline(file).tuned == ("factor" in file.read_text("utf-8"))


def test_trials_are_in_no_baseline(play):
    def trial(record):
        spec = record.spec.model_copy(update={"seed": 1000})
        provenance = record.provenance.model_copy(update={"role": "trial", "seeds": (1000, 1001)})
        changed = {"spec": spec, "name": spec.name, "key": record.parts.key(spec.name), "provenance": provenance}
        return record.model_copy(update=changed)

    trials = [trial(record) for record in play(seeds=1)]
    for chosen in ([], choices({})):
        with_trials = make_baseline([*play(), *trials], [], "a test", chosen)
        assert with_trials.cells == make_baseline(play(), [], "a test", chosen).cells


@pytest.mark.parametrize(("budget", "more"), [(7, "--no-untuned"), (20, "--tuning 20 --no-untuned")])
def test_the_commands_of_a_tuned_board_make_its_runs(play, budget, more):
    found = snapshot(at(play(), CHOSEN), [], choices(CHOSEN, budget))
    [line] = commands(found.cells)
    assert line == f"python -m bench run --methods mgda,uncertainty --tasks digits,scales,scenes --seeds 8 {more}"


# The file ----------------------------------------------------------------------------------------------------


def test_a_baseline_reads_back_as_it_was(play, tmp_path):
    baseline = make_baseline(*costly(play()), "the first")
    write_baseline(baseline, tmp_path / "baseline.json")
    assert read_baseline(tmp_path / "baseline.json") == baseline
    assert [cell.key for cell in baseline.cells] == sorted(cell.key for cell in baseline.cells)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda records: [], "there are no records"),
        (lambda records: [r for r in records if (r.spec.method, r.spec.seed) != ("mgda", 3)], "lacks seed 3"),
    ],
)
def test_a_baseline_is_not_made_of_a_partial_run(play, change, said):
    asked = [
        r.model_copy(update={"provenance": r.provenance.model_copy(update={"seeds": tuple(range(8))})}) for r in play()
    ]
    with pytest.raises(NothingToCompareError, match=said):
        make_baseline(change(asked), [], "a test")


def test_a_variant_that_does_not_fit_a_task_set_is_no_failure(play):
    skipped = [
        r.model_copy(update={"result": r.result.model_copy(update={"status": "skipped"})})
        if (r.spec.task_set, r.spec.method) == ("digits", "mgda")
        else r
        for r in play()
    ]
    baseline = make_baseline(skipped, [], "a test")
    assert ("digits", "mgda") not in {cell.key for cell in baseline.cells}
    assert len(baseline.cells) == 11


def test_a_baseline_is_not_made_of_a_failed_run(play):
    with pytest.raises(NothingToCompareError, match="a run of mgda on digits failed"):
        make_baseline(play(failed=[("mgda", 3)]), [], "a test")


@pytest.mark.parametrize("content", [None, "", "{", "{}", '{"schema_version": 9}'])
def test_what_is_no_baseline_is_said(tmp_path, content):
    if content is not None:
        (tmp_path / "baseline.json").write_text(content)
    with pytest.raises(NothingToCompareError, match=r"baseline.json (cannot be read|is not a baseline)"):
        read_baseline(tmp_path / "baseline.json")


def edited(play, tmp_path, change):
    """A whole baseline, changed as JSON, in a file."""
    file = tmp_path / "baseline.json"
    write_baseline(make_baseline(play(), [], "a test"), file)
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return file


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b["cells"][1]["seeds"]["0"]["values"].pop(), "cells.1.seeds.0: 1 values, 2 metrics"),
        (lambda b: b["cells"][1]["seeds"]["0"]["values"].append(1), "cells.1.seeds.0: 3 values, 2 metrics"),
        (lambda b: b["cells"][1]["seeds"]["0"].update(ok=False), "cells.1.seeds.0: 2 values, 2 metrics, and it is not"),
        (lambda b: b["cells"][1]["metrics"].pop(), "cells.1.seeds.0: 2 values, 1 metrics"),
        (lambda b: b["cells"][1]["seeds"]["0"].update(values=[1e308, 1]), "cells.1.seeds.0: a value is beyond 1e+100"),
        (lambda b: b["cells"][1]["seeds"]["0"].update(values=[float("nan"), 1]), "cells.1.seeds.0.values.0: Input sh"),
        (lambda b: b["cells"].append(b["cells"][0]), "cells.12: it repeats the task set and method of cells.0"),
        (
            lambda b: b["cells"][2]["asked"].pop("tasks"),
            "cells.2.asked: it has methods, protocol, precision, and should",
        ),
        (lambda b: b["cells"][2]["passes"].pop("trunk"), "cells.2.passes: it has forward, heads, teacher, and should"),
        (lambda b: b["cells"][2].update(allocated_bytes=-1), "cells.2.allocated_bytes: Input should be greater"),
        (lambda b: b["cells"][2].update(step_ratio=0), "cells.2.step_ratio: Input should be greater"),
    ],
)
def test_a_baseline_that_contradicts_itself_is_refused_with_the_place(play, tmp_path, change, said):
    with pytest.raises(NothingToCompareError, match=re.escape(f"baseline.json is not a baseline ({said}")):
        read_baseline(edited(play, tmp_path, change))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_baseline_changed_anywhere_is_refused_or_compared(play, tmp_path, data):
    """One or two of its parts are removed, emptied, or something else."""

    def change(document):
        for _ in range(data.draw(st.integers(1, 2))):
            part, where = document, None
            while isinstance(part, dict | list) and part and (where is None or data.draw(st.integers(0, 5))):
                holder, where = (
                    part,
                    data.draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part)))),
                )
                part = holder[where]
            if where is None or data.draw(st.booleans()):
                holder[where] = data.draw(st.sampled_from(
                    [None, 0, -1, 1, 1e-300, 1e99, 1e308, float("inf"), "", "x", "\x1b[31m", True, False, [], {}, 2**70]
                ))  # fmt: skip
            else:
                del holder[where]

    file = edited(play, tmp_path, change)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            outcome = judge(read_baseline(file), snapshot(play(noise=1)))
        except NothingToCompareError:
            return
        ElementTree.fromstring(junit(outcome))
        json.loads(as_json(outcome))
        assert "\x1b" not in markdown(outcome).decode()


def test_over_a_stored_mean_of_zero_a_metric_is_left_out_and_the_rest_is_compared(runs):
    def make(shift=0.0, zero=0.0):
        draw = np.random.default_rng(0)
        rows = {seed: [0.8 + 0.01 * draw.normal() - shift, zero] for seed in range(8)}
        return [*runs(STL, rows, METRICS), *runs("equal", rows, METRICS)]

    outcome = judged(make(), make(shift=0.1, zero=0.5))
    assert states(outcome) == {STL: "regressed", "equal": "regressed"}
    assert all("1 of its 2 metrics left out: a stored mean is 0" in f.note for f in outcome.findings[:2])


def test_where_every_stored_mean_is_zero_nothing_is_compared(runs):
    def make(value):
        rows = {seed: [value, value] for seed in range(8)}
        return [*runs(STL, rows, METRICS), *runs("equal", rows, METRICS)]

    with pytest.raises(NothingToCompareError):
        judged(make(0.0), make(0.5))


def test_runs_of_a_time_when_the_task_set_had_fewer_metrics_are_not_stored(runs):
    """A metric was added; single-task runs were all made again, one run of `equal` was not."""
    rows = {seed: [0.8 + seed / 100, 0.3 + seed / 90] for seed in range(6)}
    made = [*runs(STL, rows, METRICS), *runs("equal", rows, METRICS)]
    old = next(r for r in made if (r.spec.method, r.spec.seed) == ("equal", 3))
    less = old.model_copy(
        update={"result": old.result.model_copy(update={"scores": {"one": old.result.scores["one"]}})}
    )
    found = snapshot([less if r is old else r for r in made])
    assert {cell.method: sorted(cell.seeds) for cell in found.cells} == {STL: [*range(6)], "equal": [0, 1, 2, 4, 5]}


@pytest.mark.parametrize("lacking", [range(8), range(4)], ids=["all its runs", "those of the baseline's seeds"])
def test_of_runs_that_lack_a_metric_it_is_not_said_that_they_were_not_made(play, lacking):
    def less(record):
        if record.spec.method != "mgda" or record.spec.seed not in lacking:
            return record
        [task, *_] = record.result.scores
        scores = {task: record.result.scores[task]}
        return record.model_copy(update={"result": record.result.model_copy(update={"scores": scores})})

    outcome = judged([r for r in play() if r.spec.seed < 4], [less(r) for r in play()])
    notes = {f.note for f in outcome.findings if f.method == "mgda" and f.task_set and f.what == "quality"}
    assert {f.state for f in outcome.findings if f.method == "mgda"} == {"missing"}
    assert len(notes) == 1
    assert notes.pop().startswith("there is no run of it here that has every metric")


# Summaries ---------------------------------------------------------------------------------------------------


def test_junit_and_json_say_the_same(play):
    outcome = judged(play(), [r for r in play(noise=1, shift={"mgda": -5}) if r.spec.method != "uncertainty"])
    suite = ElementTree.fromstring(junit(outcome))
    cases = list(suite)
    assert int(suite.get("tests")) == len(cases) == len(outcome.findings)
    failures = [case for case in cases if case.find("failure") is not None]
    assert int(suite.get("failures")) == len(failures) == len(outcome.having("regressed")) > 0
    assert int(suite.get("errors")) == len(outcome.having("missing")) == 3
    content = json.loads(as_json(outcome))
    assert [f["state"] for f in content["findings"]] == [f.state for f in outcome.findings]
    assert content["detectable"] == pytest.approx(outcome.detectable)


def test_the_summary_says_what_could_have_been_seen(play):
    text = markdown(judged(play(), play(noise=1))).decode()
    assert re.search(r"A fall of [\d.]+ points or more would have been found with a power of 80 %", text)
    assert text.startswith("## No regression\n")


def test_what_has_changed_is_told_where_the_rest_is_the_same(play):
    text = markdown(judged(play(), play(shift={"mgda": -0.5}))).decode()
    assert text.startswith("## No regression; results of mgda have changed\n")
    open_part, folded = text.split("<details>")
    assert "| · ok | all | mgda | −0.50" in open_part and "mgda | −0.50" not in folded
    assert markdown(judged(play(), play(noise=1, spread=0.001))).decode().startswith("## No regression\n")


def test_the_commands_it_names_make_those_runs(play):
    records = play(shift={"mgda": -9}, precision="bf16-mixed")
    text = markdown(judged(play(precision="bf16-mixed"), records)).decode()
    [line] = [line for line in text.splitlines() if line.startswith("python -m bench run")]
    given = dict(zip(*[iter(shlex.split(line)[4:])] * 2, strict=True))
    assert given == {
        **{"--methods": "mgda", "--tasks": "digits,scales,scenes"},
        **{"--seeds": "8", "--precision": "bf16-mixed", "--tuning": "none"},
    }


@pytest.mark.parametrize(
    ("seeds", "written"),
    [
        ([0, 1, 2], "3"),
        ([0], "1"),
        ([5], "5-5"),
        (range(100, 108), "100-107"),
        ([7, 3, 5, 6], "3,5-7"),
        ([0, 2], "0,2"),
        ([3, 3, 9], "3,9"),
    ],
)
def test_seeds_are_written_as_a_person_would_and_read_back(seeds, written):
    assert write_seeds(seeds) == written
    assert parse_seeds(written) == sorted(set(seeds))


def test_what_a_printed_command_leaves_out_is_the_default():
    parameters = inspect.signature(bench.run).parameters
    assert {name: parameters[name].default for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (["a"], ["b"], "Commit a → b."),
        (["a"], ["a", "b"], "Commit a → b; runs that the change cannot have touched were reused."),
        (["a"], ["a"], "Commit a made all runs, those of the baseline and these."),
        (["0123456789+changes"], ["0123456789+changes"], f"Commit {' → '.join(['0123456789 with changes'] * 2)}."),
        ([""], [""], "Commit unknown → unknown."),
    ],
)
def test_the_summary_says_whose_runs_were_reused(play, before, now, said):
    def made(commits):
        records = play()
        own = [commits[place % len(commits)] for place in range(len(records))]
        return [
            r.model_copy(update={"provenance": r.provenance.model_copy(update={"commit": commit})})
            for r, commit in zip(records, own, strict=True)
        ]

    assert said in markdown(judged(made(before), made(now))).decode().replace("\\", "")


def test_hostile_names_stay_in_their_cells(play):
    name = "a|b\n<b>\x1b[31m"
    records = [r.model_copy(update={"method_label": name}) if r.spec.method == "mgda" else r for r in play()]
    lines = markdown(judged(records, records)).decode().splitlines()
    lost = markdown(judged(records, [r for r in records if r.spec.method != "mgda"])).decode()
    assert [line for line in lost.splitlines() if line.startswith("python -m bench run --methods 'a|b <b> [31m'")]
    assert "\x1b" not in lost + "".join(lines)
    [row] = [line for line in lines if "a\\|b" in line and "all" in line]
    assert "<b>" not in row.replace("\\<b\\>", "")


# The command -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    def write(name, records):
        for record in records:
            Store(tmp_path / name).put(record, None)
        return str(tmp_path / name)

    return write


def call(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(list(map(str, arguments)))
    return caught.value.code or 0


def test_exit_codes(play, folder, tmp_path, capsys):
    stored = tmp_path / "baseline.json"
    first = folder("first", play(seeds=4))
    assert call("baseline", "update", first, "--baseline", stored) == 2  # without a reason
    assert call("baseline", "update", first, "--baseline", stored, "--reason", "the first") == 0
    assert f"python -m bench compare --baseline {stored}\n" in capsys.readouterr().out
    assert Baseline.model_validate_json(stored.read_bytes()).reason == "the first"
    compare = ("compare", "--baseline", stored)
    assert call(*compare, first) == 0
    worse = folder("worse", play(seeds=4, noise=1, shift={"mgda": -9}))
    files = {"--markdown": tmp_path / "s.md", "--junit": tmp_path / "s.xml", "--json": tmp_path / "s.json"}
    assert call(*compare, worse, *(word for pair in files.items() for word in pair)) == 1
    assert all(file.exists() for file in files.values())
    unsure = folder("unsure", play(seeds=4, noise=2, spread=0.06, shift={"mgda": -4}))
    assert (call(*compare, unsure), call(*compare, unsure, "--strict")) == (0, 4)
    partial = folder("partial", [r for r in play(seeds=4) if r.spec.method != "mgda"])
    assert call(*compare, partial) == 3
    capsys.readouterr()
    assert call(*compare, tmp_path / "empty") == 3
    assert "empty has no records: python -m bench run --out" in capsys.readouterr().err
    for wrong in ("-1", "nan"):
        assert call(*compare, first, "--tolerance", wrong) == 2
        assert f"--tolerance {wrong}: write points, 0 or more" in capsys.readouterr().err
    capsys.readouterr()
    assert call("compare", "--baseline", tmp_path / "none.json", first) == 3
    assert f"python -m bench baseline update --baseline {tmp_path / 'none.json'} --reason" in capsys.readouterr().err
    stored.write_text("{")
    capsys.readouterr()
    assert call(*compare, first) == 3
    assert re.fullmatch(r"error: \S*baseline.json is not a baseline \(JSON: .*\)\n", capsys.readouterr().err)
