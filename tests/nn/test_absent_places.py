"""Sequences of different lengths in one batch: each means what it means alone."""

import math

import pytest
import torch
from torch.nn import functional as F

from stochloc.core import State, observe
from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.nn.backbones import ARCHITECTURES, EVERYWHERE, Surroundings
from stochloc.nn.backbones.encoder import attend
from stochloc.nn.backbones.products import half_products

V, BOUNDARY = 6, 5
LENGTHS = (7, 3, 1, 5)
LONGEST = max(LENGTHS)
PRESENT = torch.arange(LONGEST) < torch.tensor(LENGTHS)[:, None]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def shaken(name, dtype=torch.float64, positions="rotary"):
    torch.manual_seed(0)
    config = ModelConfig(
        V, 16, 4, 2, neighbour_logit=3.0, architecture=name, given_tokens=1, code_dimension=3,
        positions=positions,
    )  # fmt: skip
    model = LocalizationModel(config).to(dtype)
    model.set_unigram(torch.tensor([5, 1, 9, 2, 2, 1]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(1)))
    return model


def sequences():
    drawn = [torch.randint(0, V, (1, n), generator=generator(n)) for n in LENGTHS]
    return [F.pad(row[:, 1:], (1, 0), value=BOUNDARY) for row in drawn]


def joined(states):
    """States of a row each as one batch, with noise and tokens at absent places."""
    z = 5 * torch.randn(len(LENGTHS), LONGEST, 3, dtype=states[0].z.dtype, generator=generator(8))
    known = torch.randint(-1, V, (len(LENGTHS), LONGEST), generator=generator(9))
    snr = torch.ones(known.shape, dtype=z.dtype)
    for row, (state, n) in enumerate(zip(states, LENGTHS, strict=True)):
        z[row, :n], known[row, :n], snr[row, :n] = state.z[0], state.known[0], state.snr[0]
    return State(z, known, snr)


def noisy(model, tokens, seed):
    snr = 3 * torch.rand(tokens.shape, generator=generator(seed), dtype=model.beta.dtype)
    snr[:, ::3] = math.inf
    return observe(model.codebook, tokens, snr, generator(seed + 1))


def answer(model, left, right, present=None):
    if model.between is None:
        return model.readout(left, present)
    return model.context(left, right, present)


def gradients(model, nats):
    named = dict(model.named_parameters())
    # The states of both batches are made of the same codes.
    taken = torch.autograd.grad(nats.sum(), list(named.values()), retain_graph=True)
    return dict(zip(named, taken, strict=True))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("positions", ["rotary", "learned:5", "grid:2x4"])
def test_nats_and_gradients_of_a_sequence_are_the_same_alone_and_in_a_padded_batch(name, positions):
    model, rows = shaken(name, positions=positions), sequences()
    lefts = [noisy(model, row, 10 * n) for n, row in enumerate(rows)]
    rights = [noisy(model, row, 10 * n + 5) for n, row in enumerate(rows)]
    alone = [answer(model, *pair).token_nats(row)
             for pair, row in zip(zip(lefts, rights, strict=True), rows, strict=True)]  # fmt: skip
    tokens = torch.full(PRESENT.shape, -1)
    tokens[PRESENT] = torch.cat(rows, 1)[0]
    together = answer(model, joined(lefts), joined(rights), PRESENT)
    nats = together.token_nats(tokens.masked_fill(tokens == BOUNDARY, -1))
    free = torch.cat(rows, 1)[0] != BOUNDARY
    kept = torch.cat(alone, 1)[0][free]
    torch.testing.assert_close(nats[PRESENT][free], kept, atol=1e-10, rtol=0)
    assert (nats[~PRESENT] == 0).all()
    expected, found = gradients(model, kept), gradients(model, nats)
    assert expected.keys() == found.keys()
    for each, gradient in expected.items():
        torch.testing.assert_close(found[each], gradient, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_trained_on_is_the_same_alone_and_in_a_padded_batch(name):
    model, rows = shaken(name), sequences()
    tokens = torch.full(PRESENT.shape, -1)
    tokens[PRESENT] = torch.cat(rows, 1)[0]
    # No noise is drawn at the endpoints, so both see the same.
    snr = torch.tensor([0.0, math.inf, 0.0, 0.0, math.inf, 0.0, 0.0], dtype=torch.float64)
    snr = torch.where(tokens == BOUNDARY, torch.inf, snr)
    nats, is_target = model.token_nats(tokens, snr, None, generator(0))
    assert not is_target[~PRESENT].any()
    assert not is_target[tokens == BOUNDARY].any()
    assert is_target.any()
    for n, row in enumerate(rows):
        alone = model.token_nats(row, snr[n : n + 1, : row.shape[1]], None, generator(0))
        assert torch.equal(is_target[n, : row.shape[1]], alone.is_target[0])
        torch.testing.assert_close(nats[n, : row.shape[1]], alone.nats[0], atol=1e-10, rtol=0)
    for gradient in gradients(model, nats).values():
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_batch_without_absent_places_is_computed_as_if_there_were_none(name):
    model = shaken(name, torch.float32)
    tokens = torch.randint(0, V, (3, LONGEST), generator=generator(3))
    states = noisy(model, tokens, 1), noisy(model, tokens, 7)
    everywhere = answer(model, *states, torch.ones_like(tokens).bool())
    torch.testing.assert_close(answer(model, *states).hidden, everywhere.hidden)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_half_products_too_absent_places_change_nothing_to_the_last_bit(name, dtype):
    torch.manual_seed(0)
    network = ARCHITECTURES[name](ModelConfig(V, 16, 4, 2, neighbour_logit=3.0).backbone)
    assert isinstance(network, torch.nn.Module)
    x = torch.randn(len(LENGTHS), LONGEST, 16, generator=generator(1))
    other = torch.where(PRESENT[..., None], x, 9 * torch.randn(x.shape, generator=generator(2)))
    network.to(dtype)
    with half_products():
        hidden, again = (network(e.to(dtype), around=Surroundings(PRESENT)) for e in (x, other))
    assert torch.equal(hidden[PRESENT], again[PRESENT])
    assert hidden.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_attention_to_the_keys_present_is_attention_to_them_alone(dtype):
    q, k, v = torch.randn(3, 2, 6, 2, 8, generator=generator(0), dtype=torch.float64).to(dtype)
    present = torch.arange(6) < torch.tensor([4, 4])[:, None]
    few = attend(q, k[:, :4], v[:, :4], False)
    slack = 2e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(attend(q, k, v, False, present), few, atol=slack, rtol=slack)


def test_every_row_is_turned_round_its_own_end_and_back():
    places = torch.arange(1.0, LONGEST + 1).expand(len(LENGTHS), -1)[..., None]
    around = Surroundings(PRESENT)
    turned = around.turned(places)
    assert turned[1, :, 0].tolist() == [3, 2, 1, 7, 6, 5, 4]
    assert turned[0, :, 0].tolist() == [7, 6, 5, 4, 3, 2, 1]
    assert torch.equal(around.turned(turned), places)
    assert torch.equal(EVERYWHERE.turned(places), places.flip(1))
