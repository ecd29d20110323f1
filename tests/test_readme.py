"""What the README says works as it stands there."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench.check import check
from bench.planning.plan import make_plan
from bench.planning.request import Request
from bench.store import Store
from bench.tuning.shipped import shipped_choices
from methods.core.groups import members

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
REFERENCE = ROOT / "results" / "reference"
PAGES = [f"docs/{page.name}" for page in ROOT.glob("docs/*.md")]
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_loop_trains_somebodys_own_network():
    torch.manual_seed(0)
    trunk = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh())
    heads = [torch.nn.Linear(8, 1), torch.nn.Linear(8, 3)]
    criteria = [torch.nn.functional.mse_loss, torch.nn.functional.cross_entropy]
    x = torch.randn(32, 4)
    targets = [x[:, :1], x[:, :3].argmax(1)]
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads[0].parameters(), *heads[1].parameters()], lr=0.01)

    def losses():
        return [
            criterion(head(trunk(x)), target) for head, criterion, target in zip(heads, criteria, targets, strict=True)
        ]

    before = [loss.item() for loss in losses()]
    [block] = [block for block in BLOCKS if "methods.create" in block]
    exec(block, {"loader": [(x, targets)] * 100, "loss": None, **locals()})
    assert all(after.item() < 0.8 * start for after, start in zip(losses(), before, strict=True))


def test_the_rule_of_ones_own_runs_as_it_is_called(tmp_path):
    [block] = [block for block in BLOCKS if block.startswith("# mine.py")]
    (tmp_path / "mine.py").write_text(block)
    [command] = re.findall(r"\$ python -m bench (run --methods .*mine\.py:\w+.*)", README)
    small = ["--tasks", "scales", "--seeds", "1", "--protocol", "smoke"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *shlex.split(command.replace("standard", "equal")), *small],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "mine.py:InverseNorm" in done.stdout


def test_the_rule_of_ones_own_keeps_its_contract(tmp_path, monkeypatch):
    [block] = [block for block in BLOCKS if block.startswith("# mine.py")]
    (tmp_path / "mine.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    findings = list(check("mine.py:InverseNorm"))
    assert [(finding.what, finding.detail) for finding in findings if finding.outcome == "fails"] == []


def test_the_readme_shows_the_reference_leaderboard():
    table = pd.read_csv(REFERENCE / "leaderboard.csv").query("task_set == 'all'").set_index("method")
    ratios = pd.read_csv(REFERENCE / "costs.csv").query("method != 'stl'").groupby("method")["step_ratio"]
    steps = np.exp(ratios.agg(lambda own: np.log(own).mean()))  # over task sets, ratios have a geometric mean
    lines = [line.strip("|").split("|") for line in README.splitlines() if re.match(r"\| \d", line)]
    shown = {cells[1].strip(): [cell.strip() for cell in cells] for cells in lines}
    assert list(shown) == list(table.index)
    for method, (place, _, delta, versus, verdict, over_sets, holds, step, seeds, failed) in shown.items():
        row = table.loc[method]
        assert place == "–".join(dict.fromkeys([f"{row.best_place:g}", f"{row.worst_place:g}"]))
        assert (seeds, failed) == (str(row.seeds), str(row.failed))
        assert delta == interval(row, "delta_task")
        assert versus == interval(row, "vs_equal")
        for told, name in ((verdict, "vs_equal"), (over_sets, "sets_vs_equal")):
            if method in ("stl", "equal"):
                assert told == ""
                continue
            sure = re.search(r"p (.*)\)", told)[1]
            assert row[f"{name}_verdict"] in told
            assert row[f"{name}_p"] < 0.001 if sure == "< .001" else abs(row[f"{name}_p"] - float(sure[2:])) <= 0.0005
        turned = f"no: {row.untuned_vs_equal_verdict}"
        assert holds == {"yes": "yes", "no": turned}.get(row.holds_untuned, "")
        assert step == ("" if method == "stl" else f"{steps[method]:.3g}")


def interval(row, name):
    """A mean and its interval, as a table writes them."""
    if pd.isna(row[name]):
        return ""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    ends = "" if pd.isna(low) else f" [{low:+.1f} to {high:+.1f}]"
    return f"{row[name]:+.2f}{ends}".replace("-", "−")


def test_the_readme_tells_the_verdicts_of_every_task_set():
    found = pd.read_csv(REFERENCE / "leaderboard.csv").set_index(["task_set", "method"])
    rules = [method for method in found.loc["all"].index if method not in ("stl", "equal")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines() if line[:2] == "| "]
    assert ["", *rules] in rows
    shown = {cells[0]: cells[1:] for cells in rows if cells[0] in found.index.levels[0]}
    assert shown.keys() == set(found.index.levels[0])
    for task_set, cells in shown.items():
        told = [found.loc[task_set, rule] for rule in rules]
        assert cells == [
            f"{row.vs_equal_verdict}, untuned {row.untuned_vs_equal_verdict}"
            if row.holds_untuned == "no"
            else row.vs_equal_verdict
            for row in told
        ]


def test_the_readme_tells_where_sharing_pays():
    found = pd.read_csv(REFERENCE / "leaderboard.csv").set_index(["task_set", "method"])
    joint = found.drop(index="stl", level="method")
    over_all = joint.loc["all"]
    worse = over_all.index[over_all.vs_equal_verdict == "worse"]
    assert list(over_all.index[over_all.vs_equal_verdict == "better"]) == ["uncertainty"]
    assert "on these eight sets `uncertainty` is better than equal weights, `gradnorm` and `mgda`\nare worse" in README
    assert set(worse) == {"gradnorm", "mgda"}
    assert set(over_all.sets_vs_equal_verdict.dropna()) == {"undecided"}
    assert joint.loc[("assays", "equal"), "vs_stl_verdict"] == "better"
    assert f"equal weights gain {joint.loc[('assays', 'equal'), 'delta_task']:.0f} points" in README
    assert set(joint.loc["visits"].vs_stl_verdict) == {"equivalent"}
    others = joint.drop(index=["all", "assays", "visits"], level="task_set")
    assert others.index.get_level_values("task_set").nunique() == 6
    assert set(others.vs_stl_verdict) == {"worse", "undecided"}


def trained(file):
    """How many networks a tidy file is of: one a run, and of single-task learning one a task."""
    runs = pd.read_csv(file)
    joint = runs[runs.method != "stl"].groupby(["task_set", "method", "seed"]).ngroups
    return joint + runs[runs.method == "stl"].groupby(["task_set", "seed", "task"]).ngroups


def test_the_readme_says_what_the_board_of_all_rules_shows():
    board = pd.read_csv(REFERENCE / "all" / "leaderboard.csv").query("task_set == 'all'")
    assert set(board.method) == {"stl", *members()["all"]}
    assert f"trains all {len(board) - 1} rules, in {trained(REFERENCE / 'all' / 'runs.csv')} runs" in README
    better = (board.vs_equal_verdict == "better").sum()
    # Which rules are better than others is in tests/test_docs.py.
    assert f"There, {better} rules are better than equal weights, six of them" in README


def test_the_readme_says_how_many_runs_and_trials_there_are(tmp_path):
    trainings = trained(REFERENCE / "runs.csv")
    planned = make_plan(Request(), Store(tmp_path))
    assert f"{trainings} small networks" in README
    assert f"{len(planned) - trainings} more" in README
    assert not [run for run in planned if run.role == "trial"]
    assert f"{sum(len(choice.attempts) for choice in shipped_choices().values())} runs" in README


@pytest.mark.parametrize("file", ["ARCHITECTURE.md", "README.md", *PAGES])
def test_files_that_are_named_exist(file):
    named = re.findall(r"`((?:bench|methods|tasks|tests|\.ci)/[\w./]+)`", (ROOT / file).read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_architecture_names_every_room():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    rooms = [p for p in ROOT.glob("bench/**/*.py") if p.stem not in ("__init__", "__main__")]
    rooms += [p for p in ROOT.glob("*/core/*.py") if p.stem != "__init__"]
    assert [room.name for room in rooms if room.name not in text] == []


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert names - {pin.lower().replace("_", "-") for pin in pins} == set()
    assert "torch==2.13.0\n" in (ROOT / "constraints.txt").read_text()
