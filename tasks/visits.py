"""The RAND Health Insurance Experiment: how much health care a person uses in a year, out of an installed package."""

import hashlib
import io
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tasks.core.base import Card, Network, Task, TaskSet
from tasks.core.errors import DataError
from tasks.core.losses import binary_cross_entropy, squared_error
from tasks.core.metrics.binary import auroc, probabilities_and_labels
from tasks.core.metrics.regression import normalized_rmse
from tasks.core.protocol import Protocol
from tasks.networks.mlp import MLP

SOURCE = "datasets/randhie/src/randhie.csv"
"""The file in the package statsmodels."""
SHA256 = "fe64f3c8e987779daa6052dd756d9ce277e025330f5549126c7c2f6a3c9c5541"
PERSON = "zper"
AMOUNTS = {"doctor_visits": "mdvis", "outpatient_dollars": "outpdol", "drug_dollars": "drugdol"}
"""The regressions, on log(1 + amount), with their columns."""
EVENTS = {"admission": "totadm", "mental_health": "mentvis"}
"""The yes-or-no outcomes (the count is above 0), with their columns."""
NUMBERS = (
    *("logc", "idp", "lpi", "fmde", "physlm", "disea", "hlthg", "hlthf", "hlthp", "linc", "lfam", "educdec", "xage"),
    *("female", "child", "fchild", "black", "mhi", "ghindx", "tookphys", "year"),
)
"""The inputs, which are standardised."""
SITE = "site"
"""The input that is a category."""
VALIDATION, TEST = 0.2, 0.2
"""The shares of the persons."""
DATA_SEED = 0


class Visits(TaskSet):
    """People of a health insurance experiment: doctor visits, dollars, hospital admission, mental-health visit.

    Three squared errors (about 0.8 once trained) meet two cross-entropies of rare outcomes (about 0.28 and 0.13 nats:
    9.0 % and 3.5 % have one). Real data, where equal weights are nearly right.
    """

    inputs = ("person",)
    protocols = {
        "smoke": Protocol(name="smoke", steps=20, batch_size=128, lr=6e-3, steps_per_epoch=5, points=2),
        "quick": Protocol(name="quick", steps=400, batch_size=128, lr=6e-3, steps_per_epoch=40),
        "standard": Protocol(name="standard", steps=2_000, batch_size=128, lr=3e-3, steps_per_epoch=95),
    }
    card = Card(
        origin=(
            "RAND Health Insurance Experiment, as used by Cameron & Trivedi 2005 (Microeconometrics); the file with "
            "all 45 columns in the package statsmodels (0.15 or later), checked by its sha256"
        ),
        licence='"This is in the public domain" (COPYRIGHT of statsmodels.datasets.randhie)',
        preprocessing=(
            "20,190 years of 5,912 persons; persons, with all of their years, are split 60 / 20 / 20 at random, the "
            "same for every seed. Targets: doctor visits, outpatient dollars and drug dollars as log(1 + amount), "
            "standardised by training; any hospital admission; any mental-health visit. Inputs: the 17 regressors of "
            "Cameron & Trivedi, mental and general health at the start, a physical at the start, the study year, and "
            "the site one-hot; numbers are standardised by training, a missing one is the mean and has an indicator. "
            "Left out: everything that happened in the year (other visits and dollars, and functions of targets), and "
            "the time eligible in the year, which is known only at its end and tells admissions"
        ),
        traps=(
            "These are numbers about the use of health care in an experiment, and never a recommendation to anybody. "
            "The amounts are mostly chance: single-task networks stay at 88 to 90 % of the constant predictor's error. "
            "The three amounts are correlated (0.58 to 0.85). Mental-health visits are so rare that a batch of 128 has "
            "four or five, and the test split about 130. Members of a family may be in different splits. With "
            "logarithms that are not standardised, the amounts drown the two events: at small rates the AUROC of equal "
            "weights is below chance."
        ),
        regime=(
            "Equal weights are nearly right; what imbalance there is comes from mixed kinds of loss and rare events. "
            "At `quick`, seeds 1002-1007, each at the best of 7 rates: equal weights −0.16 points of Δ task from "
            "single-task networks (95 % interval −0.43 to +0.10; equivalent within ±1). Command: python -m bench run "
            "--methods equal --tasks visits --seeds 1002-1007 --no-untuned"
        ),
    )

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Read the table, split its persons, and encode their years."""
        table = _table()
        amounts = list(AMOUNTS.values())
        table[amounts] = np.log1p(table[amounts])
        gaps = [name for name in NUMBERS if table[name].isna().any()]
        parts = _split(table)
        numbers, sites = [*NUMBERS, *amounts], np.sort(table[SITE].unique())
        mean, deviation = parts["train"][numbers].mean(), parts["train"][numbers].std(ddof=0)
        splits = {}
        for split, part in parts.items():
            standard = ((part[numbers] - mean) / deviation).fillna(0)  # what is missing is the mean
            person = np.hstack([standard[list(NUMBERS)], part[gaps].isna(), part[[SITE]].to_numpy() == sites])
            columns = {
                "person": person,
                **{name: standard[[column]].to_numpy() for name, column in AMOUNTS.items()},
                **{name: part[[column]].to_numpy() > 0 for name, column in EVENTS.items()},
            }
            splits[split] = {name: torch.tensor(column, dtype=torch.float32) for name, column in columns.items()}
        return splits

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The amounts, then the events."""
        train = self.splits["train"]
        amounts = (Task(name, name, squared_error, {"nrmse": normalized_rmse(train[name])}) for name in AMOUNTS)
        inputs = probabilities_and_labels
        events = (Task(name, name, binary_cross_entropy, {"auroc": auroc()}, inputs) for name in EVENTS)
        return (*amounts, *events)

    def network(self, tasks: Sequence[str]) -> Network:
        """Return an MLP of one hidden layer of 64."""
        return MLP("person", (self.splits["train"]["person"].shape[1], 64), dict.fromkeys(tasks, 1))


def _table() -> pd.DataFrame:
    """Read the file out of the installed package, which is not imported: that would take longer than a run.

    Raises:
        DataError: there is no such file, or it is another one.
    """
    package = find_spec("statsmodels")
    if package is None or not package.submodule_search_locations:
        raise DataError(
            "visits: statsmodels is not installed, and the data is in it: install statsmodels 0.15 or later"
        )
    file = Path(package.submodule_search_locations[0], SOURCE)
    if not file.is_file():
        raise DataError(
            f"visits: {package.submodule_search_locations[0]} has no {SOURCE}: install statsmodels 0.15 or later"
        )
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DataError(f"visits: {file} is not the file that this set was made for (sha256 {SHA256[:12]}…)")
    return pd.read_csv(io.BytesIO(content), usecols=[PERSON, SITE, *NUMBERS, *AMOUNTS.values(), *EVENTS.values()])


def _split(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Put every person, with all of their years, into one split."""
    persons = np.random.default_rng(DATA_SEED).permutation(table[PERSON].unique())
    tested, validated = round(TEST * len(persons)), round((TEST + VALIDATION) * len(persons))
    parts = {"train": persons[validated:], "validation": persons[tested:validated], "test": persons[:tested]}
    return {split: table[table[PERSON].isin(own)] for split, own in parts.items()}
