"""A two-sided model that computes the open stretch of a text: its answers, its texts, its cost."""

from dataclasses import dataclass

import pytest
import torch
from nn.shaken import CHOICES, V, generator, shaken
from nn.test_reading import LENGTH, counted, mixed

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Autoregressive,
    Constrained,
    Denoiser,
    Diffusion,
    Follow,
    Framed,
    Guided,
    Masked,
    Nucleus,
    Padded,
    Streams,
    Tempered,
    Unconditional,
    bound,
    sample,
    start,
)
from stochloc.core.denoisers.stretches import Stretch, within
from stochloc.core.denoisers.two_sided import between
from stochloc.nn import LocalizationModel, ModelConfig


@dataclass(frozen=True)
class Forgetful:
    """A denoiser that keeps nothing of the rest of a text."""

    denoiser: Denoiser

    @property
    def codebook(self):
        return self.denoiser.codebook

    @property
    def between(self):
        return between(self.denoiser)

    def __call__(self, state):
        return self.denoiser(state)


@pytest.mark.parametrize("choices", CHOICES, ids=str)
@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize(("begin", "end"), [(0, 1), (0, 6), (3, 7), (4, 9), (8, 9)])
def test_in_a_stretch_a_model_answers_as_about_the_whole_text(begin, end, depth, choices):
    model = shaken(depth, **choices)
    tokens, state = mixed(model)
    place = torch.arange(LENGTH)
    given = state.reveal(tokens, ((place < begin) | (place >= end)).expand(tokens.shape))
    inside = within(model, given, Stretch(begin, end))
    assert inside is not model
    here = slice(begin, end)
    torch.testing.assert_close(inside(given).log_probs, model(given).log_probs)
    # Another text in the stretch, and another state of it from the right.
    left = given.reveal(tokens.roll(1, 0), ((place >= begin) & (place < end)).expand(tokens.shape))
    for sides in ((given, given), (left, given), (given, left)):
        answer, whole = inside.between(*sides), model.between(*sides)
        torch.testing.assert_close(answer.log_probs[:, here], whole.log_probs[:, here])
        assert answer.calls == 1


def wrapped(name: str, model: LocalizationModel) -> Denoiser:
    allowed = torch.rand(20, V, generator=generator(7)) < 0.7
    allowed[:, :2] = True
    hidden = torch.zeros(6, 20, dtype=torch.bool)
    hidden[:, 1] = True
    match name:
        case "tempered":
            return Tempered(model, 0.6)
        case "nucleus":
            return Nucleus(model, 0.8)
        case "padded":
            return Padded(model, 3, 4)
        case "framed":
            return Framed(model, (1, UNKNOWN), (2, 0))
        case "constrained":
            return Constrained(model, allowed)
        case "guided":
            return Guided(model, Unconditional(model, hidden), 1.7)
        case _:
            return model


@pytest.mark.parametrize(
    "policy", [Follow(Masked()), Follow(Diffusion()), Follow(Autoregressive())], ids=repr
)
@pytest.mark.parametrize(
    "name", ["plain", "tempered", "nucleus", "padded", "framed", "constrained", "guided"]
)
def test_a_walk_over_a_stretch_draws_the_texts_that_it_draws_without(name, policy):
    """Six sequences with blanks of their own, float64: equal to the last token."""
    denoiser, rows, length = wrapped(name, shaken()), 6, 20
    known = torch.randint(0, 2, (rows, length), generator=generator(5))
    blank = torch.rand(rows, length, generator=generator(6)) < 0.6
    known[blank & (torch.arange(length) >= 8) & (torch.arange(length) < 15)] = UNKNOWN
    state = start(denoiser.codebook, rows, length, known)

    def streams():
        return Streams([generator(n) for n in range(rows)], torch.device("cpu"))

    with torch.no_grad():
        # Fewer steps than blanks, or reading would take the walk from left to right.
        drawn = sample(denoiser, state, policy, Ancestral(), 4, streams())
        plain = sample(Forgetful(denoiser), state, policy, Ancestral(), 4, streams())
    assert torch.equal(drawn.tokens, plain.tokens)
    assert drawn.denoiser_calls == plain.denoiser_calls


def test_the_bound_of_blanks_is_that_of_the_whole_text():
    model = shaken()
    tokens = torch.randint(0, V, (4, 20), generator=generator(1))
    known = tokens.clone()
    known[:, 5:11] = UNKNOWN
    with torch.no_grad():
        estimates = [
            bound(denoiser, tokens, Follow(Masked()), Ancestral(), 3, generator(2), known)
            for denoiser in (model, Forgetful(model))
        ]
    torch.testing.assert_close(estimates[0].token_nats, estimates[1].token_nats)


def test_a_step_of_an_infilling_costs_the_stretch_and_the_rest_is_read_once():
    model, length = shaken(), 20
    known = torch.ones(2, length, dtype=torch.long)
    known[:, 8:13] = UNKNOWN
    state = start(model.codebook, 2, length, known)
    with counted(model.transformer.left) as left, counted(model.transformer.right) as right:
        drawn = sample(model, state, Follow(Masked()), Ancestral(), 3, generator(0))
    assert left == [8, 5, 5, 5]
    assert right == [7, 5, 5, 5]
    assert drawn.denoiser_calls == 3


def test_nothing_is_kept_where_little_would_be_saved_or_the_network_sees_all():
    model, encoder = shaken(), LocalizationModel(ModelConfig(V, 16, 1, 2)).double()
    for denoiser, end in ((model, LENGTH), (model, 7), (encoder, 2)):
        tokens, state = mixed(denoiser)
        assert tokens.shape[1] == LENGTH
        assert within(denoiser, state, Stretch(0, end)) is denoiser
