"""Which task sets there are, and which of them need no data but the install's."""

import pytest

from bench.catalogue import task_sets
from bench.plan import Request, make_plan
from bench.store import Store

REAL = {"census", "multifashion", "multimnist"}


def test_all_are_the_embedded_ones_and_no_others(tmp_path):
    planned = make_plan(Request(methods="equal", seeds="1", protocol="smoke", accelerator="cpu"), Store(tmp_path))
    assert {run.spec.task_set.partition("[")[0] for run in planned} == task_sets.entries().keys() - REAL


@pytest.mark.parametrize("name", sorted(task_sets.entries()))
def test_what_the_file_says_is_what_the_class_says(name):
    entry = task_sets.find(name)
    assert entry.attributes.get("embedded", True) == entry.load().embedded == (name not in REAL)


def test_a_plug_in_is_embedded_unless_it_says_otherwise(tmp_path):
    text = "from tasks.scales import Scales\n\nclass Mine(Scales):\n    embedded = False\n"
    (tmp_path / "mine.py").write_text(text)
    assert not task_sets.find(f"{tmp_path / 'mine.py'}:Mine").attributes["embedded"]
    assert task_sets.find("scales").attributes.get("embedded", True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("list", "tasks"), 0, "multimnist"),
        (("run", "--tasks", "multimnits"), 2, "did you mean 'multimnist'?"),
        (("run", "--tasks", "multimnist[folder=x]"), 2, "multimnist has no option 'folder': there is path"),
        (("run", "--tasks", "census", "--protocol", "quik"), 2, "census has no protocol 'quik': did you mean 'quick'?"),
    ],
)
def test_listing_and_wrong_names_import_neither_torch_nor_datasets(
    command, without_torch, tmp_path, arguments, code, said
):
    (tmp_path / "datasets.py").write_text('raise RuntimeError("datasets was imported")\n')
    env = {**without_torch, "PYTHONPATH": f"{tmp_path}:{without_torch['PYTHONPATH']}"}
    done = command(*arguments, cwd=tmp_path, env=env)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
