"""What every path, transition, denoiser, policy and estimator promises, whatever it computes.

A new path joins by a line in `core.worlds`, a new transition by a line in `TRANSITIONS` there, a
new denoiser, posterior or policy by a line in the lists below.
"""

import math
from collections.abc import Callable

import pytest
import torch
from core.worlds import (
    ADAPTIVE,
    COARSE_PATHS,
    CORRECTED,
    PATHS,
    TRANSITIONS,
    WORLDS,
    generator,
)

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Autoregressive,
    Block,
    BlockedPosterior,
    CircleCodebook,
    Codebook,
    Constrained,
    Corrected,
    Curvature,
    Custom,
    Denoiser,
    DensePosterior,
    Diffusion,
    Euler,
    ExactDenoiser,
    Follow,
    Framed,
    Guided,
    JacobianProduct,
    LearnedCodebook,
    Linearised,
    Lomax,
    Masked,
    Nucleus,
    Pace,
    Padded,
    Path,
    Policy,
    Posterior,
    Rolling,
    SimplexCodebook,
    State,
    Streams,
    Tempered,
    Transition,
    Unconditional,
    Uniform,
    advance,
    bound,
    line_integral,
    localize,
    observe,
    rewind,
    sample,
    start,
)
from stochloc.core.numerics import draw_categorical, draw_normal_like, draw_stratified, draw_uniform

EXACT = WORLDS["markov chain"].denoiser
LABELS = EXACT.sequences[:, 0]
FIRST_IS_ONE = (torch.arange(4)[:, None] > 0) | (torch.arange(3) == 1)
ALL_OF_SIX = torch.cartesian_prod(*[torch.arange(3)] * 6)


class Blocked:
    """A denoiser whose posteriors are given block by block."""

    def __init__(self, denoiser: ExactDenoiser) -> None:
        self.denoiser, self.codebook = denoiser, denoiser.codebook

    def __call__(self, state: State) -> Posterior:
        return BlockedPosterior(self.denoiser(state).log_probs_of, self.codebook, block_size=2)


DENOISERS: dict[str, Denoiser] = {
    "exact": EXACT,
    "exact, given a label": EXACT.given(LABELS, 1),
    "tempered": Tempered(EXACT, 0.7),
    "nucleus": Nucleus(EXACT, 0.8),
    "constrained": Constrained(EXACT, FIRST_IS_ONE),
    "padded": Padded(ExactDenoiser(EXACT.codebook, ALL_OF_SIX), 2, 0),
    "framed": Framed(ExactDenoiser(EXACT.codebook, ALL_OF_SIX), (1, -1), ()),
    "blocked": Blocked(EXACT),
    "blocked, tempered": Tempered(Blocked(EXACT), 0.7),
    "blocked, constrained": Constrained(Blocked(EXACT), FIRST_IS_ONE),
}
# Made from unnormalised scores, known tokens and codes; the first is the one that others equal.
POSTERIORS: dict[str, Callable[[torch.Tensor, torch.Tensor, Codebook], Posterior]] = {
    "dense": DensePosterior.from_logits,
    "blocked": lambda scores, known, codes: BlockedPosterior.from_scores(
        lambda start, stop: scores[..., start:stop], known, codes, block_size=3
    ),
    "in one block": lambda scores, known, codes: BlockedPosterior.from_scores(
        lambda start, stop: scores[..., start:stop], known, codes
    ),
}
CODEBOOKS: dict[str, Codebook] = {
    "simplex": SimplexCodebook(7).double(),
    "circle": CircleCodebook(7),
    "learned": LearnedCodebook(7, 4, generator(0)).double().requires_grad_(False),
}
POLICIES: dict[str, Policy] = {name: Follow(path) for name, path in PATHS.items()}
# Paths without a random order: what they say of one sequence cannot depend on the others.
DETERMINISTIC: dict[str, Path] = {
    "diffusion": Diffusion(Lomax()),
    "diffusion then autoregressive": Diffusion(Uniform(4.0)).then(Autoregressive()),
    "autoregressive": Autoregressive((3, 1, 0, 2)),
    "block, diffusion": Block(3, Diffusion(Lomax())),
    "rolling": Rolling(2, Lomax(snr_max=9.0)),
    "custom": Custom(torch.tensor([0.0, 1.0, torch.inf])),
}


def mixed_state(rows: int, seed: int = 0) -> tuple[State, torch.Tensor]:
    """Return a state with unseen, noisy and known tokens, and the tokens behind it."""
    tokens = EXACT.sample(rows, generator(seed))
    snr = torch.tensor([0.0, 0.7, 2.0, 5.0, math.inf], dtype=torch.float64)
    chosen = snr[torch.randint(0, 5, tokens.shape, generator=generator(seed + 1))]
    return observe(EXACT.codebook, tokens, chosen, generator(seed + 2)), tokens


def estimate_by(name: str, estimator: str, tokens: torch.Tensor, seed: int) -> torch.Tensor:
    if estimator == "line integral":
        return line_integral(EXACT, tokens, PATHS[name], 3, generator(seed)).token_nats
    if estimator == "sample":
        state = start(EXACT.codebook, len(tokens), tokens.shape[1])
        return sample(EXACT, state, Follow(PATHS[name]), Euler(), 5, generator(seed)).tokens
    return bound(EXACT, tokens, Follow(PATHS[name]), Ancestral(), 5, generator(seed)).token_nats


@pytest.mark.parametrize("estimator", ["bound", "line integral", "sample"])
@pytest.mark.parametrize("name", PATHS)
def test_a_seed_fixes_the_result_and_neither_globals_nor_inputs_change(name, estimator):
    tokens = EXACT.sample(6, generator(0))
    kept, before = tokens.clone(), torch.get_rng_state()
    first = estimate_by(name, estimator, tokens, 1)
    assert torch.equal(first, estimate_by(name, estimator, tokens, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(tokens, kept)


@pytest.mark.parametrize("estimator", ["bound", "line integral", "sample"])
@pytest.mark.parametrize("name", PATHS)
def test_a_batch_of_no_sequences_gives_no_results_and_no_error(name, estimator):
    assert estimate_by(name, estimator, torch.zeros(0, 4, dtype=torch.long), 1).shape == (0, 4)


def alone_and_together(
    estimate: Callable[[torch.Tensor, torch.Tensor, Streams], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """What sequences, none to all tokens of each known, are worth one by one, and in one batch."""
    tokens = EXACT.sample(4, generator(0))
    given = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1], [1, 1, 1, 1]])
    known = torch.where(given > 0, tokens, UNKNOWN)

    def part(rows: range) -> torch.Tensor:
        streams = Streams([generator(7 + row) for row in rows], torch.device("cpu"))
        return estimate(tokens[list(rows)], known[list(rows)], streams)

    return torch.cat([part(range(row, row + 1)) for row in range(4)]), part(range(4))


@pytest.mark.bulk
@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("policy", [*POLICIES, *ADAPTIVE])
def test_with_streams_of_their_own_sequences_walk_as_if_alone(policy, transition):
    rule, step = {**POLICIES, **ADAPTIVE}[policy], TRANSITIONS[transition]

    def walk(tokens: torch.Tensor, known: torch.Tensor, streams: Streams) -> torch.Tensor:
        state = start(EXACT.codebook, *tokens.shape, known=known)
        return sample(EXACT, state, rule, step, 6, streams).tokens

    def cost(tokens: torch.Tensor, known: torch.Tensor, streams: Streams) -> torch.Tensor:
        return bound(EXACT, tokens, rule, step, 6, streams, known).token_nats

    assert torch.equal(*alone_and_together(walk))
    if policy in CORRECTED:
        return
    torch.testing.assert_close(*alone_and_together(cost), rtol=1e-9, atol=1e-9)


class Counting:
    """A denoiser that counts its calls."""

    def __init__(self) -> None:
        self.codebook, self.calls = EXACT.codebook, 0

    def __call__(self, state: State) -> Posterior:
        self.calls += 1
        return EXACT(state)


PROBED: dict[str, Callable[[Linearised], Policy]] = {
    "curvature, product": lambda denoiser: Curvature(JacobianProduct(denoiser), 0.3),
    "curvature, product, corrected": lambda denoiser: Corrected(
        Curvature(JacobianProduct(denoiser), 0.3), share=0.6
    ),
}
WRAPPED: dict[str, Callable[[Denoiser], Denoiser]] = {
    "plain": lambda denoiser: denoiser,
    "tempered": lambda denoiser: Tempered(denoiser, 0.8),
    "guided": lambda denoiser: Guided(
        denoiser, Unconditional(denoiser, torch.arange(4).expand(5, 4) == 2), 1.5
    ),
    "guided at 0": lambda denoiser: Guided(
        denoiser, Unconditional(denoiser, torch.arange(4).expand(5, 4) == 2), 0.0
    ),
    "constrained": lambda denoiser: Constrained(denoiser, FIRST_IS_ONE),
}


@pytest.mark.bulk
@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("policy", [*POLICIES, *ADAPTIVE, *PROBED])
def test_the_denoiser_calls_reported_are_those_made(policy, transition, wrap):
    counting, step = Counting(), TRANSITIONS[transition]
    denoiser = Linearised(WRAPPED[wrap](counting))
    rule = PROBED[policy](denoiser) if policy in PROBED else {**POLICIES, **ADAPTIVE}[policy]
    tokens = EXACT.sequences[EXACT.sequences[:, 0] == 1][:5]
    known = torch.where(torch.arange(4) == 2, tokens, UNKNOWN)
    state = start(EXACT.codebook, 5, 4, known)
    drawn = sample(denoiser, state, rule, step, 6, generator(1))
    assert drawn.denoiser_calls == counting.calls > 0
    if policy in CORRECTED or "corrected" in policy:
        return
    before = counting.calls
    estimate = bound(denoiser, tokens, rule, step, 6, generator(2), known)
    assert estimate.denoiser_calls == counting.calls - before > 0


@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("path", PATHS)
def test_the_denoiser_calls_of_an_integral_are_those_made(path, wrap):
    counting = Counting()
    tokens = EXACT.sequences[EXACT.sequences[:, 0] == 1][:5]
    integral = line_integral(WRAPPED[wrap](counting), tokens, PATHS[path], 3, generator(1))
    assert integral.denoiser_calls == counting.calls > 0


@pytest.mark.parametrize("policy", CORRECTED)
def test_a_walk_with_corrector_rounds_has_no_bound(policy):
    tokens = EXACT.sample(2, generator(0))
    with pytest.raises(ValueError, match="corrector rounds has no useful bound"):
        bound(EXACT, tokens, CORRECTED[policy], Euler(), 3, generator(1))


def test_streams_draw_the_noise_of_the_smallest_step_too():
    # 300 rows of 12 normal numbers: their mean square is 1 within 5.5 errors of √(2/3600).
    streams = Streams([generator(row) for row in range(300)], torch.device("cpu"))
    state = start(EXACT.codebook, 300, 4)
    step = next(localize(EXACT, state, Follow(Diffusion(Uniform(0.01))), Euler(), 1, streams))
    drift = 0.01 * step.posterior.mean
    squares = (step.state.z - drift).square() / 0.01
    assert abs(float(squares.mean()) - 1) < 5.5 * math.sqrt(2 / squares.numel())


@pytest.mark.bulk
@pytest.mark.parametrize("name", PATHS)
def test_with_streams_of_their_own_sequences_are_integrated_as_if_alone(name):
    def cost(tokens: torch.Tensor, known: torch.Tensor, streams: Streams) -> torch.Tensor:
        return line_integral(EXACT, tokens, PATHS[name], 4, streams, known).token_nats

    torch.testing.assert_close(*alone_and_together(cost), rtol=1e-9, atol=1e-9)


def test_the_channel_and_the_draws_use_their_generator_alone():
    state, tokens = mixed_state(8)
    snr, before = torch.ones(8, 4, dtype=torch.float64), torch.get_rng_state()
    draws = [
        lambda g: observe(EXACT.codebook, tokens, snr, g).z,
        lambda g: advance(EXACT.codebook, state, tokens, snr, g).z,
        lambda g: rewind(EXACT.codebook, state, snr, g).z,
        lambda g: EXACT.sample(8, g),
        lambda g: EXACT(state).sample(g),
        lambda g: draw_categorical(snr, g),
        lambda g: draw_normal_like(snr, g),
        lambda g: draw_stratified(2, 3, g),
    ]
    for draw in draws:
        assert torch.equal(draw(generator(3)), draw(generator(3)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", PATHS)
def test_a_path_changes_none_of_its_inputs(name):
    time, free = torch.tensor([0.1, 0.6]).double(), torch.ones(2, 6, dtype=torch.bool)
    PATHS[name].at(time, free, generator(0))
    PATHS[name].draw(6, free, generator(0)).stack()
    assert time.tolist() == [float(torch.tensor(0.1)), float(torch.tensor(0.6))]
    assert bool(free.all())


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_path_without_random_order_treats_every_sequence_alone(name):
    path = DETERMINISTIC[name]
    time = torch.linspace(0, 0.999, 41, dtype=torch.float64)
    free = torch.rand(41, 4, generator=generator(0)) < 0.8
    free[:, 0] = True
    together = path.at(time, free, generator(1))
    for row in range(41):
        alone = path.at(time[[row]], free[[row]], generator(2))
        for field in ("snr", "speed", "jump"):
            # Vectorised powers may differ in the last bit.
            ours, theirs = getattr(together, field)[[row]], getattr(alone, field)
            torch.testing.assert_close(ours, theirs, atol=0, rtol=1e-12)


@pytest.mark.parametrize("name", PATHS)
def test_every_token_jumps_exactly_once_or_never(name):
    # The expected number of jumps is ∫ jump dt. 20,000 stratified times: an error of 1 % or less,
    # 5.5 standard errors allowed; a rate of 1 in place of L/(L - n) halves the number.
    num, length = 20_000, 5
    free = torch.ones(num, length, dtype=torch.bool)
    free[:, 1] = False
    time = draw_stratified(1, num, generator(0))[0]
    jumps = PATHS[name].at(time, free, generator(1)).jump
    mean, stderr = jumps.mean(0), jumps.std(0) / math.sqrt(num)
    assert mean[1] == 0
    continuous = {
        "diffusion, lomax", "diffusion, finite", "block, diffusion", "rolling, to infinity",
    }  # fmt: skip
    expected = torch.full((length,), 0.0 if name in continuous else 1.0, dtype=mean.dtype)
    expected[1] = 0
    assert ((mean - expected).abs() <= 5.5 * stderr + 1e-3).all(), mean


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_allocates_snr_upwards_up_to_the_end_and_none_to_known_tokens(name):
    policy, path = POLICIES[name], PATHS[name]
    assert isinstance(policy, Policy)
    tokens = EXACT.sample(5, generator(0))
    known = torch.where(torch.arange(4) == 2, tokens, -1)
    state = start(EXACT.codebook, 5, 4, known=known)
    pace = policy.start(state, 6, generator(1))
    for n in range(pace.num_steps):
        dsnr = pace.dsnr(n, state, EXACT(state))
        assert dsnr.shape == (5, 4)
        assert (dsnr >= 0).all()
        assert (dsnr[state.is_known] == 0).all()
        state = advance(EXACT.codebook, state, tokens, dsnr, generator(n))
    free = known < 0
    torch.testing.assert_close(state.snr[free], path.end(free)[free].to(state.snr))


def test_a_sequence_that_has_taken_its_steps_is_decided_and_never_taken_back():
    state, _ = mixed_state(2)
    still = torch.zeros_like(state.snr)
    pace = Pace(torch.tensor([[1], [3]]), lambda *_: still, lambda n, state: still)
    posterior = EXACT(state)
    for n in range(4):
        dsnr = pace.step(n, state, posterior)
        assert dsnr.isinf().all(-1).tolist() == [n >= 1, n >= 3]
        assert (dsnr[dsnr.isfinite()] == 0).all()
        before = pace.before(n, EXACT.codebook, state, generator(0))
        is_lowered = (before.snr == 0).all(-1).tolist()
        assert is_lowered == [n < 1, n < 3]
        kept = torch.tensor([not lowered for lowered in is_lowered])
        assert torch.equal(before.z[kept], state.z[kept])


def test_a_token_that_starts_above_zero_waits_until_its_path_has_caught_up():
    tokens = torch.zeros(1, 2, dtype=torch.long)
    state = observe(EXACT.codebook, tokens, torch.tensor([[0.0, 2.5]]).double(), generator(0))
    pace = Follow(Custom(torch.arange(5.0))).start(state, 4, generator(0))
    steps = []
    for n in range(4):
        dsnr = pace.dsnr(n, state, DENOISERS["exact"](start(EXACT.codebook, 1, 2 + 2)))
        steps.append(dsnr[0].tolist())
        state = advance(EXACT.codebook, state, tokens, dsnr, generator(n))
    assert steps == [[1.0, 0.0], [1.0, 0.0], [1.0, 0.5], [1.0, 1.0]]


@pytest.mark.parametrize("name", DENOISERS)
def test_a_denoiser_reads_no_snr_treats_rows_alone_and_trusts_known_tokens(name):
    denoiser = DENOISERS[name]
    assert isinstance(denoiser, Denoiser)
    # Labels fix the first token, so it must not be given as another one.
    state, tokens = mixed_state(30)
    keep = ~state.is_known[:, 0] | (tokens[:, 0] == 1)
    state, tokens = State(state.z[keep], state.known[keep], state.snr[keep]), tokens[keep]
    kept = State(state.z.clone(), state.known.clone(), state.snr.clone())
    posterior = denoiser(state)
    assert isinstance(posterior, Posterior)
    blind = denoiser(State(state.z, state.known, torch.full_like(state.snr, 123.0)))
    assert torch.equal(posterior.mean, blind.mean)
    for row in range(0, len(tokens), 5):
        one = slice(row, row + 1)
        alone = denoiser(State(state.z[one], state.known[one], state.snr[one]))
        torch.testing.assert_close(alone.mean, posterior.mean[one], atol=1e-12, rtol=0)
    assert (posterior.log_prob(tokens)[state.is_known] == 0).all()
    assert (posterior.uncertainty >= -1e-12).all()
    assert (posterior.confidence <= 1 + 1e-12).all()
    assert (posterior.entropy <= math.log(3) + 1e-12).all()
    assert torch.equal(state.z, kept.z)
    assert torch.equal(state.known, kept.known)
    assert torch.equal(state.snr, kept.snr)


def scores_of(seed: int) -> torch.Tensor:
    """Scores of seven tokens at 40 × 5 places; the first tokens are ruled out at some of them."""
    scores = 3 * torch.randn(40, 5, 7, generator=generator(seed), dtype=torch.float64)
    scores[:8, :, :4] = -torch.inf
    return scores


def evidence_of(posterior: Posterior, seed: int) -> State:
    """Evidence about 40 × 5 tokens, of which some are known, also where a token is ruled out."""
    tokens = torch.randint(0, 7, (40, 5), generator=generator(seed))
    snr = torch.tensor([0.0, 2.0, 30.0, math.inf, math.inf], dtype=torch.float64)
    return observe(posterior.codebook, tokens, snr.expand(40, 5), generator(seed + 1))


KNOWN = torch.where(torch.arange(5) == 1, 6, UNKNOWN).expand(40, 5)
DERIVED: dict[str, Callable[[Posterior, Posterior], Posterior]] = {
    "as it is": lambda posterior, other: posterior,
    "sharpened": lambda posterior, other: posterior.tempered(0.3),
    "sharpened to the mode": lambda posterior, other: posterior.tempered(1e-320),
    "nucleus": lambda posterior, other: posterior.nucleus(0.7),
    "all of the nucleus": lambda posterior, other: posterior.nucleus(1.0),
    "reweighted": lambda posterior, other: posterior.reweighted(scores_of(3)[20:].repeat(2, 1, 1)),
    "reweighted by blocks": lambda posterior, other: posterior.reweighted_by(
        lambda start, stop: scores_of(3)[20:].repeat(2, 1, 1)[..., start:stop]
    ),
    "observed": lambda posterior, other: posterior.observed(evidence_of(posterior, 9)),
    "guided": lambda posterior, other: posterior.guided(other, 1.7),
    "guided at 0": lambda posterior, other: posterior.guided(other, 0.0),
    "cropped and flattened": lambda posterior, other: posterior.cropped(1, 4).tempered(2.0),
}


@pytest.mark.parametrize("name", POSTERIORS)
def test_a_sample_is_the_quantile_at_the_uniforms_that_it_draws(name):
    posterior = POSTERIORS[name](scores_of(0), KNOWN, CODEBOOKS["simplex"])
    u = draw_uniform(tuple(posterior.entropy.shape), generator(8))
    drawn = posterior.sample(generator(8))
    assert torch.equal(posterior.quantile(u), drawn)
    # The probability of all smaller tokens is at most u, with its own it is more.
    below = torch.stack([posterior.log_probs_of(0, v).exp().sum(-1) for v in range(8)], -1)
    assert (below.gather(-1, drawn[..., None])[..., 0] <= u + 1e-12).all()
    assert (below.gather(-1, drawn[..., None] + 1)[..., 0] > u - 1e-12).all()


@pytest.mark.parametrize("derive", DERIVED)
@pytest.mark.parametrize("codes", CODEBOOKS)
@pytest.mark.parametrize("others", POSTERIORS)
@pytest.mark.parametrize("name", POSTERIORS)
def test_posteriors_of_the_same_scores_agree_in_every_answer(name, others, codes, derive):
    codebook = CODEBOOKS[codes]

    def derived(kind: str, of_other: str) -> Posterior:
        posterior = POSTERIORS[kind](scores_of(0), KNOWN, codebook)
        return DERIVED[derive](posterior, POSTERIORS[of_other](scores_of(1), KNOWN, codebook))

    ours, dense = derived(name, others), derived("dense", "dense")
    assert isinstance(ours, Posterior)
    assert ours.calls == dense.calls
    shape = tuple(dense.entropy.shape)
    tokens = torch.randint(0, 7, shape, generator=generator(4))
    dz = 2 * torch.randn(*shape, codebook.dimension, generator=generator(5), dtype=torch.float64)
    answers = [
        lambda posterior: posterior.mean,
        lambda posterior: posterior.entropy,
        lambda posterior: posterior.confidence,
        lambda posterior: posterior.uncertainty,
        lambda posterior: posterior.log_prob(tokens),
        lambda posterior: posterior.log_mgf(dz, tokens),
        lambda posterior: posterior.log_probs_of(2, 6),
    ]
    for answer in answers:
        torch.testing.assert_close(answer(ours), answer(dense), atol=1e-12, rtol=1e-12)
    assert torch.equal(ours.mode, dense.mode)
    streams = Streams([generator(row) for row in range(40)], torch.device("cpu"))
    again = Streams([generator(row) for row in range(40)], torch.device("cpu"))
    assert torch.equal(ours.sample(streams), dense.sample(again))
    drawn, expected = generator(6), generator(6)
    assert torch.equal(ours.sample(drawn), dense.sample(expected))
    assert torch.equal(drawn.get_state(), expected.get_state())


def test_evidence_nearest_to_a_target_is_the_target_up_to_a_constant_where_codes_allow_it():
    target = torch.rand(3, 7, generator=generator(0), dtype=torch.float64)
    centred = target - target.mean(-1, keepdim=True)
    simplex, circle = CODEBOOKS["simplex"], CODEBOOKS["circle"]
    torch.testing.assert_close(simplex.evidence(simplex.nearest_evidence(target)), centred)
    # The pseudo-inverse of all codebooks is the closed form on the simplex.
    general = Codebook.nearest_evidence(simplex, target)
    torch.testing.assert_close(simplex.nearest_evidence(target), general, atol=1e-12, rtol=0)
    # Elsewhere what is missed is orthogonal to all that the codes can say.
    missed = circle.evidence(circle.nearest_evidence(target)) - centred
    torch.testing.assert_close(missed @ circle.vectors, torch.zeros(3, 2).double())


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_step_of_zero_moves_nothing_and_known_tokens_stay_and_cost_nothing(name):
    transition = TRANSITIONS[name]
    assert isinstance(transition, Transition)
    state, tokens = mixed_state(40)
    posterior = EXACT(state)
    kept = State(state.z.clone(), state.known.clone(), state.snr.clone())
    still = transition.step(state, posterior, torch.zeros(40, 4).double(), generator(0))
    assert torch.equal(still.z, state.z)
    assert torch.equal(still.known, state.known)
    cost = transition.cost(state, still, posterior, tokens)
    torch.testing.assert_close(cost, torch.zeros_like(cost), atol=1e-12, rtol=0)

    dsnr = torch.tensor([0.5, math.inf, 0.0, 2.0]).double().expand(40, 4)
    moved = transition.step(state, posterior, dsnr, generator(0))
    assert torch.equal(moved.known[state.is_known], state.known[state.is_known])
    assert (moved.z[moved.is_known] == 0).all()
    assert (moved.known[:, 1] >= 0).all()
    expected = torch.where(state.is_known, math.inf, state.snr + dsnr)
    torch.testing.assert_close(moved.snr, expected)
    walked = advance(EXACT.codebook, state, tokens, dsnr, generator(1))
    cost = transition.cost(state, walked, posterior, tokens)
    assert (cost[state.is_known] == 0).all()
    assert cost.isfinite().all()
    decided = walked.is_known & ~state.is_known
    assert torch.equal(cost[decided], -posterior.log_prob(tokens)[decided])
    assert torch.equal(state.z, kept.z)
    assert torch.equal(state.known, kept.known)
    assert torch.equal(state.snr, kept.snr)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_the_cost_of_a_sequence_does_not_depend_on_the_rest_of_its_batch(name):
    state, tokens = mixed_state(20)
    dsnr = torch.full((20, 4), 0.8, dtype=torch.float64)
    after = advance(EXACT.codebook, state, tokens, dsnr, generator(1))
    together = TRANSITIONS[name].cost(state, after, EXACT(state), tokens)
    for row in range(20):
        one = slice(row, row + 1)
        before = State(state.z[one], state.known[one], state.snr[one])
        later = State(after.z[one], after.known[one], after.snr[one])
        alone = TRANSITIONS[name].cost(before, later, EXACT(before), tokens[one])
        torch.testing.assert_close(alone, together[one], atol=1e-11, rtol=0)


@pytest.mark.parametrize("estimator", ["bound", "line integral"])
@pytest.mark.parametrize("name", PATHS)
def test_a_vocabulary_of_one_token_costs_nothing(name, estimator):
    denoiser = ExactDenoiser(SimplexCodebook(1).double(), torch.zeros(1, 3, dtype=torch.long))
    tokens = torch.zeros(2, 3, dtype=torch.long)
    if estimator == "bound":
        nats = bound(denoiser, tokens, Follow(PATHS[name]), Ancestral(), 4, generator(0)).token_nats
    else:
        nats = line_integral(denoiser, tokens, PATHS[name], 4, generator(0)).token_nats
    torch.testing.assert_close(nats, torch.zeros_like(nats), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", [name for name in PATHS if name not in COARSE_PATHS])
def test_a_sequence_of_one_token_has_its_exact_cost_along_every_path(name):
    # Only the noise of the walk is left of the ancestral cost, and it telescopes to -log P.
    denoiser = ExactDenoiser(CircleCodebook(4), torch.arange(4)[:, None], torch.arange(4.0))
    costs = bound(denoiser, denoiser.sequences, Follow(PATHS[name]), Ancestral(), 7, generator(0))
    exact = -denoiser.log_prob(denoiser.sequences)
    torch.testing.assert_close(costs.values, exact, atol=1e-8, rtol=0)


def test_the_estimators_refuse_known_tokens_that_contradict_the_sequence():
    tokens = EXACT.sample(2, generator(0))
    wrong = torch.where(torch.arange(4) == 1, (tokens + 1) % 3, -1)
    with pytest.raises(ValueError, match="contradict"):
        line_integral(EXACT, tokens, Masked(), 2, generator(0), wrong)
    with pytest.raises(ValueError, match="contradict"):
        bound(EXACT, tokens, Follow(Masked()), Euler(), 2, generator(0), wrong)
