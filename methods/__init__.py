"""Balancing rules: how K task losses become one update.

    >>> import torch
    >>> import methods
    >>> trunk = torch.nn.Linear(3, 4)
    >>> losses = list(trunk(torch.ones(5, 3)).square().mean(0))
    >>> method = methods.create("mgda", num_tasks=4)
    >>> method
    MGDA(num_tasks=4)
    >>> weights = method.backward(losses, shared=trunk.parameters())
    >>> trunk.weight.grad.shape
    torch.Size([4, 3])

Each file of this folder is one rule. Importing this package imports no rule, and it does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.core.base import DivergedError, DoesNotFitError, Method
    from methods.core.names import UsageError
    from methods.core.rules import create, parse, reads_teachers, registry

# Each name is imported when it is used: building a rule needs torch, but naming one does not.
_HOMES = {
    "DivergedError": "methods.core.base",
    "DoesNotFitError": "methods.core.base",
    "Method": "methods.core.base",
    "UsageError": "methods.core.names",
    "create": "methods.core.rules",
    "parse": "methods.core.rules",
    "reads_teachers": "methods.core.rules",
    "registry": "methods.core.rules",
}
__all__ = ["DivergedError", "DoesNotFitError", "Method", "UsageError", "create", "parse", "reads_teachers", "registry"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'methods' has no attribute '{name}'")
