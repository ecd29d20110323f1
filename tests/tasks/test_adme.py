"""`adme`: six measurements of compounds, from a table in a local folder."""

import numpy as np
import pandas as pd
import pytest
import torch

from bench.catalogue import task_set
from tasks.adme import FILE, TARGETS, Adme
from tasks.core.base import DataError
from tasks.core.smiles import bits, parts


@pytest.fixture
def changed(adme_folder, tmp_path):
    """Write the table again after a change."""

    def write(change):
        table = pd.read_csv(adme_folder / FILE)
        change(table).to_csv(tmp_path / FILE, index=False)
        return str(tmp_path)

    return write


@pytest.fixture
def adme(adme_folder):
    return Adme(str(adme_folder))


def test_every_molecule_is_in_the_split_that_its_inputs_say(adme, molecules):
    inputs = bits(molecules)
    for number, columns in enumerate(adme.splits.values()):
        expected = inputs[parts(inputs) == number]
        assert np.array_equal(columns["molecule"], expected)
    assert sum(len(columns["molecule"]) for columns in adme.splits.values()) == 125


def test_measurements_are_standardised_by_the_labels_of_training_and_missing_ones_stay_missing(adme, adme_folder):
    table = pd.read_csv(adme_folder / FILE)
    split = parts(bits(table["SMILES"].tolist()))
    for name, column in TARGETS.items():
        train = table[column][split == 0]
        for number, columns in enumerate(adme.splits.values()):
            expected = (table[column][split == number] - train.mean()) / train.std(ddof=0)
            assert np.allclose(columns[name][:, 0], expected, atol=1e-5, equal_nan=True)
        assert adme.splits["train"][name].isnan().any() == train.isna().any()


def test_a_molecule_that_is_written_in_two_ways_is_on_one_side(changed):
    """Each molecule twice, the second time in another order of its atoms."""

    def twice(table):
        table = table[~table["SMILES"].str.contains("Cl")][:25]
        other = [f"{s[-1]}Cc1cc({s[7]})ccc1{s[0]}" for s in table["SMILES"]]
        return pd.concat([table, table.assign(SMILES=other)])

    splits = Adme(changed(twice)).splits
    rows = [set(map(bytes, columns["molecule"].numpy())) for columns in splits.values()]
    assert not (rows[0] & rows[1] or rows[0] & rows[2] or rows[1] & rows[2])
    assert sum(len(columns["molecule"]) for columns in splits.values()) == 50
    assert sum(map(len, rows)) == 25


def test_the_order_of_the_rows_moves_no_molecule(adme, changed):
    other = Adme(changed(lambda table: table[::-1]))
    for split, columns in adme.splits.items():
        assert torch.equal(other.splits[split]["molecule"].flip(0), columns["molecule"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop(columns=TARGETS["efflux"]), "lacks the column LOG MDR1-MDCK ER"),
        (lambda table: table.replace({"SMILES": {"Cc1ccc(C)cc1CC": "hello"}}), "'hello' is no SMILES"),
        (lambda table: table.assign(SMILES=[None, *table["SMILES"][1:]]), f"{FILE} has no SMILES in row 1"),
        (lambda table: table.assign(**{TARGETS["efflux"]: "high"}), "ER .* is string, and should be float64"),
        (lambda table: pd.concat([table] * 30), "has 3,750 rows, and should have 3,521"),
        (
            lambda table: table.assign(**{TARGETS["rat_binding"]: np.inf}),
            "has inf in LOG .*, and should have a finite number",
        ),
    ],
)
def test_other_data_is_refused_in_words(changed, change, said):
    with pytest.raises(DataError, match=said):
        task_set(f"adme[path={changed(change)}]")


def test_no_folder_or_one_without_the_file_is_told_the_file_and_where_it_comes_from(tmp_path):
    for variant in ("adme", f"adme[path={tmp_path}]"):
        with pytest.raises(DataError, match=rf"{FILE} \(https://github.com/molecularinformatics/Computational-ADME\)"):
            task_set(variant)


def test_a_file_that_is_no_table_is_refused_in_words(tmp_path):
    (tmp_path / FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=f"{FILE} cannot be read"):
        Adme(str(tmp_path)).check()


def test_the_real_rows_are_as_declared(real):
    adme = task_set(f"adme[path={real / 'adme_biogen'}]")
    columns = adme.splits.values()
    assert [len(own["molecule"]) for own in columns] == [2429, 385, 707]
    labels = {name: sum(int((~own[name].isnan()).sum()) for own in columns) for name in TARGETS}
    assert labels == {
        "human_clearance": 3087,
        "efflux": 2642,
        "solubility": 2173,
        "human_binding": 194,
        "rat_binding": 168,
        "rat_clearance": 3054,
    }
    assert min(int((~own["rat_binding"].isnan()).sum()) for own in columns) >= 20
