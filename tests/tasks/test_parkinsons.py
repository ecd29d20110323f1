"""`parkinsons`: recordings of patients, split by patient, without what gives the answers away."""

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.core.base import DataError
from tasks.parkinsons import FILE, INPUTS, Parkinsons


@pytest.fixture
def write(tmp_path):
    """Write a table to the file of a folder."""

    def to(table, separator="\t"):
        table.to_csv(tmp_path / FILE, sep=separator, index=False)
        return Parkinsons(str(tmp_path))

    return to


def ages(columns):
    return set(columns["recording"][:, INPUTS.index("age")].tolist())


def test_every_subject_is_in_one_split_with_all_recordings(write, recordings):
    splits = write(recordings).splits
    assert [len(columns["recording"]) for columns in splits.values()] == [12 * 6, 4 * 6, 4 * 6]
    found = [ages(columns) for columns in splits.values()]
    assert [len(own) for own in found] == [12, 4, 4]
    assert len(found[0] | found[1] | found[2]) == 20


def test_every_split_has_subjects_of_both_sexes(write, recordings):
    splits = write(recordings).splits
    assert [columns["sex"].mean().item() for columns in splits.values()] == [0.5, 0.5, 0.5]


def test_the_split_does_not_depend_on_the_order_of_the_recordings(write, recordings):
    one = ages(write(recordings).splits["test"])
    by_time = recordings.sort_values(["test_time"]).sort_values(["subject#"], kind="stable")
    assert ages(write(by_time).splits["test"]) == one


def test_inputs_and_scores_are_standardised_by_training(write, recordings):
    splits = write(recordings).splits
    for name in ("recording", "motor_UPDRS", "total_UPDRS"):
        train, test = splits["train"][name], splits["test"][name]
        torch.testing.assert_close(train.mean(0), torch.zeros(train.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(train.std(0, correction=0), torch.ones(train.shape[1]), atol=1e-5, rtol=0)
        assert not torch.allclose(test.mean(0), torch.zeros(test.shape[1]), atol=1e-3)


@pytest.mark.parametrize("name", ["motor_UPDRS", "total_UPDRS"])
def test_a_score_is_no_input(write, recordings, name):
    before, other = write(recordings).splits, write(recordings.assign(**{name: recordings[name] ** 2})).splits
    for split in before:
        assert torch.equal(other[split]["recording"], before[split]["recording"])
        assert not torch.equal(other[split][name], before[split][name])


def test_the_sex_and_the_number_of_the_subject_are_no_inputs(write, recordings):
    """The split reads both, so the network's input is looked at: nothing of it tells them."""
    recording = torch.cat([columns["recording"] for columns in write(recordings).splits.values()])
    assert recording.shape[1] == len(INPUTS) == 18
    renamed = write(recordings.assign(**{"subject#": recordings["subject#"] * 10})).splits
    assert torch.equal(torch.cat([columns["recording"] for columns in renamed.values()]), recording)
    assert not {"sex", "subject#", "motor_UPDRS", "total_UPDRS"} & set(INPUTS)


def test_columns_are_separated_by_commas_or_tabs(write, recordings):
    assert write(recordings, ",").fingerprint == write(recordings, "\t").fingerprint


def test_a_column_without_spread_is_zero(write, recordings):
    flat = write(recordings.assign(NHR=0.1)).splits["test"]["recording"]
    assert flat[:, INPUTS.index("NHR")].abs().max() < 1e-6


def test_without_a_folder_it_says_what_is_wanted():
    with pytest.raises(DataError, match=r"name a folder by \[path=…\] that contains parkinsons_updrs\.data .* UCI"):
        Parkinsons().check()


def test_a_folder_without_the_file_is_named(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path} should contain {FILE}"):
        Parkinsons(str(tmp_path)).check()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda table: table.drop(columns="PPE"), "lacks the column PPE: it has subject#, "),
        (lambda table: table.assign(HNR="loud"), "has values in the column HNR that are not numbers"),
        (lambda table: table.assign(motor_UPDRS=np.nan), "in the column motor_UPDRS that are not numbers"),
        (lambda table: table.assign(sex=table["sex"] + 1), r"has the sex 2, and should have 0 \(male\) and 1"),
        (lambda table: table[table["subject#"] < 4], "subjects of sex 0 are too few for three splits"),
    ],
)
def test_other_data_is_refused_in_words(write, recordings, changed, said):
    with pytest.raises(DataError, match=said):
        write(changed(recordings)).check()


def test_the_real_file_is_as_declared(real):
    splits = Parkinsons(str(real / "parkinsons")).splits
    table = pd.read_csv(real / "parkinsons" / FILE, sep="\t")
    assert [len(columns["sex"]) for columns in splits.values()] == [3_536, 1_134, 1_205]
    assert sum(columns["sex"].sum() for columns in splits.values()) == table["sex"].sum()
    train = splits["train"]
    assert torch.corrcoef(torch.cat([train["motor_UPDRS"], train["total_UPDRS"]], 1).T)[0, 1] > 0.9
    sizes = table.groupby("subject#").size().to_numpy()
    assert all(sizes.min() * 8 <= len(columns["sex"]) for columns in splits.values())
    assert all(0.2 < columns["sex"].mean() < 0.5 for columns in splits.values())
