"""A model of a large vocabulary is that of a small one, computed a few places at a time."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stochloc.core import (
    Ancestral,
    BlockedPosterior,
    Diffusion,
    Euler,
    Follow,
    LearnedCodebook,
    Masked,
    RandomCodebook,
    bound,
    sample,
    start,
)
from stochloc.nn import ENCODER, TWO_SIDED, LocalizationModel, ModelConfig

V, B, L = 23, 3, 6
# Of each chunk: three places of V tokens.
NUMBERS = 3 * V + 1
CODES = {
    "simplex": {},
    "learned": {"code_dimension": 5},
    "random": {"code_dimension": 5, "fixed_codes": True},
    "slot": {"code_dimension": 5, "fixed_codes": True, "mask_slot": True, "head_bias": True},
    "paper": {"code_dimension": 5, "unigram": False},
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def in_parts(monkeypatch):
    """Return a function after which every vocabulary is large and three places are a chunk."""

    def begin(numbers: int = NUMBERS) -> None:
        monkeypatch.setattr("stochloc.nn.vocabulary.SMALL", 1)
        monkeypatch.setattr("stochloc.nn.chunks.MOST_NUMBERS", numbers)

    return begin


def shaken(architecture: str, **choices) -> LocalizationModel:
    """A model in float64 whose every weight has been moved from its start."""
    torch.manual_seed(0)
    config = ModelConfig(V, 16, 2, 2, architecture=architecture, **choices)
    model = LocalizationModel(config).double()
    model.set_unigram(torch.arange(V) ** 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(1)))
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens, and γ of which some are 0 and some ∞."""
    tokens = torch.randint(0, V, (B, L), generator=generator(2))
    snr = torch.tensor([0.0, 2.0, torch.inf, 0.5, torch.inf, 30.0]).double()
    return tokens, torch.stack([snr, snr.flip(0), snr.roll(2)])


def loss_and_gradients(
    model: LocalizationModel,
) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
    tokens, snr = batch()
    right = snr.roll(1, 0) if model.transformer.leaves_out else None
    nats = model.token_nats(tokens, snr, right, generator(3)).nats
    model.zero_grad()
    nats.square().sum().backward()
    return nats.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("codes", CODES.values(), ids=CODES)
@pytest.mark.parametrize("architecture", [ENCODER, TWO_SIDED])
def test_loss_and_gradients_a_few_places_at_a_time_are_those_of_all_at_once(
    architecture, codes, in_parts
):
    model = shaken(architecture, **codes)
    whole, gradients = loss_and_gradients(model)
    in_parts()
    parts, gradients_in_parts = loss_and_gradients(model)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    assert gradients.keys() == gradients_in_parts.keys()
    for name, gradient in gradients.items():
        in_parts_too = gradients_in_parts[name]
        assert gradient is not None, name
        torch.testing.assert_close(in_parts_too, gradient, rtol=1e-10, atol=1e-10)


class Largest(TorchDispatchMode):
    """Watches how many numbers any tensor holds, of those computed on the way."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().nbytes():
                stored = leaf.untyped_storage().nbytes() // leaf.element_size()
                self.numbers = max(self.numbers, stored)
        return result


@pytest.mark.parametrize("architecture", [ENCODER, TWO_SIDED])
def test_no_tensor_of_an_update_has_a_number_for_every_place_and_token(architecture, in_parts):
    size, width, length = 2000, 8, 40
    config = ModelConfig(size, width, 2, 2, code_dimension=4, fixed_codes=True,
                         architecture=architecture)  # fmt: skip
    model = LocalizationModel(config)
    tokens = torch.randint(0, size, (2, length), generator=generator(0))
    snr = torch.rand(2, length, generator=generator(1)) * 4
    in_parts(3 * size)
    with Largest() as largest:
        model.token_nats(tokens, snr, None, generator(2)).nats.sum().backward()
    # The weights are 8 numbers a token, a chunk is 3 places; at once there would be 80.
    assert size * width <= largest.numbers < 12 * size


def test_a_batch_in_which_all_is_known_gives_gradients_of_zero_and_not_none(in_parts):
    model = shaken(ENCODER, **CODES["slot"])
    in_parts()
    tokens, snr = batch()
    nats = model.token_nats(tokens, torch.full_like(snr, torch.inf), None, generator(3)).nats
    nats.sum().backward()
    assert (nats == 0).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad == 0).all(), name


@torch.no_grad()
@pytest.mark.parametrize("architecture", [ENCODER, TWO_SIDED])
@pytest.mark.parametrize("transition", [Ancestral(), Euler()], ids=["ancestral", "euler"])
@pytest.mark.parametrize("path", [Masked(), Diffusion()], ids=["masked", "diffusion"])
def test_walks_and_bounds_in_blocks_are_those_of_the_whole_vocabulary(
    architecture, transition, path, in_parts, monkeypatch
):
    model = shaken(architecture, **CODES["slot"])
    tokens, _ = batch()

    def walked() -> tuple[torch.Tensor, torch.Tensor]:
        begin = start(model.codebook, B, L)
        drawn = sample(model, begin, Follow(path), transition, 4, generator(4)).tokens
        return drawn, bound(model, tokens, Follow(path), transition, 4, generator(5)).token_nats

    whole, nats = walked()
    in_parts()
    readout = LocalizationModel._readout
    monkeypatch.setattr(
        LocalizationModel, "_readout", lambda *args: replace(readout(*args), block_size=7)
    )
    assert isinstance(model(start(model.codebook, B, L)), BlockedPosterior)
    parts, nats_in_parts = walked()
    assert torch.equal(parts, whole)
    torch.testing.assert_close(nats_in_parts, nats, rtol=1e-9, atol=1e-9)


def test_random_codes_are_kept_with_the_weights_and_are_no_parameters(tmp_path):
    config = ModelConfig(V, 16, 2, 2, code_dimension=5, fixed_codes=True)
    model = LocalizationModel(config)
    assert not list(model.codebook.parameters())
    assert isinstance(model.codebook, RandomCodebook)
    torch.testing.assert_close(model.codebook.vectors.norm(dim=-1), torch.ones(V))
    model.save_pretrained(tmp_path)
    again = LocalizationModel.from_pretrained(tmp_path)
    assert torch.equal(again.codebook.vectors, model.codebook.vectors)
    learned = LocalizationModel(ModelConfig(V, 16, 2, 2, code_dimension=5)).codebook
    assert isinstance(learned, LearnedCodebook)
    assert len(list(learned.parameters())) == 1


def test_fixed_codes_of_no_dimension_are_refused():
    with pytest.raises(ValueError, match="code_dimension"):
        ModelConfig(V, fixed_codes=True)
