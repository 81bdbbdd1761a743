"""SEDD: score entropy (Lou et al. 2024, Discrete diffusion modeling by estimating the ratios).

Tokens are lost at the rate `σ' = -α'/α` and replaced by draws from π. The network learns the ratios
`s(x_t)_y ≈ p_t(x_t with y in the token's place)/p_t(x_t)`, and with `r_y = q(y|x_0)/q(x_t|x_0)`

    -log P(x) <= ∫₀¹ σ' E Σ_i π(x_t) Σ_{y≠x_t} [ s_y - r_y log s_y + r_y (log r_y - 1) ] dt
                 + D( q(x_1|x_0) ‖ π ),

whose minimum is at the true ratios. For masks the authors scale the network's output by `α/(1-α)`,
after which only the law of the masked token is left to learn; it need not sum to 1. Both networks
are conditioned on the time, as in the authors' code (louaaron/Score-Entropy-Discrete-Diffusion,
`model/transformer.py`), though that law has none. Both lose tokens evenly (the authors' log-linear
noise); their geometric noise, made for others, ends as high with uniform noise (docs/log.md). Times
of training begin at 1e-3, as theirs (`losses.py`, `sampling_eps`); the bound covers all times.

Choices: the network is told t where theirs is told `-log α`, by an added embedding where theirs
modulates every layer; times of training are drawn one from each of equal strata, theirs
independently; masks end at α = 0, theirs at 1e-3.

Samplers go from t to s with `a = α_t/α_s`. *Tweedie*: the ratios at s follow from those at t,

    p(x_s = y|x_t) ∝ max(0, s_y - (1-a) π(y) Σ_y' s_y') [a δ(y = x_t) + (1-a) π(x_t)],

the law of single tokens exactly. *Euler*: jump to y with probability `σ' π(x_t) s_y (t-s)`. The
last step is Tweedie's (the authors' noise removal).
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stochloc.core.numerics import draw_categorical, in_double
from stochloc.methods.kernels import Kernel, absorbing, uniform
from stochloc.methods.method import Drawn, Frame
from stochloc.methods.schedules import Linear, Schedule, final_alpha
from stochloc.methods.time_integral import TimeIntegral, crowded
from stochloc.nn import token_network

# The authors' ε: the time stops where a token is still itself once in a thousand.
FLOOR = 1e-3
# Where masks are all there is, every weight of the sampler is 0; it begins just before.
LATEST = 1 - 1e-6


@runtime_checkable
class Jump(Protocol):
    """A way of taking a step back."""

    def probs(
        self,
        ratios: Float[Tensor, "batch length states"],
        noisy: Int[Tensor, "batch length"],
        kernel: Kernel,
        schedule: Schedule,
        times: tuple[float, float],
    ) -> Float[Tensor, "batch length states"]:
        """Return weights of the states at the earlier of two times.

        Args:
            ratios: `s`, 1 at the present state.
            noisy: The present state.
            kernel: How tokens are lost.
            schedule: Gives α.
            times: The later time t and the earlier one s.
        """
        ...


class Tweedie:
    """The law of each token's earlier state, exact if the ratios are."""

    def probs(
        self,
        ratios: Float[Tensor, "batch length states"],
        noisy: Int[Tensor, "batch length"],
        kernel: Kernel,
        schedule: Schedule,
        times: tuple[float, float],
    ) -> Float[Tensor, "batch length states"]:
        """Return weights of the states at the earlier time."""
        alpha_t, alpha_s = schedule.alpha(torch.tensor(times, dtype=torch.float64)).unbind()
        kept = (alpha_t / alpha_s).to(ratios)
        stationary = kernel.stationary.to(ratios)
        earlier = ratios - (1 - kept) * stationary * ratios.sum(-1, keepdim=True)
        arrived = stationary[noisy][..., None]
        likelihood = kept * kernel.one_hot(noisy).to(ratios) + (1 - kept) * arrived
        return earlier.clamp(min=0) * likelihood


class EulerJump:
    """Jumps at the rates of the later time; biased by O(t - s)."""

    def probs(
        self,
        ratios: Float[Tensor, "batch length states"],
        noisy: Int[Tensor, "batch length"],
        kernel: Kernel,
        schedule: Schedule,
        times: tuple[float, float],
    ) -> Float[Tensor, "batch length states"]:
        """Return weights of the states at the earlier time."""
        later = torch.tensor(times[0], dtype=torch.float64)
        rate = float(-schedule.slope(later) / schedule.alpha(later)) * (times[0] - times[1])
        here = kernel.one_hot(noisy).to(ratios)
        jumps = rate * kernel.stationary.to(ratios)[noisy][..., None] * ratios * (1 - here)
        return jumps + here * (1 - jumps.sum(-1, keepdim=True)).clamp(min=0)


class Sedd(TimeIntegral):
    """Score entropy with a kernel, its outputs taken as logarithms of ratios.

    Args:
        network: Returns `log s`, `(B, L, V)`, given states and time.
        vocabulary_size: Number of tokens, V.
        kernel: How tokens are lost.
        schedule: Gives α.
        jump: How the sampler steps, by Tweedie's formula unless told otherwise.
    """

    earliest = 1e-3

    def __init__(
        self,
        network: nn.Module,
        vocabulary_size: int,
        kernel: Kernel,
        schedule: Schedule,
        jump: Jump | None = None,
    ) -> None:
        super().__init__()
        self.network, self.vocabulary_size = network, vocabulary_size
        self.kernel, self.schedule = kernel, schedule
        self.jump = Tweedie() if jump is None else jump

    @classmethod
    def uniform(cls, frame: Frame) -> "Sedd":
        """Return the method with uniform noise, untrained.

        Args:
            frame: What all methods share.

        Returns:
            The method.
        """
        size = frame.vocabulary_size
        network = token_network(size, size, frame.backbone, timed=True)
        return cls(network, size, uniform(size), Linear(FLOOR))

    def log_ratios(
        self, noisy: Int[Tensor, "batch length"], time: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Return `log s` of every token in every place.

        Args:
            noisy: States.
            time: The time of every sequence.

        Returns:
            Logarithms of ratios to the present state, float64.
        """
        return in_double(self.network(noisy, time))

    def crowding(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
        """Return ½: tokens are lost in proportion to the time."""
        return crowded(tokens)

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch length"]:
        """Return the score entropy times the rate at which tokens are lost."""
        alpha = self.schedule.alpha(time)[:, None]
        return self.entropy_nats(tokens, self.kernel.noisy(tokens, alpha, generator), time)

    def entropy_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        noisy: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch length"]:
        """Return what `token_nats` does, for given noise.

        Args:
            tokens: The true tokens.
            noisy: The noisy ones.
            time: Their time.

        Returns:
            Nats of every token.
        """
        alpha = self.schedule.alpha(time)[:, None, None]
        log_s = self.log_ratios(noisy, time)
        law = self.kernel.forward_law(self.kernel.one_hot(tokens), alpha)
        ratios = (law / law.gather(-1, noisy[..., None]))[..., : self.vocabulary_size]
        entropy = log_s.exp() - ratios * log_s + torch.special.xlogy(ratios, ratios) - ratios
        elsewhere = 1 - self.kernel.one_hot(noisy)[..., : self.vocabulary_size]
        rate = -self.schedule.slope(time)[:, None] / alpha[..., 0]
        arrived = self.kernel.stationary.to(entropy)[noisy]
        return rate * arrived * (entropy * elsewhere).sum(-1)

    def fixed_nats(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return the divergence of the last noisy tokens from π."""
        return self.kernel.prior_nats(tokens, final_alpha(self.schedule))

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Go back in N steps of equal time, the last by Tweedie's formula; N network calls."""
        times = torch.linspace(LATEST, 0, num_steps + 1, dtype=torch.float64)
        noisy = self.kernel.draw_stationary((num_sequences, length), generator)
        for n in range(num_steps):
            later, earlier = float(times[n]), float(times[n + 1])
            ratios = self._ratios(noisy, later)
            jump = Tweedie() if n == num_steps - 1 else self.jump
            weights = jump.probs(ratios, noisy, self.kernel, self.schedule, (later, earlier))
            if n == num_steps - 1:
                weights = weights[..., : self.vocabulary_size]
            noisy = draw_categorical(weights, generator)
        return Drawn(noisy, num_steps)

    def _ratios(
        self, noisy: Int[Tensor, "batch length"], time: float
    ) -> Float[Tensor, "batch length states"]:
        times = torch.full((len(noisy),), time, dtype=torch.float64, device=noisy.device)
        here = self.kernel.one_hot(noisy)
        ratios = torch.zeros_like(here)
        ratios[..., : self.vocabulary_size] = self.log_ratios(noisy, times).exp()
        return ratios * (1 - here) + here


class SeddAbsorbing(Sedd):
    """Score entropy with masks, the output scaled by `α/(1-α)/V`.

    Args:
        network: Returns the logarithm of V times the law of a masked token, given states and time.
        vocabulary_size: Number of tokens, V.
        jump: How the sampler steps.
    """

    def __init__(self, network: nn.Module, vocabulary_size: int, jump: Jump | None = None) -> None:
        # Masks need no floor: all that diverges at α = 0 cancels.
        super().__init__(network, vocabulary_size, absorbing(vocabulary_size), Linear(), jump)

    @classmethod
    def from_frame(cls, frame: Frame) -> "SeddAbsorbing":
        """Return the method at its start.

        Args:
            frame: What all methods share.

        Returns:
            The method, untrained.
        """
        size = frame.vocabulary_size
        return cls(token_network(size + 1, size, frame.backbone, timed=True), size)

    def log_ratios(
        self, noisy: Int[Tensor, "batch length"], time: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Return `log s` of every token in every place, the time put in exactly."""
        alpha = self.schedule.alpha(time)[:, None, None]
        scale = (alpha / (1 - alpha).clamp(min=1e-12) / self.vocabulary_size).log()
        return super().log_ratios(noisy, time) + scale
