"""Networks for other methods: causal or not, told a time or not, whole or position by position."""

import math
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from stochloc.nn import Backbone, Network, token_network
from stochloc.nn.backbones.encoder import (
    TransformerBlock,
    attend,
    neighbour_bias,
    rotary_angles,
    rotate,
)
from stochloc.nn.backbones.products import half_products
from stochloc.nn.network import TimeEmbedding

SMALL = Backbone(width=32, depth=2, heads=2)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def shaken(network, size=0.3):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator(1)))
    return network


def tokens(batch=3, length=9):
    return torch.randint(5, (batch, length), generator=generator(2))


def test_an_untrained_network_says_zero_everywhere():
    assert not bool(token_network(5, 4, SMALL)(tokens()).any())


def test_a_network_of_tokens_sees_both_sides_unless_told_otherwise():
    network, changed = shaken(token_network(5, 4, SMALL)), tokens()
    changed[:, -1] = (changed[:, -1] + 1) % 5
    assert bool((network(tokens()) != network(changed))[:, 0].any())


def test_a_causal_network_sees_itself_and_what_came_before_and_another_sees_all():
    for causal, settings in ((True, [True]), (False, [False]), (False, [])):
        torch.manual_seed(0)
        network = shaken(Network(nn.Linear(3, 32), 4, SMALL, *settings))
        x = torch.randn(1, 7, 3, generator=generator(3), requires_grad=True)
        for place in (0, 3, 6):
            (gradient,) = torch.autograd.grad(network(x)[0, place].sum(), x)
            is_seen = gradient[0].abs().sum(-1) > 1e-6
            assert bool(is_seen[: place + 1].all())
            assert bool(is_seen[place + 1 :].any()) == (not causal and place < 6)


def test_position_by_position_a_causal_network_gives_what_it_gives_at_once():
    torch.manual_seed(0)
    network = shaken(token_network(5, 4, SMALL, causal=True)).double()
    x, past, answers = tokens(), [], []
    for place in range(x.shape[1]):
        answer, past = network.extend(x[:, place : place + 1], past)
        answers.append(answer)
    torch.testing.assert_close(torch.cat(answers, 1), network(x), atol=1e-6, rtol=1e-5)
    weights = torch.randn(3, 9, 4, generator=generator(4), dtype=torch.float64)
    parameters = list(network.parameters())
    serial = torch.autograd.grad((torch.cat(answers, 1) * weights).sum(), parameters)
    whole = torch.autograd.grad((network(x) * weights).sum(), parameters)
    for one, other in zip(serial, whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_timed_network_depends_on_the_time_once_it_is_trained():
    torch.manual_seed(0)
    network = token_network(5, 4, SMALL, timed=True)
    network.head.data.normal_(generator=generator(5))
    early, late = torch.zeros(3), torch.full((3,), 0.7)
    torch.testing.assert_close(network(tokens(), early), network(tokens(), late))
    shaken(network)
    gap = (network(tokens(), early) - network(tokens(), late)).detach().abs().max()
    assert float(gap) > 1e-3


def test_a_time_is_told_by_waves_from_half_a_turn_to_a_thousand_times_as_many():
    width, times = 6, [0.0, 0.3, 1.0]
    embedding = shaken(TimeEmbedding(width)).double()
    rows = []
    for time in times:
        angles = [math.pi * 1000 ** (k / 3) * time for k in range(3)]
        waves = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        rows.append(torch.tensor(waves, dtype=torch.float64))
    hidden = nn.functional.silu(embedding.inner(torch.stack(rows)))
    expected = embedding.outer(hidden)
    told = embedding(torch.tensor(times, dtype=torch.float64)).detach()
    torch.testing.assert_close(told, expected, atol=1e-3, rtol=0)
    assert float((told[0] - told[1]).abs().max()) > 0.01


def test_the_heads_of_a_causal_network_begin_by_looking_back():
    bias = neighbour_bias(64, 4, 100.0, 9.0, causal=True)
    assert bias is not None
    query, key = bias.unflatten(0, (2, 1, 4, 16)).expand(2, 20, 4, -1)
    angles = rotary_angles(20, 16, 100.0, torch.device("cpu"))[:, None]
    logits = torch.einsum("qhd,khd->hqk", rotate(query, angles), rotate(key, angles))
    for head in range(4):
        assert int(logits[head, 10].argmax()) == 10 - 1 - head


@pytest.mark.parametrize("causal", [True, False])
def test_a_block_is_the_plain_formula_so_that_saved_weights_keep_their_meaning(causal):
    torch.manual_seed(0)
    width, heads, length = 8, 2, 5
    block = shaken(TransformerBlock(width, heads, torch.randn(2 * width), causal))
    x = torch.randn(3, length, width)
    angles = rotary_angles(length, width // heads, 100.0, x.device)
    n = nn.functional.layer_norm(x, [width], block.attention_norm.weight)
    q, k, v = (n @ block.qkv.weight.T).split(width, -1)
    q, k = q + block.qk_bias[:width], k + block.qk_bias[width:]
    q, k, v = (a.unflatten(-1, (heads, -1)).transpose(1, 2) for a in (q, k, v))
    logits = rotate(q, angles) @ rotate(k, angles).mT / math.sqrt(width // heads)
    if causal:
        logits = logits.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
    mixed = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
    y = x + mixed @ block.attention_out.weight.T
    m = nn.functional.layer_norm(y, [width], block.mlp_norm.weight)
    expected = y + (m @ block.mlp_in.weight.T).clamp(min=0) ** 2 @ block.mlp_out.weight.T
    torch.testing.assert_close(block(x, angles), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("timed", [True, False])
def test_all_methods_get_the_same_transformer_whatever_else_they_need(timed):
    plain, other = token_network(5, 5, SMALL), token_network(6, 5, SMALL, timed=timed)
    sizes = [sum(p.numel() for p in network.transformer.parameters()) for network in (plain, other)]
    assert sizes[0] == sizes[1]


def test_half_products_change_gradients_by_little_and_bounds_and_samples_not_at_all():
    torch.manual_seed(0)
    network = shaken(token_network(5, 4, SMALL), 0.05)
    with torch.no_grad():
        full = network(tokens())
    gradients = {}
    for is_half in (False, True):
        with half_products() if is_half else nullcontext():
            with torch.no_grad():
                assert torch.equal(network(tokens()), full)
            answer = network(tokens())
        assert answer.dtype == torch.float32
        assert torch.equal(answer, full) != is_half
        weight = network.transformer.get_parameter("blocks.0.qkv.weight")
        (gradients[is_half],) = torch.autograd.grad(answer.square().sum(), weight)
    size = float(gradients[False].norm())
    # bfloat16 keeps 8 bits: a part in 256 for each factor.
    assert 1e-4 * size < float((gradients[True] - gradients[False]).norm()) < 0.05 * size


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_attention_is_the_softmax_mean_of_the_values(dtype, is_causal):
    q, k, v = torch.randn(3, 2, 6, 2, 8, generator=generator(0), dtype=torch.float64).to(dtype)
    scores = torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) / 8**0.5
    if is_causal:
        scores = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
    expected = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v.double())
    for is_mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            mixed = attend(q, k, v, is_causal)
        assert mixed.dtype == dtype
        slack = 2e-2 if dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(mixed.double(), expected, atol=slack, rtol=slack)
