"""What a rule keeps of each entry of the Jacobian: a buffer that gets its size from the trunk."""

import copy

import torch

from methods.core.base import Method


class Summing(Method):
    """Keeps the sum of all gradients it has seen, as Adagrad does with their squares."""

    per_task = ("seen",)

    def __init__(self, num_tasks):
        super().__init__(num_tasks)
        self.register_buffer("seen", torch.zeros(0, num_tasks))

    def combine(self, jacobian):
        seen = self.rows_of("seen", jacobian)
        seen += jacobian.T
        return seen.sum(1)


def step(method, trunk, *absent):
    heads = torch.tensor([1.0, 10.0, 100.0])
    losses = [None if k in absent else (trunk * head).sum() for k, head in enumerate(heads)]
    method.backward(losses, shared=[trunk])
    return trunk.grad.tolist()


def test_it_has_the_size_of_the_trunk_and_keeps_its_entries():
    method, trunk = Summing(3), torch.ones(2, requires_grad=True)
    assert step(method, trunk) == [111, 111]
    assert step(method, trunk) == [222, 222]
    assert method.seen.tolist() == [[2, 20, 200]] * 2


def test_an_absent_task_keeps_its_own_also_at_the_first_step():
    method, trunk = Summing(3), torch.ones(2, requires_grad=True)
    assert step(method, trunk, 1) == [101, 101]
    assert method.seen.tolist() == [[1, 0, 100]] * 2
    assert step(method, trunk, 0, 2) == [10, 10]
    assert step(method, trunk) == [222, 222]
    assert method.seen.tolist() == [[2, 20, 200]] * 2


def test_a_trunk_of_another_size_starts_anew():
    method = Summing(3)
    step(method, torch.ones(2, requires_grad=True))
    assert step(method, torch.ones(4, requires_grad=True)) == [111] * 4


def test_it_travels_in_the_state_and_in_deep_copies():
    method, trunk = Summing(3), torch.ones(2, requires_grad=True)
    step(method, trunk, 1)
    fresh = Summing(3)
    fresh.load_state_dict(method.state_dict())
    other = copy.deepcopy(method)
    assert step(fresh, trunk) == step(other, trunk) == step(method, trunk) == [212, 212]
    untouched = Summing(3)
    untouched.load_state_dict(Summing(3).state_dict())
    assert step(untouched, trunk) == [111, 111]


class Told(Method):
    """Remembers what it is told after a step."""

    per_task = ("after",)

    def __init__(self, num_tasks):
        super().__init__(num_tasks)
        self.register_buffer("after", torch.full((num_tasks,), torch.nan))

    def weigh(self, losses):
        return torch.ones_like(losses)

    def after_step(self, losses):
        self.after.copy_(losses)


def test_after_a_step_a_rule_is_told_the_losses_of_the_tasks_that_took_part():
    method, trunk = Told(3), torch.ones(2, requires_grad=True)
    step(method, trunk, 1)
    method.end_step(torch.tensor([5.0, 6.0, 7.0]))
    assert method.after[[0, 2]].tolist() == [5, 7]
    assert method.after[1].isnan()
