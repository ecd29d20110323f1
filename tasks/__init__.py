'''Task sets: tasks learnt together, with their data and network. Each file of this folder is one task set.

A task set of your own is a class in any file, `mine.py`. You name it by its place: `--tasks mine.py:Diabetes`. The
following one is complete. `python -m bench check mine.py:Diabetes` tests whether it keeps its contract.

    """A regression and a class from one table."""

    import torch
    from sklearn.datasets import load_diabetes

    from tasks import Card, Protocol, Task, TaskSet
    from tasks.core.losses import cross_entropy, squared_error
    from tasks.core.metrics.classification import accuracy
    from tasks.core.metrics.regression import normalized_rmse
    from tasks.networks.mlp import MLP


    class Diabetes(TaskSet):
        """Progression of diabetes a year on, and sex, from nine measurements."""

        inputs = ("person",)  # the columns that the network may see
        protocols = {  # by name; "quick" is the default of `run`, and rules by epoch need ten epochs
            "quick": Protocol(name="quick", steps=400, batch_size=32, lr=1e-3, steps_per_epoch=10),
        }
        card = Card(
            origin="Efron et al. 2004, as shipped by scikit-learn",
            licence="BSD-3-Clause",
            preprocessing="split 300 / 70 / 72 in the file's order; progression divided by 100",
            traps="442 people: seeds differ by more than most methods do",
        )

        def load(self):
            """Return the columns of each split, `[N, …]`: the same whatever a run's seed."""
            data = load_diabetes()
            table = torch.tensor(data.data, dtype=torch.float32)
            columns = {
                "person": torch.cat([table[:, :1], table[:, 2:]], 1),
                "progression": torch.tensor(data.target, dtype=torch.float32)[:, None] / 100,
                "sex": (table[:, 1] > 0).long(),
            }
            rows = {"train": slice(300), "validation": slice(300, 370), "test": slice(370, None)}
            return {split: {name: column[part] for name, column in columns.items()} for split, part in rows.items()}

        @property
        def tasks(self):
            """Return the tasks: name, column of the target, loss, metrics."""
            train, test = self.splits["train"], self.splits["test"]
            return (
                Task("progression", "progression", squared_error, {"nrmse": normalized_rmse(train["progression"])}),
                Task("sex", "sex", cross_entropy, {"accuracy": accuracy(2, train["sex"], test["sex"])}),
            )

        def network(self, tasks):
            """Return a network for these tasks: a trunk and a head for each."""
            outputs = {"progression": 1, "sex": 2}
            return MLP("person", (9, 32, 32), {task: outputs[task] for task in tasks})

`tasks/core/base.py` says what each part means. Each kind of loss and metric has a module of its own, so that a run's
key depends only on the kinds that it uses. Importing this package imports none of them, and it does not import torch.
'''

from typing import TYPE_CHECKING, Any

from tasks.core.errors import DataError

if TYPE_CHECKING:
    from tasks.core.base import Card, Metric, Network, Outputs, Task, TaskSet
    from tasks.core.protocol import Protocol

__all__ = ["Card", "DataError", "Metric", "Network", "Outputs", "Protocol", "Task", "TaskSet"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from tasks.core import base

        return getattr(base, name)
    raise AttributeError(f"module 'tasks' has no attribute '{name}'")
