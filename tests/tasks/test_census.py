"""`census`: what is known of a person, encoded without what gives the answers away."""

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.census import CATEGORIES, CLASSES, NUMBERS, Census
from tasks.core.base import DataError

KAGGLE = (
    "age,workclass,fnlwgt,education,education.num,marital.status,occupation,relationship,race,sex,capital.gain,"
    "capital.loss,hours.per.week,native.country,income"
)


@pytest.fixture
def census(census_folder):
    return Census(str(census_folder))


@pytest.fixture
def one_file(census_folder, tmp_path):
    """Write the training file as the hub has it: one file with a header, and no spaces."""

    def write(header=KAGGLE, quoted=False):
        text = (census_folder / "adult-train.csv").read_text().replace(", ", ",")
        if quoted:
            header = ",".join(f'"{name}"' for name in header.split(","))
            text = text.replace("?", '"?"').replace("Private", '"Private"')
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "adult.csv").write_text(f"{header}\n{text}")
        return tmp_path / "one"

    return write


def changed(folder, tmp_path, before, after):
    """A copy of the two files, changed."""
    (tmp_path / "changed").mkdir()
    for file in folder.iterdir():
        (tmp_path / "changed" / file.name).write_text(file.read_text().replace(before, after))
    return str(tmp_path / "changed")


def people(census, split="train"):
    """The first of the split's rows of each income and education: `{(income, education): person}`."""
    columns = census.splits[split]
    keys = zip(columns["income"].tolist(), columns["education"].tolist(), strict=True)
    return dict(zip(keys, columns["person"], strict=True))


def test_the_official_files_keep_their_split(census):
    assert {split: len(columns["person"]) for split, columns in census.splits.items()} == {
        "train": 72,
        "validation": 8,
        "test": 20,
    }


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("header", [KAGGLE, KAGGLE.replace(".", "-")], ids=["dotted", "hyphenated"])
def test_the_hubs_one_file_is_split_at_random(one_file, header, quoted):
    splits = Census(str(one_file(header, quoted))).splits
    assert {split: len(columns["person"]) for split, columns in splits.items()} == {
        "train": 56,
        "validation": 8,
        "test": 16,
    }
    assert set(splits["test"]["education"].tolist()) == {6, 8, 12, 15}


def test_every_person_is_in_one_split(tmp_path):
    """People of 80 ages, by which they are told apart."""
    row = "{}, Private, 1, HS-grad, 9, Widowed, Sales, Wife, White, Male, 0, 0, 40, Cuba, >50K\n"
    (tmp_path / "adult.csv").write_text(KAGGLE + "\n" + "".join(row.format(age) for age in range(10, 90)))
    splits = Census(str(tmp_path)).splits
    ages = [set(columns["person"][:, 0].tolist()) for columns in splits.values()]
    assert [len(own) for own in ages] == [56, 8, 16]
    assert len(ages[0] | ages[1] | ages[2]) == 80
    assert sorted(ages[2])[0] < -1 < 1 < sorted(ages[2])[-1]  # and not the last lines of the file


def test_targets_are_the_three_and_their_classes_are_in_order(census):
    assert {task.name: len(CLASSES[task.target]) for task in census.tasks} == {
        "income": 2,
        "marital_status": 7,
        "education": 16,
    }
    columns = census.splits["test"]
    found = {tuple(columns[name][i].item() for name in CLASSES) for i in range(20)}
    assert found == {(0, 0, 12), (1, 1, 8), (0, 5, 6), (1, 6, 15)}


def test_numbers_are_standardised_by_training_and_levels_are_one_hot(census):
    train = census.splits["train"]["person"]
    assert train.shape[1] == 4 + 3 + 3 + 3 + 2 + 3
    torch.testing.assert_close(train[:, :4].mean(0), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(train[:, :4].std(0, correction=0), torch.ones(4))
    assert train[:, 4:].unique().tolist() == [0, 1]
    assert (train[:, 4:].sum(1) == len(CATEGORIES)).all()
    test = census.splits["test"]["person"][:, :4]
    assert not torch.allclose(test.mean(0), torch.zeros(4), atol=1e-3)


def test_a_missing_value_is_a_level(census):
    persons = people(census)
    missing, cuban = persons[1, 8], persons[0, 6]  # the one with "?" thrice
    assert missing[[4, 7, 15]].tolist() == [1, 1, 1]  # "?" sorts before all other levels
    assert cuban[[4, 7, 15]].tolist() == [0, 0, 0]


def test_a_level_that_training_does_not_know_is_none_of_the_levels(census_folder, tmp_path):
    file = tmp_path / "levels"
    file.mkdir()
    (file / "adult-train.csv").write_text((census_folder / "adult-train.csv").read_text())
    test = (census_folder / "adult-test.csv").read_text().replace("Cuba", "Laos")
    (file / "adult-test.csv").write_text(test)
    columns = Census(str(file)).splits["test"]["person"]
    assert columns[:, 15:].sum(1).unique().tolist() == [0, 1]
    assert (columns[:, 15:].sum(1) == 0).double().mean() == 0.5


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (" 13, Never-married", " 2, Never-married"),  # education-num
        ("Husband", "Wife"),  # relationship
        ("77516", "1"),  # fnlwgt
        ("Divorced", "Separated"),
        ("11th", "9th"),
        (">50K", "<=50K"),
    ],
)
def test_what_gives_a_target_away_is_no_input(census, census_folder, tmp_path, before, after):
    other = Census(changed(census_folder, tmp_path, before, after))
    for split in ("train", "validation", "test"):
        assert torch.equal(other.splits[split]["person"], census.splits[split]["person"])


@pytest.mark.parametrize(
    ("before", "after"), [("39, State", "60, State"), ("Sales, U", "Tech-support, U"), ("99, C", "9, C")]
)
def test_what_is_an_input_is_seen(census, census_folder, tmp_path, before, after):
    other = Census(changed(census_folder, tmp_path, before, after))
    assert other.fingerprint != census.fingerprint


def test_a_column_without_spread_is_zero(census_folder, tmp_path):
    flat = Census(changed(census_folder, tmp_path, "2174", "0")).splits["test"]["person"]
    assert torch.isfinite(flat).all()
    assert (flat[:, NUMBERS.index("capital-gain")] == 0).all()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("Divorced", "Single", "marital-status 'Single' is none of Never-married, "),
        ("50, ?", "old, ?", "the train split's age is string, and should be int64"),
        (", <=50K", "", "income '' is none of <=50K, >50K"),
    ],
)
def test_other_data_is_refused_in_words(census_folder, tmp_path, before, after, said):
    with pytest.raises(DataError, match=f"scikit-learn/adult-census-income in .*{said}"):
        Census(changed(census_folder, tmp_path, before, after)).check()


def test_a_column_that_is_missing_is_named(one_file):
    with pytest.raises(DataError, match="the train split lacks the column marital-status: it has age, workclass, "):
        Census(str(one_file(KAGGLE.replace("marital.status", "married")))).check()


def test_half_of_the_official_files_is_not_enough(census_folder, tmp_path):
    (tmp_path / "adult-train.csv").write_text((census_folder / "adult-train.csv").read_text())
    with pytest.raises(DataError, match=r"adult\.csv cannot be read"):
        Census(str(tmp_path)).check()


def test_metrics_of_a_predictor_that_sees_no_input(census):
    """In the four people of the test file, each five times, all but the commonest class is missed."""
    assert {task.name: task.metrics["macro_recall"].constant_score for task in census.tasks} == {
        "income": 0.5,
        "marital_status": 0.25,
        "education": 0.25,
    }
    assert all(metric.higher_is_better for task in census.tasks for metric in task.metrics.values())


def test_macro_recall_is_the_mean_share_of_each_class_that_is_found(census):
    draw = np.random.default_rng(0)
    target, found = draw.integers(16, size=500), draw.integers(16, size=500)
    metric = census.task("education").metrics["macro_recall"].factory()
    for part in (slice(100), slice(100, 500)):
        metric.update(torch.from_numpy(found[part]), torch.from_numpy(target[part]))
    expected = np.mean([(found[target == c] == c).mean() for c in range(16)])
    assert float(metric.compute()) == pytest.approx(expected)


def test_the_real_files_are_as_declared(real):
    census = Census(str(real / "adult"))
    assert {split: len(columns["person"]) for split, columns in census.splits.items()} == {
        "train": 29_305,
        "validation": 3_256,
        "test": 16_281,
    }
    table = pd.read_csv(real / "adult" / "adult-test.csv", header=None, skipinitialspace=True)
    for column, name in ((14, "income"), (5, "marital-status"), (3, "education")):
        expected = table[column].str.strip(".").map(CLASSES[name].index)
        assert census.splits["test"][name].tolist() == expected.tolist()
    untrained = {task.name: task.metrics["accuracy"].constant_score for task in census.tasks}
    assert untrained == pytest.approx({"income": 0.764, "marital_status": 0.455, "education": 0.324}, abs=1e-3)


def test_the_real_training_file_does_for_the_hubs(real, tmp_path):
    """The hub's file has these rows."""
    (tmp_path / "adult.csv").write_text(f"{KAGGLE}\n{(real / 'adult' / 'adult-train.csv').read_text()}")
    splits = Census(str(tmp_path)).splits
    assert [len(columns["person"]) for columns in splits.values()] == [22_793, 3_256, 6_512]
