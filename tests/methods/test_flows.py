"""Discrete and argmax flows: exact likelihoods, and bounds by rounding."""

import math

import numpy as np
import pytest
import torch
from methods.oracles import NextTokenOracle, Remembering
from methods.worlds import (
    LENGTH,
    VOCABULARY,
    assert_distribution,
    assert_estimates,
    code_of,
    every_sequence,
    frame,
    generator,
    true_log_probs,
)
from torch.nn import functional as F

from stochloc.methods.argmax_flow import ArgmaxFlow, MixtureDensity
from stochloc.methods.discrete_flow import DiscreteFlow, circular_difference, straight_through


def shaken(method, seed=3, size=0.5):
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator(seed)))
    return method


def shift_of(tokens):
    """A fixed causal function: place i is shifted by a function of the tokens before."""
    before = F.pad(tokens.cumsum(1)[:, :-1], (1, 0))
    return (2 * before + torch.arange(tokens.shape[1]) + 1) % VOCABULARY


class FixedShift(Remembering):
    def forward(self, before):
        # The input at place i is x_{i-1}; the zeros at the start are ignored.
        tokens = F.pad(before.argmax(-1)[:, 1:], (0, 1))
        return 5.0 * F.one_hot(shift_of(tokens), VOCABULARY).float()


class ShiftedOracle(Remembering):
    """The exact conditionals of the shifted sequences."""

    def forward(self, before):
        x = every_sequence()
        y = (x - shift_of(x)) % VOCABULARY
        given = before.argmax(-1)
        answers = []
        for i in range(before.shape[1]):
            fits = (y[None, :, :i] == given[:, None, 1 : i + 1]).all(-1)
            joint = true_log_probs().expand_as(fits).masked_fill(~fits, -torch.inf)
            one_hot = F.one_hot(y[:, i], VOCABULARY).bool()
            answers.append(torch.where(one_hot, joint[..., None], -torch.inf).logsumexp(1))
        return torch.stack(answers, 1).clamp(min=-1e3)


def test_a_discrete_flow_with_exact_conditionals_has_the_likelihood_of_the_data():
    method = DiscreteFlow(FixedShift(), ShiftedOracle(), VOCABULARY)
    values = method.bound(every_sequence(), 1, generator()).values
    torch.testing.assert_close(values, -true_log_probs(), atol=1e-5, rtol=1e-5)
    assert_distribution(method.sample(3000, LENGTH, 1, generator(1)).tokens, true_log_probs())


def test_a_discrete_flow_is_normalised_and_its_sampler_draws_from_it():
    torch.manual_seed(0)
    method = shaken(DiscreteFlow.from_frame(frame()))
    log_probs = -method.bound(every_sequence(), 1, generator()).values
    assert float(log_probs.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert_distribution(method.sample(4000, LENGTH, 1, generator(2)).tokens, log_probs)


def test_the_circular_difference_subtracts_one_hots_and_convolves_distributions():
    a = torch.arange(5).repeat_interleave(5)
    b = torch.arange(5).repeat(5)
    shifted = circular_difference(F.one_hot(a, 5).float(), F.one_hot(b, 5).float())
    assert torch.equal(shifted.argmax(-1), (a - b) % 5)
    p, q = (torch.rand(5, generator=generator(k), dtype=torch.float64) for k in (0, 1))
    direct = sum(torch.roll(p, -k) * q[k] for k in range(5))
    torch.testing.assert_close(circular_difference(p, q), direct)


def test_the_straight_through_argmax_is_hard_forwards_and_soft_backwards():
    logits = torch.tensor([0.1, 0.3, -0.2], requires_grad=True)
    hard = straight_through(logits)
    assert torch.equal(hard.detach(), torch.tensor([0.0, 1.0, 0.0]))
    weights = torch.tensor([1.0, 2.0, 4.0])
    (gradient,) = torch.autograd.grad(hard @ weights, logits)
    soft = (logits.detach() / 0.1).softmax(0)
    torch.testing.assert_close(gradient, soft * (weights - soft @ weights) / 0.1)


class ExactMixture:
    """p(v) = Σ_x P(x) q(v|x), the density under which the bound is exact."""

    def __init__(self, flow):
        self.flow = flow

    def log_prob(self, v):
        tokens = self.flow.tokens_of(v)
        marginal = torch.stack([self._next(tokens[:, :i], tokens[:, i]) for i in range(LENGTH)], 1)
        return self._log_q(v, tokens) + marginal

    def sample(self, num_sequences, length, is_refused, generator):
        shown = torch.full((num_sequences, 1), VOCABULARY)
        for _ in range(length):
            probs = NextTokenOracle()(shown)[:, -1].softmax(-1)
            shown = torch.cat([shown, torch.multinomial(probs, 1, generator=generator)], 1)
        v = self.flow.draw(shown[:, 1:], generator)[0]
        assert not is_refused(v.flatten(0, 1)).any()
        return v

    def _next(self, before, token):
        shown = F.pad(before, (1, 0), value=VOCABULARY)
        return NextTokenOracle()(shown)[torch.arange(len(token)), -1, token]

    def _log_q(self, v, tokens):
        # v = b softplus(u), so u = log(e^|v| - 1).
        u = torch.expm1(v.abs()).log()
        mean, log_scale = self.flow.means[tokens], self.flow.log_scales[tokens]
        log_normal = torch.distributions.Normal(mean, log_scale.exp()).log_prob(u)
        return (log_normal - F.logsigmoid(u)).sum(-1)


def exact_argmax_flow():
    torch.manual_seed(0)
    flow = ArgmaxFlow.from_frame(frame())
    exact = shaken(ArgmaxFlow(ExactMixture(flow), VOCABULARY), size=0.3)
    flow.means, flow.log_scales = exact.means, exact.log_scales
    return exact


@torch.no_grad()
def test_under_the_exact_mixture_the_argmax_bound_is_minus_log_p_at_every_draw():
    flow, rows = exact_argmax_flow(), every_sequence().repeat(5, 1)
    values = flow.bound(rows, 2, generator(1)).values
    torch.testing.assert_close(values, -true_log_probs().repeat(5), atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_under_the_exact_mixture_the_argmax_sampler_draws_from_p():
    drawn = exact_argmax_flow().sample(3000, LENGTH, 1, generator(2))
    assert_distribution(drawn.tokens, true_log_probs())
    assert drawn.denoiser_calls == LENGTH


@torch.no_grad()
def test_digits_that_encode_no_token_are_redrawn_and_the_bound_still_holds():
    torch.manual_seed(0)
    flow = shaken(ArgmaxFlow.from_frame(frame()), size=0.2)
    drawn = flow.sample(4000, LENGTH, 1, generator(3))
    assert drawn.denoiser_calls == LENGTH
    assert int(drawn.tokens.max()) < VOCABULARY
    counts = torch.bincount(code_of(drawn.tokens), minlength=VOCABULARY**LENGTH)
    values = flow.bound(every_sequence(), 400, generator(4)).values
    # The bound of each sequence lies above its -log frequency, up to the error of both.
    frequency = counts.double() / 4000
    assert bool((values > -frequency.log() - 4.9 / counts.clamp(min=1).sqrt()).all())


def test_the_bound_of_an_untrained_argmax_flow_equals_its_quadrature():
    # Each digit: u ~ N(4, 1), v = softplus(u), against half of N(4, 1) and half of N(-4, 1).
    u = np.linspace(-8, 16, 200_001)
    q = np.exp(-((u - 4) ** 2) / 2) / math.sqrt(2 * math.pi)
    v = np.logaddexp(0, u)
    p = sum(np.exp(-((v - c) ** 2) / 2) / 2 for c in (4, -4)) / math.sqrt(2 * math.pi)
    nats = float(np.sum(q * (np.log(q) + np.logaddexp(0, -u) - np.log(p))) * (u[1] - u[0]))
    torch.manual_seed(0)
    flow = ArgmaxFlow.from_frame(frame())
    values = flow.bound(every_sequence().repeat(60, 1), 20, generator(5)).values
    assert_estimates(values, LENGTH * 2 * nats)
    assert 0 < nats - math.log(2) < 5e-3


def test_the_digits_of_tokens_are_distinct():
    flow = ArgmaxFlow.from_frame(frame(27, 4))
    digits = flow.digits_of(torch.arange(27))
    assert digits.shape == (27, 5)
    assert torch.equal(flow.tokens_of(digits), torch.arange(27))


@torch.no_grad()
def test_the_mixture_density_given_earlier_vectors_integrates_to_one():
    torch.manual_seed(0)
    density = ArgmaxFlow.from_frame(frame()).density
    assert isinstance(density, MixtureDensity)
    shaken(density, size=0.05)
    side = torch.linspace(-12, 12, 241)
    grid = torch.cartesian_prod(side, side)
    v = torch.stack([torch.tensor([0.3, -1.2]).expand_as(grid), grid], 1)
    total = density.log_prob(v)[:, 1].exp().sum() * (side[1] - side[0]) ** 2
    assert float(total) == pytest.approx(1.0, abs=1e-3)
