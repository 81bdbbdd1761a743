"""Sampling from left to right with several tokens to a call: draft, verify, accept or redraw.

The walk from left to right draws `x_i ~ p_i = Q(x_i | x_<i, what is given)`, one call for each
token. A two-sided denoiser gives all `p_i` along a whole draft y in one call, with the draft as the
left state and what is given as the right one. If y_i was drawn from any q_i, on its own, then

    x_i = y_i  with probability min(1, p_i(y_i)/q_i(y_i)),  otherwise  x_i ~ (p_i - q_i)+ / Σ (...)

is a draw from `p_i` exactly (speculative sampling: Leviathan et al. 2023, Chen et al. 2023), since
`q min(1, p/q) + (1 - Σ min(p, q)) (p - q)+ / Σ (p - q)+ = p`. Token by token, this goes on while
drafts are accepted: up to there the draft is the text, so the `p_i` are those of the walk. What
follows the first token redrawn is drafted anew. The `p_i` found along the old draft serve as the
next `q_i`: they are wrong only in so far as the draft was, they cost nothing, and whatever they are
the result has the distribution of the walk from left to right. So every call verifies one draft and
is the source of the next. The first call has no draft to verify; its `q_i` know what is given alone
and are exact for the first free token.

Each call decides a token at least. The more independent the tokens are of their close neighbours,
the more of them it decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from stochloc.core.channel import State
from stochloc.core.denoisers.blocked import BLOCK_SIZE
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.denoisers.two_sided import between
from stochloc.core.numerics import draw_categorical_in_blocks, draw_uniform, in_double
from stochloc.core.paths.orders import Autoregressive
from stochloc.core.policies.base import Follow
from stochloc.core.sampling import sample
from stochloc.core.streams import Randomness, among
from stochloc.core.transitions import Ancestral

# Rounding can reject a draft of p = q; then nothing is left of p - q, and this much of p decides.
LEAST = 1e-30


@dataclass(frozen=True)
class Speculation:
    """Sequences sampled from left to right, several tokens to a call.

    Attributes:
        tokens: The sampled sequences, all in `[0, V)`.
        denoiser_calls: How often the denoiser was asked, each time about the whole batch.
        rounds: Answers that each sequence needed; the largest is that of the batch.
        num_free: Tokens of each sequence that were drawn.
    """

    tokens: Int[Tensor, "batch length"]
    denoiser_calls: int
    rounds: Int[Tensor, " batch"]
    num_free: Int[Tensor, " batch"]

    @property
    def rounds_per_token(self) -> float:
        """Answers needed for each token drawn, in `(0, 1]`: 1 is token by token; 0 of no tokens."""
        return float(self.rounds.sum()) / max(1, int(self.num_free.sum()))


@torch.no_grad()
def sample_left_to_right(denoiser: Denoiser, state: State, generator: Randomness) -> Speculation:
    """Draw from `Π_i Q(x_i | x_<i, state)`, verifying a parallel draft in every call.

    Args:
        denoiser: Gives the conditionals.
        state: Where to start: known tokens stay, evidence of finite SNR is heeded on both sides of
            a token and at its own place.
        generator: Source of drafts, decisions and redrawn tokens.

    Returns:
        Sequences with exactly the distribution of `sample` along `Autoregressive` with as many
        steps as tokens. A two-sided denoiser is asked at most once for each free token of the
        sequence that needs most, and less often the better its drafts are. Any other denoiser takes
        that very walk.
    """
    free = (~state.is_known).sum(-1)
    sides = between(denoiser)
    if sides is None:
        policy, length = Follow(Autoregressive()), state.known.shape[-1]
        drawn = sample(denoiser, state, policy, Ancestral(), length, generator)
        return Speculation(drawn.tokens, drawn.denoiser_calls, free, free)
    if state.is_finished:
        return Speculation(state.known, 0, torch.zeros_like(free), free)
    posterior = sides(state, state).observed(state)
    tokens = posterior.sample(among(generator, free > 0))
    # All that stands before the first free token is known, so its draft is final.
    is_first = ~state.is_known & ((~state.is_known).cumsum(-1) == 1)
    draft = _Draft(tokens, state.is_known | is_first, posterior)
    calls, rounds = posterior.calls, (free > 0).long()
    while bool((unfinished := ~draft.decided.all(-1)).any()):
        left = state.reveal(draft.tokens, ~state.is_known)
        posterior = sides(left, state).observed(state)
        draft = draft.verified(posterior, among(generator, unfinished))
        calls, rounds = calls + posterior.calls, rounds + unfinished
    return Speculation(draft.tokens, calls, rounds, free)


@dataclass(frozen=True, eq=False)
class _Draft:
    """A text of which only a beginning is final.

    Attributes:
        tokens: The draft; given tokens are among it.
        decided: Which tokens are final: those given, and all up to some place in each sequence.
        source: What the others were drawn from.
    """

    tokens: Int[Tensor, "batch length"]
    decided: Bool[Tensor, "batch length"]
    source: Posterior

    def verified(self, posterior: Posterior, generator: Randomness) -> "_Draft":
        """Return the draft after the conditionals along it have accepted or redrawn its tokens."""
        gain = in_double(posterior.log_prob(self.tokens)) - in_double(
            self.source.log_prob(self.tokens)
        )
        u = draw_uniform(tuple(gain.shape), generator).to(gain)
        # A decided token was drawn otherwise, and its ratio may be anything, NaN included.
        accepted = self.decided | (u < gain.exp()).to(self.decided.device)
        final = accepted.cumprod(-1).bool()
        redrawn = final.logical_not() & F.pad(final[:, :-1], (1, 0), value=True)
        new = self._redraw(posterior, redrawn.int().argmax(-1), generator)
        tokens = torch.where(final, self.tokens, posterior.sample(generator))
        tokens = torch.where(redrawn, new[:, None], tokens)
        return _Draft(tokens, self.decided | final | redrawn, posterior)

    def _redraw(
        self, posterior: Posterior, place: Int[Tensor, " batch"], generator: Randomness
    ) -> Int[Tensor, " batch"]:
        """Draw a token from `(p - q)+` at one place of each sequence."""
        rows = torch.arange(len(place), device=place.device)

        def blocks() -> Iterator[Float[Tensor, "batch block"]]:
            size = posterior.codebook.vocabulary_size
            for start in range(0, size, BLOCK_SIZE):
                stop = min(start + BLOCK_SIZE, size)
                p, q = (
                    in_double(answer.log_probs_of(start, stop)[rows, place]).exp()
                    for answer in (posterior, self.source)
                )
                yield (p - q).clamp(min=0) + LEAST * p

        return draw_categorical_in_blocks(blocks, generator).to(place.device)
