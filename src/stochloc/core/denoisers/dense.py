"""A posterior that holds all of its log-probabilities."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Posterior, Scores
from stochloc.core.denoisers.scores import guide, nucleus_threshold, relative_to
from stochloc.core.numerics import draw_categorical, quantile
from stochloc.core.streams import Randomness


@dataclass(frozen=True)
class DensePosterior:
    """A posterior that holds the log-probability of every token of the vocabulary.

    Attributes:
        log_probs: `log Q(v|z)`, normalised over the vocabulary, in nats.
        codebook: The token codes.
        calls: Denoiser calls it took. Whoever combines posteriors adds theirs, so what a walk
            reports is what was asked.
    """

    log_probs: Float[Tensor, "batch length vocabulary"]
    codebook: Codebook
    calls: int = 1

    @classmethod
    def from_logits(
        cls,
        logits: Float[Tensor, "batch length vocabulary"],
        known: Int[Tensor, "batch length"],
        codebook: Codebook,
    ) -> "DensePosterior":
        """Normalise logits, and be certain where a token is known.

        Args:
            logits: Unnormalised log-probabilities.
            known: The token where it is known, `-1` elsewhere.
            codebook: The token codes.

        Returns:
            The posterior.
        """
        is_token = known[..., None] == torch.arange(logits.shape[-1], device=known.device)
        certain = torch.zeros_like(logits).masked_fill(~is_token, -torch.inf)
        return cls(torch.where(known[..., None] >= 0, certain, logits).log_softmax(-1), codebook)

    @property
    def probs(self) -> Float[Tensor, "batch length vocabulary"]:
        """`Q(v|z)`, summing to 1 over the vocabulary."""
        return self.log_probs.exp()

    @property
    def mean(self) -> Float[Tensor, "batch length dim"]:
        """The denoised codes `x̂ = Σ_v Q(v|z) e_v`."""
        return self.codebook.mean(self.probs)

    @property
    def entropy(self) -> Float[Tensor, "batch length"]:
        """Entropy of every token's `Q`, in nats."""
        return torch.special.entr(self.probs).sum(-1)

    @property
    def confidence(self) -> Float[Tensor, "batch length"]:
        """Probability of every token's most likely value."""
        return self.log_probs.amax(-1).exp()

    @property
    def mode(self) -> Int[Tensor, "batch length"]:
        """Every token's most likely value."""
        return self.log_probs.argmax(-1)

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
            Nats, a view of those held.
        """
        return self.log_probs[..., start:stop]

    def log_prob(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return `log Q(tokens_i|z)`.

        Args:
            tokens: Token indices, in `[0, V)`.

        Returns:
            Nats; 0 where the token is known, `-∞` where it was ruled out.
        """
        return self.log_probs.gather(-1, tokens[..., None]).squeeze(-1)

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
        # Differences first: after a long step the evidence is so large that it would swallow Q.
        evidence = self.codebook.evidence(dz)
        own = evidence.gather(-1, tokens[..., None])
        return torch.logsumexp(self.log_probs + (evidence - own), -1)

    def sample(self, generator: Randomness) -> Int[Tensor, "batch length"]:
        """Draw every token from its own `Q`, exact to float64.

        Args:
            generator: Source of randomness.

        Returns:
            Token indices.
        """
        return draw_categorical(self.probs, generator)

    def quantile(self, u: Float[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """Return the token at which every cumulative `Q` passes a level, exact to float64.

        Args:
            u: Levels, in `[0, 1)`.

        Returns:
            Token indices; those of `sample` for the uniforms that it draws.
        """
        return quantile(self.probs, u)

    def tempered(self, temperature: float) -> "DensePosterior":
        """Return the posterior proportional to `Q^(1/temperature)`.

        Args:
            temperature: Positive; below 1 sharpens, above 1 flattens.

        Returns:
            The tempered posterior.
        """
        highest = self.log_probs.amax(-1, keepdim=True)
        scores = relative_to(highest, self.log_probs, temperature)
        return replace(self, log_probs=scores.log_softmax(-1))

    def nucleus(self, mass: float) -> "DensePosterior":
        """Return the posterior restricted to the fewest most likely values that have `mass`.

        Args:
            mass: In `(0, 1]`; 1 keeps all.

        Returns:
            The posterior. A value as likely as one that is kept is kept too.
        """
        lowest = nucleus_threshold(lambda: [self.log_probs], self.log_probs.shape[-1], mass)
        outside = self.log_probs < lowest.to(self.log_probs)[..., None]
        return replace(
            self, log_probs=self.log_probs.masked_fill(outside, -torch.inf).log_softmax(-1)
        )

    def reweighted(self, log_weights: Float[Tensor, "batch length vocabulary"]) -> "DensePosterior":
        """Return the posterior proportional to `Q(v|z) exp(log_weights_v)`.

        Args:
            log_weights: Nats for and against every token; `-∞` rules it out, though not every token
                that `Q` holds for possible.

        Returns:
            The posterior given evidence about each token by itself.
        """
        return replace(self, log_probs=(self.log_probs + log_weights).log_softmax(-1))

    def reweighted_by(self, log_weights: Scores) -> "DensePosterior":
        """Return the posterior proportional to `Q(v|z) exp(log_weights_v)`.

        Args:
            log_weights: Gives the nats for and against the tokens of a block, as `reweighted` takes
                them; asked for the whole vocabulary.

        Returns:
            The posterior given evidence about each token by itself.
        """
        return self.reweighted(log_weights(0, self.codebook.vocabulary_size))

    def observed(self, state: State) -> "DensePosterior":
        """Return the posterior proportional to `Q(x_i) exp(z_i·x_i)`, certain of known tokens.

        Args:
            state: The evidence of each token by itself, of which `Q` knows nothing yet.

        Returns:
            The posterior; exact where `Q` is (paper A.1).
        """
        scores = self.log_probs + self.codebook.evidence(state.z)
        seen = DensePosterior.from_logits(scores, state.known, self.codebook)
        return replace(seen, calls=self.calls)

    def guided(self, unconditional: Posterior, strength: float) -> "DensePosterior":
        """Return the posterior proportional to `Q_u(v|z) (Q(v|z)/Q_u(v|z))^strength`.

        Args:
            unconditional: `Q_u`, of the same shape and of any kind.
            strength: At least 0.

        Returns:
            The guided posterior; what either one rules out stays ruled out, but at strength 0.
        """
        calls = self.calls + unconditional.calls
        other = unconditional.log_probs_of(0, self.codebook.vocabulary_size)
        if strength == 0:
            return replace(self, log_probs=other, calls=calls)
        guided = guide(self.log_probs, other, strength)
        # Two that exclude each other have no compromise: the condition has the last word.
        guided = torch.where(guided.isfinite().any(-1, keepdim=True), guided, self.log_probs)
        return replace(self, log_probs=guided.log_softmax(-1), calls=calls)

    def cropped(self, start: int, stop: int) -> "DensePosterior":
        """Return the posterior of the tokens from `start` up to `stop`.

        Args:
            start: The first position kept.
            stop: The first position after those kept.

        Returns:
            The posterior of `stop - start` tokens.
        """
        return replace(self, log_probs=self.log_probs[:, start:stop])
