"""What a session of benchmarks leaves: small, and nothing that tells whose machine it was."""

import importlib.metadata

import pytest
import torch
from pytest_benchmark.utils import ALLOWED_COLUMNS

from bench.engine.runs import environment

COMMIT = ("id", "dirty")
KEPT = ("group", "name", "fullname", "params", "extra_info")


@pytest.fixture(autouse=True)
def one_thread():
    """Times are of one thread, whatever ran before."""
    torch.set_num_threads(1)


def pytest_benchmark_generate_machine_info(config):
    """In the place of the usual one, which names the host."""
    around = environment()
    versions = {**around["versions"], "torchjd": importlib.metadata.version("torchjd")}
    return {**around["hardware"], "versions": versions}


def pytest_benchmark_update_commit_info(config, commit_info):
    for name in commit_info.keys() - set(COMMIT):
        del commit_info[name]


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Of each benchmark the numbers that pytest-benchmark's own tables, and `--benchmark-compare`, are made of."""
    for one in output_json["benchmarks"]:
        kept = {name: one[name] for name in KEPT}
        kept["extra_info"] = {name: _brief(value) for name, value in kept["extra_info"].items()}
        kept["stats"] = {name: _brief(one["stats"][name]) for name in ALLOWED_COLUMNS}
        one.clear()
        one.update(kept)


def _brief(value):
    """Four digits, which are more than a clock knows."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
