"""Two ranks with unequal counts of labels make the step of one process with the whole batch.

Run as a script, this file is one of the ranks: `python test_ranks.py RANK FOLDER` trains every case there is
and leaves in the folder what became of it.
"""

import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

import methods
from methods.core.base import Method

STEPS = 10
BATCH = 12


# Rules of the test's own -----------------------------------------------------------------------------------


class Lengths(Method):
    """Depends on the gradients' scale, and not linearly."""

    def weigh(self, gramian):
        return 1 / gramian.diagonal().sqrt()


class WeightedHeads(Lengths):
    heads = "weighted"


class Seldom(Lengths):
    every = 3


class Logarithms(Method):
    """Not linear in the losses."""

    def objective(self, losses):
        return losses.log().sum()


class Signs(Method):
    """Makes the update itself, and not linearly."""

    def combine(self, jacobian):
        return jacobian.sign().sum(0) * jacobian.norm()


class Reading(Method):
    """Depends on the batch that it sees."""

    def weigh(self, losses, features):
        return losses * features.square().mean()


class Rarely(Method):
    """Has an optimiser with moments and decay, but no gradient at most steps."""

    def __init__(self, num_tasks):
        super().__init__(num_tasks)
        self.logits = nn.Parameter(torch.linspace(-1, 1, num_tasks))
        self.optimizer = torch.optim.Adam([self.logits], lr=0.1, weight_decay=0.1)

    def weigh(self, losses):
        if self.steps % 3 == 0:
            self.logits.grad = losses.clone()
        return self.logits.softmax(0)


class Drawing(Method):
    def weigh(self, losses):
        return torch.rand(len(losses), generator=self.generator)


def case(rule, at="shared", *, carries=False, unlabelled=None, diverges=False, may_refuse=False, knows=False):
    """Say what to train: one of these rules or a variant, where, and with which trouble.

    `unlabelled`: half of the batch has no label of a task, whose loss there is a "zero" with a graph,
    a "constant" without, or a "constant later" than at the first step; or on no rank at every other step ("nobody").
    Whether the loop `knows` the private parameters of each task and passes them.
    """
    return locals()


CASES = {
    "lengths": case(Lengths),
    "lengths at features": case(Lengths, "features"),
    "lengths at last": case(Lengths, "last"),
    "weighted heads": case(WeightedHeads),
    "weighted heads at features": case(WeightedHeads, "features"),
    "seldom": case(Seldom),
    "seldom at features": case(Seldom, "features"),
    "seldom and an extra term": case(Seldom, carries=True),
    "seldom, a zero loss": case(Seldom, unlabelled="zero"),
    "logarithms": case(Logarithms),
    "signs": case(Signs),
    "signs at features": case(Signs, "features", may_refuse=True),
    "rarely": case(Rarely),
    "drawing": case(Drawing),
    "reading": case(Reading, may_refuse=True),
    "equal and an extra term": case("equal", carries=True),
    "lengths and an extra term": case(Lengths, carries=True),
    "lengths at features and an extra term": case(Lengths, "features", carries=True),
    "lengths at last and an extra term": case(Lengths, "last", carries=True),
    "lengths, a zero loss": case(Lengths, unlabelled="zero"),
    "features, a zero loss": case(Lengths, "features", unlabelled="zero"),
    "equal, a zero loss": case("equal", unlabelled="zero"),
    "lengths, a constant loss later": case(Lengths, unlabelled="constant later", may_refuse=True),
    "features, a constant loss later": case(Lengths, "features", unlabelled="constant later", may_refuse=True),
    "equal, a constant loss later": case("equal", unlabelled="constant later", may_refuse=True),
    "lengths, a constant loss at once": case(Lengths, unlabelled="constant", may_refuse=True),
    "features, a constant loss at once": case(Lengths, "features", unlabelled="constant", may_refuse=True),
    "equal, a constant loss at once": case("equal", unlabelled="constant", may_refuse=True),
    "lengths, a constant loss of a known head": case(Lengths, unlabelled="constant", knows=True),
    "features, a constant loss of a known head": case(Lengths, "features", unlabelled="constant", knows=True),
    "last, a constant loss of a known head": case(Lengths, "last", unlabelled="constant", knows=True),
    "equal, a constant loss of a known head": case("equal", unlabelled="constant", knows=True),
    "uncertainty, nobody has a label": case("uncertainty", unlabelled="nobody", knows=True),
    "gradnorm, nobody has a label": case("gradnorm", unlabelled="nobody", knows=True),
    "equal, a rank that diverges": case("equal", diverges=True),
    "lengths, a rank that diverges": case(Lengths, diverges=True),
}


# One rank --------------------------------------------------------------------------------------------------


def reduce_in_place(tensor, reduce_op="mean"):
    """As `Fabric.all_reduce` does on gloo, but for unlike tensors, which end the process there."""
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([tensor.numel()]))
    if len({int(size) for size in sizes}) > 1:
        raise RuntimeError(f"the ranks reduce tensors of {[int(size) for size in sizes]} elements")
    dist.all_reduce(tensor)
    return tensor.div_(dist.get_world_size()) if reduce_op == "mean" else tensor


def train(network, distil, chosen, rank, world):
    """Ten steps on this rank's part of the batch; the gradients of the first step, and where they end."""
    net = network("mlp", tasks=3, batch=BATCH, dtype=torch.float64)
    if isinstance(chosen["rule"], str):
        method = methods.create(chosen["rule"], num_tasks=3)
    else:
        method = chosen["rule"](3)
        method.at = chosen["at"]
    if chosen["carries"]:
        method.added.append(distil(3))
    method.to(torch.float64)
    share = BATCH // world
    part = slice(rank * share, (rank + 1) * share)
    if chosen["unlabelled"]:  # the first half has all labels of one task
        net.valid[1] = torch.arange(BATCH) < BATCH // 2
    elif world > 1:  # or the test shows nothing
        assert len({int(valid[part].sum()) for valid in net.valid}) > 1
    reduce = None if world == 1 else reduce_in_place
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    first = None
    for step in range(STEPS):
        outputs = net(part, ranks=world)
        if chosen["unlabelled"] == "nobody" and step % 2:
            outputs.losses[1] = None
        constant = {"constant": True, "constant later": step > 0}.get(chosen["unlabelled"], False)
        if constant and not net.valid[1][part].any():
            outputs.losses[1] = torch.zeros((), dtype=torch.float64)
        if chosen["diverges"] and step == 3 and rank == 0:
            outputs.losses[1] = outputs.losses[1] * float("nan")
        given = {}
        if chosen["knows"]:
            parts = zip(net.hidden, net.heads, strict=True)
            given["private"] = [[*hidden.parameters(), *head.parameters()] for hidden, head in parts]
        weights = net.give(method, outputs, reduce=reduce, **given)
        if first is None:
            first = {name: p.grad.clone() for name, p in net.named_parameters()}
            first |= {} if weights is None else {"weights": weights.clone()}
        optimizer.step()
        if method.overrides("after_step"):
            losses = torch.stack(net(part, ranks=world).losses).detach()
            method.end_step(losses if reduce is None else reduce(losses))
        if method.overrides("after_epoch"):
            losses = torch.stack(net(part, ranks=world).losses).detach()
            losses = losses if reduce is None else reduce(losses)
            method.end_epoch(losses=lambda now=losses: now, validation=lambda now=losses: now)
    last = {name: p.detach().clone() for name, p in [*net.named_parameters(), *method.named_parameters()]}
    return {"first": first, "last": last, "degenerate": method.degenerate}


def outcome(*arguments):
    try:
        return train(*arguments)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main(rank, folder):
    from conftest import Distil, Network, all_variants

    torch.set_num_threads(1)
    for n, chosen in enumerate([*CASES.values(), *map(case, all_variants())]):
        dist.init_process_group(  # for each case, so that one that fails takes no other along
            "gloo",
            init_method=f"file://{folder}/meeting-{n}",
            rank=rank,
            world_size=2,
            timeout=datetime.timedelta(seconds=30),
        )
        torch.save(outcome(Network, Distil, chosen, rank, 2), f"{folder}/{n}-{rank}.pt")
        dist.destroy_process_group()


# What became of it -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory, network, distil, variants):
    """Train every case here alone and on two ranks; return what became of each: alone, and of either rank."""
    cases = CASES | {variant: case(variant) for variant in variants}
    folder = tmp_path_factory.mktemp("ranks")
    path = os.pathsep.join([str(Path(methods.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__]
    ranks = [subprocess.Popen([*command, str(rank), str(folder)], env=environment) for rank in (0, 1)]
    try:
        alone = [outcome(network, distil, chosen, 0, 1) for chosen in cases.values()]
        assert [rank.wait(timeout=400) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    files = [[folder / f"{n}-{rank}.pt" for rank in (0, 1)] for n in range(len(cases))]
    pairs = [[torch.load(file, weights_only=True) for file in pair] for pair in files]
    return {name: (one, *pair) for name, one, pair in zip(cases, alone, pairs, strict=True)}


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        error = float((found[name] - value).norm())
        assert error <= 1e-6 * float(value.norm()) + 1e-12, name


def assert_one_training(alone, first, second):
    for result in (alone, first, second):
        assert "error" not in result, result["error"]
    for result in (first, second):
        assert_close(result["first"], alone["first"])
    for key in first["last"]:
        assert torch.equal(first["last"][key], second["last"][key]), key
    assert_close(first["last"], alone["last"])
    assert first["degenerate"] == second["degenerate"] == alone["degenerate"]


def assert_refused(alone, first, second):
    """Alike, and in words: a collective that some ranks do not join would hang."""
    assert "error" not in alone
    assert first["error"].startswith(("DoesNotFitError", "ValueError"))
    assert first["error"] == second["error"]


def of_kind(**wanted):
    names = [name for name, chosen in CASES.items() if wanted.items() <= chosen.items()]
    return pytest.mark.parametrize("name", names)


@of_kind(diverges=False, may_refuse=False)
def test_two_ranks_make_the_step_of_one_and_do_not_drift(finished, name):
    assert_one_training(*finished[name])


def test_so_they_do_with_every_rule(finished, variant):
    [rule] = methods.parse(variant).parts
    needs = set(rule.facts["asks"])
    local = "features" in needs or ("jacobian" in needs and "at=features" in variant)
    if local and "error" in finished[variant][1]:
        assert_refused(*finished[variant])
    else:
        assert_one_training(*finished[variant])


@of_kind(may_refuse=True)
def test_what_one_rank_cannot_know_is_made_right_or_refused(finished, name):
    if "error" in finished[name][1]:
        assert_refused(*finished[name])
    else:
        assert_one_training(*finished[name])


@of_kind(diverges=True)
def test_if_one_rank_diverges_all_say_so(finished, name):
    (error,) = {result["error"] for result in finished[name]}
    assert error.startswith("DivergedError: the loss of task 1 is not finite at step 3")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
