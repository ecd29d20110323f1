"""Reports that are made up: plausible numbers without any run, always the same."""

import math

import numpy as np
from scipy.stats import t

from bench.evidence.ranks import cliques, letters, rank_bands
from bench.report.board import (
    ALPHA,
    Board,
    Comparison,
    Curve,
    CurvePoint,
    Interval,
    Pairs,
    Ratios,
    Report,
    Row,
)
from bench.spec import Point

NAMES = ["equal", "uncertainty", "mgda[at=features]", "kd", "gradnorm", "dwa"]
SETS = {
    "scenes": [
        *[("segmentation", m, True) for m in ("miou", "pixel_accuracy")],
        *[("depth", m, False) for m in ("absolute", "relative")],
        *[("normals", m, False) for m in ("mean_angle", "median_angle")],
        *[("normals", f"within_{angle}", True) for angle in ("11", "22", "30")],
    ],
    "digits": [("left", "accuracy", True), ("right", "accuracy", True), ("rebuild", "error", False)],
    "scales": [(f"task{k}", "error", False) for k in range(4)],
}


def interval(values, level=0.95):
    """The mean with its t interval; no interval below three values."""
    kept = values[np.isfinite(values)]
    if len(kept) == 0:
        return Interval(math.nan, math.nan, math.nan)
    if len(kept) < 3:
        return Interval(float(kept.mean()), math.nan, math.nan)
    half = t.ppf((1 + level) / 2, len(kept) - 1) * kept.std(ddof=1) / math.sqrt(len(kept))
    return Interval(float(kept.mean()), float(kept.mean() - half), float(kept.mean() + half))


def comparison(differences, family):
    """One method with a reference, from its differences `[S]` by task set; roughly what exact tests would say."""
    joint = np.concatenate(differences)
    found = interval(np.mean(differences, axis=0))
    seeds = len(joint)
    if not joint.any():
        p, verdict = 1.0, "identical"
    elif seeds < 3 or math.isnan(found.low):
        p, verdict = 1.0, "not enough seeds"
    else:
        spread = joint.std(ddof=1) / math.sqrt(seeds)
        p = float(np.clip(2 * t.sf(abs(found.mean) / spread, seeds - 1) * family, 2 ** (1 - seeds), 1))
        verdict = "undecided" if p > ALPHA else "better" if found.mean > 0 else "worse"
        if max(abs(found.low), abs(found.high)) < 1.0:
            verdict = "equivalent"
        elif seeds < 6:
            verdict = "not enough seeds"
    return Comparison(found, tuple(differences), p, verdict, int((joint > 0).sum()), seeds)


def points(generator, metrics, level, steps=20):
    """What one run wrote down: losses that fall, weights that wander."""
    tasks = list(dict.fromkeys(task for task, _, _ in metrics))
    made = []
    for step in range(1, steps + 1):
        fall = math.exp(-step / (6 + 4 * level)) + 0.3 + 0.2 * level + 0.02 * generator.normal()
        weights = np.abs(1 + 0.05 * step * level * np.arange(-1, len(tasks) - 1) + 0.05 * generator.normal(len(tasks)))
        cosine = 0.4 * math.cos(step / 4) + 0.1 * generator.normal() + level / 4
        cosines = np.where(np.eye(len(tasks), dtype=bool), 1.0, np.clip(cosine, -1, 1)).tolist()
        made.append(
            Point(
                step=step * 25,
                losses={task: fall * (k + 1) for k, task in enumerate(tasks)},
                validation={
                    task: {m: (1 - fall / 2 if higher else fall) for own, m, higher in metrics if own == task}
                    for task in tasks
                },
                weights=dict(zip(tasks, weights.tolist(), strict=True)),
                gradient_norms=dict.fromkeys(tasks, fall),
                cosines=cosines,
                update_ratio=float(np.exp(level + 0.2 * generator.normal())),
            )
        )
    return made


def front(metrics, count=15):
    """What fixed weights reach: points that trade one task for another."""
    generator = np.random.default_rng(1)
    tasks = list(dict.fromkeys(task for task, _, _ in metrics))
    found = []
    for weights in generator.dirichlet(np.ones(len(tasks)), count) * len(tasks):
        at = dict(zip(tasks, weights, strict=True))
        gains = np.array([8 * math.log(at[task]) - 6 for task, _, _ in metrics]) + 0.5 * generator.normal(len(metrics))
        label = f"static[weights={':'.join(f'{weight:.4g}' for weight in weights)}]"
        found.append(CurvePoint(label, 2, float(gains.mean()), np.full(len(metrics), 0.5), gains))
    return (Curve("static", "reference", tuple(found)),)


def board(generator, label, metrics, methods, differences, passes, seeds):
    """One board: `differences` are Δ task `[S, methods]` by task set; no metrics means over task sets."""
    count, family = len(methods), len(methods) - 1
    suite = len(differences) > 1
    means = np.mean([d.mean(0) for d in differences], axis=0) if seeds else np.full(count, math.nan)
    size = (count, count)
    difference, low, high, p = np.zeros(size), np.zeros(size), np.zeros(size), np.ones(size)
    wins, pairs = np.zeros(size, np.int64), np.full(size, seeds * len(differences))
    for i in range(count):
        for j in range(count):
            if i != j and seeds:
                own = comparison([d[:, i] - d[:, j] for d in differences], count * family // 2)
                found = own.difference
                difference[i, j], low[i, j], high[i, j] = found.mean, found.low, found.high
                p[i, j], wins[i, j] = own.p, own.wins
    order = sorted(range(count), key=lambda i: -means[i])
    best, worst = rank_bands(means, p <= ALPHA)
    letter = letters(p <= ALPHA, order)
    rows = []
    for i, method in enumerate(methods):
        own = [d[:, i] for d in differences]
        against = [d[:, i] - d[:, 0] for d in differences]
        gains = generator.normal(means[i] if seeds else 0, 4, len(metrics))
        rows.append(
            Row(
                method=method,
                seeds=seeds,
                failed=1 if i == 3 else 0,
                imputed=1 if i == 3 else 0,
                delta_task=interval(np.mean(own, axis=0)) if seeds else None,
                delta_metric=interval(np.mean(own, axis=0) - 0.4) if seeds else None,
                per_seed=np.array([]) if suite else own[0],
                vs_equal=comparison(against, family) if i and seeds else None,
                vs_stl=comparison(own, count) if seeds else None,
                letters=letter[i],
                band=(int(best[i]), int(worst[i])) if seeds else None,
                mean_rank=1 + (i * 7 % count) * 0.9,
                values=np.abs(generator.normal(0.5, 0.2, len(metrics))),
                gains=gains,
                gain_p=np.clip(np.exp(-np.abs(gains)), 0, 1),
                cost=Ratios(1 + 0.35 * i % 4, 1 + 0.5 * i % 6, math.nan if i == 2 else 1 + i / 10) if i != 5 else None,
                passes={"forward": 1.0, "heads": 1.0 + i % 3, "trunk": 1.0, "teacher": 3.67 * (i == 3)},
                degenerate=4 * (i == 2),
                note="diverged: the loss of task depth is not finite at step 7" if i == 3 else "",
            )
        )
    zero = Interval(0.0, math.nan, math.nan)
    rows.append(
        Row(
            **{"method": "stl", "seeds": seeds, "failed": 0, "imputed": 0, "degenerate": 0},
            **{"delta_task": zero, "delta_metric": zero},
            **{"per_seed": np.zeros(0 if suite else seeds), "vs_stl": None, "letters": "", "band": None, "cost": None},
            **{"vs_equal": comparison([-d[:, 0] for d in differences], family) if seeds else None},
            **{"mean_rank": math.nan, "values": np.full(len(metrics), 0.6), "gains": np.zeros(len(metrics))},
            **{"gain_p": np.ones(len(metrics)), "passes": {}, "note": ""},
        )
    )
    rows.sort(key=lambda row: -row.delta_task.mean if row.delta_task else math.inf)
    written = {}
    if passes:
        chosen = zip(methods, np.linspace(-0.6, 0.6, count), strict=True)
        written = {m: {s: points(generator, metrics, level) for s in range(seeds)} for m, level in chosen}
    groups = tuple(tuple(group) for group in cliques(p <= ALPHA, order))
    return Board(
        label=label,
        suite=suite,
        metrics=tuple((task, metric) for task, metric, _ in metrics),
        higher_is_better=tuple(higher for _, _, higher in metrics),
        rows=tuple(rows),
        pairs=Pairs(tuple(methods), np.zeros((0, len(methods))), difference, low, high, p, wins, pairs, groups)
        if seeds
        else None,
        seeds=seeds,
        family=family,
        smallest_p=2.0 ** (1 - seeds * len(differences)) if seeds else 1.0,
        detectable=1.3 if seeds > 5 else math.inf,
        recipe="Protocol quick: 500 steps of 64 examples, adam, learning rate 0.001 (cosine), weight decay 0.",
        notes=("one run was made with other versions of torch",) if label == "digits" else (),
        points=written,
        curves=front(metrics) if passes and seeds else (),
    )


def made_report(methods=6, sets=3, seeds=8, curves=True, names=None):
    """A report of so many methods on so many task sets, and over all of them if there is more than one."""
    generator = np.random.default_rng(0)
    own = names or [*NAMES, *(f"method{i}[option={i}]" for i in range(len(NAMES), methods))][:methods]
    chosen = dict(list(SETS.items())[:sets])
    level = generator.permutation(np.linspace(-12, 1, len(own)))
    per_set = {
        label: level + generator.normal(0, 0.6, len(own)) + generator.normal(0, 2.5, (seeds, len(own)))
        for label in chosen
    }
    for values in per_set.values():
        values[:, -1] = values[:, 0] + generator.normal(0, 0.1, seeds) if len(own) > 2 else values[:, -1]
    boards = [
        board(generator, label, metrics, own, [per_set[label]], curves, seeds) for label, metrics in chosen.items()
    ]
    if sets > 1:
        boards.insert(0, board(generator, "all", [], own, list(per_set.values()), False, seeds))
    return Report(tuple(boards), {"commit": "0123456789ab", "torch": "2.13.0", "hardware": "2 cores", "seeds": "0–7"})
