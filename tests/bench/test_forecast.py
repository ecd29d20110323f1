"""What is said before the start: how many runs, how long, and which effect they can show."""

import numpy as np
import pytest

from bench.evidence.power import detectable
from bench.planning.forecast import forecast
from bench.planning.plan import Planned
from bench.spec import STL
from methods.core.registry import Entry, Part, Variant


def called(name):
    return Variant((Part(Entry(name, ""), {}, None, {}, full=name, label=name, stable=name),))


@pytest.fixture
def plan(made):
    def build(methods=("stl", "equal", "mgda", "uncertainty"), seeds=8, present=0):
        records = [made(method, seed) for seed in range(seeds) for method in methods]
        runs = [
            Planned(
                r.spec,
                r.parts,
                r.key,
                called("toy"),
                None if r.spec.method == STL else called(r.method_label),
                "quick",
                n >= present,
                "",
                r.spec.seed,
                tuple(range(seeds)),
                r.spec.method,
                r.spec.protocol,
            )
            for n, r in enumerate(records)
        ]
        return runs

    return build


def took(made, **seconds):
    records = [made(method, 99, cost={"total_seconds": value}) for method, value in seconds.items()]
    return {record.name: record for record in records}


def test_without_any_run_like_these_the_time_is_not_known(plan):
    first, time, _ = forecast(plan(present=3), {})
    assert first == "32 runs: 29 to make, 3 there already"
    assert time == "time: not known yet, because no similar run has been made here"


def test_the_time_is_that_of_runs_like_these_over_the_workers(plan, made):
    known = took(made, stl=10.0, equal=20.0, mgda=30.0, uncertainty=60.0)
    assert forecast(plan(), known, 2)[1] == "time: about 8 min on 2 workers, from similar runs made here"
    assert forecast(plan(seeds=6, present=23), known)[1] == "time: about 60 s, from similar runs made here"
    del known[next(name for name, record in known.items() if record.spec.method == "mgda")]
    said = forecast(plan(), known, 2)[1]
    assert said == "time: at least 6 min on 2 workers, from similar runs made here; no time is known yet for 8 of them"


def test_nothing_to_make_takes_no_time(plan):
    assert len(forecast(plan(present=32), {})) == 2


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (1, "1 seed, {}: no exact test can call any better or worse (its smallest p is 1); 6 seeds or more can"),
        (5, "5 seeds, {}: no exact test can call any better or worse (its smallest p is 0.062); 6 seeds or more can"),
        (6, "6 seeds, {}: shows a difference of 1.7 standard deviations over seeds with a power of 80 %"),
        (8, "8 seeds, {}: shows a difference of 1.3 standard deviations over seeds with a power of 80 %"),
    ],
)
def test_what_so_many_seeds_can_show(plan, seeds, said):
    assert forecast(plan(seeds=seeds), {})[-1] == said.format("2 methods against equal weights")


def test_equal_weights_alone_have_nothing_to_be_compared_with(plan):
    assert forecast(plan(methods=("stl", "equal"), present=16), {}) == ["16 runs: 0 to make, 16 there already"]


def test_with_records_the_effect_is_told_in_points(plan, runs):
    """Eight seeds whose differences from equal weights have a standard deviation of 2 points (of 100)."""
    metric = [("only", "score", True)]
    wave = [1.0, -1.0] * 4
    scale = 2 / np.std(wave, ddof=1)
    records = runs("stl", {s: [100.0] for s in range(8)}, metric) + runs(
        "equal", {s: [100.0] for s in range(8)}, metric
    )
    records += runs("mgda", {s: [90 + scale * wave[s]] for s in range(8)}, metric)
    known = {record.name: record for record in records}
    effect = detectable(8, 2) * 2
    assert forecast(plan(), known)[-1].endswith(f"; as runs spread here, in points of Δ task: {effect:.2g} on toy")
    assert "on toy" not in forecast(plan(seeds=5), known)[-1]
