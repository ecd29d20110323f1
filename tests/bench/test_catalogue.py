"""Which task sets there are, and which of them need no data but the install's."""

import os
import re
from dataclasses import replace

import pytest

from bench.catalogue import build, parse_task_set, place, task_set, task_sets
from bench.planning import asked, plan
from bench.planning.plan import make_plan
from bench.planning.request import Request
from bench.store import Store
from methods.core.options import Option
from methods.core.registry import DESCRIBED, Registry

ON_THE_HUB = {"census", "multifashion", "multimnist", "nyuv2"}
LOCAL = {"adme", "cityscapes", "parkinsons", "sarcos", "tox21"}
OPTIONS = {name: ["channels", "metrics", "network", "path"] for name in ("cityscapes", "nyuv2")}
"""Of those that have options beside the folder."""
REAL = ON_THE_HUB | LOCAL
"""Those whose data does not come with the package: from the hub, or from a folder alone."""


def test_all_are_the_embedded_ones_and_no_others(tmp_path):
    planned = make_plan(Request(methods="equal", seeds="1", protocol="smoke", accelerator="cpu"), Store(tmp_path))
    assert {run.spec.task_set.partition("[")[0] for run in planned} == task_sets.entries().keys() - REAL


def test_the_shipped_description_is_that_of_the_classes():
    """After an edit: python -m bench.catalogue"""
    assert (task_sets.folder / DESCRIBED).read_text("utf-8") == task_sets.ship()


@pytest.mark.parametrize("name", sorted(task_sets.entries()))
def test_what_the_description_says_is_what_the_class_says(name):
    entry = task_sets.find(name)
    facts, cls = task_sets.describe(entry).facts, entry.load()
    assert facts["embedded"] == cls.embedded == (name not in REAL)
    assert facts["protocols"] == list(cls.protocols)


@pytest.mark.parametrize("name", sorted(ON_THE_HUB))
def test_what_the_description_says_of_the_hub_is_where_the_data_is_from(name):
    entry = task_sets.find(name)
    made = entry.load()
    assert task_sets.describe(entry).facts["hub"] == made.hub == made.source.hub
    assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", made.hub)
    assert sorted(task_sets.options(entry)) == OPTIONS.get(name, ["path"])


@pytest.mark.parametrize("name", sorted(LOCAL))
def test_what_the_description_says_of_a_local_folder_is_what_the_data_is_declared_with(name):
    entry = task_sets.find(name)
    made = entry.load()
    facts = task_sets.describe(entry).facts
    assert (facts["hub"], facts["local"]) == (None, made.local)
    assert made.hub is None
    assert sorted(task_sets.options(entry)) == OPTIONS.get(name, ["path"])


def test_a_plug_in_is_embedded_unless_it_says_otherwise(tmp_path):
    text = "from tasks.scales import Scales\n\nclass Mine(Scales):\n    embedded = False\n"
    (tmp_path / "mine.py").write_text(text)
    assert not task_sets.describe(task_sets.find(f"{tmp_path / 'mine.py'}:Mine")).facts["embedded"]
    assert task_sets.describe(task_sets.find("scales")).facts["embedded"]


def test_the_place_of_the_data_is_part_of_the_object_and_of_no_name():
    one, other = parse_task_set("multimnist[path=one]"), parse_task_set('multimnist[path="a,b]"]')
    assert one != other
    assert (place(one), place(other), place(parse_task_set("multimnist"))) == ("one", "a,b]", "")
    assert one.full == other.full == one.label == one.stable == "multimnist"


def test_a_task_set_is_built_once_in_a_process_and_anew_after_an_edit(tmp_path):
    file = tmp_path / "mine.py"
    text = "from tasks.scales import Scales\n\nclass Mine(Scales):\n    tag = {tag}\n"
    file.write_text(text.format(tag=1))
    first = task_set(f"{file}[tasks=2]")
    assert task_set(f"{file}:Mine[tasks=2,ratio=100]") is first
    assert task_set(f"{file}[tasks=3]") is not first
    assert build(f"{file}[tasks=2]") is not first
    file.write_text(text.format(tag=2))
    assert task_set(f"{file}[tasks=2]").tag == 2


def test_an_option_that_is_added_to_a_set_renames_no_run_and_moves_no_random_number(monkeypatch, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("from tasks.scales import Scales\nclass Mine(Scales): ...\n")
    request = Request(methods="mgda", tasks=f"scales,{mine}", seeds="1", protocol="smoke", accelerator="cpu")
    before = [run.spec for run in make_plan(request, Store(tmp_path / "out"))]
    describe = Registry.describe

    def added(self, entry):
        found = describe(self, entry)
        return replace(found, options={**found.options, "every": Option(int, 1)})

    built = task_set("scales")
    monkeypatch.setattr(asked, "task_set", lambda variant: built)
    monkeypatch.setattr(Registry, "describe", added)
    monkeypatch.setattr(plan, "check_fit", lambda rules, sets: None)
    assert [run.spec for run in make_plan(request, Store(tmp_path / "out"))] == before


@pytest.fixture
def cut_off(without_torch, tmp_path):
    """An environment without torch, `datasets`, a hub's cache and a name server."""
    (tmp_path / "datasets.py").write_text('raise RuntimeError("datasets was imported")\n')
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n\ndef fails(*_, **__):\n    raise socket.gaierror(-2)\n\nsocket.getaddrinfo = fails\n"
    )
    path = f"{tmp_path}{os.pathsep}{without_torch['PYTHONPATH']}"
    return {**without_torch, "PYTHONPATH": path, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("list", "tasks"), 0, "multimnist"),
        (("run", "--tasks", "multimnits"), 2, "error: unknown task set 'multimnits': did you mean 'multimnist'?"),
        (("run", "--tasks", "multimnist[folder=x]"), 2, "error: multimnist has no option 'folder': there is path"),
        (
            ("run", "--tasks", "census[path=no/where]"),
            3,
            "error: scikit-learn/adult-census-income in no/where: there is no",
        ),
        (
            ("run", "--tasks", "multifashion"),
            3,
            "error: zalando-datasets/fashion_mnist (commit 531be5e) is not in the hub",
        ),
        (
            ("run", "--tasks", "sarcos"),
            3,
            "error: sarcos is not fetched: name a folder by [path=…] that contains sarcos",
        ),
        (("run", "--tasks", "sarcos[path=no/where]"), 3, "error: sarcos in no/where: there is no such folder"),
    ],
)
def test_what_can_be_said_at_once_is_said_without_torch_and_datasets(command, cut_off, tmp_path, arguments, code, said):
    done = command(*arguments, cwd=tmp_path, env=cut_off)
    assert done.returncode == code
    if code:
        [line] = done.stderr.splitlines()
        assert line.startswith(said)
    else:
        assert said in done.stdout


def test_code_that_only_finds_data_is_no_part_of_a_runs_key(tmp_path):
    request = Request(methods="equal", tasks="scales", seeds="1", protocol="smoke", accelerator="cpu")
    assert not [name for run in make_plan(request, Store(tmp_path)) for name in run.parts.sources if "hub" in name]
