"""`visits`: health care in a year, split by person, without what gives the answers away."""

import hashlib
from importlib.metadata import distribution
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tasks import visits
from tasks.core.base import DataError
from tasks.visits import AMOUNTS, EVENTS, NUMBERS, SOURCE, Visits

OUTCOMES = (
    *("outpdol", "drugdol", "suppdol", "mentdol", "inpdol", "meddol", "totadm", "inpmis", "mentvis", "mdvis"),
    *("notmdvis", "lnmeddol", "binexp"),
)
"""What happened in the year, and functions of it."""


@pytest.fixture(scope="module")
def real_table():
    """The file in the package, read here in another way."""
    return pd.read_csv(distribution("statsmodels").locate_file(f"statsmodels/{SOURCE}"))


@pytest.fixture(scope="module")
def built():
    return Visits()


@pytest.fixture
def table():
    """A hundred persons of three years. Their mental health index (mhi) tells them apart."""
    draw = np.random.default_rng(3)
    person = np.repeat(np.arange(100), 3)
    columns = {name: draw.normal(2, 3, len(person)) for name in NUMBERS} | {"mhi": person}
    outcomes = {name: draw.poisson(0.7, len(person)) * 1.5 for name in OUTCOMES}
    return pd.DataFrame({"zper": person + 125_024, "site": person % 4 + 1, "time": 1.0, **columns, **outcomes})


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Put a table in the place of the package's file, with its digest."""

    def put(table):
        file = tmp_path / SOURCE
        file.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(file, index=False)
        package = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
        monkeypatch.setattr(visits, "find_spec", lambda name: package)
        monkeypatch.setattr(visits, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
        return Visits().splits

    return put


def everything(splits, name="person"):
    return torch.cat([columns[name] for columns in splits.values()])


def test_every_person_is_in_one_split_with_all_years(given, table):
    splits = given(table)
    assert [len(columns["person"]) for columns in splits.values()] == [180, 60, 60]
    people = [set(columns["person"][:, NUMBERS.index("mhi")].tolist()) for columns in splits.values()]
    assert [len(own) for own in people] == [60, 20, 20]
    assert len(people[0] | people[1] | people[2]) == 100


@pytest.mark.parametrize("name", [*OUTCOMES, "time"])
def test_what_happened_in_the_year_is_no_input(given, table, name):
    before = given(table)
    assert torch.equal(everything(given(table.assign(**{name: table[name] * 3 + 1}))), everything(before))


@pytest.mark.parametrize("name", [*NUMBERS, "site"])
def test_what_is_an_input_is_seen(given, table, name):
    before = everything(given(table))
    assert not torch.equal(everything(given(table.assign(**{name: table[name].to_numpy()[::-1]}))), before)


def test_inputs_are_standardised_by_training(given, table):
    splits = given(table)
    train, test = (splits[split]["person"][:, : len(NUMBERS)] for split in ("train", "test"))
    torch.testing.assert_close(train.mean(0), torch.zeros(len(NUMBERS)), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std(0, correction=0), torch.ones(len(NUMBERS)), atol=1e-5, rtol=0)
    assert not torch.allclose(test.mean(0), torch.zeros(len(NUMBERS)), atol=1e-3)


def test_a_missing_input_is_the_mean_and_an_indicator(given, table):
    whole, gap = everything(given(table)), (table["zper"] % 7 == 0).to_numpy()
    holes = everything(given(table.assign(ghindx=table["ghindx"].mask(gap))))
    assert whole.shape[1] == len(NUMBERS) + 4
    assert holes.shape[1] == len(NUMBERS) + 1 + 4
    indicator = holes[:, len(NUMBERS)] == 1
    assert indicator.sum() == gap.sum()
    assert (holes[indicator, NUMBERS.index("ghindx")] == 0).all()
    assert (holes[~indicator, NUMBERS.index("ghindx")] != 0).all()


def test_a_site_is_one_of_the_sites(given, table):
    assert (everything(given(table))[:, -4:].sum(1) == 1).all()


def test_amounts_are_standardised_logarithms_and_events_are_whether_there_was_any(built, real_table):
    for name, column in AMOUNTS.items():
        train, found = built.splits["train"][name], everything(built.splits, name)
        assert (train.mean().item(), train.std(correction=0).item()) == pytest.approx((0, 1), abs=1e-5)
        logarithms = np.sort(np.log(real_table[column] + 1))
        slope, start = np.polyfit(np.sort(found[:, 0].numpy()), logarithms, 1)
        np.testing.assert_allclose(slope * np.sort(found[:, 0].numpy()) + start, logarithms, atol=1e-5)
    for name, column in EVENTS.items():
        found = everything(built.splits, name)
        assert set(found.unique().tolist()) == {0, 1}
        assert found.sum() == (real_table[column] > 0).sum()


def test_the_real_persons_are_all_there_and_the_outcomes_are_rare(built, real_table):
    assert len(everything(built.splits)) == len(real_table) == 20_190
    assert real_table["zper"].nunique() == 5_912
    for columns in built.splits.values():
        assert columns["admission"].mean() == pytest.approx(0.09, abs=0.01)
        assert columns["mental_health"].mean() == pytest.approx(0.035, abs=0.005)


def test_no_real_input_is_nearly_a_target(built):
    """The best single input explains a ninth of a target: a function of an outcome would explain far more."""
    inputs = everything(built.splits).double()
    for task in built.tasks:
        correlations = torch.corrcoef(torch.cat([inputs, everything(built.splits, task.target)], 1).T)[-1, :-1]
        assert correlations.nan_to_num().abs().max() < 1 / 3


def test_a_package_without_the_file_is_said(tmp_path, monkeypatch):
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(visits, "find_spec", lambda name: package)
    with pytest.raises(DataError, match=r"visits: .* has no datasets/randhie/src/randhie\.csv.* 0\.15"):
        Visits().check()


def test_a_package_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(visits, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="visits: statsmodels is not installed"):
        Visits().check()


def test_another_file_is_refused(given, table, monkeypatch):
    given(table)
    monkeypatch.setattr(visits, "SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"visits: .*randhie\.csv is not the file that this set was made for"):
        Visits().check()


def test_statsmodels_is_read_without_being_imported(python):
    code = "import sys, tasks.visits as v; v.Visits().check(); sys.exit('statsmodels' in sys.modules)"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
