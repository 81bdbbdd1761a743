"""Surest-first unmasking that takes decisions back when a rule is broken.

Tokens above a threshold of confidence are decided together; where there are none, the most
confident one is decided, which is a *guess*. If the tokens known then break a rule, the last guess
is to blame, for what was sure followed from it. It and all that was decided with or after it go
back to where they began, and its value is *refuted*: evidence

    c with c·e_v = -M for refuted v, 0 for other v        (paper A.1: evidence adds to z)

is added to the token's `z`, M = 30 nats. So the denoiser itself rules the value out there and
hears of it elsewhere. A refutation holds as long as the decisions before it stand, and is forgotten
with the first of them that is taken back: depth-first search, in which the denoiser infers, chooses
the branch and orders its values.

A rule is broken too where the context leaves next to nothing to the values that are not refuted,

    Σ_{v not refuted} Q(v | z without c_i) < 1 - threshold.

If nothing that stands was a guess, something sure was wrong: the least confident decision is to
blame. A sequence whose tokens are all known and break no rule is finished.

What is decided, refuted and taken back follows from the states and posteriors of the walk, which
the guided walk visits by the same rule, so `bound` holds. It counts every decision, hence is loose.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core.channel import UNKNOWN, State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.constrained import RULED_OUT_NATS
from stochloc.core.denoisers.posterior import Posterior
from stochloc.core.paths.base import offered
from stochloc.core.paths.orders import rank_free
from stochloc.core.policies.base import Pace
from stochloc.core.policies.confidence import TokenConfidence
from stochloc.core.policies.rules import Rule
from stochloc.core.streams import Randomness

NEVER = -1


@dataclass(frozen=True)
class Backtrack:
    """Decide all tokens above a threshold of confidence, or guess one; take wrong guesses back.

    The walk should decide most likely values, not draw: a value drawn against the odds counts as a
    guess, but is a bad one.

    Attributes:
        rule: What finished sequences must obey; it is checked on unfinished ones too.
        threshold: In `(0, 1]`; 1 makes every decision that is not certain a guess.
    """

    rule: Rule
    threshold: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(
                f"A threshold of certainty must lie in (0, 1], not be {self.threshold}."
            )

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return a pace that takes as many steps as it needs, one denoiser call each.

        Args:
            state: The start of the walk; tokens known there are never taken back.
            num_steps: The largest number of steps, at least 1; after them all tokens are decided,
                whether or not the rule is kept then.
            generator: Not used.

        Returns:
            The pace. It remembers V numbers for every token.

        Raises:
            ValueError: `num_steps` is below 1.
        """
        steps, search = offered(num_steps, state.is_known), _Search(self, state)

        def dsnr(n: int, state: State, posterior: Posterior) -> Float[Tensor, "batch length"]:
            chosen = search.decide(n, state, posterior)
            return torch.zeros_like(state.snr).masked_fill(chosen, torch.inf)

        return Pace(steps, dsnr, revise=search.revise)


class _Search:
    """The decisions that stand, and the values refuted while they do, for one batch."""

    def __init__(self, settings: Backtrack, start: State) -> None:
        self.settings, self.origin = settings, start
        self.confidence = TokenConfidence(start)
        self.decided_at = torch.full_like(start.known, NEVER)
        self.is_hopeless = start.is_known.new_zeros(len(start.known))
        # The step of the guess that a refutation replaced, `(B, L, V)`; none to begin with.
        self.refuted_at: Int[Tensor, "batch length vocabulary"] | None = None

    def decide(self, n: int, state: State, posterior: Posterior) -> Bool[Tensor, "batch length"]:
        """Return the tokens to decide in step number n."""
        self.confidence.ask(state, posterior)
        # Where no decision stands there is none to take back.
        stands = (self.decided_at != NEVER).any(-1)
        self.is_hopeless = stands & self._leaves_nothing(state, posterior)
        unknown = ~state.is_known & ~self.is_hopeless[:, None]
        sure = unknown & (posterior.confidence >= self.settings.threshold)
        guess = unknown & (rank_free(-posterior.confidence, unknown) < 1)
        chosen = torch.where(sure.any(-1, keepdim=True), sure, guess)
        self.decided_at = self.decided_at.masked_fill(chosen, n)
        return chosen

    def revise(self, n: int, codebook: Codebook, state: State) -> State:
        """Return the state after wrong decisions were taken back."""
        confidence = self.confidence.after(state)
        stands = self.decided_at != NEVER
        is_broken = self.settings.rule.broken(state.known).any(-1)
        is_wrong = (is_broken | self.is_hopeless) & stands.any(-1)
        if not bool(is_wrong.any()):
            return state
        blamed = self._blamed(stands, confidence)
        since = self.decided_at.gather(-1, blamed)
        taken = stands & is_wrong[:, None] & (self.decided_at >= since)
        self._refute(state, blamed, since, is_wrong, codebook.vocabulary_size)
        self.decided_at = self.decided_at.masked_fill(taken, NEVER)
        return self._without(taken, is_wrong, codebook, state)

    def _blamed(self, stands: Tensor, confidence: Tensor) -> Int[Tensor, "batch 1"]:
        is_guess = stands & (confidence < self.settings.threshold)
        last_guess = self.decided_at.masked_fill(~is_guess, NEVER).argmax(-1, keepdim=True)
        least_sure = confidence.masked_fill(~stands, torch.inf).argmin(-1, keepdim=True)
        return torch.where(is_guess.any(-1, keepdim=True), last_guess, least_sure)

    def _refute(
        self, state: State, blamed: Tensor, since: Tensor, is_wrong: Tensor, size: int
    ) -> None:
        if self.refuted_at is None:
            self.refuted_at = torch.full((*state.known.shape, size), NEVER, device=blamed.device)
        # Those that were found while the blamed decision stood may owe something to it.
        forgotten = is_wrong[:, None, None] & (self.refuted_at > since[..., None])
        self.refuted_at = self.refuted_at.masked_fill(forgotten, NEVER)
        rows = is_wrong.nonzero().squeeze(-1)
        places = blamed[rows, 0]
        self.refuted_at[rows, places, state.known[rows, places]] = since[rows, 0]

    def _without(self, taken: Tensor, is_wrong: Tensor, codebook: Codebook, state: State) -> State:
        evidence = self.origin.z + self._evidence(codebook).to(state.z)
        known = state.known.masked_fill(taken, UNKNOWN)
        renewed = is_wrong[:, None] & (known == UNKNOWN)
        return State(
            z=torch.where(renewed[..., None], evidence, state.z),
            known=known,
            snr=torch.where(renewed, self.origin.snr, state.snr),
        )

    def _evidence(self, codebook: Codebook) -> Float[Tensor, "batch length dim"]:
        assert self.refuted_at is not None
        return codebook.nearest_evidence(-RULED_OUT_NATS * (self.refuted_at != NEVER))

    def _leaves_nothing(self, state: State, posterior: Posterior) -> Bool[Tensor, " batch"]:
        """Return where some token has hardly any value left that the context allows."""
        if self.refuted_at is None:
            return torch.zeros_like(self.is_hopeless)
        codebook, is_refuted = posterior.codebook, self.refuted_at != NEVER
        against = codebook.evidence(self._evidence(codebook)).to(state.z)
        context = posterior.reweighted(-against).log_probs_of(0, codebook.vocabulary_size)
        left = context.exp().masked_fill(is_refuted, 0.0).sum(-1)
        return ((left < 1 - self.settings.threshold) & ~state.is_known).any(-1)
