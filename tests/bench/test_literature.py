"""What papers printed: whole, with sources, and in agreement with itself but for the exceptions it lists."""

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.evidence.delta import mean_rank
from bench.literature import COLUMNS, DELTAS, Literature, checks, half_unit, literature, published, read
from bench.spec import STL
from methods import UsageError
from tasks.core.errors import DataError

PROJECT = Path(__file__).parents[2]
FOUND = literature()
CHECKS = checks(FOUND)
EXCEPTIONS = FOUND.errata[FOUND.errata["kind"] == "exception"]
CELL = ["table", "task_set", "method", "metric"]

WITHIN_ROUNDING = {  # as counted by another program, when the tables were transcribed: (agree, checkable)
    "alignedmtl_table4_cityscapes": (13, 13),
    "autolambda_readme_nyuv2": (8, 8),
    "cagrad_table1_nyuv2": (6, 6),
    "cagrad_table2_cityscapes": (6, 6),
    "dbmtl_table1_nyuv2": (21, 21),
    "dbmtl_table2_cityscapes": (13, 21),
    "dbmtl_table3_qm9": (21, 21),
    "dbmtl_table4_office31": (19, 20),
    "dbmtl_table4_officehome": (18, 20),
    "extra_table3_cityscapes": (14, 14),
    "famo_table1_nyuv2": (11, 12),
    "famo_table2_qm9": (11, 11),
    "famo_table3_cityscapes": (12, 12),
    "fmtl_table3_nyuv2": (16, 17),
    "fmtl_table4_cityscapes": (15, 15),
    "go4align_table1_nyuv2": (12, 13),
    "go4align_table8_cityscapes": (12, 12),
    "imgrad_table2_cityscapes": (12, 12),
    "imgrad_table3_nyuv2": (12, 12),
    "ldcmtl_readme_cityscapes": (16, 16),
    "moon_table2_nyuv2": (5, 5),
    "moon_table3_cityscapes": (12, 12),
    "moon_table4_qm9": (2, 2),
    "nashmtl_table2_nyuv2": (10, 11),
    "nashmtl_table3_cityscapes": (11, 11),
    "nashmtl_table6_qm9": (10, 10),
    "ntkmtl_table6_qm9": (12, 12),
    "ntkmtl_table7_cityscapes": (17, 17),
    "url_figure_nyuv2": (11, 11),
}
ELSEWHERE = {  # single-task learning stands in another table
    "famo_table5_nyuv2": (1, 1),
    "famo_table6_qm9": (1, 1),
    "famo_table7": (1, 1),
    "ntkmtl_table8_cityscapes": (2, 2),
    "ntkmtl_table9_nyuv2": (2, 2),
}


def cells(table, method=None):
    """The numbers `[methods, M]` of a table, single-task learning left out, and their directions."""
    rows = FOUND.results[(FOUND.results["table"] == table) & (FOUND.results["task"] != "")]
    rows = rows[rows["method"] != STL] if method is None else rows[rows["method"] == method]
    methods = list(rows["method"].unique())
    values = rows["value"].astype(float).to_numpy(copy=True).reshape(len(methods), -1)
    return methods, values, [text == "True" for text in rows["higher_is_better"][: values.shape[1]]]


def printed_ranks(table):
    rows = FOUND.results[(FOUND.results["table"] == table) & (FOUND.results["metric"] == "mean_rank")]
    return rows["value"].astype(float).to_numpy()


def in_order(values, higher):
    """Later rows made worse by less than any digit, and by more than what is a tie."""
    less = 2e-6 * np.arange(len(values))[:, None] * np.abs(values)
    return values + np.where(higher, -less, less)


@pytest.mark.parametrize("metrics", [DELTAS, ["mean_rank"], ["average"]], ids=["delta", "rank", "average"])
def test_what_does_not_follow_from_its_row_is_listed_and_what_is_listed_does_not_follow(metrics):
    wrong = CHECKS[~CHECKS["agrees"] & CHECKS["metric"].isin(metrics)]
    listed = EXCEPTIONS[EXCEPTIONS["metric"].isin(metrics)]
    assert set(wrong[CELL].itertuples(index=False)) == set(listed[CELL].itertuples(index=False))
    assert not listed.empty


def test_every_exception_is_checked_and_says_what_follows():
    both = EXCEPTIONS.merge(CHECKS, on=[*CELL, "printed"])
    assert len(both) == len(EXCEPTIONS) == 48
    for line in both.to_dict("records"):
        assert abs(float(line["follows"]) - line["recomputed"]) <= half_unit(line["follows"]) + 1e-9, line


def test_what_follows_is_said_in_notes_too():
    noted = FOUND.errata[(FOUND.errata["kind"] == "note") & (FOUND.errata["follows"] != "")]
    both = noted.merge(CHECKS, on=[*CELL, "printed"])
    assert len(both) == 2
    for line in both.to_dict("records"):
        assert abs(float(line["follows"]) - line["recomputed"]) <= half_unit(line["follows"])


def test_as_many_gains_follow_as_another_program_found():
    gains = CHECKS[CHECKS["metric"].isin(DELTAS)]
    counts = {table: (own["agrees"].sum(), len(own)) for table, own in gains.groupby("table")}
    assert counts.pop("alignedmtl_table2_nyuv2") == (28, 28)  # 14 methods, two weightings
    assert counts == {**WITHIN_ROUNDING, **ELSEWHERE}


def test_every_printed_rank_beside_its_row_is_checked():
    measured = set(FOUND.results.loc[FOUND.results["task"] != "", "table"])
    ranks = FOUND.results[(FOUND.results["metric"] == "mean_rank") & FOUND.results["table"].isin(measured)]
    incomplete = FOUND.tables.loc[FOUND.tables["incomplete"] != "", "table"]
    assert list(incomplete) == ["extra_table2_nyuv2"]
    checked = CHECKS[CHECKS["metric"] == "mean_rank"]
    assert len(checked) == (~ranks["table"].isin(incomplete)).sum() == 123
    assert checked["agrees"].sum() == 93


def test_a_gain_beyond_rounding_is_told_from_one_within():
    """By hand: two rows of CAGrad's second table, with four metrics of which two fall."""
    stl, own = (np.array(row) for row in ([74.01, 93.16, 0.0125, 27.77], [75.16, 93.48, 0.0141, 37.60]))
    up = np.array([1, 1, -1, -1])
    first_order = 25 * (np.array([0.005, 0.005, 0.00005, 0.005]) * (1 / stl + own / stl**2)).sum()
    [line] = CHECKS[(CHECKS["table"] == "cagrad_table2_cityscapes") & (CHECKS["method"] == "cagrad")].to_dict("records")
    assert line["recomputed"] == pytest.approx(-25 * (up * (own / stl - 1)).sum())
    assert line["highest"] - line["recomputed"] == pytest.approx(first_order, rel=0.01)
    assert line["recomputed"] - line["lowest"] == pytest.approx(first_order, rel=0.01)
    assert line["agrees"]

    def with_printed(text):
        results = FOUND.results.copy()
        where = (results[CELL] == [line[name] for name in CELL]).all(axis=1)
        results.loc[where, "value"] = text
        again = checks(Literature(FOUND.tables, results, FOUND.errata))
        return again.loc[(again[CELL] == [line[name] for name in CELL]).all(axis=1), "agrees"].item()

    assert with_printed(f"{line['highest'] + 0.004:.4f}") is False
    assert with_printed(f"{line['highest']:.2f}") is True
    assert with_printed(f"{line['lowest'] - 0.02:.2f}") is False


def test_famos_ranks_on_qm9_count_from_0_on_the_digits_of_nash_mtl():
    methods, values, higher = cells("famo_table2_qm9")
    digits = [cells("nashmtl_table6_qm9", method)[1] for method in methods[:-1]]
    ranks = mean_rank(in_order(np.vstack([*digits, values[-1:]]), higher), higher) - 1
    assert np.abs(ranks - printed_ranks("famo_table2_qm9")).max() <= 0.005


def test_famos_ranks_on_cityscapes_follow_with_the_true_row_of_equal_weights():
    methods, values, higher = cells("famo_table3_cityscapes")
    assert methods[:2] == ["equal", "si"]
    assert list(values[0]) == list(values[1])
    values[0] = cells("nashmtl_table3_cityscapes", "equal")[1]
    ranks = mean_rank(in_order(values, higher), higher)
    assert np.abs(ranks - printed_ranks("famo_table3_cityscapes")).max() <= 0.005


def test_db_mtls_gains_on_cityscapes_follow_if_absolute_errors_were_padded():
    results = FOUND.results.copy()
    padded = (results["table"] == "dbmtl_table2_cityscapes") & (results["metric"] == "absolute")
    padded &= results["value"].str.endswith("0")
    results.loc[padded, "value"] = results.loc[padded, "value"].str[:-1]
    again = checks(Literature(FOUND.tables, results, FOUND.errata))
    assert again.loc[again["table"] == "dbmtl_table2_cityscapes", "agrees"].all()


def test_every_table_has_a_source_and_numbers():
    assert len(FOUND.tables) == FOUND.tables["table"].nunique() == 51
    assert (FOUND.tables[["paper", "reference", "setting", "source"]] != "").all(axis=None)
    assert set(FOUND.tables["table"]) == set(FOUND.results["table"])
    assert FOUND.results["table"].unique().tolist() == FOUND.tables["table"].tolist()


def test_no_number_is_there_twice_and_every_number_is_one():
    key = ["table", "task_set", "method", "task", "metric"]
    rows = published()
    assert not rows.duplicated(key).any()
    assert np.isfinite(rows["number"]).all()
    assert len(rows) == 3809


def test_a_method_has_one_name_here():
    """Across tables, one printed name is one method; but IMTL, which may be either of two."""
    names = FOUND.results.groupby("printed_method")["method"].unique()
    several = {name: sorted(methods) for name, methods in names.items() if len(methods) > 1}
    assert several == {"IMTL": ["imtl", "imtlg"], "F-IMTL": ["fmtl+imtl", "fmtl+imtlg"]}


def test_imtl_is_called_imtlg_only_where_its_row_is_that_of_imtlg():
    rows = FOUND.results[FOUND.results["task"] != ""]
    renamed = rows[(rows["printed_method"] == "IMTL") & (rows["method"] == "imtlg")]
    known = rows[
        rows["table"].isin(["nashmtl_table2_nyuv2", "nashmtl_table3_cityscapes"]) & (rows["method"] == "imtlg")
    ]
    both = renamed.merge(known, on=["task_set", "task", "metric"])
    assert len(both) == len(renamed) > 30
    for one, other in zip(both["value_x"], both["value_y"], strict=True):
        assert abs(float(one) - float(other)) <= half_unit(one) + 1e-9


def test_the_dense_metrics_are_named_as_scenes_names_them():
    from bench.catalogue import task_set

    wanted = {(task.name, metric) for task in task_set("scenes").tasks for metric in task.metrics}
    rows = published("nyuv2")
    measured = rows[(rows["task"] != "") & ~rows["metric"].str.startswith("legacy_")]
    assert set(zip(measured["task"], measured["metric"], strict=True)) == wanted
    directions = {(t, m): h for t, m, h in measured[["task", "metric", "higher_is_better"]].itertuples(index=False)}
    scenes = {
        (task.name, name): m.higher_is_better for task in task_set("scenes").tasks for name, m in task.metrics.items()
    }
    assert directions == scenes


def test_metrics_of_images_and_batches_are_named_as_nyuv2_names_them():
    from tasks.core.metrics import legacy

    rows = published("nyuv2")
    rows = rows[rows["metric"].str.startswith("legacy_")]
    assert set(rows["table"]) == {"kd4mtl_quoted_nyuv2"}
    made = {"segmentation": legacy.segmentation(13, "legacy"), "depth": legacy.depth("legacy")}
    known = {(task, name): up for task, own in made.items() for name, (_, up) in own.builders.items()}
    assert known == {(t, m): up for t, m, up in rows[["task", "metric", "higher_is_better"]].itertuples(index=False)}


def test_a_tables_protocol_is_one_that_its_task_set_has():
    from bench.catalogue import parse_task_set

    marked = FOUND.tables[FOUND.tables["protocol"] != ""]
    assert set(marked["protocol"]) == {"li2020", "navon2022"}
    for table, protocol in zip(marked["table"], marked["protocol"], strict=True):
        for name in FOUND.results.loc[FOUND.results["table"] == table, "task_set"].unique():
            assert protocol in parse_task_set(name).parts[0].facts["protocols"], table


RUNS = """\
task_set,method,seed,task,metric,split,value,higher_is_better,status,untrained
nyuv2[metrics=both]@navon2022,equal,0,segmentation,miou,test,0.38,True,ok,0.1
nyuv2[metrics=both]@navon2022,equal,1,segmentation,miou,test,0.40,True,ok,0.1
nyuv2[metrics=both]@navon2022,equal,1,depth,absolute,test,0.5,False,ok,1
nyuv2[metrics=both]@navon2022,equal,2,depth,,,,,crashed,
nyuv2@navon2022[lr=0.001],equal,0,segmentation,miou,test,0.11,True,ok,0.1
cityscapes@navon2022,equal,0,segmentation,miou,test,0.12,True,ok,0.1
"""


def test_ones_own_runs_stand_beside_tables_of_the_same_protocol(command, without_torch, tmp_path):
    (tmp_path / "runs.csv").write_text(RUNS)
    done = command("literature", "--tasks", "nyuv2", "--beside", ".", cwd=tmp_path, env=without_torch)
    assert (done.returncode, done.stderr) == (0, "")
    own = re.findall(r"^(equal, nyuv2\S+) +own +(\S+) +(\S+)", done.stdout, re.M)
    marked = FOUND.tables[FOUND.tables["protocol"] == "navon2022"]["table"].str.contains("nyuv2").sum()
    assert own == [("equal, nyuv2[metrics=both]@navon2022", "39.00", "0.5")] * marked
    assert done.stdout.index("@navon2022") > done.stdout.index("cagrad_table1_nyuv2: ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--tasks", "nyuv2", "--beside", "nowhere"],
            "nowhere/runs.csv holds no results: name the folder of `run --out`",
        ),
        (["--beside", "nowhere"], "--beside needs --tasks"),
    ],
)
def test_a_wrong_folder_of_runs_is_one_line(command, without_torch, tmp_path, options, said):
    done = command("literature", *options, cwd=tmp_path, env=without_torch)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {said}")
    assert done.stderr.count("\n") == 1


def test_published_gives_one_task_set_or_says_what_there_is():
    rows = published("office31")
    assert set(rows["task_set"]) == {"office31"}
    line = rows[(rows["method"] == "dbmtl") & (rows["metric"] == "delta_task")].iloc[0]
    assert (line["value"], line["number"], line["spread"], line["higher_is_better"]) == ("+1.05", 1.05, "0.20", True)
    with pytest.raises(UsageError, match="'office-31': did you mean 'office31'"):
        published("office-31")


def test_what_published_gives_is_the_callers_own():
    rows = published()
    rows["value"] = "0"
    assert not (published()["value"] == "0").any()


@pytest.fixture
def copied(tmp_path):
    """A copy of the data that a test may spoil."""
    for file in files("results.published").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_copy_reads_as_the_package_does(copied):
    assert read(copied).results.equals(FOUND.results)


@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        ("results", ",37.42,", ",37.4x,", "results.csv of the published tables, line 11: the value is not a number"),
        ("results", "38.30,,True\n", "38.30,,yes\n", "line 2: higher_is_better: there is True and False"),
        (
            "results",
            "cagrad_table1_nyuv2,nyuv2,stl,STL,depth,absolute,0.6754,,False\n",
            "",
            "of this method is missing",
        ),
        ("results", "cagrad_table1_nyuv2,nyuv2,stl", "cagrad_table7,nyuv2,stl", "line 2: tables.csv has no such table"),
        (
            "results",
            "table,task_set",
            "table,set",
            "results.csv of the published tables should have the columns table ",
        ),
        ("tables", ",min,", ",least,", "ties: there is min, max, average, first, or nothing"),
        ("tables", ",printed table\n", ",\n", "it has no source"),
        ("errata", ",-0.76,", ",-0.77,", "results.csv has no such number"),
        ("errata", ",exception,", ",excuse,", "kind: there is exception and note"),
    ],
)
def test_a_spoilt_file_is_refused_with_the_line(copied, name, before, after, said):
    file = copied / f"{name}.csv"
    text = file.read_text("utf-8")
    assert before in text
    file.write_text(text.replace(before, after, 1), "utf-8")
    with pytest.raises(DataError, match=said.replace("(", r"\(")):
        read(copied)


def test_a_number_that_is_there_twice_is_refused(copied):
    file = copied / "results.csv"
    lines = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines, lines[1]]), "utf-8")
    with pytest.raises(DataError, match=f"line {len(lines) + 1}: this number is there twice"):
        read(copied)


def test_a_file_that_is_not_there_is_said(copied):
    (copied / "errata.csv").unlink()
    with pytest.raises(DataError, match=r"errata\.csv of the published tables cannot be read"):
        read(copied)


def test_the_wheel_holds_the_files(tmp_path):
    """Built from a copy, as setuptools leaves folders behind; then read from where it was unpacked."""
    source = tmp_path / "source"
    for package in ("bench", "methods", "tasks", "results/published", "tests/calibration"):
        shutil.copytree(PROJECT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "results" / "local").mkdir()
    (source / "results" / "local" / "runs.csv").write_text("mine\n")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    build = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("results/")]
        modules = [name for name in archive.namelist() if name.endswith(".py")]
        archive.extractall(tmp_path / "site")
    assert sorted(names) == sorted(
        f"results/published/{name}" for name in [*(f"{n}.csv" for n in COLUMNS), "README.md"]
    )
    assert not [name for name in modules if "simulat" in name or "calibration" in name]
    assert {name.partition("/")[0] for name in modules} == {"bench", "methods", "tasks"}
    done = subprocess.run(
        [sys.executable, "-m", "bench", "literature"],
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "", "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_list_of_tables_says_how_much_follows_without_torch(command, without_torch, tmp_path):
    done = command("literature", cwd=tmp_path, env=without_torch)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "not measured here" in lines[0]
    assert len(lines) == 2 + 1 + 51 + 1
    [famo] = [line.split() for line in lines if line.startswith("famo_table1_nyuv2 ")]
    assert famo[1:7] == ["FAMO", "1", "nyuv2", "12", "11/12", "12/12"]


def test_the_rows_of_a_task_set_are_printed_with_what_is_wrong_with_them(command, without_torch, tmp_path):
    done = command("literature", "--tasks", "nyuv2,office31", cwd=tmp_path, env=without_torch)
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert text.count("not measured here") == 2
    for info in FOUND.tables.to_dict("records"):
        own = FOUND.results[FOUND.results["table"] == info["table"]]
        assert (f"\n{info['table']}: " in text) == (not own[own["task_set"].isin(["nyuv2", "office31"])].empty)
    assert re.search(r"^imtlg +IMTL-G .* 26\.2 +53\.13 +66\.24 +-0\.76\* +3\.11$", text, re.M)
    assert "imtlg delta_metric -0.76 (follows: -0.60): the row gives -0.60" in text
    assert "92.43 ± 0.56*" in text
    assert "delta_metric ↓" in text
    assert "delta_task ↑" in text


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ("nyu2", "nothing is published here about 'nyu2': did you mean 'nyuv2'?"),
        ("nyuv2,digits", "nothing is published here about 'digits': there is celeba, cityscapes, "),
    ],
)
def test_a_wrong_task_set_is_one_line_and_nothing_else(command, without_torch, tmp_path, tasks, said):
    done = command("literature", "--tasks", tasks, cwd=tmp_path, env=without_torch)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {said}")
    assert done.stderr.count("\n") == 1


def test_a_package_of_the_same_name_does_no_harm(command, environment, tmp_path):
    (tmp_path / "results.py").write_text("raise RuntimeError('imported')")
    done = command("literature", cwd=tmp_path, env=environment(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Copied from papers" in done.stdout


def test_the_frames_are_plain_text():
    for frame in (FOUND.tables, FOUND.results, FOUND.errata):
        assert all(isinstance(cell, str) for cell in pd.unique(frame.to_numpy().ravel()))
