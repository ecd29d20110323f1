"""`sarcos`: measured torques, from MATLAB's files in a local folder."""

import numpy as np
import pytest
import scipy.io
import torch

from bench.catalogue import task_set
from tasks.core.base import DataError
from tasks.sarcos import Sarcos

NAMES = [f"torque_{k}" for k in range(1, 8)]


def rows(count, seed):
    """Rows of 28 numbers, no two alike, with the sizes of the real ones."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(count, 28)) * np.repeat([0.2, 1, 10, 5], 7) + 3


@pytest.fixture
def write(tmp_path):
    """Write a folder of files: their names without `.mat`, and what the matrix of that name is."""

    def into(**matrices):
        for name, matrix in matrices.items():
            scipy.io.savemat(tmp_path / f"{name}.mat", {name: matrix})
        return str(tmp_path)

    return into


def joined(columns):
    """The rows of a split, inputs and targets, in float64."""
    return torch.hstack([columns["motion"], *(columns[name] for name in NAMES)]).double().numpy()


def sizes(splits):
    return {split: len(columns["motion"]) for split, columns in splits.items()}


def test_the_official_files_keep_their_split(write):
    train, test = rows(200, 1), rows(50, 2)
    splits = Sarcos(write(sarcos_inv=train, sarcos_inv_test=test)).splits
    assert sizes(splits) == {"train": 180, "validation": 20, "test": 50}
    scale = np.polyfit(splits["test"]["torque_3"][:, 0].double(), test[:, 23], 1)
    assert scale[0] == pytest.approx(10)  # N m in a unit
    assert np.allclose(np.polyval(scale, splits["test"]["torque_3"][:, 0].double()), test[:, 23], atol=1e-4)


def test_the_test_file_alone_is_split_at_random(write):
    every = rows(200, 1)
    every[:, 0] = np.arange(200)  # by which rows are told apart
    splits = Sarcos(write(sarcos_inv_test=every)).splits
    assert sizes(splits) == {"train": 140, "validation": 20, "test": 40}
    first = [set(columns["motion"][:, 0].tolist()) for columns in splits.values()]
    assert len(first[0] | first[1] | first[2]) == 200
    assert min(first[2]) < -1 < 1 < max(first[2])  # and not the last rows of the file


def test_inputs_are_standardised_and_torques_centred_by_training_alone(write):
    train, test = rows(200, 1), rows(50, 2) + 100
    splits = Sarcos(write(sarcos_inv=train, sarcos_inv_test=test)).splits
    found = joined(splits["train"])
    assert np.abs(found.mean(0)).max() < 1e-5
    assert found[:, :21].std(0) == pytest.approx(np.ones(21), rel=1e-5)
    assert found[:, 21:].std(0) == pytest.approx(np.full(7, 0.5), rel=0.3)  # their ratios are left as they are
    assert joined(splits["test"]).mean(0).min() > 5


def test_an_input_without_spread_is_zero(write):
    still = rows(200, 1)
    still[:, 4] = 0.5
    splits = Sarcos(write(sarcos_inv_test=still)).splits
    assert all((columns["motion"][:, 4] == 0).all() for columns in splits.values())


def test_its_tasks_are_the_seven_torques(write):
    sarcos = Sarcos(write(sarcos_inv_test=rows(50, 1)))
    assert [task.name for task in sarcos.tasks] == NAMES
    assert all(task.metrics.keys() == {"nrmse"} for task in sarcos.tasks)


def test_without_a_folder_the_file_is_named_and_where_it_is_from():
    with pytest.raises(
        DataError, match=r"sarcos is not fetched: .*\[path=…\].*sarcos_inv_test\.mat.*gaussianprocess\.org"
    ):
        task_set("sarcos")


def test_a_folder_without_the_file_is_told_which_and_where_it_is_from(tmp_path):
    with pytest.raises(DataError, match=r"the folder has no sarcos_inv_test\.mat.*gaussianprocess\.org"):
        Sarcos(str(tmp_path)).check()


def test_the_training_file_alone_is_not_enough(write):
    with pytest.raises(DataError, match=r"sarcos_inv_test\.mat cannot be read"):
        Sarcos(write(sarcos_inv=rows(50, 1))).check()


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (
            rows(20, 1)[:, :27],
            "the matrix of sarcos_inv_test.mat is 20×27 of float64, and should have 28 columns of numbers",
        ),
        (
            rows(20, 1).astype("U9"),
            "the matrix of sarcos_inv_test.mat is 20×28 of <U9, and should have 28 columns of numbers",
        ),
        (rows(4450, 1), "the test split has 4,450 rows, and should have 4,449"),
    ],
)
def test_another_matrix_is_refused_in_words(write, matrix, said):
    with pytest.raises(DataError, match=f"sarcos in .*{said}"):
        Sarcos(write(sarcos_inv_test=matrix)).check()


def test_a_file_with_another_matrix_is_refused(tmp_path):
    scipy.io.savemat(tmp_path / "sarcos_inv_test.mat", {"sarcos": rows(20, 1)})
    with pytest.raises(DataError, match=r"sarcos_inv_test\.mat has no matrix sarcos_inv_test"):
        Sarcos(str(tmp_path)).check()


def test_a_file_of_something_else_is_refused_in_one_line(tmp_path):
    (tmp_path / "sarcos_inv_test.mat").write_bytes(b"no matrix\n" * 100)
    with pytest.raises(DataError, match=r"^sarcos in .*: sarcos_inv_test\.mat cannot be read: .+$") as caught:
        Sarcos(str(tmp_path)).check()
    assert "\n" not in str(caught.value)


def test_a_number_that_is_missing_is_refused(write):
    holed = rows(50, 1)
    holed[7, 3] = np.nan
    with pytest.raises(DataError, match="should be finite"):
        Sarcos(write(sarcos_inv_test=holed)).check()


def test_the_real_test_file_is_as_declared(real):
    splits = Sarcos(str(real / "sarcos")).splits
    assert sizes(splits) == {"train": 3_114, "validation": 445, "test": 890}
    spread = np.vstack([joined(columns) for columns in splits.values()])[:, 21:].std(0) * 10
    assert spread == pytest.approx([20.4, 14.9, 9.9, 13.8, 0.97, 1.71, 2.59], rel=0.01)
