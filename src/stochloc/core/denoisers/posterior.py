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

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.codebook import Codebook
from stochloc.core.streams import Randomness

# A number for every token of a block of the vocabulary, `start ≤ v < stop`.
Scores = Callable[[int, int], Float[Tensor, "batch length block"]]


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

    def log_probs_of(self, start: int, stop: int) -> Float[Tensor, "batch length block"]:
        """Return `log Q(v|z)` in nats of the tokens `start ≤ v < stop` of the vocabulary."""
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

    def quantile(self, u: Float[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """Return where every token's cumulative `Q` passes u: `sample` does, at uniform levels."""
        ...

    def tempered(self, temperature: float) -> "Posterior":
        """Return the posterior proportional to `Q^(1/temperature)`."""
        ...

    def nucleus(self, mass: float) -> "Posterior":
        """Return the posterior of the most likely values, as many as have `mass` together."""
        ...

    def reweighted(self, log_weights: Float[Tensor, "batch length vocabulary"]) -> "Posterior":
        """Return the posterior proportional to `Q(v|z) exp(log_weights_v)`."""
        ...

    def reweighted_by(self, log_weights: Scores) -> "Posterior":
        """Return what `reweighted` does with weights that are asked for block by block."""
        ...

    def observed(self, state: State) -> "Posterior":
        """Return the posterior after a state's evidence, `∝ Q(x_i) exp(z_i·x_i)`."""
        ...

    def guided(self, unconditional: "Posterior", strength: float) -> "Posterior":
        """Return the posterior `∝ Q_u (Q/Q_u)^strength` (`core.denoisers.guidance`)."""
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
