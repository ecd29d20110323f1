"""The command line as a user meets it: in fresh processes."""

import csv
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import bench
from bench import cli
from bench.report.pages.write import FILES
from bench.report.scores import from_records, tidy
from bench.spec import STL
from bench.store import Store
from tasks.scales import Scales

PROJECT = Path(bench.__file__).parent.parent
REQUEST = ["--methods", "uncertainty,mgda", "--tasks", "digits,scales", "--seeds", "1", "--protocol", "smoke"]
"""What the fixture `smoke` has run."""


def contents(folder, *names):
    return {name: (folder / name).read_bytes() for name in names or FILES}


@pytest.fixture(scope="module")
def place(tmp_path_factory, made):
    """A folder with everything that is wrong in it."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "file").write_text("")
    (folder / "newer" / "runs").mkdir(parents=True)
    (folder / "newer" / "runs" / "some.json").write_text('{"schema_version": 99}')
    (folder / "broken.py").write_text("class Broken(\n")
    (folder / "wrong.toml").write_text('methodz = "equal"\n')
    return folder


WRONG = [
    ("run --methods mdga", "unknown method 'mdga': did you mean 'mgda'?"),
    ("run --methods mgda[normalise=l2]", "mgda has no option 'normalise': did you mean 'normalize'?"),
    ("run --tasks scale", "unknown task set 'scale': did you mean 'scales'?"),
    ("run --protocol quik", "has no protocol 'quik': did you mean 'quick'?"),
    ("run --seeds 0", "seeds '0': write how many (8), a range (100-107) or a list (3,5)"),
    ("plan --seeds abc", "seeds 'abc': write how many (8), a range (100-107) or a list (3,5)"),
    ("run --out file", "file is a file: name a folder"),
    (
        "run --out newer",
        "newer/runs/some.json has schema 99, and this mtl-bench knows those up to 2: install the newer",
    ),
    ("report newer", "newer/runs/some.json has schema 99"),
    ("verify --share 2", "--share 2: write a number above 0, and at most 1 for all runs"),
    ("run --checkpoint-every -1", "--checkpoint-every -1: write a number of steps, or 0 for never"),
    ("run --checkpoint-every 5 --devices 2", "--checkpoint-every works on one device"),
    ("report nowhere.csv", "error: there is no file nowhere.csv"),
    ("report empty", "empty has no records: python -m bench run --out empty makes them"),
    ("runn", "No such command 'runn'. Did you mean 'run'?"),
    ("list nonsense", "list 'nonsense': there is methods, tasks, runs"),
    ("run --methods gradients", "unknown method 'gradients': did you mean 'gradient'?"),
    ("run --config wrong.toml", "wrong.toml: there is no option 'methodz': did you mean 'methods'?"),
    ("plan --config nowhere.toml", "--config nowhere.toml: there is no such file"),
]
ALSO_WRONG = [
    ("run --methods mgda[normalize=l3]", "mgda[normalize=l3]: it takes none or l2 or loss or loss+"),
    ("run --methods mgda[at=features", "a bracket is not closed"),
    ("run --methods nowhere.py:Rule", "method 'nowhere.py:Rule': there is no file nowhere.py"),
    ("run --methods broken.py:Broken", "broken.py is not Python"),
    ("run --methods '\"a,b/nowhere.py\":Rule'", "method 'a,b/nowhere.py:Rule': there is no file a,b/nowhere.py"),
    ("run --methods '\"a,b'", "a quote is not closed"),
    ("plan --methods 'a\"b.py:X'", 'error: a"b.py:X: a quote is not closed; a quote itself is written'),
    ("run --protocol quick[lr=fast]", "quick[lr=fast]: it takes a value of type float"),
    ("run --protocol quick[rate=1]", "protocol quick has no field 'rate': there is steps"),
    ("list methods mdga", "unknown method 'mdga': did you mean 'mgda'?"),
    ("run --tasks scales[ratio=high]", "scales[ratio=high]: it takes a value of type float"),
    ("run --tasks scales[tasks=1]", "error: tasks=1: scales needs at least 2"),
    ("run --devices two", "Invalid value for '--devices'"),
    ("run --devices 0", "--devices 0: a run needs at least one"),
    ("run --accelerator gpu", "--accelerator 'gpu' is not offered"),
    ("run --nope", "No such option: --nope"),
    ("report --margin 0", "--margin 0: write points above 0"),
    ("report --correction holmes", "--correction 'holmes' is not offered: did you mean 'holm'?"),
    ("run more", "unexpected extra argument"),
]


def assert_one_line(code, out, err, said):
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize(("line", "said"), WRONG, ids=[line for line, _ in WRONG])
def test_what_is_wrong_is_one_line_that_says_what_would_be_right_without_torch(
    command, without_torch, place, line, said
):
    done = command(*line.split(), cwd=place, env=without_torch)
    assert_one_line(done.returncode, done.stdout, done.stderr, said)
    assert not (place / "results").exists()


@pytest.mark.parametrize(("line", "said"), ALSO_WRONG, ids=[line for line, _ in ALSO_WRONG])
def test_what_else_is_wrong_is_one_line_that_says_what_would_be_right(place, monkeypatch, capsys, line, said):
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as caught:
        cli.main(shlex.split(line))
    assert_one_line(caught.value.code, *capsys.readouterr(), said)


def test_what_is_no_record_is_set_aside_and_the_rest_is_used(command, tmp_path, made):
    record = made(scores={("left", "accuracy", True): 0.5})
    Store(tmp_path).put(record, None)
    for name in ("one", "two"):
        (tmp_path / "runs" / f"{name}.json").write_text('{"name": ')
    done = command("report", tmp_path, cwd=tmp_path)
    assert done.returncode == 0
    for name, line in zip(("one", "two"), done.stderr.splitlines(), strict=True):
        assert line.startswith(f"warning: {tmp_path}/runs/{name}.json is not a run's record (JSON: ")
        assert line.endswith(f": set aside as {tmp_path}/set-aside/{name}.json")
    assert command("report", tmp_path, cwd=tmp_path).stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no files, not even from root")
def test_a_folder_that_takes_no_files_is_said_before_anything_is_trained(command, tmp_path):
    done = command("run", "--out", "/proc/results", "--tasks", "scales", "--protocol", "smoke", cwd=tmp_path)
    assert_one_line(done.returncode, done.stdout, done.stderr, "/proc/results/runs/probe cannot be written: ")


@pytest.fixture
def tidy_file(tmp_path, runs):
    """Somebody's own results: a method clearly better than equal weights, and one that nobody can tell from it."""
    metrics = [("one", "accuracy", True), ("two", "error", False)]
    jitter = [0.3, -0.2, 0.1, -0.4, 0.25, -0.05, 0.15, -0.1]
    rows = {
        "stl": [[90 + j, 10 - j] for j in jitter],
        "equal": [[80 + j, 12 + 2 * j] for j in jitter],
        "mine": [[85 + j, 11 - j] for j in jitter],
        "odd": [[80 + 9 * j, 12 - 7 * j] for j in jitter],
    }
    records = [r for method, values in rows.items() for r in runs(method, dict(enumerate(values)), metrics)]
    file = tmp_path / "my runs.csv"
    tidy(from_records(records)).drop(columns=["split", "status", "untrained"]).to_csv(file, index=False)
    return file


ODD = "a\x1b[31mred\x9b2J\u202eabc"


def assert_harmless(text):
    """No control character but line feeds, and nothing that turns text around."""
    assert not {c for c in text if not c.isprintable()} - {"\n"}


@pytest.mark.parametrize("line", ["report mine.csv --no-figures", "power mine.csv", "power mine.csv --pairs"])
def test_names_of_a_file_cannot_command_the_terminal(tidy_file, monkeypatch, capsys, line):
    monkeypatch.chdir(tidy_file.parent)
    Path("mine.csv").write_text(tidy_file.read_text().replace("odd", ODD))
    with pytest.raises(SystemExit) as caught:
        cli.main(line.split())
    assert not caught.value.code
    shown = capsys.readouterr()
    assert_harmless(shown.out + shown.err)
    assert "[31mred 2J abc" in shown.out


def test_what_a_run_says_cannot_command_the_terminal(tmp_path, made, monkeypatch, capsys):
    record = made(ODD, reason=ODD, set_label=ODD, label=ODD).model_copy(update={"log": (f"\tlog {ODD}",)})
    Store(tmp_path).put(record, None)
    monkeypatch.chdir(tmp_path)
    out = ["--out", str(tmp_path)]
    for line in (["list", "runs", *out], ["show", record.name, *out], ["show", ODD, *out], ["report", f"{ODD}.csv"]):
        with pytest.raises(SystemExit):
            cli.main(line)
        shown = capsys.readouterr()
        assert "red" in shown.out + shown.err
        assert_harmless(shown.out + shown.err)


def test_a_long_name_pushes_no_number_off_the_terminal(tidy_file, monkeypatch, capsys):
    monkeypatch.chdir(tidy_file.parent)
    Path("mine.csv").write_text(tidy_file.read_text().replace("odd", "x" * 300))
    with pytest.raises(SystemExit):
        cli.main(["report", "mine.csv", "--no-figures"])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("x" * 40 + "  ") and "undecided" in line for line in lines)


def test_power_leaves_empty_what_one_seed_cannot_tell(tidy_file, monkeypatch, capsys):
    monkeypatch.chdir(tidy_file.parent)
    lines = tidy_file.read_text().splitlines()
    Path("mine.csv").write_text("\n".join(line for line in lines if line.split(",")[2] in ("seed", "0")) + "\n")
    with pytest.raises(SystemExit):
        cli.main(["power", "mine.csv"])
    assert "nan" not in capsys.readouterr().out


def test_power_prints_a_command_with_as_many_seeds_as_are_needed_and_none_that_is_here(tmp_path, runs, capsys):
    jitter = [0.3, -0.2, 0.1, -0.4, 0.25, -0.05, 0.15, -0.1]
    values = {STL: [90 + j for j in jitter], "equal": [80 - j for j in jitter], "odd": [80 + 9 * j for j in jitter]}
    for method, own in values.items():
        for record in runs(
            method, {100 + seed: [value] for seed, value in enumerate(own)}, [("one", "accuracy", True)]
        ):
            Store(tmp_path).put(record, None)
    lines = shown(capsys, "power", tmp_path).splitlines()
    needed = int(lines[1].split()[6])
    assert f": python -m bench run --seeds 200-{199 + needed} --out results/confirm." in lines[3]


def test_report_works_on_anybodys_tidy_file(tidy_file, monkeypatch, capsys):
    monkeypatch.chdir(tidy_file.parent)
    with pytest.raises(SystemExit) as caught:
        cli.main(["report", "my runs.csv", "--no-figures"])
    assert not caught.value.code
    assert "better" in capsys.readouterr().out
    board = pd.read_csv(tidy_file.parent / "my runs-report" / "leaderboard.csv").set_index("method")
    assert board.vs_equal_verdict[["mine", "odd"]].tolist() == ["better", "undecided"]
    assert b"better" in (tidy_file.parent / "my runs-report" / "leaderboard.html").read_bytes()
    assert len(list(csv.reader(tidy_file.open()))) == 65  # and is left as it was


def test_power_says_what_would_settle_what_is_undecided(tidy_file, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        cli.main(["power", str(tidy_file), "--target", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:2]] == [["toy", "odd", "equal"]]
    assert "a difference of 2 points with a power of 80 %" in lines[2]
    assert lines[3].endswith("those that are here have been looked at.")  # of no folder, no command makes more runs
    with pytest.raises(SystemExit):
        cli.main(["power", str(tidy_file), "--target", "-1"])
    assert capsys.readouterr().err == "error: Invalid value: --target -1: write points above 0\n"


def test_no_command_at_all_shows_the_help(capsys):
    with pytest.raises(SystemExit):
        cli.main([])
    said = "".join(capsys.readouterr())
    assert said.startswith("Usage: ")
    assert said.count("\n") > 5


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--help", ["run", "plan", "report", "list"]),
        ("list methods", ["equal", "mgda", "normalize=none", "uncertainty", "lr=0.025"]),
        ("list tasks", ["digits", "scales", "ratio=100"]),
    ],
)
def test_help_and_lists_answer_without_torch(command, without_torch, tmp_path, line, expected):
    done = command(*line.split(), cwd=tmp_path, env=without_torch)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(word in done.stdout for word in expected)


@pytest.fixture
def installed(tmp_path, environment):
    """An environment in which another distribution adds a good rule, one that raises, and one that is not there."""
    info = tmp_path / "path" / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = "bad = their_bad:Rule\ngood = their_good:Rule\nlost = nowhere_at_all:Rule\n"
    (info / "entry_points.txt").write_text(f"[mtl_bench.methods]\n{points}")
    (info.parent / "their_bad.py").write_text("open('ran', 'w')\nraise RuntimeError('it was imported')\n")
    (info.parent / "their_good.py").write_text('from methods.mgda import MGDA\nclass Rule(MGDA):\n    """Theirs."""\n')
    return environment(info.parent)


def test_what_another_distribution_adds_is_listed_unimported_and_shown_when_named(command, installed, tmp_path):
    done = command("list", "methods", cwd=tmp_path, env=installed)
    assert done.returncode == 0
    assert done.stderr == "warning: the method 'lost' of theirs is left out: there is no nowhere_at_all:Rule\n"
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    for name in ("good", "bad"):
        assert f"from theirs: list methods {name} says more" in rows[name]
    assert "mgda" in rows
    assert not (tmp_path / "ran").exists()
    good = command("list", "methods", "good", cwd=tmp_path, env=installed)
    assert "Theirs. (from theirs)" in good.stdout
    assert "normalize=none" in good.stdout
    bad = command("list", "methods", "bad", cwd=tmp_path, env=installed)
    assert (bad.returncode, bad.stdout) == (2, "")
    place = f"{tmp_path}/path/their_bad.py, line 2"
    error = bad.stderr.splitlines()[-1]
    assert error == f"error: their_bad cannot be imported: RuntimeError: it was imported ({place})"


def test_list_runs_tells_protocols_of_one_name_apart(made, tmp_path, capsys):
    for label, steps in (("quick", 100), ("quick[steps=90]", 90)):
        record = made(scores={("left", "accuracy", True): 0.5}, steps=steps)
        Store(tmp_path).put(record.model_copy(update={"protocol_label": label}), None)
    with pytest.raises(SystemExit):
        cli.main(["list", "runs", "--out", str(tmp_path)])
    assert sorted(line.split()[-3] for line in capsys.readouterr().out.splitlines()[1:]) == ["quick", "quick[steps=90]"]


def test_the_environment_without_torch_really_is_without(without_torch, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import torch"],
        env=without_torch,
        cwd=tmp_path,
        capture_output=True,
    )
    assert b"torch was imported" in done.stderr


def test_run_makes_every_run_and_says_where_the_pages_are(smoke):
    assert smoke.done.returncode == 0, smoke.done.stderr
    assert len(smoke.records) == 3 + 5 + 2 * 3
    assert {record.result.status for record in smoke.records.values()} == {"ok"}
    written = ", ".join(f"results/local/{name}" for name in FILES)
    assert smoke.done.stdout.splitlines()[-1] == f"written: {written}"
    assert {path.name for path in smoke.out.iterdir()} >= {*FILES, "runs"}


def test_run_prints_a_line_per_finished_run_with_the_time_left(smoke):
    first, time, effect, *lines = smoke.done.stderr.splitlines()
    assert first == "14 runs: 14 to make, 0 there already"
    assert re.match(r"time on \d+ workers?: not known yet", time)
    assert effect.startswith("1 seed, 2 methods against equal weights: no exact test can call any better or worse")
    lines, measured = lines[:14], lines[14:]
    assert measured == [f"{name}: measuring what a step costs, methods side by side" for name in ("digits", "scales")]
    for number, line in enumerate(lines, start=1):
        assert re.fullmatch(rf"(digits|scales) \S.* seed 0: ok \(\d+\.\d s; {number}/14, \d+ s left\)", line)
    assert sum("digits stl left seed 0" in line for line in lines) == 1


def test_run_prints_what_the_csv_holds(smoke):
    board = pd.read_csv(smoke.out / "leaderboard.csv")
    for line in board.to_dict("records"):
        gain = f"{line['delta_task']:+.2f}".replace("-", "−")
        assert re.search(rf"^{line['method']} +{re.escape(gain)}", smoke.done.stdout, re.M), line["method"]
    assert "y3.nrmse" in smoke.done.stdout


def test_the_leaderboard_has_every_set_every_method_and_the_rows_over_sets(smoke):
    board = pd.read_csv(smoke.out / "leaderboard.csv")
    methods = {"equal", "mgda", "uncertainty"}
    found = {name: set(rows.method) for name, rows in board.groupby("task_set")}
    assert found == {"digits@smoke": methods | {STL}, "scales@smoke": methods | {STL}, "all@smoke": methods | {STL}}
    assert board.delta_task.notna().all()


def test_runs_csv_has_every_test_metric_of_every_run(smoke):
    with (smoke.out / "runs.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 3 + 5 + 3 * (3 + 5)
    for line in lines:
        tasks = [line["task"]] if line["method"] == STL else None
        [record] = [
            r for r in smoke.records.values()
            if r.method_label == line["method"] and f"{r.task_set_label}@smoke" == line["task_set"]
            and (tasks is None or list(r.spec.tasks) == tasks)
        ]  # fmt: skip
        score = record.result.scores[line["task"]][line["metric"]]
        assert float(line["value"]) == pytest.approx(score.value, rel=1e-9)
        assert line["higher_is_better"] == str(score.higher_is_better)


def test_no_record_holds_nan(smoke):
    def refuse(name):
        raise AssertionError(name)

    for file in (smoke.out / "runs").glob("*.json"):
        json.loads(file.read_text("utf-8"), parse_constant=refuse)


def test_the_same_request_elsewhere_gives_the_same_bytes(smoke, command, environment, tmp_path):
    """In a fresh process with another hash seed, time zone, language and folder."""
    changed = {"PYTHONHASHSEED": "271", "TZ": "Asia/Kathmandu", "LANG": "C", "LC_ALL": "C"}
    cwd = tmp_path / "deep" / "er"
    cwd.mkdir(parents=True)
    done = command(
        "run",
        *REQUEST,
        "--accelerator",
        "cpu",
        "--out",
        "elsewhere",
        cwd=cwd,
        env=environment(**changed),
    )
    assert done.returncode == 0, done.stderr
    out = cwd / "elsewhere"
    assert contents(out, "leaderboard.csv", "runs.csv") == contents(smoke.out, "leaderboard.csv", "runs.csv")
    names = [sorted(path.name for path in (folder / "runs").iterdir()) for folder in (out, smoke.out)]
    assert names[0] == names[1]
    for name in names[0]:
        one, other = (folder / "runs" / name for folder in (out, smoke.out))
        if name.endswith(".json"):
            texts = [json.dumps(json.loads(path.read_text("utf-8"))["result"]) for path in (one, other)]
            assert texts[0] == texts[1]
        else:
            assert one.read_bytes() == other.read_bytes()


@pytest.fixture
def copy_of_smoke(smoke, tmp_path):
    return Path(shutil.copytree(smoke.out, tmp_path / "copy"))


def test_report_rebuilds_every_page_byte_for_byte_without_torch(copy_of_smoke, command, without_torch):
    before = contents(copy_of_smoke)
    for name in FILES:
        (copy_of_smoke / name).unlink()
    done = command("report", copy_of_smoke, cwd=copy_of_smoke.parent, env=without_torch)
    assert done.returncode == 0, done.stderr
    assert contents(copy_of_smoke) == before


def test_the_printed_table_survives_a_terminal_that_knows_ascii_only(copy_of_smoke, command, environment):
    env = environment(PYTHONIOENCODING="ascii")
    done = command("report", copy_of_smoke, cwd=copy_of_smoke.parent, env=env)
    assert done.returncode == 0, done.stderr


def test_list_runs_lists_what_is_stored(copy_of_smoke, command, without_torch):
    done = command("list", "runs", "--out", copy_of_smoke, cwd=copy_of_smoke.parent, env=without_torch)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + 14
    assert all(re.search(r"^[0-9a-f]{10} .* smoke +run +ok", line) for line in lines[1:])


def shown(capsys, *line):
    with pytest.raises(SystemExit) as caught:
        cli.main(list(map(str, line)))
    assert not caught.value.code
    return capsys.readouterr().out


def test_the_version_is_the_installed_ones(capsys, monkeypatch):
    monkeypatch.setattr(cli.importlib.metadata, "version", {"mtl-bench": "1.2.3"}.get)
    assert shown(capsys, "--version") == "mtl-bench 1.2.3\n"

    def missing(name):
        raise cli.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(cli.importlib.metadata, "version", missing)
    assert shown(capsys, "--version") == "mtl-bench (not installed)\n"


def test_list_methods_says_the_groups_and_json_says_all(capsys):
    found = {row["name"]: row for row in json.loads(shown(capsys, "list", "methods", "--json"))}
    assert found["mgda"]["groups"] == ["standard", "all", "gradient"]
    assert found["mgda"]["options"]["normalize"]["default"] == "none"
    assert found["static"]["groups"] == ["standard", "all", "loss"]
    assert found["frozen"]["groups"] == []
    assert "default" not in found["frozen"]["options"]["of"]
    assert set(found["kd"]) == {"name", "summary", "options", "groups", "distribution"}
    assert re.search(r"^mgda +at=shared +standard +Step along", shown(capsys, "list", "methods"), re.M)


def test_list_tasks_in_json(capsys):
    found = {row["name"]: row for row in json.loads(shown(capsys, "list", "tasks", "--json"))}
    assert found["scales"]["groups"] == ["all"]
    assert found["census"]["groups"] == []
    assert found["scales"]["options"]["ratio"] == {"type": "float", "default": 100.0}


def test_a_task_set_that_is_named_is_shown_with_its_card(capsys):
    [row] = json.loads(shown(capsys, "list", "tasks", "scales", "--json"))
    card = vars(Scales.card)
    assert row["card"] == card
    text, all_sets = (" ".join(shown(capsys, "list", "tasks", *names).split()) for names in (["scales"], []))
    for name, said in card.items():
        assert f" {name} {' '.join(said.split())}" in text
    assert card["traps"] not in all_sets


def test_list_runs_and_show_in_json_are_the_records(copy_of_smoke, capsys):
    rows = json.loads(shown(capsys, "list", "runs", "--out", copy_of_smoke, "--json"))
    records = Store(copy_of_smoke).records()
    assert {row["run"] for row in rows} == records.keys()
    assert {row["status"] for row in rows} == {"ok"}
    [first, *_] = rows
    document = json.loads(shown(capsys, "show", first["run"][:12], "--out", copy_of_smoke, "--json"))
    assert document == json.loads((copy_of_smoke / "runs" / f"{first['run']}.json").read_text("utf-8"))


def test_show_tells_a_reader_what_was_asked_and_what_came_of_it(copy_of_smoke, capsys):
    [record] = [
        r for r in Store(copy_of_smoke).records().values() if (r.method_label, r.task_set_label) == ("mgda", "scales")
    ]
    lines = shown(capsys, "show", record.name, "--out", copy_of_smoke).splitlines()
    found = {line.split()[0]: line for line in lines}
    assert found["method"] == "method    mgda"
    assert found["status"] == "status    ok"
    assert re.fullmatch(r"protocol  smoke: .*\bsteps 20\b.*", found["protocol"])
    scores = [line for line in lines if line.startswith("score ")]
    assert len(scores) == 5
    value = record.result.scores["y1"]["nrmse"].value
    assert any(line.startswith(f"score     y1 nrmse {value:.6g} (lower is better, untrained ") for line in scores)


def test_plan_in_json_has_what_the_table_has(tmp_path, capsys):
    line = [
        "plan",
        "--methods",
        "mgda[at=features]",
        "--tasks",
        "scales[tasks=2]",
        "--seeds",
        "1",
        "--protocol",
        "smoke",
    ]
    found = json.loads(shown(capsys, *line, "--out", tmp_path, "--json"))
    assert found["forecast"][0] == "4 runs: 4 to make, 0 there already"
    assert [run["method"] for run in found["runs"]] == [STL, STL, "equal", "mgda[at=features]"]
    assert found["runs"][0] == {
        **{"run": found["runs"][0]["run"], "task_set": "scales[tasks=2]", "method": STL, "tasks": ["y1"]},
        **{"seed": 0, "protocol": "smoke", "role": "run", "to_do": True, "why": "missing"},
    }


def test_json_holds_no_sign_that_a_terminal_could_obey(tmp_path, made, capsys):
    record = made(ODD, reason=ODD, set_label=ODD, label=ODD)
    Store(tmp_path).put(record, None)
    for line in (["list", "runs"], ["show", record.name]):
        text = shown(capsys, *line, "--out", tmp_path, "--json")
        assert_harmless(text)
        assert ODD in str_of(json.loads(text))


def str_of(value):
    """All texts of a document, one after another."""
    if isinstance(value, dict | list):
        return " ".join(map(str_of, value.values() if isinstance(value, dict) else value))
    return str(value)


def test_a_variant_is_printed_with_its_options(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["plan", "--methods", "mgda[at=features]", "--tasks", "scales[tasks=2]", "--seeds", "1",
                  "--protocol", "smoke", "--out", str(tmp_path)])  # fmt: skip
    assert re.search(r"scales\[tasks=2\] +mgda\[at=features\] .* to run: missing", capsys.readouterr().out)


def test_interrupted_at_the_plan_it_exits_130(hears_ctrl_c, monkeypatch, tmp_path):
    def interrupt(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("bench.campaign.Planner", interrupt)
    with pytest.raises(SystemExit) as caught:
        cli.main(["plan", "--out", str(tmp_path)])
    assert caught.value.code == 130


def test_an_internal_error_is_one_line_and_exits_5(monkeypatch, tmp_path, capsys):
    def fail(*_, **__):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("bench.campaign.Planner", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main(["plan", "--out", str(tmp_path)])
    assert caught.value.code == 5
    assert capsys.readouterr().err == "internal error: ZeroDivisionError: by nothing (--debug shows where)\n"


def test_debug_shows_the_traceback_of_a_wrong_request(tmp_path):
    from methods import UsageError

    with pytest.raises(UsageError):
        cli.main(["plan", "--methods", "mdga", "--out", str(tmp_path), "--debug"])


def test_data_that_cannot_be_had_is_one_line_and_exits_3(monkeypatch, tmp_path, capsys):
    from tasks.core.base import DataError

    def fail(*_, **__):
        raise DataError("no such folder: /data")

    monkeypatch.setattr("bench.campaign.Planner", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main(["plan", "--out", str(tmp_path)])
    assert (caught.value.code, capsys.readouterr().err) == (3, "error: no such folder: /data\n")


def interruptible():
    """A shell's background jobs ignore SIGINT, and their children with them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_interrupted_it_keeps_what_is_finished_and_the_same_command_goes_on_from_there(
    smoke, command, environment, tmp_path
):
    line = [sys.executable, "-m", "bench", "run", *REQUEST, "--accelerator", "cpu", "--out", "out"]
    process = subprocess.Popen(
        line, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )
    told = []
    for text in process.stderr:
        told.append(text)
        if "; 4/14," in text:
            process.send_signal(signal.SIGINT)
            break
    told += process.communicate(timeout=120)[1].splitlines()
    out = tmp_path / "out"
    kept = Store(out).records()
    assert process.returncode == 130, told
    assert told[-1] == "interrupted: what is finished is in out; the same command goes on from there"
    assert not [text for text in told if "Traceback" in text]
    assert 4 <= len(kept) < 14
    assert set(FILES) <= set(os.listdir(out))

    done = command("run", *REQUEST, "--accelerator", "cpu", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == f"14 runs: {14 - len(kept)} to make, {len(kept)} there already"
    assert contents(out, "leaderboard.csv", "runs.csv") == contents(smoke.out, "leaderboard.csv", "runs.csv")


@pytest.fixture(scope="module")
def checkout(command, environment, tmp_path_factory):
    """A copy of the three packages, in which a request has been run, and which may be edited."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in ("bench", "methods", "tasks"):
        shutil.copytree(PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    request = ["--methods", "uncertainty,mgda", "--tasks", "scales", "--seeds", "1", "--protocol", "smoke"]

    class Checkout:
        out = folder / "results" / "local"
        rule = folder / "methods" / "uncertainty.py"

        @staticmethod
        def call(what):
            done = command(what, *request, "--accelerator", "cpu", cwd=folder, env=environment(root=folder))
            assert done.returncode == 0, done.stderr
            return done

    assert Checkout.call("run").stderr.startswith("8 runs: 8 to make, 0 there already")
    return Checkout


@pytest.fixture
def rule(checkout):
    """The file of a rule that a test edits, and puts back."""
    before = checkout.rule.read_text("utf-8")
    yield checkout.rule
    checkout.rule.write_text(before, "utf-8")


def test_after_an_edit_of_a_rules_code_only_its_runs_are_to_be_made_and_the_plan_says_why(checkout, rule):
    rule.write_text(rule.read_text("utf-8") + "\nHALF = 0.5\n", "utf-8")
    *lines, total, time, _ = checkout.call("plan").stdout.splitlines()
    assert total == "8 runs: 1 to make, 7 there already"
    assert re.fullmatch(r"time: about \d+ s, from similar runs made here", time)
    for line in lines[1:]:
        edited = "to run: changed: the code of methods.uncertainty"
        assert line.rstrip().endswith(edited if " uncertainty " in line else "present")


def test_after_an_edit_of_text_a_second_run_trains_nothing_and_leaves_every_byte(checkout, rule):
    text = rule.read_text("utf-8")
    edited = "# A comment.\n" + text.replace('"""Uncertainty', '"""Another text. Uncertainty', 1)
    assert len(edited) > len(text) + 20
    rule.write_text(edited, "utf-8")
    before, records = (
        contents(checkout.out),
        contents(
            checkout.out / "runs",
            *os.listdir(checkout.out / "runs"),
        ),
    )
    done = checkout.call("run")
    first, effect = done.stderr.splitlines()
    assert first == "8 runs: 0 to make, 8 there already"
    assert effect.startswith("1 seed, ")
    assert contents(checkout.out) == before
    assert contents(checkout.out / "runs", *os.listdir(checkout.out / "runs")) == records


def test_rules_of_every_kind_run_in_bf16(tmp_path, monkeypatch, capsys):
    """`tests/methods/test_precision.py` says how near each rule's step is to that of float32."""
    monkeypatch.chdir(tmp_path)
    methods = "uncertainty,mgda,mgda[at=features],gradnorm,graddrop,moco,kd"
    asked = [
        "--methods",
        methods,
        "--tasks",
        "digits",
        "--seeds",
        "1",
        "--protocol",
        "smoke",
        "--precision",
        "bf16-mixed",
    ]
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", *asked, "--engine", "inline", "--accelerator", "cpu", "--no-figures", "--out", "out"])
    assert not caught.value.code, capsys.readouterr().err
    records = Store(tmp_path / "out").records().values()
    assert {record.result.status for record in records} == {"ok"}
    assert {record.spec.precision for record in records} == {"bf16-mixed"}
    assert len(records) == 3 + 1 + 7
    for record in records:
        last = record.result.points[-1]
        assert all(math.isfinite(loss) for loss in last.losses.values())
        assert last.weights is None or all(math.isfinite(weight) for weight in last.weights.values())
