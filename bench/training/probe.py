"""Diagnostics of one step: the lengths and angles of the task gradients, as a point records them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.spec import Point
from bench.training.scoring import Scores, finite, number
from methods.core import gradients
from methods.core.gradients import Reduce


def gradient_gramian(losses: Sequence[Tensor], shared: Sequence[Tensor], reduce: Reduce | None) -> Tensor:
    """Return the Gramian `[K, K]` of the task gradients at the shared parameters. The graph is kept."""
    matrix, _ = gradients.rows(losses, shared, keep_graph=True)
    if reduce is not None:
        matrix = reduce(matrix, reduce_op="mean")
    return gradients.gramian(matrix)


def update_ratio(shared: Sequence[nn.Parameter], gramian: Tensor) -> float | None:
    """Return ‖update of the shared parameters‖ ÷ ‖Σ task gradients‖, where the update is what `.grad` contains.

    Returns None if no parameter has a gradient: a whole training rule may have updated them itself.
    """
    update = [parameter.grad.reshape(-1) for parameter in shared if parameter.grad is not None]
    if not update:
        return None
    return number(torch.linalg.vector_norm(torch.cat(update)).double().cpu() / gramian.sum().sqrt())


def point(
    step: int,
    tasks: Sequence[str],
    losses: Tensor,
    weights: Tensor | None,
    gramian: Tensor | None,
    ratio: float | None,
    validation: Scores,
) -> Point:
    """Return what is known after `step` steps. `losses` and `weights` `[K]` are means since the last point."""
    norms = cosines = None
    if gramian is not None:
        length = gramian.diagonal().sqrt()
        norms = _named(tasks, length)
        cosines = [[finite(value) for value in row] for row in (gramian / length.outer(length)).tolist()]
    return Point(
        step=step,
        losses=_named(tasks, losses),
        validation=validation,
        weights=None if weights is None else _named(tasks, weights),
        gradient_norms=norms,
        cosines=cosines,
        update_ratio=ratio,
    )


def _named(tasks: Sequence[str], values: Tensor) -> dict[str, float | None]:
    return dict(zip(tasks, map(finite, values.tolist()), strict=True))
