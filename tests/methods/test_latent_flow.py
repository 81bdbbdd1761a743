"""The latent flow: a normalised density, its inverse, and the bound."""

import math

import pytest
import torch
from methods.oracles import MASK, marginals, seen_or_masked
from methods.worlds import (
    LENGTH,
    TINY,
    VOCABULARY,
    assert_distribution,
    assert_estimates,
    code_of,
    every_sequence,
    frame,
    generator,
    true_log_probs,
)
from torch import nn

from stochloc.methods.latent_flow import FlowPrior, LatentFlow, SquaredFlow
from stochloc.nn import Network

SCALE, SPREAD = 6.0, 0.5


def prior(dimension=2, size=0.3):
    torch.manual_seed(0)
    flow = FlowPrior(Network(nn.Linear(dimension, 32), 8, TINY, causal=True), dimension)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator(4)))
    return flow.double()


def test_the_slope_and_the_inverse_of_the_squared_flow_match_it():
    parameters = 2 * torch.randn(400, 5, generator=generator(1), dtype=torch.float64)
    flow = SquaredFlow(parameters)
    z = 5 * torch.randn(400, 1, generator=generator(2), dtype=torch.float64)
    h = 1e-6
    quotient = (flow(z + h) - flow(z - h)) / (2 * h)
    torch.testing.assert_close(flow.log_slope(z).exp(), quotient, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(flow.inverse(flow(z)), z, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_the_generator_inverts_the_density():
    flow = prior(4, size=0.15)
    noise = torch.randn(5, 6, 4, generator=generator(3), dtype=torch.float64)
    z = flow.generate(noise)
    again, past = [], []
    epsilon = torch.zeros_like(z[:, 0])
    for z_i in z.unbind(1):
        context, past = flow.network.extend(epsilon[:, None], past)
        epsilon = z_i
        for coupling in flow._couplings():
            epsilon, _ = coupling.density_step(epsilon, context[:, 0])
        again.append(epsilon)
    # Rotary embeddings are computed in float32, and errors accumulate over places.
    torch.testing.assert_close(torch.stack(again, 1), noise, atol=1e-3, rtol=1e-3)
    assert float((z - noise).abs().max()) > 0.1


def test_the_density_is_that_of_a_change_of_variables():
    flow = prior()
    noise = torch.randn(1, 3, 2, generator=generator(5), dtype=torch.float64)
    with torch.no_grad():
        z = flow.generate(noise)
        log_prob = flow.log_prob(z).sum()
    jacobian = torch.autograd.functional.jacobian(flow.generate, noise).view(6, 6)
    assert isinstance(jacobian, torch.Tensor)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum()
    torch.testing.assert_close(log_prob, normal - jacobian.slogdet()[1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_density_of_the_next_vector_integrates_to_one():
    flow, side = prior(size=0.15), torch.linspace(-12, 12, 161, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    z = torch.stack([torch.tensor([0.4, -0.7]).double().expand_as(grid), grid], 1)
    total = flow.log_prob(z)[:, 1].exp().sum() * (side[1] - side[0]) ** 2
    assert float(total) == pytest.approx(1.0, abs=2e-3)


class NarrowInference(nn.Module):
    """Means of z so far apart that z determines the token."""

    def forward(self, tokens):
        means = SCALE * torch.eye(VOCABULARY)[tokens]
        return torch.cat([means, torch.full_like(means, math.log(SPREAD))], -1)


class NearestEmission(nn.Module):
    """The posterior of each token given its z alone, which is certain."""

    def forward(self, z):
        return SCALE / SPREAD**2 * z


class MixturePrior:
    """p(z) = Σ_x P(x) q(z|x)."""

    def log_prob(self, z):
        tokens = z.argmax(-1)
        conditional = []
        for i in range(LENGTH):
            shown = tokens.clone()
            shown[:, i:] = MASK
            log_probs = marginals(seen_or_masked(shown))[:, i]
            conditional.append(log_probs.gather(-1, tokens[:, i : i + 1])[:, 0])
        mean = SCALE * torch.eye(VOCABULARY)[tokens]
        own = torch.distributions.Normal(mean, SPREAD).log_prob(z).sum(-1)
        return (torch.stack(conditional, 1) + own).float()

    def draw(self, num_sequences, length, generator):
        rows = torch.multinomial(true_log_probs().exp(), num_sequences, True, generator=generator)
        mean = SCALE * torch.eye(VOCABULARY)[every_sequence()[rows]]
        return mean + SPREAD * torch.randn(mean.shape, generator=generator)


def test_with_the_exact_prior_and_emission_the_bound_is_minus_log_p():
    method = LatentFlow(NarrowInference(), MixturePrior(), NearestEmission())
    values = method.bound(every_sequence(), 20, generator(6)).values
    torch.testing.assert_close(values, -true_log_probs(), atol=1e-3, rtol=1e-3)


def test_with_the_exact_prior_and_emission_the_sampler_draws_from_p():
    method = LatentFlow(NarrowInference(), MixturePrior(), NearestEmission())
    drawn = method.sample(3000, LENGTH, 1, generator(7))
    assert drawn.denoiser_calls == 2
    assert_distribution(drawn.tokens, true_log_probs())


@torch.no_grad()
@pytest.mark.parametrize(
    ("share", "weight"), [(1 / 1500, 1 / 500), (1 / 12, 1 / 4), (1 / 3, 1), (0.6, 1)]
)
def test_the_divergence_grows_over_the_first_third_of_the_training(share, weight):
    method = LatentFlow(NarrowInference(), MixturePrior(), NearestEmission())
    tokens = every_sequence()
    emitted, divergence = method._parts(tokens, generator(1))
    whole = (emitted + divergence).mean()
    torch.testing.assert_close(method.loss(tokens, generator(1)), whole)
    method.prepare(share)
    expected = (emitted + weight * divergence).mean()
    torch.testing.assert_close(method.loss(tokens, generator(1)), expected)
    assert float(divergence.mean()) > 0.5


@pytest.mark.bulk
@torch.no_grad()
def test_the_bound_of_a_flow_lies_above_minus_log_the_frequency_of_its_samples():
    torch.manual_seed(0)
    method = LatentFlow.from_frame(frame())
    for parameter in method.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator(8)))
    drawn = method.sample(6000, LENGTH, 1, generator(9)).tokens
    counts = torch.bincount(code_of(drawn), minlength=VOCABULARY**LENGTH).double()
    values = method.bound(every_sequence(), 300, generator(10)).values
    assert bool((values > -(counts / 6000).log() - 4.9 / counts.clamp(min=1).sqrt()).all())


@torch.no_grad()
def test_the_bound_of_an_untrained_flow_is_log_v_plus_the_divergence_of_its_posterior():
    torch.manual_seed(0)
    method, rows = LatentFlow.from_frame(frame()), every_sequence().repeat(60, 1)
    mean, log_scale = method.inference(rows).chunk(2, -1)
    divergence = 0.5 * (mean.square() + (2 * log_scale).exp() - 1) - log_scale
    values = method.draws(rows, 10, generator(11)).mean(0).sum(-1)
    exact = LENGTH * math.log(VOCABULARY) + divergence.sum((1, 2)).double()
    assert_estimates(values - exact, 0.0)
    assert float(mean.std()) > 0.3


@pytest.mark.bulk
@torch.no_grad()
def test_the_bound_weighted_by_importance_lies_between_minus_log_p_and_the_average_of_its_draws():
    torch.manual_seed(0)
    method, rows = LatentFlow.from_frame(frame()), every_sequence().repeat(20, 1)
    # The untrained emission does not depend on z: P is uniform, but q(z|x) is not p(z).
    exact, spread = LENGTH * math.log(VOCABULARY), len(rows) ** 0.5
    means = []
    for num_samples in (1, 10, 100):
        draws = method.draws(rows, num_samples, generator(12)).sum(-1)
        values = method.bound(rows, num_samples, generator(12)).values
        weighted = -(-draws).exp().mean(0).log()
        torch.testing.assert_close(values, weighted, atol=1e-6, rtol=1e-6)
        assert bool((values <= draws.mean(0) + 1e-9).all())
        assert float(values.mean()) > exact - 4.9 * float(values.std()) / spread
        means.append(float(values.mean()))
    assert means[0] > means[1] > means[2]
    with pytest.raises(ValueError, match="at least one draw"):
        method.bound(rows, 0, generator(12))
