"""What the tests of the rules share: a small network, a rule with terms of its own, matrices of gradients."""

import typing
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

import methods
from methods.core.base import Method
from methods.core.options import REQUIRED


def all_variants():
    """Each built-in rule that balances and needs no option, at each place where it can measure."""
    for name, entry in methods.registry.entries().items():
        described = methods.registry.describe(entry)
        options = described.options
        if any(option.default is REQUIRED for option in options.values()):
            continue
        if described.facts["extra"] or described.facts["overrides"] == "step":
            continue  # what only adds terms balances nothing; a whole training rule has a door of its own
        places = typing.get_args(options["at"].type) if "at" in options else ()
        yield from [f"{name}[at={place}]" for place in places] or [name]


def kinds():
    """Of all variants the first of each kind: those that ask for the same things, and that the base treats alike."""
    first = {}
    for variant in all_variants():
        rule = methods.create(variant, num_tasks=3)
        asks = (rule.rule, rule.needs, rule.at, rule.heads, rule.zero_gradients)
        keeps = (bool(rule.per_task), rule.recalls, rule.optimizer is None)
        first.setdefault((*asks, *keeps, rule.has("after_step"), rule.has("after_epoch")), variant)
    return list(first.values())


def pytest_generate_tests(metafunc):
    """A test with the argument `variant` is one of every such rule; one with `typical`, of a rule of each kind."""
    if "variant" in metafunc.fixturenames:
        metafunc.parametrize("variant", list(all_variants()))
    if "typical" in metafunc.fixturenames:
        metafunc.parametrize("typical", kinds())


class Network(nn.Module):
    """A trunk, and per task a head, a target, and labels of which some are missing.

    The losses are totals over the valid labels, divided by the whole batch's count of them: those of a `part`
    of the batch, times `ranks`, are what one of several ranks passes.
    """

    def __init__(self, kind="mlp", tasks=3, batch=12, dtype=torch.float32, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        inputs = {"mlp": torch.randn(batch, 5), "conv": torch.randn(batch, 2, 6, 6)}[kind]
        if kind == "mlp":
            self.trunk = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 8), nn.Tanh())
            first, second, width = nn.Linear, nn.Linear, 8
        else:
            self.trunk = nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Tanh()
            )
            first, second, width = lambda *a: nn.Conv2d(*a, 3), lambda *a: nn.Conv2d(*a, 1), 6
        self.hidden = nn.ModuleList(nn.Sequential(first(width, 4), nn.Tanh()) for _ in range(tasks))
        self.heads = nn.ModuleList(second(4, 2) for _ in range(tasks))
        self.to(dtype)
        self.inputs = inputs.to(dtype)
        self.targets = [1 + torch.randn(batch, dtype=dtype) for _ in range(tasks)]
        self.valid = [torch.rand(batch) < 0.2 + 0.7 / (1 + k % 3) for k in range(tasks)]
        for valid in self.valid:
            valid[0] = True

    @property
    def last(self):
        return self.trunk[-2].weight

    def forward(self, part=slice(None), ranks=1):
        features = self.trunk(self.inputs[part])
        hidden = [hidden(features) for hidden in self.hidden]
        losses = []
        for k, head in enumerate(self.heads):
            errors = head(hidden[k]).flatten(1).mean(1) - self.targets[k][part]
            total = (10.0 ** (k % 3 - 1) * errors**2 * self.valid[k][part]).sum()
            losses.append(ranks * total / self.valid[k].sum())
        taps, private_taps = [(features,) for _ in hidden], [(own,) for own in hidden]
        return SimpleNamespace(losses=losses, features=features, taps=taps, private_taps=private_taps)

    def give(self, method, outputs=None, **changed):
        """Let the method have all that a network can give, and return its weights."""
        outputs = self() if outputs is None else outputs
        given = {
            "losses": outputs.losses,
            "shared": self.trunk.parameters(),
            "features": outputs.features,
            "last": self.last,
            "inputs": {"x": self.inputs},
            "taps": outputs.taps,
        }
        given |= changed
        return method.backward(given.pop("losses"), **given)

    def gradients(self, scalar, more=()):
        """Autograd's gradients of a scalar: by name, of the network; and of more parameters."""
        names, parameters = zip(*self.named_parameters(), *more, strict=True)
        unreached = {"allow_unused": True, "materialize_grads": True}
        found = torch.autograd.grad(scalar, parameters, retain_graph=True, **unreached)
        return dict(zip(names, found, strict=True))

    def assert_gradients(self, expected, more=()):
        """Each parameter's `.grad` is as expected, to 1e-6 of its norm."""
        named = dict([*self.named_parameters(), *more])
        assert named.keys() == expected.keys()
        for name, gradient in expected.items():
            error = (named[name].grad - gradient).norm()
            assert named[name].grad.shape == gradient.shape
            assert error <= 1e-6 * gradient.norm(), f"{name}: {error / gradient.norm()}"


class Distil(Method):
    """The plain sum, and per task the distance between its taps, through an adaptor, and a constant."""

    def __init__(self, num_tasks, width=8, lr=0.1):
        super().__init__(num_tasks)
        torch.manual_seed(7)
        self.adaptors = nn.ModuleList(nn.Linear(width, 3) for _ in range(num_tasks))
        self.optimizer = torch.optim.Adam(self.adaptors.parameters(), lr=lr)

    def objective(self, losses):
        return losses.sum()

    def extra(self, inputs, taps):
        wide = [tap.flatten(2).mean(2) if tap.dim() > 2 else tap for (tap,) in taps]
        terms = [(adaptor(tap) - 1).square().mean() for adaptor, tap in zip(self.adaptors, wide, strict=True)]
        return torch.stack(terms)


def linear_losses(rows, values=None):
    """Losses of these values whose gradients with respect to the one parameter are exactly these rows."""
    rows = torch.as_tensor(rows)
    theta = nn.Parameter(torch.zeros(rows.shape[1], dtype=rows.dtype))
    values = torch.ones(len(rows), dtype=rows.dtype) if values is None else torch.as_tensor(values)
    return [row @ theta + value for row, value in zip(rows, values, strict=True)], theta


STRUCTURES = ("random", "aligned", "conflicting", "low rank", "opposite", "duplicate", "parallel", "equal")


def structured(structure, tasks, seed):
    """Unit rows `[K, P]` (but for "conflicting") of a known geometry."""
    draw = np.random.default_rng(seed)
    columns = int(draw.integers(1, 2 * tasks + 3))
    rows = draw.normal(size=(tasks, columns))
    if structure == "aligned":
        rows = draw.normal(size=columns) + 0.1 * rows
    elif structure == "conflicting":  # nearly summing to zero
        rows = rows - 0.99 * rows.mean(0)
    elif structure == "low rank":
        rank = int(draw.integers(1, tasks + 1))
        rows = rows[:, :1] if columns <= rank else draw.normal(size=(tasks, rank)) @ rows[:rank]
    elif structure == "opposite":
        rows[1::2] = -rows[: tasks - tasks % 2 : 2]
    elif structure == "duplicate":
        rows = rows[draw.integers(0, max(1, tasks // 2), size=tasks)]
    elif structure in ("parallel", "equal"):
        rows = np.repeat(rows[:1], tasks, axis=0)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-3)


@st.composite
def matrices(draw, tasks=None, decades=6, zeros=True, structures=STRUCTURES):
    """Gradients `[K, P]` in float64, with rows of any norms up to so many decades from 1, each by itself."""
    tasks = draw(tasks if tasks is not None else st.integers(1, 4) | st.integers(5, 40))
    structure = draw(st.sampled_from(structures))
    seed = draw(st.integers(0, 2**32 - 1))
    rows = structured(structure, tasks, seed)
    if structure != "equal":
        rows = rows * 10.0 ** np.random.default_rng(seed + 1).uniform(-decades, decades, size=(tasks, 1))
    if zeros and draw(st.integers(0, 9)) == 0:
        rows[draw(st.integers(0, tasks - 1))] = 0
    return torch.from_numpy(rows)


@pytest.fixture(scope="session")
def gradient_matrices():
    """A hypothesis strategy, to draw from within a test."""
    return matrices


@pytest.fixture(scope="session")
def variants():
    return list(all_variants())


@pytest.fixture(scope="session")
def linear():
    return linear_losses


@pytest.fixture(scope="session")
def network():
    return Network


@pytest.fixture(scope="session")
def distil():
    return Distil


@pytest.fixture(scope="session")
def optimality():
    """How far a vector is from being the shortest in the hull of the rows, given its weights: 0 to about 1.

    It is the shortest if and only if g_k · d ≥ |d|² for every row. Every product is judged against |g_k|
    times the size of what was added up to make d.
    """

    def gap(rows, weights, update=None):
        rows, weights = rows.double(), weights.double()
        lengths = rows.norm(dim=1)
        update = weights @ rows if update is None else update.double()
        size = (weights * lengths).sum()
        if size == 0:
            return 0.0
        violation = (update @ update - rows @ update).clamp(min=0)
        return float((violation / (lengths * size).clamp(min=torch.finfo(torch.float64).tiny)).max())

    return gap
