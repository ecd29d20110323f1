"""What every task set must give, and how a wrong one is refused."""

import pytest
import torch

from bench.catalogue import build, task_set, task_sets
from tasks.core.base import SPLITS, DataError, Metric, Task, TaskSet
from tasks.core.losses import squared_error
from tasks.core.metrics.regression import normalized_rmse

BUILT_IN = sorted(task_sets.entries())
FOLDERS = {"census": "census_folder", "multifashion": "image_folder", "multimnist": "image_folder"}
"""The fixture of a small folder for those that are not embedded."""
SMALL = [*FOLDERS, "digits", "scales"]
"""Those whose targets are classes or numbers of an example, and whose data is drawn in no time."""


@pytest.fixture
def variant(name, request):
    """A built-in set; one that is not embedded with a small folder in the hub's layout."""
    return f"{name}[path={request.getfixturevalue(FOLDERS[name])}]" if name in FOLDERS else name


def columns(**changed):
    return {"x": torch.arange(6.0).view(3, 2), "y": torch.ones(3, 1), **changed}


class Given(TaskSet):
    """Has the data that a test gives it."""

    inputs = ("x",)

    def __init__(self, data=None, **changed):
        self.data = {split: columns() for split in SPLITS} if data is None else data
        self.data |= changed

    def load(self):
        return self.data

    @property
    def tasks(self):
        return (Task("y", "y", squared_error, {"nrmse": normalized_rmse(self.splits["train"]["y"])}),)

    def network(self, tasks):
        raise NotImplementedError


def without(*names):
    return {name: column for name, column in columns().items() if name not in names}


def test_good_data_is_taken():
    Given().check()


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"validation": without("x")}, "the validation split lacks the column x: it has y"),
        ({"test": without("y")}, "the test split lacks the column y: it has x"),
        ({"train": {}}, "the train split lacks the column x: it has none"),
        ({"train": columns(y=torch.ones(2, 1))}, "the train split's columns should have one length above 0"),
        (
            {"test": {"x": torch.ones(0, 2), "y": torch.ones(0, 1)}},
            "the test split's columns should have one length",
        ),
    ],
)
def test_data_that_is_not_as_declared_is_refused_in_words(changed, complaint):
    with pytest.raises(DataError, match=complaint):
        Given(**changed).check()


def test_a_split_that_is_not_there_is_refused():
    with pytest.raises(DataError, match="the validation split lacks the column x"):
        Given({split: columns() for split in ("train", "test")}).check()


def test_columns_come_contiguous():
    turned = columns(x=torch.arange(6.0).view(2, 3).T)
    assert not turned["x"].is_contiguous()
    given = Given(train=turned).splits["train"]["x"]
    assert given.is_contiguous()
    assert torch.equal(given, turned["x"])


def test_splits_are_loaded_once():
    tasks = Given()
    first = tasks.splits
    tasks.data = {}
    assert tasks.splits is first


@pytest.mark.parametrize(
    "changed",
    [
        columns(y=torch.ones(3, 1).index_fill(0, torch.tensor([2]), 1.0000001)),
        columns(y=torch.ones(3, 1).view(torch.int32)),
        columns(y=torch.ones(3)),
        columns(z=torch.ones(3)),
        {"x": columns()["x"], "renamed": columns()["y"]},
        columns(x=columns()["x"].flip(0)),
    ],
    ids=["a value", "a type", "a shape", "a column more", "a name", "the order of examples"],
)
@pytest.mark.parametrize("split", SPLITS)
def test_the_fingerprint_tells_any_change_of_the_data(split, changed):
    assert Given(**{split: changed}).fingerprint != Given().fingerprint


def test_the_fingerprint_is_of_content_alone():
    swapped = {"y": columns()["y"], "x": columns()["x"].T.contiguous().T}
    assert Given(train=swapped).fingerprint == Given().fingerprint


def test_a_task_is_found_by_its_name():
    assert Given().task("y").target == "y"


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_set_has_a_card_whose_lines_say_something(name):
    card = task_sets.find(name).load().card
    assert all(len(text) > 5 for text in (card.origin, card.licence, card.preprocessing, card.traps))


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_set_has_a_smoke_protocol_of_twenty_steps(name):
    protocol = task_sets.find(name).load().protocols["smoke"]
    assert (protocol.name, protocol.steps) == ("smoke", 20)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_sets_quick_protocol_has_ten_epochs_or_more(name):
    protocol = task_sets.find(name).load().protocols["quick"]
    assert protocol.name == "quick"
    assert protocol.steps // protocol.steps_per_epoch >= 10


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_set_has_three_splits_and_its_targets(variant):
    tasks = task_set(variant)
    tasks.check()
    assert tuple(tasks.splits) == SPLITS
    assert len(tasks.tasks) >= 2
    assert all(isinstance(metric, Metric) for task in tasks.tasks for metric in task.metrics.values())


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_sets_network_fits_any_subset_of_its_tasks(variant):
    tasks = task_set(variant)
    batch = {column: tasks.splits["train"][column][:3] for column in tasks.inputs}
    everything = [task.name for task in tasks.tasks]
    for names in ([everything[0]], everything[::-1], everything[1:]):
        outputs = tasks.network(names)(batch)
        assert set(outputs.predictions) == set(names)
        for task_name, prediction in outputs.predictions.items():
            task = tasks.task(task_name)
            total, count = task.loss(prediction, tasks.splits["train"][task.target][:3])
            assert torch.isfinite(total)
            assert count > 0


@pytest.mark.parametrize("name", SMALL)
def test_data_is_the_same_whatever_the_global_seed(variant):
    prints = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        prints.append(build(variant).fingerprint)
    assert prints[0] == prints[1] == task_set(variant).fingerprint


@pytest.mark.parametrize("name", SMALL)
def test_every_declared_untrained_score_is_that_of_a_constant_fitted_to_the_training_targets(variant):
    tasks = task_set(variant)
    for task in tasks.tasks:
        train, test = (tasks.splits[split][task.target] for split in ("train", "test"))
        if train.is_floating_point():
            constant = train.mean(0).expand_as(test)
        else:
            classes = int(train.max()) + 1
            constant = torch.nn.functional.one_hot(train, classes).sum(0).float().expand(len(test), classes)
        for metric in task.metrics.values():
            accumulator = metric.factory()
            accumulator.update(constant, test)
            assert float(accumulator.compute()) == pytest.approx(metric.constant_score, rel=1e-6), task.name
