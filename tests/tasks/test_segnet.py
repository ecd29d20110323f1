"""SegNet has the papers' layers and sizes at any width, and keeps a network's promises on `scenes`."""

import math

import pytest
import torch

import bench
from bench.check import check
from tasks.cityscapes import Cityscapes
from tasks.core.base import modules_with_parameters
from tasks.networks.segnet import SegNet, Unit
from tasks.nyuv2 import NYUv2
from tasks.scenes import Scenes

NYUV2 = NYUv2.outputs
SMALL = "scenes[channels=0.0625,height=32,network=segnet,width=32]"


@pytest.fixture
def few_rooms(monkeypatch):
    """Scenes with few rooms, in this process."""
    monkeypatch.setattr("tasks.scenes.COUNTS", {"train": 48, "validation": 8, "test": 16})


@pytest.mark.parametrize(
    ("outputs", "parameters"),
    [
        ({"segmentation": 13}, 24_981_069),
        ({"depth": 1}, 24_980_289),
        ({"normals": 3}, 24_980_419),
        (NYUV2, 25_055_185),
        (Cityscapes.outputs, 25_017_672),
    ],
)
def test_it_has_as_many_parameters_as_in_papers(outputs, parameters):
    with torch.device("meta"):
        network = SegNet("image", outputs)
    assert sum(parameter.numel() for _, parameter in network.shared) == 24_943_296
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert network.last.shape == (64, 64, 3, 3)
    assert network.last is network.trunk["decoder"][-1][-1][0].weight


@pytest.mark.parametrize(
    ("made", "parameters"),
    [
        (lambda: NYUv2().network(list(NYUV2)), 25_055_185),
        (lambda: Cityscapes().network(["segmentation", "depth"]), 25_017_672),
        (lambda: NYUv2(channels=0.125).network(list(NYUV2)), 394_185),
        (lambda: Scenes(height=32, width=64, network="segnet").network(["segmentation"]), 24_981_069),
        (lambda: NYUv2(network="encoder_decoder", channels=0.5).network(["depth"]), 7_308),
        (lambda: Scenes(channels=0.5).network(["depth"]), 7_308),
    ],
)
def test_sets_have_it_by_their_options(made, parameters):
    with torch.device("meta"):
        network = made()
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("channels", [1 / 64, 0.0625, 0.125, 0.5, 2])
def test_every_layer_has_the_multiple_of_its_channels(channels):
    with torch.device("meta"):
        published, scaled = SegNet("image", NYUV2), SegNet("image", NYUV2, channels)
    outside = {3, *NYUV2.values()}
    for (name, one), (_, other) in zip(published.named_parameters(), scaled.named_parameters(), strict=True):
        wanted = [n if n in outside else max(1, round(n * channels)) for n in one.shape[:2]]
        assert list(other.shape[:2]) == wanted, name


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SegNet("image", NYUV2, 0.125)


def test_a_first_map_goes_down_and_up_and_is_predicted_from_at_full_size(network):
    outputs = network({"image": torch.rand(2, 3, 64, 96)})
    assert {name: tuple(p.shape) for name, p in outputs.predictions.items()} == {
        name: (2, size, 64, 96) for name, size in NYUV2.items()
    }
    assert outputs.taps.keys() == NYUV2.keys()
    for bottleneck, shared in outputs.taps.values():
        assert bottleneck.shape == (2, 64, 2, 3)
        assert shared.shape == (2, 8, 64, 96)
        assert shared is outputs.features
        assert torch.equal(network.heads["depth"](shared), outputs.predictions["depth"])


def test_a_value_goes_back_to_where_it_was_the_largest_of_four(network):
    seen = {}
    hooks = [
        network.trunk["encoder"][k].register_forward_hook(lambda _, __, made, k=k: seen.update({k: made}))
        for k in range(5)
    ]
    hooks += [
        network.trunk["decoder"][k].register_forward_hook(lambda _, given, __, k=k: seen.update({-1 - k: given[0]}))
        for k in range(5)
    ]
    outputs = network({"image": torch.rand(2, 3, 64, 96)})
    for hook in hooks:
        hook.remove()
    bottleneck, _ = outputs.taps["depth"]
    assert torch.equal(bottleneck, torch.nn.functional.max_pool2d(seen[4], 2))
    largest = torch.nn.functional.interpolate(bottleneck, scale_factor=2.0)
    assert torch.equal(seen[-1], torch.where(seen[4] == largest, seen[4], 0))
    for k in range(5):  # each stage up reads at the places, and at the size, of the stage down that it mirrors
        taken = seen[4 - k]
        windows = torch.nn.functional.max_pool2d(taken, 2)
        where = taken == torch.nn.functional.interpolate(windows, scale_factor=2.0)
        assert seen[-1 - k].shape == taken.shape
        assert not seen[-1 - k][~where].any()
        assert seen[-1 - k].any()


def test_weights_are_xaviers_and_biases_are_zero(network):
    torch.manual_seed(1)
    for _, module in modules_with_parameters(network):
        module.reset_parameters()
        if isinstance(module, torch.nn.Conv2d):
            weight = module.weight.detach()
            expected = math.sqrt(2 / (weight[0].numel() + weight[:, 0].numel()))
            assert float(weight.std()) == pytest.approx(expected, rel=4 / math.sqrt(weight.numel()))
            assert not module.bias.any()


def test_normals_have_length_1(network):
    normals = network({"image": torch.rand(2, 3, 32, 32)}).predictions["normals"]
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(2, 32, 32))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_vector_of_zeros_has_no_direction_but_a_finite_gradient(kind):
    vectors = torch.tensor([[0.0, 0, 0], [3, 0, 4]], dtype=kind, requires_grad=True)
    found = Unit()(vectors)
    assert found.tolist() == [[0, 0, 0], pytest.approx([0.6, 0, 0.8])]
    found.sum().backward()
    assert vectors.grad.isfinite().all() or kind == torch.float16  # whose largest number is 65504


@pytest.mark.parametrize("size", [(48, 64), (64, 40), (16, 32)])
def test_an_image_that_cannot_be_halved_five_times_is_refused(network, size):
    said = f"images of {size[0]}×{size[1]}: SegNet needs heights and widths in multiples of 32$"
    with pytest.raises(ValueError, match=said):
        network({"image": torch.rand(1, 3, *size)})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "height=16: scenes needs a multiple of 32 for network=segnet"),
        ({"height": 64, "width": 48}, "width=48: scenes needs a multiple of 32 for network=segnet"),
        ({"height": 32, "width": 32, "channels": 0.01}, "channels=0.01: it multiplies .* at least 1/64 here"),
        ({"height": 32, "width": 32, "channels": math.nan}, "channels=nan: it multiplies numbers of channels"),
        ({"height": 32, "width": 32, "channels": math.inf}, "channels=inf: it multiplies numbers of channels"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_drawn(options, said):
    with pytest.raises(ValueError, match=said):
        Scenes(network="segnet", **options)


def test_it_keeps_the_contract_of_a_network(few_rooms):
    assert {finding.outcome for finding in check(SMALL)} == {"ok"}


def test_it_trains_by_loss_by_gradient_and_by_distillation(few_rooms, tmp_path):
    asked = {"engine": "inline", "accelerator": "cpu", "figures": False}
    board = bench.run("kd,mgda[at=features]", SMALL, 1, "smoke[steps=5]", tmp_path, **asked)
    assert list(board.seeds) == [1, 1, 1, 1]
