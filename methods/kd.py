"""Knowledge distillation through small adaptors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.core.base import DoesNotFitError
from methods.core.search import Choice, Log
from methods.equal import Equal

EPSILON = 1e-6
"""Added inside the square root, so that a feature of zeros stays zero."""


class KD(Equal):
    """Add to the losses, per task, the distance of adapted shared features from a frozen single-task network's.

    Paper: Li & Bilen, ECCV workshops 2020, with the details of their code: D_k sums over taps the mean over batch and
    locations of Σ_channels (n(A f) − n(t))², where n divides by √(Σ_channels z² + 1e-6) and A is a bias-free linear map
    of the channels (a 1×1 convolution), one per task and tap. The A start Xavier-normal, have their own Adam (rate 0.1,
    weight decay 5e-4, constant) and are not used at test. Task losses weigh 1; with `kd+X` the rule X weighs them. The
    heads get no gradient of D_k. `weight` is λ_k, one for all tasks or one for each (the paper: 1:1:2 for segmentation,
    depth and normals).

    Teachers are modules that turn the inputs into their taps: in a harness the single-task networks of seed
    `teacher_seed`, by default the run's own, so that teacher and student start from the same weights. (On `scenes` at
    24×32 pixels and 500 steps, teachers of another seed gave better results than the run's own, so the common start is
    not an unfair advantage.) A distance needs no label, so a task without a label in the batch is distilled, too. The
    cost of training the K teachers is added to the cost of the run.

    Deviations from the authors' code (docs/published-protocols.md has those of data, metrics and training, too):
    * A teacher is the network after its last step. Theirs is that of the epoch whose last batch had the lowest loss,
      which is an epoch at random.
    * Teachers are put in eval mode before each pass, so that a target does not depend on the other examples of a batch.
      With `mode=train` they use batch statistics, as theirs; the running statistics, which theirs change and never
      read, stay as they are.
    * `weight` is 1 for every task by default, as a rule does not know which task is which. Theirs is 1:1:2.
    * A teacher has one head. Theirs has three, two of them never trained.
    * The A are drawn from the run's own stream. Theirs have no seed.

    Example:
        >>> import torch
        >>> import methods
        >>> trunk, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
        >>> class Teacher(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.trunk = torch.nn.Linear(3, 4)
        ...
        ...     def forward(self, inputs):
        ...         return (self.trunk(inputs["x"]),)
        >>> x = torch.ones(5, 3)
        >>> features = trunk(x)
        >>> losses = list(head(features).square().mean(0))
        >>> method = methods.create("kd", num_tasks=2, teachers=[Teacher(), Teacher()])
        >>> method.backward(losses, shared=trunk.parameters(), inputs={"x": x}, taps=[(features,), (features,)])
        tensor([1., 1.])
    """

    search = {"weight": Choice((0.1,), (0.3,), (1.0,), (3.0,), (10.0,)), "lr": Log(0.01, 1)}

    def __init__(
        self,
        num_tasks: int,
        teachers: Sequence[nn.Module],
        weight: tuple[float, ...] = (1.0,),
        lr: float = 0.1,
        weight_decay: float = 5e-4,
        mode: Literal["eval", "train"] = "eval",
        teacher_seed: int | None = None,
    ) -> None:
        super().__init__(num_tasks)
        if len(weight) not in (1, num_tasks):
            raise DoesNotFitError(
                f"{len(weight)} distillation weights were given for {num_tasks} tasks: give 1 or {num_tasks}"
            )
        if len(teachers) != num_tasks:
            raise DoesNotFitError(f"{len(teachers)} teachers were given for {num_tasks} tasks")
        # A plain list: a teacher is no part of what the rule learns or saves.
        self.teachers = [teacher.eval() for teacher in teachers]
        self.mode, self.teacher_seed = mode, teacher_seed
        self.lr, self.weight_decay = lr, weight_decay
        self.register_buffer("scale", torch.tensor(weight).expand(num_tasks).clone(), persistent=False)
        self.adaptors = nn.ParameterDict()
        """`[teacher's channels, student's channels]` by "task-tap", built when the channels are known."""
        self.register_load_state_dict_pre_hook(self._build_as_saved)

    def extra(self, inputs: Mapping[str, Tensor], taps: Sequence[Sequence[Tensor]]) -> Tensor:
        for teacher in self.teachers:  # a teacher may be a child of a module that was put in train mode since
            if any(module.training for module in teacher.modules()):
                teacher.eval()
        with torch.no_grad(), _batch_statistics(self.teachers if self.mode == "train" else ()):
            targets = [teacher(inputs) for teacher in self.teachers]
        if len(taps) != len(targets):
            raise DoesNotFitError(f"taps should be {len(targets)} tuples of feature maps, one a task, not {len(taps)}")
        for k, (own, theirs) in enumerate(zip(taps, targets, strict=True)):
            _require_maps(own, f"taps[{k}]")
            _require_maps(theirs, f"what teacher {k} returns")
            if len(own) != len(theirs):
                raise DoesNotFitError(f"task {k} has {len(own)} taps, and its teacher returns {len(theirs)}")
        if not self.adaptors:
            self._build(taps, targets)
        terms = []
        for k, (own, theirs) in enumerate(zip(taps, targets, strict=True)):
            pairs = zip(own, theirs, strict=True)
            distances = [_distance(self.adaptors[f"{k}-{i}"], f, t) for i, (f, t) in enumerate(pairs)]
            terms.append(torch.stack(distances).sum())
        return self.get_buffer("scale") * torch.stack(terms)

    def _build(self, taps: Sequence[Sequence[Tensor]], targets: Sequence[Sequence[Tensor]]) -> None:
        for k, (own, theirs) in enumerate(zip(taps, targets, strict=True)):
            for i, (feature, target) in enumerate(zip(own, theirs, strict=True)):
                matrix = torch.empty(target.shape[1], feature.shape[1])
                nn.init.xavier_normal_(matrix, generator=self.generator)
                self.adaptors[f"{k}-{i}"] = nn.Parameter(matrix.to(feature.device))
        self._make_optimizer()

    def _build_as_saved(self, module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
        start = f"{prefix}adaptors."
        for name, value in state.items():
            if name.startswith(start) and name.removeprefix(start) not in self.adaptors:
                self.adaptors[name.removeprefix(start)] = nn.Parameter(torch.empty_like(value))
        if self.adaptors and self.optimizer is None:
            self._make_optimizer()

    def _make_optimizer(self) -> None:
        self.optimizer = torch.optim.Adam(
            self.adaptors.values(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )


@contextmanager
def _batch_statistics(teachers: Sequence[nn.Module]) -> Iterator[None]:
    """Let batch normalisation see the batch's statistics as in train mode, leaving its running ones untouched."""
    norms = [m for teacher in teachers for m in teacher.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    running = [(norm.running_mean, norm.running_var) for norm in norms]
    for norm in norms:
        norm.running_mean = norm.running_var = None
    try:
        yield
    finally:
        for norm, (mean, variance) in zip(norms, running, strict=True):
            norm.running_mean, norm.running_var = mean, variance


def _require_maps(maps: object, what: str) -> None:
    if not isinstance(maps, tuple | list):
        raise DoesNotFitError(f"{what} should be a tuple of feature maps, not a {type(maps).__name__}: write (map,)")


def _distance(adaptor: Tensor, feature: Tensor, target: Tensor) -> Tensor:
    """Mean over batch and locations of the squared distance between unit channel vectors, `[N, C, …]` each."""
    if feature.shape[:1] + feature.shape[2:] != target.shape[:1] + target.shape[2:]:
        raise DoesNotFitError(
            f"a tap of shape {list(feature.shape)} and its teacher's, of shape {list(target.shape)}, should differ in "
            "their channels (axis 1) alone"
        )
    adapted = functional.linear(feature.movedim(1, -1).to(adaptor), adaptor).movedim(-1, 1)
    return (_unit(adapted) - _unit(target)).square().sum(1).mean()


def _unit(values: Tensor) -> Tensor:
    """Divide by the length over channels, axis 1 of `[N, C, …]`."""
    return values / (values.square().sum(1, keepdim=True) + EPSILON).sqrt()
