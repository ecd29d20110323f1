"""What a set misdeclares is found when it is built: by trying its parts on each other, on a few examples."""

import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchmetrics import MeanSquaredError, PearsonCorrCoef
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from tasks import Card, DataError, Metric, Network, Outputs, Protocol, Task, TaskSet
from tasks.core.losses import cross_entropy, squared_error
from tasks.core.metrics.classification import accuracy, macro_recall
from tasks.core.metrics.regression import normalized_rmse
from tasks.core.trial import try_out

CLASSES = 3


class Net(Network):
    def __init__(self, tasks, change=lambda network: None):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 5), nn.Dropout(), nn.Linear(5, 5))
        self.heads = nn.ModuleDict({task: nn.Linear(5, {"size": 1, "kind": CLASSES}[task]) for task in tasks})
        change(self)

    def forward(self, inputs):
        features = self.trunk(inputs["x"])
        return Outputs({task: head(features) for task, head in self.heads.items()}, features, {})


class Made(TaskSet):
    """A regression and a classification, of which a test changes one thing."""

    inputs = ("x",)
    protocols = {"quick": Protocol(name="quick", steps=40, batch_size=8, lr=0.01, steps_per_epoch=4)}
    card = Card("made up", "MIT", "none", "a toy")
    loss = metrics = kind_loss = None

    def __init__(self, edit=lambda splits: None, net=Net, **changed):
        self.edit, self.net = edit, net
        self.__dict__.update(changed)

    def load(self):
        draw = torch.Generator().manual_seed(0)
        splits = {}
        for split in ("train", "validation", "test"):
            x = torch.randn(40, 4, generator=draw)
            splits[split] = {"x": x, "size": x[:, :1] + x[:, 1:2], "kind": (x[:, 2] > 0).long() + (x[:, 2] > 1)}
        self.edit(splits)
        return splits

    @property
    def tasks(self):
        train, test = self.splits["train"], self.splits["test"]
        metrics = self.metrics or {"nrmse": normalized_rmse(train["size"])}
        kind = {"accuracy": accuracy(CLASSES, train["kind"], test["kind"])}
        return (
            Task("size", "size", self.loss or squared_error, metrics),
            Task("kind", "kind", self.kind_loss or cross_entropy, kind),
        )

    def network(self, tasks):
        return self.net(tasks)


def setting(split, column, rows, value):
    """Change some rows of a column."""

    def edit(splits):
        splits[split][column][rows] = value

    return edit


def replacing(column, function):
    """Replace a column in every split."""

    def edit(splits):
        for columns in splits.values():
            columns[column] = function(columns[column])

    return edit


def test_a_good_set_passes_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    try_out(Made())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_without_a_label_of_a_task_is_refused(split):
    with pytest.raises(DataError, match=f"^the {split} split has no label of task 'kind'$"):
        try_out(Made(setting(split, "kind", slice(None), -1)))


def test_one_label_in_a_split_is_enough():
    try_out(Made(setting("train", "kind", slice(39), -1)))


def test_a_mean_over_no_label_is_no_label_either():
    def mean(prediction, target):
        return functional.cross_entropy(prediction, target, ignore_index=-1), 1

    try_out(Made(kind_loss=mean))
    with pytest.raises(DataError, match="the test split has no label of task 'kind'"):
        try_out(Made(setting("test", "kind", slice(None), -1), kind_loss=mean))


def test_macro_recall_of_a_set_without_labels_leaves_the_message_to_the_trial():
    none = torch.full((4,), -1)
    assert macro_recall(CLASSES, none, none).constant_score == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_target_that_is_not_finite_is_refused_with_its_place(split, value):
    with pytest.raises(DataError, match=f"the {split} split's column size should be finite: it is {value} in row 33"):
        try_out(Made(setting(split, "size", 33, value)))


def there(prediction, target):
    labelled = ~target[:, 0].isnan()
    return prediction[labelled], target[labelled]


def test_a_nan_is_a_missing_label_for_a_loss_that_leaves_it_out():
    def loss(prediction, target):
        prediction, target = there(prediction, target)
        return (prediction - target).square().sum(), len(target)

    metric = {"mse": Metric(MeanSquaredError, False, 1.0)}
    try_out(Made(setting("train", "size", slice(35), float("nan")), loss=loss, metrics=metric))
    with pytest.raises(DataError, match="the train split has no label of task 'size'"):
        try_out(Made(setting("train", "size", slice(None), float("nan")), loss=loss, metrics=metric))
    with pytest.raises(DataError, match="should be finite: it is inf in row 7"):
        try_out(Made(setting("train", "size", 7, float("inf")), loss=loss, metrics=metric))


@pytest.mark.parametrize(("row", "strange"), [(0, 7), (39, 3), (20, -5)])
def test_a_class_that_the_head_does_not_have_is_found_wherever_it_is(row, strange):
    with pytest.raises(ValueError, match=f"task 'kind': the test split: IndexError: Target {strange} is out of bounds"):
        try_out(Made(setting("test", "kind", row, strange)))


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (
            replacing("size", lambda size: size[:, 0]),
            r"prediction \[2, 1\] and target \[2\] should have the same shape",
        ),
        (replacing("size", lambda size: size.expand(-1, 2)), r"prediction \[2, 1\] and target \[2, 2\] should have"),
        (replacing("kind", lambda kind: kind[:, None]), r"logits \[2, 3\] and classes \[2, 1\] should have the shapes"),
        (replacing("x", lambda x: x.double()), "RuntimeError: mat1 and mat2"),
        (replacing("kind", lambda kind: kind.int()), "task 'kind': the train split: RuntimeError: expected"),
    ],
)
def test_data_that_does_not_fit_network_and_losses_is_refused(edit, complaint):
    with pytest.raises((ValueError, RuntimeError)) as caught:
        try_out(Made(edit))
    assert re.search(complaint, f"{type(caught.value).__name__}: {caught.value}")


@pytest.mark.parametrize("torchs", [functional.mse_loss, functional.l1_loss, functional.huber_loss])
def test_a_loss_of_torchs_own_that_would_broadcast_is_refused(torchs):
    flat = replacing("size", lambda size: size[:, 0])
    with pytest.raises(ValueError, match="task 'size': the train split: UserWarning: Using a target size"):
        try_out(Made(flat, loss=lambda p, t: (torchs(p, t, reduction="sum"), len(t)), metrics={"a": METRIC}))


METRIC = Metric(MeanSquaredError, False, 1.0)
F1 = partial(MulticlassF1Score, num_classes=2, average="none")


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"loss": lambda p, t: (p - t).square().sum()}, "its loss should return two numbers, total and count, not "),
        ({"loss": lambda p, t: ((p - t).square().sum(), t.isfinite().any())}, "be a number of elements, not True"),
        ({"loss": lambda p, t: ((p - t).square(), len(t))}, "its loss should return two numbers, total and count"),
        ({"metrics": {"mse": Metric(lambda: 3, False, 1.0)}}, "task 'size': metric 'mse': its factory should make"),
        ({"metrics": {"mse": Metric(MeanSquaredError, False, float("nan"))}}, "metric 'mse': its constant_score"),
        ({"metrics": {"f1": Metric(F1, True, 0.5)}}, "task 'size': metric 'f1': "),
        ({"metrics": {"r": Metric(lambda: PearsonCorrCoef(num_outputs=2), True, 0.0)}}, "metric 'r': "),
        (
            {"metrics": {"mse": Metric(MeanSquaredError, True, 1.0)}},
            "metric 'mse': higher_is_better is True, but MeanSquaredError itself says False",
        ),
        ({"card": "made up"}, "card should be a Card, not 'made up'"),
        ({"protocols": {"quick": {"steps": 3}}}, "protocol 'quick' should be a Protocol"),
        ({"protocols": {}}, "protocols should be a dictionary of at least one Protocol"),
    ],
)  # fmt: skip
def test_what_is_declared_wrongly_is_refused_in_words(changed, complaint):
    with pytest.raises((ValueError, TypeError), match=complaint):
        try_out(Made(**changed))


def test_a_metric_without_a_direction_of_its_own_may_say_any():
    class Mine(MulticlassAccuracy):
        higher_is_better = None

    kind = {"mine": Metric(partial(Mine, num_classes=CLASSES), False, 0.1)}
    try_out(type("Other", (Made,), {"tasks": (Task("kind", "kind", cross_entropy, kind),)})())


@pytest.mark.parametrize(
    ("tasks", "complaint"),
    [
        ((), r"tasks should be a tuple of at least one Task, not \(\)"),
        (("size",), "tasks should be a tuple of Tasks, but has 'size'"),
        ((Task("a", "size", squared_error, {"m": METRIC}),) * 2, "two tasks are called 'a'"),
    ],
)
def test_tasks_that_are_none_or_alike_are_refused(tasks, complaint):
    other = type("Other", (Made,), {"tasks": tasks})()
    with pytest.raises((ValueError, TypeError), match=complaint):
        try_out(other)


def freezing(*layers):
    def change(network):
        for layer in layers:
            network.trunk[layer].requires_grad_(False)

    return partial(Net, change=change)


@pytest.mark.parametrize("layer", [0, 2])
def test_a_part_of_the_trunk_may_be_frozen(layer):
    try_out(Made(net=freezing(layer)))


def test_a_trunk_that_is_frozen_as_a_whole_is_refused():
    with pytest.raises(ValueError, match="every parameter of the network's trunk is frozen"):
        try_out(Made(net=freezing(0, 2)))


def test_a_network_that_is_no_network_is_refused():
    with pytest.raises(TypeError, match=r"network\(\) should return a Network, not a value of type Linear"):
        try_out(Made(net=lambda tasks: nn.Linear(4, 1)))


def test_a_network_that_leaves_a_task_out_is_refused():
    class Forgetful(Net):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            return outputs._replace(predictions={"size": outputs.predictions["size"]})

    with pytest.raises(ValueError, match="its network, asked for size, kind, predicts size, so kind is missing"):
        try_out(Made(net=Forgetful))


def test_a_network_that_returns_something_else_is_refused():
    class Bare(Net):
        def forward(self, inputs):
            return super().forward(inputs).predictions

    with pytest.raises(TypeError, match="its network should return Outputs, not a value of type dict"):
        try_out(Made(net=Bare))


def test_a_network_whose_initial_weights_cannot_be_drawn_is_refused():
    def attend(network):
        network.trunk.append(nn.MultiheadAttention(5, 1))

    with pytest.raises(TypeError, match=r"MultiheadAttention \(trunk.3\) has parameters but no reset_parameters\(\)"):
        try_out(Made(net=partial(Net, change=attend)))
