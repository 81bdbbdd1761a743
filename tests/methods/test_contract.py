"""The contract of every method of the comparison, with exact networks and with learned ones."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from methods.oracles import (
    LOG_VOCABULARY,
    CavityOracle,
    MaskOracle,
    NextTokenOracle,
    RatioOracle,
    SidesOracle,
    WeightedMaskOracle,
)
from methods.worlds import (
    LENGTH,
    TINY,
    VOCABULARY,
    assert_distribution,
    assert_estimates,
    every_sequence,
    frame,
    generator,
    true_log_probs,
)

from stochloc.core import Diffusion, ExactDenoiser, Lomax, Masked, Path, SimplexCodebook
from stochloc.data import Cyclic
from stochloc.methods import METHODS, TABLE_1, Method
from stochloc.methods.any_order import AnyOrder
from stochloc.methods.autoregressive import Autoregressive
from stochloc.methods.d3pm import D3pm
from stochloc.methods.generalized_md4 import GeneralizedMd4
from stochloc.methods.kernels import absorbing, uniform
from stochloc.methods.leave_one_out import LeaveOneOutMdlm
from stochloc.methods.left_to_right import left_to_right
from stochloc.methods.localization import Localization
from stochloc.methods.mac import Mac
from stochloc.methods.md4 import Md4
from stochloc.methods.mdlm import Mdlm
from stochloc.methods.multinomial import MultinomialDiffusion
from stochloc.methods.schedules import Cosine, Linear, ShiftedCosine, cosine_grid
from stochloc.methods.sedd import FLOOR, EulerJump, Sedd, SeddAbsorbing
from stochloc.training.snr import Masks

FINE = 4000
WEIGHTS = torch.tensor([0.5, 1.0, 2.0])


def weighted() -> GeneralizedMd4:
    method = GeneralizedMd4(WeightedMaskOracle(WEIGHTS), VOCABULARY)
    method.log_weights.data = WEIGHTS.log()
    return method


def score(oracle: torch.nn.Module, **options) -> Sedd:
    return Sedd(oracle, VOCABULARY, uniform(VOCABULARY), Linear(FLOOR), **options)


def localization(path: Path) -> Localization:
    codebook = SimplexCodebook(VOCABULARY).double()
    return Localization(ExactDenoiser(codebook, every_sequence(), true_log_probs()), Masks(), path)


UNIFORM_SCORE = RatioOracle(uniform(VOCABULARY), Linear(FLOOR))
UNIFORM_POSTERIOR = CavityOracle(uniform(VOCABULARY), ShiftedCosine())
# Methods with exact networks, and the number of steps with which their samplers are exact.
EXACT: dict[str, tuple[Callable[[], Method], int]] = {
    "ar": (lambda: Autoregressive(NextTokenOracle(), VOCABULARY), 1),
    "ardm": (lambda: AnyOrder(MaskOracle(), VOCABULARY), LENGTH),
    "mac": (lambda: Mac(MaskOracle(), VOCABULARY), 1),
    "mac, another order": (
        lambda: Mac(MaskOracle(), VOCABULARY, lambda length: torch.tensor([1, 2, 0])[:length]),
        1,
    ),
    "mdlm": (lambda: Mdlm(MaskOracle(), VOCABULARY), 100),
    "mdlm-two-sided": (lambda: LeaveOneOutMdlm(SidesOracle(), VOCABULARY), 100),
    "md4": (lambda: Md4(MaskOracle(), VOCABULARY, Linear(), cosine_grid), 100),
    "md4-cosine": (lambda: Md4(MaskOracle(), VOCABULARY, Cosine()), 100),
    "genmd4": (weighted, 100),
    "d3pm-absorbing": (
        lambda: D3pm(MaskOracle(), VOCABULARY, absorbing(VOCABULARY), Linear(), FINE),
        100,
    ),
    "sedd-absorbing": (lambda: SeddAbsorbing(MaskOracle(LOG_VOCABULARY), VOCABULARY), 100),
    "sedd-absorbing, Euler": (
        lambda: SeddAbsorbing(MaskOracle(LOG_VOCABULARY), VOCABULARY, EulerJump()),
        100,
    ),
    "d3pm-uniform": (
        lambda: D3pm(UNIFORM_POSTERIOR, VOCABULARY, uniform(VOCABULARY), ShiftedCosine(), FINE),
        100,
    ),
    "multinomial": (lambda: MultinomialDiffusion(UNIFORM_POSTERIOR, VOCABULARY, FINE), 100),
    "sedd-uniform": (lambda: score(UNIFORM_SCORE), 100),
    "sedd-uniform, Euler": (lambda: score(UNIFORM_SCORE, jump=EulerJump()), 100),
    "dsl": (lambda: localization(Masked()), 100),
    "dsl-paper": (lambda: localization(Diffusion(Lomax())), 200),
}


@pytest.mark.bulk
@pytest.mark.parametrize("name", EXACT)
def test_with_the_exact_network_the_bound_is_minus_log_p(name):
    method = EXACT[name][0]()
    tokens = every_sequence()[[0, 5, 13, 20, 26]]
    true = -true_log_probs()[[0, 5, 13, 20, 26]]
    copies = 400
    rows = tokens.repeat_interleave(copies, 0)
    estimate = method.bound(rows, 20, generator(1))
    values = estimate.values.view(len(tokens), copies)
    assert estimate.token_nats.dtype == torch.float64
    for value, exact in zip(values, true, strict=True):
        # T steps lose at most about 1/T, the prior term less.
        stderr = float(value.std() / math.sqrt(copies))
        assert abs(float(value.mean() - exact)) <= 4.9 * stderr + 2e-3, (value.mean(), exact)
    if method.is_exact:
        torch.testing.assert_close(values[:, 0], true)


@pytest.mark.parametrize("name", ["ar", "mdlm-two-sided", "dsl"])
def test_with_the_exact_network_a_text_read_from_left_to_right_costs_minus_log_p(name):
    exact = left_to_right(EXACT[name][0]())
    assert exact is not None
    estimate = exact(every_sequence())
    assert estimate.is_exact
    assert estimate.denoiser_calls == 1
    torch.testing.assert_close(estimate.values, -true_log_probs())
    first = true_log_probs().view(VOCABULARY, -1).logsumexp(1)
    torch.testing.assert_close(estimate.token_nats[:, 0], -first[every_sequence()[:, 0]])


@pytest.mark.parametrize("name", ["ar", "discrete-flow"])
def test_of_an_autoregressive_method_the_likelihood_from_left_to_right_is_its_own(name):
    torch.manual_seed(0)
    method, tokens = METHODS[name](frame()), every_sequence()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(4)))
    exact = left_to_right(method)
    assert exact is not None
    bound = method.bound(tokens, 1, generator())
    torch.testing.assert_close(exact(tokens).token_nats, bound.token_nats)


@pytest.mark.parametrize("name", ["mdlm", "ardm", "mac", "dsl-encoder", "plaid"])
def test_a_method_that_looks_at_both_sides_at_once_has_no_such_likelihood(name):
    assert left_to_right(METHODS[name](frame())) is None


@pytest.mark.bulk
@pytest.mark.parametrize("name", EXACT)
def test_with_the_exact_network_the_sampler_draws_from_p(name):
    method, num_steps = EXACT[name]
    drawn = method().sample(3000, LENGTH, num_steps, generator(2))
    assert drawn.tokens.shape == (3000, LENGTH)
    assert drawn.denoiser_calls <= max(num_steps, LENGTH)
    assert_distribution(drawn.tokens, true_log_probs())


# An untrained network predicts 1/V; where its masks carry no information the bound is log V.
OWN_START = {"d3pm-uniform", "multinomial", "sedd-uniform", "argmax-flow", "latent-flow"}


@pytest.mark.parametrize("name", [name for name in METHODS if name not in OWN_START])
def test_the_bound_of_an_untrained_method_is_log_v_per_token(name):
    torch.manual_seed(0)
    method = METHODS[name](frame())
    rows = every_sequence().repeat(40, 1)
    values = method.bound(rows, 20, generator(3)).values
    assert_estimates(values, LENGTH * LOG_VOCABULARY)


@pytest.mark.parametrize("name", ["d3pm-uniform", "multinomial"])
def test_the_bound_of_untrained_uniform_noise_is_log_v_per_token(name):
    # A uniform p̃ is exact for independent uniform tokens, so the bound is log V up to O(1/T).
    torch.manual_seed(0)
    method = METHODS[name](frame())
    rows = every_sequence().repeat(60, 1)
    values = method.bound(rows, 40, generator(3)).values
    stderr = float(values.std() / math.sqrt(len(values)))
    assert abs(float(values.mean()) - LENGTH * LOG_VOCABULARY) < 4.9 * stderr + 0.01


def test_the_bound_of_untrained_ratios_of_one_is_log_v_per_token():
    # s = 1 everywhere is exact for independent uniform tokens at every time.
    torch.manual_seed(0)
    values = (
        METHODS["sedd-uniform"](frame())
        .bound(every_sequence().repeat(60, 1), 40, generator(3))
        .values
    )
    assert_estimates(values, LENGTH * LOG_VOCABULARY)


OTHER_LOSS = {"mac", "d3pm-absorbing", "latent-flow"}


@pytest.mark.bulk
@pytest.mark.parametrize("name", TABLE_1)
def test_the_loss_is_the_bound_unless_defined_otherwise_and_every_parameter_has_a_gradient(name):
    torch.manual_seed(0)
    method = METHODS[name](frame())
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(4)))
    tokens = every_sequence().repeat(30, 1)
    loss = method.loss(tokens, generator(5))
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert all(any(p is q for q in method.parameters()) for p in method.undecayed())
    for parameter_name, parameter in method.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.isfinite().all()), parameter_name
        assert bool((parameter.grad != 0).any()), parameter_name
    if name not in OTHER_LOSS and not name.startswith("dsl"):
        draws = torch.stack([method.loss(tokens, generator(10 + i)).detach() for i in range(60)])
        bounds = method.bound(tokens, 60, generator(6)).values / LENGTH
        spread = math.hypot(float(draws.std()) / 60**0.5, float(bounds.std()) / len(bounds) ** 0.5)
        assert abs(float(draws.mean()) - float(bounds.mean())) < 4.9 * spread


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_draws_the_same_sequences(name):
    torch.manual_seed(0)
    method = METHODS[name](frame())
    first, again, other = (method.sample(4, 6, 3, generator(seed)).tokens for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert bool(((first >= 0) & (first < VOCABULARY)).all())


# Embeddings, codes and schedules that are learned beside a network take longer to train.
TRAINING = {
    "plaid": (3e-3, 5000),
    "dsl-paper": (3e-3, 6000),
    "sedd-uniform": (3e-3, 16_000),
    "latent-flow": (1e-2, 12_000),
}
# The latent flow divides its layers among three networks; three of them are left for the prior.
DEPTH = {"latent-flow": 5}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE_1)
def test_trained_on_cyclic_data_the_bound_comes_within_2_percent_of_log_k(name):
    size, cyclic = 5, Cyclic(5)
    torch.manual_seed(0)
    backbone = replace(TINY, depth=DEPTH.get(name, TINY.depth))
    method = METHODS[name](replace(frame(size, size), backbone=backbone))
    rate, num_updates = TRAINING.get(name, (3e-3, 3000))
    optimizer, draw = torch.optim.AdamW(method.parameters(), lr=rate), generator(7)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_updates)
    for _ in range(num_updates):
        loss = method.loss(cyclic.sample(64, size, draw), draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    values = method.bound(cyclic.enumerate(size)[0].repeat(320, 1), 50, draw).values
    stderr = float(values.std() / math.sqrt(len(values)))
    assert float(values.mean()) < 1.02 * math.log(size)
    assert float(values.mean()) > math.log(size) - 4.9 * stderr
