"""What the README says works as it stands there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
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
    [command] = re.findall(r"\$ python -m bench (run --methods mine\.py:\w+)", README)
    done = subprocess.run(
        [sys.executable, "-m", "bench", *command.split(), "--tasks", "scales", "--seeds", "1", "--protocol", "smoke"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "mine.py:InverseNorm" in done.stdout


@pytest.mark.parametrize("file", ["ARCHITECTURE.md", "README.md"])
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
