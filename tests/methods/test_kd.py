"""Distillation, against the definition of Li & Bilen 2020 written out in the test."""

import io

import pytest
import torch
from torch import nn

import methods
from methods.core.base import DoesNotFitError

CHANNELS = 4


class Features(nn.Module):
    """A network of somebody's own: inputs -> two taps, with batch normalisation and dropout."""

    def __init__(self, kind="map", seed=0):
        super().__init__()
        torch.manual_seed(seed)
        layer = {"map": lambda a, b: nn.Conv2d(a, b, 1), "vector": nn.Linear}[kind]
        norm = {"map": nn.BatchNorm2d, "vector": nn.BatchNorm1d}[kind]
        self.one = nn.Sequential(layer(3, CHANNELS), norm(CHANNELS), nn.Tanh())
        self.two = nn.Sequential(layer(CHANNELS, CHANNELS + 1), nn.Dropout(0.5))

    def forward(self, inputs):
        first = self.one(inputs["x"])
        return first, self.two(first)


@pytest.fixture(params=["map", "vector"])
def kind(request):
    return request.param


@pytest.fixture
def inputs(kind):
    torch.manual_seed(9)
    return {"x": torch.randn(6, 3, 5, 5) if kind == "map" else torch.randn(6, 3)}


def student_of(kind):
    student = Features(kind, seed=1).eval()  # no dropout: the test computes the same features again
    heads = nn.ModuleList(nn.Linear(CHANNELS + 1, 1) for _ in range(2))
    return student, heads


def losses_of(student, heads, inputs):
    taps = student(inputs)
    pooled = taps[1].flatten(2).mean(2) if taps[1].ndim == 4 else taps[1]
    return [head(pooled).square().mean() for head in heads], [taps, taps]


def backward(method, student, heads, inputs):
    losses, taps = losses_of(student, heads, inputs)
    return method.backward(losses, shared=student.named_parameters(), features=taps[0][1], inputs=inputs, taps=taps)


def distance(adaptor, feature, target):
    """mean over batch and locations of Σ_c (n(A f) − n(t))_c², location by location."""

    def unit(vector):
        return vector / torch.sqrt((vector**2).sum() + 1e-6)

    features = feature.reshape(*feature.shape[:2], -1).permute(0, 2, 1).reshape(-1, feature.shape[1])
    targets = target.reshape(*target.shape[:2], -1).permute(0, 2, 1).reshape(-1, target.shape[1])
    pairs = zip(features, targets, strict=True)
    return torch.stack([((unit(adaptor @ f) - unit(t)) ** 2).sum() for f, t in pairs]).mean()


def test_the_terms_are_the_papers(kind, inputs):
    teachers = [Features(kind, seed=10 + k) for k in range(2)]
    method = methods.create("kd[weight=1:2]", num_tasks=2, teachers=teachers, seed=3)
    taps = Features(kind, seed=1).eval()(inputs)
    terms = method.extra(inputs, [taps, taps])
    for k, teacher in enumerate(teachers):
        targets = teacher.eval()(inputs)
        each = [distance(method.adaptors[f"{k}-{i}"], taps[i], targets[i]) for i in range(2)]
        assert float(terms[k].detach()) == pytest.approx((k + 1) * float(sum(each).detach()), rel=1e-4)


def test_the_trunk_gets_losses_and_distillation_the_heads_their_losses_alone(kind, inputs):
    teachers = [Features(kind, seed=10 + k) for k in range(2)]
    student, heads = student_of(kind)
    method = methods.create("kd", num_tasks=2, teachers=teachers)
    backward(method, student, heads, inputs)  # builds the adaptors and takes their first step
    adaptors = {name: matrix.detach().clone().requires_grad_() for name, matrix in method.adaptors.items()}
    backward(method, student, heads, inputs)
    got = [parameter.grad.clone() for parameter in [*student.parameters(), *heads.parameters()]]
    got_adaptors = {name: matrix.grad.clone() for name, matrix in method.adaptors.items()}

    losses, [taps, _] = losses_of(student, heads, inputs)
    terms = [
        distance(adaptors[f"{k}-{i}"], taps[i], teacher.eval()(inputs)[i].detach())
        for k, teacher in enumerate(teachers)
        for i in range(2)
    ]
    student.zero_grad()
    heads.zero_grad()
    sum([*losses, *terms]).backward()
    expected = [parameter.grad for parameter in [*student.parameters(), *heads.parameters()]]
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    for name, gradient in got_adaptors.items():
        torch.testing.assert_close(gradient, adaptors[name].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("at", ["shared", "features"])
def test_the_balancer_sees_the_losses_as_it_would_alone(kind, inputs, at):
    student, heads = student_of(kind)
    teachers = [Features(kind, seed=10 + k) for k in range(2)]
    alone = methods.create(f"mgda[at={at}]", num_tasks=2)
    both = methods.create(f"kd+mgda[at={at}]", num_tasks=2, teachers=teachers)
    weights = backward(alone, student, heads, inputs)
    plain = [parameter.grad.clone() for parameter in student.parameters()]
    torch.testing.assert_close(backward(both, student, heads, inputs), weights)
    [kd] = both.added
    taps = student(inputs)
    # Its adaptors have stepped by now: Adam's first step is the learning rate, so take it back.
    with torch.no_grad():
        for matrix in kd.adaptors.values():
            matrix += kd.lr * matrix.grad.sign() * (matrix.grad.abs() > 1e-7)
    extra = torch.autograd.grad(kd.extra(inputs, [taps, taps]).sum(), list(student.parameters()), allow_unused=True)
    for parameter, before, added in zip(student.parameters(), plain, extra, strict=True):
        torch.testing.assert_close(parameter.grad, before + added, rtol=0.02, atol=2e-3)


def test_adaptors_have_an_adam_of_their_own(kind, inputs):
    method = methods.create("kd", num_tasks=2, teachers=[Features(kind, seed=k) for k in (5, 6)])
    backward(method, *student_of(kind), inputs)
    [group] = method.optimizer.param_groups
    assert (type(method.optimizer), group["lr"], group["weight_decay"]) == (torch.optim.Adam, 0.1, 5e-4)
    assert {p.shape for p in group["params"]} == {(CHANNELS, CHANNELS), (CHANNELS + 1, CHANNELS + 1)}
    assert len(group["params"]) == 4  # two tasks, two taps


def test_adaptors_start_xavier_normal_from_the_methods_own_stream():
    def first(seed):
        torch.manual_seed(123)
        method = methods.create("kd", num_tasks=1, teachers=[Wide()], seed=seed)
        method.extra({}, [Wide()({})])
        return method.adaptors["0-0"].detach()

    class Wide(nn.Module):
        def forward(self, inputs):
            return (torch.ones(2, 300),)

    assert float(first(0).std()) == pytest.approx((2 / 600) ** 0.5, rel=0.03)
    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_an_all_zero_feature_stays_finite():
    class Zero(nn.Module):
        def forward(self, inputs):
            return (torch.zeros(2, 3),)

    method = methods.create("kd", num_tasks=1, teachers=[Zero()])
    feature = torch.zeros(2, 3, requires_grad=True)
    term = method.extra({}, [(feature,)])
    term.sum().backward()
    assert torch.isfinite(feature.grad).all()
    assert float(term.detach()) == 0


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_teachers_are_read_and_left_as_they_were(kind, inputs, mode):
    teacher = Features(kind, seed=5)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    method = methods.create("kd", num_tasks=1, teachers=[teacher], mode=mode)
    seen = []
    teacher.register_forward_hook(lambda module, given, taps: seen.append([tap.clone() for tap in taps]))
    taps = Features(kind, seed=1).eval()(inputs)
    state = torch.get_rng_state()
    method.extra(inputs, [taps])
    assert torch.equal(torch.get_rng_state(), state)  # no dropout
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    reference = Features(kind, seed=5)
    if mode == "train":  # batch statistics, without dropout
        reference.train()
        reference.two.eval()
    else:
        reference.eval()
    for one, other in zip(seen[0], reference(inputs), strict=True):
        torch.testing.assert_close(one, other)


def test_teachers_are_neither_learnt_nor_saved(kind, inputs):
    method = methods.create("kd", num_tasks=2, teachers=[Features(kind, seed=k) for k in (5, 6)])
    backward(method, *student_of(kind), inputs)
    assert {name.partition(".")[0] for name, _ in method.named_parameters()} == {"adaptors"}
    assert len(list(method.parameters())) == 4


def test_a_saved_method_goes_on_bit_for_bit(kind, inputs):
    teachers = [Features(kind, seed=k) for k in (5, 6)]
    student, heads = student_of(kind)
    method = methods.create("kd+uncertainty", num_tasks=2, teachers=teachers)
    for _ in range(3):
        backward(method, student, heads, inputs)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    other = methods.create("kd+uncertainty", num_tasks=2, teachers=teachers, seed=99)
    other.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(3):
        backward(method, student, heads, inputs)
        expected = [p.grad.clone() for p in student.parameters()]
        backward(other, student, heads, inputs)
        assert all(torch.equal(p.grad, e) for p, e in zip(student.parameters(), expected, strict=True))


def test_what_is_missing_is_said():
    with pytest.raises(methods.DoesNotFitError, match="kd needs teachers: pass teachers"):
        methods.create("kd", num_tasks=2)
    with pytest.raises(methods.DoesNotFitError, match="3 distillation weights were given for 2 tasks"):
        methods.create("kd[weight=1:2:3]", num_tasks=2, teachers=[Features(), Features()])
    with pytest.raises(methods.DoesNotFitError, match="1 teachers were given for 2 tasks"):
        methods.create("kd", num_tasks=2, teachers=[Features()])
    with pytest.raises(methods.UsageError, match="only one can balance"):
        methods.create("mgda+uncertainty", num_tasks=2)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_teachers_are_in_eval_mode_at_each_pass_whatever_was_done_to_them(kind, inputs, mode):
    """As children of a module that is put in train mode, they would drop out and move their running statistics."""
    teachers = [Features(kind, seed=10 + k) for k in range(2)]
    owner = nn.ModuleList(teachers)
    method = methods.create("kd", num_tasks=2, teachers=teachers, mode=mode)
    taps = Features(kind, seed=1).eval()(inputs)
    before = {name: value.clone() for name, value in owner.state_dict().items()}
    method.extra(inputs, [taps, taps])
    found = []
    for change in (owner.eval, owner.train, teachers[0].two.train):
        change()
        found.append(method.extra(inputs, [taps, taps]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert all(torch.equal(value, before[name]) for name, value in owner.state_dict().items())


class Bare(nn.Module):
    def forward(self, inputs):
        return inputs["x"]


def test_a_bare_feature_map_is_no_tuple_of_maps(inputs):
    taps = [(inputs["x"],), (inputs["x"],)]
    method = methods.create("kd", num_tasks=2, teachers=[Bare(), Bare()])
    with pytest.raises(DoesNotFitError, match="what teacher 0 returns should be a tuple of feature maps, not a Tensor"):
        method.extra(inputs, taps)


def test_bare_taps_are_no_tuples_of_maps(kind, inputs):
    method = methods.create("kd", num_tasks=2, teachers=[Features(kind), Features(kind)])
    with pytest.raises(DoesNotFitError, match=r"taps\[0\] should be a tuple of feature maps, not a Tensor"):
        method.extra(inputs, [inputs["x"], inputs["x"]])


def test_a_task_has_as_many_taps_as_its_teacher(kind, inputs):
    method = methods.create("kd", num_tasks=2, teachers=[Features(kind), Features(kind)])
    taps = Features(kind).eval()(inputs)
    with pytest.raises(DoesNotFitError, match="task 0 has 1 taps, and its teacher returns 2"):
        method.extra(inputs, [taps[:1], taps])
    assert not method.adaptors


def test_maps_of_unlike_places_are_never_broadcast(kind, inputs):
    """A map of one example would otherwise be compared with those of all."""
    method = methods.create("kd", num_tasks=2, teachers=[Features(kind), Features(kind)])
    taps = [tap[:1] for tap in Features(kind).eval()(inputs)]
    with pytest.raises(DoesNotFitError, match=r"differ in their channels \(axis 1\) alone"):
        method.extra(inputs, [taps, taps])


def test_taps_are_one_tuple_a_task(kind, inputs):
    method = methods.create("kd", num_tasks=2, teachers=[Features(kind), Features(kind)])
    with pytest.raises(DoesNotFitError, match="taps should be 2 tuples of feature maps, one a task, not 1"):
        method.extra(inputs, [Features(kind).eval()(inputs)])
