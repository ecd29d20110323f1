"""The workflows call nothing that the documents do not name, so that any other CI can do the same."""

import re
import shlex
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from made_records import make_runs

from bench.catalogue import embedded, task_sets
from bench.report.analyse import analyse
from bench.report.pages.text import markdown
from bench.report.scores import from_records
from bench.spec import STL

ROOT = Path(__file__).parent.parent
DOCUMENTS = "\n".join(file.read_text("utf-8") for file in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
PAGE = (ROOT / "docs" / "continuous-integration.md").read_text("utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def commands(node):
    """Every line of every `run`."""
    if isinstance(node, dict):
        yield from (line.strip() for line in str(node.get("run", "")).splitlines())
        for value in node.values():
            yield from commands(value)
    if isinstance(node, list):
        for item in node:
            yield from commands(item)


def test_there_are_workflows():
    assert [file.stem for file in WORKFLOWS] == ["benchmark", "nightly", "tests"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_every_command_of_ours_is_one_that_the_documents_name(file):
    lines = list(commands(yaml.safe_load(file.read_text("utf-8"))))
    ours = [m for line in lines for m in re.findall(r"python -m bench (?:baseline )?\w+|tox(?: -e [\w,]+)?", line)]
    assert len(ours) >= 2
    for command in ours:
        if command.startswith("tox -e"):
            assert all(f"tox -e {name}" in DOCUMENTS for name in command.removeprefix("tox -e ").split(","))
        else:
            assert command in DOCUMENTS


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_may_read_and_no_more(file):
    assert yaml.safe_load(file.read_text("utf-8"))["permissions"] == {"contents": "read"}


def steps_of(name):
    [job] = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text("utf-8"))["jobs"].values()
    return job["steps"]


def test_the_head_of_a_pull_request_reuses_its_base_and_the_night_reuses_nothing():
    base, head = [line for line in commands(steps_of("benchmark")) if line.startswith("python -m bench run")]
    [out] = re.findall(r"--out (\S+)", base)
    assert f"--reuse {out}" in head
    without = [re.sub(r" --(out|reuse) \S+| --no-figures", "", line) for line in (base.replace(' "$@"', ""), head)]
    assert without[0] == without[1]
    night, later, fresh = [line for line in commands(steps_of("nightly")) if line.startswith("python -m bench run")]
    assert "--reuse" not in night and "--reuse" not in fresh
    assert "--out results/retried" in later


def test_a_pull_request_trains_the_tuned_board_only_and_the_night_trains_both():
    runs = {
        name: [line for line in commands(steps_of(name)) if line.startswith("python -m bench run")]
        for name in ("benchmark", "nightly")
    }
    assert all("--no-untuned" in line for line in runs["benchmark"])
    assert "--no-untuned" not in runs["nightly"][0]


def test_the_night_compares_with_the_baselines_before_it_tells_whose_choice_would_change():
    """What trials choose anew must not take part in the comparison with the baselines, and is no alarm."""
    lines = [line for line in commands(steps_of("nightly")) if line.startswith("python -m bench")]
    verbs = [line.split()[3] for line in lines]
    assert verbs == ["run", "compare", "tune", "run", "baseline", "compare", "run", "verify"]
    assert "--out" not in lines[0] and "results/retried" in lines[2] and "results/retried" in lines[5]
    assert lines[5].endswith("|| true") and "|| true" not in lines[1]


def test_the_records_that_are_kept_are_those_of_the_base_alone():
    """A key does not hash the processor, and rounding depends on it: its name is in the key of the cache."""
    [cache] = [step["with"] for step in steps_of("benchmark") if step.get("uses", "").startswith("actions/cache@")]
    assert cache["path"] == "results-of-base"
    assert "processor" in cache["key"] and cache["key"].endswith("base.sha }}")
    assert cache["key"].startswith(cache["restore-keys"])


def test_the_night_trains_on_a_fresh_draw_where_the_first_one_is_after_all_comparisons():
    """The same folder, methods and seeds; another draw each night, the same one of each set."""
    first, *_, fresh = [line for line in commands(steps_of("nightly")) if line.startswith("python -m bench run")]
    words = shlex.split(fresh.split("||")[0])
    assert words[:-3] == shlex.split(first)
    assert words[-3] == "--tasks" and words[-1] == "--no-untuned"
    names = words[-2].split(",")
    can_be_drawn = [name for name in embedded() if "draw" in task_sets.options(task_sets.find(name))]
    assert names == [f"{name}[draw=$draw]" for name in can_be_drawn]


@pytest.mark.parametrize("ends", [0, 1])
def test_the_summary_of_the_night_tells_which_verdicts_hold(tmp_path, ends):
    """And it does so if some runs have failed; then the step fails after it."""
    records = [
        record
        for label in ("toy", "toy[draw=1]")
        for method in (STL, "equal", "good")
        for record in make_runs(method, {s: [1.0 + s / 9, 1.0, 1.0] for s in range(6)}, task_set=label)
    ]
    pages = tmp_path / "base" / "results" / "local"
    pages.mkdir(parents=True)
    (pages / "leaderboard.md").write_bytes(markdown(analyse(from_records(records))))
    [step] = [step for step in steps_of("nightly") if "fresh draw" in step.get("name", "")]
    summary = tmp_path / "summary.md"
    with pytest.raises(subprocess.CalledProcessError) if ends else nullcontext():
        shell(step["run"], tmp_path, ends, GITHUB_STEP_SUMMARY=str(summary))
    [asked] = (tmp_path / "asked").read_text().splitlines()
    assert re.search(r"--tasks arm\[draw=[1-9]\d*\],", asked)
    said = summary.read_text("utf-8")
    assert said.startswith("## On a fresh draw of the data\n\n- **toy\\[draw=1\\]**: 1 of 1 verdicts of **toy** hold.")


def shell(text, folder, ends=0, **variables):
    """Run a step's lines in a folder, with a `python` that writes down its arguments and a `pip` that does nothing."""
    tools = folder / "tools"
    tools.mkdir()
    for name, script in (("python", f'echo "$@" >> "$ASKED"; exit {ends}'), ("pip", "true")):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    (folder / "environment" / "bin").mkdir(parents=True)
    (folder / "environment" / "bin" / "activate").touch()
    (folder / "base").mkdir(exist_ok=True)
    env = {"PATH": f"{tools}:/usr/bin:/bin", "ASKED": str(folder / "asked"), **variables}
    subprocess.run(["bash", "-e", "-c", text], cwd=folder / "base", env=env, check=True)
    return (folder / "asked").read_text().splitlines()


@pytest.mark.parametrize("kept", [False, True])
def test_the_base_reuses_what_an_earlier_push_has_left(tmp_path, kept):
    if kept:
        (tmp_path / "results-of-base" / "runs").mkdir(parents=True)
    [step] = [step for step in steps_of("benchmark") if step.get("name") == "run the base"]
    [run] = [line for line in shell(step["run"], tmp_path) if line.startswith("-m bench run")]
    assert run.endswith("--out ../results-of-base" + kept * " --reuse ../results-before")
    assert (tmp_path / "results-before" / "runs").exists() == kept
    assert not (tmp_path / "results-of-base").exists()


def test_the_table_of_errors_is_that_of_the_simulation():
    simulated = (ROOT / "results" / "calibration" / "gate.md").read_text("utf-8").splitlines()
    table = [line for line in PAGE.splitlines() if line.startswith(("| streams", "| kept", "| others"))]
    assert len(table) == 1 + 2 * 3 * 2
    assert all(line in simulated for line in table)


def test_the_calibration_runs_the_simulations():
    """Each is called by its path, and is there."""
    [section] = re.findall(r"\[testenv:calibration\](.*?)\n\n", (ROOT / "tox.ini").read_text("utf-8"), re.DOTALL)
    scripts = re.findall(r"python (\S+\.py) --out {toxinidir}/results/calibration", section)
    assert sorted(scripts) == sorted(
        file.relative_to(ROOT).as_posix() for file in ROOT.glob("tests/calibration/simulate_*.py")
    )
    assert len(scripts) == 4


@pytest.mark.parametrize("ends", [0, 1])
def test_the_night_verifies_the_reference_and_fails_where_that_does(tmp_path, ends):
    """Another draw each night; the summary has what it says, also if a run does not reproduce."""
    (tmp_path / "base").mkdir()
    [step] = [step for step in steps_of("nightly") if "reproduce" in step.get("name", "")]
    summary = tmp_path / "summary.md"
    with pytest.raises(subprocess.CalledProcessError) if ends else nullcontext():
        shell(step["run"], tmp_path, ends, GITHUB_STEP_SUMMARY=str(summary))
    [asked] = (tmp_path / "asked").read_text().splitlines()
    assert re.fullmatch(r"-m bench verify results/reference --seed [1-9]\d*", asked)
    assert summary.read_text() == "```\n```\n"
