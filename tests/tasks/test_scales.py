"""`scales`: regressions that differ in nothing but their scale."""

import numpy as np
import pytest
import torch

from bench.catalogue import task_set, task_sets
from methods.core.names import UsageError
from tasks.scales import Scales

SIGMA = np.geomspace(0.1, 10, 5)


@pytest.fixture(scope="module")
def scales():
    return Scales()


@pytest.fixture(scope="module")
def functions(scales):
    """The rows of (B + E) / √20, recovered from the test split: atanh(y / σ) is linear in x."""
    test = scales.splits["test"]
    x = test["x"].double().numpy()
    found = []
    for k, sigma in enumerate(SIGMA):
        y = test[f"y{k + 1}"].double().numpy()[:, 0] / sigma
        inside = np.abs(y) < 0.99  # further out float32 leaves nothing to invert
        weights, *_ = np.linalg.lstsq(x[inside], np.arctanh(y[inside]), rcond=None)
        found.append(weights)
    return np.array(found)


def residuals(scales, functions, split):
    """What the formula leaves of each task's targets, in units of its σ: `[N, K]`."""
    columns = scales.splits[split]
    x = columns["x"].double().numpy()
    y = np.hstack([columns[f"y{k + 1}"].double().numpy() for k in range(len(SIGMA))])
    return y / SIGMA - np.tanh(x @ functions.T)


def test_targets_are_sigma_times_tanh_of_a_linear_function_without_noise_when_scored(scales, functions):
    assert np.abs(residuals(scales, functions, "validation")).max() < 1e-4
    assert np.abs(residuals(scales, functions, "test")).max() < 1e-4


def test_only_the_training_targets_are_noisy_by_three_tenths_of_sigma(scales, functions):
    noise = residuals(scales, functions, "train")
    assert noise.std(0) == pytest.approx(np.full(5, 0.3), rel=0.1)
    assert np.abs(noise.mean(0)).max() < 0.04
    assert np.abs(np.corrcoef(noise.T) - np.eye(5)).max() < 0.15


def test_tasks_are_related_and_differ(functions):
    """Each is B + E_i with E_i half as long as B: correlated by about 1 / (1 + 0.5²)."""
    correlations = np.corrcoef(functions)[np.triu_indices(5, 1)]
    assert 0.5 < correlations.mean() < 0.95
    assert correlations.max() < 0.99


def test_inputs_are_standard_normal_and_no_split_repeats_another(scales):
    everything = torch.cat([columns["x"] for columns in scales.splits.values()])
    assert everything.shape == (4000, 20)
    assert everything.mean().item() == pytest.approx(0, abs=0.02)
    assert everything.std().item() == pytest.approx(1, abs=0.02)
    assert len(everything.unique(dim=0)) == 4000


@pytest.mark.parametrize("ratio", [1.0, 10.0, 1000.0])
def test_the_option_ratio_sets_the_ratio_of_scales_and_nothing_else(scales, ratio):
    other = Scales(ratio=ratio)
    sigma = np.geomspace(ratio**-0.5, ratio**0.5, 5)
    assert sigma[-1] / sigma[0] == pytest.approx(ratio)
    for split, columns in other.splits.items():
        assert torch.equal(columns["x"], scales.splits[split]["x"])
        for k in range(5):
            expected = scales.splits[split][f"y{k + 1}"].double() / SIGMA[k]
            torch.testing.assert_close(
                columns[f"y{k + 1}"].double() / sigma[k],
                expected,
                rtol=1e-5,
                atol=1e-6,
            )


def test_the_first_draw_is_what_it_was_before_there_were_others(scales):
    assert scales.fingerprint == "f30188ddaa23651571651d80f123fe0437af50fbd6fedbe24af130a8d9746843"
    assert Scales(draw=0).fingerprint == scales.fingerprint
    assert task_sets.parse("scales[draw=0]").stable == task_sets.parse("scales").stable == "scales[ratio=100,tasks=5]"


def test_another_draw_is_other_data_of_the_same_kind(scales):
    other = Scales(draw=1)
    assert other.fingerprint != scales.fingerprint
    for split, columns in scales.splits.items():
        for name, column in columns.items():
            assert other.splits[split][name].shape == column.shape
            assert (other.splits[split][name] == column).double().mean() < 0.001
    assert other.splits["train"]["y5"].std() > 50 * other.splits["train"]["y1"].std()


def test_the_option_tasks_sets_how_many_there_are():
    tasks = Scales(tasks=10).tasks
    assert [task.name for task in tasks] == [f"y{i}" for i in range(1, 11)]


@pytest.mark.parametrize(
    "variant",
    [
        "scales[draw=-1]",
        "scales[tasks=1]",
        "scales[tasks=0]",
        "scales[tasks=1001]",
        "scales[ratio=0]",
        "scales[ratio=-4]",
    ],
)
def test_an_option_out_of_range_is_refused_by_name(variant):
    option = variant[7:-1].partition("=")[0]
    with pytest.raises(UsageError, match=option):
        task_set(variant)


def test_an_infinite_ratio_is_refused_by_name():
    with pytest.raises(UsageError, match="ratio"):
        task_set("scales[ratio=inf]")


def test_the_network_starts_near_zero_so_that_small_targets_are_not_far(scales):
    torch.manual_seed(0)
    network = scales.network([task.name for task in scales.tasks])
    outputs = network({"x": scales.splits["train"]["x"]})
    assert all(prediction.std() < 0.1 for prediction in outputs.predictions.values())
