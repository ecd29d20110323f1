"""Every rule that TorchJD has, too, gives TorchJD's update on mild gradients, to the precision of its solver.

Agreement says little by itself: each rule's own tests hold it to its definition, also where theirs is off. Here one
table says of every rule how the two conventions differ, and how far the updates are apart, relative to their length.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torchjd import aggregation, scalarization
from torchjd.linalg import QuadprogProjector

import methods

DRAWS = 1000
"""Steps of rules that draw."""


class WarmedUp:
    """Their smooth maximum as ours is: after an epoch of log losses, of the log losses relative to that epoch's."""

    def __init__(self, mu):
        self.first, self.mu = None, mu

    def __call__(self, values):
        if self.first is None:
            self.first = values.detach()
            return values.log().sum()
        smooth = scalarization.STCH(self.mu, weights=torch.ones(len(values)))
        return len(values) * smooth((values / self.first).log())


@dataclass
class Peer:
    """What is compared with a rule."""

    name: str
    build: Any
    """Called with K; returns an aggregator of gradients or a scalarizer of losses."""
    factor: Any = field(default=lambda k: 1.0)
    """Called with K: what theirs is multiplied by."""
    within: float = 2e-6
    tasks: tuple = (2, 3, 5)
    ours: dict = field(default_factory=dict)
    """Our options."""
    common: float = 0.0
    """How much of one direction is added to all gradients."""
    draws: bool = False


def projector():
    return QuadprogProjector(norm_eps=0.0, reg_eps=1e-8)  # with no regulariser quadprog fails on rounded Gramians


PEERS = {
    "equal": Peer("Sum", lambda k: scalarization.Sum()),
    "static": Peer(
        "Constant", lambda k: scalarization.Constant(torch.tensor([3.0, 0.5])), tasks=(2,), ours={"weights": (3.0, 0.5)}
    ),
    "uncertainty": Peer("UW", scalarization.UW),
    "imtll": Peer("IMTLL", scalarization.IMTLL),
    "gls": Peer("GeometricMean", lambda k: scalarization.GeometricMean()),
    "dwa": Peer("DWA", lambda k: scalarization.DWA()),
    "famo": Peer("FAMO", scalarization.FAMO),
    "stch": Peer("STCH", lambda k: WarmedUp(0.5), ours={"mu": 0.5, "warmup": 1}),
    "rlw": Peer("Random", lambda k: scalarization.Random(), draws=True),
    "rgw": Peer("Random", lambda k: aggregation.Random(), draws=True),
    # Frank and Wolfe's steps come near the minimum slowly, the more so the shorter it is.
    "mgda": Peer("MGDA", lambda k: aggregation.MGDA(epsilon=1e-6, max_iters=500), within=0.02, common=1.0),
    "upgrad": Peer("UPGrad", lambda k: aggregation.UPGrad(projector=projector())),
    "dualproj": Peer("DualProj", lambda k: aggregation.DualProj(projector=projector())),
    # Ours is divided by 1 + c², as in the authors' code. Their cone solver has a tolerance of its own.
    "cagrad": Peer("CAGrad", lambda k: aggregation.CAGrad(0.4, norm_eps=0.0), lambda k: 1 / (1 + 0.4**2), 1e-3),
    # They invert in float32.
    "imtlg": Peer("IMTLG", lambda k: aggregation.IMTLG(), within=1e-3),
    "config": Peer("ConFIG", lambda k: aggregation.ConFIG(), within=1e-4),
    # Their preferences are 1/K.
    "alignedmtl": Peer("AlignedMTL", lambda k: aggregation.AlignedMTL(), lambda k: k, 1e-4),
    # They clip the length, which is √K, to 1. Their convex programs end at a residual of 1e-3. Without a common
    # direction one step in twenty ends at no solution.
    "nashmtl": Peer("NashMTL", lambda k: aggregation.NashMTL(n_tasks=k), math.sqrt, 1e-2, common=3.0),
    "fairgrad": Peer("FairGrad", lambda k: aggregation.FairGrad(2.0), within=1e-3),  # least squares to a tolerance
    # The sum of their weights is 1. Without a step of warm-up the first excess would be relative to nothing.
    "excessmtl": Peer("ExcessMTL", lambda k: aggregation.ExcessMTL(n_warmup_steps=1), lambda k: k, 1e-4),
    # With two tasks there is one order only.
    "pcgrad": Peer("PCGrad", lambda k: aggregation.PCGrad(), tasks=(2,)),
    "gradvac": Peer("GradVac", lambda k: aggregation.GradVac(), within=1e-4, tasks=(2,)),
    "graddrop": Peer("GradDrop", lambda k: aggregation.GradDrop(), ours={"at": "shared"}, draws=True),
}
WITHOUT = {
    "Mean": "equal/K",
    "Krum": "for gradients of untrusted workers",
    "TrimmedMean": "for gradients of untrusted workers",
    "PCD": "one task is primary",
    "CRMOGMWeighting": "a rule on top of others",
    "MoDoWeighting": "of two batches",
    "SDMGradWeighting": "of three batches",
    "COSMOS": "for a preference",
    "PBI": "for a preference",
}
"""What TorchJD has and this project does not, or not as a rule of its own."""


def steps(tasks, seed, common=0.0, count=3):
    """Gradients of a few steps, whose lengths differ by a factor of four at most, and losses that fall."""
    draw = torch.Generator().manual_seed(seed)
    values = 0.5 + torch.rand(tasks, generator=draw)
    for step in range(count):
        lengths = 4 ** (torch.rand(tasks, 1, generator=draw) - 0.5)
        rows = torch.randn(tasks, 2 * tasks, generator=draw)
        rows = torch.nn.functional.normalize(rows + common * torch.randn(2 * tasks, generator=draw))
        yield lengths * rows, values * (0.9 - 0.2 * torch.rand(tasks, generator=draw)) ** step


def our_update(method, linear, rows, values):
    losses, theta = linear(rows, values)
    method.backward(losses, shared=[theta])
    if method.overrides("after_step"):
        method.end_step(values.roll(1))
    if method.overrides("after_epoch"):
        method.end_epoch(losses=values.clone, validation=values.clone)
    return theta.grad


def their_update(rule, optimizer, rows, values):
    if isinstance(rule, aggregation.Aggregator):
        return rule(rows)
    values = values.clone().requires_grad_()
    rule(values).backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()
    if isinstance(rule, scalarization.FAMO):
        rule.update(values.detach().roll(1))
    elif isinstance(rule, scalarization.DWA):
        rule.step()
    return values.grad @ rows


def learner(rule):
    """The optimiser of what a scalarizer learns: at the rate of ours."""
    learnt = list(rule.parameters()) if isinstance(rule, scalarization.UW | scalarization.IMTLL) else []
    return torch.optim.Adam(learnt, lr=0.025) if learnt else None


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if not peer.draws])
def test_the_updates_agree(linear, name):
    peer = PEERS[name]
    for tasks in peer.tasks:
        for seed in range(4):
            method, rule = methods.create(name, num_tasks=tasks, **peer.ours), peer.build(tasks)
            optimizer = learner(rule)
            for rows, values in steps(tasks, seed, peer.common):
                update = our_update(method, linear, rows, values)
                theirs = peer.factor(tasks) * their_update(rule, optimizer, rows, values)
                assert (update - theirs).norm() <= peer.within * update.norm(), f"K = {tasks}, seed {seed}"


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.draws])
def test_drawn_updates_have_the_same_mean_and_spread(linear, name):
    """Each coordinate's mean, and the mean of its square, are within five standard errors of each other."""
    peer = PEERS[name]
    [(rows, values)] = steps(3, seed=0, count=1)
    torch.manual_seed(0)
    method, rule = methods.create(name, num_tasks=3, **peer.ours), peer.build(3)
    ours = torch.stack([our_update(method, linear, rows, values) for _ in range(DRAWS)])
    theirs = torch.stack([peer.factor(3) * their_update(rule, None, rows, values) for _ in range(DRAWS)])
    for power in (1, 2):
        one, other = ours**power, theirs**power
        error = ((one.var(0) + other.var(0)) / DRAWS).sqrt()
        assert ((one.mean(0) - other.mean(0)).abs() <= 5 * error).all()


def test_nothing_of_theirs_is_left_out():
    public = {*aggregation.__all__, *scalarization.__all__} - {"Aggregator", "Scalarizer", "Weighting"}
    rules = {name for name in public if not name.endswith("Aggregator")}
    rules = {name.removesuffix("Weighting") if name.removesuffix("Weighting") in rules else name for name in rules}
    assert rules == {peer.name for peer in PEERS.values()} | WITHOUT.keys()
