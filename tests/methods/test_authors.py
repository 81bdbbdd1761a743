"""Choices that follow the authors' code: schedules, conditioning on the time, weight decay."""

import math

import pytest
import torch
from methods.worlds import LENGTH, VOCABULARY, every_sequence, frame, generator
from torch import nn

from stochloc.methods import METHODS
from stochloc.methods.argmax_flow import ArgmaxFlow, MixtureDensity
from stochloc.methods.d3pm import D3pm
from stochloc.methods.masked import MaskedDiffusion
from stochloc.methods.md4 import Md4
from stochloc.methods.multinomial import MultinomialDiffusion
from stochloc.methods.plaid import Plaid
from stochloc.methods.schedules import Linear, ShiftedCosine, cosine_grid, even_grid
from stochloc.nn import Network
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import TrainingConfig

TIMED = ("md4", "md4-cosine", "genmd4", "d3pm-absorbing", "sedd-absorbing", "d3pm-uniform",
        "multinomial", "sedd-uniform")  # fmt: skip
UNTIMED = ("mdlm", "mdlm-prior", "ardm", "mac", "ar")


@pytest.mark.parametrize("name", [*TIMED, *UNTIMED])
def test_networks_are_conditioned_on_the_time_where_the_authors_networks_for_text8_are(name):
    networks = [part for part in METHODS[name](frame()).modules() if isinstance(part, Network)]
    assert [network.time is not None for network in networks] == [name in TIMED]


@torch.no_grad()
@pytest.mark.parametrize("name", ["md4", "sedd-absorbing", "d3pm-absorbing"])
def test_the_bound_of_a_time_conditioned_method_depends_on_the_time_embedding(name):
    torch.manual_seed(0)
    method = METHODS[name](frame())
    tokens = every_sequence()
    for parameter in method.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(2)))
    with_time = method.bound(tokens, 2, generator(1)).values
    (network,) = (part for part in method.modules() if isinstance(part, Network))
    assert network.time is not None
    network.time.outer.weight.mul_(-1)
    assert bool((with_time != method.bound(tokens, 2, generator(1)).values).any())


def test_the_alpha_of_the_uniform_kernels_is_the_cosine_and_not_its_square():
    # The product over steps of cos((k+1)/T)/cos(k/T), shifted by s = 0.008.
    steps, kept = 1000, 1.0
    angles = [math.pi / 2 * (k / steps + 0.008) / 1.008 for k in range(steps + 1)]
    for name in ("d3pm-uniform", "multinomial"):
        method = METHODS[name](frame())
        assert isinstance(method, D3pm)
        assert method.schedule == ShiftedCosine()
    alphas = ShiftedCosine().alpha(torch.arange(steps + 1).double() / steps)
    for k in range(steps):
        assert float(alphas[k]) == pytest.approx(kept, abs=1e-12)
        kept *= math.cos(angles[k + 1]) / math.cos(angles[k])
    assert float(alphas[-1]) == pytest.approx(0.0, abs=1e-12)


def test_the_slope_of_the_cosine_is_its_derivative():
    time = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    quotient = (ShiftedCosine().alpha(time + 1e-6) - ShiftedCosine().alpha(time - 1e-6)) / 2e-6
    torch.testing.assert_close(ShiftedCosine().slope(time), quotient, atol=1e-8, rtol=1e-6)


def test_multinomial_draws_its_first_step_as_often_as_its_second():
    torch.manual_seed(0)
    method = MultinomialDiffusion(METHODS["multinomial"](frame()).network, VOCABULARY, 4)
    method.times_seen.fill_(11)
    method.mean_square.copy_(torch.tensor([100.0, 4.0, 1.0, 9.0]))
    method.loss(every_sequence()[:1].expand(6000, -1), generator(1))
    counts = (method.times_seen - 11).double()
    chances = torch.tensor([2.0, 2.0, 1.0, 3.0]).double() / 8
    # Each count within 4.9 standard deviations; √100 as first weight would draw it 5,000 times.
    deviation = (6000 * chances * (1 - chances)).sqrt()
    assert bool(((counts - 6000 * chances).abs() < 4.9 * deviation + 10).all()), counts


def test_md4_samples_on_the_cosine_grid_and_its_cosine_schedule_on_the_even_one():
    for name, grid in (("md4", cosine_grid), ("md4-cosine", even_grid), ("mdlm", even_grid)):
        method = METHODS[name](frame())
        assert isinstance(method, MaskedDiffusion)
        assert method.grid is grid
    times = cosine_grid(8)
    assert [float(t) for t in times] == pytest.approx(
        [math.cos(math.pi / 2 * n / 8) for n in range(9)], abs=1e-12
    )
    assert (float(times[0]), float(times[-1])) == (1.0, 0.0)


def test_a_time_conditioned_network_is_called_at_every_step():
    drawn = METHODS["md4"](frame()).sample(2, LENGTH, 40, generator(1))
    assert drawn.denoiser_calls == 40
    assert METHODS["mdlm"](frame()).sample(2, LENGTH, 40, generator(1)).denoiser_calls < 40


def test_a_time_conditioned_network_is_given_the_times_of_the_grid():
    times = []

    def network(tokens, time):
        times.append(time)
        return torch.zeros(*tokens.shape, VOCABULARY)

    Md4(network, VOCABULARY, Linear(), cosine_grid).sample(2, LENGTH, 6, generator(1))
    torch.testing.assert_close(
        torch.stack(times), cosine_grid(6)[:-1, None].expand(-1, 2).float(), rtol=0, atol=0
    )


def decayed(method: nn.Module, names: dict[str, nn.Parameter]) -> set[str]:
    config = TrainingConfig(weight_decay=0.5)
    undecayed = method.undecayed()
    optimizer = make_optimizer(method, config, undecayed)
    groups = {id(p): group["weight_decay"] for group in optimizer.param_groups
              for p in group["params"]}  # fmt: skip
    assert len(groups) == len(list(method.parameters()))
    return {name for name, parameter in names.items() if groups[id(parameter)] > 0}


def test_means_scales_centres_and_embeddings_are_not_decayed():
    flow, plaid = METHODS["argmax-flow"](frame()), METHODS["plaid"](frame())
    assert isinstance(flow, ArgmaxFlow)
    assert isinstance(flow.density, MixtureDensity)
    assert isinstance(plaid, Plaid)
    named = {
        "means": flow.means, "log_scales": flow.log_scales, "centres": flow.density.centres,
        "head": flow.density.network.head,
    }  # fmt: skip
    assert decayed(flow, named) == {"head"}
    assert decayed(plaid, {"embeddings": plaid.embeddings}) == set()
    torch.manual_seed(0)
    tokens = every_sequence()
    for parameters in (flow.undecayed(), plaid.undecayed()):
        assert all(parameter.ndim >= 2 for parameter in parameters)
    assert float(flow.loss(tokens, generator(1)).detach()) > 0
