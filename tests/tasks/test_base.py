"""What every task set must give, and how a wrong one is refused."""

import re

import pytest
import torch
from torch import nn
from torchmetrics import MeanSquaredError

from bench.catalogue import build, task_set, task_sets
from tasks.core.base import SPLITS, DataError, Metric, Network, Task, TaskSet
from tasks.core.losses import squared_error
from tasks.core.metrics.regression import normalized_rmse

BUILT_IN = sorted(task_sets.entries())
FOLDERS = {
    "adme": "adme_folder",
    "census": "census_folder",
    "cityscapes": "cityscapes_folder",
    "multifashion": "image_folder",
    "multimnist": "image_folder",
    "nyuv2": "nyuv2_folder",
    "parkinsons": "parkinsons_folder",
    "sarcos": "sarcos_folder",
    "tox21": "tox21_folder",
}
"""The fixture of a small folder for those that are not embedded."""
NARROW = {"cityscapes", "nyuv2"}
"""Those whose network has 25 million parameters, unless its channels are fewer."""
SMALL = [*sorted(FOLDERS.keys() - NARROW), "arm", "assays", "digits", "scales", "visits"]
"""Those whose targets are classes or numbers of an example, and whose data is drawn in no time."""


@pytest.fixture
def variant(name, request):
    """A built-in set; one that is not embedded with a small folder of its files, and a narrow network."""
    narrow = "channels=0.0625," if name in NARROW else ""
    return f"{name}[{narrow}path={request.getfixturevalue(FOLDERS[name])}]" if name in FOLDERS else name


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


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"train": [columns()]}, "the train split should be a dictionary of columns, not a list"),
        ({"test": columns(y=[1.0, 2.0, 3.0])}, "the test split's column y should be a tensor, not a list"),
        ({"test": columns(y=torch.tensor(3.0))}, "the test split's column y is a single number, not one per example"),
    ],
)
def test_data_of_another_form_is_refused_in_words(changed, complaint):
    with pytest.raises((TypeError, DataError), match=complaint):
        Given(**changed).check()


def test_inputs_that_are_one_name_and_no_tuple_are_refused():
    given = Given()
    given.inputs = "x"
    with pytest.raises(TypeError, match="inputs should be a tuple of the names of columns, not a str"):
        given.check()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("split", SPLITS)
def test_an_input_that_is_not_finite_is_refused_with_its_place(split, value):
    x = torch.ones(3, 2)
    x[1, 1] = value
    with pytest.raises(DataError, match=f"the {split} split's column x should be finite: it is {value} in row 1"):
        Given(**{split: columns(x=x)}).check()


def test_large_inputs_whose_sum_overflows_are_finite():
    Given(train=columns(x=torch.full((3, 2), 3e38))).check()


GOOD = {"factory": MeanSquaredError, "higher_is_better": False, "constant_score": 1.0}


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"factory": MeanSquaredError()}, None),
        ({"factory": "mse"}, "a metric's factory should be a function without arguments, not a str"),
        ({"higher_is_better": "no"}, "higher_is_better should be True or False, not a str"),
        ({"higher_is_better": 0}, "higher_is_better should be True or False, not an int"),
        ({"constant_score": None}, "constant_score should be a number, not None"),
        ({"constant_score": True}, "constant_score should be a number, not a bool"),
        ({"constant_score": torch.tensor(1.0)}, "constant_score should be a number, not a Tensor"),
        ({"constant_score": float("inf")}, "constant_score should be a finite number, not inf"),
    ],
)
def test_a_metric_checks_its_fields(changed, complaint):
    if complaint is None:
        Metric(**GOOD | changed)
    else:
        with pytest.raises((TypeError, ValueError), match=complaint):
            Metric(**GOOD | changed)


class Net(Network):
    """A trunk whose last parameters are those of a norm, and two heads."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
        self.heads = nn.ModuleDict({"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)})

    def forward(self, inputs):
        raise NotImplementedError


FIT = {"name": "x", "target": "y", "loss": squared_error, "metrics": {"mse": Metric(**GOOD)}}


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"name": 3}, "a task's name should be text, not an int"),
        ({"name": " "}, "a task's name should not be empty"),
        ({"target": torch.ones(3)}, "task 'x': target should be the name of a column, not a Tensor"),
        ({"loss": "mse"}, "task 'x': loss should be a function of prediction and target, not a str"),
        ({"metric_inputs": 3}, "task 'x': metric_inputs should be a function, not an int"),
        ({"metrics": [Metric(**GOOD)]}, "task 'x': metrics should be a dictionary of Metrics by name, not a list"),
        ({"metrics": {}}, "task 'x': metrics should have at least one entry"),
        ({"metrics": {3: Metric(**GOOD)}}, "task 'x': a metric's name should be text, not an int"),
        ({"metrics": {"a": normalized_rmse}}, "task 'x': metric 'a' should be a Metric, not a function"),
        ({"metrics": {"a": Net}}, "task 'x': metric 'a' should be a Metric, not the class Net"),
        ({"metrics": {"a": MeanSquaredError()}}, "task 'x': metric 'a' should be a Metric, not a MeanSquaredError"),
    ],
)  # fmt: skip
def test_a_task_checks_its_fields_and_names_task_and_metric(changed, complaint):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(complaint)}$"):
        Task(**FIT | changed)


@pytest.mark.parametrize("count", [3, 3.0, torch.tensor(3)])
def test_a_loss_may_count_in_a_tensor_or_a_plain_number(count):
    task = Task(**FIT | {"loss": lambda prediction, target: ((prediction - target).sum(), count)})
    total, counted = task.total_and_count(torch.ones(3, 1), torch.zeros(3, 1))
    assert (total.item(), counted.item()) == (3, 3)
    assert isinstance(counted, torch.Tensor)


def same(found, expected):
    return len(found) == len(expected) and all(one is other for one, other in zip(found, expected, strict=True))


def test_a_network_derives_what_is_shared_and_private_from_trunk_and_heads():
    network = Net()
    assert [name for name, _ in network.shared] == [f"trunk.{name}" for name, _ in network.trunk.named_parameters()]
    assert same([parameter for _, parameter in network.shared], list(network.trunk.parameters()))
    assert network.last is network.trunk[1].weight
    assert same(network.private("a"), [network.heads["a"].weight, network.heads["a"].bias])


def test_what_heads_have_in_common_or_from_the_trunk_is_private_to_none():
    network = Net()
    network.heads["a"].weight = network.heads["b"].weight
    assert same(network.private("a"), [network.heads["a"].bias])
    assert same(network.private("b"), [network.heads["b"].bias])
    network.heads["a"].bias = network.trunk[2].bias
    assert network.private("a") == []


def test_frozen_parameters_are_shared_and_private_but_never_the_last():
    network = Net()
    network.trunk[1].requires_grad_(False)
    network.heads["a"].requires_grad_(False)
    assert len(network.shared) == 6
    assert len(network.private("a")) == 2
    assert network.last is network.trunk[0].weight


def test_the_last_of_a_trunk_without_matrices_is_its_last_parameter():
    network = Net()
    network.trunk = nn.Sequential(nn.BatchNorm1d(3))
    assert network.last is network.trunk[0].bias


@pytest.mark.parametrize("part", ["trunk", "heads"])
def test_a_network_without_trunk_or_heads_says_what_to_do(part):
    network = Net()
    delattr(network, part)
    with pytest.raises(TypeError, match=rf"Net should have self\.{part}, or override shared, last and private"):
        network.private("a")


def test_a_task_without_a_head_says_what_to_do():
    with pytest.raises(TypeError, match=r"Net\.heads should have a head 'c', or override private"):
        Net().private("c")


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


def test_a_column_of_one_number_may_lie_in_memory_as_it_likes():
    """A slice of an array whose columns lie one after the other is contiguous for torch, with a long last stride."""
    odd = torch.ones(4, 3).T[:, :1]
    assert odd.is_contiguous() and odd.stride(-1) != 1
    assert Given(train=columns(y=odd)).fingerprint == Given().fingerprint


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


def rows_with_a_label(target):
    """The rows of a target `[N, …]` that have some number."""
    return (~target.reshape(len(target), -1).isnan()).any(1).nonzero()[:, 0]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_sets_network_fits_any_subset_of_its_tasks(variant):
    tasks = task_set(variant)
    train = tasks.splits["train"]
    everything = [task.name for task in tasks.tasks]
    for names in ([everything[0]], everything[::-1], everything[1:]):
        network = tasks.network(names)
        for task in map(tasks.task, names):
            rows = rows_with_a_label(train[task.target])[:3]
            outputs = network({column: train[column][rows] for column in tasks.inputs})
            assert set(outputs.predictions) == set(names)
            total, count = task.loss(outputs.predictions[task.name], train[task.target][rows])
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
            constant = train.nanmean(0).expand_as(test)
        else:
            classes = int(train.max()) + 1
            constant = torch.nn.functional.one_hot(train, classes).sum(0).float().expand(len(test), classes)
        for metric in task.metrics.values():
            accumulator = metric.factory()
            accumulator.update(*task.metric_inputs(constant, test))
            assert float(accumulator.compute()) == pytest.approx(metric.constant_score, rel=1e-6), task.name
