"""Molecules written as SMILES: substructures as inputs, a split by them, and task sets over tables of such molecules.

No chemistry library is needed: the graph is read from the text, and each atom's surroundings within two bonds set one
of 512 bits. That is no chemist's fingerprint. Aromatic atoms are those that the text writes in lower case; hydrogens
of brackets, isotopes, and the sides of bonds and centres are left out.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from hashlib import blake2b

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tasks.core.base import SPLITS, Network, Task, TaskSet
from tasks.core.errors import in_words
from tasks.core.hub import Copy, Source, prepared
from tasks.core.losses import binary_cross_entropy, labelled_squared_error
from tasks.core.metrics.binary import auroc, probabilities_and_labels
from tasks.core.metrics.regression import labelled, normalized_rmse
from tasks.networks.mlp import MLP

BITS, BONDS_AROUND = 512, 2
VALIDATION, TEST = 0.1, 0.2
"""About these shares of the molecules are in the two splits."""
TOKENS = re.compile(r"\[[^\]]+\]|Br|Cl|[BCNOPSFIbcnops*]|[-=#$:/\\]|%[0-9]{2}|[0-9]|[().]")
BRACKET = re.compile(r"\[[0-9]*([A-Z][a-z]?|[a-z]{1,2}|\*)@*(?:H[0-9]*)?([+-]*[0-9]*)(?::[0-9]+)?\]")
"""An atom in brackets: its symbol and its charge are read."""
BONDS = {"-": "", "/": "", "\\": "", ":": "", "=": "=", "#": "#", "$": "$"}
"""The kinds of bonds. Between aromatic atoms, and where nothing is written, the atoms tell it."""

PREPROCESSING = (
    "Inputs: 512 bits, on which the hashes of each atom's surroundings within 0, 1 and 2 bonds fall. They are read "
    "from the SMILES without a chemistry library. A hash of these inputs decides the split, about 70 / 10 / 20: "
    "molecules with equal inputs are on one side. The same for every seed"
)
TRAPS = (
    "The inputs are no chemist's fingerprint and the split is this project's, so numbers are not comparable with "
    "published ones. Hydrogens in brackets, isotopes and stereochemistry are left out."
)

Graph = tuple[list[str], list[tuple[int, int, str]]]


def graph(smiles: str) -> Graph:
    """Read the atoms of a molecule, and its bonds as (atom, atom, kind).

    Raises:
        ValueError: this is no SMILES.

    Example:
        >>> graph("CC(=O)[O-]")
        (['C', 'C', 'O', 'O-'], [(0, 1, ''), (1, 2, '='), (1, 3, '')])
    """
    tokens = TOKENS.findall(smiles)
    atoms: list[str] = []
    bonds: list[tuple[int, int, str]] = []
    branches: list[int] = []
    rings: dict[str, tuple[int, str]] = {}
    last, kind = -1, ""  # -1: no atom
    try:
        if not tokens or "".join(tokens) != smiles:
            raise ValueError
        for token in tokens:
            if token == "(":
                branches.append(last)
            elif token == ")":
                last = branches.pop()
            elif token == ".":
                last = -1
            elif token in BONDS:
                kind = BONDS[token]
            elif token[-1].isdigit():
                if token in rings:
                    first, opened = rings.pop(token)
                    bonds.append((first, last, kind or opened))
                else:
                    rings[token] = last, kind
                kind = ""
            else:
                atoms.append(_symbol(token))
                if last >= 0:
                    bonds.append((last, len(atoms) - 1, kind))
                last, kind = len(atoms) - 1, ""
        if rings or branches or kind or any(one < 0 or other < 0 or one == other for one, other, _ in bonds):
            raise ValueError
    except (ValueError, IndexError):
        raise ValueError(f"'{smiles}' is no SMILES") from None
    return atoms, bonds


def _symbol(token: str) -> str:
    """The symbol and the charge of an atom."""
    if token[0] != "[":
        return token
    if (bracket := BRACKET.fullmatch(token)) is None:
        raise ValueError
    return bracket[1] + bracket[2]


def substructures(smiles: str) -> set[int]:
    """Return the numbers of the surroundings of all atoms within 0, 1 and 2 bonds. Raises as `graph`.

    They do not depend on the order in which the atoms are written.
    """
    atoms, bonds = graph(smiles)
    around: list[list[tuple[int, str]]] = [[] for _ in atoms]
    for one, other, kind in bonds:
        around[one].append((other, kind))
        around[other].append((one, kind))
    labels = [_number(symbol) for symbol in atoms]
    found = set(labels)
    for _ in range(BONDS_AROUND):
        labels = [
            _number(f"{labels[i]} {sorted((kind, labels[other]) for other, kind in around[i])}")
            for i in range(len(atoms))
        ]
        found.update(labels)
    return found


@cache
def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def bits(smiles: Sequence[str]) -> np.ndarray:
    """Return the inputs of molecules, `[N, 512]`, 0 or 1: a bit is set if a substructure's number falls on it.

    Raises:
        ValueError: a text is no SMILES.
    """
    found = np.zeros((len(smiles), BITS), np.uint8)
    for row, text in zip(found, smiles, strict=True):
        row[[number % BITS for number in substructures(text)]] = 1
    return found


def parts(inputs: np.ndarray) -> np.ndarray:
    """Return the split of each molecule, `[N]`: 0 for training, 1 for validation, 2 for test.

    It follows from the molecule's inputs `[N, 512]` alone. So no molecule is in two splits, and none that looks like
    one of another split to a network.
    """
    drawn = [int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest()) / 2**64 for row in inputs]
    return 2 - np.searchsorted([TEST, TEST + VALIDATION], drawn, side="right")


class Molecules(TaskSet):
    """A table of molecules with a column for each task, from a folder (path)."""

    embedded = False
    inputs = ("molecule",)
    source: Source
    smiles: str
    """The column of the SMILES."""
    targets: Mapping[str, str]
    """The column of each task."""
    binary: bool
    """Whether the targets are outcomes, 0 or 1. Else they are amounts, which are standardised by training."""

    def __init__(self, path: str = "") -> None:
        self.path = path

    def load(self) -> dict[str, dict[str, Tensor]]:
        """Read, split and encode the table, or take it from the cache."""
        return prepared(self.source, self.path, self._encode)

    def _encode(self, copy: Copy) -> dict[str, dict[str, Tensor]]:
        table = self._table(copy)
        try:
            inputs = bits(table[self.smiles].tolist())
        except ValueError as problem:
            raise copy.problem(f"{self.source.files[0]}: {problem}") from problem
        part = parts(inputs)
        targets = table[list(self.targets.values())].to_numpy(np.float64)
        if not self.binary:
            train = pd.DataFrame(targets[part == 0])
            targets = (targets - train.mean().to_numpy()) / np.maximum(train.std(ddof=0).to_numpy(), 1e-9)
        columns = {"molecule": inputs, **dict(zip(self.targets, np.split(targets, targets.shape[1], 1), strict=True))}
        return {
            split: {name: torch.from_numpy(own[part == i].astype(np.float32)) for name, own in columns.items()}
            for i, split in enumerate(SPLITS)
        }

    def _table(self, copy: Copy) -> pd.DataFrame:
        """Read the file, checked."""
        [file] = self.source.files
        try:
            table = pd.read_csv(copy.folder / file)
        except Exception as problem:  # whatever is wrong with a file of somebody else's making
            raise copy.problem(f"{file} cannot be read: {in_words(problem)}") from problem
        numeric = {str(name): pd.api.types.is_numeric_dtype(column) for name, column in table.items()}
        copy.check("train", {n: "float64" if is_number else "string" for n, is_number in numeric.items()}, len(table))
        if (missing := table[self.smiles].isna()).any():
            raise copy.problem(f"{file} has no {self.smiles} in row {missing.argmax() + 1}")
        right = "0, 1" if self.binary else "a finite number"
        for column in self.targets.values():
            known = table[column].dropna()
            wrong = known[~(known.isin([0, 1]) if self.binary else np.isfinite(known))]
            if len(wrong):
                raise copy.problem(f"{file} has {wrong.iloc[0]:g} in {column}, and should have {right} or nothing")
        return table

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """One a column of the table."""
        train = self.splits["train"]
        if self.binary:
            score, inputs = {"auroc": auroc()}, probabilities_and_labels
            return tuple(Task(name, name, binary_cross_entropy, score, inputs) for name in self.targets)
        return tuple(
            Task(name, name, labelled_squared_error, {"nrmse": normalized_rmse(train[name])}, labelled)
            for name in self.targets
        )

    def network(self, tasks: Sequence[str]) -> Network:
        """Return an MLP of two hidden layers of 64."""
        return MLP("molecule", (BITS, 64, 64), dict.fromkeys(tasks, 1))
