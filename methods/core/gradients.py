"""Gradients of K losses: measured one backward per task, compared, averaged over ranks."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Reduce = Callable[..., Tensor]
"""`reduce(tensor, reduce_op="mean" | "sum") -> tensor` over ranks, as `lightning.Fabric.all_reduce`."""


def leaves(loss: Tensor) -> dict[Tensor, None]:
    """Return the leaf tensors (parameters) that the graph of `loss` reaches, in the graph's order.

    A dictionary for its order, which a set has not: ranks put gradients end to end in it.
    """
    found: dict[Tensor, None] = {}
    seen = set()
    nodes = [loss.grad_fn] if loss.grad_fn is not None else []
    while nodes:
        node = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # AccumulateGrad: the node that stands for a leaf
            found[node.variable] = None
        nodes.extend(parent for parent, _ in node.next_functions if parent is not None)
    return found


def rows(
    losses: Sequence[Tensor],
    at: Sequence[Tensor],
    private: Sequence[Sequence[Tensor]] = (),
    *,
    keep_graph: bool = False,
) -> tuple[Tensor, list[list[Tensor]]]:
    """Differentiate each loss with one backward of its own.

    Returns the matrix `[K, P]` whose row k is ∂losses[k]/∂`at`, flattened in the order of `at`, and for each
    task the gradients of its `private` parameters, which the same backward yields. A loss that needs no gradient
    (a batch without a label of that task) has a row of zeros. The graph is kept for a later pass if
    `keep_graph`.
    """
    private = private or [()] * len(losses)
    # Written row by row into one buffer: at its peak this holds K + 1 gradients, a list and its `cat` 2K.
    matrix = at[0].new_empty(len(losses), sum(tensor.numel() for tensor in at))
    own: list[list[Tensor]] = []
    for k, loss in enumerate(losses):
        if not loss.requires_grad:
            matrix[k] = 0
            own.append([torch.zeros_like(parameter) for parameter in private[k]])
            continue
        found = torch.autograd.grad(
            loss,
            [*at, *private[k]],
            retain_graph=keep_graph or k < len(losses) - 1,
            allow_unused=True,
            materialize_grads=True,
        )
        torch.cat([gradient.reshape(-1) for gradient in found[: len(at)]], out=matrix[k])
        own.append(list(found[len(at) :]))
    return matrix, own


def gramian(matrix: Tensor) -> Tensor:
    """Return the inner products `[K, K]` of the rows of `[K, P]`, in float64, on the CPU.

    Products of float32 gradients overflow and cancel in float32. Columns are converted piece by piece into one buffer:
    no second copy of the Jacobian, and on a CPU pieces that stay in its cache, several times as fast.
    """
    tasks, columns = matrix.shape
    width = 1 << (14 if matrix.device.type == "cpu" else 20)
    product = matrix.new_zeros(tasks, tasks, dtype=torch.float64)
    buffer = matrix.new_empty(tasks, min(width, columns), dtype=torch.float64)
    for part in matrix.split(width, dim=1):
        piece = buffer[:, : part.shape[1]].copy_(part)
        product.addmm_(piece, piece.T)
    return product.cpu()


def split(flat: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Cut `[P]` into views of the parameters' shapes."""
    parts = flat.split([parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]


def assign(parameters: Sequence[Tensor], flat: Tensor) -> None:
    """Make `.grad` of the parameters views into `flat` `[P]`."""
    for parameter, part in zip(parameters, split(flat, parameters), strict=True):
        parameter.grad = part


def average(parameters: Sequence[Tensor], reduce: Reduce | None) -> None:
    """Average `.grad` of the parameters over ranks, in one collective. One that is missing is so on every rank."""
    present = [parameter for parameter in parameters if parameter.grad is not None]
    if reduce is None or not present:
        return
    flat = torch.cat([p.grad.reshape(-1) for p in present if p.grad is not None])
    assign(present, reduce(flat, reduce_op="mean"))
