"""Names, options and plug-ins, read without importing what they name."""

import inspect
import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import methods
from methods.core import names
from methods.core import registry as registry_module
from methods.core.compose import compose
from methods.core.names import UsageError, split
from methods.core.options import REQUIRED, Option
from methods.core.registry import DESCRIBED, Registry
from methods.core.rules import PROVIDED

ROOT = Path(methods.__file__).parents[1]


def problem(variant, **options):
    """The one line that a wrong variant is answered with."""
    with pytest.raises(UsageError) as raised:
        methods.parse(variant, **options)
    message = str(raised.value)
    assert "\n" not in message
    assert message
    return message


WEIGH = """
    def weigh(self, losses):
        return torch.ones(len(losses))
"""
KEYWORD = """
    def weigh(self, *, gramian):
        return gramian.diagonal()
"""
COMBINE = """
    def combine(self, jacobian):
        return jacobian.sum(0)
"""
EXTRA = """
    def extra(self, inputs, taps):
        return torch.zeros(self.num_tasks)
"""


@pytest.fixture
def plugin(tmp_path):
    """Write a file with a class `Rule` of these options, and return its variant's name."""

    def write(signature="", body=WEIGH, head="from methods.core.base import Method", name="rule.py"):
        comma = f", {signature}" if signature else ""
        (tmp_path / name).write_text(
            f'''"""A rule from outside."""
import torch
from typing import Literal
{head}

class Rule(Method):
    """Weigh by options.

    More words.
    """

    def __init__(self, num_tasks: int{comma}):
        super().__init__(num_tasks)
        self.given = {{name: value for name, value in locals().items() if name not in ("self", "__class__")}}
{body}'''
        )
        return f"{tmp_path / name}:Rule"

    return write


# Variants --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "full", "short"),
    [
        ("equal", "equal", "equal"),
        ("mgda", "mgda[at=shared,every=1,heads=plain,norm=own,normalize=none]", "mgda"),
        ("mgda[]", "mgda[at=shared,every=1,heads=plain,norm=own,normalize=none]", "mgda"),
        (
            " mgda[ norm = sum ,at=shared] ",
            "mgda[at=shared,every=1,heads=plain,norm=sum,normalize=none]",
            "mgda[norm=sum]",
        ),
        (
            "mgda[normalize=loss+]",
            "mgda[at=shared,every=1,heads=plain,norm=own,normalize=loss+]",
            "mgda[normalize=loss+]",
        ),
        ("mgda[at=last]", "mgda[at=last,every=1,heads=plain,norm=own,normalize=none]", "mgda[at=last]"),
        ("uncertainty[lr=2.50e-2]", "uncertainty[init=0,lr=0.025]", "uncertainty"),
        ("uncertainty[lr=1]", "uncertainty[init=0,lr=1]", "uncertainty[lr=1]"),
        ("uncertainty[lr=1.0,init=-.5]", "uncertainty[init=-0.5,lr=1]", "uncertainty[init=-0.5,lr=1]"),
        ("uncertainty[lr=0.1000000000000000055]", "uncertainty[init=0,lr=0.1]", "uncertainty[lr=0.1]"),
    ],
)
def test_a_variant_has_one_canonical_form_and_a_short_label(written, full, short):
    parts = methods.parse(written)
    assert parts.full == full
    assert parts.label == short
    assert methods.parse(full).full == full
    assert methods.parse(short).full == full


def test_options_may_be_keywords():
    by_keyword = methods.parse("mgda", normalize="loss+", at="features")
    assert by_keyword.full == methods.parse("mgda[normalize=loss+,at=features]").full
    assert methods.parse("uncertainty", lr=0.5).full == methods.parse("uncertainty[lr=0.5]").full


def test_separators_in_brackets_do_not_separate():
    assert split("kd[variant=url]+mgda[normalize=loss+]", "+") == ["kd[variant=url]", "mgda[normalize=loss+]"]
    assert split("a[x=1,y=2],b", ",") == ["a[x=1,y=2]", "b"]
    assert split("a", "+") == ["a"]


def test_what_adds_terms_comes_first_and_the_balancer_last(plugin):
    adding = plugin(body=WEIGH + EXTRA)
    for written in (f"mgda+{adding}", f"{adding}+mgda"):
        assert [part.entry.class_name for part in methods.parse(written).parts] == ["Rule", "MGDA"]
        method = methods.create(written, num_tasks=2)
        assert type(method).__name__ == "MGDA"
        assert [type(part).__name__ for part in method.added] == ["Rule"]
    assert "only one can balance" in problem("equal+mgda")
    assert "brackets" in problem(f"{adding}+mgda", at="shared")
    assert problem(f"{adding}+{adding}")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("mdga", "unknown method 'mdga': did you mean 'mgda'?"),
        ("uncertainity", "did you mean 'uncertainty'?"),
        ("zzzz", "unknown method 'zzzz': there is "),
        ("", "unknown method ''"),
        ("mgda+", "unknown method ''"),
        ("mgda[normalise=l2]", "mgda has no option 'normalise': did you mean 'normalize'?"),
        ("mgda[normalize=l3]", "mgda[normalize=l3]: it takes none or l2 or loss or loss+"),
        ("mgda[at=cut]", "mgda[at=cut]: it takes shared or features or last"),
        ("mgda[at=shared", "a bracket is not closed"),
        ("mgda[at]", "mgda[key=value,…]"),
        ("equal[lr=1]", "equal has no option 'lr': equal takes none"),
        ("equal[norm=sum]", "equal has no option 'norm'"),
        ("uncertainty[norm=sum]", "uncertainty has no option 'norm'"),
        ("uncertainty[lr=fast]", "uncertainty[lr=fast]: it takes a value of type float"),
        ("mgda[num_tasks=3]", "mgda has no option 'num_tasks'"),
        ("mgda[norm=sum,at=features]", "norm=sum needs"),
        ("mgda[norm=sum,at=last]", "norm=sum needs"),
        ("mgda[norm=sum,every=2]", "norm=sum needs"),
        ("mgda[every=0]", "every=0 should be"),
        ("nowhere.py:Rule", "there is no file nowhere.py"),
    ],
)
def test_a_wrong_name_is_answered_in_one_line(wrong, says):
    assert says in problem(wrong)


# Options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "written", "value"),
    [
        ("int", "3", 3),
        ("float", "3", 3.0),
        ("float", "-1e-3", -0.001),
        ("bool", "true", True),
        ("bool", "no", False),
        ("str", "a.b", "a.b"),
        ("str", "none", "none"),
        ("Literal['a', 'b']", "b", "b"),
        ("tuple[float, ...]", "1:2:1", (1.0, 2.0, 1.0)),
        ("tuple[int, ...]", "4", (4,)),
        ("float | None", "none", None),
        ("float | None", "0.5", 0.5),
        ("int | None", "7", 7),
        ("tuple[float, ...] | None", "none", None),
        ("tuple[float, ...] | None", "1:2", (1.0, 2.0)),
    ],
)
def test_an_option_is_read_by_its_type(plugin, annotation, written, value):
    name = plugin(f"x: {annotation}")
    (part,) = methods.parse(f"{name}[x={written}]").parts
    assert part.values["x"] == value
    assert type(part.values["x"]) is type(value)
    assert methods.create(f"{name}[x={written}]", num_tasks=2).given["x"] == value
    assert methods.parse(part.full).full == part.full


@pytest.mark.parametrize(
    ("annotation", "written"),
    [
        ("int", "1.5"),
        ("int", "none"),
        ("float", "x"),
        ("bool", "perhaps"),
        ("Literal['a', 'b']", "c"),
        ("tuple[float, ...]", "1:x"),
        ("float | None", "x"),
        ("tuple[float, ...] | None", "1:x"),
    ],
)
def test_a_value_of_another_type_is_refused(plugin, annotation, written):
    message = problem(f"{plugin(f'x: {annotation}')}[x={written}]")
    assert f"[x={written}]: it takes" in message


@pytest.mark.parametrize(
    ("default", "text"),
    [
        ("float = 1e-3", "0.001"),
        ("float = -0.5", "-0.5"),
        ("bool = True", "true"),
        ("float | None = None", "none"),
        ("tuple[float, ...] = (1.0, 2.5)", "1:2.5"),
        ("str = 'a'", "a"),
    ],
)
def test_defaults_are_written_as_they_would_be_read(plugin, default, text):
    name = plugin(f"x: {default}")
    full = methods.parse(name).full
    assert full.endswith(f":Rule[x={text}]")
    assert methods.parse(full).full == full
    assert methods.parse(full).label == "rule.py:Rule"


def test_an_option_without_default_must_be_given(plugin):
    name = plugin("weights: tuple[float, ...], other: int = 1")
    assert "needs weights: write" in (message := problem(name))
    assert "separated by ':'" in message
    assert methods.create(f"{name}[weights=1:2]", num_tasks=2).given["weights"] == (1.0, 2.0)
    assert methods.create(name, num_tasks=2, weights=(1, 2)).given["weights"] == (1.0, 2.0)


def test_keyword_only_options_count(plugin):
    name = plugin("*, x: int = 2")
    assert methods.create(f"{name}[x=5]", num_tasks=2).given["x"] == 5


def test_a_value_with_a_slash_stays_whole_in_the_label(plugin):
    parts = methods.parse(f"{plugin('folder: str')}[folder=data/nyuv2]")
    assert parts.label == "rule.py:Rule[folder=data/nyuv2]"


# Plug-ins --------------------------------------------------------------------------------------------------


def test_a_file_of_ones_own_is_a_method(plugin):
    name = plugin("x: float = 0.5")
    method = methods.create(f"{name}[x=2]", num_tasks=4)
    assert isinstance(method, methods.Method)
    assert method.num_tasks == 4
    assert method.given == {"num_tasks": 4, "x": 2.0}
    assert methods.registry.describe(methods.registry.find(name)).summary == "Weigh by options."


def test_one_public_class_need_not_be_named(plugin):
    path = plugin().removesuffix(":Rule")
    assert methods.parse(path).full == methods.parse(f"{path}:Rule").full


def test_a_wrong_class_or_none_of_two_is_answered_with_what_there_is(plugin):
    path = plugin(head="from methods.core.base import Method\nclass Other(Method): ...\nclass _Hidden: ...")
    path = path.removesuffix(":Rule")
    assert "there is no class Rul;" in problem(f"{path}:Rul")
    assert "has Other, Rule" in problem(path)


def test_a_file_that_is_not_python_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("class Rule(:\n")
    assert "broken.py is not Python" in problem(f"{tmp_path}/broken.py")


def test_two_files_of_one_name_are_two_plugins(plugin, tmp_path):
    (tmp_path / "sub").mkdir()
    one, two = plugin(body="\n    tag = 1\n"), plugin(body="\n    tag = 2\n", name="sub/rule.py")
    assert [methods.create(name, num_tasks=1).tag for name in (one, two)] == [1, 2]


INHERITING = {
    "by name": ("from methods.mgda import MGDA", "MGDA"),
    "by another name": ("from methods.mgda import MGDA as Base", "Base"),
    "through its module": ("import methods.mgda", "methods.mgda.MGDA"),
    "through its module's name": ("from methods import mgda", "mgda.MGDA"),
}


@pytest.mark.parametrize("how", INHERITING)
def test_a_plugin_that_extends_a_builtin_has_its_options(tmp_path, how):
    statement, base = INHERITING[how]
    (tmp_path / "mine.py").write_text(f"{statement}\n\nclass Mine({base}):\n    at = 'features'\n")
    parts = methods.parse(f"{tmp_path}/mine.py[normalize=l2]")
    assert parts.parts[0].values == {
        "normalize": "l2",
        "at": "features",
        "heads": "plain",
        "norm": "own",
        "every": 1,
    }
    method = methods.create(f"{tmp_path}/mine.py[normalize=l2,at=shared]", num_tasks=2)
    assert (method.normalize, method.at) == ("l2", "shared")


def test_a_rule_that_names_the_gramian_by_keyword_measures_too(plugin):
    (part,) = methods.parse(f"{plugin(body=KEYWORD)}[at=features]").parts
    assert part.values["at"] == "features"


def test_a_rule_that_combines_cannot_measure_at_the_last_layer(plugin):
    assert "shared or features" in problem(f"{plugin(body=COMBINE)}[at=last]")


@pytest.fixture
def entry_point(monkeypatch, tmp_path):
    """Pretend that a distribution was installed whose entry points are these."""

    def install(**points):
        monkeypatch.syspath_prepend(str(tmp_path))

        def entry_points(group):
            assert group == "mtl_bench.methods"
            return [EntryPoint(name, value, group) for name, value in points.items()]

        monkeypatch.setattr(registry_module, "entry_points", entry_points)

    return install


def test_an_installed_distribution_adds_a_method(entry_point, plugin):
    plugin("x: int = 3", name="outside_rule.py")
    entry_point(outside="outside_rule:Rule")
    assert "outside" in methods.registry.entries()
    assert methods.parse("outside[x=4]").full == "outside[x=4]"
    assert methods.create("outside", num_tasks=2).given["x"] == 3
    assert "did you mean 'outside'?" in problem("outsider")


def test_an_installed_distribution_does_not_replace_a_builtin(entry_point, plugin):
    plugin(name="other_equal.py")
    entry_point(equal="other_equal:Rule")
    assert methods.registry.entries()["equal"].class_name == "Equal"
    assert type(methods.create("equal", num_tasks=2)).__name__ == "Equal"


def test_an_installed_rule_may_extend_a_neighbour_in_its_package(entry_point, tmp_path):
    package = tmp_path / "their_rules"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "base.py").write_text("from methods.mgda import MGDA\nclass Base(MGDA): ...\n")
    (package / "rule.py").write_text("from .base import Base\nclass Rule(Base): ...\n")
    entry_point(theirs="their_rules.rule:Rule")
    assert methods.create("theirs[normalize=l2]", num_tasks=2).normalize == "l2"


@pytest.mark.parametrize("value", ["not_there:Rule", "not_there.at_all:Rule", "json", "json:", ":Rule", "a b:C", ""])
def test_a_broken_distribution_is_left_out_with_a_warning_and_takes_no_other_along(entry_point, caplog, value):
    entry_point(broken=value, fine="json:JSONDecoder")
    assert {"mgda", "fine"} <= methods.registry.entries().keys()
    assert "broken" not in methods.registry.entries()
    assert f"the method 'broken' is left out: there is no {value}" in caplog.text
    assert methods.parse("mgda")


ODD = {
    "no Python": ("class Rule(:", "odd.py is not Python: "),
    "no such class": ("x = 1", "there is no class Rule in odd"),
    "no rule": ("class Rule: ...", "method 'odd': Rule is no Method"),
    "an import that fails": (
        "import not_there",
        "odd cannot be imported: ModuleNotFoundError: No module named 'not_there'",
    ),
    "an exception": ("1 / 0", "odd cannot be imported: ZeroDivisionError: division by zero"),
    "an exit": ("import sys; sys.exit(0)", "odd cannot be imported: SystemExit: 0"),
    "bases that want each other": (
        "from methods import Method\nclass Rule(Rule): ...",
        "odd cannot be imported: NameError: name 'Rule' is not defined",
    ),
    "a type that is none": (
        "from methods import Method\nclass Rule(Method):\n def __init__(self, num_tasks, x: 3): ...",
        "odd: the option x must be annotated as int, float, str, bool, Path, Literal[…], a list or tuple",
    ),
    "a type that fails": (
        "from methods import Method\nclass Rule(Method):\n def __init__(self, num_tasks, x: int.foo = 1): ...",
        "odd cannot be imported: AttributeError: ",
    ),
}


@pytest.mark.parametrize("how", ODD)
def test_an_odd_plug_in_is_one_line_when_it_is_named_and_nothing_before(entry_point, tmp_path, monkeypatch, how):
    text, said = ODD[how]
    (tmp_path / "odd.py").write_text(text)
    entry_point(odd="odd:Rule")
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    assert {"odd", "mgda"} <= methods.registry.entries().keys()
    assert methods.parse("mgda")
    assert "odd" not in sys.modules
    assert said in problem("odd")
    monkeypatch.delitem(sys.modules, "odd", raising=False)


EVIL = """lr: [c for c in ().__class__.__base__.__subclasses__() if c.__name__ == "_wrap_close"
][0].__init__.__globals__["system"]("touch pwned") = 1"""


def test_nothing_of_another_distribution_runs_before_it_is_named(entry_point, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text(
        "raise SystemExit\nfrom methods import Method\nclass Rule(Method):\n"
        f" def __init__(self, num_tasks, {EVIL}): ...\n"
    )
    entry_point(evil="evil:Rule")
    assert methods.registry.entries()["evil"].module == "evil"
    problem("evi")
    assert "cannot be imported: SystemExit" in problem("evil")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["all", "stl", "a b", "a.py", "a[b]", "a+b"])
def test_a_name_that_means_something_else_is_left_out(entry_point, caplog, name):
    entry_point(**{name: "json:JSONDecoder"})
    assert name not in methods.registry.entries()
    assert f"the method '{name}' is left out: the name means something else" in caplog.text


# Ordinary Python --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "written", "value"),
    [
        ("Optional[float]", "none", None),
        ("Optional[float]", "2", 2.0),
        ("Optional[list[int]]", "1:2", [1, 2]),
        ("Union[int, None]", "2", 2),
        ("list[float]", "1:2.5", [1.0, 2.5]),
        ("list[str]", 'a:"b:c":d', ["a", "b:c", "d"]),
        ("list[int]", "", []),
        ("Sequence[float]", "1:2", [1.0, 2.0]),
        ("tuple[int, int]", "1:2", (1, 2)),
        ("Path", "some/where", Path("some/where")),
        ("Path | None", "none", None),
        ("Literal['a', 'b'] | None", "none", None),
        ("Literal[1, 2]", "2", 2),
        ("Annotated[float, 'a rate']", "0.5", 0.5),
        ("str | None", '"none"', "none"),
        ("str", '"a,b]+c="', "a,b]+c="),
        ("float", "0.30000000000000004", 0.30000000000000004),
        ("float = math.pi", "1", 1.0),
        ("float = TWO", "1", 1.0),
    ],
)
@pytest.mark.parametrize("future", [False, True])
def test_types_and_defaults_may_be_whatever_python_knows(plugin, annotation, written, value, future):
    head = """import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional, Union
from methods import Method
TWO = 2.0
"""
    name = plugin(f"x: {annotation}", head=head)
    if future:
        file = Path(name.removesuffix(":Rule"))
        file.write_text("from __future__ import annotations\n" + file.read_text())
    (part,) = methods.parse(f"{name}[x={written}]").parts
    assert part.values["x"] == value
    again = methods.parse(part.full)
    assert again.parts[0].values["x"] == value
    assert again.full == part.full


def test_an_option_without_a_type_is_of_its_defaults(plugin):
    (part,) = methods.parse(f"{plugin('x=0.5, y=None, z=2')}[x=1,y=a]").parts
    assert (part.values["x"], part.values["y"], part.values["z"]) == (1.0, "a", 2)


@pytest.mark.parametrize("annotation", ["Callable[[], int]", "dict[str, int]", "Kind", "list[Kind]", "Unknown", "Any"])
def test_what_text_cannot_say_is_no_option_and_needs_a_default(plugin, annotation):
    annotation = repr(annotation)  # as text, since one of them is defined nowhere
    head = """from collections.abc import Callable
from enum import Enum
from typing import Any
from methods import Method
class Kind(Enum):
    ONE = 1
"""
    assert "has no option 'x'" in problem(f"{plugin(f'x: {annotation} = None, y: int = 1', head=head)}[x=1]")
    assert methods.create(plugin(f"x: {annotation} = None", head=head), num_tasks=2).given["x"] is None
    assert "the option x must be annotated as int, float" in problem(plugin(f"x: {annotation}", head=head))


def test_a_named_constant_is_a_default_like_any_other(plugin):
    variant = methods.parse(plugin("x: float = math.pi", head="import math\nfrom methods import Method"))
    assert variant.label == "rule.py:Rule"
    assert variant.full.endswith("[x=3.141592653589793]")


def test_what_is_passed_on_to_the_base_is_an_option_too(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from methods.mgda import MGDA\nclass Mine(MGDA):\n"
        "    def __init__(self, num_tasks, beta: float = 1.0, **others):\n"
        "        super().__init__(num_tasks, **others)\n"
    )
    assert methods.create(f"{tmp_path}/mine.py[beta=2,normalize=l2]", num_tasks=2).normalize == "l2"


@pytest.mark.parametrize(
    "statement", ["from base import Base", "from .base import Base", "import base; Base = base.Base"]
)
@pytest.mark.parametrize("package", [False, True])
def test_a_base_class_may_be_in_the_file_next_to_it(tmp_path, statement, package):
    found = []
    for number in (1, 2):  # two folders, whose files have the same names
        folder = tmp_path / f"family{number}"
        folder.mkdir()
        (folder / "base.py").write_text(f"from methods.mgda import MGDA\nclass Base(MGDA):\n    tag = {number}\n")
        (folder / "rule.py").write_text(f"{statement}\nclass Rule(Base): ...\n")
        if package:
            (folder / "__init__.py").write_text("")
        method = methods.create(f"{folder}/rule.py[normalize=l2]", num_tasks=2)
        assert method.normalize == "l2"
        found.append(method.tag)
    assert found == [1, 2]
    assert "base" not in sys.modules


def test_a_relative_import_may_climb_in_a_package(tmp_path):
    (tmp_path / "family" / "rules").mkdir(parents=True)
    for folder in (tmp_path / "family", tmp_path / "family" / "rules"):
        (folder / "__init__.py").write_text("")
    (tmp_path / "family" / "base.py").write_text("from methods.mgda import MGDA as Base\n")
    (tmp_path / "family" / "rules" / "rule.py").write_text("from ..base import Base\nclass Rule(Base): ...\n")
    assert methods.create(f"{tmp_path}/family/rules/rule.py", num_tasks=2).normalize == "none"


def test_an_edit_of_the_base_is_seen(tmp_path):
    (tmp_path / "rule.py").write_text("from base import Base\nclass Rule(Base): ...\n")
    for tag in (1, 2):
        (tmp_path / "base.py").write_text(f"from methods.mgda import MGDA\nclass Base(MGDA):\n    tag = {tag}\n")
        assert methods.create(f"{tmp_path}/rule.py", num_tasks=2).tag == tag


def test_the_projects_own_modules_are_never_imported_twice(plugin):
    from methods.core.base import Method

    assert issubclass(methods.registry.find(plugin()).load(), Method)
    assert sys.modules["methods.core.base"].Method is Method


def test_where_an_import_fails_is_said_with_file_and_line(tmp_path):
    (tmp_path / "base.py").write_text("\n\nimport not_there\n")
    (tmp_path / "rule.py").write_text("import base\n")
    said = problem(f"{tmp_path}/rule.py:Rule")
    assert f"No module named 'not_there' ({tmp_path}/base.py, line 3)" in said


def test_a_script_that_runs_the_benchmark_on_itself_is_told_to_guard_it(tmp_path):
    (tmp_path / "script.py").write_text("import methods\nmethods.parse(__file__)\n")
    assert "put that under if __name__ == '__main__':" in problem(f"{tmp_path}/script.py:Rule")


# Names of files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["a,b", "a+b", "a[b]", 'a"b', "a b", "a=b", "a:b", "x.py", "ä"])
def test_a_path_with_odd_signs_can_be_written_and_is_written_so(plugin, tmp_path, folder):
    (tmp_path / folder).mkdir()
    path = plugin("x: int = 1", name=f"{folder}/rule.py").removesuffix(":Rule")
    quoted = '"' + path.replace('"', '\\"') + '":Rule'
    variant = methods.parse(f"{quoted}[x=2]")
    assert variant.parts[0].entry.file == Path(path)
    assert variant.label == "rule.py:Rule[x=2]"
    assert methods.parse(variant.full) == variant
    assert split(f"{variant.full},mgda+{variant.full}", ",") == [variant.full, f"mgda+{variant.full}"]


def test_a_quote_that_is_not_closed_is_said():
    assert problem('"a,b/rule.py:Rule').startswith('"a,b/rule.py:Rule: a quote is not closed; a quote itself is')


def test_a_relative_and_an_absolute_path_are_one_rule(plugin, tmp_path, monkeypatch):
    name = plugin(name="mine.py")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    texts = ["mine.py:Rule", "mine.py", name, "./mine.py:Rule", "sub/../mine.py:Rule"]
    assert {methods.parse(text).stable for text in texts} == {"mine.py:Rule"}
    monkeypatch.chdir(tmp_path / "sub")
    assert methods.parse("../mine.py").stable == name


@pytest.mark.parametrize("name", ["x" * 300 + ".py", "x/" * 3000 + "r.py", "a\0b.py"])
def test_a_path_that_cannot_be_is_no_file(name):
    assert "there is no file" in problem(name)


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8)


@given(name=words.filter(bool), values=st.dictionaries(st.from_regex(r"[a-z]+", fullmatch=True), words, max_size=3))
def test_text_to_part_to_text_is_the_identity(name, values):
    text = names.written(
        names.quoted(name, names.IN_NAMES), {k: names.quoted(v, names.IN_VALUES) for k, v in values.items()}
    )
    read = names.read(text)
    assert read.name == name
    assert {key: names.plain(value) for key, value in read.options.items()} == values
    assert split(f"{text}+{text},{text}", ",") == [f"{text}+{text}", text]


@given(
    kind=st.sampled_from([str, str | None, list[str], tuple[str, ...], float, int | None, list[float]]), data=st.data()
)
def test_value_to_text_to_value_is_the_identity(kind, data):
    value = data.draw(st.from_type(kind).filter(lambda v: "nan" not in str(v) and "\0" not in str(v)))
    option = Option(kind)
    text = option.write(value)
    [item] = names.read(f"x[y={text}]").options.values()
    assert option.read(item) == value
    assert option.write(option.read(item)) == text


# The stable form --------------------------------------------------------------------------------------------


def test_an_option_that_is_added_renames_no_variant(plugin, monkeypatch):
    before = [methods.parse(text).stable for text in ("mgda", "mgda[normalize=l2]", "kd+mgda", "equal")]
    by_path = plugin("x: float = 1.0")
    outside = [methods.parse(f"{by_path}{options}").stable for options in ("", "[x=2]")]
    find = Registry.describe

    def added(self, entry):
        found = find(self, entry)
        return replace(found, options={**found.options, "aaa": Option(int, 1), "bbb": Option(int, 1)})

    monkeypatch.setattr(Registry, "describe", added)
    assert [methods.parse(text).stable for text in ("mgda", "mgda[normalize=l2]", "kd+mgda", "equal")] == before
    assert [methods.parse(f"{by_path}{options}").stable for options in ("", "[x=2]")] == outside
    assert methods.parse("mgda[bbb=2]").stable == "mgda[at=shared,bbb=2,norm=own,normalize=none]"
    assert methods.parse("mgda").full == "mgda[aaa=1,at=shared,bbb=1,every=1,heads=plain,norm=own,normalize=none]"


def test_options_of_today_are_written_at_their_default_by_built_ins_only(plugin):
    assert methods.parse("uncertainty").stable == "uncertainty[init=0,lr=0.025]"
    assert methods.parse(plugin("x: float = 1.0")).stable.endswith("rule.py:Rule")


# Objects ----------------------------------------------------------------------------------------------------


def test_a_variant_is_a_value_that_can_be_sent(plugin):
    variant = methods.parse(f"{plugin('x: float = 1.0')}[x=2]")
    again = pickle.loads(pickle.dumps(variant))
    assert (again, hash(again)) == (variant, hash(variant))
    assert compose(again.parts, num_tasks=2).given["x"] == 2
    assert methods.parse(again) is again


def test_a_class_is_the_plug_in_of_its_file(plugin):
    from methods.mgda import MGDA

    assert methods.parse(MGDA) == methods.parse("mgda")
    assert methods.parse(MGDA, normalize="l2") == methods.parse("mgda[normalize=l2]")
    name = plugin("x: int = 3")
    assert methods.parse(methods.registry.find(name).load()).stable == methods.parse(name).stable
    assert methods.create(MGDA, num_tasks=2).normalize == "none"
    assert "int: it is no subclass of Method" in problem(int)


def test_a_class_inside_a_function_is_refused_in_words():
    class Mine(methods.Method):
        def weigh(self, losses):
            return losses

    assert "define the class at the top of its file" in problem(Mine)


def test_a_class_of_no_file_is_itself():
    space = {"__name__": "__main__"}
    exec("from methods import Method\nclass Mine(Method):\n def weigh(self, losses): return losses", space)
    space["Mine"].__module__ = "not_a_module"
    variant = methods.parse(space["Mine"])
    assert (variant.stable, variant.label) == ("not_a_module:Mine", "Mine")
    assert type(methods.create(variant, num_tasks=2)) is space["Mine"]


# Listing and building --------------------------------------------------------------------------------------


def test_the_listing_is_the_folder():
    files = {file.stem for file in (ROOT / "methods").glob("*.py")} - {"__init__"}
    assert {entry.name for entry in methods.registry.entries().values() if entry.module} >= files
    assert {"equal", "uncertainty", "mgda"} <= files


def test_every_builtin_says_in_a_line_what_it_does():
    for entry in methods.registry.entries().values():
        summary = methods.registry.describe(entry).summary
        assert summary.endswith("."), entry.name
        assert entry.load().__doc__.strip().startswith(summary)


COMMON = ("at", "heads", "norm", "every")
"""The options of every rule that measures gradients. They are attributes of the class, not arguments."""


def test_what_the_package_ships_is_what_python_sees():
    for name, entry in methods.registry.entries().items():
        rule, options = entry.load(), methods.registry.options(entry)
        seen = {key: argument.default for key, argument in inspect.signature(rule).parameters.items()}
        own = {key: option.default for key, option in options.items() if key not in COMMON}
        for key, default in own.items():
            assert seen[key] == (inspect.Parameter.empty if default is REQUIRED else default), (name, key)
        assert seen.keys() - own.keys() <= PROVIDED, name
        for key in options.keys() - own.keys():
            assert getattr(rule, key) == options[key].default, (name, key)


def test_the_shipped_description_is_that_of_the_classes():
    """After an edit: python -m bench.catalogue"""
    assert (methods.registry.folder / DESCRIBED).read_text("utf-8") == methods.registry.ship()


def test_a_built_in_file_that_is_not_described_is_imported_and_right(tmp_path, monkeypatch):
    """An edited file, and one that was added: their digests are not in the shipped description."""
    for file in methods.registry.folder.glob("*.py"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (tmp_path / "mgda.py").read_text().replace('= "none"', '= "l2"')
    (tmp_path / "mgda.py").write_text(text)
    (tmp_path / "added.py").write_text("from methods.mgda import MGDA\nclass Added(MGDA): ...\n")
    (tmp_path / DESCRIBED).write_bytes((methods.registry.folder / DESCRIBED).read_bytes())
    script = (
        f"import methods\nmethods.__path__.insert(0, {str(tmp_path)!r})\n"
        + """
from pathlib import Path
from methods.core.registry import Registry
Registry.folder = property(lambda self: Path(methods.__path__[0]))
print(methods.parse("mgda").full, methods.parse("added").full, sorted(methods.registry.built_in()), sep="\\n")
"""
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "mgda[at=shared,every=1,heads=plain,norm=own,normalize=l2]",
        "added[at=shared,every=1,heads=plain,norm=own,normalize=l2]",
        str(sorted([*methods.registry.built_in(), "added"])),
    ]


FRESH = """
import sys, time
import methods
for name, entry in methods.registry.entries().items():
    methods.registry.describe(entry)
methods.parse("mgda[normalize=l2]")
try:
    methods.parse("mdga")
except methods.UsageError as problem:
    print(problem)
print([name for name in ("torch", "scipy", "numpy") if name in sys.modules])
"""


def test_listing_and_wrong_names_import_no_torch():
    command = [sys.executable, "-c", FRESH]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines() == ["unknown method 'mdga': did you mean 'mgda'?", "[]"]


DRAWING = """
import torch
from methods.core.base import Method

class Drawing(Method):
    def __init__(self, num_tasks):
        super().__init__(num_tasks)
        self.drawn = torch.rand(3, generator=self.generator).tolist()
"""


def test_a_seed_fixes_a_rules_draws_and_nothing_else(plugin):
    name = plugin()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    generators = [methods.create(name, num_tasks=2, seed=seed).generator for seed in (1, 1, 2)]
    draws = [torch.rand(3, generator=generator).tolist() for generator in generators]
    assert draws[0] == draws[1] != draws[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_reaches_what_is_drawn_while_the_rule_is_built(tmp_path):
    (tmp_path / "drawing.py").write_text(DRAWING)
    one, two = (methods.create(f"{tmp_path}/drawing.py", num_tasks=2, seed=seed).drawn for seed in (1, 2))
    assert one != two


def test_options_reach_the_method():
    method = methods.create("mgda[at=features,normalize=l2]", num_tasks=3)
    assert (method.at, method.norm, method.normalize, method.num_tasks) == ("features", "own", "l2", 3)
    assert type(method).at == "shared"  # and nobody else's
    assert methods.create("mgda[norm=sum]", num_tasks=3).norm == "sum"


def test_a_plugins_file_is_imported_on_use_and_once(plugin):
    name = plugin(name="good.py")
    assert type(methods.create(name, num_tasks=1)) is type(methods.create(name, num_tasks=2))
    name = plugin(head="from methods.core.base import Method\nraise RuntimeError('imported')", name="bad.py")
    for _ in range(2):
        assert problem(name).endswith("bad.py cannot be imported: RuntimeError: imported (line 5)")


def test_a_path_may_begin_at_home(plugin, monkeypatch):
    path = Path(plugin("x: int = 1").removesuffix(":Rule"))
    monkeypatch.setenv("HOME", str(path.parent))
    assert methods.parse(f"~/{path.name}:Rule").parts[0].entry.file == path


@pytest.mark.parametrize("argument", ["x: torch.Tensor = torch.ones(2)", "x: dict[str, int] = {}"])
def test_an_argument_that_text_cannot_say_is_no_option_and_the_error_says_why(plugin, argument):
    rule = plugin(argument)
    assert "x" not in methods.parse(rule).parts[0].values
    assert "has no option 'x': its argument must be annotated as int, float" in problem(f"{rule}[x=1]")
