"""What becomes of a compound in the body: six measurements of 3,521 compounds, half of which are missing."""

from tasks.core.base import Card
from tasks.core.hub import Source
from tasks.core.protocol import Protocol
from tasks.core.smiles import PREPROCESSING, TRAPS, Molecules

FILE = "ADME_public_set_3521.csv"
TARGETS = {
    "human_clearance": "LOG HLM_CLint (mL/min/kg)",
    "efflux": "LOG MDR1-MDCK ER (B-A/A-B)",
    "solubility": "LOG SOLUBILITY PH 6.8 (ug/mL)",
    "human_binding": "LOG PLASMA PROTEIN BINDING (HUMAN) (% unbound)",
    "rat_binding": "LOG PLASMA PROTEIN BINDING (RAT) (% unbound)",
    "rat_clearance": "LOG RLM_CLint (mL/min/kg)",
}


class Adme(Molecules):
    """Compounds in the body, from a folder (path): clearance and binding in man and rat, efflux, solubility.

    Six regressions with 168 to 3,087 labels: most batches have no label of the two rarest, and clearance in man and in
    rat is nearly the same task.
    """

    local = f"{FILE} (https://github.com/molecularinformatics/Computational-ADME)"
    source = Source(
        "adme",
        rows={"train": 3_521},
        columns={"SMILES": "string", **dict.fromkeys(TARGETS.values(), "float64")},
        files=(FILE,),
        local=local,
    )
    smiles, targets, binary = "SMILES", TARGETS, False
    protocols = {
        "smoke": Protocol(name="smoke", steps=20, batch_size=64, lr=2e-3, steps_per_epoch=5, points=2),
        "quick": Protocol(name="quick", steps=400, batch_size=64, lr=2e-3, steps_per_epoch=40),
        "standard": Protocol(name="standard", steps=2_000, batch_size=64, lr=1e-3, steps_per_epoch=40),
    }
    card = Card(
        origin="Biogen's public ADME set (Fang et al. 2023, J. Chem. Inf. Model.)",
        licence="MIT (its repository)",
        preprocessing=f"{PREPROCESSING}. Measurements, which are logarithms, are standardised by training",
        traps=(
            f"{TRAPS} The two bindings have 32 and 26 test labels: their scores, and with them Δ, depend much on this "
            "one split. A split at random is easier than one by time, as of a company's next compounds."
        ),
    )
