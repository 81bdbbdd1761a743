"""Denoisers and their posteriors.

Given the noisy codes of all tokens, Bayes' rule on the sphere is (paper A.1)

    P(x|z) ∝ P(x) exp(Σ_i z_i · x_i),

with no γ in it: the best denoiser `x̂(z) = E[x|z]` is the same at every signal-to-noise ratio and on
every path. A denoiser is therefore a map from a `State` to a `Posterior`, and a posterior is the
factorised `Q(x_i|z)`, one distribution over the vocabulary for each token. Where a token is known,
`Q` is certain of it.

`ExactDenoiser` evaluates the sum over all sequences of an enumerable data set (paper C.1). It is
the true posterior, so it turns every estimator of this library into one whose answer is known.
"""

import math
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from stochloc.core.channel import State
from stochloc.core.codebook import Codebook
from stochloc.core.numerics import draw_categorical
from stochloc.core.streams import Randomness


@runtime_checkable
class Posterior(Protocol):
    """What a denoiser believes of every token: the factorised `Q(x_i|z)`.

    Transitions, policies and estimators ask only these questions, so an implementation is free
    never to hold all `B × L × V` probabilities at once.
    """

    @property
    def codebook(self) -> Codebook:
        """The token codes."""
        ...

    @property
    def calls(self) -> int:
        """How many denoiser calls it took, each about the whole batch; two under guidance."""
        ...

    @property
    def mean(self) -> Float[Tensor, "batch length dim"]:
        """The denoised codes `x̂ = E[x|z]`."""
        ...

    @property
    def entropy(self) -> Float[Tensor, "batch length"]:
        """Entropy of every token's `Q`, in nats; 0 where the token is known."""
        ...

    @property
    def confidence(self) -> Float[Tensor, "batch length"]:
        """Probability of every token's most likely value."""
        ...

    @property
    def mode(self) -> Int[Tensor, "batch length"]:
        """Every token's most likely value."""
        ...

    @property
    def uncertainty(self) -> Float[Tensor, "batch length"]:
        """`1 - ‖x̂‖²`, which under a calibrated posterior is `E‖x - x̂‖²`."""
        ...

    def log_prob(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return `log Q(tokens_i|z)` in nats."""
        ...

    def log_mgf(
        self, dz: Float[Tensor, "batch length dim"], tokens: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length"]:
        """Return `log Σ_v Q(v|z) exp((e_v - x)·dz)`, the log moment-generating function about x."""
        ...

    def sample(self, generator: Randomness) -> Int[Tensor, "batch length"]:
        """Draw every token from its own `Q`."""
        ...

    def tempered(self, temperature: float) -> "Posterior":
        """Return the posterior proportional to `Q^(1/temperature)`."""
        ...

    def reweighted(self, log_weights: Float[Tensor, "batch length vocabulary"]) -> "Posterior":
        """Return the posterior proportional to `Q(v|z) exp(log_weights_v)`."""
        ...

    def guided(self, unconditional: "Posterior", strength: float) -> "Posterior":
        """Return the posterior proportional to `Q_u (Q/Q_u)^strength` (`core.guidance`)."""
        ...

    def cropped(self, start: int, stop: int) -> "Posterior":
        """Return the posterior of the tokens from `start` up to `stop`."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """A map from a state to a posterior; it sees neither the time nor the SNR."""

    @property
    def codebook(self) -> Codebook:
        """The token codes the denoiser was made for."""
        ...

    def __call__(self, state: State) -> Posterior:
        """Return the posterior of every token given the state: one denoiser call."""
        ...


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

    def tempered(self, temperature: float) -> "DensePosterior":
        """Return the posterior proportional to `Q^(1/temperature)`.

        Args:
            temperature: Positive; below 1 sharpens, above 1 flattens.

        Returns:
            The tempered posterior.
        """
        # Relative to the mode, and never divided by a subnormal or by what the type takes for
        # infinite: the limits are the mode and all that is possible, not NaN.
        relative = self.log_probs - self.log_probs.amax(-1, keepdim=True)
        real = torch.finfo(relative.dtype)
        scale = min(max(temperature, real.tiny), real.max)
        return replace(self, log_probs=(relative / scale).log_softmax(-1))

    def reweighted(self, log_weights: Float[Tensor, "batch length vocabulary"]) -> "DensePosterior":
        """Return the posterior proportional to `Q(v|z) exp(log_weights_v)`.

        Args:
            log_weights: Nats for and against every token; `-∞` rules it out, though not every token
                that `Q` holds for possible.

        Returns:
            The posterior given evidence about each token by itself.
        """
        return replace(self, log_probs=(self.log_probs + log_weights).log_softmax(-1))

    def guided(self, unconditional: "DensePosterior", strength: float) -> "DensePosterior":
        """Return the posterior proportional to `Q_u(v|z) (Q(v|z)/Q_u(v|z))^strength`.

        Args:
            unconditional: `Q_u`, of the same shape.
            strength: At least 0.

        Returns:
            The guided posterior; what either one rules out stays ruled out, but at strength 0.
        """
        calls = self.calls + unconditional.calls
        if strength == 0:
            return replace(unconditional, calls=calls)
        possible = self.log_probs.isfinite() & unconditional.log_probs.isfinite()
        gain = self.log_probs - unconditional.log_probs
        guided = torch.where(possible, unconditional.log_probs + strength * gain, -torch.inf)
        # Two that exclude each other have no compromise: the condition has the last word.
        guided = torch.where(possible.any(-1, keepdim=True), guided, self.log_probs)
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


@dataclass(frozen=True)
class Tempered:
    """A denoiser whose posteriors are raised to the power `1/temperature`.

    Its walk no longer samples the model's distribution: `temperature = 1` alone is exact.

    Attributes:
        denoiser: The denoiser to sharpen or flatten.
        temperature: Positive, dimensionless.
    """

    denoiser: Denoiser
    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"A temperature must be positive and finite, not {self.temperature}.")

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    def __call__(self, state: State) -> Posterior:
        """Return the tempered posterior; one call of the wrapped denoiser."""
        return self.denoiser(state).tempered(self.temperature)


class ExactDenoiser:
    """The true posterior of an enumerable data set, by a softmax over its sequences (paper C.1).

    Args:
        codebook: The token codes; the results have its floating type.
        sequences: All sequences of positive probability, `(M, L)`.
        log_prior: `log P` of each up to a constant, `(M,)`, nats; uniform when absent.

    Known tokens that fit no sequence, as a coarse walk may produce, are taken as the limit of ever
    larger SNR: the sequences that agree best with them remain.

    Cost: one call takes `O(B · M · L · (d + V))` operations and `O(L · M · V)` memory is held.
    """

    def __init__(
        self,
        codebook: Codebook,
        sequences: Int[Tensor, "sequences length"],
        log_prior: Float[Tensor, " sequences"] | None = None,
    ) -> None:
        if sequences.numel() == 0:
            raise ValueError("An exact denoiser needs at least one sequence of one token.")
        prior = torch.zeros(len(sequences)) if log_prior is None else log_prior
        self.codebook = codebook
        self.sequences = sequences.to(codebook.one.device)
        self.log_prior = prior.to(codebook.one).log_softmax(0)
        self._codes = codebook.encode(self.sequences).flatten(1)
        one_hot = F.one_hot(self.sequences, codebook.vocabulary_size)
        self._one_hot = one_hot.to(codebook.one).flatten(1)

    def given(self, labels: Int[Tensor, " sequences"], label: int) -> "ExactDenoiser":
        """Return the exact denoiser of `P(x|y)`: the sequences that carry one label (paper A.1).

        Args:
            labels: The label y of every sequence of this data set.
            label: The one to condition on.

        Returns:
            A denoiser of the sequences with that label.

        Raises:
            ValueError: No sequence carries the label.
        """
        chosen = labels == label
        if not bool(chosen.any()):
            raise ValueError(f"No sequence of the data set carries the label {label}.")
        return ExactDenoiser(self.codebook, self.sequences[chosen], self.log_prior[chosen])

    def sequence_log_posterior(self, state: State) -> Float[Tensor, "batch sequences"]:
        """Return `log P(x|z)` of every sequence of the data set.

        Args:
            state: Noisy codes and known tokens.

        Returns:
            Nats, normalised over the sequences.
        """
        known_codes = self.codebook.encode(state.known.clamp(min=0)) * state.is_known[..., None]
        agreement = known_codes.flatten(1) @ self._codes.T
        best = agreement.amax(-1, keepdim=True)
        log_joint = self.log_prior + state.z.flatten(1) @ self._codes.T
        # Neighbours on a circle of 1,000 tokens agree to 2e-5, so only rounding may be forgiven.
        rounding = min(1e-4, 64 * torch.finfo(best.dtype).eps * state.known.shape[-1])
        return log_joint.masked_fill(agreement < best - rounding, -torch.inf).log_softmax(-1)

    def __call__(self, state: State) -> DensePosterior:
        """Return the marginal posterior of every token; exact."""
        probs = self.sequence_log_posterior(state).exp() @ self._one_hot
        shape = (*state.known.shape, self.codebook.vocabulary_size)
        return DensePosterior.from_logits(probs.view(shape).log(), state.known, self.codebook)

    def log_prob(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
        """Return the exact `log P` of whole sequences.

        Args:
            tokens: Token indices, `(B, L)`.

        Returns:
            Nats; `-∞` for sequences outside the data set.
        """
        matches = (tokens[:, None] == self.sequences).all(-1)
        return self.log_prior.expand_as(matches).masked_fill(~matches, -torch.inf).logsumexp(-1)

    def sample(self, num: int, generator: Randomness) -> Int[Tensor, "num length"]:
        """Draw whole sequences from the exact distribution.

        Args:
            num: How many.
            generator: Source of randomness.

        Returns:
            Token indices.
        """
        rows = draw_categorical(self.log_prior.exp().expand(num, -1), generator)
        return self.sequences[rows.to(self.sequences.device)]
