"""What is not a path, a policy, a number of steps or a text is refused in one clear sentence."""

import math

import pytest
import torch
from core.worlds import ADAPTIVE, BOUNDED, PATHS, TRANSITIONS, generator

from stochloc.core import (
    Ancestral,
    Apart,
    Autoregressive,
    Block,
    Corrected,
    Custom,
    Decode,
    Diffusion,
    Euler,
    ExactDenoiser,
    Follow,
    Interleaved,
    Lomax,
    Masked,
    Reveal,
    Rolling,
    Share,
    SimplexCodebook,
    Then,
    Uniform,
    bound,
    chain_deviation,
    in_order,
    left_to_right,
    line_integral,
    localize,
    measure_step_costs,
    right_to_left,
    sample,
    start,
)
from stochloc.data import Cyclic

# The types are wrong on purpose here, so they are not checked at run time.
pytestmark = pytest.mark.bulk

SIZE = 5
WORLD, LOG_PROB = Cyclic(SIZE).enumerate(SIZE)
DENOISER = ExactDenoiser(SimplexCodebook(SIZE).double(), WORLD, LOG_PROB)
CODES, NOTHING = DENOISER.codebook, start(DENOISER.codebook, 1, SIZE)
MASKED, SOFT = Follow(Masked()), Diffusion(Uniform(3.0))
# Neither a rotation of 01234 nor free of repeats: no data set has them.
IMPOSSIBLE = torch.tensor([[0, 0, 0, 0, 0], [1, 0, 2, 4, 3]])
# Every function that is given tokens.
SCORES = {
    "bound": lambda tokens: bound(DENOISER, tokens, MASKED, Ancestral(), 5, generator(0)),
    "line integral": lambda tokens: line_integral(DENOISER, tokens, Masked(), 5, generator(0)),
    "left to right": lambda tokens: left_to_right(DENOISER, tokens),
    "right to left": lambda tokens: right_to_left(DENOISER, tokens),
    "in order": lambda tokens: in_order(DENOISER, tokens, torch.arange(SIZE).expand(1, -1)),
    "deviation": lambda tokens: chain_deviation(DENOISER, tokens, 1, generator(0)),
    "costs of steps": lambda tokens: measure_step_costs(
        DENOISER, tokens, Ancestral(), torch.tensor([0.0]), torch.tensor([0.0]), generator(0)
    ),
    "prompt": lambda tokens: start(CODES, 1, SIZE, known=tokens),
}  # fmt: skip
# Every place for a path, a policy and a spacing.
TAKES_PATH = {
    "follow": Follow,
    "first": lambda path: Then(path, Masked()),
    "second": lambda path: Then(SOFT, path),
    "then": SOFT.then,
    "block": lambda path: Block(2, path),
    "line integral": lambda path: line_integral(DENOISER, WORLD, path, 4, generator(0)),
}
TAKES_POLICY = {
    "bound": lambda policy: bound(DENOISER, WORLD, policy, Ancestral(), 5, generator(0)),
    "sample": lambda policy: sample(DENOISER, NOTHING, policy, Ancestral(), 5, generator(0)),
    "localize": lambda policy: next(
        localize(DENOISER, NOTHING, policy, Ancestral(), 5, generator(0))
    ),
    "corrected": Corrected,
}
TAKES_SPACING = {
    "diffusion": Diffusion,
    "rolling": lambda spacing: Rolling(2, spacing),
    "share": lambda spacing: Share(spacing=spacing),
}
# Every path that ends at ∞ for all tokens, by itself or by its last part.
ENDS_AT_INFINITY = {name: path for name, path in PATHS.items() if path.snr_end == math.inf}


def refusal(make, *given) -> str:
    with pytest.raises(ValueError, match=r"\.$") as raised:
        make(*given)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("wrong", [SIZE, SIZE + 7, -2])
@pytest.mark.parametrize("name", SCORES)
def test_a_token_outside_of_the_vocabulary_is_named_in_the_refusal(name, wrong):
    tokens = WORLD[:1].clone()
    SCORES[name](tokens)
    tokens[0, 2] = wrong
    assert refusal(SCORES[name], tokens).endswith(f"from 0 to 4, and {wrong} is not one of them.")


@pytest.mark.parametrize("name", [name for name in SCORES if name != "prompt"])
def test_a_place_without_a_token_cannot_be_scored(name):
    tokens = WORLD[:1].clone()
    tokens[0, 0] = -1
    assert "and -1 is not" in refusal(SCORES[name], tokens)


@pytest.mark.parametrize("name", [name for name in SCORES if name != "channel"])
def test_tokens_are_a_tensor_of_whole_numbers_with_a_row_for_each_sequence(name):
    for wrong in (WORLD[:1].numpy(), WORLD[:1].tolist()):
        assert f"not as {type(wrong).__name__}" in refusal(SCORES[name], wrong)
    for wrong in (WORLD[0], WORLD[None], WORLD[:1].float(), WORLD[:1].byte()):
        assert f"{wrong.dtype} and shape {tuple(wrong.shape)}" in refusal(SCORES[name], wrong)


def test_sequences_of_another_length_than_the_data_set_are_refused():
    for length in (SIZE - 1, SIZE + 1):
        state = start(CODES, 1, length)
        for asked in (lambda s: DENOISER(s), lambda s: DENOISER.between(s, s)):
            assert f"of 5 tokens, not of {length}" in refusal(asked, state)


@pytest.mark.parametrize("name", TAKES_PATH)
@pytest.mark.parametrize(("wrong", "kind"), [
    (MASKED, "Follow"), (Reveal(), "Reveal"), (Masked, "the class Masked"), (3.0, "float"),
])  # fmt: skip
def test_what_is_not_a_path_is_refused_in_the_place_of_one(name, wrong, kind):
    assert refusal(TAKES_PATH[name], wrong).endswith(f"not {kind}.")


@pytest.mark.parametrize("name", TAKES_POLICY)
@pytest.mark.parametrize(("wrong", "kind"), [
    (Masked(), "Masked"), (SOFT, "Diffusion"), (Reveal, "the class Reveal"), (None, "NoneType"),
])  # fmt: skip
def test_a_path_in_the_place_of_a_policy_is_refused_with_the_advice_to_follow_it(name, wrong, kind):
    said = refusal(TAKES_POLICY[name], wrong)
    assert f"not {kind}; to walk along a path, write Follow(path)." in said


@pytest.mark.parametrize("name", TAKES_SPACING)
def test_what_is_not_a_spacing_is_refused_in_the_place_of_one(name):
    for wrong, kind in ((3.0, "float"), (Masked(), "Masked"), (Lomax, "the class Lomax")):
        assert refusal(TAKES_SPACING[name], wrong).endswith(
            f"Uniform(3.0) is needed here, not {kind}."
        )


@pytest.mark.parametrize("name", [*PATHS, *ADAPTIVE])
def test_a_walk_of_a_broken_number_of_steps_is_refused_and_not_rounded(name):
    policy = Follow(PATHS[name]) if name in PATHS else ADAPTIVE[name]
    for steps in (2.5, 5.0, math.nan, torch.tensor([[2.5]])):
        assert "whole number" in refusal(policy.start, NOTHING, steps, generator(0))


def test_other_numbers_of_things_are_whole_too():
    assert "whole number" in refusal(line_integral, DENOISER, WORLD, Masked(), 2.5, generator(0))
    assert "whole number" in refusal(chain_deviation, DENOISER, WORLD, 0.5, generator(0))
    costs = measure_step_costs(
        DENOISER, WORLD, Ancestral(), torch.tensor([0.0]), torch.tensor([0.0]), generator(0)
    )
    assert "whole number" in refusal(costs.best_path, 1.5)


@pytest.mark.parametrize("name", ENDS_AT_INFINITY)
def test_nothing_follows_a_path_that_decides_all_tokens(name):
    for second in (Autoregressive(), Decode(), SOFT):
        assert "ends at γ = ∞ leaves nothing" in refusal(ENDS_AT_INFINITY[name].then, second)
        assert "ends at γ = ∞ leaves nothing" in refusal(Then, ENDS_AT_INFINITY[name], second)


def test_a_path_follows_where_some_token_ends_below_infinity_and_decides_that_token():
    half = Custom(torch.tensor([[0.0] * SIZE, [math.inf, math.inf, 2.0, 0.0, math.inf]]))
    state = start(CODES, 3, SIZE)
    policy = Follow(half.then(Autoregressive((2, 3, 0, 1, 4))))
    walk = list(localize(DENOISER, state, policy, Ancestral(), 4, generator(0)))
    assert [int((~step.before.is_known).sum()) for step in walk] == [15, 6]
    assert walk[-1].state.is_finished
    grid = half.then(SOFT).draw(3, NOTHING.known < 0, generator(0)).stack()
    assert grid[-1, 0].tolist() == [math.inf, math.inf, 3.0, 3.0, math.inf]


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("name", ["masked", "spread", "autoregressive", "block, masked"])
def test_the_bound_of_a_sequence_that_cannot_be_drawn_is_infinite(name, transition):
    tokens = torch.cat([IMPOSSIBLE, WORLD])
    step = TRANSITIONS[transition]
    cost = bound(DENOISER, tokens, Follow(PATHS[name]), step, 6, generator(0))
    assert cost.values[:2].tolist() == [math.inf, math.inf]
    assert cost.values[2:].tolist() == pytest.approx([math.log(SIZE)] * SIZE)
    assert cost.mean == math.inf
    assert math.isnan(cost.stderr)


def test_every_estimate_of_an_impossible_sequence_is_infinite_token_by_token():
    for cost in (
        left_to_right(DENOISER, IMPOSSIBLE),
        right_to_left(DENOISER, IMPOSSIBLE),
        line_integral(DENOISER, IMPOSSIBLE, Masked(), 32, generator(0)),
    ):
        assert cost.values.tolist() == [math.inf, math.inf]
    # Two orders that both forbid it do not differ by a number.
    assert chain_deviation(DENOISER, IMPOSSIBLE, 0, generator(0)).values.isnan().all()


@pytest.mark.parametrize("name", [*PATHS, *BOUNDED])
def test_no_bound_of_an_impossible_sequence_is_not_a_number(name):
    # A walk along finite SNRs ends in independent decisions, so its sampler can draw any sequence.
    policy = Follow(PATHS[name]) if name in PATHS else BOUNDED[name]
    for transition in (Ancestral(), Euler()):
        values = bound(DENOISER, IMPOSSIBLE, policy, transition, 8, generator(0)).values
        assert not values.isnan().any()
        assert (values > math.log(SIZE)).all()


@pytest.mark.parametrize("path", [
    Custom(torch.tensor([0.0, 1.0, 3.0, math.inf])),
    Custom(torch.tensor([[0.0] * SIZE, [1.0] * SIZE, [2.0] * SIZE, [math.inf] * SIZE])),
    Interleaved((0.0, 0.5, 0.5, 1.0), (0.0, 1.0, 2.0, 2.0)),
    Interleaved((0.0, 0.5, 0.5, 1.0), (0.0, 1.0, 2.0, 2.0), Apart(4)),
])  # fmt: skip
def test_a_path_of_given_knots_takes_the_steps_between_them_whatever_is_asked_for(path):
    for asked in (1, 2, 3, 100):
        drawn = sample(DENOISER, NOTHING, Follow(path), Ancestral(), asked, generator(0))
        assert drawn.denoiser_calls == 3
