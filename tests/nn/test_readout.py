"""One readout answers for loss and walk, whole or in blocks, with evidence or without."""

from dataclasses import replace

import pytest
import torch

from stochloc.core import (
    Ancestral,
    BlockedPosterior,
    Codebook,
    DensePosterior,
    Diffusion,
    Follow,
    LearnedCodebook,
    Linearised,
    SimplexCodebook,
    State,
    bound,
    observe,
)
from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.nn.vocabulary import Readout

V, WIDTH = 7, 4


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(codebook: Codebook, block_size: int) -> tuple[Readout, torch.Tensor, torch.Tensor]:
    """Return a readout with some known tokens, its hidden states and the true tokens."""
    tokens = torch.randint(0, V, (3, 5), generator=generator(0))
    snr = torch.tensor([0.0, 1.0, torch.inf, 4.0, 1.0]).expand(3, 5)
    state = observe(codebook, tokens, snr, generator(1))
    hidden = torch.randn(3, 5, WIDTH, generator=generator(2)).requires_grad_()
    head = torch.randn(V, WIDTH, generator=generator(3))
    prior = torch.randn(V, generator=generator(4)).log_softmax(0)
    readout = Readout(hidden, head, prior, codebook, state.z, state.known, block_size=block_size)
    return readout, hidden, tokens


@pytest.mark.parametrize("codebook", [SimplexCodebook(V), LearnedCodebook(V, 3, generator(5))])
def test_a_large_vocabulary_is_read_in_blocks_with_the_same_posterior_and_gradient(codebook):
    whole, hidden, tokens = made(codebook, V)
    parts, hidden_of_parts, _ = made(codebook, 3)
    assert isinstance(whole.posterior, DensePosterior)
    assert isinstance(parts.posterior, BlockedPosterior)
    for readout in (whole, parts):
        readout.posterior.log_prob(tokens).sum().backward(retain_graph=True)
    torch.testing.assert_close(hidden_of_parts.grad, hidden.grad)
    torch.testing.assert_close(parts.posterior.mean, whole.posterior.mean)


@pytest.mark.parametrize("block_size", [V, 3])
def test_the_loss_is_the_posteriors_and_known_tokens_cost_nothing_and_give_no_gradient(block_size):
    readout, hidden, tokens = made(SimplexCodebook(V), block_size)
    nats = readout.token_nats(tokens)
    torch.testing.assert_close(nats, -readout.posterior.log_prob(tokens))
    assert (nats[:, 2] == 0).all()
    nats.sum().backward()
    assert hidden.grad is not None
    assert (hidden.grad[:, 2] == 0).all()
    assert (hidden.grad[:, [0, 1, 3, 4]].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("block_size", [V, 3])
def test_without_evidence_the_context_alone_answers_for_known_tokens_too(block_size):
    readout, hidden, tokens = made(SimplexCodebook(V), block_size)
    scores = hidden @ readout.head.T + readout.log_prior
    expected = scores.log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)
    alone = readout.without_evidence()
    torch.testing.assert_close(alone.token_nats(tokens), -expected)
    torch.testing.assert_close(alone.posterior.log_prob(tokens), expected)
    # Evidence and certainty are put back by Bayes' rule alone.
    again = replace(alone, evidence=True, known=readout.known)
    torch.testing.assert_close(again.posterior.mean, readout.posterior.mean)


class InBlocks:
    """A model whose posteriors are read in blocks."""

    def __init__(self, model: LocalizationModel) -> None:
        self.model, self.codebook = model, model.codebook

    def __call__(self, state: State) -> BlockedPosterior:
        posterior = replace(self.model.readout(state), block_size=3).posterior
        assert isinstance(posterior, BlockedPosterior)
        return posterior


@torch.no_grad()
def test_a_model_read_in_blocks_has_the_same_bounds_and_derivatives():
    torch.manual_seed(0)
    model = LocalizationModel(ModelConfig(V, width=16, depth=2, heads=2))
    torch.nn.init.normal_(model.head)
    tokens = torch.randint(0, V, (2, 6), generator=generator(1))
    state = observe(model.codebook, tokens, torch.full((2, 6), 1.5), generator(2))
    direction = torch.randn(state.z.shape, generator=generator(3))
    whole, parts = Linearised(model), Linearised(InBlocks(model))
    torch.testing.assert_close(
        parts.derivative(state, direction), whole.derivative(state, direction)
    )
    walks = [
        bound(denoiser, tokens, Follow(Diffusion()), Ancestral(), 5, generator(4))
        for denoiser in (whole, parts)
    ]
    torch.testing.assert_close(walks[0].token_nats, walks[1].token_nats, atol=1e-5, rtol=1e-5)
