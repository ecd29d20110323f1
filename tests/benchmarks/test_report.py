"""From ten thousand records to a report, from a thousand to all pages, and a thousand methods on one task set."""

import resource

import numpy as np
import pytest
from made_folder import made_folder
from made_records import METRICS, make_runs
from made_report import points

from bench.records import REFERENCE
from bench.report.analyse import analyse
from bench.report.costs import costs, timings
from bench.report.pages.write import write_pages
from bench.report.scores import from_records, tidy
from bench.spec import STL
from bench.store import Store

SETS, SEEDS, METHODS = 5, 8, 23


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The records of 40 rules on 12 task sets with 20 seeds."""
    made = tmp_path_factory.mktemp("made") / "results"
    assert made_folder(made) == 10_080
    return made


@pytest.fixture(scope="module")
def scores(folder):
    return from_records(Store(folder).records().values())


@pytest.fixture(scope="module")
def thousand():
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
    return from_records(made)


def test_reading_a_folder(benchmark, folder):
    benchmark.group = "10 000 records"
    assert len(benchmark.pedantic(Store(folder).records, rounds=3)) == 10_080
    benchmark.extra_info["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("table", [analyse, tidy, costs, timings])
def test_from_the_scores_to_a_table(benchmark, scores, table):
    benchmark.group = "10 000 records"
    benchmark.pedantic(table, args=(scores,), rounds=3)


def test_writing_all_pages(benchmark, thousand, tmp_path):
    benchmark.group = "1000 records"
    benchmark.pedantic(write_pages, args=(thousand, tmp_path), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("methods", [100, 1000])
def test_many_methods_on_one_set(benchmark, methods):
    generator = np.random.default_rng(0)
    made = make_runs(STL, dict(enumerate(generator.normal(1, 0.1, (20, 3)).tolist())))
    for method in [REFERENCE, *(f"method{i}" for i in range(1, methods))]:
        made += make_runs(method, dict(enumerate(generator.normal(1, 0.1, (20, 3)).tolist())))
    benchmark.group = "many methods"
    benchmark.pedantic(analyse, args=(from_records(made),), rounds=1)
