"""GradNorm, against its objective differentiated by autograd and by hand."""

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
    used = method.weights.detach().clone().requires_grad_()
    given, update = step(method, linear, rows, later)
    objective(used, rows.norm(dim=1), later, first, alpha).backward()
    assert torch.equal(given, used.detach())  # the weights before their own step
    torch.testing.assert_close(method.weights.grad, used.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(update, used.detach() @ rows)


def test_the_weights_sum_to_the_number_of_tasks_after_every_step(linear):
    method = create(3, lr=0.5)
    for _ in range(20):
        step(method, linear, torch.randn(3, 4), torch.rand(3))
        assert method.weights.sum().item() == pytest.approx(3)
        assert (method.weights > 0).all()


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
