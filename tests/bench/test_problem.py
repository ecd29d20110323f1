"""A whole training rule in the harness: its batches, its passes, and what it must leave alone."""

import sys

import pytest
import torch

import methods
from bench.training.streams import batch_order


def same(one, other):
    return all(torch.equal(value, other.final[name]) for name, value in one.final.items())


def test_equal_weights_through_the_wide_door_train_what_equal_weights_train(observe):
    assert same(observe("Whole"), observe("equal"))


def test_further_batches_and_passes_and_a_look_at_the_validation_split_leave_the_training_as_it_is(observe):
    """Neither dropout nor running statistics nor the order of batches moves."""
    assert same(observe("Peeking"), observe("equal"))


def test_a_rule_that_steps_the_shared_parameters_itself_trains_what_sgd_with_momentum_trains(observe):
    """Heavy ball: v = m v + g; p = p - lr v, as torch's SGD. Heads have no momentum there."""
    sgd = {"optimizer": "sgd", "lr": 0.01, "schedule": "constant", "steps": 6}
    own, plain = observe("OwnMoments", **sgd), observe("equal", **sgd, momentum=0.9)
    moved = [name for name in own.final if name.startswith("trunk") and "num_batches" not in name]
    first = {name: own.initial[name] for name in moved}
    assert not any(torch.equal(own.final[name], first[name]) for name in moved if name.endswith("weight"))
    heads = [name for name in own.final if name.startswith("heads")]
    assert not all(torch.allclose(own.final[name], plain.final[name]) for name in heads)
    short = {**sgd, "steps": 1}
    assert same(observe("OwnMoments", **short), observe("equal", **short))


@pytest.mark.parametrize(
    ("rule", "forward", "heads", "trunk"),
    [("Whole", 1, 1, 1), ("ThreeBatches", 3, 3, 3), ("Bilevel", 3, 3, 3), ("OwnMoments", 1, 1, 1)],
)
def test_passes_are_counted_whatever_parameters_they_go_through(observe, rule, forward, heads, trunk):
    passes = observe(rule).cost.passes
    assert (passes["forward"], passes["heads"], passes["trunk"]) == (forward, heads, trunk)


def test_the_first_batch_is_the_paired_one_and_the_others_come_from_streams_of_their_own(observe):
    run, equal = observe("Peeking"), observe("equal")
    own = [step.examples for step in equal.steps]
    rule = next(m.Peeking for n, m in sys.modules.items() if n.startswith("mtl_bench_plugin") and hasattr(m, "Peeking"))
    seen = rule.seen[-24:]
    assert [batches[0] for batches, _ in seen] == own
    examples = len(run.task_set.splits["train"]["id"])
    for i in (1, 2):
        assert [batches[i] for batches, _ in seen] == batch_order(run.spec, examples, f"batch {i}").tolist()
        assert [batches[i] for batches, _ in seen] != own
    assert [rate for _, rate in seen] == sorted((rate for _, rate in seen), reverse=True)  # a cosine's


def test_distillation_on_top_of_a_whole_training_rule_is_refused_in_one_line(rules):
    with pytest.raises(methods.DoesNotFitError, match="Whole is a whole training rule: the terms of KD"):
        methods.create(f"kd+{rules}:Whole", num_tasks=2, teachers=[torch.nn.Identity()] * 2)
