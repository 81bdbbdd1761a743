"""A posterior over a large vocabulary that never holds all of it at once.

Every question to a posterior is a reduction over the vocabulary, and so can be answered by a pass
over blocks of tokens. With scores `s_v`, `log Q(v|z) = s_v - log Z`:

    log Z = log Σ_blocks Σ_(v in block) exp s_v      (computed once, then kept)
    x̂     = Σ_blocks Σ_(v in block) Q(v|z) e_v       (so too the entropy, the mode and log_mgf)

What is held is one block, `B × L × block_size` numbers, and the answer. It costs time: scores are
computed anew in every pass. Temperature, weights, guidance and cropping change the scores of a
block when it is asked for, so they compose without holding more.

Codes on the simplex have `d = V`; there `x̂` itself is `B × L × V`, whoever computes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Posterior, Scores
from stochloc.core.denoisers.scores import guide, nucleus_threshold, relative_to
from stochloc.core.numerics import draw_categorical_in_blocks, log_sum_exp, quantile_in_blocks
from stochloc.core.streams import Randomness

BLOCK_SIZE = 8192


@dataclass(frozen=True, eq=False)
class BlockedPosterior:
    """A posterior computed from scores that are asked for block by block; equal to a dense one.

    Equal to `DensePosterior` up to rounding, samples included: with the same generator both draw
    the same tokens, but where a rounding decides.

    Attributes:
        scores: Gives unnormalised `log Q(v|z)` of the tokens `start ≤ v < stop`, in nats.
        codebook: The token codes.
        calls: Denoiser calls it took.
        block_size: Most tokens asked for at once, at least 1.
    """

    scores: Scores
    codebook: Codebook
    calls: int = 1
    block_size: int = BLOCK_SIZE

    @classmethod
    def from_scores(
        cls,
        scores: Scores,
        known: Int[Tensor, "batch length"],
        codebook: Codebook,
        block_size: int = BLOCK_SIZE,
    ) -> "BlockedPosterior":
        """Return the posterior of scores, certain where a token is known.

        Args:
            scores: Gives unnormalised log-probabilities of a block.
            known: The token where it is known, `-1` elsewhere.
            codebook: The token codes.
            block_size: Most tokens asked for at once, at least 1.

        Returns:
            The posterior. No score is computed yet.
        """

        def certain(start: int, stop: int) -> Float[Tensor, "batch length block"]:
            block = scores(start, stop)
            is_token = known[..., None] == torch.arange(start, stop, device=known.device)
            sure = torch.zeros_like(block).masked_fill(~is_token, -torch.inf)
            return torch.where(known[..., None] >= 0, sure, block)

        return cls(certain, codebook, block_size=block_size)

    @cached_property
    def log_normaliser(self) -> Float[Tensor, "batch length"]:
        """`log Z`, in nats."""
        parts = [log_sum_exp(self.scores(start, stop)) for start, stop in self._spans()]
        return torch.stack(parts, -1).logsumexp(-1)

    @property
    def mean(self) -> Float[Tensor, "batch length dim"]:
        """The denoised codes `x̂ = Σ_v Q(v|z) e_v`."""
        return self.codebook.mean_of_blocks(self._probs())

    @property
    def entropy(self) -> Float[Tensor, "batch length"]:
        """Entropy of every token's `Q`, in nats."""
        parts = [torch.special.entr(probs).sum(-1) for probs in self._probs()]
        return torch.stack(parts, -1).sum(-1)

    @property
    def confidence(self) -> Float[Tensor, "batch length"]:
        """Probability of every token's most likely value."""
        return self._best[0].exp()

    @property
    def mode(self) -> Int[Tensor, "batch length"]:
        """Every token's most likely value."""
        return self._best[1]

    @property
    def uncertainty(self) -> Float[Tensor, "batch length"]:
        """`1 - ‖x̂‖²`, in `[0, 1]`."""
        return 1 - self.mean.square().sum(-1)

    def log_probs_of(self, start: int, stop: int) -> Float[Tensor, "batch length block"]:
        """Return `log Q(v|z)` of the tokens `start ≤ v < stop`.

        Args:
            start: The first token of the block.
            stop: The first token after it, at most V.

        Returns:
            Nats.
        """
        return self.scores(start, stop) - self.log_normaliser[..., None]

    def log_prob(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return `log Q(tokens_i|z)`.

        Args:
            tokens: Token indices, in `[0, V)`.

        Returns:
            Nats; 0 where the token is known, `-∞` where it was ruled out.
        """
        return self._at(tokens, self.log_probs_of)

    def log_mgf(
        self, dz: Float[Tensor, "batch length dim"], tokens: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length"]:
        """Return `log Σ_v Q(v|z) exp((e_v - x)·dz)`.

        Args:
            dz: A step of `z`.
            tokens: The tokens whose codes are x.

        Returns:
            Nats, at least `log Q(x|z)`.
        """

        def evidence(start: int, stop: int) -> Float[Tensor, "batch length block"]:
            return self.codebook.evidence_for(dz, start, stop)

        own = self._at(tokens, evidence)[..., None]
        parts = [
            log_sum_exp(self.log_probs_of(start, stop) + (evidence(start, stop) - own))
            for start, stop in self._spans()
        ]
        return torch.stack(parts, -1).logsumexp(-1)

    def sample(self, generator: Randomness) -> Int[Tensor, "batch length"]:
        """Draw every token from its own `Q`, exact to float64.

        Args:
            generator: Source of randomness, used as by a dense posterior.

        Returns:
            Token indices. Two passes.
        """
        drawn = draw_categorical_in_blocks(self._probs, generator)
        return drawn.to(self.log_normaliser.device)

    def quantile(self, u: Float[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """Return the token at which every cumulative `Q` passes a level, exact to float64.

        Args:
            u: Levels, in `[0, 1)`.

        Returns:
            Token indices; those of `sample` for the uniforms that it draws. Two passes.
        """
        return quantile_in_blocks(self._probs, u).to(self.log_normaliser.device)

    def tempered(self, temperature: float) -> "BlockedPosterior":
        """Return the posterior proportional to `Q^(1/temperature)`.

        Args:
            temperature: Positive; below 1 sharpens, above 1 flattens.

        Returns:
            The tempered posterior.
        """
        highest = self._best[0][..., None]
        return replace(
            self,
            scores=lambda start, stop: relative_to(
                highest, self.log_probs_of(start, stop), temperature
            ),
        )

    def nucleus(self, mass: float) -> "BlockedPosterior":
        """Return the posterior restricted to the fewest most likely values that have `mass`.

        Args:
            mass: In `(0, 1]`; 1 keeps all.

        Returns:
            The posterior. A value as likely as one that is kept is kept too. Six passes.
        """

        def blocks() -> Iterator[Float[Tensor, "batch length block"]]:
            return (self.log_probs_of(start, stop) for start, stop in self._spans())

        threshold = nucleus_threshold(blocks, self.codebook.vocabulary_size, mass)[..., None]

        def inside(start: int, stop: int) -> Float[Tensor, "batch length block"]:
            block = self.log_probs_of(start, stop)
            return block.masked_fill(block < threshold.to(block), -torch.inf)

        return replace(self, scores=inside)

    def reweighted(
        self, log_weights: Float[Tensor, "batch length vocabulary"]
    ) -> "BlockedPosterior":
        """Return the posterior proportional to `Q(v|z) exp(log_weights_v)`.

        Args:
            log_weights: Nats for and against every token; `-∞` rules it out, though not every token
                that `Q` holds for possible.

        Returns:
            The posterior given evidence about each token by itself.
        """
        return self.reweighted_by(lambda start, stop: log_weights[..., start:stop])

    def reweighted_by(self, log_weights: Scores) -> "BlockedPosterior":
        """Return the posterior proportional to `Q(v|z) exp(log_weights_v)`.

        Args:
            log_weights: Gives the nats for and against the tokens of a block, as `reweighted` takes
                them; the same at every call.

        Returns:
            The posterior given evidence about each token by itself. Weights of one block are held.
        """
        return replace(
            self,
            scores=lambda start, stop: self.log_probs_of(start, stop) + log_weights(start, stop),
        )

    def observed(self, state: State) -> "BlockedPosterior":
        """Return the posterior proportional to `Q(x_i) exp(z_i·x_i)`, certain of known tokens.

        Args:
            state: The evidence of each token by itself, of which `Q` knows nothing yet.

        Returns:
            The posterior; exact where `Q` is (paper A.1).
        """

        def scores(start: int, stop: int) -> Float[Tensor, "batch length block"]:
            evidence = self.codebook.evidence_for(state.z, start, stop)
            return self.log_probs_of(start, stop) + evidence

        seen = BlockedPosterior.from_scores(scores, state.known, self.codebook, self.block_size)
        return replace(seen, calls=self.calls)

    def guided(self, unconditional: Posterior, strength: float) -> "BlockedPosterior":
        """Return the posterior proportional to `Q_u(v|z) (Q(v|z)/Q_u(v|z))^strength`.

        Args:
            unconditional: `Q_u`, of the same shape and of any kind.
            strength: At least 0.

        Returns:
            The guided posterior; what either one rules out stays ruled out, but at strength 0.
        """
        calls = self.calls + unconditional.calls
        if strength == 0:
            return replace(self, scores=unconditional.log_probs_of, calls=calls)

        def leaning(start: int, stop: int) -> Float[Tensor, "batch length block"]:
            own, other = self.log_probs_of(start, stop), unconditional.log_probs_of(start, stop)
            return guide(own, other, strength)

        # Two that exclude each other have no compromise: the condition has the last word.
        possible = [leaning(start, stop).isfinite().any(-1) for start, stop in self._spans()]
        agree = torch.stack(possible).any(0)[..., None]

        def guided(start: int, stop: int) -> Float[Tensor, "batch length block"]:
            return torch.where(agree, leaning(start, stop), self.log_probs_of(start, stop))

        return replace(self, scores=guided, calls=calls)

    def cropped(self, start: int, stop: int) -> "BlockedPosterior":
        """Return the posterior of the tokens from `start` up to `stop`.

        Args:
            start: The first position kept.
            stop: The first position after those kept.

        Returns:
            The posterior of `stop - start` tokens.
        """
        return replace(self, scores=lambda first, last: self.scores(first, last)[:, start:stop])

    def _spans(self) -> Iterator[tuple[int, int]]:
        size = self.codebook.vocabulary_size
        for start in range(0, size, self.block_size):
            yield start, min(start + self.block_size, size)

    def _probs(self) -> Iterator[Float[Tensor, "batch length block"]]:
        for start, stop in self._spans():
            yield self.log_probs_of(start, stop).exp()

    @cached_property
    def _best(self) -> tuple[Float[Tensor, "batch length"], Int[Tensor, "batch length"]]:
        """The highest log-probability of every token, and whose it is."""
        parts = [(start, self.log_probs_of(start, stop).max(-1)) for start, stop in self._spans()]
        highest, block = torch.stack([part.values for _, part in parts], -1).max(-1)
        places = torch.stack([start + part.indices for start, part in parts], -1)
        return highest, places.gather(-1, block[..., None]).squeeze(-1)

    def _at(
        self, tokens: Int[Tensor, "batch length"], values: Scores
    ) -> Float[Tensor, "batch length"]:
        """Return the value of every token's own column, found in the block that holds it."""
        found = []
        for start, stop in self._spans():
            place = (tokens - start).clamp(0, stop - start - 1)[..., None]
            here = (start <= tokens) & (tokens < stop)
            own = values(start, stop).gather(-1, place).squeeze(-1)
            found.append(torch.where(here, own, 0.0))
        # One block holds the token, so all but one term are 0.
        return torch.stack(found, -1).sum(-1)
