"""Controls of a comparison: our network without noise, and autoregressive models of equal size."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from methods.oracles import LOG_VOCABULARY, SidesOracle, marginals, seen_or_masked
from methods.worlds import (
    LENGTH,
    VOCABULARY,
    assert_estimates,
    every_sequence,
    frame,
    generator,
    true_log_probs,
)
from torch import nn

from stochloc.methods import METHODS, Method
from stochloc.methods.autoregressive import Autoregressive
from stochloc.methods.leave_one_out import LeaveOneOutMdlm, TwoSidedMdlm, TwoSidedNetwork
from stochloc.methods.localization import Localization
from stochloc.methods.resized import of_depth
from stochloc.nn import LocalizationModel, Network
from stochloc.nn.backbones.two_sided import TwoSidedTransformer

MASK = VOCABULARY


def shaken(method: Method) -> Method:
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(4)))
    return method


def network(length: int = LENGTH) -> TwoSidedNetwork:
    torch.manual_seed(0)
    method = shaken(METHODS["mdlm-two-sided"](frame(length=length)))
    assert isinstance(method, LeaveOneOutMdlm)
    assert isinstance(method.network, TwoSidedNetwork)
    return method.network


def true_cost(own_is_masked: bool) -> float:
    """`-log P(x_i | visible others)` over texts, masks and places, in nats.

    The mean over places, or over the masked ones alone, of masks each drawn with a rate of its own
    that is uniform on (0, 1), where k of L are masked with weight k! (L - k)! / (L + 1)!.
    """
    total = count = 0.0
    for masks in itertools.product((False, True), repeat=LENGTH):
        k = sum(masks)
        weight = math.factorial(k) * math.factorial(LENGTH - k) / math.factorial(LENGTH + 1)
        for i in range(LENGTH):
            if own_is_masked and not masks[i]:
                continue
            hidden = torch.tensor(masks) | (torch.arange(LENGTH) == i)
            tokens = every_sequence()
            given = marginals(seen_or_masked(tokens.masked_fill(hidden, MASK)))[:, i]
            nats = -given.gather(-1, tokens[:, i, None])[:, 0]
            total += weight * float((true_log_probs().exp() * nats).sum())
            count += weight
    return total / count


@pytest.mark.parametrize(
    ("method", "own_is_masked"), [(LeaveOneOutMdlm, False), (TwoSidedMdlm, True)]
)
def test_with_the_exact_network_the_loss_is_the_mean_conditional_entropy_of_its_targets(
    method, own_is_masked
):
    # 4.9 standard errors are about 0.008 nats, beside 0.001 from times that begin at 1e-3; the two
    # losses differ by 0.1.
    tokens = every_sequence()[torch.multinomial(
        true_log_probs().exp(), 200_000, replacement=True, generator=generator(8)
    )]  # fmt: skip
    losses = [
        method(SidesOracle(), VOCABULARY).loss(rows, generator(s))
        for s, rows in enumerate(tokens.split(4000))
    ]
    values = torch.stack(losses)
    stderr = float(values.std() / math.sqrt(len(values)))
    assert stderr < 0.0016
    assert abs(float(values.mean()) - true_cost(own_is_masked)) < 4.9 * stderr + 1e-3


def test_the_two_losses_have_different_values_at_the_optimum():
    assert abs(true_cost(False) - true_cost(True)) > 0.05


@pytest.mark.parametrize("name", ["mdlm-two-sided", "mdlm-two-sided-masked-loss"])
def test_the_prior_of_an_untrained_control_is_the_frequency_of_the_tokens(name):
    torch.manual_seed(0)
    counts = torch.tensor([60, 30, 7])
    method = METHODS[name](replace(frame(), counts=counts))
    expected = -((counts + 1) / (counts + 1).sum()).log().double().mean()
    values = method.bound(every_sequence().repeat(100, 1), 20, generator(1)).values
    assert_estimates(values, LENGTH * float(expected))
    assert float(expected) > LOG_VOCABULARY + 0.1


def test_the_network_of_the_control_never_looks_at_the_token_it_predicts_but_at_all_others():
    length, model = 6, network(6)
    tokens = torch.randint(VOCABULARY, (1, length), generator=generator(2))
    before = model(tokens)
    for place in range(length):
        changed = tokens.clone()
        changed[:, place] = MASK
        differs = (model(changed) != before).any(-1)[0]
        assert not bool(differs[place])
        assert bool(differs[torch.arange(length) != place].all())


def test_one_call_of_the_control_gives_what_masking_all_that_follows_gives_one_by_one():
    length, model = 6, network(6)
    method = LeaveOneOutMdlm(model, VOCABULARY)
    tokens = torch.randint(VOCABULARY, (5, length), generator=generator(3))
    nats = method.left_to_right(tokens).token_nats
    for i in range(length):
        shown = tokens.clone()
        shown[:, i:] = MASK
        log_probs = model(shown).log_softmax(-1)[:, i]
        one = -log_probs.gather(-1, tokens[:, i, None])[:, 0]
        torch.testing.assert_close(nats[:, i], one.double(), atol=1e-5, rtol=1e-5)


def num_parameters(method: nn.Module) -> int:
    return sum(parameter.numel() for parameter in method.parameters())


@pytest.mark.parametrize("depth", [2, 4, 7])
def test_the_autoregressive_model_of_the_same_size_is_of_the_depth_that_comes_nearest(depth):
    mine = of_depth(frame(27), depth)
    size = num_parameters(METHODS["dsl"](mine))
    chosen = METHODS["ar-same-size"](mine)
    misses = [
        abs(num_parameters(METHODS["ar"](of_depth(mine, other))) - size) for other in range(1, 12)
    ]
    assert abs(num_parameters(chosen) - size) == min(misses)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_autoregressive_model_of_the_left_stack_has_its_blocks(depth):
    ours, left = (METHODS[name](of_depth(frame(), depth)) for name in ("dsl", "ar-left"))
    assert isinstance(left, Autoregressive)
    assert isinstance(left.network, Network)
    assert isinstance(ours, Localization)
    assert isinstance(ours.model, LocalizationModel)
    assert isinstance(ours.model.transformer, TwoSidedTransformer)
    assert num_parameters(ours.model.transformer.left) == num_parameters(left.network.transformer)


def test_looking_for_a_depth_draws_nothing_random():
    weights = []
    for name, depth in (("ar-same-size", 4), ("ar", 5)):
        torch.manual_seed(3)
        method = METHODS[name](of_depth(frame(27), depth))
        weights.append(torch.cat([p.detach().flatten() for p in method.parameters()]))
    assert torch.equal(*weights)
