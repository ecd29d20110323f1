"""A run that fails is that run's failure and nobody else's: the others go on, and the table is written."""

import re
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from bench import cli
from bench.catalogue import task_set
from bench.engine import runs
from bench.engine.choose import choose, describe
from bench.engine.local import gpus_of_places
from bench.spec import STL
from bench.store import Store
from methods.core.names import UsageError

FAILING = ["Inflating", "Raising", "Hungry"]


@pytest.fixture(scope="module")
def call(sets, rules):
    """Run a command line on the test's own task set, in this process; return exit code, records and table."""

    def run(out, *methods, options="", more=()):
        named = ",".join(f"{rules}:{name}" if name[0].isupper() else name for name in methods)
        line = ["run", "--methods", named, "--tasks", sets + options, "--seeds", "1", "--protocol", "epochs"]
        with pytest.raises(SystemExit) as caught:
            cli.main([*line, "--accelerator", "cpu", "--out", str(out), *more])
        found = {r.method_label.rpartition(":")[2]: r for r in Store(out).records().values()}
        board = pd.read_csv(out / "leaderboard.csv").set_index("method")
        return SimpleNamespace(code=caught.value.code, records=found, board=board, out=out)

    return run


@pytest.fixture(scope="module")
def troubled(call, tmp_path_factory):
    """Rules that fail in every way, beside one that does not."""
    return call(tmp_path_factory.mktemp("troubled"), *FAILING, "mgda")


@pytest.fixture(scope="module")
def quiet(call, tmp_path_factory):
    """The same without them."""
    return call(tmp_path_factory.mktemp("quiet"), "mgda")


def test_a_command_whose_runs_all_ended_well_exits_0(quiet):
    assert quiet.code == 0


def test_a_command_some_of_whose_runs_failed_exits_1(troubled):
    assert troubled.code == 1


def test_a_command_all_of_whose_runs_failed_exits_3(call, tmp_path):
    run = call(tmp_path, "equal", options="[poison=inputs]")
    assert run.code == 3
    assert {record.result.status for record in run.records.values()} == {"diverged"}


def test_each_failure_is_a_status_with_its_reason(troubled):
    found = {
        name: (
            troubled.records[name].result.status,
            troubled.records[name].result.reason,
        )
        for name in FAILING
    }
    assert found["Inflating"] == ("diverged", "the weight of task size is not finite at step 2")
    assert found["Raising"][0] == "crashed"
    assert found["Raising"][1].startswith("KeyError: ")
    assert "plugin_rules.py:" in found["Raising"][1]
    assert found["Hungry"] == ("out_of_memory", found["Hungry"][1])
    assert "cannot allocate 3 TB" in found["Hungry"][1]
    assert all("\n" not in reason for _, reason in found.values())


def test_the_others_are_as_if_nothing_had_happened(troubled, quiet):
    for name in (STL, "equal", "mgda"):
        assert troubled.records[name].result == quiet.records[name].result


def test_failures_are_in_the_table_with_their_reasons(troubled):
    for name in FAILING:
        line = troubled.board.loc[f"plugin_rules.py:{name}"]
        assert (line.failed, line.seeds) == (1, 0)
        assert pd.isna(line.delta_task)
        assert troubled.records[name].result.reason in line.note
    assert troubled.board.loc["mgda"].seeds == 1


def test_the_command_says_how_many_failed_and_why(call, tmp_path, capsys):
    call(tmp_path, "Raising")
    said = capsys.readouterr().err
    assert "1 of 4 runs: crashed" in said
    assert "KeyError" in said
    assert "Traceback" not in said


def test_a_crash_is_not_repeated_unless_asked_and_a_divergence_never(call, tmp_path, capsys):
    made = []
    for more in ([], [], ["--retry"]):
        assert call(tmp_path, "Raising", "Inflating", more=more).code == 1
        lines = capsys.readouterr().err.splitlines()
        made.append([line.split()[1] for line in lines if re.search(r"seed 0: \w+ \(", line)])
    rules = ["plugin_rules.py:Raising", "plugin_rules.py:Inflating"]
    assert [sorted(names) for names in made] == [sorted([STL, STL, "equal", *rules]), [], rules[:1]]


def test_a_rule_that_does_not_fit_the_network_is_skipped_and_the_command_exits_0(call, tmp_path):
    run = call(tmp_path, "mgda[at=features]", options="[features=false]")
    assert run.code == 0
    assert run.records["mgda[at=features]"].result.status == "skipped"
    assert "needs the features" in run.board.loc["mgda[at=features]"].note


def test_a_rule_that_fits_one_set_is_skipped_on_the_other(rules, sets, tmp_path):
    request = ["--methods", f"{rules}:Pair", "--tasks", "scales[tasks=3],scales[tasks=2]", "--seeds", "1"]
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", *request, "--protocol", "smoke", "--out", str(tmp_path)])
    board = pd.read_csv(tmp_path / "leaderboard.csv")
    mine = board[board.method == "plugin_rules.py:Pair"].set_index("task_set")
    assert caught.value.code == 0
    assert mine.loc["scales[tasks=3]@smoke"].note == "skipped: Pair balances 2 tasks, not 3"
    assert mine.loc["scales[tasks=2]@smoke"].seeds == 1


def test_baselines_that_diverge_leave_their_methods_in_the_table_without_gain(call, tmp_path):
    run = call(tmp_path, "mgda", options="[poison=test]")
    assert run.code == 1
    assert run.board.loc[STL].failed == 1
    assert pd.isna(run.board.loc["equal"].delta_task)


def test_debug_raises_a_runs_failure(rules, sets, tmp_path):
    request = ["--methods", f"{rules}:Raising", "--tasks", sets, "--seeds", "1", "--protocol", "epochs"]
    with pytest.raises(KeyError, match="no such thing"):
        cli.main(["run", *request, "--out", str(tmp_path), "--debug"])


def test_every_baseline_leaves_weights_that_score_what_its_record_says(quiet, sets):
    store, toy = Store(quiet.out), task_set(next(iter(quiet.records.values())).spec.task_set)
    baselines = [record for record in store.records().values() if record.spec.method == STL]
    assert {record.spec.tasks for record in baselines} == {("size",), ("kind",)}
    test = toy.splits["test"]
    for record in baselines:
        [name] = record.spec.tasks
        network = toy.network(record.spec.tasks)
        network.load_state_dict(store.weights(record.name))
        with torch.no_grad():
            prediction = network.eval()(test).predictions[name]
        for metric, score in record.result.scores[name].items():
            accumulator = toy.task(name).metrics[metric].factory()
            accumulator.update(prediction, test[toy.task(name).target])
            assert float(accumulator.compute()) == pytest.approx(score.value, rel=1e-6)


def test_methods_leave_no_weights(quiet):
    assert len(list((quiet.out / "runs").glob("*.safetensors"))) == 2


def test_a_record_tells_where_and_with_what_it_was_made(quiet):
    told = quiet.records["mgda"].provenance
    assert {"python", "torch", "numpy", "lightning-fabric"} <= told.versions.keys()
    assert told.versions["torch"] == torch.__version__
    assert {"machine", "system", "processor", "cores"} <= told.hardware.keys()


def test_where_there_is_a_gpu_a_record_names_it_and_its_memory(monkeypatch):
    card = SimpleNamespace(name="A card", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    hardware = runs._environment.__wrapped__()["hardware"]
    assert hardware["gpu"] == "A card"
    assert hardware["gpu memory"] == "80 GiB"


@pytest.mark.parametrize(
    ("visible", "count", "device", "workers", "places"),
    [
        (None, 2, "cuda", "auto", ["0", "1"]),
        (None, 1, "cuda", 2, ["0", "0"]),  # more workers than GPUs share them
        (None, 2, "cuda", 3, ["0", "1", "0"]),
        ("3,5", 2, "cuda", "auto", ["3", "5"]),  # what this process may use is named as it was told
        ("GPU-1f, GPU-2a", 2, "cuda", 2, ["GPU-1f", "GPU-2a"]),
        (None, 5, "cuda×2", "auto", ["0,1", "2,3"]),
        (None, 4, "cpu", 2, []),
    ],
)
def test_every_worker_gets_gpus_that_it_may_use(monkeypatch, visible, count, device, workers, places):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    run = SimpleNamespace(
        parts=SimpleNamespace(device=device), spec=SimpleNamespace(protocol=SimpleNamespace(threads=1))
    )
    assert gpus_of_places([run] * 9, workers) == (places or [""] * workers)


def test_there_are_no_more_places_than_runs():
    run = SimpleNamespace(
        parts=SimpleNamespace(device="cpu"), spec=SimpleNamespace(protocol=SimpleNamespace(threads=1))
    )
    assert gpus_of_places([run] * 2, 5) == ["", ""]


# --- engines by name ---


@pytest.mark.parametrize(
    ("text", "given", "values"),
    [
        ("local", {}, {"workers": "auto", "timeout": 3600.0}),
        ("local[workers=4,timeout=600]", {}, {"workers": 4, "timeout": 600.0}),
        ("local", {"workers": "4", "timeout": 600}, {"workers": 4, "timeout": 600.0}),
        ("local[workers=4]", {"timeout": 600.0, "workers": None}, {"workers": 4, "timeout": 600.0}),
        ("local[workers=4]", {"workers": 4}, {"workers": 4, "timeout": 3600.0}),  # said twice, and the same
        ("local[workers=auto]", {"workers": "auto"}, {"workers": "auto", "timeout": 3600.0}),
        ("inline", {"workers": None}, {}),
    ],
)
def test_an_engine_is_named_with_its_options_which_also_stand_on_their_own(text, given, values):
    assert choose(text, **given).values == values


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("locl", {}, "--engine 'locl' is not offered: did you mean 'local'?"),
        ("local[worker=1]", {}, "engine local has no option 'worker': did you mean 'workers'?"),
        ("inline[workers=1]", {}, "engine inline has no option 'workers': inline takes none"),
        ("local[workers=0]", {}, "local[workers=0]: write auto, or how many"),
        ("local[timeout=soon]", {}, "local[timeout=soon]: write seconds above 0"),
        ("local[", {}, "'local[': a bracket is not closed; options are written local[key=value,…]"),
        ("local", {"workers": "some"}, "--workers some: write auto, or how many"),
        ("local", {"timeout": float("nan")}, "--timeout nan: write seconds above 0"),
        ("inline", {"workers": "2"}, "--workers 2: the engine inline has no such option; leave it out"),
        (
            "local[workers=4]",
            {"workers": "auto"},
            "--engine 'local[workers=4]' and --workers auto contradict each other: give one of them",
        ),
    ],
)
def test_a_wrong_engine_is_one_line_that_says_what_would_be_right(text, given, said):
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        choose(text, **given)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--engine", "local[worker=1]"], "error: engine local has no option 'worker': did you mean 'workers'?\n"),
        (["--engine", "locla"], "error: --engine 'locla' is not offered: did you mean 'local'?\n"),
        (
            ["--engine", "local[timeout=5]", "--timeout", "6"],
            "error: --engine 'local[timeout=5]' and --timeout 6.0 contradict each other: give one of them\n",
        ),
        (["--engine", "inline", "--timeout", "6"],
         "error: --timeout 6.0: the engine inline has no such option; leave it out\n"),
    ],
)  # fmt: skip
def test_a_wrong_engine_is_refused_without_torch(command, without_torch, tmp_path, line, said):
    done = command("run", *line, cwd=tmp_path, env=without_torch)
    assert (done.returncode, done.stderr) == (2, said)
    assert not any(tmp_path.iterdir())


def test_every_engine_says_what_it_does_and_takes():
    found = describe()
    assert found.keys() == {"local", "dask", "inline"}
    assert all(description.summary.endswith(".") for description in found.values())
    assert {name: option.write(option.default) for name, option in found["local"].options.items()} == {
        "workers": "auto",
        "timeout": "3600",
    }
