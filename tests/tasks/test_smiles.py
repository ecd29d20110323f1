"""Molecules: what is read of a SMILES, the bits that it sets, and the split that follows from them."""

import numpy as np
import pytest

from tasks.core.smiles import BITS, bits, graph, parts, substructures


@pytest.mark.parametrize(
    ("smiles", "atoms", "bonds"),
    [
        ("CCO", ["C", "C", "O"], [(0, 1, ""), (1, 2, "")]),
        ("ClCBr", ["Cl", "C", "Br"], [(0, 1, ""), (1, 2, "")]),
        ("CC(=O)N", ["C", "C", "O", "N"], [(0, 1, ""), (1, 2, "="), (1, 3, "")]),
        ("C(C(F)F)#N", ["C", "C", "F", "F", "N"], [(0, 1, ""), (1, 2, ""), (1, 3, ""), (0, 4, "#")]),
        ("C1CC1", ["C", "C", "C"], [(0, 1, ""), (1, 2, ""), (0, 2, "")]),
        ("C=1CC=1", ["C", "C", "C"], [(0, 1, ""), (1, 2, ""), (0, 2, "=")]),
        ("C1CC=1", ["C", "C", "C"], [(0, 1, ""), (1, 2, ""), (0, 2, "=")]),
        ("C%12CC%12", ["C", "C", "C"], [(0, 1, ""), (1, 2, ""), (0, 2, "")]),
        ("[Na+].[O-]C", ["Na+", "O-", "C"], [(1, 2, "")]),
        ("F/C=C\\F", ["F", "C", "C", "F"], [(0, 1, ""), (1, 2, "="), (2, 3, "")]),
        ("C[C@@H](N)[13CH3]", ["C", "C", "N", "C"], [(0, 1, ""), (1, 2, ""), (1, 3, "")]),
        ("[nH]1cc1", ["n", "c", "c"], [(0, 1, ""), (1, 2, ""), (0, 2, "")]),
        ("[Fe+2]", ["Fe+2"], []),
    ],
)
def test_atoms_and_bonds_are_read(smiles, atoms, bonds):
    assert graph(smiles) == (atoms, bonds)


@pytest.mark.parametrize("text", ["", "C(", "C)", "C1CC", "C1CC1C1", "C=", "hello", "C C", "[C", "1CC1", "C11", "[2]"])
def test_what_is_no_smiles_is_refused(text):
    with pytest.raises(ValueError, match="is no SMILES"):
        graph(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("OCC", "CCO"),
        ("CC(=O)N", "NC(C)=O"),
        ("c1ccccc1O", "Oc1ccccc1"),
        ("C1CC1C=C", "C=CC2CC2"),
        ("C[C@H](N)O", "CC(N)O"),
    ],
)
def test_substructures_do_not_depend_on_how_a_molecule_is_written(one, other):
    assert substructures(one) == substructures(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("CCO", "CCN"), ("CC=O", "CCO"), ("c1ccccc1", "C1CCCCC1"), ("CC(C)O", "CCCO"), ("C[O-]", "CO"), ("CCCCO", "CCCO")],
)
def test_substructures_tell_molecules_apart(one, other):
    assert substructures(one) != substructures(other)


def test_surroundings_reach_two_bonds():
    """The middle of a long chain looks the same everywhere. The first atom of CCCF does not see the fluorine."""
    assert substructures("CCCCCC") == substructures("CCCCCCC")
    shared = ["a carbon", "one with a carbon", "one with two", "one with a carbon that has two"]
    assert len(substructures("CCCF") & substructures("CCCCl")) == len(shared)


def test_the_numbers_of_substructures_are_the_same_in_every_process():
    """Python's own hash would differ."""
    assert min(substructures("CO")) == 1151487414434114494


def test_a_bit_is_set_for_each_substructure():
    found = bits(["CCO", "OCC", "CCN"])
    assert found.shape == (3, BITS)
    assert np.array_equal(found[0], found[1])
    for row, smiles in zip(found, ["CCO", "OCC", "CCN"], strict=True):
        assert set(row.nonzero()[0]) == {number % BITS for number in substructures(smiles)}


def test_the_split_follows_from_the_inputs_in_the_declared_shares():
    inputs = np.random.default_rng(0).integers(2, size=(5000, BITS), dtype=np.uint8)
    found = parts(inputs)
    assert np.bincount(found) / 5000 == pytest.approx([0.7, 0.1, 0.2], abs=0.02)
    assert np.array_equal(parts(inputs[::-1]), found[::-1])
    assert np.array_equal(parts(inputs[found == 2]), np.full((found == 2).sum(), 2))
