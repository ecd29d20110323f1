"""`check` passes what keeps its contract, and finds each fault that it is for."""

import typing
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import methods
from bench.catalogue import embedded
from bench.check import check
from methods.core import registry
from methods.core.options import REQUIRED
from tasks.core.errors import DataError

BAD = Path(__file__).with_name("plugin_bad.py")


def built_in_rules():
    """Every rule at each place where it can measure; those that need an option, with one; some on top of others."""
    for name, entry in methods.registry.entries().items():
        options = methods.registry.options(entry)
        if all(option.default is not REQUIRED for option in options.values()):
            places = typing.get_args(options["at"].type) if "at" in options else ()
            yield from [f"{name}[at={place}]" for place in places] or [name]
    yield from (
        "static[weights=1:2:1]",
        "kd+mgda",
        "kd+uncertainty",
        "kd[mode=train]",
        "mgda[normalize=loss+,norm=sum]",
    )


EMBEDDED = embedded()


@pytest.mark.parametrize("variant", list(built_in_rules()))
def test_every_built_in_rule_keeps_its_contract(variant):
    findings = list(check(variant))
    assert not [finding for finding in findings if finding.outcome == "fails"]
    assert sum(finding.outcome == "ok" for finding in findings) >= 7


@pytest.mark.parametrize("variant", [*EMBEDDED, "scales[tasks=2]"])
def test_every_embedded_task_set_keeps_its_contract(variant):
    assert {finding.outcome for finding in check(variant)} == {"ok"}


def test_every_claim_of_a_built_in_rule_is_one_that_can_be_tried():
    from bench.check.rules import CLAIMS

    claimed = {claim for entry in methods.registry.entries().values() for claim in entry.load().invariant}
    assert claimed <= CLAIMS.keys()


FAULTS = [
    ("Secretive", "A task without a label", "per_task"),
    ("Rounding", "Two runs of one seed are the same", "not bit for bit: two runs of one seed differ by "),
    ("Unbuilt", "It can be built", "KeyError: 'no'"),
    ("Searching", "It can be built", "its search of share has a wrong value"),
    ("Climbing", "With one task", "the update is -1 times the gradient"),
    ("Twisting", "With one task", "the update is no multiple of the gradient: off by "),
    ("Overflowing", "With 40 tasks", "the weight of task 0 is not finite"),
    ("Resting", "With 40 tasks", "the update is zero"),
    ("Dividing", "Zero, equal, opposite", "a zero gradient, 2 tasks: the weight of task 0 is not finite"),
    ("Whimsical", "The same seed", "two runs of one seed differ: draw from self.generator alone"),
    ("Rude", "It leaves the global generators", "it draws from torch's global generator: draw from self.generator"),
    ("RudeToNumpy", "It leaves the global generators", "it draws from numpy's global generator"),
    ("RudeToPython", "It leaves the global generators", "it draws from Python's global generator"),
    ("Forgetful", "Saved and loaded", "it goes on differently: keep what it remembers in parameters, buffers"),
    ("Meddling", "It gives every parameter", "it changes trunk.0.weight: leave that to the optimiser"),
    ("Boasting", "What it claims", "invariant to permutation, it says; "),
    ("Inflating", "What it claims", "invariant to scale, it says; "),
    ("Quarrelling", "What it claims", "nonconflicting, it says; the update's cosine with a task gradient is -"),
    ("Misnaming", "What it claims", "there is no claim 'permutatoin': did you mean 'permutation'?"),
    ("Tiring", "It trains", "OverflowError: tired"),
    ("Leaving", "With one task", "SystemExit: 0"),
    ("StepTaker", "It gives every parameter", "it changes trunk.0.weight: leave that to the optimiser"),
    ("HeadForgetter", "It gives every parameter", "heads.0.weight has no gradient"),
    ("MomentForgetter", "Saved and loaded", "it goes on differently: keep what it remembers in parameters, buffers"),
    ("Holed", "Its data is there", "the test split's column x should be finite: it is nan in row 3"),
    ("Unlabelled", "Its data is there", "the validation split has no label of task 'one'"),
    ("Flat", "Its data is there", "task 'one': the train split: prediction [2, 1] and target [2] should have the same"),
    ("FlatForTorch", "Its data is there", "task 'one': the train split: UserWarning: Using a target size"),
    (
        "Undeclared",
        "Its data is there",
        "task 'one': metric 'nrmse' should be a Metric, not a function (plugin_bad.py:",
    ),
    (
        "Miscalling",
        "Its data is there",
        "normalized_rmse() missing 1 required positional argument: 'train' (plugin_bad",
    ),
    ("Quitting", "Its data is there", "SystemExit: 0 (plugin_bad.py:"),
    ("Unattended", "Its data is there", "MultiheadAttention (trunk.2) has parameters but no reset_parameters()"),
    ("AllFrozen", "Its data is there", "every parameter of the network's trunk is frozen"),
    ("Shifting", "Built again", "its data differs: draw it from a generator with a seed of its own"),
    ("RudeSet", "Built again", "it draws from torch's global generator: draw from a generator of its own"),
    ("Undescribed", "Its card", "its card says nothing of licence"),
    ("Unnamed", "Its card", "its protocol 'quick' is called 'quack'"),
    ("Short", "Its card", "'quick' has 40 steps of epochs of 10: rules by epoch need ten epochs"),
    ("Crowded", "Its networks", "asked for one it predicts one, two"),
    ("Tapless", "Its networks", "asked for one, two it has taps of none"),
    ("AllShared", "Its networks", "network.shared should be some of the network's parameters"),
    ("Overlapping", "Its networks", "network.private('one') should be parameters of the network that are not shared"),
    ("LastElsewhere", "Its networks", "network.last should be one of network.shared"),
    ("Renaming", "A parameter of one name", "starts differently in the network of two, one"),
    ("Averaging", "Every loss", "one: the total of two parts of a batch is "),
    ("Deaf", "Every loss", "no loss reaches the shared parameter trunk.0.weight"),
    ("PastTheFeatures", "Everything shared", "trunk.0.weight reaches a head past the features"),
    ("Neighbours", "In evaluation", "one: an example's prediction depends on the others in its batch"),
    ("Unscored", "In evaluation", "one: its metric nrmse is not a number"),
    ("Exploding", "Single-task networks", ": diverged: "),
]


WIDE = {
    *("Unbuilt", "Climbing", "Twisting", "Whimsical", "Forgetful", "Dividing", "Overflowing", "Tiring", "Leaving"),
    *("Shifting", "Crowded", "Tapless", "AllShared", "Renaming", "Deaf", "Unscored"),
    *("Secretive", "Rounding"),
}
"""Faults that take more along than what one check is for; each other is one finding."""


@pytest.mark.parametrize(("name", "what", "detail"), FAULTS, ids=[name for name, *_ in FAULTS])
def test_each_fault_is_found_by_the_check_that_is_for_it(name, what, detail):
    failing = [finding for finding in check(f"{BAD}:{name}") if finding.outcome == "fails"]
    [found] = [finding for finding in failing if finding.what.startswith(what)]
    assert detail in found.detail
    assert len(failing) == 1 or name in WIDE


@pytest.mark.parametrize(
    "name", ["Pair", "Good", "FirstLayerFrozen", "RarelyLabelled", "TwoLevels", "Halves", "OneTestExample"]
)
def test_what_is_right_passes_by_path(name):
    assert not [finding for finding in check(f"{BAD}:{name}") if finding.outcome == "fails"]


def test_a_rule_for_two_tasks_is_tried_where_it_fits():
    skipped = [finding.detail for finding in check(f"{BAD}:Pair") if finding.outcome == "does not apply"]
    assert skipped == [
        *("it does not take 1 tasks", "it does not take 40 tasks", "it does not take 3 tasks and 2"),
        *("it does not measure at the features", "it claims nothing"),
    ]


def test_what_another_distribution_adds_is_tried_by_name(tmp_path, monkeypatch):
    (tmp_path / "their_rule.py").write_text(BAD.read_text("utf-8"))
    monkeypatch.syspath_prepend(tmp_path)
    points = {
        "mtl_bench.methods": ("theirs", "their_rule:Boasting"),
        "mtl_bench.tasks": ("theirset", "their_rule:Short"),
    }

    def entry_points(group):
        name, value = points[group]
        return [EntryPoint(name, value, group)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    for name, what in (("theirs", "What it claims"), ("theirset", "Its card")):
        [found] = [finding for finding in check(name) if finding.outcome == "fails"]
        assert found.what.startswith(what)


def test_data_that_cannot_be_had_is_said_at_once(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        list(check(f"multimnist[path={tmp_path / 'none'}]"))


def test_the_command_prints_a_line_each_and_exits_with_one_if_any_fails(command, tmp_path):
    done = command("check", f"{BAD}:Rude", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    *lines, last = done.stdout.splitlines()
    assert [line[:6].strip() for line in lines].count("FAILS") == 1
    assert last == "passed: 13 of 14, 2 not applicable"
    good = command("check", "equal", cwd=tmp_path)
    assert (good.returncode, good.stdout.splitlines()[-1]) == (0, "passed: 15 of 15, 1 not applicable")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mdga", "there is no method or task set 'mdga': did you mean 'mgda'?"),
        ("scenez", "there is no method or task set 'scenez': did you mean 'scenes'?"),
        ("nowhere.py:Rule", "there is no file nowhere.py"),
        ("scales[tasks=1]", "tasks=1: scales needs at least 2"),
        (f"{BAD}:NotConstructed", "plugin_bad.py:NotConstructed: IndexError: tuple index out of range (plugin_bad.py:"),
        ("mgda[at=top]", "mgda[at=top]: it takes shared or features or last"),
    ],
)
def test_a_wrong_name_is_one_line(command, tmp_path, name, said):
    done = command("check", name, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: {said}\n" or (said in done.stderr and done.stderr.count("\n") == 1)


def test_what_cannot_be_built_is_tried_no_further():
    [found] = check(f"{BAD}:Undeclared")
    assert found.outcome == "fails"
