"""Bounds and estimates of `-log P(x)`: the guided walk and the line integral.

Guided walk. A sampler of N steps is a latent-variable model whose latents are the states. Let the
channel, which knows `x`, draw them; then the sum of the transition's costs and of `-log Q(x|z_N)`
for tokens still uncertain is an unbiased estimate of an upper bound on `-log P_θ(x)` for exactly
that sampler, sequence by sequence, whatever the denoiser, the policy and the number of steps.

Line integral. `∇_γ D(p_γ(z|x) ‖ p_γ(z)) = ½ E(x, γ)` (paper A.2), so

    -log P(x) = ½ ∫_C E(x, γ)·dγ - E log P(x|z_end)                          (eq. 3, 4, 5, 12)

along any path. Times are drawn uniformly within strata and the integrand weighs the path's speed
there, so the estimate is unbiased: no grid and no trapezoid. With a learned denoiser the error is
at least the smallest possible one on average over the data, so the average is a bound for the
corpus (eq. 13); the value of a single sequence is then an estimate, not a bound.

An integral to ∞ is unbiased whatever the codes, but of use only if they are far enough apart. Two
tokens at a distance D are told apart at γ of about `8/D²`; a spacing whose density falls like
`γ^-(a + 1)` looks there so rarely that the second moment of a draw grows like `D^(-2a)`. Stop at a
finite γ and decode where codes are close: that is a bound of small variance. Two tokens of four
codes of which two are D apart, 32 draws each, have a standard deviation of 0.9 nats at D = 1.4, 2.7
at 0.5, 6.6 at 0.3 and 26 at 0.1 along `Diffusion()`; cut at γ = 40 it is 0.7 to 1.2 for all.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.channel import UNKNOWN, State, observe, start
from stochloc.core.checks import check_tokens
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Denoiser
from stochloc.core.numerics import draw_stratified, in_double
from stochloc.core.paths.base import Path, check_path
from stochloc.core.policies.base import Policy, check_policy
from stochloc.core.streams import Randomness
from stochloc.core.transitions import Transition
from stochloc.core.walk import Towards, walk

CLOSE = 0.5
# Tokens whose codes are compared with all others; in most vocabularies the first are frequent.
COMPARED = 1024


@dataclass(frozen=True)
class Estimate:
    """An estimate of `-log P` for a batch of sequences, in nats.

    A sequence that cannot be drawn has P = 0, so its value is ∞: with the exact denoiser, a text
    outside of the data set along a masked path. The mean of the batch is then ∞ too, and its
    standard error is NaN.

    Attributes:
        token_nats: What each token contributed, `(B, L)`, float64, in nats; 0 for tokens given as
            known, ∞ for a token that the sampler cannot draw there.
        denoiser_calls: How often the denoiser was asked about each sequence.
        is_exact: Whether this is `-log P` itself of every sequence under the sampler it is about,
            with no randomness in it; otherwise it is an estimate of that or of a bound on it.
    """

    token_nats: Float[Tensor, "batch length"]
    denoiser_calls: int
    is_exact: bool = False

    @property
    def values(self) -> Float[Tensor, " batch"]:
        """The estimate of every sequence: the sum over its tokens."""
        return self.token_nats.sum(-1)

    @property
    def mean(self) -> float:
        """Average over the sequences, in nats per sequence; ∞ if one of them is impossible."""
        return float(self.values.mean())

    @property
    def stderr(self) -> float:
        """Standard error of `mean`, from the spread of the totals.

        NaN for a single sequence, and where a value is ∞.
        """
        values = self.values
        return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan

    @classmethod
    def join(cls, parts: Sequence["Estimate"]) -> "Estimate":
        """Return one estimate for the sequences of several batches.

        Args:
            parts: Estimates of the same kind, for sequences of equal length.

        Returns:
            Their sequences together; calls are counted per sequence, so they do not add up.
        """
        calls = max(part.denoiser_calls for part in parts)
        is_exact = all(part.is_exact for part in parts)
        return cls(torch.cat([part.token_nats for part in parts]), calls, is_exact)


@torch.no_grad()
def bound(
    denoiser: Denoiser,
    tokens: Int[Tensor, "batch length"],
    policy: Policy,
    transition: Transition,
    num_steps: int,
    generator: Randomness,
    known: Int[Tensor, "batch length"] | None = None,
) -> Estimate:
    """Bound `-log P_θ(x)` for the sampler that walks with the same policy and transition.

    Args:
        denoiser: Gives the posterior; any denoiser makes a valid bound.
        tokens: The sequences to score, in `[0, V)`: int64, one row for each.
        policy: Allocates SNR; it sees the states of the guided walk. A path is followed by
            `Follow(path)`.
        transition: Gives the cost of the steps.
        num_steps: Steps wanted, a whole number of at least 1.
        generator: Source of the channel's noise and of the policy's randomness.
        known: Tokens given in advance, `-1` elsewhere: the result bounds `-log P(x | known)`.

    Returns:
        Unbiased estimates of an upper bound for every sequence. Costs as many denoiser calls as
        sampling by the same walk. A policy that takes tokens back (`Remasking`) pays for every
        time a token is decided, so its bound is valid but loose. One that unmasks by a rule
        (`Pace.unmasks_by_rule`) has a single walk to each sequence: then this is `-log P_θ(x)`.
        The value of a sequence that the sampler cannot draw is ∞.

    Raises:
        ValueError: `tokens` are not a tensor of shape `(B, L)` or hold a number outside of the
            vocabulary, `known` contradicts them, or `policy` is not a policy (a path is wrapped:
            `Follow(path)`), cannot walk in that number of steps or makes corrector rounds.
    """
    state = given_state(denoiser.codebook, tokens, known)
    check_policy(policy)
    pace = policy.start(state, num_steps, generator)
    if pace.rounds is not None:
        raise ValueError(
            "A walk with corrector rounds has no useful bound, because every token would be paid "
            "for again each time it comes back; bound the same walk without its rounds."
        )
    nats, calls = torch.zeros_like(in_double(state.snr)), 0
    for step in walk(denoiser, state, pace, Towards(tokens, generator), generator):
        nats += in_double(transition.cost(step.before, step.state, step.posterior, tokens))
        calls += step.denoiser_calls
    return Estimate(nats, calls, pace.unmasks_by_rule)


@torch.no_grad()
def line_integral(
    denoiser: Denoiser,
    tokens: Int[Tensor, "batch length"],
    path: Path,
    num_samples: int,
    generator: Randomness,
    known: Int[Tensor, "batch length"] | None = None,
) -> Estimate:
    """Estimate `-log P(x)` by the line integral along a path (paper eq. 3, 4, 5, 12, 13).

    Args:
        denoiser: Gives the posterior.
        tokens: The sequences to score, in `[0, V)`.
        path: The curve to integrate along.
        num_samples: Times drawn for each sequence, one in each of as many equal strata.
        generator: Source of the times, of the path's random order and of the noise.
        known: Tokens given in advance, `-1` elsewhere: the result is `-log P(x | known)`.

    Returns:
        With the exact denoiser, unbiased estimates of `-log P(x)`, or of an upper bound on it when
        several dependent tokens are decided at once. With a learned one, unbiased estimates of
        numbers whose average over the data is an upper bound. Costs `num_samples` denoiser calls,
        plus one when the path ends at a finite SNR. The value of a sequence that the denoiser rules
        out where tokens are decided is ∞.

        Warns where the path rises to ∞ and two codes are less than 0.5 apart; of a large vocabulary
        the first 1,024 are compared with all.

    Raises:
        ValueError: `num_samples` is below 1 or not a whole number, `tokens` are not a tensor of
            shape `(B, L)` or hold a number outside of the vocabulary, `known` contradicts them, or
            `path` is not a path.
    """
    if num_samples < 1 or isinstance(num_samples, float):
        raise ValueError(
            "The number of samples of a line integral is a whole number of at least 1, not "
            f"{num_samples}."
        )
    codebook = denoiser.codebook
    given = given_state(codebook, tokens, known)
    free = ~given.is_known
    check_path(path)
    if path.rises_to_infinity:
        _warn_of_close_codes(codebook)
    codes = codebook.encode(tokens)
    times = draw_stratified(len(tokens), num_samples, generator).to(free.device)
    nats, calls = torch.zeros_like(in_double(given.snr)), 0
    for time in times.unbind(-1):
        point = path.at(time, free, generator)
        posterior = denoiser(_observe_free(denoiser, tokens, point.snr, given, generator))
        error = in_double((codes - posterior.mean).square().sum(-1))
        decision = in_double(posterior.log_prob(tokens))
        # A token that does not jump must not turn 0 · ∞ into NaN.
        jumped = torch.where(point.jump.to(nats) > 0, -decision * point.jump.to(nats), 0.0)
        nats += (0.5 * point.speed.to(nats) * error + jumped) / num_samples
        calls += posterior.calls
    if path.snr_end == math.inf:
        return Estimate(nats, calls)
    end = denoiser(_observe_free(denoiser, tokens, path.end(free), given, generator))
    return Estimate(nats - in_double(end.log_prob(tokens)), calls + end.calls)


def _warn_of_close_codes(codebook: Codebook) -> None:
    distance = codebook.smallest_distance(COMPARED)
    if distance < CLOSE:
        warnings.warn(
            f"Two token codes are only {distance:.2g} apart, so an integral along a path rising "
            "to γ = ∞ is unbiased but of useless variance. Stop at a finite γ and decode the rest, "
            "as in Diffusion(Lomax(snr_max=40.0)).then(Decode(), share=1/16).",
            stacklevel=3,
        )


def _observe_free(
    denoiser: Denoiser,
    tokens: Int[Tensor, "batch length"],
    snr: Float[Tensor, "batch length"],
    given: State,
    generator: Randomness,
) -> State:
    return observe(denoiser.codebook, tokens, snr.masked_fill(given.is_known, torch.inf), generator)


def given_state(
    codebook: Codebook,
    tokens: Int[Tensor, "batch length"],
    known: Int[Tensor, "batch length"] | None,
) -> State:
    """Return the state in which the scoring of sequences starts, after a check of them.

    Args:
        codebook: The token codes.
        tokens: The sequences to score, in `[0, V)`.
        known: Tokens given in advance, `-1` elsewhere; None if there are none.

    Returns:
        The state without evidence, but for the tokens given.

    Raises:
        ValueError: `tokens` are not a tensor of shape `(B, L)` or hold a number outside of the
            vocabulary, or `known` contradicts them.
    """
    check_tokens(codebook, tokens)
    state = start(codebook, *tokens.shape, known=known)
    if known is not None and bool(((known != UNKNOWN) & (known != tokens)).any()):
        raise ValueError("The known tokens contradict the sequences to be scored.")
    return state
