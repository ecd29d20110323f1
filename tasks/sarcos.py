"""Inverse dynamics of the SARCOS arm, measured: the torques of seven joints."""

from typing import Any

import numpy as np
import scipy.io
from torch import Tensor

from tasks.arm import Arm, prepare
from tasks.core.base import Card
from tasks.core.hub import Copy, Source, prepared

INPUTS, TORQUES = 21, 7
TRAIN, TEST = "sarcos_inv", "sarcos_inv_test"
"""The names of the two matrices, and of their files without `.mat`."""
VALIDATION, TESTED = 0.1, 0.2
"""The shares of the rows in each split: of the training file or, without it, of the test file."""
DATA_SEED = 0


class Sarcos(Arm):
    """The SARCOS arm, measured, from a folder (path): the torques of seven joints from 21 numbers of their motion.

    Standard deviations run from 1 to 20 N m, and the losses are in one physical unit, as in `arm`.
    """

    embedded = False
    local = f"{TEST}.mat, and {TRAIN}.mat if it is at hand (http://www.gaussianprocess.org/gpml/data/)"
    source = Source(
        "sarcos", rows={"train": 44_484, "test": 4_449}, columns={}, files=(f"{TEST}.mat", f"{TRAIN}.mat"), local=local
    )
    joints = tuple(f"torque_{k + 1}" for k in range(TORQUES))
    card = Card(
        origin="SARCOS (Vijayakumar & Schaal 2000), files of http://www.gaussianprocess.org/gpml/data/",
        licence="none stated",
        preprocessing=(
            "Columns 1 to 21 are positions, velocities and accelerations, standardised by training; 22 to 28 are "
            "torques in units of 10 N m, from which their training means are subtracted. With both files: the official "
            "test file, and a tenth of the training file, drawn at random, validates. With the test file alone: its "
            "rows are split 70 / 10 / 20 at random. The same for every seed"
        ),
        traps=(
            "The official test rows are reported to recur in the training file, so scores with both files are "
            "flattered. With the test file alone no row is in two splits, but rows are instants of the same few "
            "motions, a fraction of a second apart: a random split, too, measures interpolation. The two ways are "
            "different data sets of the same name, and their numbers are not comparable."
        ),
        regime=(
            "Physical units, as in `arm`: sharing costs. At `quick`, seeds 1002 to 1007, the test file alone, tuned "
            "equal weights against tuned single-task networks: −39.5 points (95 % interval −41.8 to −37.1)."
        ),
    )

    def __init__(self, path: str = "") -> None:
        self.path = path

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Read and split the rows, or take them from the cache."""
        return prepared(self.source, self.path, self._split)

    def _split(self, copy: Copy) -> dict[str, dict[str, Tensor]]:
        both = (copy.folder / f"{TRAIN}.mat").exists()
        tests = _rows(copy, "test", TEST)
        rows = _rows(copy, "train", TRAIN) if both else tests
        order = np.random.default_rng(DATA_SEED).permutation(len(rows))
        tested = 0 if both else round(TESTED * len(rows))
        validated = tested + round(VALIDATION * len(rows))
        parts = {
            "train": rows[order[validated:]],
            "validation": rows[order[tested:validated]],
            "test": tests if both else rows[order[:tested]],
        }
        return prepare({split: (part[:, :INPUTS], part[:, INPUTS:]) for split, part in parts.items()}, self.joints)


def _rows(copy: Copy, split: str, name: str) -> np.ndarray:
    """Read the matrix `[N, 28]` of a file, checked."""
    file = f"{name}.mat"
    try:
        found: dict[str, Any] = scipy.io.loadmat(copy.folder / file, variable_names=[name])
    except Exception as problem:  # whatever is wrong with a file of somebody else's making
        raise copy.problem(f"{file} cannot be read: {str(problem).splitlines()[0]}") from problem
    if name not in found:
        raise copy.problem(f"{file} has no matrix {name}")
    rows = found[name]
    width = INPUTS + TORQUES
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != width or rows.dtype.kind not in "fiu":
        kind = f"{'×'.join(map(str, np.shape(rows)))} of {getattr(rows, 'dtype', type(rows).__name__)}"
        raise copy.problem(f"the matrix of {file} is {kind}, and should have {width} columns of numbers")
    copy.check(split, {}, len(rows))
    return rows.astype(np.float64)
