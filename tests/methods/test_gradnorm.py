"""GradNorm, against its objective differentiated by autograd and by hand."""

import copy

import pytest
import torch

import methods


def create(tasks, **options):
    return methods.create("gradnorm", num_tasks=tasks, **options)


def step(method, linear, rows, values):
    losses, theta = linear(rows, values)
    return method.backward(losses, shared=[theta], last=theta), theta.grad


def objective(weights, lengths, losses, first, alpha):
    """Chen et al. 2018, Eq. 2, with a target that holds still."""
    norms = weights * lengths
    rate = losses / first
    target = (norms.mean() * (rate / rate.mean()) ** alpha).detach()
    return (norms - target).abs().sum()


@pytest.mark.parametrize("alpha", [0.5, 1.5])
def test_the_weights_descend_the_papers_objective(linear, alpha):
    torch.manual_seed(0)
    rows, first, later = torch.randn(3, 5) * torch.tensor([[0.1], [1], [10]]), torch.rand(3) + 0.5, torch.rand(3) + 0.1
    method = create(3, alpha=alpha)
    step(method, linear, rows, first)
    given, update = step(method, linear, rows, later)
    used = given.clone().requires_grad_()
    objective(used, rows.norm(dim=1), later, first, alpha).backward()
    torch.testing.assert_close(method.weights.grad, used.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(update, used.detach() @ rows)


def adam(start, gradients, lr):
    """Where Adam is after steps along these gradients, each of the weights that were used."""
    parameter = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([parameter], lr=lr)
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    return parameter.detach()


def test_the_next_weights_are_those_after_a_step_of_adam_made_to_sum_to_the_number_of_tasks(linear):
    rows, values = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, 2.0, 3.0])
    method = create(3, lr=0.1)
    first, _ = step(method, linear, rows, values)
    gradient = method.weights.grad.clone()
    second, _ = step(method, linear, rows, values)
    expected = adam(first, [gradient], lr=0.1)
    torch.testing.assert_close(second, 3 * expected / expected.sum())
    assert not torch.equal(first, second)


def test_the_weights_sum_to_the_number_of_tasks_at_every_step(linear):
    method = create(3, lr=0.5)
    for _ in range(20):
        weights, _ = step(method, linear, torch.randn(3, 4), torch.rand(3))
        assert weights.sum().item() == pytest.approx(3)
        assert (weights > 0).all()


def test_a_copy_renormalises_its_weights_too(linear):
    """An optimiser's hooks are lost when it is copied."""
    method = create(3, lr=0.5)
    step(method, linear, torch.randn(3, 4), torch.rand(3))
    other = copy.deepcopy(method)
    for _ in range(5):
        weights, _ = step(other, linear, torch.randn(3, 4), torch.rand(3))
        assert weights.sum().item() == pytest.approx(3)


def test_a_loss_below_zero_is_counted(linear):
    method = create(2)
    step(method, linear, torch.eye(2), torch.ones(2))
    weights, _ = step(method, linear, torch.eye(2), torch.tensor([1.0, -0.5]))
    assert torch.isfinite(weights).all()
    assert method.degenerate == 1


def test_at_rest_norms_follow_the_training_rates(linear):
    rows, values = torch.diag(torch.tensor([0.2, 1.0, 5.0])), torch.tensor([1.0, 0.5, 2.0])
    method = create(3, alpha=1.0, lr=0.01)
    step(method, linear, rows, torch.ones(3))
    for _ in range(3000):
        step(method, linear, rows, values)
    norms = method.weights.detach() * rows.diagonal()
    expected = values / values.mean()
    torch.testing.assert_close(norms / norms.mean(), expected, rtol=0.1, atol=0.02)


def test_the_heads_are_weighted(network):
    net = network("mlp")
    method = create(3)
    method.weights.data = torch.tensor([0.5, 1.0, 1.5])
    outputs = net()
    plain = [net.gradients(loss) for loss in outputs.losses]
    net.give(method, net())
    for k, weight in enumerate((0.5, 1.0, 1.5)):
        name = f"heads.{k}.weight"
        torch.testing.assert_close(net.heads[k].weight.grad, weight * plain[k][name])


def test_all_losses_zero_leave_finite_weights(linear):
    method = create(2)
    for _ in range(3):
        step(method, linear, torch.zeros(2, 3), torch.zeros(2))
    assert torch.isfinite(method.weights).all()
    assert method.degenerate == 3
