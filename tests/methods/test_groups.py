"""Groups of rules: which they are, and that nothing else can take their names."""

import shutil
from pathlib import Path

import pytest

import methods
from methods.core.groups import STANDARD, groups, members
from methods.core.options import REQUIRED
from methods.core.rules import GROUPS, registry


@pytest.fixture(scope="module")
def found():
    return members()


def test_every_rule_of_standard_is_built_in_and_needs_no_option(found):
    assert found["standard"] == sorted(STANDARD)


def test_all_are_the_built_in_rules_that_need_no_option(found):
    needs = {
        n: any(o.default is REQUIRED for o in registry.options(e).values()) for n, e in registry.built_in().items()
    }
    assert any(needs.values())
    assert found["all"] == [name for name, required in needs.items() if not required]


def test_the_kinds_are_what_a_rule_asks_for(found):
    assert {"equal", "dwa", "uncertainty"} <= set(found["loss"])
    assert {"gradnorm", "mgda"} <= set(found["gradient"])
    assert {"kd"} <= set(found["distillation"])


def test_a_rule_has_one_kind_at_most(found):
    kinds = [set(found[kind]) for kind in ("loss", "gradient", "distillation")]
    assert sum(map(len, kinds)) == len(set.union(*kinds))
    assert set.union(*kinds) <= set(found["all"])


RULES = """
from torch import tensor
from methods import Method

class Losses(Method):
    def objective(self, losses): return losses.sum()

class Rows(Method):
    def combine(self, jacobian): return jacobian.sum(0)

class Maps(Method):
    def weigh(self, losses, features): return losses

class Both(Method):
    def __init__(self, num_tasks, teachers): super().__init__(num_tasks)
    def weigh(self, gramian): return gramian.diagonal()

class Whole(Method):
    def step(self, problem): return None

class Asks(Method):
    def __init__(self, num_tasks, strength: float): super().__init__(num_tasks)
    def weigh(self, losses): return losses
"""


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("Losses", ["all", "loss"]),
        ("Rows", ["all", "gradient"]),
        ("Maps", ["all", "gradient"]),
        ("Both", ["all", "distillation"]),
        ("Whole", ["all"]),
        ("Asks", []),
    ],
)
def test_what_a_rule_asks_for_says_its_groups(tmp_path, rule, expected):
    file = tmp_path / "rules.py"
    file.write_text(RULES)
    entry = registry.find(f"{file}:{rule}")
    assert groups(entry.name, registry.describe(entry)) == expected


@pytest.mark.parametrize("name", GROUPS)
def test_a_file_with_the_name_of_a_group_is_left_out_and_said(tmp_path, monkeypatch, caplog, name):
    folder = tmp_path / "methods"
    shutil.copytree(Path(methods.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(folder / "equal.py", folder / f"{name}.py")
    monkeypatch.setattr(type(registry), "folder", folder)
    assert name not in registry.built_in()
    assert f"the method '{name}' is left out: the name means something else" in caplog.text
    with pytest.raises(methods.UsageError, match=f"'{name}' is a group of methods"):
        methods.parse(name)
