"""SegNet at full width on images of 288×384, in both precisions: steps of every rule, and a short training."""

import torch
from networks import Problem, bare_step, own_step, rules
from parts.steps import block, judge, memory_of

from bench.training.streams import make_repeatable

STEPS = 3
"""Steps between two looks at the clock: one takes tenths of a second."""
TRAINED = ("kd", "equal", "uncertainty", "gradnorm", "mgda", "dwa")
"""The rules of the short training: those of the benchmark that SegNet is known for."""
FEW = ("equal", "mgda", "mgda[at=features]", "kd", "moco")
"""Enough for a rehearsal."""
PLACES = ("mgda[at=features]", "mgda[at=last]", "kd+mgda")
"""Beside every rule where it measures by default. Elsewhere it costs what these do."""


def run(notes, device, small):
    device = torch.device(device)
    make_repeatable(device)
    for precision in ("bf16-mixed", "32-true"):
        problem = Problem("segnet", device, small=small, low=precision == "bf16-mixed")
        start = {name: value.clone() for name, value in problem.network.state_dict().items()}
        steps(notes, problem, precision, small)
        for rule in TRAINED[:2] if small else TRAINED:
            notes.tried(f"{rule} in {precision}: the losses fall in a short training", train, problem, start, rule)


def steps(notes, problem, precision, small):
    """Time every rule, and a bare loop before and after all of them: a card changes its speed with its warmth."""
    device, shared = problem.device, sum(parameter.numel() for _, parameter in problem.shared)
    plain = bare_step(problem)
    bare = timed(plain, device)
    memory = {}
    for rule in FEW if small else [name for name in rules() if "[" not in name and "+" not in name] + [*PLACES]:
        step = own_step(problem, rule)
        ms = timed(step, device)
        memory[rule] = memory_of(step, device)
        notes.row(f"steps in {precision}", rule=rule, ms=ms, of_a_bare_step=ms / bare, peak_mb=memory[rule])
        broken = [name for name, parameter in problem.network.named_parameters() if not parameter.isfinite().all()]
        notes.check(f"{rule} in {precision}: parameters stay finite", not broken, ", ".join(broken[:3]))
        if rule == "equal":
            judge(notes, f"equal weights in {precision}", min(bare, timed(plain, device)) / ms, device)
    notes.row(f"steps in {precision}", rule="bare loop", ms=min(bare, timed(plain, device)), of_a_bare_step=1.0)
    rows = 4e-6 * shared * (len(problem.goals) + 2)
    more = memory["mgda"] - memory["equal"] if memory["mgda"] is not None else None
    what = f"in {precision} mgda takes K + 2 gradients more than equal weights at most ({rows:.0f} MB)"
    notes.check(what, None if more is None else more <= rows, "" if more is None else f"{more:.0f} MB")


def timed(step, device):
    """Return the milliseconds of a step, after one that is not counted."""
    step()
    return block(step, device, STEPS)


def train(problem, start, rule):
    """Train on one batch from the initial weights; return what is wrong."""
    problem.network.load_state_dict(start)
    problem.optimizer.state.clear()
    step, before = own_step(problem, rule), total(problem)
    for _ in range(20):
        step()
    after = total(problem)
    return "" if after < before else f"{before:.4f} became {after:.4f}"


def total(problem):
    """Return the sum of the losses."""
    with torch.no_grad():
        return float(sum(problem.forward()[1]))
