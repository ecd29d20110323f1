"""The optimiser and the schedule are those that the protocol asks for."""

import pytest
import torch
from torch import nn, optim

from bench.training.optimiser import build_optimiser, build_schedule
from tasks.core.protocol import Protocol


def protocol(**given):
    return Protocol(name="x", steps=10, batch_size=4, lr=0.1, steps_per_epoch=5, weight_decay=0.01, **given)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"optimizer": "adam"}, lambda p: optim.Adam(p, lr=0.1, weight_decay=0.01)),
        ({"optimizer": "adamw"}, lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.01)),
        ({"optimizer": "sgd"}, lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01)),
        ({"optimizer": "sgd", "momentum": 0.9}, lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)),
    ],
    ids=["adam", "adamw", "sgd", "sgd with momentum"],
)
def test_it_moves_weights_as_torchs_own(asked, expected):
    ends = []
    for build in (lambda p: build_optimiser(protocol(**asked), p), expected):
        torch.manual_seed(0)
        layer, inputs = nn.Linear(5, 3), torch.randn(8, 5)
        optimiser = build(layer.parameters())
        for _ in range(6):
            optimiser.zero_grad()
            layer(inputs).square().mean().backward()
            optimiser.step()
        ends.append(layer.weight.detach())
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("schedule", "middle", "end"), [("cosine", 0.05, 0.0), ("constant", 0.1, 0.1)])
def test_the_schedule_leads_the_rate_from_the_first_step_to_the_last(schedule, middle, end):
    asked = protocol(schedule=schedule)
    optimiser = build_optimiser(asked, nn.Linear(1, 1).parameters())
    steps, rates = build_schedule(asked, optimiser), []
    for _ in range(asked.steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        steps.step()
    assert rates[0] == pytest.approx(0.1)
    assert rates[5] == pytest.approx(middle)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(end, abs=1e-12)
