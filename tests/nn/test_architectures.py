"""What holds for every backbone, one that joined yesterday included."""

import math

import pytest
import torch
from torch import nn

from stochloc.core import State, observe
from stochloc.nn import Backbone, LocalizationModel, ModelConfig
from stochloc.nn.backbones import ARCHITECTURES, ContextNetwork, SidedNetwork, leaves_out
from stochloc.nn.backbones.products import half_products

V, LENGTH = 5, 6
SIZE = Backbone(32, 4, 2, neighbour_logit=3.0)


def built(name, size=SIZE):
    torch.manual_seed(0)
    return ARCHITECTURES[name](size)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_backbone_maps_embeddings_to_normalised_ones_of_the_same_shape(name):
    network = built(name)
    assert isinstance(network, ContextNetwork)
    x = torch.randn(3, LENGTH, 32, generator=torch.Generator().manual_seed(1))
    hidden = network(x)
    assert hidden.shape == x.shape
    torch.testing.assert_close(hidden.square().mean(-1), torch.ones(3, LENGTH), atol=1e-3, rtol=0)
    torch.testing.assert_close(network(x[:1]), hidden[:1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_new_matrix_keeps_the_variance_of_what_it_is_given(name):
    """Its deviation is 1/√(inputs); of n values the estimate has a relative error of 1/√(2n), and
    5.5 of them are exceeded by chance less than 1e-7 of the time."""
    network = built(name, Backbone(64, 2, 2))
    assert isinstance(network, nn.Module)
    for name, weight in network.named_parameters():
        if weight.ndim >= 2 and name.endswith("weight"):
            inputs = weight[0].numel()
            deviation = float(weight.detach().std()) * math.sqrt(inputs)
            assert abs(deviation - 1) < 5.5 / math.sqrt(2 * weight.numel()), name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_half_products_round_what_gradients_are_taken_of_and_nothing_else(name):
    network = built(name)
    x = torch.randn(2, LENGTH, 32, generator=torch.Generator().manual_seed(1))
    full = network(x)
    with half_products():
        rounded = network(x)
        with torch.no_grad():
            assert torch.equal(network(x), full)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, full)
    torch.testing.assert_close(rounded, full, atol=0.3, rtol=0)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if leaves_out(name)])
def test_what_leaves_a_place_out_joins_what_it_makes_of_both_sides_each_by_itself(name):
    network = built(name)
    left, right = torch.randn(2, 1, LENGTH, 32, generator=torch.Generator().manual_seed(1))
    assert isinstance(network, SidedNetwork)
    joined = network.join(network.from_left(left), network.from_right(right))
    assert torch.equal(joined, network(left, right))
    before = torch.ones(LENGTH, LENGTH).tril(-1).bool()
    for read, side, seen in (
        (network.from_left, left, before),
        (network.from_right, right, before.T),
    ):
        for place in range(LENGTH):
            shown = side.clone().requires_grad_()
            (slope,) = torch.autograd.grad(read(shown)[0, place].square().sum(), shown)
            assert torch.equal(slope[0].abs().amax(-1) > 0, seen[place])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_says_that_it_leaves_a_place_out_has_no_derivative_there(name):
    torch.manual_seed(0)
    config = ModelConfig(V, 16, 4, 2, neighbour_logit=3.0, architecture=name)
    model = LocalizationModel(config).double()
    nn.init.normal_(model.head)
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, V, (1, LENGTH), generator=generator)
    state = observe(model.codebook, tokens, torch.full(tokens.shape, 2.0).double(), generator)
    evidence = model.codebook.evidence

    def context(z):
        logits = model.readout(State(z, state.known, state.snr)).logits - evidence(z)
        return logits[0].square().sum(-1)

    derivative = torch.autograd.functional.jacobian(context, state.z)[:, 0].abs().amax(-1)
    own = derivative.diagonal()
    near = torch.ones(LENGTH, LENGTH).tril(4).triu(-4).bool() & ~torch.eye(LENGTH).bool()
    assert (derivative[near] > 0).all(), "four blocks must reach four places at least"
    if ARCHITECTURES[name](SIZE).leaves_out:
        # The logits are a sum of context and evidence, so taking it off again leaves rounding.
        assert own.max() < 1e-12
    else:
        assert own.min() > 1e-6
