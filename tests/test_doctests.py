"""Every example in a docstring shows what it says."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import methods
from bench.evidence import delta, significance

ROOT = Path(__file__).parent.parent
EXAMPLES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("bench", "methods", "tasks")
    for file in sorted((ROOT / package).rglob("*.py"))
    if ">>>" in file.read_text("utf-8")
]


@pytest.mark.parametrize("module", EXAMPLES)
def test_the_examples_of_a_module_are_true(module):
    torch.manual_seed(0)
    failed, tried = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried
    assert not failed  # what differs is printed


def test_every_rule_has_an_example_that_creates_it():
    for name, entry in methods.registry.built_in().items():
        assert f'methods.create("{name}", num_tasks=' in (entry.load().__doc__ or ""), name


@pytest.mark.parametrize(
    "function",
    [
        *(delta.delta_mtl, delta.per_seed, delta.mean_rank),
        *(significance.t_interval, significance.sign_flip_test, significance.max_t, significance.holm),
        significance.verdict,
    ],
)
def test_every_public_function_of_the_evidence_has_an_example(function):
    assert f"{function.__name__}(" in function.__doc__.partition("Example:")[2]
