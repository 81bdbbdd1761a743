"""The nucleus: the fewest most likely values that have a mass, found without sorting."""

import pytest
import torch
from core.worlds import WORLDS, OneSided, generator

from stochloc.core import (
    BlockedPosterior,
    DensePosterior,
    Nucleus,
    Posterior,
    SimplexCodebook,
    observe,
)

KINDS = {
    "dense": lambda log_probs, codes: DensePosterior(log_probs, codes),
    "blocked": lambda log_probs, codes: BlockedPosterior(
        lambda start, stop: log_probs[..., start:stop], codes, block_size=70
    ),
}


def of(kind: str, log_probs: torch.Tensor) -> Posterior:
    return KINDS[kind](log_probs, SimplexCodebook(log_probs.shape[-1]).to(log_probs.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mass", [1e-3, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", KINDS)
def test_the_values_kept_are_the_fewest_most_likely_ones_that_have_the_mass(kind, mass, dtype):
    scores = 3 * torch.randn(20, 4, 200, generator=generator(0), dtype=torch.float64)
    log_probs = scores.log_softmax(-1).to(dtype)
    kept = of(kind, log_probs).nucleus(mass).log_probs_of(0, 200).exp()
    probs, order = log_probs.double().exp().sort(-1, descending=True)
    needed = (probs.cumsum(-1) < mass).sum(-1, keepdim=True) + 1
    is_kept = torch.arange(200).expand(probs.shape) < needed
    expected = torch.zeros_like(probs).scatter(-1, order, probs * is_kept)
    expected = expected / expected.sum(-1, keepdim=True)
    assert torch.equal(kept > 0, expected > 0)
    torch.testing.assert_close(kept.double(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_equally_likely_values_stay_together_and_certain_ones_alone(kind):
    probs = torch.tensor([[[0.25, 0.25, 0.25, 0.25], [0.4, 0.3, 0.3, 0.0], [0.0, 1.0, 0.0, 0.0]]])
    kept = of(kind, probs.double().log()).nucleus(0.5).log_probs_of(0, 4).exp()
    torch.testing.assert_close(kept, probs.double())
    alone = of(kind, probs.double().log()).nucleus(0.4 - 1e-6).log_probs_of(0, 4).exp()
    assert alone[0, 1].tolist() == [1, 0, 0, 0]
    assert alone[0, 2].tolist() == [0, 1, 0, 0]


def test_a_nucleus_restricts_what_the_others_say_and_leaves_the_evidence_exact():
    exact = WORLDS["markov chain"].denoiser
    tokens = torch.randint(0, 3, (60, 4), generator=generator(0))
    state = observe(exact.codebook, tokens, torch.full((60, 4), 2.0).double(), generator(1))
    inside = exact.between(state, state).nucleus(0.6).log_probs
    expected = (inside + exact.codebook.evidence(state.z)).softmax(-1)
    answer = Nucleus(exact, 0.6)(state).log_probs_of(0, 3).exp()
    torch.testing.assert_close(answer, expected, atol=1e-10, rtol=0)
    plain = Nucleus(OneSided(exact), 0.6)(state).log_probs_of(0, 3)
    torch.testing.assert_close(plain, exact(state).nucleus(0.6).log_probs, atol=1e-10, rtol=0)


@pytest.mark.parametrize("mass", [0.0, 1.01, -1.0])
def test_a_nucleus_has_a_mass_between_0_and_1(mass):
    exact = WORLDS["markov chain"].denoiser
    with pytest.raises(ValueError, match=r"lie in \(0, 1\]"):
        Nucleus(exact, mass)
    with pytest.raises(ValueError, match=r"lie in \(0, 1\]"):
        exact(observe(exact.codebook, exact.sequences, torch.ones(81, 4), generator(0))).nucleus(
            mass
        )
