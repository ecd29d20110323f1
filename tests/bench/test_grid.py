"""`parametrize_with_checks`: each check is a test of somebody's own pytest."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.check import checks_of, parametrize_with_checks
from methods.core.names import UsageError

BAD = Path(__file__).with_name("plugin_bad.py")

NAMES = {
    False: [
        *("can_be_built", "follows_the_only_task", "bears_forty_tasks", "bears_awkward_gradients"),
        *("same_seed_same_updates", "repeats_bit_for_bit", "leaves_global_generators_alone", "goes_on_after_loading"),
        *("leaves_parameters_to_the_optimiser", "bears_frozen_and_replaced_heads", "deep_copies_go_on"),
        *("bears_absent_tasks", "works_in_float32_and_bfloat16", "refuses_wrong_features", "keeps_its_claims"),
        "trains_on_a_task_set",
    ],
    True: [
        *("data_is_there", "same_data_when_built_again", "describes_itself", "networks_are_whole"),
        *("same_start_in_every_network", "losses_add_up", "features_are_read_by_all_heads"),
        *("evaluates_examples_one_by_one", "can_be_trained_on"),
    ],
}


@pytest.fixture
def own_tests(environment, tmp_path):
    """Run pytest on a file of somebody's own; return what it printed."""

    def run(text, *options):
        (tmp_path / "test_mine.py").write_text(text)
        line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rsf", "--no-header", *options]
        return subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300).stdout

    return run


GRID = """
from bench.check import parametrize_with_checks

@parametrize_with_checks({plugins})
def test_contract(check):
    check()
"""


def test_each_check_is_a_test_which_fails_is_skipped_or_passes(own_tests):
    printed = own_tests(GRID.format(plugins=f"{str(BAD) + ':Rude'!r}"), "-v")
    assert "1 failed, 13 passed, 2 skipped" in printed.splitlines()[-1]
    assert "test_contract[plugin_bad.py:Rude-leaves_global_generators_alone] FAILED" in printed
    said = "It leaves the global generators of torch, numpy and Python alone: it draws from torch's global generator"
    assert said in printed
    assert "it does not measure at the features" in printed
    assert "Traceback" not in printed


def test_what_the_plug_in_raises_is_shown_with_its_place(own_tests):
    printed = own_tests(GRID.format(plugins=f"{str(BAD) + ':Tiring'!r}"), "-k", "trains_on_a_task_set")
    assert "OverflowError: tired" in printed
    assert "plugin_bad.py" in printed


def test_classes_and_several_plug_ins_are_taken(own_tests, tmp_path):
    (tmp_path / "mine.py").write_text(BAD.read_text("utf-8"))
    text = GRID.format(plugins="Pair, 'mine.py:Good', 'equal'").replace(
        "from bench", "from mine import Pair\nfrom bench"
    )
    printed = own_tests(text, "--collect-only", "-q")
    assert [line for line in printed.splitlines() if line.startswith("test_mine.py")] == [
        f"test_mine.py::test_contract[{name}-{check}]"
        for name, kind in (("mine.py:Pair", False), ("mine.py:Good", True), ("equal", False))
        for check in NAMES[kind]
    ]


@pytest.mark.parametrize("is_task_set", [False, True])
def test_the_names_of_checks_stay_as_others_may_have_written_them_down(is_task_set):
    assert [function.__name__ for function in checks_of(is_task_set)] == NAMES[is_task_set]


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        ((), "parametrize_with_checks needs a plug-in: 'mine.py:Rule', or a class"),
        (("mdga",), "there is no method or task set 'mdga': did you mean 'mgda'?"),
        (("nowhere.py:Rule",), "there is no file nowhere.py"),
    ],
)
def test_what_is_no_plug_in_is_one_line(plugins, said):
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        parametrize_with_checks(*plugins)


def test_without_pytest_one_line_says_what_to_install(environment, tmp_path):
    code = "import sys; sys.modules['pytest'] = None; from bench.check import check, parametrize_with_checks"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    last = "ImportError: parametrize_with_checks needs pytest, which is not installed: pip install pytest"
    assert done.stderr.splitlines()[-1] == last
    assert "ModuleNotFoundError" not in done.stderr
