"""From a thousand records to all pages, and from a folder to a thousand records."""

import numpy as np
import pytest
from made_records import METRICS, make_runs
from made_report import points

from bench.records import REFERENCE
from bench.report.pages.write import write_pages
from bench.report.scores import from_records
from bench.spec import STL
from bench.store import Store

SETS, SEEDS, METHODS = 5, 8, 23


@pytest.fixture(scope="module")
def records():
    """So many task sets, seeds and methods with what they wrote down while training, and the single-task runs."""
    generator = np.random.default_rng(0)
    names = [REFERENCE, *(f"method{i}" for i in range(1, METHODS))]
    made = []
    for place in range(SETS):
        for level, method in zip(np.linspace(-0.2, 0.2, METHODS + 1), [STL, *names], strict=True):
            values = 0.5 + level + 0.05 * generator.normal(size=(SEEDS, len(METRICS)))
            written = points(generator, METRICS, level, steps=10)
            made += make_runs(method, dict(enumerate(values.tolist())), task_set=f"set{place}", points=written)
    assert len(made) == 1000
    return made


def test_writing_all_pages(benchmark, records, tmp_path):
    benchmark.group = "1000 records"
    benchmark.pedantic(write_pages, args=(from_records(records), tmp_path), rounds=3, warmup_rounds=1)


def test_reading_a_folder(benchmark, records, tmp_path):
    store = Store(tmp_path)
    for record in records:
        store.put(record, None)
    benchmark.group = "1000 records"
    assert len(benchmark.pedantic(store.records, rounds=5, warmup_rounds=1)) == 1000
