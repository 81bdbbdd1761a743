"""What holds of the network whatever it has learned: its closed forms, precision and codes."""

import math
from dataclasses import replace

import pytest
import torch
from core.worlds import PATHS

from stochloc.core import (
    Ancestral,
    Euler,
    Follow,
    LearnedCodebook,
    Linearised,
    State,
    bound,
    observe,
)
from stochloc.nn import TWO_SIDED, LocalizationModel, ModelConfig
from stochloc.nn.backbones.encoder import Transformer, neighbour_bias, rotary_angles, rotate
from stochloc.nn.vocabulary import convert
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import TrainingConfig

V, LENGTH = 5, 6
COUNTS = torch.tensor([8, 1, 3, 2, 11])
SIMPLEX = ModelConfig(V, width=16, depth=2, heads=2, beta=1.0, rotary_base=100.0)
SIMPLEX_LOOKING = replace(SIMPLEX, neighbour_logit=3.0)
LEARNED = ModelConfig(V, 16, 2, 2, code_dimension=4)
PAPER = ModelConfig(V, 16, 2, 2, code_dimension=4, evidence=False, unigram=False)
CONFIGS = {"simplex": SIMPLEX, "looking": SIMPLEX_LOOKING, "learned": LEARNED, "paper": PAPER,
           "slot": ModelConfig(V, 16, 2, 2, mask_slot=True),
           "two-sided": replace(SIMPLEX_LOOKING, depth=3, architecture=TWO_SIDED)}  # fmt: skip


def generator(seed):
    return torch.Generator().manual_seed(seed)


def shaken(config):
    """A model whose every weight has been moved from its start, as training would."""
    torch.manual_seed(0)
    model = LocalizationModel(config)
    model.set_unigram(COUNTS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(1)))
    return model.eval()


def noisy(model, snr=2.0):
    tokens = torch.randint(0, V, (3, LENGTH), generator=generator(2))
    gamma = torch.full(tokens.shape, snr)
    gamma[:, 2], gamma[:, 4] = math.inf, 0.0
    return tokens, observe(model.codebook, tokens, gamma, generator(3))


@pytest.mark.parametrize("path", PATHS, ids=lambda name: name.replace(" ", "_"))
def test_untrained_the_ancestral_walk_gives_independent_tokens_their_exact_cost_on_every_path(path):
    """For independent tokens the costs of the steps telescope to -log p, whatever the noise."""
    model = LocalizationModel(SIMPLEX)
    model.set_unigram(COUNTS)
    log_p = ((COUNTS + 1) / (COUNTS + 1).sum()).log().double()
    tokens = torch.randint(0, V, (2, LENGTH), generator=generator(1))
    nats = bound(model, tokens, Follow(PATHS[path]), Ancestral(), 24, generator(2)).token_nats
    torch.testing.assert_close(nats, -log_p[tokens], atol=2e-4, rtol=0)


def test_untrained_the_euler_bound_lies_above_the_entropy_of_independent_tokens():
    model = LocalizationModel(SIMPLEX)
    model.set_unigram(COUNTS)
    p = (COUNTS + 1) / (COUNTS + 1).sum()
    tokens = torch.multinomial(p, 400 * 8, replacement=True, generator=generator(1)).view(400, 8)
    entropy = float(torch.special.entr(p).sum()) * 8
    estimate = bound(model, tokens, Follow(PATHS["diffusion, lomax"]), Euler(), 16, generator(2))
    assert entropy - 4 * estimate.stderr < estimate.mean < 2 * entropy


@pytest.mark.parametrize(
    ("config", "reads"), [(PAPER, False), (replace(PAPER, unigram=True), True)]
)
def test_token_frequencies_move_the_posterior_of_a_model_with_a_unigram_prior_alone(config, reads):
    model = shaken(config)
    _, state = noisy(model)
    before = model(state).log_probs
    model.set_unigram(COUNTS.flip(0))
    assert torch.equal(model(state).log_probs, before) != reads


def test_beta_starts_at_the_papers_value_unless_another_is_given():
    assert LocalizationModel(ModelConfig(9, 8, 1, 2)).beta.item() == pytest.approx(1 / 3)
    assert LocalizationModel(LEARNED).beta.item() == pytest.approx(1 / 2)
    assert LocalizationModel(SIMPLEX).beta.item() == 1


@pytest.mark.parametrize("config", [SIMPLEX, LEARNED], ids=["simplex", "learned"])
def test_logits_are_context_plus_prior_plus_evidence(config):
    model = shaken(config)
    _, state = noisy(model)
    evidence = state.z @ model.codebook.vectors.T
    embedded = convert(state.z, state.known, model.codebook, model.embeddings, model.beta,
                       model.log_unigram, model.slot)  # fmt: skip
    context = model.transformer(embedded) @ model.head.T
    left = model.readout(state).logits - evidence - model.log_unigram
    torch.testing.assert_close(left, context, atol=1e-5, rtol=0)


def test_without_evidence_the_logits_leave_it_out():
    model = shaken(PAPER)
    torch.nn.init.zeros_(model.head)
    _, state = noisy(model)
    assert (model.readout(state).logits == 0).all()


@pytest.mark.parametrize("slot", [None, torch.tensor([3.0])], ids=["no slot", "slot"])
def test_a_known_token_gets_its_own_row_bit_for_bit_at_any_beta(slot):
    rows = torch.randn(V + (slot is not None), 7, generator=generator(0))
    known = torch.arange(V)[None]
    z = 5 * torch.randn(1, V, 4, generator=generator(1))
    codebook = LearnedCodebook(V, 4, generator(2))
    prior = torch.randn(V, generator=generator(3))
    out = convert(z, known, codebook, rows, torch.tensor(0.37), prior, slot)
    assert torch.equal(out[0], rows[:V])


def test_the_converter_with_beta_one_is_the_exact_posterior_mean_of_learned_codes_too():
    codebook, rows = LearnedCodebook(V, 4, generator(0)), torch.randn(V, 3, generator=generator(1))
    log_p = torch.randn(V, generator=generator(2)).log_softmax(0)
    z = 3 * torch.randn(2, 3, 4, generator=generator(3))
    out = convert(z, torch.full((2, 3), -1), codebook, rows, torch.tensor(1.0), log_p, None)
    joint = log_p.exp() * torch.exp(torch.einsum("bld,vd->blv", z, codebook.vectors))
    expected = torch.einsum("blv,vw->blw", joint / joint.sum(-1, keepdim=True), rows)
    torch.testing.assert_close(out, expected)


def test_the_slots_weight_is_its_share_of_the_softmax():
    codebook = LearnedCodebook(V, 4, generator(0))
    z, slot = torch.randn(1, 1, 4, generator=generator(1)), torch.tensor([0.8])
    rows = torch.eye(V + 1)
    out = convert(z, torch.tensor([[-1]]), codebook, rows, torch.tensor(0.5), torch.zeros(V), slot)
    scores = (0.5 * codebook.vectors @ z[0, 0]).exp()
    torch.testing.assert_close(out[0, 0, -1], slot.exp()[0] / (slot.exp()[0] + scores.sum()))


@pytest.mark.parametrize("name", CONFIGS)
def test_float32_agrees_with_float64(name):
    model = shaken(CONFIGS[name])
    tokens, state = noisy(model)
    single = model(state)
    exact = model.double()(State(state.z.double(), state.known, state.snr.double()))
    assert exact.log_probs.dtype == torch.float64
    torch.testing.assert_close(
        single.log_prob(tokens).double(), exact.log_prob(tokens), atol=2e-5, rtol=1e-5
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_kept_in_bfloat16_gives_finite_numbers_at_every_snr(name):
    model = shaken(CONFIGS[name]).bfloat16()
    tokens = torch.randint(0, V, (2, 5), generator=generator(0))
    snr = torch.tensor([0.0, 1e-8, 1.0, 1e4, math.inf], dtype=torch.bfloat16).expand(2, 5)
    nats, is_target = model.token_nats(tokens, snr, None, generator(1))
    assert nats.isfinite().all()
    if model.between is None:
        assert is_target[0].tolist() == [True, True, True, True, False]
        assert (nats[:, 4] == 0).all()
    else:
        assert is_target.all()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_training_loss_is_finite_from_no_evidence_to_certainty(name):
    model = shaken(CONFIGS[name])
    tokens = torch.randint(0, V, (2, 5), generator=generator(0))
    snr = torch.tensor([0.0, 1e-8, 1.0, 1e6, math.inf]).expand(2, 5)
    nats, _ = model.token_nats(tokens, snr, None, generator(1))
    nats.sum().backward()
    assert nats.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_learned_codes_move_and_stay_on_the_sphere_while_they_are_trained():
    torch.manual_seed(0)
    model = LocalizationModel(PAPER)
    before = model.codebook.vectors.detach().clone()
    optimizer = make_optimizer(model, TrainingConfig(learning_rate=0.05))
    tokens = torch.randint(0, V, (4, LENGTH), generator=generator(0))
    for step in range(8):
        snr = torch.full(tokens.shape, 3.0)
        model.token_nats(tokens, snr, None, generator(step)).nats.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    after = model.codebook.vectors
    torch.testing.assert_close(after.norm(dim=-1), torch.ones(V))
    assert (after - before).norm(dim=-1).min() > 0.01


def test_turning_keeps_norms():
    x = torch.randn(3, 9, 8, generator=generator(0))
    turned = rotate(x, rotary_angles(9, 8, 50.0, x.device))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, 0], x[:, 0])
    assert not torch.allclose(turned[:, 1:], x[:, 1:], atol=0.1)


def test_apples_real_branch_turns_as_the_complex_one_does():
    class OnMps(torch.Tensor):
        is_mps = True

    x, angles = (
        torch.randn(2, 9, 8, generator=generator(0)),
        rotary_angles(9, 8, 50.0, torch.device("cpu")),
    )
    real = rotate(x.as_subclass(OnMps), angles)
    assert isinstance(real, OnMps)
    torch.testing.assert_close(real.as_subclass(torch.Tensor), rotate(x, angles))


def test_every_matrix_of_a_new_transformer_keeps_the_variance_of_what_it_is_given():
    torch.manual_seed(0)
    matrices = [p for p in Transformer(64, 2, 4, 100.0, 12.0).blocks.parameters() if p.ndim == 2]
    assert len(matrices) == 2 * 4
    for matrix in matrices:
        # Relative errors of a variance of n numbers are 1.4/√n, below 0.023 here: five of them.
        variance = float(matrix.detach().square().mean()) * matrix.shape[1]
        assert variance == pytest.approx(1.0, abs=0.12)


def test_rotations_run_from_one_radian_per_token_down_to_the_inverse_of_the_base():
    angles = rotary_angles(2, 8, 10_000.0, torch.device("cpu"))
    assert (angles[0] == 0).all()
    torch.testing.assert_close(angles[1], torch.tensor([1.0, 0.1, 0.01, 0.001]))


def test_a_block_knows_distances_between_tokens_but_not_their_places():
    torch.manual_seed(0)
    block = Transformer(16, 1, 2, 100.0).blocks[0]
    x = torch.randn(2, 6, 16, generator=generator(0))
    angles = rotary_angles(40, 8, 100.0, x.device)
    torch.testing.assert_close(block(x, angles[:6]), block(x, angles[30:36]), atol=1e-5, rtol=1e-5)
    order = torch.tensor([1, 0, 2, 3, 4, 5])
    swapped = block(x[:, order], angles[:6])[:, order]
    assert (swapped - block(x, angles[:6])).abs().max() > 1e-3


def test_every_token_attends_to_both_sides_and_to_the_farthest_one():
    torch.manual_seed(0)
    network = Transformer(16, 1, 2, 100.0)
    x = torch.randn(1, 7, 16, generator=generator(0), requires_grad=True)
    for place in (0, 3, 6):
        (gradient,) = torch.autograd.grad(network(x)[0, place, 0], x)
        assert (gradient[0].abs().sum(-1) > 1e-3).all()


@pytest.mark.parametrize("is_causal", [False, True])
def test_the_linearised_networks_derivative_is_torchs_own_and_a_difference_quotient(is_causal):
    model = shaken(SIMPLEX_LOOKING).double().requires_grad_(False)
    for block in model.transformer.blocks:
        block.causal = is_causal
    state = noisy(model)[1]
    direction = model(state).mean.masked_fill(state.is_known[..., None], 0.0)
    linearised = Linearised(model)
    assert torch.equal(linearised(state).mean, model(state).mean)
    tangent = linearised.derivative(state, direction)

    def x_hat(z: torch.Tensor) -> torch.Tensor:
        return model(State(z, state.known, state.snr)).mean

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = torch.func.jvp(x_hat, (state.z,), (direction,))[1]
    torch.testing.assert_close(tangent, expected, atol=1e-6, rtol=1e-5)
    h = 1e-3
    quotient = (x_hat(state.z + h * direction) - x_hat(state.z - h * direction)) / (2 * h)
    torch.testing.assert_close(tangent, quotient, atol=1e-4, rtol=1e-2)
    assert float(tangent.norm()) > 0.01
    # Asked about a state it was not called with, it asks first.
    assert torch.equal(Linearised(model).derivative(state, direction), tangent)


def test_a_head_of_a_new_network_looks_at_the_neighbour_it_was_given():
    # Queries and keys of the bias alone: the attention of head h peaks at its own distance.
    width, heads, base = 96, 6, 100.0
    bias = neighbour_bias(width, heads, base, 9.0)
    query, key = bias.unflatten(0, (2, 1, heads, width // heads)).expand(2, 20, heads, -1)
    angles = rotary_angles(20, width // heads, base, torch.device("cpu"))[:, None]
    logits = torch.einsum("qhd,khd->hqk", rotate(query, angles), rotate(key, angles))
    logits = logits / math.sqrt(width // heads)
    for head, distance in enumerate((-1, 1, -2, 2, -3, 3)):
        assert int(logits[head, 10].argmax()) == 10 + distance
        assert float(logits[head, 10].max()) == pytest.approx(9.0, rel=1e-5)
    assert neighbour_bias(width, heads, base, 0.0) is None
