"""A network that never looks at the token it is asked about, proven by its derivatives."""

import math

import pytest
import torch
from nn.shaken import V, generator, shaken

from stochloc.core import Autoregressive, Follow, State, bound, observe, start, transitions
from stochloc.nn import MOSTLY_LEFT, TWO_SIDED, Backbone, LocalizationModel, ModelConfig
from stochloc.nn.backbones.two_sided import TwoSidedTransformer

LENGTH = 7


def noisy(model, seed=2):
    tokens = torch.randint(0, V, (2, LENGTH), generator=generator(seed))
    snr = 3 * torch.rand(tokens.shape, generator=generator(seed + 1), dtype=torch.float64)
    return tokens, observe(model.codebook, tokens, snr, generator(seed + 2))


@pytest.mark.parametrize(
    ("architecture", "depth"), [*((TWO_SIDED, n) for n in (1, 2, 3, 6)), (MOSTLY_LEFT, 3),
                                (MOSTLY_LEFT, 4)],
)  # fmt: skip
@pytest.mark.parametrize("positions", ["rotary", "learned:7", "grid:2x4:2x2"])
def test_an_answer_depends_on_every_place_of_its_side_and_never_on_its_own(
    architecture, depth, positions
):
    """The Jacobian of place i by z_j shown left is 0 for j >= i, shown right for j <= i, to the
    last bit; with blocks on a side every other entry differs from 0."""
    model = shaken(depth, architecture, positions=positions)
    _, left = noisy(model)
    _, right = noisy(model, seed=5)

    def answers(left_z, right_z):
        sides = (State(left_z, left.known, left.snr), State(right_z, right.known, right.snr))
        return model.context(*sides).logits[0].sum(-1)

    by_left, by_right = torch.autograd.functional.jacobian(answers, (left.z, right.z))
    seen_left = by_left[:, 0].abs().amax(-1) > 0
    seen_right = by_right[:, 0].abs().amax(-1) > 0
    before = torch.ones(LENGTH, LENGTH).tril(-1).bool()
    assert torch.equal(seen_left, before)
    # A stack without blocks sees the neighbour alone.
    only_next = torch.diag(torch.ones(LENGTH - 1), 1).bool()
    has_blocks = len(model.transformer.right.blocks) > 0
    assert torch.equal(seen_right, before.T if has_blocks else only_next)


@pytest.mark.parametrize(
    ("architecture", "depth", "blocks"),
    [(TWO_SIDED, 1, (1, 0)), (TWO_SIDED, 4, (2, 2)), (TWO_SIDED, 5, (3, 2)),
     (MOSTLY_LEFT, 3, (3, 0)), (MOSTLY_LEFT, 4, (3, 1)), (MOSTLY_LEFT, 12, (9, 3))],
)  # fmt: skip
def test_the_right_stack_has_half_of_the_blocks_or_a_quarter(architecture, depth, blocks):
    network = shaken(depth, architecture).transformer
    assert (len(network.left.blocks), len(network.right.blocks)) == blocks


def test_a_known_token_is_asked_about_as_any_other():
    model = shaken(4)
    tokens, state = noisy(model)
    place = torch.arange(LENGTH) == 3
    known = state.reveal(tokens, place.expand(tokens.shape))
    for_known, for_noisy = (model.between(each, each).log_probs for each in (known, state))
    torch.testing.assert_close(for_known[:, 3], for_noisy[:, 3])
    assert (for_known[:, 2] - for_noisy[:, 2]).abs().max() > 1e-3
    assert (model.between(known, known).confidence[:, 3] < 1).all()


def test_the_denoiser_is_the_leave_one_out_posterior_after_the_evidence():
    model = shaken(4, code_dimension=3)
    tokens, state = noisy(model)
    state = state.reveal(tokens, (torch.arange(LENGTH) == 2).expand(tokens.shape))
    observed = model.between(state, state).observed(state)
    torch.testing.assert_close(model(state).log_probs, observed.log_probs)


@pytest.mark.parametrize("length", [1, 2, 7])
def test_one_call_gives_all_conditionals_of_the_chain_rule_as_a_walk_of_all_tokens_does(length):
    model = shaken(4)
    tokens = torch.randint(0, V, (3, length), generator=generator(4))
    nothing = start(model.codebook, *tokens.shape)
    known = start(model.codebook, *tokens.shape, known=tokens)
    forwards = -model.between(known, nothing).log_prob(tokens)
    backwards = -model.between(nothing, known).log_prob(tokens)
    orders = {(): forwards, tuple(reversed(range(length))): backwards}
    for order, at_once in orders.items():
        path = Follow(Autoregressive(order or None))
        walk = bound(model, tokens, path, transitions.Ancestral(), length, generator(0))
        torch.testing.assert_close(at_once.double(), walk.token_nats)


def test_sides_alike_are_embedded_once_and_answer_as_two():
    model = shaken(4)
    _, state = noisy(model)
    twin = State(state.z.clone(), state.known.clone(), state.snr.clone())
    torch.testing.assert_close(
        model.between(state, state).log_probs, model.between(state, twin).log_probs
    )


@pytest.mark.parametrize("known_side", ["left", "right"])
def test_a_side_that_is_alike_in_all_sequences_is_read_in_one_row_and_gives_the_same(known_side):
    model = shaken(4)
    tokens = torch.randint(0, V, (3, LENGTH), generator=generator(4))
    known = start(model.codebook, *tokens.shape, known=tokens)
    nothing = start(model.codebook, *tokens.shape)
    sides = (known, nothing) if known_side == "left" else (nothing, known)
    rows = []
    hooks = [
        stack.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
        for stack in (model.transformer.left, model.transformer.right)
    ]
    answer = model.between(*sides).log_probs
    for hook in hooks:
        hook.remove()
    assert rows == ([3, 1] if known_side == "left" else [1, 3])
    torch.testing.assert_close(answer, model.context(*sides).posterior.log_probs)


def test_all_sequences_alike_are_answered_as_many_times():
    model = shaken(4)
    nothing = start(model.codebook, 3, LENGTH)
    alone = start(model.codebook, 1, LENGTH)
    answer = model.between(nothing, nothing).log_probs
    torch.testing.assert_close(answer, model.between(alone, alone).log_probs.expand(3, -1, -1))


def test_the_left_stack_has_the_larger_half_of_the_blocks():
    for depth in range(1, 8):
        network = TwoSidedTransformer(Backbone(16, depth, 2))
        sizes = [len(stack.blocks) for stack in (network.left, network.right)]
        assert sizes == [math.ceil(depth / 2), depth // 2]


def test_an_encoder_cannot_answer_from_two_sides():
    assert LocalizationModel(ModelConfig(V, 16, 1, 2)).between is None
