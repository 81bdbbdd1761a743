"""Plaid: the bound of a Gaussian diffusion, its schedule's two gradients, its sampler."""

import pytest
import torch
from methods.oracles import marginals
from methods.worlds import (
    LENGTH,
    VOCABULARY,
    assert_distribution,
    assert_estimates,
    every_sequence,
    frame,
    generator,
    true_log_probs,
)
from torch.nn import functional as F

from stochloc.methods.plaid import G_RANGE, SPEED, LearnedSchedule, Plaid

NEVER = torch.tensor([False])


class CodeOracle(torch.nn.Module):
    """The exact distribution of a token given the noisy codes of the others."""

    def __init__(self, codes):
        super().__init__()
        self.codes = codes

    def forward(self, inputs, scaled):
        dimension = self.codes.shape[1]
        g = (G_RANGE[0] + (G_RANGE[1] - G_RANGE[0]) * scaled)[:, None, None]
        alpha2, sigma2 = torch.sigmoid(-g), torch.sigmoid(g)
        z = inputs[..., :dimension] * (alpha2 / dimension + sigma2).sqrt()
        scale = alpha2.sqrt() / sigma2
        return marginals((scale * z @ self.codes.T).double(), cavity=True).float()


def exact(ends=(-5.0, 10.0)):
    codes = F.normalize(torch.randn(VOCABULARY, 4, generator=generator(8)), dim=-1)
    method = Plaid(CodeOracle(codes), VOCABULARY, 4)
    method.embeddings.data, method.schedule.slow_ends.data = codes, torch.tensor(ends) / SPEED
    method.schedule.slow_log_rises.data = 0.5 / SPEED * torch.randn(64, generator=generator(9))
    return method


@pytest.mark.parametrize("row", [0, 13, 20])
def test_with_the_exact_network_the_bound_is_minus_log_p(row):
    rows = every_sequence()[row].expand(600, -1)
    assert_estimates(exact().bound(rows, 20, generator(row)).values, float(-true_log_probs()[row]))


@pytest.mark.bulk
def test_with_the_exact_network_the_sampler_draws_from_p():
    drawn = exact().sample(3000, LENGTH, 150, generator(2))
    assert drawn.denoiser_calls == 150
    assert_distribution(drawn.tokens, true_log_probs())


def test_the_bound_makes_two_calls_at_every_time_and_at_the_end():
    torch.manual_seed(0)
    method, calls = Plaid.from_frame(frame()), []
    network = method.network
    network.register_forward_hook(lambda *_: calls.append(1))
    estimate = method.bound(every_sequence(), 3, generator())
    assert estimate.denoiser_calls == len(calls) == 8


def test_every_fourth_sequence_is_self_conditioned_and_trains_the_network_alone():
    torch.manual_seed(0)
    method, batches = Plaid.from_frame(frame()), []
    method.network.register_forward_hook(lambda _, inputs, __: batches.append(len(inputs[0])))
    tokens, time = every_sequence()[:8], torch.full((8,), 0.5)
    method.loss(tokens, generator(1))
    assert batches == [2, 8]
    for rows, moves in ((torch.ones(8) > 0, False), (torch.ones(8) < 0, True)):
        method.zero_grad()
        sum(part.mean() for part in method.part_nats(tokens, time, rows, generator(2))).backward()
        for own in (method.embeddings, *method.schedule.parameters()):
            assert (own.grad is not None and bool((own.grad != 0).any())) == moves
        assert all(bool((p.grad != 0).any()) for p in [method.network.head])


def test_the_input_of_the_second_pass_is_the_guess_of_the_first():
    torch.manual_seed(0)
    method, seen = Plaid.from_frame(frame()), []
    method.network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    tokens, time = every_sequence()[:4], torch.full((4,), 0.5)
    method.part_nats(tokens, time, torch.tensor([True, False, True, False]), generator(2))
    z, x_hat = seen[1].chunk(2, -1)
    assert not seen[0].chunk(2, -1)[1].any()
    assert not x_hat[1::2].any()
    # The untrained network returns 0, so the guess is the softmax of the evidence alone.
    g = method.schedule.level(method.schedule.interior(time)).g[:, None, None]
    dimension, alpha2, sigma2 = z.shape[-1], torch.sigmoid(-g), torch.sigmoid(g)
    evidence = alpha2.sqrt() / sigma2 * (alpha2 / dimension + sigma2).sqrt() * z
    guess = dimension**0.5 * (evidence @ method.codes.T).softmax(-1) @ method.codes
    torch.testing.assert_close(x_hat[::2], guess[::2])


def test_embeddings_and_ends_move_seven_times_as_far_as_a_parameter_of_adam():
    torch.manual_seed(0)
    method, lr = Plaid.from_frame(frame()), 1e-4
    torch.testing.assert_close(method.embeddings.norm(dim=-1), torch.full((VOCABULARY,), 1 / SPEED))
    before = SPEED * method.schedule.slow_ends.detach().clone()
    torch.testing.assert_close(before, torch.tensor([-3.0, 6.0]))
    optimizer = torch.optim.Adam(method.parameters(), lr=lr)
    method.loss(every_sequence(), generator(1)).backward()
    optimizer.step()
    moved = (SPEED * method.schedule.slow_ends - before).abs()
    torch.testing.assert_close(moved, torch.full((2,), SPEED * lr), atol=1e-6, rtol=1e-2)


def test_the_schedule_rises_from_end_to_end_and_its_slope_is_its_derivative():
    schedule = LearnedSchedule()
    schedule.slow_log_rises.data = torch.randn(64, generator=generator(1)) / SPEED
    time = torch.linspace(0, 1, 1025)[:-1] + 1 / 2050
    share, slope = schedule.interior(time)
    assert bool((share[1:] > share[:-1]).all())
    ends = schedule.interior(torch.tensor([0.0, 1.0]))[0]
    torch.testing.assert_close(ends, torch.tensor([0.0, 1.0]))
    h = 1e-4
    quotient = (schedule.interior(time + h)[0] - schedule.interior(time - h)[0]) / (2 * h)
    torch.testing.assert_close(slope, quotient, atol=2e-2, rtol=2e-2)


def test_the_gradient_of_the_interior_is_that_of_the_variance_and_of_the_ends_that_of_the_bound():
    # One backward pass gives d(loss²) for the interior and d(loss) for the ends.
    torch.manual_seed(0)
    method = Plaid.from_frame(frame())
    tokens, time = every_sequence()[5:6], torch.tensor([0.4])

    def gradients(power):
        method.zero_grad()
        with pytest.MonkeyPatch.context() as patch:
            if power:
                # Without the hook, the plain gradient of a power of the loss.
                patch.setattr(torch.Tensor, "register_hook", lambda *_: None)
            _, nats = method.part_nats(tokens, time, NEVER, generator(3))
            (nats.mean() ** (power or 1)).backward()
        ends, rises = method.schedule.slow_ends.grad, method.schedule.slow_log_rises.grad
        assert ends is not None
        assert rises is not None
        return ends.clone(), rises.clone()

    hooked, plain, square = gradients(0), gradients(1), gradients(2)
    torch.testing.assert_close(hooked[0], plain[0])
    torch.testing.assert_close(hooked[1], square[1])
    assert float(square[1].abs().max()) > 1e-6


@pytest.mark.bulk
def test_training_the_schedule_lowers_the_variance_of_the_loss():
    torch.manual_seed(0)
    method = Plaid.from_frame(frame())
    method.schedule.slow_ends.data = torch.tensor([-6.0, 10.0]) / SPEED
    rows = every_sequence().repeat(60, 1)
    never = NEVER.expand(len(rows))

    def spread():
        time = torch.rand(len(rows), generator=generator(1))
        with torch.no_grad():
            return float(method.part_nats(rows, time, never, generator(2))[1].mean(-1).std())

    before, optimizer = (
        spread(),
        torch.optim.Adam([method.schedule.slow_log_rises], lr=0.05 / SPEED),
    )
    for seed in range(60):
        optimizer.zero_grad()
        time = torch.rand(len(rows), generator=generator(10 + seed))
        method.part_nats(rows, time, never, generator(100 + seed))[1].mean().backward()
        optimizer.step()
    assert spread() < 0.8 * before
