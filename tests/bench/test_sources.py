"""The source closure holds what defines a run's numbers, and notices their edits and nothing else."""

import sys

import pytest

from bench.planning.plan import COMPOSE, TRAINING
from bench.planning.sources import closure

CODE = '''"""A module."""

import json

LIMIT = 3


class Thing:
    """A thing."""

    size: int = 2
    """How large it is."""

    def grow(self, by: int = 1) -> int:
        """Grow."""
        return self.size + by
'''
SAME = {
    "a comment": CODE.replace("LIMIT = 3", "LIMIT = 3  # why"),
    "blank lines": CODE.replace("LIMIT = 3\n", "\n\nLIMIT   =  3\n\n\n"),
    "a module's docstring": CODE.replace("A module.", "Another text."),
    "a class's docstring": CODE.replace("A thing.", "Another text."),
    "a function's docstring": CODE.replace("Grow.", "Another text."),
    "an attribute's docstring": CODE.replace("How large it is.", "Another text."),
    "a docstring less": CODE.replace('        """Grow."""\n', ""),
    "quotes and brackets": CODE.replace("return self.size + by", "return (self.size + by)"),
}
OTHER = {
    "a constant": CODE.replace("LIMIT = 3", "LIMIT = 4"),
    "a default": CODE.replace("by: int = 1", "by: int = 2"),
    "an operator": CODE.replace("self.size + by", "self.size - by"),
    "an import": CODE.replace("import json", "import math"),
    "a statement more": CODE + "\nLIMIT += 1\n",
    "a name": CODE.replace("size", "height"),
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write modules of a package `outside`, and import from there."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**modules):
        folder = tmp_path / "outside"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(text)

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "outside"]:
        del sys.modules[name]


@pytest.fixture
def plugin(tmp_path):
    def write(text, name="rule.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    return write


def test_a_trainings_closure_is_what_training_imports_and_what_that_imports():
    found = closure([TRAINING])
    assert {"bench", TRAINING, "bench.spec"} <= found.keys()
    assert {"methods", "methods.core.base", "methods.core.gradients"} <= found.keys()
    assert {"tasks.core.base", "tasks.core.protocol"} <= found.keys()


@pytest.mark.parametrize(
    "module",
    [
        "bench.catalogue",
        "bench.records",
        "bench.cli",
        "bench.api",
        "bench.planning.plan",
        "bench.store",
        "bench.report.columns",
        "bench.report.pages.html",
        "methods.core.importing",
        "methods.core.names",
        "methods.core.options",
        "methods.core.registry",
        "methods.core.rules",
    ],
)
def test_a_trainings_closure_leaves_out_what_cannot_change_its_numbers(module):
    found = closure([TRAINING, COMPOSE, "tasks.scales", "methods.kd"])
    assert not [name for name in found if (name + ".").startswith(module + ".")]


def test_a_rule_brings_its_own_module_and_what_it_imports_and_no_other_rule():
    found = closure([TRAINING, "methods.mgda"])
    assert {"methods.mgda", "methods.core.solvers.min_norm"} <= found.keys()
    assert not {"methods.uncertainty", "methods.equal"} & found.keys()


def test_a_task_set_brings_its_losses_metrics_and_network():
    expected = {"tasks.scales", "tasks.core.losses", "tasks.core.metrics.regression", "tasks.networks.mlp"}
    assert expected <= closure(["tasks.scales"]).keys()


def test_modules_outside_the_project_do_not_count():
    assert {name.partition(".")[0] for name in closure([TRAINING, "tasks.digits"])} == {
        "bench",
        "methods",
        "tasks",
    }


@pytest.mark.parametrize("edit", SAME)
def test_an_edit_that_changes_nothing_leaves_the_digest(plugin, edit):
    before = closure(files=[plugin(CODE)])
    assert SAME[edit] != CODE
    assert closure(files=[plugin(SAME[edit])]) == before


@pytest.mark.parametrize("edit", OTHER)
def test_an_edit_of_code_changes_the_digest(plugin, edit):
    before = closure(files=[plugin(CODE)])
    assert OTHER[edit] != CODE
    assert closure(files=[plugin(OTHER[edit])]) != before


def test_a_string_that_is_a_value_is_code(plugin):
    before = closure(files=[plugin('MODE = "min"\n')])
    assert closure(files=[plugin('MODE = "max"\n')]) != before


def test_a_plug_ins_file_counts_and_so_does_what_it_imports_from_the_project(plugin):
    found = closure(files=[plugin("from methods.core.solvers.min_norm import min_norm_point\n")])
    assert {"methods.core.solvers.min_norm", "methods"} <= found.keys()
    assert [name for name in found if name.endswith("rule.py")]


def test_two_plug_ins_of_one_file_name_both_count(plugin):
    one, two = plugin("A = 1\n", "one/plugin.py"), plugin("B = 1\n", "two/plugin.py")
    before = [closure(files=[one, two]), closure(files=[two, one])]
    plugin("A = 2\n", "one/plugin.py")
    assert closure(files=[one, two]) != before[0]
    assert closure(files=[two, one]) != before[1]
    plugin("A = 1\n", "one/plugin.py")
    plugin("B = 2\n", "two/plugin.py")
    assert closure(files=[one, two]) != before[0]


def test_imports_inside_functions_and_conditions_are_followed(plugin):
    text = "def f():\n    from methods.core.solvers import min_norm\n\n\nif f:\n    import tasks.core.losses\n"
    assert {"methods.core.solvers.min_norm", "tasks.core.losses"} <= closure(files=[plugin(text)]).keys()


def test_an_outsiders_own_package_is_followed(package):
    package(
        rule="from . import helper\nfrom .deeper import N\n",
        helper="import outside.last\n",
        deeper="N = 1\n",
        last="",
    )
    found = closure(["outside.rule"])
    assert found.keys() == {"outside", "outside.rule", "outside.helper", "outside.deeper", "outside.last"}


BESIDE = {
    "with a dot": ("from .base import N", "base.py"),
    "without a dot": ("from base import N", "base.py"),
    "as a module": ("import base", "base.py"),
    "from the folder": ("from . import base", "base.py"),
    "in a function": ("def f():\n    import base", "base.py"),
    "from a folder without __init__": ("from inner.base import N", "inner/base.py"),
    "from a package next to it": ("import inner.base", "inner/base.py"),
}


@pytest.mark.parametrize("how", BESIDE)
@pytest.mark.parametrize("package", [False, True])
def test_what_lies_next_to_a_plug_in_counts_and_so_does_what_that_imports(plugin, how, package):
    statement, name = BESIDE[how]
    if package:
        plugin("", "family/__init__.py")
    rule = plugin(f"{statement}\nimport json\nimport torch\n", "family/rule.py")
    base = plugin("import last\nfrom methods.core.solvers import min_norm\n", f"family/{name}")
    last = plugin("N = 1\n", "family/last.py")
    before = closure(files=[rule])
    start = "family/" if package else ""
    assert {f"{start}{part}" for part in ("rule.py", name, "last.py")} <= before.keys()
    assert "methods.core.solvers.min_norm" in before
    assert (f"{start}__init__.py" in before) == package
    for file in (base, last):
        text = file.read_text()
        file.write_text(text + "M = 2\n")
        assert {part for part, own in closure(files=[rule]).items() if before[part] != own} == {
            start + file.relative_to(rule.parent).as_posix()
        }
        file.write_text(text)


def test_a_relative_import_that_climbs_in_a_package_is_followed(plugin):
    for name in ("family/__init__.py", "family/base.py"):
        plugin("N = 1\n", name)
    (rules := plugin("", "family/x.py").parent / "rules").mkdir()
    (rules / "__init__.py").write_text("")
    (rules / "rule.py").write_text("from ..base import N\nfrom ....... import far\n")
    found = closure(files=[rules / "rule.py"]).keys()
    assert found == {"family/__init__.py", "family/base.py", "family/rules/__init__.py", "family/rules/rule.py"}


def test_what_only_type_checkers_import_does_not_count(plugin):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from methods.core import gradients\n"
    assert closure(files=[plugin(text)]).keys() == {"rule.py"}
    assert "methods.core.gradients" in closure(files=[plugin(f"{text}else:\n    import methods.core.gradients\n")])


def test_what_a_package_imports_on_import_is_followed_and_what_it_offers_on_use_is_not(package, tmp_path):
    package(rule="", always="", maybe="", fallback="", lazy="")
    (tmp_path / "outside" / "__init__.py").write_text(
        "import outside.always\n"
        "try:\n    from . import maybe\nexcept ImportError:\n    from . import fallback\n"
        "def __getattr__(name):\n    from . import lazy\n    return lazy\n"
    )
    found = closure(["outside.rule"]).keys()
    assert {"outside.always", "outside.maybe", "outside.fallback"} <= found
    assert "outside.lazy" not in found


def test_modules_that_import_each_other_are_read_once(package):
    package(one="import outside.two\n", two="import outside.one\n")
    assert closure(["outside.one"]).keys() == {"outside", "outside.one", "outside.two"}


def test_digests_come_in_the_order_of_names_whatever_the_order_asked(plugin):
    file = plugin("import methods\n")
    modules = ["tasks.scales", TRAINING, "methods.mgda"]
    assert list(closure(modules, [file]).items()) == list(closure(modules[::-1], [file]).items())
    assert list(closure(modules)) == sorted(closure(modules))
