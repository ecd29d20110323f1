"""`assays`: tasks that are mixtures of three hidden quantities, most of whose labels are missing."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from bench.catalogue import parse_task_set, task_set
from methods.core.names import UsageError
from tasks.assays import Assays

AMOUNTS = ["amount1", "amount2", "amount3"]
EVENTS = ["event1", "event2", "event3"]
LABELS = {"amount1": 2000, "amount2": 500, "amount3": 100, "event1": 2500, "event2": 700, "event3": 300}
SHARES = {"event1": 0.2, "event2": 0.1, "event3": 0.05}


@pytest.fixture(scope="module")
def assays():
    return Assays()


def values(columns, names):
    """Columns of one number side by side, in float64: `[N, len(names)]`."""
    return torch.hstack([columns[name] for name in names]).double().numpy()


def hidden(directions, x):
    return np.tanh(1.5 * x @ directions.reshape(40, 3))


@pytest.fixture(scope="module")
def recovered(assays):
    """The directions, mixtures and offsets of the amounts, recovered from the noiseless test targets alone.

    As x is standard normal, the regressions of the targets on it lie in the plane of the directions: the start of the
    search.
    """
    x, y = values(assays.splits["test"], ["x"]), values(assays.splits["test"], AMOUNTS)
    start = np.linalg.svd(np.linalg.lstsq(x, y)[0], full_matrices=False)[0]

    def solved(directions):
        design = np.hstack([hidden(directions, x), np.ones((len(x), 1))])
        return design, np.linalg.lstsq(design, y)[0]

    def left(directions):
        design, mixtures = solved(directions)
        return (design @ mixtures - y).ravel()

    found = least_squares(left, start.ravel(), method="trf", x_scale="jac")
    return found.x.reshape(40, 3), solved(found.x)[1]


def test_amounts_are_mixtures_of_three_saturating_quantities_without_noise_when_scored(assays, recovered):
    directions, mixtures = recovered
    assert np.linalg.norm(directions, axis=0) == pytest.approx(np.ones(3), abs=1e-4)
    for split in ("validation", "test"):
        x = values(assays.splits[split], ["x"])
        expected = np.hstack([hidden(directions, x), np.ones((len(x), 1))]) @ mixtures
        assert np.abs(expected - values(assays.splits[split], AMOUNTS)).max() < 1e-4


def test_only_the_training_amounts_are_noisy_by_half_of_their_deviation(assays, recovered):
    directions, mixtures = recovered
    x = values(assays.splits["train"], ["x"])
    clean = np.hstack([hidden(directions, x), np.ones((len(x), 1))]) @ mixtures
    noise = values(assays.splits["train"], AMOUNTS) - clean
    assert np.nanstd(noise, axis=0) == pytest.approx([0.5, 0.5, 0.5], rel=0.15)
    every = np.concatenate(
        [clean, values(assays.splits["validation"], AMOUNTS), values(assays.splits["test"], AMOUNTS)]
    )
    assert every.mean(0) == pytest.approx(np.zeros(3), abs=1e-3)
    assert every.std(0) == pytest.approx(np.ones(3), abs=1e-3)


@pytest.mark.parametrize("event", EVENTS)
def test_the_log_odds_of_events_are_a_mixture_of_the_same_quantities_and_of_nothing_else(assays, recovered, event):
    x = np.concatenate([values(assays.splits[split], ["x"]) for split in ("validation", "test")])
    y = np.concatenate([values(assays.splits[split], [event]) for split in ("validation", "test")])[:, 0]
    z = hidden(recovered[0], x)
    odds = LogisticRegression(C=np.inf, max_iter=1000).fit(z, y)
    assert odds.decision_function(z).std() == pytest.approx(3, rel=0.12)
    more = LogisticRegression(C=np.inf, max_iter=1000).fit(np.hstack([z, x]), y)
    losses = [
        log_loss(y, model.predict_proba(own)[:, 1], normalize=False)
        for model, own in ((odds, z), (more, np.hstack([z, x])))
    ]
    assert 2 * (losses[0] - losses[1]) < 75  # of 40 inputs more, χ² exceeds this about once in 1,500 times


@pytest.mark.parametrize("event", EVENTS)
def test_events_are_as_rare_as_declared(assays, event):
    share = SHARES[event]
    whole = np.concatenate([values(columns, [event]) for columns in assays.splits.values()])
    assert np.nanmean(whole) == pytest.approx(share, rel=0.1)
    for columns in assays.splits.values():
        assert set(np.unique(columns[event][~columns[event].isnan()])) == {0, 1}


@pytest.mark.parametrize("name", LABELS)
def test_training_has_the_declared_number_of_labels_and_the_other_splits_have_all(assays, name):
    counts = {split: int((~columns[name].isnan()).sum()) for split, columns in assays.splits.items()}
    assert counts == {"train": LABELS[name], "validation": 1000, "test": 3000}


def test_labels_are_missing_at_random_and_for_each_task_by_itself(assays):
    train = assays.splits["train"]
    known = ~np.isnan(values(train, LABELS))
    assert np.abs(np.corrcoef(known.T) - np.eye(6)).max() < 0.06
    assert np.abs(np.corrcoef(known.T, values(train, ["x"]).T)[:6, 6:]).max() < 0.07
    halves = known[:3000].sum(0) / known.sum(0)
    assert halves == pytest.approx(np.full(6, 0.5), abs=0.12)


def test_many_batches_have_no_label_of_a_task(assays):
    """Of batches of the protocol's size, drawn at random; (1 − 100/6000)⁶⁴ is 0.34."""
    known = ~np.isnan(values(assays.splits["train"], LABELS))
    draw = np.random.default_rng(0)
    size = assays.protocols["quick"].batch_size
    absent = np.array([~known[draw.choice(6000, size, replace=False)].any(0) for _ in range(500)])
    assert absent.mean(0)[2] == pytest.approx(0.34, abs=0.06)
    assert 0.3 < absent.any(1).mean() < 0.5


def test_a_task_that_is_absent_from_a_batch_counts_nothing_and_gives_no_gradient(assays):
    train = assays.splits["train"]
    rows = train["amount3"][:, 0].isnan().nonzero()[:64, 0]
    network = assays.network(["amount3", "event1"])
    outputs = network({"x": train["x"][rows]})
    total, count = assays.task("amount3").loss(outputs.predictions["amount3"], train["amount3"][rows])
    assert (total.item(), count.item()) == (0, 0)
    total.backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in network.parameters())


def test_inputs_are_standard_normal_and_no_split_repeats_another(assays):
    everything = torch.cat([columns["x"] for columns in assays.splits.values()])
    assert everything.shape == (10000, 40)
    assert everything.mean().item() == pytest.approx(0, abs=0.01)
    assert everything.std().item() == pytest.approx(1, abs=0.01)
    assert len(everything.unique(dim=0)) == 10000


def test_another_draw_has_another_structure_and_other_examples_and_as_many_labels(assays):
    other = Assays(draw=1)
    x, y = (values(other.splits["test"], own) for own in (["x"], AMOUNTS))
    old = values(assays.splits["test"], ["x"])
    assert len(np.unique(np.concatenate([x, old]), axis=0)) == 6000
    first, second = (np.linalg.lstsq(a, b)[0] for a, b in ((old, values(assays.splits["test"], AMOUNTS)), (x, y)))
    assert np.abs(np.corrcoef(first.T, second.T)[:3, 3:]).max() < 0.6
    assert {name: int((~other.splits["train"][name].isnan()).sum()) for name in LABELS} == LABELS


def test_the_option_draw_is_in_no_name_at_its_default():
    plain, other = parse_task_set("assays[draw=0]"), parse_task_set("assays[draw=1]")
    assert (plain.stable, plain.label, plain.full) == ("assays", "assays", "assays[draw=0]")
    assert other.stable == other.label == "assays[draw=1]"


def test_a_draw_below_zero_is_refused_by_name():
    with pytest.raises(UsageError, match="draw=-1: the draw of the data is a number from 0 on"):
        task_set("assays[draw=-1]")
