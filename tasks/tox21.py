"""Twelve tests of toxicity of 8,014 compounds. A test is positive in 3 to 16 % of them."""

from tasks.core.base import Card
from tasks.core.hub import Source
from tasks.core.protocol import Protocol
from tasks.core.smiles import PREPROCESSING, TRAPS, Molecules

FILE = "tox21.csv.gz"
TESTS = (
    *("NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD", "NR-PPAR-gamma"),
    *("SR-ARE", "SR-ATAD5", "SR-HSE", "SR-MMP", "SR-p53"),
)
"""Seven of nuclear receptors, and five of the response to stress."""


class Tox21(Molecules):
    """Toxicity of compounds, from a folder (path): twelve binary tests, 17 % of whose results are missing.

    Cross-entropies of rare outcomes: a batch of 64 has two compounds, or none, that are positive in the rarest test.
    """

    local = f"{FILE} (https://github.com/deepchem/deepchem, datasets/)"
    source = Source(
        "tox21",
        rows={"train": 8_014},
        columns={"smiles": "string", **dict.fromkeys(TESTS, "float64")},
        files=(FILE,),
        local=local,
    )
    smiles, targets, binary = "smiles", {name.replace("-", "_").lower(): name for name in TESTS}, True
    protocols = {
        "smoke": Protocol(name="smoke", steps=20, batch_size=64, lr=2e-3, steps_per_epoch=5, points=2),
        "quick": Protocol(name="quick", steps=400, batch_size=64, lr=2e-3, steps_per_epoch=40),
        "standard": Protocol(name="standard", steps=2_000, batch_size=64, lr=1e-3, steps_per_epoch=90),
    }
    card = Card(
        origin="Tox21 (Tox21 Data Challenge 2014), file of the repository deepchem/deepchem",
        licence="the repository's is MIT; the set's own terms are not stated there",
        preprocessing=PREPROCESSING,
        traps=(
            f"{TRAPS} A batch without a positive compound drives a test's loss towards 0: a rule that divides by a "
            "loss, or takes its logarithm, then weighs that test far above the others."
        ),
    )
