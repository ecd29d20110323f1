"""Gradients of K losses: finds the parameters they reach, measures one gradient per task, and averages over ranks."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from .errors import DoesNotFitError

Reduce = Callable[..., Tensor]
"""`reduce(tensor, reduce_op="mean" | "sum") -> tensor` over ranks, as `lightning.Fabric.all_reduce`."""

# The rows of a Jacobian [K, P] are kept once, in their own type. What is made of them in float64, or in another layout,
# is made piece by piece. The sizes are no options: a piece is small beside one row of any network for which memory
# matters, and so large that it does not matter how many there are.
NUMBERS = 1 << 23
"""The most entries of a Jacobian that are converted or copied together: 64 MB in float64, for any K."""
COLUMNS = 1 << 14
"""The columns that are converted together for a Gramian on a CPU: so many stay in its cache."""

_LEAF = type(get_gradient_edge(torch.zeros((), requires_grad=True)).node)
"""The type of the node that stands for a leaf in a graph."""

_HIDING = ("CheckpointFunctionBackward", "CheckpointFunction")
"""Nodes of re-entrant checkpoints. The graph behind such a node is built only when it is differentiated."""
HIDDEN = "a re-entrant checkpoint hides parameters: use `use_reentrant=False`"


def leaves(roots: Iterable[Tensor]) -> dict[Tensor, int]:
    """Find the leaf tensors (parameters) that the graphs of some scalars reach, as keys, in the order of the graphs.

    It does the same as `reached`, but does not tell which loss reaches which leaf. It takes half the time.

    Raises:
        DoesNotFitError: as `reached`.
    """
    found: dict[Tensor, int] = {}
    stack: list[Any] = []
    for root in roots:
        if root.grad_fn is not None:
            stack.append(root.grad_fn)
        elif root.requires_grad:
            found[root] = 0
    seen = set(stack)
    while stack:
        node = stack.pop()
        if type(node).__name__ in _HIDING:
            raise DoesNotFitError(HIDDEN)
        for child, _ in node.next_functions:
            if child is None or child in seen:
                continue
            seen.add(child)
            if type(child) is _LEAF:
                found[child.variable] = 0  # type: ignore[attr-defined]
            else:
                stack.append(child)
    return found


def reached(roots: Sequence[Tensor], barrier: Tensor | None = None) -> tuple[dict[Tensor, int], int]:
    """Find the leaf tensors (parameters) that the graphs of some scalars reach, in one walk of all graphs together.

    Args:
        roots: the scalars. A root without a graph reaches nothing.
        barrier: a tensor at which the walk stops.

    Returns:
        The leaves, each with the set of roots that reach it as bits (bit k: root k), and the set of roots that meet
        the barrier. The order of the leaves is that of the graph, so that ranks find them in the same order.

    Raises:
        DoesNotFitError: a graph has a re-entrant checkpoint, which hides what lies behind it.
    """
    stop = None if barrier is None else (barrier.grad_fn, barrier.output_nr)
    leaves: dict[Tensor, int] = {}
    bits: dict[Any, int] = {}
    met = 0
    for k, root in enumerate(roots):
        if root.grad_fn is None:
            if root.requires_grad:
                leaves[root] = leaves.get(root, 0) | 1 << k
        elif (root.grad_fn, root.output_nr) == stop:
            met |= 1 << k
        else:
            bits[root.grad_fn] = bits.get(root.grad_fn, 0) | 1 << k
    # First the nodes, each after all that it leads to; then, from the roots on, what leads to each.
    order: list[tuple[Any, Any]] = []
    seen = set()
    stack: list[tuple[Any, Any]] = [(node, None) for node in reversed(bits)]
    while stack:
        visit = stack.pop()
        node, edges = visit
        if edges is not None:
            order.append(visit)
            continue
        if node in seen:
            continue
        seen.add(node)
        edges = node.next_functions
        if type(node).__name__ in _HIDING:
            raise DoesNotFitError(HIDDEN)
        if not edges:
            order.append((node, edges))
            continue
        stack.append((node, edges))
        for edge in edges:
            if edge[0] is not None and edge[0] not in seen and edge != stop:
                stack.append((edge[0], None))
    for node, edges in reversed(order):
        own = bits[node]
        if type(node) is _LEAF:
            leaf = node.variable  # type: ignore[attr-defined]
            leaves[leaf] = leaves.get(leaf, 0) | own
        for edge in edges:
            child = edge[0]
            if edge == stop:
                met |= own
            elif child is not None:
                bits[child] = bits.get(child, 0) | own
    return leaves, met


def rows(
    losses: Sequence[Tensor],
    at: Sequence[Tensor],
    private: Sequence[Sequence[Tensor]] = (),
    *,
    keep_graph: bool = False,
) -> tuple[Tensor, list[list[Tensor]]]:
    """Differentiate each loss with one backward of its own.

    Returns the matrix `[K, P]` whose row k is ∂losses[k]/∂`at`, flattened in the order of `at`, and for each
    task the gradients of its `private` parameters, which come from the same backward pass. The matrix has the widest
    type of the tensors in `at`, and at least float32. A loss that needs no gradient (its task has no label in the
    batch) has a row of zeros. With `keep_graph` the graph stays for a later pass.

    Raises:
        DoesNotFitError: a gradient is sparse or complex.
    """
    private = private or [()] * len(losses)
    kind = torch.float32
    for tensor in at:
        if tensor.dtype != kind:
            kind = torch.promote_types(kind, tensor.dtype)
    if kind.is_complex:
        raise DoesNotFitError(
            "a gradient that is compared should be real, and one is complex: let the parameter hold real and imaginary "
            "parts (torch.view_as_complex), or take a rule of losses"
        )
    # Written row by row into one buffer: at its peak this holds K + 1 gradients, a list and its `cat` 2K.
    matrix = losses[0].new_empty(len(losses), sum(tensor.numel() for tensor in at), dtype=kind)
    final = max((k for k, loss in enumerate(losses) if loss.requires_grad), default=-1)
    own: list[list[Tensor]] = []
    for k, loss in enumerate(losses):
        if not loss.requires_grad:
            matrix[k] = 0
            own.append([torch.zeros_like(parameter) for parameter in private[k]])
            continue
        found = torch.autograd.grad(
            loss,
            [*at, *private[k]],
            retain_graph=keep_graph or k < final,
            allow_unused=True,
            materialize_grads=True,
        )
        try:
            if at:  # not of a trunk that is frozen
                _flatten(found[: len(at)], matrix[k])
        except RuntimeError:
            sparse = [list(g.shape) for g in found[: len(at)] if g.layout is not torch.strided]
            if not sparse:
                raise
            raise DoesNotFitError(
                f"the gradient of a shared parameter of shape {sparse[0]} is sparse, and rows of a Jacobian are dense: "
                "build the embedding with sparse=False"
            ) from None
        own.append(list(found[len(at) :]))
        del found  # before the next task's gradients are there
    return matrix, own


def _flatten(found: Sequence[Tensor], row: Tensor) -> None:
    """Write gradients into `row` `[P]`, one after the other: at once, if that copies none of them on the way."""
    if all(gradient.is_contiguous() for gradient in found):
        torch.cat([gradient.view(-1) for gradient in found], out=row)
        return
    for part, gradient in zip(row.split([gradient.numel() for gradient in found]), found, strict=True):
        part.view(gradient.shape).copy_(gradient)


def gramian(matrix: Tensor) -> Tensor:
    """Return the inner products `[K, K]` of the rows of `[K, P]`, in float64, on the CPU.

    Products of float32 gradients overflow and cancel in float32. Columns are converted piece by piece into one buffer:
    no second copy of the Jacobian, and on a CPU pieces that stay in its cache, several times as fast.
    """
    tasks, columns = matrix.shape
    width = at_once(tasks) if matrix.device.type != "cpu" else min(COLUMNS, at_once(tasks))
    product = matrix.new_zeros(tasks, tasks, dtype=torch.float64)
    buffer = matrix.new_empty(tasks, min(width, columns), dtype=torch.float64)
    for part in matrix.split(width, dim=1):
        piece = buffer[:, : part.shape[1]].copy_(part)
        product.addmm_(piece, piece.T)
    return product.cpu()


def at_once(tasks: int) -> int:
    """Return how many columns of a Jacobian `[K, P]` are converted or copied together."""
    return max(1, NUMBERS // tasks)


def combine_columns(kept: Tensor, weights: Tensor) -> Tensor:
    """Return `kept [P, K] @ weights [K]`, `[P]`, for a matrix that is laid out by columns (`Method.rows_of`).

    Each piece is copied to have the K numbers of an entry together. Their sum is then rounded in one way, whatever the
    layout was.
    """
    return torch.cat([part.contiguous() @ weights for part in kept.split(at_once(len(weights)))])


def split(flat: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Cut `[P]` into parts of the parameters' shapes and types: views where the type is the same."""
    parts = flat.split([parameter.numel() for parameter in parameters])
    return [part.view_as(parameter).to(parameter.dtype) for part, parameter in zip(parts, parameters, strict=True)]


def assign(parameters: Sequence[Tensor], flat: Tensor) -> None:
    """Make `.grad` of the parameters the parts of `flat` `[P]`."""
    for parameter, part in zip(parameters, split(flat, parameters), strict=True):
        parameter.grad = part


def add(parameters: Sequence[Tensor], found: Sequence[Tensor]) -> None:
    """Add gradients to `.grad` of the parameters.

    A gradient that becomes `.grad` has memory of its own: autograd may return one tensor for two parameters, or one
    value expanded to a shape, and whoever scales gradients in place (clipping) would then scale them twice.
    """
    taken = set()  # one gradient may also be a part of another, so that whole memories are compared
    for parameter, gradient in zip(parameters, found, strict=True):
        if parameter.grad is not None:
            gradient = parameter.grad + gradient
        elif gradient.layout is torch.strided:
            memory = gradient.untyped_storage().data_ptr()
            if gradient.stride() != parameter.stride() or memory in taken:
                gradient = torch.empty_like(parameter).copy_(gradient)
            taken.add(memory)
        parameter.grad = gradient


def average(parameters: Iterable[Tensor], reduce: Reduce | None) -> None:
    """Average `.grad` of the parameters over ranks, in one collective. A missing one must be missing on every rank."""
    if reduce is None:
        return
    present = [parameter for parameter in parameters if parameter.grad is not None]
    if present:
        flat = torch.cat([p.grad.reshape(-1) for p in present if p.grad is not None])
        assign(present, reduce(flat, reduce_op="mean"))


def is_finite(values: Tensor) -> bool:
    """Whether all values are finite: one number is copied from the device, unless it is not finite."""
    return math.isfinite(values.sum()) or bool(torch.isfinite(values).all())
