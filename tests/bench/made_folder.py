"""A folder of ten thousand records that are made up: what a campaign of every rule on every task set would leave."""

from pathlib import Path

import numpy as np
from made_records import METRICS, make_runs
from made_report import points

from bench.records import REFERENCE, RunRecord
from bench.spec import STL
from bench.store import FOLDER

SOURCES = {f"package.core.module{i}": f"{i:020x}" for i in range(36)}
"""As many modules as a run's numbers depend on, so that a record is as large as a real one (20 KB)."""
VERSIONS = dict.fromkeys(("torch", "numpy", "scipy", "torchmetrics", "lightning-fabric"), "1.2.3")


def made_folder(folder: Path, rules: int = 40, sets: int = 12, seeds: int = 20) -> int:
    """Write the records of so many rules (equal weights one of them), task sets and seeds; return their number.

    Every rule's level differs, so that verdicts of all kinds come out. What was written down while training is that of
    one run in each task set.
    """
    (folder / FOLDER).mkdir(parents=True)
    generator = np.random.default_rng(0)
    methods = [REFERENCE, *(f"method{i}" for i in range(1, rules))]
    parts = {"sources": SOURCES, "versions": VERSIONS, "data": "d" * 64}
    count = 0
    for place in range(sets):
        written = points(generator, METRICS, 0.1, steps=10)
        for level, method in zip(np.linspace(-0.2, 0.2, rules + 1), [STL, *methods], strict=True):
            values = 0.5 + level + 0.05 * generator.normal(size=(seeds, len(METRICS)))
            runs = make_runs(
                method, dict(enumerate(values.tolist())), task_set=f"set{place}", points=written, parts=parts
            )
            for record in runs:
                _write(folder, record)
            count += len(runs)
    return count


def _write(folder: Path, record: RunRecord) -> None:
    """As the store does, without waiting for the disk."""
    text = record.model_dump_json(indent=1)
    (folder / FOLDER / f"{record.name}.json").write_text(text + "\n", encoding="utf-8")
