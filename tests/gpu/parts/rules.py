"""Every rule at every place where it can measure, alone and under distillation, against float64 on the CPU."""

import torch
from networks import Problem, rules

from bench.training.streams import make_repeatable

WORSE = 10
"""The device may err so many times as much as the CPU errs in the same precision."""
FLOOR = {"float32": 1e-6, "bf16": 1e-3}
"""Relative errors that are never too large."""


FEW = ("equal", "uncertainty", "mgda", "mgda[at=last]", "kd+mgda[at=features]")
"""Enough for a rehearsal."""


def run(notes, device, small):
    make_repeatable(torch.device(device))
    for network in ("mlp",) if small else ("conv", "mlp"):
        for variant in variants():
            if variant in FEW or not small:
                what = f"{variant} on {network} is as near to float64 as on the CPU"
                notes.tried(what, one, notes, network, variant, device)


def variants():
    """Return every rule, and every one that balances under distillation."""
    return [*rules(), *(f"kd+{variant}" for variant in rules() if not variant.startswith("kd"))]


def one(notes, network, variant, device):
    """Return what is wrong with one rule's second step."""
    state = after_one_step(network, variant)
    exact = step(network, variant, state, "cpu", "float64")
    wrong = []
    for precision in ("float32", "bf16"):
        errors = errors_of(step(network, variant, state, device, precision), exact)
        usual = errors_of(step(network, variant, state, "cpu", precision), exact)
        pairs = {name: f"{errors[name]:.1e} ({usual[name]:.1e})" for name in errors}
        notes.row("relative errors (the CPU's)", network=network, rule=variant, precision=precision, **pairs)
        for name, error in errors.items():
            if not error <= WORSE * usual[name] + FLOOR[precision]:
                wrong.append(f"{precision} {name} {pairs[name]}")
    return ", ".join(wrong)


def after_one_step(network, variant):
    """Return what the rule has learnt after one step on the CPU, in float32."""
    problem = Problem(network, small=True)
    method = problem.method(variant)
    problem.backward(method, *problem.forward())
    return method.state_dict()


def step(network, variant, state, device, precision):
    """Take a step with a rule in this state; return trunk's and heads' gradients and the weights, in float64."""
    problem = Problem(network, device, torch.float64 if precision == "float64" else torch.float32, small=True)
    method = problem.method(variant).to(problem.dtype)
    moved = {}
    for name, value in state.items():
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        moved[name] = value.to(device, problem.dtype) if floating else value
    method.load_state_dict(moved)
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        outputs, losses = problem.forward()
    weights = problem.backward(method, outputs, losses)
    shared = {parameter for _, parameter in problem.network.shared}
    parts = {"trunk": [], "heads": []}
    for parameter in problem.network.parameters():
        parts["trunk" if parameter in shared else "heads"].append(parameter.grad.flatten())
    found = {name: torch.cat(gradients) for name, gradients in parts.items()}
    if weights is not None:
        found["weights"] = weights
    return {name: values.double().cpu() for name, values in found.items()}


def errors_of(found, exact):
    """Return relative errors by name."""
    return {name: float((found[name] - exact[name]).norm() / exact[name].norm()) for name in exact}
