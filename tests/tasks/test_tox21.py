"""`tox21`: twelve binary tests of compounds, from a table in a local folder."""

import gzip

import numpy as np
import pandas as pd
import pytest

from bench.catalogue import task_set
from tasks.core.base import DataError
from tasks.core.smiles import bits, parts
from tasks.tox21 import FILE, TESTS, Tox21

NAMES = [name.replace("-", "_").lower() for name in TESTS]


@pytest.fixture
def changed(tox21_folder, tmp_path):
    """Write the table again after a change."""

    def write(change):
        table = pd.read_csv(tox21_folder / FILE)
        change(table).to_csv(tmp_path / FILE, index=False)
        return str(tmp_path)

    return write


def test_results_are_those_of_the_table_and_missing_ones_stay_missing(tox21_folder):
    table = pd.read_csv(tox21_folder / FILE)
    split = parts(bits(table["smiles"].tolist()))
    tox21 = Tox21(str(tox21_folder))
    assert [task.name for task in tox21.tasks] == NAMES
    for number, columns in enumerate(tox21.splits.values()):
        for name, column in zip(NAMES, TESTS, strict=True):
            assert np.array_equal(columns[name][:, 0], table[column][split == number], equal_nan=True)


def test_a_constant_predictor_has_half_of_the_area_in_each_test(tox21_folder):
    tasks = task_set(f"tox21[path={tox21_folder}]").tasks
    assert [task.metrics["auroc"].constant_score for task in tasks] == [0.5] * 12
    assert all(task.metrics["auroc"].higher_is_better for task in tasks)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop(columns="NR-ER"), "lacks the column NR-ER"),
        (lambda table: table.replace({"SR-p53": {1: 2}}), f"{FILE} has 2 in SR-p53, and should have 0, 1 or nothing"),
        (lambda table: table.assign(smiles="C(C"), r"'C\(C' is no SMILES"),
    ],
)
def test_other_data_is_refused_in_words(changed, change, said):
    with pytest.raises(DataError, match=said):
        task_set(f"tox21[path={changed(change)}]")


def test_a_split_without_a_label_of_a_test_is_refused_in_words(changed):
    def emptied(table):
        tested = parts(bits(table["smiles"].tolist())) == 2
        return table.assign(**{"NR-AR": table["NR-AR"].mask(tested)})

    with pytest.raises(DataError, match="the test split has no label of task 'nr_ar'"):
        task_set(f"tox21[path={changed(emptied)}]")


def test_no_folder_is_told_the_file_and_where_it_comes_from():
    with pytest.raises(DataError, match=r"tox21\.csv\.gz \(https://github\.com/deepchem/deepchem"):
        task_set("tox21")


@pytest.mark.parametrize(
    "content", [b"no archive", gzip.compress(b"smiles,NR-AR\nC,1\n" * 99)[:40]], ids=["text", "cut short"]
)
def test_a_file_that_is_no_whole_archive_is_refused_in_words(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(DataError, match=rf"{FILE} cannot be read"):
        Tox21(str(tmp_path)).check()


def test_the_real_rows_are_as_declared(real):
    tox21 = task_set(f"tox21[path={real / 'tox21'}]")
    columns = tox21.splits.values()
    assert [len(own["molecule"]) for own in columns] == [5586, 820, 1608]
    known = np.concatenate([np.hstack([own[name] for name in NAMES]) for own in columns])
    assert np.isnan(known).mean() == pytest.approx(0.17, abs=0.005)
    shares = np.nanmean(known, axis=0)
    assert (shares.min(), shares.max()) == pytest.approx((0.029, 0.162), abs=1e-3)
