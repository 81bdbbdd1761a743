"""A two-sided network that reads place by place: the answers of a call, the cost of a place."""

from contextlib import contextmanager

import pytest
import torch
from nn.shaken import CHOICES, V, generator, shaken

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Autoregressive,
    Follow,
    Streams,
    Tempered,
    finish,
    localize,
    observe,
    sample,
    start,
)
from stochloc.nn import Backbone, LocalizationModel, ModelConfig
from stochloc.nn.backbones.encoder import attend

LENGTH = 9


def mixed(model, rows=3):
    """A text, and a state with unseen, noisy and known tokens of it."""
    tokens = torch.randint(0, V, (rows, LENGTH), generator=generator(2))
    levels = torch.tensor([0.0, 0.7, 2.0, torch.inf], dtype=torch.float64)
    snr = levels[torch.randint(0, 4, tokens.shape, generator=generator(3))]
    return tokens, observe(model.codebook, tokens, snr, generator(4))


@contextmanager
def counted(stack):
    """The numbers of places that a stack is shown, call by call."""
    seen = []
    hook = stack.norm.register_forward_hook(lambda _, args, __: seen.append(args[0].shape[1]))
    yield seen
    hook.remove()


@pytest.mark.parametrize("choices", CHOICES, ids=str)
@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("places", [range(LENGTH), [0, 3, 4, 8], [5], [8]], ids=str)
def test_read_in_pieces_a_model_answers_as_in_one_call(places, depth, choices):
    model = shaken(depth, **choices)
    tokens, state = mixed(model)
    whole = model.between(state.reveal(tokens, torch.ones_like(state.is_known)), state)
    reader, begin = model.read(state), 0
    for place in places:
        answer = reader.next(tokens[:, begin:place])
        torch.testing.assert_close(answer.log_probs[:, 0], whole.log_probs[:, place])
        assert answer.log_probs.shape == (3, 1, V)
        assert answer.calls == 1
        begin = place


def test_tokens_that_nobody_decided_are_read_as_the_state_shows_them():
    model = shaken()
    tokens, state = mixed(model)
    told = torch.where(torch.arange(LENGTH) % 2 == 0, tokens, UNKNOWN)
    left = state.reveal(told, told != UNKNOWN)
    answer = model.read(state).next(told[:, :6])
    expected = model.between(left, state)
    torch.testing.assert_close(answer.log_probs[:, 0], expected.log_probs[:, 6])


@pytest.mark.parametrize("length", [1, 2, 40])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("positions", ["rotary", "grid:5x8"])
def test_with_memory_every_stream_gives_the_text_it_gives_without(length, temperature, positions):
    """Twelve sequences with different tokens given, float64: equal to the last token."""
    denoiser = Tempered(shaken(positions=positions), temperature)
    rows = 12
    known = torch.randint(0, V, (rows, length), generator=generator(5))
    share = torch.arange(rows)[:, None] / rows
    known[torch.rand(known.shape, generator=generator(6)) >= share] = UNKNOWN
    state = start(denoiser.codebook, rows, length, known)

    def streams():
        return Streams([generator(n) for n in range(rows)], torch.device("cpu"))

    walk = (denoiser, state, Follow(Autoregressive()), Ancestral(), length)
    with torch.no_grad():
        plain = finish(state, localize(*walk, streams()))
    assert torch.equal(sample(*walk, streams()).tokens, plain.tokens)


def test_an_infilling_computes_from_the_first_blank_to_the_last_and_nothing_else():
    model = shaken()
    known = torch.tensor([[1, 2, 0, UNKNOWN, UNKNOWN, 3, UNKNOWN, 4, 4]])
    state = start(model.codebook, 1, LENGTH, known)
    with counted(model.transformer.left) as left, counted(model.transformer.right) as right:
        drawn = sample(model, state, Follow(Autoregressive()), Ancestral(), LENGTH, generator(0))
    # The start token and the prefix at once, then a place a blank; nothing from the last one on.
    assert left == [4, 1, 2]
    assert right == [LENGTH]
    assert drawn.denoiser_calls == 3


def test_a_model_that_looks_at_the_place_it_is_asked_about_cannot_be_read():
    model = LocalizationModel(ModelConfig(V, 16, 1, 2))
    assert model.read(start(model.codebook, 1, LENGTH)) is None


@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("pieces", [[1] * 9, [9], [3, 1, 5], [4, 5]], ids=str)
def test_in_pieces_a_causal_stack_gives_what_it_gives_at_once(pieces, records):
    torch.manual_seed(0)
    stack = Backbone(16, 3, 2).transformer(causal=True).double()
    x = torch.randn(2, LENGTH, 16, dtype=torch.float64, generator=generator(7))
    past, answers = [], []
    with torch.set_grad_enabled(records):
        for piece in x.split(pieces, 1):
            answer, past = stack.extend(piece, past)
            answers.append(answer)
        torch.testing.assert_close(torch.cat(answers, 1), stack(x), atol=1e-6, rtol=1e-5)


def test_futures_of_one_past_stay_apart():
    torch.manual_seed(0)
    stack = Backbone(16, 2, 2).transformer(causal=True).double()
    x = torch.randn(2, 70, 16, dtype=torch.float64, generator=generator(7))
    with torch.no_grad():
        _, past = stack.extend(x[:, :3], [])
        # Twice further on, so that its keys have room behind them.
        for place in range(3, 40):
            _, past = stack.extend(x[:, place : place + 1], past)
        _, once = stack.extend(x[:, 40:45], past)
        _, again = stack.extend(x[:, 50:55], past)
        for future, middle in ((once, x[:, 40:45]), (again, x[:, 50:55])):
            answer, _ = stack.extend(x[:, 60:61], future)
            expected = stack(torch.cat([x[:, :40], middle, x[:, 60:61]], 1))[:, -1:]
            torch.testing.assert_close(answer, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("queries", [1, 2, 5])
def test_the_last_queries_of_causal_attention_see_all_that_comes_before(dtype, queries):
    q, k, v = torch.randn(3, 2, 6, 2, 8, generator=generator(0), dtype=torch.float64).to(dtype)
    whole = attend(q, k, v, True)
    last = attend(q[:, -queries:], k, v, True)
    slack = 2e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(last, whole[:, -queries:], atol=slack, rtol=slack)
