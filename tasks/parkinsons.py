"""Parkinson's telemonitoring: two scores of the disease and the sex of a patient, predicted from the voice."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tasks.core.base import Card, Network, Task, TaskSet
from tasks.core.errors import DataError
from tasks.core.hub import require_folder
from tasks.core.losses import binary_cross_entropy, squared_error
from tasks.core.metrics.binary import auroc, probabilities_and_labels
from tasks.core.metrics.regression import normalized_rmse
from tasks.core.protocol import Protocol
from tasks.networks.mlp import MLP

FILE = "parkinsons_updrs.data"
SUBJECT = "subject#"
SCORES = ("motor_UPDRS", "total_UPDRS")
SEX = "sex"
INPUTS = (
    *("age", "test_time", "Jitter(%)", "Jitter(Abs)", "Jitter:RAP", "Jitter:PPQ5", "Jitter:DDP", "Shimmer"),
    *("Shimmer(dB)", "Shimmer:APQ3", "Shimmer:APQ5", "Shimmer:APQ11", "Shimmer:DDA", "NHR", "HNR", "RPDE", "DFA"),
    "PPE",
)
VALIDATION, TEST = 0.2, 0.2
"""The shares of the subjects of each sex."""
DATA_SEED = 0


class Parkinsons(TaskSet):
    """Recordings of patients with Parkinson's disease, from a folder (path): two scores of the disease, and sex.

    Two squared errors of standardised scores, which are nearly the same score, and one cross-entropy, on 16 measures
    of the voice, age and time.
    """

    embedded = False
    local = f"{FILE} (Parkinsons Telemonitoring of the UCI Machine Learning Repository)"
    inputs = ("recording",)
    protocols = {
        "smoke": Protocol(name="smoke", steps=20, batch_size=64, lr=1e-3, steps_per_epoch=5, points=2),
        "quick": Protocol(name="quick", steps=400, batch_size=64, lr=1e-3, steps_per_epoch=40),
        "standard": Protocol(name="standard", steps=2_000, batch_size=64, lr=1e-3, steps_per_epoch=55),
    }
    card = Card(
        origin=f"Parkinsons Telemonitoring (Tsanas & Little 2009, UCI), from a local folder with the file {FILE}",
        licence="CC BY 4.0 as far as we know (UCI); the copies of the file that we have seen state none",
        preprocessing=(
            "The subjects of each sex are split 60 / 20 / 20 at random, each with all recordings; the same for every "
            "seed. Inputs and scores are standardised by training. Left out of the inputs: the subject's number and "
            "the three targets"
        ),
        traps=(
            "There are 42 subjects and 5,875 recordings: the subjects are the sample, and eight or nine of them test. "
            "Age nearly names a training subject, so networks memorise subjects: a score above 1 on the test split "
            "(worse than a constant) is no fault of the loader. Recordings split at random would hide all that. Scores "
            "between visits were interpolated by the authors."
        ),
    )

    def __init__(self, path: str = "") -> None:
        self.path = path

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Read the table, split its subjects, and encode their recordings."""
        require_folder("parkinsons", self.local, self.path)
        splits = _split(_table(self.path))
        numbers = [*INPUTS, *SCORES]
        train = splits["train"][numbers].to_numpy(np.float64)
        mean, deviation = train.mean(0), np.maximum(train.std(0), 1e-9)
        encoded = {}
        for split, part in splits.items():
            standard = torch.from_numpy(((part[numbers].to_numpy(np.float64) - mean) / deviation).astype(np.float32))
            scores = standard[:, len(INPUTS) :].split(1, dim=1)
            encoded[split] = {
                "recording": standard[:, : len(INPUTS)],
                **dict(zip(SCORES, scores, strict=True)),
                SEX: torch.tensor(part[[SEX]].to_numpy(), dtype=torch.float32),
            }
        return encoded

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The scores, then the sex (1 is female)."""
        train = self.splits["train"]
        scores = (Task(name, name, squared_error, {"nrmse": normalized_rmse(train[name])}) for name in SCORES)
        return (*scores, Task(SEX, SEX, binary_cross_entropy, {"auroc": auroc()}, probabilities_and_labels))

    def network(self, tasks: Sequence[str]) -> Network:
        """Return an MLP of two hidden layers of 32."""
        return MLP("recording", (len(INPUTS), 32, 32), dict.fromkeys(tasks, 1))


def _table(path: str) -> pd.DataFrame:
    """Read the file, whose columns are separated by commas (as at UCI) or tabs.

    Raises:
        DataError: there is no such file, or it is not as declared.
    """
    file = Path(path).expanduser() / FILE
    if not file.is_file():
        raise DataError(f"parkinsons: the folder {path} should contain {Parkinsons.local}")
    try:
        with file.open(encoding="utf-8") as lines:
            separator = "\t" if "\t" in lines.readline() else ","
        table = pd.read_csv(file, sep=separator)
    except (OSError, ValueError) as problem:
        raise DataError(f"parkinsons: {file} cannot be read: {problem}") from problem
    for name in (SUBJECT, *INPUTS, *SCORES, SEX):
        if name not in table:
            raise DataError(f"parkinsons: {file} lacks the column {name}: it has {', '.join(map(str, table))}")
        if table[name].dtype.kind not in "if" or not np.isfinite(table[name]).all():
            raise DataError(f"parkinsons: {file} has values in the column {name} that are not numbers")
    if strange := sorted(set(table[SEX]) - {0, 1}):
        raise DataError(f"parkinsons: {file} has the sex {strange[0]}, and should have 0 (male) and 1 (female)")
    return table


def _split(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Put every subject, with all recordings, into one split; each split has subjects of both sexes.

    Raises:
        DataError: there are too few subjects of one sex.
    """
    draw = np.random.default_rng(DATA_SEED)
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for sex in (0, 1):
        subjects = draw.permutation(table[SUBJECT][table[SEX] == sex].unique())
        tested, validated = round(TEST * len(subjects)), round((TEST + VALIDATION) * len(subjects))
        if not 0 < tested < validated < len(subjects):
            raise DataError(f"parkinsons: {len(subjects)} subjects of sex {sex} are too few for three splits")
        parts["train"] += list(subjects[validated:])
        parts["validation"] += list(subjects[tested:validated])
        parts["test"] += list(subjects[:tested])
    return {split: table[table[SUBJECT].isin(own)] for split, own in parts.items()}
