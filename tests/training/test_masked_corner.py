"""The objective beside independent implementations, and at the corner that is masked diffusion."""

import math

import pytest
import torch
from core.worlds import WORLDS, generator

from stochloc.core import LearnedCodebook, observe
from stochloc.nn import LocalizationModel, ModelConfig, TargetNats
from stochloc.training.objective import cross_entropy
from stochloc.training.snr import (
    Endpoints,
    IndependentSides,
    LeftToRight,
    Masks,
    SentenceLogNormal,
    TokenLogNormal,
)


class Oracle:
    """What a denoiser answers, an exact one say, in a trainable model's clothes."""

    def __init__(self, denoiser):
        self.denoiser = denoiser

    def token_nats(self, tokens, snr, right_snr, generator, is_full=None):
        assert right_snr is None
        state = observe(self.denoiser.codebook, tokens, snr, generator)
        return TargetNats(-self.denoiser(state).log_prob(tokens), ~state.is_known)


class Fixed:
    """Charges every token its place in the text, known or not asked."""

    def token_nats(self, tokens, snr, right_snr, generator, is_full=None):
        place = torch.arange(1.0, tokens.shape[1] + 1).expand(tokens.shape)
        return TargetNats(place.masked_fill(snr.isinf(), 0.0), snr.isfinite())


class Given:
    """A law that is one fixed tensor."""

    def __init__(self, snr):
        self.snr = torch.tensor(snr)

    def draw(self, batch, length, generator):
        return self.snr


def test_the_loss_divides_by_the_uncertain_tokens_of_the_whole_batch():
    snr = [[0.0, math.inf, 2.0], [math.inf, math.inf, 1.0]]
    loss = cross_entropy(Fixed(), torch.zeros(2, 3).long(), Given(snr), generator(0))
    assert loss.item() == pytest.approx((1 + 3 + 3) / 3)


def test_a_batch_of_known_tokens_has_loss_zero_instead_of_nan():
    model = LocalizationModel(ModelConfig(3, 8, 1, 2))
    snr = [[math.inf, math.inf]]
    loss = cross_entropy(model, torch.zeros(1, 2).long(), Given(snr), generator(0))
    loss.backward()
    assert loss.item() == 0
    assert model.head.grad is not None
    assert (model.head.grad == 0).all()


LAWS = (SentenceLogNormal(), TokenLogNormal(), Masks(), Endpoints(TokenLogNormal()))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_a_model_is_trained_on_the_cross_entropy_of_the_posterior_that_it_answers_with(law):
    torch.manual_seed(0)
    model = LocalizationModel(ModelConfig(5, 16, 1, 2, beta=1.0))
    torch.nn.init.normal_(model.head)
    tokens = torch.randint(0, 5, (6, 9), generator=generator(1))
    loss, posteriors = (
        cross_entropy(trainable, tokens, law, generator(2)) for trainable in (model, Oracle(model))
    )
    torch.testing.assert_close(loss, posteriors)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_with_learned_codes_the_loss_is_the_papers_cross_entropy_written_out(law):
    torch.manual_seed(0)
    model = LocalizationModel(ModelConfig(5, 16, 1, 2, code_dimension=3, evidence=False,
                                          unigram=False))  # fmt: skip
    torch.nn.init.normal_(model.head)
    tokens = torch.randint(0, 5, (6, 9), generator=generator(1))
    loss = cross_entropy(model, tokens, law, generator(2))
    again = generator(2)
    snr = law.draw(6, 9, again).float()
    codebook = model.codebook
    assert isinstance(codebook, LearnedCodebook)
    codes = codebook.directions / codebook.directions.norm(dim=1, keepdim=True)
    finite = snr.isfinite()
    gamma = torch.where(finite, snr, 0.0)[..., None]
    noise = torch.randn(6, 9, 3, generator=again) if (gamma > 0).any() else torch.zeros(6, 9, 3)
    z = gamma * codes[tokens] + gamma.sqrt() * noise
    weights = (model.beta * z @ codes.T).softmax(-1)
    weights = torch.where(finite[..., None], weights, torch.eye(5)[tokens])
    hidden = model.transformer(weights @ model.embeddings)
    log_q = (hidden @ model.head.T).log_softmax(-1)
    nats = -log_q.gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(loss, (nats * finite).sum() / finite.sum())


@pytest.mark.bulk
@pytest.mark.parametrize("world", ["full support", "markov chain"])
def test_at_the_masked_corner_the_expected_loss_is_the_exact_minus_log_p(world):
    """With t uniform the number of masks is uniform on 0..L, and each of 1..L stands for one step
    of a chain rule in random order (masked diffusion's bound, exact for the exact posterior):
    E[loss of one sequence] = -log P / (L + 1). A weight of 1/t or 1/L in place of the mean over the
    masked tokens is off by tens of standard errors."""
    denoiser, draws = WORLDS[world].denoiser, 1500
    model, length, random = Oracle(denoiser), WORLDS[world].length, generator(7)
    tokens = denoiser.sequences[len(denoiser.sequences) // 3][None]
    losses = torch.stack([cross_entropy(model, tokens, Masks(), random) for _ in range(draws)])
    exact = -float(denoiser.log_prob(tokens)) / (length + 1)
    stderr = float(losses.std()) / math.sqrt(draws)
    assert abs(float(losses.mean()) - exact) < 5 * stderr
    assert stderr < 0.1 * exact


def test_the_exact_posterior_has_the_least_loss_under_every_law():
    """The objective is proper: tempering the exact posterior either way costs."""
    denoiser = WORLDS["full support"].denoiser

    class Warped(Oracle):
        def __init__(self, temperature):
            self.temperature = temperature

        def token_nats(self, tokens, snr, right_snr, generator, is_full=None):
            state = observe(denoiser.codebook, tokens, snr, generator)
            tempered = denoiser(state).tempered(self.temperature)
            return TargetNats(-tempered.log_prob(tokens), ~state.is_known)

    tokens = denoiser.sample(4000, generator(0))
    for law in (SentenceLogNormal(0.0), TokenLogNormal(0.0), Masks(), Endpoints(TokenLogNormal())):
        losses = [
            float(cross_entropy(Warped(t), tokens, law, generator(1))) for t in (0.7, 1.0, 1.4)
        ]
        assert losses[1] < min(losses[0], losses[2])


SIDED_LAWS = (TokenLogNormal(0.0), IndependentSides(TokenLogNormal(0.0)),
              LeftToRight(Endpoints(TokenLogNormal(0.0)), 0.3, 0.2, 0.2))  # fmt: skip


@pytest.mark.parametrize("law", SIDED_LAWS, ids=lambda law: type(law).__name__)
def test_the_exact_leave_one_out_posterior_has_the_least_loss_whatever_the_sides_are_shown(law):
    """Each target has its minimum there, so tempering any place of the answer costs."""
    denoiser = WORLDS["full support"].denoiser
    length = WORLDS["full support"].length

    class Warped:
        def __init__(self, place, temperature):
            self.is_warped = torch.arange(length) == place
            self.temperature = temperature

        def token_nats(self, tokens, snr, right_snr, generator, is_full=None):
            left = observe(denoiser.codebook, tokens, snr, generator)
            right = left
            if right_snr is not None:
                right = observe(denoiser.codebook, tokens, right_snr, generator)
            answer = denoiser.between(left, right)
            warped = answer.tempered(self.temperature).log_prob(tokens)
            nats = -torch.where(self.is_warped, warped, answer.log_prob(tokens))
            return TargetNats(nats, torch.ones_like(self.is_warped).expand(tokens.shape))

    tokens = denoiser.sample(4000, generator(0))
    for place in (0, length // 2, length - 1):
        losses = [
            float(cross_entropy(Warped(place, t), tokens, law, generator(1)))
            for t in (0.6, 1.0, 1.6)
        ]
        assert losses[1] < min(losses[0], losses[2])
