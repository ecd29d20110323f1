"""What a run does for a CUDA device: as far as a machine without one can tell."""

import pytest
import torch
from torch.nn import functional

from bench.training.meters import peak_memory, reset_peak_memory
from bench.training.model import _at_hand
from bench.training.streams import make_repeatable, seed_global
from tasks.core.losses import cross_entropy, squared_error

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def kept():
    """Leave the process's settings as they were."""
    cudnn, repeatable = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
    before = cudnn.deterministic, cudnn.allow_tf32, torch.utils.deterministic.fill_uninitialized_memory
    yield
    cudnn.deterministic, cudnn.allow_tf32, torch.utils.deterministic.fill_uninitialized_memory = before
    torch.use_deterministic_algorithms(repeatable)


def test_on_cuda_a_process_asks_for_the_same_bytes_each_time_and_for_whole_float32(kept, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    make_repeatable(CUDA)
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.allow_tf32
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_cpu_is_repeatable_as_it_is(kept):
    make_repeatable(CPU)
    assert not torch.are_deterministic_algorithms_enabled()


class Column:
    """A column of data that remembers where it was copied to."""

    nbytes = 1000

    def to(self, device):
        return device


@pytest.mark.parametrize(("free", "copied"), [(8_000, True), (7_999, False)])
def test_training_data_is_copied_to_the_gpu_once_if_an_eighth_of_what_is_free_holds_it(monkeypatch, free, copied):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 80_000))
    columns = {"x": Column()}
    assert _at_hand(columns, CUDA) == ({"x": CUDA} if copied else columns)
    assert _at_hand(columns, CPU) is columns


def test_dropout_on_the_cpu_follows_the_seed():
    drawn = []
    for _ in range(2):
        seed_global(5, CPU)
        drawn.append(functional.dropout(torch.ones(100)))
    assert torch.equal(*drawn)


def test_a_cpu_has_no_peak_of_gpu_memory():
    reset_peak_memory(CPU)
    assert peak_memory(CPU) is None


def test_a_loss_that_is_added_up_without_atomics_is_the_same_loss():
    """On CUDA cross-entropy is summed after it was computed at each location."""
    torch.manual_seed(0)
    logits, classes = torch.randn(2, 5, 4, 4), torch.randint(-1, 5, (2, 4, 4))
    total, count = cross_entropy(logits, classes)
    apart = functional.cross_entropy(logits, classes, ignore_index=-1, reduction="none").sum()
    assert float(total) == pytest.approx(float(apart), rel=1e-6)
    assert int(count) == int((classes >= 0).sum())


def test_the_count_of_examples_is_a_plain_number_for_which_no_device_is_asked():
    total, count = squared_error(torch.ones(3, 2), torch.zeros(3, 2))
    assert (float(total), count) == (6, 3)
    assert isinstance(count, int)
