"""Names, options and plug-ins, read without importing what they name."""

import inspect
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import methods
from methods.core import registry as registry_module
from methods.core.registry import REQUIRED, UsageError, canonical, label, split

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
        ("mgda", "mgda[at=shared,norm=own,normalize=none]", "mgda"),
        ("mgda[]", "mgda[at=shared,norm=own,normalize=none]", "mgda"),
        (" mgda[ norm = sum ,at=shared] ", "mgda[at=shared,norm=sum,normalize=none]", "mgda[norm=sum]"),
        ("mgda[normalize=loss+]", "mgda[at=shared,norm=own,normalize=loss+]", "mgda[normalize=loss+]"),
        ("mgda[at=last]", "mgda[at=last,norm=own,normalize=none]", "mgda[at=last]"),
        ("uncertainty[lr=2.50e-2]", "uncertainty[init=0,lr=0.025]", "uncertainty"),
        ("uncertainty[lr=1]", "uncertainty[init=0,lr=1]", "uncertainty[lr=1]"),
        ("uncertainty[lr=1.0,init=-.5]", "uncertainty[init=-0.5,lr=1]", "uncertainty[init=-0.5,lr=1]"),
        ("uncertainty[lr=0.1000000000000000055]", "uncertainty[init=0,lr=0.1]", "uncertainty[lr=0.1]"),
    ],
)
def test_a_variant_has_one_canonical_form_and_a_short_label(written, full, short):
    parts = methods.parse(written)
    assert canonical(parts) == full
    assert label(parts) == short
    assert canonical(methods.parse(full)) == full
    assert canonical(methods.parse(short)) == full


def test_options_may_be_keywords():
    by_keyword = methods.parse("mgda", normalize="loss+", at="features")
    assert canonical(by_keyword) == canonical(methods.parse("mgda[normalize=loss+,at=features]"))
    assert canonical(methods.parse("uncertainty", lr=0.5)) == canonical(methods.parse("uncertainty[lr=0.5]"))


def test_separators_in_brackets_do_not_separate():
    assert split("kd[variant=url]+mgda[normalize=loss+]", "+") == ["kd[variant=url]", "mgda[normalize=loss+]"]
    assert split("a[x=1,y=2],b", ",") == ["a[x=1,y=2]", "b"]
    assert split("a", "+") == ["a"]


def test_what_adds_terms_comes_first_and_the_balancer_last(plugin):
    adding = plugin(body=WEIGH + EXTRA)
    for written in (f"mgda+{adding}", f"{adding}+mgda"):
        assert [part.entry.class_name for part in methods.parse(written)] == ["Rule", "MGDA"]
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
    (part,) = methods.parse(f"{name}[x={written}]")
    assert part.values["x"] == value
    assert type(part.values["x"]) is type(value)
    assert methods.create(f"{name}[x={written}]", num_tasks=2).given["x"] == value
    assert canonical(methods.parse(canonical([part]))) == canonical([part])


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
    full = canonical(methods.parse(name))
    assert full.endswith(f":Rule[x={text}]")
    assert canonical(methods.parse(full)) == full
    assert label(methods.parse(full)) == "rule.py:Rule"


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
    assert label(parts) == "rule.py:Rule[folder=data/nyuv2]"


# Plug-ins --------------------------------------------------------------------------------------------------


def test_a_file_of_ones_own_is_a_method(plugin):
    name = plugin("x: float = 0.5")
    method = methods.create(f"{name}[x=2]", num_tasks=4)
    assert isinstance(method, methods.Method)
    assert method.num_tasks == 4
    assert method.given == {"num_tasks": 4, "x": 2.0}
    entry = methods.registry.find(name)
    assert entry.summary == "Weigh by options."
    assert "More words." in entry.doc


def test_one_public_class_need_not_be_named(plugin):
    path = plugin().removesuffix(":Rule")
    assert canonical(methods.parse(path)) == canonical(methods.parse(f"{path}:Rule"))


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
    assert parts[0].values == {"normalize": "l2", "at": "features", "norm": "own"}
    method = methods.create(f"{tmp_path}/mine.py[normalize=l2,at=shared]", num_tasks=2)
    assert (method.normalize, method.at) == ("l2", "shared")


def test_a_rule_that_names_the_gramian_by_keyword_measures_too(plugin):
    (part,) = methods.parse(f"{plugin(body=KEYWORD)}[at=features]")
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
    assert canonical(methods.parse("outside[x=4]")) == "outside[x=4]"
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


@pytest.mark.parametrize("value", ["not_there:Rule", "not_there.at_all:Rule"])
def test_a_broken_distribution_does_not_take_the_others_along(entry_point, value):
    entry_point(broken=value)
    assert "mgda" in methods.registry.entries()
    assert methods.parse("mgda")


# Listing and building --------------------------------------------------------------------------------------


def test_the_listing_is_the_folder():
    files = {file.stem for file in (ROOT / "methods").glob("*.py")} - {"__init__"}
    assert {entry.name for entry in methods.registry.entries().values() if entry.module} >= files
    assert {"equal", "uncertainty", "mgda"} <= files


def test_every_builtin_says_in_a_line_what_it_does():
    for entry in methods.registry.entries().values():
        assert entry.summary.endswith("."), entry.name
        assert entry.load().__doc__.strip().startswith(entry.summary)


def test_what_is_read_from_the_file_is_what_python_sees():
    for name, entry in methods.registry.entries().items():
        rule, options = entry.load(), methods.registry.options(entry)
        seen = {key: argument.default for key, argument in inspect.signature(rule).parameters.items()}
        own = {key: option.default for key, option in options.items() if key not in ("at", "norm")}
        for key, default in own.items():
            assert seen[key] == (inspect.Parameter.empty if default is REQUIRED else default), (name, key)
        assert seen.keys() - own.keys() <= {"num_tasks", "teachers"}, name
        for key in options.keys() - own.keys():
            assert getattr(rule, key) == options[key].default, (name, key)


FRESH = """
import sys, time
import methods
for name, entry in methods.registry.entries().items():
    methods.registry.options(entry), entry.summary, entry.attributes, entry.functions
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
    assert methods.parse(name)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="imported"):
            methods.create(name, num_tasks=2)
